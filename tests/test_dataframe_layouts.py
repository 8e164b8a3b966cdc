"""Several array columns in one input: which of its axes they fill, and who decides.

The cases are functors of one C++ program, which is what a data frame calls, too: cling would take seconds for
each of them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import headers
import numpy as np
import pytest
from cpp_program import compile_program, run_program

import sofie_root
from rootbench.zoo_folder import ABSENT, ZOO
from sofie_root.errors import DataFrameError
from sofie_root.runtime.dataframe import SofieFunctor, define
from sofie_root.runtime.session import Session, open_header

# How C++ spells a column of a length, and what its k-th one is in an event.
KINDS = {
    "rvec": "ROOT::RVecF",
    "double": "ROOT::RVecD",
    "vector": "std::vector<float>",
    "bits": "std::vector<bool>",
    "array": "std::array<float, {length}>",
    "number": "float",
}


@dataclass(frozen=True)
class Column:
    length: int
    kind: str = "rvec"

    @property
    def type(self) -> str:
        return KINDS[self.kind].format(length=self.length)

    def value(self, k: int) -> str:
        return f"fill<{self.type}>({k}, {self.length})"

    def array(self, k: int) -> np.ndarray:
        values = 100 * (k + 1) + np.arange(self.length, dtype=np.float32)
        return (values % 2).astype(np.float32) if self.kind == "bits" else values


FILL = """
#include <sofie/SofieFunctor.hxx>
#include <cstdio>
template <class T>
T fill(int k, int length) {
  T result{};
  if constexpr (std::is_arithmetic<T>::value) {
    result = 100 * (k + 1);
  } else {
    if constexpr (sofie::dataframe::Column<T>::kind == sofie::dataframe::Kind::kArray) result.resize(length);
    for (int i = 0; i < length; ++i) {
      const int value = 100 * (k + 1) + i;
      result[i] = std::is_same<T, std::vector<bool>>::value ? value % 2 : value;
    }
  }
  return result;
}
template <class Result>
void print(const Result& result) {
  if constexpr (std::is_arithmetic<Result>::value) {
    std::printf("%g", result);
  } else {
    for (const float value : result) std::printf("%g ", value);
  }
  std::puts("");
}
template <class Functor, class... Columns>
void show(const Columns&... columns) {
  try {
    print(Functor(1)(0, columns...));
  } catch (const std::exception& error) {
    std::puts(error.what());
  }
}
"""

Shape = tuple[int | str, ...]
Columns = list[Column]
rvec, number = Column, Column(1, "number")


def columns(count: int, length: int) -> Columns:
    return [Column(length)] * count


# The input's shape, its columns, a group of columns or "", and how numpy stacks columns [k, length].
FILLED: list[tuple[Shape, Columns, str, Any]] = [
    (("N", 5, 3), columns(3, 5), "", lambda c: c.T),
    (("N", 5, 3), columns(5, 3), "", lambda c: c),
    (("N", 5, 3), columns(1, 15), "", lambda c: c),
    ((1, 5, 3), columns(3, 5), "", lambda c: c.T),
    ((1, "n", 3), columns(3, 5), "", lambda c: c.T),
    ((1, 3, "n"), columns(3, 5), "", lambda c: c),
    ((5, 3), columns(3, 5), "", lambda c: c.reshape(5, 3)),  # two axes: one after the other
    ((5, 3), columns(3, 5), "FeaturesLast", lambda c: c.T),
    ((2, 3), columns(2, 3), "", lambda c: c),
    (("N", 2, 3, 5), columns(2, 15), "", lambda c: c),
    (("N", 2, 3, 5), columns(3, 10), "", lambda c: c.reshape(3, 2, 5).transpose(1, 0, 2)),
    (("N", 2, 3, 5), columns(5, 6), "", lambda c: c.reshape(5, 2, 3).transpose(1, 2, 0)),
    (("N", 2, 3, 5), columns(6, 5), "", lambda c: c),
    (("N", 2, 3, 5), columns(10, 3), "", lambda c: c.reshape(2, 5, 3).transpose(0, 2, 1)),
    (("N", 1, 6), columns(2, 3), "", lambda c: c),  # one axis of values: they follow one another
    (("N", 6), columns(2, 3), "", lambda c: c),
    (("N", 3), columns(3, 4), "", lambda c: c.T),  # one evaluation per object
    (("N", 3), [rvec(4), number, rvec(4)], "", lambda c: c.T),
    (("N", 5, 3), [rvec(5, "double"), rvec(5, "vector"), rvec(5, "bits")], "", lambda c: c.T),
    (("N", 5, 3), [rvec(5, "array"), rvec(5, "array"), rvec(5)], "", lambda c: c.T),
    (("N", 3, 5), [rvec(5, "array"), number, rvec(5)], "", lambda c: c),
    ((1, "n", 3), [number, rvec(5, "bits"), rvec(5, "array")], "", lambda c: c.T),
    (("N", 3, 3), columns(3, 3), "FeaturesLast", lambda c: c.T),
    (("N", 3, 3), columns(3, 3), "FeaturesFirst", lambda c: c),
    (("N", 3, 3), columns(3, 3), "Concatenate", lambda c: c),
    (("N", 3, 3), columns(1, 9), "FeaturesLast", lambda c: c),
    (("N", 5, 3), [rvec(6), rvec(9)], "Concatenate", np.concatenate),
    ((1, "n", 3), [rvec(6), rvec(3), number, number, number], "Concatenate", np.concatenate),
    (("N", 5, 3), [number] * 15, "", lambda c: c[:, 0]),
]

CHOOSE = ["in more than one way", '"features last"', '"features first"', "sofie::FeaturesLast<...>"]
REFUSED: list[tuple[Shape, Columns, str, list[str]]] = [
    (("N", 3, 3), columns(3, 3), "", ["3 columns fill input 'x' [N, 3, 3]", *CHOOSE]),
    (("N", 2, 3, 6), columns(6, 6), "", CHOOSE),
    (("N", 5, 3), columns(2, 3), "", ["5 arrays of 3", "3 arrays of 5", "there are 2 columns"]),
    (("N", 5, 3), columns(2, 3), "", ['layout="concatenate"', "sofie::Concatenate<...>"]),
    (("N", 5, 3), [rvec(5), *[number] * 3], "", ["there are 4 columns"]),
    (("N", 5, 3), [number] * 3, "", ["3 arrays of 5", "the columns give 3"]),
    (("N", 5, 3), columns(2, 3), "FeaturesLast", ["chosen layout", "3 arrays of 5"]),
    (("N", 5, 3), columns(5, 3), "FeaturesLast", ["chosen layout", "3 arrays of 5"]),
    ((1, "n", 3), columns(3, 3), "FeaturesFirst", ["chosen layout", "'x' [1, n, 3]"]),
    ((1, "n", 3), columns(2, 3), "", ["3 arrays of equal length", "the columns give 2"]),
    (("N", 5, 3), [rvec(4, "array"), rvec(5), rvec(5)], "", ["column 0", "another length"]),
    ((1, "n", 3), [rvec(5, "array"), rvec(4, "array"), rvec(5)], "", ["column 1", "length"]),
    # what only the event tells
    (("N", 5, 3), [rvec(5), rvec(4), rvec(5)], "", ["column 1 has 4", "takes 5 of each"]),
    (("N", 5, 3), columns(5, 4), "", ["column 0 has 4", "takes 3 of each"]),
    ((1, "n", 3), [rvec(5), rvec(4), rvec(5)], "", ["column 1 has 4", "must have equal lengths"]),
]


@pytest.fixture(scope="module")
def lines(root: Any, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What each case prints: the values of the input, or the message."""
    declared: dict[Shape, str] = {}
    calls = []
    for shape, given, group, _ in [*FILLED, *REFUSED]:
        if shape not in declared:
            name = "echo_" + "_".join(map(str, shape))
            symbols = [s for s in ("N", "n") if s in shape]
            declared[shape] = headers.echo(name, symbols, {"x": shape})
        session = f"TMVA_SOFIE_echo_{'_'.join(map(str, shape))}::Session"
        types = ", ".join(c.type for c in given)
        types = f"sofie::{group}<{types}>" if group else types
        values = ", ".join(c.value(k) for k, c in enumerate(given))
        calls.append(f"show<SofieFunctor<{session}, {types}>>({values});")
    inputs = {"a": (1, 3, 2), "b": (1, 3, 2)}
    two = headers.echo("two", [], inputs)
    calls += [
        "const auto v2 = fill<V>(0, 2), v3 = fill<V>(1, 3);",
        "using Two = TMVA_SOFIE_two::Session;",
        "using Grouped = SofieFunctor<Two, sofie::Columns<V, V>, sofie::FeaturesFirst<V, V, V>>;",
        "print(std::get<1>(Grouped(1)(0, v3, v3, v2, v2, v2)));",
        "print(std::get<0>(SofieFunctor<Two, V, V, V, V, V, V>(1)(0, v2, v2, v2, v2, v2, v2)));",
        "try { SofieFunctor<Two, V, V, V, V, V> f(1); }",
        "catch (const std::exception& error) { std::puts(error.what()); }",
    ]
    body = "\n  ".join(calls)
    source = "\n".join([*declared.values(), two, FILL, "using V = ROOT::RVecF;"])
    libraries = str(root.gROOT.GetLibDir())
    flags = ["-O0", "-isystem", str(root.gROOT.GetIncludeDir()), f"-L{libraries}"]
    flags += ["-Wl,--no-as-needed", "-lROOTVecOps", "-lCore", f"-Wl,-rpath,{libraries}"]
    folder = tmp_path_factory.mktemp("layouts")
    program = compile_program(folder, f"{source}\nint main() {{\n  {body}\n}}\n", flags)
    return run_program(program).splitlines()


def test_columns_fill_the_axis_of_their_number(lines: list[str]) -> None:
    """Fixed sizes and symbolic ones alike."""
    for line, (shape, given, group, stack) in zip(lines, FILLED, strict=False):
        length = max(c.length for c in given)
        arrays = [
            np.full(length, 100.0 * (k + 1)) if c.kind == "number" else c.array(k)
            for k, c in enumerate(given)
        ]
        if stack is np.concatenate:  # a number is one value
            arrays = [a[: c.length] for a, c in zip(arrays, given, strict=True)]
        else:
            arrays = np.stack(arrays)
        expected = np.ravel(stack(arrays)).tolist()
        assert line.replace(".", "").split() == [f"{v:g}" for v in expected], (shape, given, group)


def test_columns_that_do_not_are_refused(lines: list[str]) -> None:
    for line, (shape, given, _, words) in zip(lines[len(FILLED) :], REFUSED, strict=False):
        for word in words:
            assert word in line, (shape, given)


def test_several_inputs_in_cpp(lines: list[str]) -> None:
    grouped, shared, refused = lines[len(FILLED) + len(REFUSED) :]
    assert grouped == "100 101 " * 3
    assert shared == "100 101 " * 3
    assert "more than one way" in refused
    assert "sofie::Columns<...> for each input" in refused


# -- from Python -----------------------------------------------------------------------------------


def jets() -> Session:
    """Inputs as DeepJet has them: values, and two tables of fixed size."""
    inputs: dict[str, Shape] = {"jet": ("N", 2), "tracks": ("N", 5, 3), "vertices": ("N", 4, 4)}
    return open_header(headers.echo("jets", ["N"], inputs), jit="cling")


def event_frame(root: Any) -> Any:
    df = root.RDataFrame(3).Define("number", "float(rdfentry_)")
    for length in (4, 5):
        for k in range(4):
            expression = f"ROOT::RVecF v({length}, 10.f * {k} + rdfentry_); v[1] += 0.5; return v;"
            df = df.Define(f"c{k}_{length}", expression)
    return df


def test_define(root: Any) -> None:
    df = event_frame(root)
    given = ["number", "number", *(f"c{k}_5" for k in range(3)), *(f"c{k}_4" for k in range(4))]
    with pytest.raises(DataFrameError, match="4 columns fill input 'vertices'"):
        define(df, "y", jets(), given)
    df = define(df, "y", jets(), given, layout={"vertices": "features last"})
    found = df.AsNumpy(["y_tracks_out", "y_vertices_out"])
    for event in range(3):
        for name, count, length in (("tracks", 3, 5), ("vertices", 4, 4)):
            rows = np.array([[10 * k + event] * length for k in range(count)], np.float32)
            rows[:, 1] += 0.5
            np.testing.assert_array_equal(found[f"y_{name}_out"][event], rows.T.ravel())


@pytest.mark.parametrize(
    ("layout", "words"),
    [
        ("columnwise", ["'columnwise'", "'features last', 'features first', 'concatenate'"]),
        ({"tarcks": "concatenate"}, ["no input 'tarcks'", "did you mean 'tracks'"]),
        ({"tracks": "features first"}, ["3 columns", "chosen layout", "5 arrays of 3"]),
    ],
)
def test_layouts_that_are_refused(root: Any, layout: Any, words: list[str]) -> None:
    df = event_frame(root)
    by_input = {
        "jet": ["number", "number"],
        "tracks": ["c0_5", "c1_5", "c2_5"],
        "vertices": ["c0_4"],
    }
    with pytest.raises(DataFrameError) as error:
        SofieFunctor(jets(), df, by_input, layout=layout)
    for word in words:
        assert word in str(error.value)


# -- models of experiments -------------------------------------------------------------------------


def zoo_frame(root: Any, inputs: dict[str, tuple[int, ...]]) -> tuple[Any, dict[str, list[str]]]:
    """A column per feature of each input [particles, features] or [features], by input."""
    df = root.RDataFrame(3)
    columns: dict[str, list[str]] = {}
    for number, (name, shape) in enumerate(inputs.items()):
        columns[name] = [f"in{number}_{k}" for k in range(shape[-1])]
        for k, made in enumerate(columns[name]):
            value = f"std::sin({number} + 0.7 * {k} + 0.3 * i + 0.1 * rdfentry_)"
            if len(shape) == 1:
                df = df.Define(made, f"const int i = 0; return float({value});")
            else:
                kind = ("ROOT::RVecF", "std::vector<double>")[k % 2]
                df = df.Define(
                    made,
                    f"{kind} v({shape[0]}); "
                    f"for (int i = 0; i < {shape[0]}; ++i) v[i] = {value}; return v;",
                )
    return df, columns


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "dims"),
    [
        ("synth_deepsets_dips", {"N": 1, "n": 25}),
        ("synth_deepsets_dips", {"N": 1}),
        ("cms_deepflavourv01_phaseii", {}),
        ("cms_deepflavourv04_12x_training", {}),
        ("cms_hlt_particlenetak4_v01", {"N": 1}),
    ],
)
@pytest.mark.skipif(not ZOO.is_dir(), reason=ABSENT)
def test_models_of_experiments_against_numpy(root: Any, name: str, dims: dict[str, int]) -> None:
    model = sofie_root.load(ZOO / "models" / name / "model.onnx", dims=dims)
    sizes = {"N": 1, "n": 25}
    shapes: dict[str, tuple[int, ...]] = {}
    swapped = set()  # inputs [features, particles]
    for key, type_ in model.inputs.items():
        shape = tuple(d if isinstance(d, int) else sizes.get(str(d), 20) for d in type_.shape)[1:]
        if (
            len(shape) == 2
            and isinstance(type_.shape[1], int)
            and not isinstance(type_.shape[2], int)
        ):
            swapped.add(key)
            shape = shape[::-1]
        shapes[key] = shape
    if name == "synth_deepsets_dips":
        shapes["mask"] = (25, 1)
    df, columns = zoo_frame(root, shapes)
    df = define(df, "y", model, columns)
    every = [c for listed in columns.values() for c in listed]
    outputs = (
        [re.sub(r"\W", "_", f"y_{o}") for o in model.outputs] if len(model.outputs) > 1 else ["y"]
    )
    arrays = df.AsNumpy([*every, *outputs])
    session = model.session()
    for event in range(3):
        inputs = {}
        for key, listed in columns.items():
            values = np.stack([np.asarray(arrays[c][event], np.float32) for c in listed], axis=-1)
            values = values.T if key in swapped else values
            type_ = model.inputs[key]
            inputs[key] = np.ascontiguousarray(
                values.reshape(1, *values.shape)[..., : values.shape[-1]]
            )
            if len(type_.shape) == 2:
                inputs[key] = inputs[key].reshape(1, -1)
        expected = session.run(inputs)
        for output, made in zip(expected.values(), outputs, strict=True):
            np.testing.assert_array_equal(np.asarray(arrays[made][event]).ravel(), output.ravel())
