"""Packed weights, `.dat` and inside `.root`: written by Python, read by Python and C++."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import xxhash
from cpp_program import require_compiler
from onnx_models import model, node, tensor, value
from stored_graphs import assert_same_arrays, graph_of, sample_constants

import sofie_root
from sofie_root.config import include_dir
from sofie_root.errors import StorageError
from sofie_root.runtime.session import open_header
from sofie_root.storage import root_file, weights

READER = Path(__file__).parent / "data" / "weights_reader.cpp"
HASH = bytes(range(32))


def test_dat_round_trip(tmp_path: Path) -> None:
    constants = sample_constants()
    weights.write_dat(tmp_path / "m.dat", constants, HASH)
    back = weights.read_dat(tmp_path / "m.dat")
    assert back.model_hash == HASH
    assert_same_arrays(back.constants, constants)
    assert (tmp_path / "m.dat").read_bytes() == weights.dat_bytes(sample_constants(), HASH)
    for array in back.constants.values():
        assert not array.flags.writeable


def test_dat_without_tensors(tmp_path: Path) -> None:
    weights.write_dat(tmp_path / "m.dat", {}, HASH)
    assert weights.read_dat(tmp_path / "m.dat").constants == {}


def test_model_hash_depends_on_everything() -> None:
    one = np.zeros((2, 3), np.float32)
    hashes = [
        weights.model_hash({"a": one}, "text"),
        weights.model_hash({"b": one}, "text"),
        weights.model_hash({"a": one.T}, "text"),
        weights.model_hash({"a": one.astype(np.float64)}, "text"),
        weights.model_hash({"a": one}, "Text"),
        weights.model_hash({"a": one, "b": one}, "text"),
        weights.model_hash({"a": one + 1}, "text"),
        weights.model_hash({}, "text"),
    ]
    assert len(set(hashes)) == len(hashes)
    assert hashes[0] == weights.model_hash({"a": one.copy(order="F")}, "text")


def test_header_refuses_weights_of_another_training(tmp_path: Path) -> None:
    for name, factor in ("a", 1), ("b", 2):
        weight = tensor("w", np.full((3, 2), factor, np.float32))
        proto = model(
            [node("MatMul", ["x", "w"], ["y"])],
            [value("x", [1, 3])],
            [value("y", [1, 2])],
            [weight],
        )
        (tmp_path / name).mkdir()
        onnx.save(proto, tmp_path / name / "tagger.onnx")
        sofie_root.load(tmp_path / name / "tagger.onnx").generate(tmp_path / name / "tagger.hxx")
    header = tmp_path / "a" / "tagger.hxx"
    assert (
        open_header(header, tmp_path / "a" / "tagger.dat")(np.ones((1, 3), np.float32))[0, 0] == 3
    )
    with pytest.raises(StorageError, match="weights of another model"):
        open_header(header, tmp_path / "b" / "tagger.dat")


def sealed(image: bytearray) -> bytes:
    """The image with a checksum that fits."""
    image[-8:] = struct.pack("<Q", xxhash.xxh64_intdigest(bytes(image[:-8])))
    return bytes(image)


def patched(offset: int, form: str, value: Any) -> bytes:
    """A well checksummed .dat of one tensor w[4, 8] of float with one field changed."""
    image = bytearray(weights.dat_bytes({"w": np.ones((4, 8), np.float32)}, HASH))
    struct.pack_into(form, image, offset, value)
    return sealed(image)


BAD_DAT = {
    "magic": (patched(0, "8s", b"SOFIEDAX"), "SOFIEDAT"),
    "newer": (patched(8, "<I", 2), "version"),
    "too many tensors": (patched(12, "<I", 2**32 - 1), "damaged"),
    "huge table": (patched(48, "<Q", 2**63), "damaged|expected.*found"),
    "wrong size": (patched(56, "<Q", 2**40), "expected 1099511627776 bytes"),
    "huge name": (patched(64, "<I", 2**32 - 1), "damaged"),
    "unknown dtype": (patched(68, "<I", 8), "element type"),
    "huge rank": (patched(72, "<I", 2**32 - 1), "damaged"),
    "offset outside": (patched(80, "<Q", 2**63), "damaged"),
    "offset wraps": (patched(80, "<Q", 2**64 - 64), "damaged"),
    "offset not aligned": (patched(80, "<Q", 129), "damaged"),
    "too many bytes": (patched(88, "<Q", 2**64 - 1), "damaged"),
    "huge dim": (patched(96, "<Q", 2**62), "damaged"),
    "product wraps": (patched(96, "<Q", 2**61), "damaged"),
    "empty": (b"", "weights file|cut off"),
    "text": (b"tensor_w 4 8\n" + b"1 2 3 4 " * 40, "SOFIEDAT"),
    "one byte": (b"S", "cut off"),
}


@pytest.mark.parametrize("kind", BAD_DAT)
def test_bad_dat_is_refused(tmp_path: Path, kind: str) -> None:
    content, message = BAD_DAT[kind]
    (tmp_path / "m.dat").write_bytes(content)
    with pytest.raises(StorageError, match=message) as caught:
        weights.read_dat(tmp_path / "m.dat")
    assert "m.dat" in str(caught.value)


def test_cut_off_or_flipped_dat_is_refused(tmp_path: Path) -> None:
    image = weights.dat_bytes({"w": np.ones((4, 8), np.float32)}, HASH)
    for size in range(len(image)):
        with pytest.raises(StorageError):
            weights.parse_dat(image[:size])
    for position in range(len(image)):
        if 16 <= position < 48:
            continue  # the model's hash, which only the header can judge, before the checksum
        damaged = bytearray(image)
        damaged[position] ^= 0x80
        with pytest.raises(StorageError):
            weights.parse_dat(bytes(damaged))


CPP_CONSTANTS = {
    "a": np.arange(15, dtype=np.float32).reshape(3, 5) / 2,
    "b": np.array([True, False]),
    "scalar": np.array(-7, np.int64),
    "empty": np.zeros((0, 4)),
    "h": np.array([1, 2], np.float16),
}
CPP_HASH = weights.model_hash(CPP_CONSTANTS, "")


def root_flags() -> list[str]:
    """Compiler flags of the ROOT that Python sees."""
    if find_spec("ROOT") is None:
        pytest.skip("ROOT is not installed")
    code = "import ROOT; print(ROOT.TROOT.GetIncludeDir(), ROOT.TROOT.GetLibDir())"
    command = [sys.executable, "-W", "ignore", "-c", code]
    include, lib = subprocess.run(
        command, capture_output=True, text=True, check=True
    ).stdout.split()
    libraries = [f"-l{name}" for name in ("Core", "RIO", "Tree")]
    return ["-DWITH_ROOT", f"-isystem{include}", f"-L{lib}", f"-Wl,-rpath,{lib}", *libraries]


def compiled(folder: Path, compiler: str, *flags: str) -> Path:
    """The reader as a program, built without a warning."""
    require_compiler(compiler)
    warnings = ["-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion", "-Werror"]
    command = [compiler, "-std=c++17", "-O1", "-pthread", *warnings, f"-I{include_dir()}"]
    command += [f'-DMODEL_HASH="{CPP_HASH.hex()}"', str(READER), "-o", str(folder / "reader")]
    subprocess.run([*command, *flags], check=True)
    return folder / "reader"


def run_reader(reader: Path, good: Path, *bad: Path) -> list[str]:
    command = [str(reader), str(good), str(good.parent), *map(str, bad)]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", timeout=120)
    assert done.returncode == 0, done.stderr
    assert "runtime error" not in done.stderr, done.stderr
    assert "Sanitizer" not in done.stderr, done.stderr
    return done.stdout.splitlines()


def check_reader(lines: list[str], good: Path) -> list[str]:
    """Checks the lines about the good file and gives the others."""
    values = " ".join(f"{v:g}" for v in CPP_CONSTANTS["a"].ravel())
    assert lines[0] == f"{values} 10 -7 16384"
    assert lines[1] == "11"
    start = f"weights file '{good}': "
    assert lines[2] == f"{start}tensor 'a': expected double[3, 5], found float[3, 5]"
    assert lines[3] == f"{start}tensor 'a': expected float[5, 3], found float[3, 5]"
    assert lines[4] == f"{start}tensor 'a': expected float[], found float[3, 5]"
    assert lines[5] == f"{start}tensor 'nobody': expected float[1], found no tensor of that name"
    assert lines[6].startswith(f"{start}holds the weights of another model: expected model hash 00")
    assert lines[7] == "ok"
    assert "(embedded)" in lines[8]
    assert "expected" in lines[8]
    return lines[11:]


@pytest.mark.parametrize("compiler", ["g++", "clang++"])
def test_cpp_reads_dat(tmp_path: Path, compiler: str) -> None:
    flags = ["-fsanitize=address,undefined"] if compiler == "g++" else []
    reader = compiled(tmp_path, compiler, *flags)
    good = tmp_path / "m.dat"
    weights.write_dat(good, CPP_CONSTANTS, CPP_HASH)
    image = good.read_bytes()
    bad = {tmp_path / "none.dat": "No such file", tmp_path: "cannot be read: Is a directory"}
    for kind, (content, message) in BAD_DAT.items():
        path = tmp_path / f"{kind}.dat"
        # the hash is judged before the checksum and the table
        path.write_bytes(
            sealed(bytearray(content.replace(HASH, CPP_HASH))) if len(content) > 200 else content
        )
        bad[path] = message
    for size in range(0, len(image), 13):
        path = tmp_path / f"cut{size}.dat"
        path.write_bytes(image[:size])
        bad[path] = "cut off|SOFIEDAT"
    for position in range(0, len(image), 11):
        damaged = bytearray(image)
        damaged[position] ^= 0x80
        path = tmp_path / f"flip{position}.dat"
        path.write_bytes(damaged)
        bad[path] = "damaged|SOFIEDAT|version|another model"
    root_file.save(graph_of({}), tmp_path / "m.root")
    bad[tmp_path / "m.root"] = 'ROOT file.*weights="root"'
    lines = run_reader(reader, good, *bad)
    assert lines[9] == str(good)
    assert lines[10] == "none.dat"
    for line, (path, message) in zip(check_reader(lines, good), bad.items(), strict=True):
        assert f"weights file '{path}'" in line
        assert re.search(message, line), (line, message)


def test_cpp_reads_packed_weights_from_root(tmp_path: Path) -> None:
    reader = compiled(tmp_path, "g++", *root_flags())
    graph = graph_of(sample_constants())
    image = weights.dat_bytes(CPP_CONSTANTS, CPP_HASH)
    good = tmp_path / "m.root"
    root_file.save(graph, good, weights=image)
    weights.write_dat(tmp_path / "m.dat", CPP_CONSTANTS, CPP_HASH)
    root_file.save(graph, tmp_path / "plain.root")
    (tmp_path / "cut.root").write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    (tmp_path / "junk.root").write_bytes(os.urandom(3000))
    foreign = weights.dat_bytes({"a": np.zeros(3)}, bytes(32))
    root_file.save(graph, tmp_path / "foreign.root", weights=foreign)
    root_file.save(graph, tmp_path / "short.root", weights=image[:500])
    bad = {
        "none.root": "cannot be opened",
        "plain.root": "header/dat.*found none",
        "cut.root": "cut off|cannot be opened|found none",
        "junk.root": "cannot be opened",
        "foreign.root": "another model",
        "short.root": "damaged",
        "m.dat": "ok",
    }
    lines = run_reader(reader, good, *(tmp_path / name for name in bad))
    for line, (name, message) in zip(check_reader(lines, good), bad.items(), strict=True):
        assert message == "ok" or f"weights file '{tmp_path / name}'" in line
        assert re.search(message, line), (line, message)
