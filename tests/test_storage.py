"""`.root` files: round trips, a reader in C++, and every way a file can be wrong."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import uproot
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st
from stored_graphs import assert_same, everything, graph_of, sample_constants

from sofie_root.errors import ModelError, SofieError, StorageError, UnsupportedError
from sofie_root.ir import OPERATORS, DType, Node, TensorType, symbol
from sofie_root.ir.dim import (
    Dim,
    RuntimeSize,
    StateSize,
    as_poly,
    ceildiv,
    floordiv,
    maximum,
    minimum,
)
from sofie_root.storage import root_file, weights
from sofie_root.storage.atomic import replacing
from sofie_root.storage.description import decode_dim, encode_dim

DATA = Path(__file__).parent / "data"


@pytest.mark.parametrize("compression", ["zstd", "lzma", "lz4", "zlib", "none"])
def test_root_round_trip(tmp_path: Path, compression: Any) -> None:
    graph = graph_of(sample_constants())
    path = tmp_path / "a:b c.root"  # a colon separates file and tree in uproot's own paths
    root_file.save(graph, path, compression)
    assert_same(root_file.load(path), graph)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "changes",
    [
        {"ratio": float("nan")},
        {"ratio": float("-inf")},
        {"ratio": -0.0},
        {"ratio": 5e-324},
        {"ratio": 1.0},
        {"number": -(2**63)},
        {"flag": True},
        {"ints": (1, -2), "floats": (1.0, float("inf"), 3.3), "nested": (("a",), (), ("b", "c"))},
        {"scalar": np.float32(0.1)},
        {"scalar": np.float64("nan")},
        {"scalar": np.bool_(True)},
        {"scalar": np.uint64(2**64 - 1)},
        {"scalar": ml_dtypes.bfloat16(1.5)},
        {"scalar": np.float16(1.5)},
    ],
)
def test_attributes_survive_exactly(tmp_path: Path, changes: dict[str, Any]) -> None:
    graph = graph_of({}, everything(**changes))
    root_file.save(graph, tmp_path / "m.root")
    back = root_file.load(tmp_path / "m.root")
    (name,) = changes if len(changes) == 1 else ("nested",)
    value = getattr(back.nodes[0].op, name)
    assert type(value) is type(changes[name])
    assert_same(back, graph)


NAMES = ["N", "n_pf", "M", "y:0:1", "l:state:0", "a:b", ":0:0"]
RUNTIME = [RuntimeSize("y", 0, 1), RuntimeSize("l:state", 0, 1), StateSize("l:state:0", 12)]

sizes = st.recursive(
    st.integers(-9, 9) | st.sampled_from([*map(symbol, NAMES), *map(as_poly, RUNTIME)]),
    lambda d: st.one_of(
        st.tuples(d, d).map(lambda t: t[0] + t[1]),
        st.tuples(d, d).map(lambda t: t[0] * t[1]),
        st.tuples(d, d).map(lambda t: minimum(*t)),
        st.tuples(d, d).map(lambda t: maximum(*t)),
        st.tuples(d, st.integers(1, 7)).map(lambda t: floordiv(*t)),
        st.tuples(d, st.integers(1, 7)).map(lambda t: ceildiv(*t)),
    ),
    max_leaves=8,
)


@settings(deadline=None)
@given(sizes)
def test_dims_survive_json(dim: Dim) -> None:
    assert decode_dim(json.loads(json.dumps(encode_dim(dim)))) == dim


def test_names_of_sizes_in_files_of_format_version_1() -> None:
    assert decode_dim([[1, "y:0:1"]]) == as_poly(RuntimeSize("y", 0, 1))
    assert (
        decode_dim([[2, "loop:0:state:1", "N"]])
        == as_poly(StateSize("loop:0", 1)) * symbol("N") * 2
    )


def test_large_constant_is_split_into_baskets(tmp_path: Path) -> None:
    graph = graph_of({"w": np.random.default_rng(0).standard_normal(5_000_000).astype(np.float32)})
    root_file.save(graph, tmp_path / "m.root")
    with uproot.open(tmp_path / "m.root") as file:
        branch = file["w/t0/data"]
        largest = max(branch.basket(k).uncompressed_bytes for k in range(branch.num_baskets))
        assert branch.num_baskets > 1
        assert largest < 17 << 20
    assert_same(root_file.load(tmp_path / "m.root"), graph)


def test_description_is_deterministic(tmp_path: Path) -> None:
    texts = []
    for k in range(2):
        root_file.save(graph_of(sample_constants()), tmp_path / f"{k}.root")
        with uproot.open(tmp_path / f"{k}.root") as file:
            texts.append(str(file["sofie_ir"]))
    assert texts[0] == texts[1]
    assert texts[0].isascii()


def test_storage_needs_no_root() -> None:
    code = "import sys, sofie_root.storage.root_file; sys.exit('ROOT' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_file_of_format_version_1_stays_readable() -> None:
    graph = root_file.load(DATA / "format_1.root")
    expected = graph_of(sample_constants())
    assert_same(graph, expected)


def test_unknown_operators_are_all_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = graph_of({})
    graph.nodes.append(Node(everything(), ("z",), ("u",), "second"))
    graph.types["u"] = graph.types["z"]
    root_file.save(graph, tmp_path / "m.root")
    monkeypatch.delitem(OPERATORS, ("test.storage", "Everything"))
    with pytest.raises(UnsupportedError) as caught:
        root_file.load(tmp_path / "m.root")
    message = str(caught.value)
    for part in (
        "'node 1'",
        "'second'",
        "Everything",
        "'test.storage'",
        "@sofie_root.operator",
        "m.root",
    ):
        assert part in message


def test_packed_weights_beside_the_graph(tmp_path: Path) -> None:
    constants = sample_constants()
    graph = graph_of(constants)
    image = weights.dat_bytes(constants, bytes(range(32)))
    root_file.save(graph, tmp_path / "m.root", weights=image)
    assert root_file.read_weights(tmp_path / "m.root") == image
    assert_same(root_file.load(tmp_path / "m.root"), graph)
    root_file.save(graph, tmp_path / "plain.root")
    with pytest.raises(StorageError, match="no packed weights"):
        root_file.read_weights(tmp_path / "plain.root")


def rewrite(source: Path, target: Path, change: Any, trees: dict[str, np.ndarray] = {}) -> None:  # noqa: B006
    """A copy with a changed, correctly checksummed description and other trees."""
    with uproot.open(source) as file, uproot.recreate(target) as out:
        document = json.loads(str(file["sofie_ir"]))
        document.pop("checksum")
        change(document)
        text = json.dumps(document, sort_keys=True, separators=(",", ":"))
        document["checksum"] = xxhash.xxh64_hexdigest(text.encode())
        out["sofie_ir"] = json.dumps(document)
        for k in range(len(document["constants"])):
            array = trees.get(f"w/t{k}", file[f"w/t{k}"]["data"].array(library="np"))
            out.mktree(f"w/t{k}", {"data": array.dtype}).extend({"data": array})


def test_stored_sizes_must_be_those_that_the_operators_give(tmp_path: Path) -> None:
    """A file that promises a larger result than its node writes would have memory read that is none."""
    graph = graph_of({})
    graph.types["x"] = graph.types["z"] = TensorType(DType.FLOAT, (symbol("N"), 3, 4))
    root_file.save(graph, tmp_path / "m.root")
    root_file.load(tmp_path / "m.root")

    def enlarge(document: dict[str, Any]) -> None:
        next(t for t in document["types"] if t[0] == "z")[2][2] = 400

    rewrite(tmp_path / "m.root", tmp_path / "bad.root", enlarge)
    with pytest.raises(ModelError, match=r"tensor 'z'.*float\[N, 3, 4\].*float\[N, 3, 400\]"):
        root_file.load(tmp_path / "bad.root")

    def fix(document: dict[str, Any]) -> None:
        next(t for t in document["types"] if t[0] == "z")[2][0] = 400

    rewrite(tmp_path / "m.root", tmp_path / "bad.root", fix)
    assert root_file.load(tmp_path / "bad.root").types["z"] == graph.types["z"]


def set_shape(document: dict[str, Any], shape: list[Any]) -> None:
    next(t for t in document["types"] if t[0] == "w")[2] = shape


def nested(depth: int) -> list[Any]:
    return [nested(depth - 1)] if depth else []


@pytest.mark.parametrize(
    ("change", "trees", "message"),
    [
        (
            lambda d: d.update(format=2, producer="sofie_root 9.9"),
            {},
            "version 2.*sofie_root 9.9.*newer",
        ),
        (lambda d: set_shape(d, [10**12]), {}, "expected 1000000000000 elements, found 6"),
        (lambda d: set_shape(d, [[[1, "N"]]]), {}, "unknown size"),
        (lambda d: set_shape(d, [-6]), {}, "unknown size"),
        (lambda d: d["nodes"][0]["attributes"].update(colour=1), {}, "colour"),
        (lambda d: d["nodes"][0]["attributes"].pop("number"), {}, "number"),
        (lambda d: d["nodes"][0].update(inputs=["nowhere"]), {}, "before it is written"),
        (lambda d: d["outputs"].append(["o", "nowhere"]), {}, "never written"),
        (lambda d: d["types"][0].__setitem__(1, "complex"), {}, "damaged"),
        (lambda d: d.pop("nodes"), {}, "damaged"),
        (lambda d: d["constants"][0].update(checksum="0"), {}, "checksum"),
        (lambda d: None, {"w/t0": np.zeros(6, np.float32)}, "checksum"),
        (lambda d: None, {"w/t0": np.zeros(7, np.float32)}, "expected 6 elements, found 7"),
        (
            lambda d: None,
            {"w/t0": np.zeros(6, np.float64)},
            "expected branch.*float32.*found float64",
        ),
        (lambda d: d["types"][0].__setitem__(2, nested(900)), {}, "damaged"),
    ],
)
def test_description_that_lies(
    tmp_path: Path, change: Any, trees: dict[str, np.ndarray], message: str
) -> None:
    root_file.save(graph_of({"w": np.arange(6, dtype=np.float32)}), tmp_path / "good.root")
    rewrite(tmp_path / "good.root", tmp_path / "same.root", lambda d: None)
    root_file.load(tmp_path / "same.root")
    rewrite(tmp_path / "good.root", tmp_path / "bad.root", change, trees)
    with pytest.raises(SofieError, match=message) as caught:
        root_file.load(tmp_path / "bad.root")
    assert "bad.root" in str(caught.value)


def test_not_a_model(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"none\.root.*No such file"):
        root_file.load(tmp_path / "none.root")
    with pytest.raises(StorageError):
        root_file.load(tmp_path)
    for content in (b"", b"root", b"PK\3\4" * 100, os.urandom(5000), b"root" + bytes(5000)):
        (tmp_path / "junk.root").write_bytes(content)
        with pytest.raises(StorageError, match=r"junk\.root"):
            root_file.load(tmp_path / "junk.root")
    with uproot.recreate(tmp_path / "other.root") as file:
        file["histogram"] = np.histogram([1, 2, 3])
    with pytest.raises(StorageError, match="no sofie_root model"):
        root_file.load(tmp_path / "other.root")


def test_unknown_compression(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="'zip'; use one of zstd"):
        root_file.save(graph_of({}), tmp_path / "m.root", "zip")  # type: ignore[arg-type]


def test_file_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"m\.root.*cannot be written"):
        root_file.save(graph_of({}), tmp_path / "nowhere" / "m.root")


def test_cut_off_root_file(tmp_path: Path) -> None:
    graph = graph_of(sample_constants())
    path = tmp_path / "m.root"
    root_file.save(graph, path)
    whole = path.read_bytes()
    for size in [*range(0, 400, 7), *range(400, len(whole), 97), len(whole) - 1]:
        path.write_bytes(whole[:size])
        with pytest.raises(StorageError, match=r"m\.root"):
            root_file.load(path)


def test_flipped_bytes_in_root_file(tmp_path: Path) -> None:
    """A damaged file is refused, or the damage was where it does not matter (dates, free space)."""
    rng = np.random.default_rng(5)
    noise = rng.standard_normal(30_000).astype(
        np.float32
    )  # compressed by nothing: only a checksum helps
    graph = graph_of(sample_constants() | {"noise": noise})
    path = tmp_path / "m.root"
    root_file.save(graph, path)
    whole = path.read_bytes()
    refused = 0
    for position in rng.choice(len(whole), 300, replace=False):
        damaged = bytearray(whole)
        damaged[position] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        try:
            back = root_file.load(path)
        except StorageError:
            refused += 1
        else:
            assert_same(back, graph)
    assert refused > 100


def test_root_reads_graph_without_python_code(tmp_path: Path) -> None:
    """TFile alone gives the description and the elements of every constant."""
    if find_spec("ROOT") is None:
        pytest.skip("ROOT is not installed")
    array = np.random.default_rng(0).standard_normal(5_000_000).astype(np.float32)
    constants = {"big": array, "mask": np.array([True, False, True]), "empty": np.zeros((0, 2))}
    root_file.save(graph_of(constants), tmp_path / "m.root")
    macro = f"ROOT.gROOT.ProcessLine('.x {DATA}/read_model.C(\"{tmp_path}/m.root\")')"
    command = [sys.executable, "-W", "ignore", "-c", f"import ROOT; {macro}"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    length, total, bits, empty = output.split()
    with uproot.open(tmp_path / "m.root") as file:
        assert int(length) == len(str(file["sofie_ir"]))
    assert float(total) == pytest.approx(float(np.abs(array.astype(np.float64)).sum()), rel=1e-9)
    assert (bits, empty) == ("101", "0")


# -- files that appear whole or not at all ---------------------------------------------------------


def test_threads_that_write_one_file_do_not_mix(tmp_path: Path) -> None:
    """The file has the longest name that there can be."""
    target = tmp_path / ("x" * 251 + ".dat")
    barrier = threading.Barrier(4)

    def work(letter: str) -> None:
        with replacing(target) as temporary:
            barrier.wait()
            with temporary.open("w") as file:
                for _ in range(100):
                    file.write(letter * 100)

    threads = [threading.Thread(target=work, args=(letter,)) for letter in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    text = target.read_text()
    assert text == text[0] * 10000
    assert list(tmp_path.iterdir()) == [target]


def test_only_regular_files_are_replaced(tmp_path: Path) -> None:
    """Least of all /dev/null."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path(os.devnull)):
        with pytest.raises(StorageError, match="not a regular file"), replacing(path):
            pytest.fail("this is not run")
    assert stat.S_ISFIFO((tmp_path / "pipe").lstat().st_mode)
