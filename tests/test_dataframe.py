"""Models in RDataFrame: real files, one and several threads, every kind of column."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import awkward as ak
import headers
import numpy as np
import pytest
import uproot

from sofie_root.errors import DataFrameError, StorageError
from sofie_root.runtime.dataframe import SofieFunctor, define
from sofie_root.runtime.interpreter import declare
from sofie_root.runtime.session import Session, open_header

EVENTS = 3000


@pytest.fixture(params=["cling", "compiler"], scope="module")
def jit(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(params=[1, 2], ids=["one thread", "two threads"])
def threads(request: pytest.FixtureRequest, root: Any) -> Iterator[int]:
    if request.param > 1:
        root.EnableImplicitMT(request.param)
    yield request.param
    if request.param > 1:
        root.DisableImplicitMT()


@pytest.fixture(scope="module")
def events() -> dict[str, Any]:
    rng = np.random.default_rng(7)
    counts = rng.integers(0, 6, EVENTS)
    total = int(counts.sum())
    return {
        "event": np.arange(EVENTS, dtype=np.int64),
        "pt": rng.gamma(2, 20, EVENTS).astype(np.float32),
        "mass": rng.gamma(2, 40, EVENTS),
        "charge": rng.integers(-1, 2, EVENTS).astype(np.int32),
        "tagged": rng.random(EVENTS) < 0.3,
        "quality": rng.integers(0, 200, EVENTS).astype(np.uint8),
        "shape": rng.standard_normal((EVENTS, 4)).astype(np.float32),
        "pf_x": ak.unflatten(rng.standard_normal(total).astype(np.float32), counts),
        "pf_y": ak.unflatten(rng.standard_normal(total), counts),
        "pf_mask": ak.unflatten(rng.random(total) < 0.8, counts),
    }


@pytest.fixture(scope="module")
def file(events: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("events") / "events.root"
    with uproot.recreate(path) as output:
        kinds = {"pf_x": "var * float32", "pf_y": "var * float64", "pf_mask": "var * bool"}
        kinds["shape"] = ("f4", (4,))
        tree = output.mktree(
            "tree", {n: kinds.get(n, str(ak.type(v).content)) for n, v in events.items()}
        )
        for first in range(
            0, EVENTS, 500
        ):  # several clusters, so that threads have something to share
            tree.extend({n: v[first : first + 500] for n, v in events.items()})
        output.mkrntuple("ntuple", {n: ak.Array(v) for n, v in events.items()})
    return path


def values(df: Any, *columns: str) -> list[list[Any]]:
    """Columns as lists of numpy arrays or numbers, in the order of the events."""
    arrays = df.AsNumpy(["event", *columns])
    order = np.argsort(arrays["event"])
    return [[arrays[c][k] for k in order] for c in columns]


# -- the same bits as numpy ------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["tree", "ntuple"])
def test_numbers(
    root: Any, jit: Any, threads: int, source: str, file: Path, events: dict[str, Any]
) -> None:
    session = open_header(headers.dense(), jit=jit)
    df = root.RDataFrame(source, str(file))
    columns = ["pt", "mass", "charge", "tagged"]
    functor = SofieFunctor(session, df, columns)
    scored = df.DefineSlot("score", functor, columns)
    assert str(scored.GetColumnType("score")) in ("float", "Float_t")
    (found,) = values(scored, "score")
    inputs = np.stack([events[c].astype(np.float32) for c in columns], axis=1)
    expected = [session(row[None])[0, 0] for row in inputs]
    np.testing.assert_array_equal(np.array(found, np.float32), expected)


@pytest.mark.parametrize("source", ["tree", "ntuple"])
def test_arrays_of_varying_length(
    root: Any, jit: Any, threads: int, source: str, file: Path, events: dict[str, Any]
) -> None:
    session = open_header(headers.particles(), jit=jit)
    df = root.RDataFrame(source, str(file))
    (found,) = values(define(df, "mean", session, ["pf_x", "pf_y", "pf_mask"]), "mean")
    for k in range(EVENTS):
        x, y, mask = (np.asarray(events[c][k], np.float32) for c in ("pf_x", "pf_y", "pf_mask"))
        expected = session(np.stack([x, y])[None], mask[None, None])[0]
        np.testing.assert_array_equal(np.asarray(found[k]), expected)


@pytest.mark.parametrize("source", ["tree", "ntuple"])
def test_arrays_of_fixed_length(
    root: Any, jit: Any, source: str, file: Path, events: dict[str, Any]
) -> None:
    session = open_header(headers.dense(), jit=jit)
    (found,) = values(define(root.RDataFrame(source, str(file)), "y", session, ["shape"]), "y")
    np.testing.assert_array_equal(found, [session(row[None])[0, 0] for row in events["shape"]])


def test_many_slots_share_nothing_that_changes(root: Any, jit: Any) -> None:
    """Many short tasks on more threads than cores, through a model that keeps state while it runs."""
    header = headers.header(
        "stateful",
        ["n"],
        [headers.Tensor("x", ("n",))],
        [headers.Tensor("y", ("n",))],
        "state.assign(x, x + n); for (auto& v : state) for (int k = 0; k < 50; ++k) v = v * 0.5f + 1;\n"
        "    for (std::size_t i = 0; i < n; ++i) y[i] = state[i];",
        members="std::vector<float> state;",
    )
    session = open_header(header, jit=jit)
    root.EnableImplicitMT(4)
    try:
        df = root.RDataFrame(2000).Define("event", "Long64_t(rdfentry_)")
        df = df.Define("v", "ROOT::RVecF(1 + rdfentry_ % 17, float(rdfentry_))")
        (found,) = values(define(df, "y", session, ["v"]), "y")
    finally:
        root.DisableImplicitMT()
    for k, result in enumerate(found):
        np.testing.assert_array_equal(result, session(np.full(1 + k % 17, k, np.float32)))


@pytest.fixture(scope="module")
def root_file(root: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A TTree and an RNTuple that ROOT wrote, with columns that are C++ containers."""
    path = tmp_path_factory.mktemp("containers") / "containers.root"
    declare("""
        void write_containers(const char* path) {
          TFile file(path, "RECREATE");
          TTree tree("tree", "");
          Long64_t event;
          std::vector<float> vector;
          std::vector<bool> bits;
          float fixed[4];
          int length;
          short varying[4];
          tree.Branch("event", &event);
          tree.Branch("vector_", &vector);
          tree.Branch("bits_", &bits);
          tree.Branch("fixed_", fixed, "fixed_[4]/F");
          tree.Branch("length", &length);
          tree.Branch("varying_", varying, "varying_[length]/S");
          for (event = 0; event < 20; ++event) {
            vector.assign(4, event);
            bits.assign({event % 2 == 0, true, event % 3 == 0, false});
            for (int k = 0; k < 4; ++k) fixed[k] = varying[k] = event + k;
            length = 4;
            tree.Fill();
          }
          tree.Write();
        }
    """)
    root.write_containers(str(path))
    options = root.RDF.RSnapshotOptions()
    options.fOutputFormat = root.RDF.ESnapshotOutputFormat.kRNTuple
    options.fMode = "UPDATE"
    df = root.RDataFrame(20).Define("event", "Long64_t(rdfentry_)")
    df = df.Define("vector_", "std::vector<float>(4, rdfentry_)")
    df = df.Define(
        "bits_", "std::vector<bool>{rdfentry_ % 2 == 0, true, rdfentry_ % 3 == 0, false}"
    )
    expression = "const float e = rdfentry_; return std::array<float, 4>{e, e + 1, e + 2, e + 3};"
    df = df.Define("fixed_", expression)
    df = df.Define("varying_", "ROOT::RVec<short>(fixed_.begin(), fixed_.end())")
    df.Snapshot("ntuple", str(path), ["event", "vector_", "bits_", "fixed_", "varying_"], options)
    return path


@pytest.mark.parametrize("source", ["tree", "ntuple"])
def test_containers_in_files_of_root(root: Any, threads: int, source: str, root_file: Path) -> None:
    session = open_header(headers.dense(), jit="cling")
    df = root.RDataFrame(source, str(root_file))
    e = np.arange(20, dtype=np.float32)
    staircase = e[:, None] + np.arange(4, dtype=np.float32)
    inputs = {
        "vector_": np.repeat(e[:, None], 4, axis=1),
        "bits_": np.stack([e % 2 == 0, e >= 0, e % 3 == 0, e < 0], axis=1).astype(np.float32),
        "fixed_": staircase,
        "varying_": staircase,
    }
    for column, x in inputs.items():
        (found,) = values(define(df, f"y_{column}", session, [column]), f"y_{column}")
        np.testing.assert_array_equal(found, session(x)[:, 0])


# -- which columns make which input ----------------------------------------------------------------


@pytest.fixture(scope="module")
def frame(root: Any) -> Any:
    """A data frame for one thread, made once because ROOT takes seconds to compile it."""
    return make_frame(root)


def make_frame(root: Any) -> Any:
    """Five events with columns of every kind."""
    columns = {
        "event": "Long64_t(rdfentry_)",
        "x": "float(rdfentry_)",
        "d": "2.5",
        "i": "int(3)",
        "flag": "true",
        "small": "(unsigned char)(200)",
        "big": "1ULL << 40",
        "two": "ROOT::RVecF{1, 2}",
        "four": "ROOT::RVecD{1, 2, 3, 4}",
        "floats4": "std::vector<float>{1, 2, 3, 4}",
        "ints4": "std::array<int, 4>{1, 2, 3, 4}",
        "pair": "std::array<float, 2>{8, 9}",
        "bits": "std::vector<bool>{true, false, true, true}",
        "grows": "ROOT::RVecF(rdfentry_, 1.0)",
        "empty": "ROOT::RVecF()",
        "name": 'std::string("muon")',
        "names": 'std::vector<std::string>{"muon"}',
        "nested": "ROOT::RVec<ROOT::RVecF>{{1}}",
    }
    df = root.RDataFrame(5)
    for name, expression in columns.items():
        df = df.Define(name, expression)
    return df


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (["x", "x", "x", "x"], [0, 10, 20, 30, 40]),
        (["small", "big", "i", "flag"], [200 + 2.0**41 + 9 + 4] * 5),
        (["four"], [30] * 5),
        (["floats4"], [30] * 5),
        (["ints4"], [30] * 5),
        (["bits"], [8] * 5),
        (["two", "two"], [16] * 5),
        (["two", "pair"], [1 + 4 + 24 + 36] * 5),
        (["pair", "pair"], [8 + 18 + 24 + 36] * 5),
        (["d", "two", "i"], [2.5 + 2 + 6 + 12] * 5),
        (["four", "empty"], [30] * 5),
        ({"x": ["pair", "two"]}, [8 + 18 + 3 + 8] * 5),
    ],
)
def test_four_values_from_columns(frame: Any, columns: Any, expected: list[float]) -> None:
    df = define(frame, "y", open_header(headers.dense(), jit="cling"), columns)
    assert str(df.GetColumnType("y")) == "float"
    assert values(df, "y")[0] == expected


def test_columns_of_friends_and_aliases(root: Any, file: Path, tmp_path: Path) -> None:
    with uproot.recreate(tmp_path / "friend.root") as output:
        output.mktree("more", {"extra": "float32"}).extend(
            {"extra": np.full(EVENTS, 2, np.float32)}
        )
    tree_file = root.TFile(str(file))
    tree = tree_file.Get("tree")
    tree.AddFriend("more", str(tmp_path / "friend.root"))
    df = root.RDataFrame(tree).Alias("momentum", "pt")
    session = open_header(headers.dense(), jit="cling")
    pt, found = values(
        define(df, "y", session, ["momentum", "extra", "more.extra", "extra"]), "pt", "y"
    )
    np.testing.assert_allclose(found, np.array(pt) + (4 + 6 + 8), rtol=1e-6)


def test_one_array_per_value_evaluates_each_object(frame: Any, jit: Any) -> None:
    session = open_header(headers.dense(), jit=jit)
    df = define(frame, "y", session, ["four", "floats4", "four", "bits"])
    (found,) = values(df, "y")
    np.testing.assert_array_equal(
        found[0], [1 + 2 + 3 + 4, 2 + 4 + 6, 3 + 6 + 9 + 4, 4 + 8 + 12 + 4]
    )
    (found,) = values(define(frame, "y", session, ["grows"] * 4), "y")
    assert [len(f) for f in found] == [0, 1, 2, 3, 4]


def test_last_axis_from_columns(frame: Any, jit: Any) -> None:
    """[1, n, 3]: three columns are interleaved, one holds all."""
    session = open_header(headers.last_axis(), jit=jit)
    (found,) = values(define(frame, "y", session, ["two", "pair", "two"]), "y")
    np.testing.assert_array_equal(found[0], [1 + 80 + 100, 2 + 90 + 200])
    df = frame.Define("all", "ROOT::RVecF{1, 2, 3, 4, 5, 6}")
    (found,) = values(define(df, "y", session, ["all"]), "y")
    np.testing.assert_array_equal(found[0], [321, 654])


def test_two_symbolic_axes_in_one_column(frame: Any, jit: Any) -> None:
    """[n, n] is solved for n, whether or not another column tells it."""
    session = open_header(headers.adjacency(), jit=jit)
    (found,) = values(define(frame, "y", session, ["four", "two"]), "y")
    np.testing.assert_array_equal(found[0], [5, 11])


def test_columns_by_input(frame: Any, jit: Any) -> None:
    session = open_header(headers.particles(), jit=jit)
    flat = values(define(frame, "y", session, ["two", "pair", "two"]), "y")[0][0]
    named = {"mask": ["two"], "points": ["two", "pair"]}
    np.testing.assert_array_equal(values(define(frame, "y", session, named), "y")[0][0], flat)
    df = frame.Define("points", "ROOT::RVecF{1, 2, 8, 9}")
    whole = {"points": ["points"], "mask": ["two"]}
    np.testing.assert_array_equal(values(define(df, "y", session, whole), "y")[0][0], flat)
    np.testing.assert_array_equal(
        values(define(df, "y", session, ["points", "two"]), "y")[0][0], flat
    )


def test_integer_and_bool_inputs(frame: Any, jit: Any) -> None:
    session = open_header(headers.typed(), jit=jit)
    df = frame.Define("zero", "0").Define("one", "1L")
    df = define(df, "y", session, ["zero", "one", "flag", "flag", "i", "small"])
    assert values(df, "y")[0] == [203] * 5
    assert str(df.GetColumnType("y")) in ("int", "std::int32_t")


def test_sixteen_bit_model_takes_and_gives_floats(frame: Any, jit: Any) -> None:
    (found,) = values(define(frame, "y", open_header(headers.half(), jit=jit), ["four"]), "y")
    np.testing.assert_array_equal(found[0], np.float32([-1, -2, -3, -4]))


# -- several outputs -------------------------------------------------------------------------------


def test_several_outputs_become_columns(frame: Any, jit: Any, tmp_path: Path) -> None:
    session = open_header(headers.several(), jit=jit)
    df = define(frame, "m", session, ["x", "d", "i"])
    total, squares, positive = values(df, "m_total", "m_squares", "m_positive")
    assert total == [5.5, 6.5, 7.5, 8.5, 9.5]
    np.testing.assert_array_equal(squares[2], [4, 6.25, 9])
    np.testing.assert_array_equal(positive[0], [False, True, True])
    added = {str(c) for c in df.GetColumnNames()} - {str(c) for c in frame.GetColumnNames()}
    assert added == {"m_total", "m_squares", "m_positive"}


def test_outputs_whose_names_are_no_identifiers(frame: Any) -> None:
    header = headers.header(
        "named",
        [],
        [headers.Tensor("x", (1,))],
        [headers.Tensor(n, ()) for n in ("one", "two", "three")],
        "one[0] = x[0]; two[0] = x[0] + 1; three[0] = x[0] + 2;",
    )
    for plain, odd in (("one", "out:0"), ("two", "out/0"), ("three", "\u03b7")):
        header = header.replace(f'name = "{plain}"', f'name = "{odd}"')
    df = define(frame, "y", open_header(header, jit="compiler"), ["i"])
    assert [v[0] for v in values(df, "y_out_0", "y_out_0_1", "y__")] == [3, 4, 5]


def test_one_of_several_outputs(frame: Any, jit: Any) -> None:
    session = open_header(headers.several(), jit=jit)
    df = define(frame, "m", session, ["x", "d", "i"], output="total")
    assert values(df, "m")[0] == [5.5, 6.5, 7.5, 8.5, 9.5]
    with pytest.raises(DataFrameError, match="no output 'totl'; did you mean 'total'"):
        define(frame, "m", session, ["x", "d", "i"], output="totl")


def test_functor_of_several_outputs_gives_a_tuple(frame: Any, jit: Any) -> None:
    session = open_header(headers.several(), jit=jit)
    columns = ["x", "d", "i"]
    df = frame.DefineSlot("m", SofieFunctor(session, frame, columns), columns)
    assert values(df.Define("total", "std::get<0>(m)"), "total")[0] == [5.5, 6.5, 7.5, 8.5, 9.5]


def test_sizes_that_only_the_run_tells(frame: Any, jit: Any) -> None:
    df = define(frame, "z", open_header(headers.nonzero(), jit=jit), ["grows"])
    indices, twice = values(df, "z_indices", "z_twice")
    assert [list(i) for i in indices] == [list(range(k)) for k in range(5)]
    assert [len(t) for t in twice] == [0, 2, 4, 6, 8]


# -- booking ---------------------------------------------------------------------------------------


def test_both_ways_to_book(frame: Any) -> None:
    columns = ["x", "d", "i", "flag"]
    functor = SofieFunctor(open_header(headers.dense(), jit="cling"), frame, columns)
    plain = frame.DefineSlot("y", functor, columns)
    bracket = frame.DefineSlot[type(functor)]("y", functor, columns)
    assert values(plain, "y") == values(bracket, "y")


def test_functor_for_a_number_of_slots(frame: Any, jit: Any) -> None:
    session = open_header(headers.dense(), jit=jit)
    df = frame.DefineSlot("y", SofieFunctor(session, 1), ["x", "x", "x", "x"])
    assert values(df, "y")[0] == [0, 10, 20, 30, 40]
    with pytest.raises(DataFrameError, match="the data frame is needed"):
        SofieFunctor(session, 1, ["x"])


BAD_COLUMNS: list[tuple[str, Any, list[str]]] = [
    ("dense", ["x", "d", "i"], ["'x' [N, 4]", "takes 4 values", "give 3"]),
    ("dense", ["x", "d", "i", "x", "big"], ["'big' (ULong64_t)", "one too many", "4 values"]),
    ("dense", ["ints4", "x"], ["'x' (float)", "one too many", "4 values"]),
    ("dense", ["pair", "x"], ["takes 4 values", "give 3"]),
    ("dense", [], ["takes 4 values", "give 0"]),
    ("dense", ["x", "d", "i", "for"], ["no column 'for'", "'four'"]),
    ("dense", ["x", "d", "i", "zzz"], ["no column 'zzz'", "there are: "]),
    ("dense", ["x", "d", "i", "name"], ["'name' (string)", "neither a number nor an array"]),
    ("dense", ["names"], ["'names'", "string", "neither a number nor an array"]),
    ("dense", ["nested"], ["'nested'", "RVec", "neither a number nor an array"]),
    ("dense", "x", ["not the string 'x'"]),
    ("dense", {"x": "x"}, ["'x'", "not the string"]),
    ("dense", {"z": ["x"]}, ["no input 'z'", "x"]),
    ("particles", {"points": ["two", "two"]}, ["none for input 'mask'", "float[N, 1, n_pf]"]),
    ("particles", ["two", "two"], []),
    ("particles", ["two"], ["'points' [N, 2, n_pf]", "2 arrays of equal length", "give 1"]),
    ("particles", ["two"] * 4, ["'two'", "one too many", "'mask' [N, 1, n_pf]", "1 array"]),
    ("particles", ["two", "two", "x"], ["'x' (float)", "one number", "'mask'", "1 array"]),
    (
        "particles",
        {"points": ["two"] * 3, "mask": ["two"]},
        ["'points' [N, 2, n_pf]", "2 arrays", "too many"],
    ),
    ("typed", ["i", "d", "flag", "flag", "i", "i"], ["'d' (double)", "'index'", "fraction"]),
    ("typed", ["i", "i", "d", "flag", "i", "i"], ["'d' (double)", "'keep'", "fraction"]),
]


@pytest.mark.parametrize(("model", "columns", "words"), BAD_COLUMNS)
def test_columns_that_do_not_fit_fail_when_booking(
    frame: Any, model: str, columns: Any, words: list[str]
) -> None:
    session = open_header(getattr(headers, model)(), jit="cling")
    if not words:  # two columns for [N, 2, n_pf] and [N, 1, n_pf]: each holds all values
        define(frame, "y", session, columns)
        return
    with pytest.raises(DataFrameError) as error:
        define(frame, "y", session, columns)
    for word in words:
        assert word in str(error.value)


def test_a_name_that_is_taken(frame: Any) -> None:
    with pytest.raises(DataFrameError, match="'d' exists already"):
        define(frame, "d", open_header(headers.dense(), jit="cling"), ["four"])
    session = open_header(headers.several(), jit="cling")
    with pytest.raises(DataFrameError, match="'m_total' exists already"):
        define(frame.Define("m_total", "1"), "m", session, ["x", "d", "i"])


def test_weights_that_cannot_be_read_fail_when_booking(frame: Any, tmp_path: Path) -> None:
    path = tmp_path / "w.dat"
    path.write_text("3")
    session = open_header(headers.weighted(), weights=path, jit="cling")
    assert list(values(define(frame, "y", session, ["two"]), "y")[0][0]) == [3, 6]
    path.unlink()
    with pytest.raises(StorageError, match="cannot read weights file"):
        define(frame, "y", session, ["two"])


# -- what only the event loop can find -------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "columns", "words"),
    [
        ("dense", ["two", "x"], ["'x' [N, 4] takes 4 values", "'two'", "'x' (float)", "give 3"]),
        ("dense", ["grows"], ["entry 0 in slot", "'grows'", "gives 0", "has 0 values"]),
        ("dense", ["two", "two", "grows", "two"], ["'grows'", "elements", "'two'", "has 2"]),
        (
            "particles",
            ["two", "grows", "two"],
            ["'grows'", "elements", "'two'", "has 2", "equal"],
        ),
        ("particles", ["two", "two", "grows"], ["'grows'", "elements", "n_pf is 2", "'mask'"]),
        ("last_axis", ["four"], ["'four'", "4 elements", "'x' [1, n, 3]"]),
        ("adjacency", ["four", "four"], ["'four'", "4 elements", "'a' [n, n]"]),
        ("typed", {"index": ["i", "i"], "keep": ["flag"] * 2, "values": ["i"] * 2}, ["index 3"]),
    ],
)
def test_lengths_are_checked_in_every_event(
    root: Any, threads: int, frame: Any, model: str, columns: Any, words: list[str]
) -> None:
    df = define(
        frame if threads == 1 else make_frame(root),
        "y",
        open_header(getattr(headers, model)(), jit="cling"),
        columns,
    )
    with pytest.raises(Exception) as error:  # noqa: PT011  (an exception of C++)
        values(df, "y")
    for word in words:
        assert word in str(error.value)


def test_more_slots_than_the_functor_has(root: Any) -> None:
    session = open_header(headers.dense(), jit="cling")
    functor = SofieFunctor(session, 1)
    functor(0, 1.0, 2.0, 3.0, 4.0)
    with pytest.raises(Exception, match="made for 1 slots"):
        functor(1, 1.0, 2.0, 3.0, 4.0)


def test_models_are_accepted_as_well_as_sessions(frame: Any) -> None:
    class Model:
        def session(self) -> Session:
            return open_header(headers.dense(), jit="cling")

    assert values(define(frame, "y", Model(), ["four"]), "y")[0] == [30] * 5  # type: ignore[arg-type]
