"""The C++ tests of the headers (cpp/tests), in the instruction sets that this machine has.

`make -C cpp/tests check` runs them with both compilers and more warnings; the benches there are no tests.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from cpp_program import compile_program, require_compiler, require_instructions, run_program

FOLDER = Path(__file__).resolve().parents[1] / "cpp" / "tests"
TESTS = sorted(FOLDER.glob("*_test.cpp"))

BUILDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "baseline": ((), ()),
    "avx2": (("-mavx2", "-mfma"), ("avx2", "fma")),
    "avx512": (("-march=x86-64-v4",), ("avx512f", "avx512bw", "avx512dq", "avx512vl")),
}
"""Flags of the compiler, and what the machine must have."""

SANITIZE = ("-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


def one_program() -> str:
    """All tests in one text, each in a namespace of its own; the headers come before."""
    texts = {path.stem: path.read_text() for path in TESTS}
    headers = {
        line for t in texts.values() for line in re.findall(r"^#include .*$", t, re.MULTILINE)
    }
    lines = sorted(headers)
    for path in TESTS:
        lines += [f"namespace {path.stem} {{", "#define main run", f'#include "{path}"']
        lines += ["#undef main", "}"]
    lines += ["int main() {", "  int failed = 0;"]
    lines += [f"  failed |= {path.stem}::run();" for path in TESTS]
    return "\n".join([*lines, "  return failed;", "}", ""])


def build_and_run(build: str, folder: Path, flags: Sequence[str]) -> None:
    own, instructions = BUILDS[build]
    require_compiler("g++")
    require_instructions(*instructions)
    program = compile_program(folder, one_program(), (*flags, *own, f"-I{FOLDER}"))
    finished = re.findall(r"^(\w+): ok$", run_program(program), re.MULTILINE)
    assert finished == [path.stem for path in TESTS]


def test_all_tests_are_there() -> None:
    """The Makefile of the C++ tests runs the same ones."""
    listed = re.search(r"^TESTS := (.*)$", (FOLDER / "Makefile").read_text(), re.MULTILINE)
    assert listed is not None
    assert sorted(listed[1].split()) == [path.stem for path in TESTS]


@pytest.mark.parametrize("build", BUILDS)
def test_headers(build: str, tmp_path: Path) -> None:
    """Without optimisation, which takes twice as long; optimised kernels run in many other tests."""
    build_and_run(build, tmp_path, ("-O0",))


@pytest.mark.slow
@pytest.mark.parametrize("flags", [("-O2",), ("-O1", *SANITIZE)], ids=["optimised", "sanitized"])
@pytest.mark.parametrize("build", BUILDS)
def test_headers_optimised_and_sanitized(
    build: str, flags: tuple[str, ...], tmp_path: Path
) -> None:
    build_and_run(build, tmp_path, flags)
