"""Compilers on what was accepted: headers must be C++, and the reader of weights must read like Python's."""

from __future__ import annotations

import random
import shutil
import struct
import subprocess
from pathlib import Path

from sofie_root.config import include_dir
from sofie_root.errors import StorageError
from sofie_root.storage.weights import parse_dat

from . import weights

READER = Path(__file__).with_name("read_weights.cpp")


def check_headers(headers: list[Path]) -> list[str]:
    """Compiles headers together, one by one where that fails; the errors."""
    if not headers:
        return []
    source = "".join(f'#include "{h}"\n' for h in headers)
    command = [
        "g++",
        "-std=c++17",
        "-O0",
        "-fsyntax-only",
        "-w",
        f"-I{include_dir()}",
        "-xc++",
        "-",
    ]
    done = subprocess.run(command, input=source, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return []
    if len(headers) == 1:
        lines = [line for line in done.stderr.splitlines() if "error" in line]
        return [f"{headers[0].name}: {lines[0] if lines else done.stderr[:300]}"]
    half = len(headers) // 2
    return check_headers(headers[:half]) + check_headers(headers[half:])


def build_reader(folder: Path) -> Path:
    """The reader of weights, with AddressSanitizer and UndefinedBehaviorSanitizer."""
    program = folder / "read_weights"
    flags = ["-std=c++17", "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    flags += [f"-I{include_dir()}", f'-DMODEL_HASH="{weights.HASH.hex()}"', "-pthread"]
    subprocess.run(["g++", *flags, str(READER), "-o", str(program)], check=True)
    return program


def read_weights(program: Path, folder: Path, seed: int, count: int) -> tuple[int, list[str]]:
    """Reads mutated files in one process, and compares with Python.

    C++ also refuses files of another model, or without the tensors that a header asks for.

    Returns:
        How many files were accepted, and what went wrong.
    """
    files = [weights.mutated(random.Random(f"{seed}/dat/{k}")) for k in range(count)]
    stream = b"".join(struct.pack("<Q", len(data)) + data for data, _ in files)
    done = subprocess.run(
        [str(program), str(folder / "m.dat")], input=stream, capture_output=True, check=False
    )
    lines = done.stdout.decode("utf-8", "replace").split("\n")[:-1]
    problems: list[str] = []
    accepted = 0
    if done.returncode != 0:
        problems.append(f"file {len(lines)}: {done.stderr.decode(errors='replace')[:2000]}")
    for k, (line, (data, what)) in enumerate(zip(lines, files, strict=False)):
        try:
            parse_dat(data)
            python = True
        except StorageError:
            python = False
        if line.startswith("refused: "):
            continue
        accepted += 1
        if not line.isdigit() or not python:
            problems.append(f"file {k} ({what}): C++ says {line}, Python {python}")
    return accepted, problems


def has_compiler() -> bool:
    """Whether there is g++, which the checks of this module use."""
    return shutil.which("g++") is not None
