"""Compiles C++ programs that include generated headers, and runs them."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest

from sofie_root.config import include_dir

WARNINGS = ("-Wall", "-Wextra", "-Werror")


def require_compiler(compiler: str) -> None:
    """Skips the test where the compiler is not installed; in CI, which installs it, that is a failure."""
    if shutil.which(compiler) is None:
        if os.environ.get("CI"):
            pytest.fail(f"{compiler} is not installed; .ci/run should have installed it")
        pytest.skip(f"{compiler} is not installed")


@cache
def has_instructions(*sets: str) -> bool:
    """Whether this machine runs all of these instruction sets, by the compiler's names for them."""
    asked = " && ".join(f'__builtin_cpu_supports("{name}")' for name in sets) or "1"
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder, "supports")
        command = ["g++", "-x", "c++", "-", "-o", str(program)]
        source = f"int main() {{ return !({asked}); }}"
        built = subprocess.run(command, input=source, text=True, capture_output=True, check=False)
        return built.returncode == 0 and subprocess.run([program], check=False).returncode == 0


def require_instructions(*sets: str) -> None:
    """Skips the test where the machine lacks one of the instruction sets."""
    if not has_instructions(*sets):
        pytest.skip(f"this machine has no {' and '.join(sets)}")


def compile_program(
    folder: Path,
    source: str,
    flags: Sequence[str] = ("-O1",),
    compiler: str = "g++",
    headers: bool = True,
    name: str = "program",
) -> Path:
    """A program made from the text; warnings are errors.

    Args:
        folder: where the text and the program go.
        source: the text.
        flags: more flags.
        compiler: the test is skipped where it is not installed.
        headers: whether ``<sofie/...>`` can be found.
        name: of the program.
    """
    require_compiler(compiler)
    text, program = folder / f"{name}.cpp", folder / name
    text.write_text(source)
    includes = [f"-I{include_dir()}"] if headers else []
    command = [compiler, "-std=c++17", *WARNINGS, *flags, *includes, str(text), "-o", str(program)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, " ".join(command) + "\n" + done.stderr[:8000]
    return program


def run_program(program: Path, *arguments: str, cwd: Path | None = None, **environment: str) -> str:
    """Standard output of a program; it must succeed and write nothing to standard error."""
    done = subprocess.run(
        [str(program), *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd or program.parent,
        env=os.environ | environment,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr[:8000]
    assert done.stderr == ""
    return done.stdout
