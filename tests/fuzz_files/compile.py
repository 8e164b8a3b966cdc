"""Compilers on what was accepted: headers must be C++, and the reader of weights must read like Python's."""

from __future__ import annotations

import os
import random
import re
import shutil
import struct
import subprocess
from collections import Counter
from pathlib import Path

from sofie_root.config import include_dir
from sofie_root.errors import StorageError
from sofie_root.storage.weights import parse_dat

from . import weights

RUNNER = Path(__file__).with_name("run_sessions.hxx")
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


SANITIZERS = ["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


TOGETHER = 10
"""Headers in one program: what they share is compiled once."""


def run_headers(headers: list[Path], folder: Path) -> tuple[Counter[str], list[str]]:
    """Compiles headers with sanitizers, and runs each on odd inputs.

    Returns:
        How many ran and how many took too long, and what the sanitizers say.
    """
    verdicts: Counter[str] = Counter()
    problems: list[str] = []
    for k in range(0, len(headers), TOGETHER):
        for name, verdict, said in _run(headers[k : k + TOGETHER], folder):
            no_memory = re.search(r"allocation-size|out-of-memory|bad_alloc", said)
            if verdict not in ("ran", "slow") and not no_memory:
                problems.append(f"{name}: {verdict}: {said[:3000]}")
            verdicts["no memory" if no_memory else verdict] += 1
    return verdicts, problems


def _run(headers: list[Path], folder: Path) -> list[tuple[str, str, str]]:
    """Name, verdict, and what is said of each header."""
    program = folder / "sessions"
    source = f'#include "{RUNNER}"\n' + "".join(f'#include "{h}"\n' for h in headers)
    calls = [f'fuzz::run<{_namespace(h)}::Session>("{h.stem}");' for h in headers]
    source += f"int main() {{ {' '.join(calls)} }}\n"
    command = ["g++", "-std=c++17", "-O1", "-w", *SANITIZERS, f"-I{include_dir()}", "-xc++", "-"]
    done = subprocess.run(
        [*command, "-o", str(program)], input=source, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        if len(headers) == 1:
            return [(headers[0].stem, "compiler", done.stderr[:500])]
        return [found for h in headers for found in _run([h], folder)]
    options = "allocator_may_return_null=1:max_allocation_size_mb=1000:detect_leaks=0"
    done = subprocess.run(
        [str(program)],
        env=os.environ | {"ASAN_OPTIONS": options},
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    said = dict(re.findall(r"^== (\S+)\n(.*?)(?=^== |\Z)", done.stderr, re.MULTILINE | re.DOTALL))
    verdicts = [line.split() for line in done.stdout.splitlines()]
    found = [(name, verdict, said.get(name, "")) for name, verdict in verdicts]
    missing = {h.stem for h in headers} - {name for name, *_ in found}
    return [*found, *((name, "died", done.stderr[-500:]) for name in sorted(missing))]


def _namespace(header: Path) -> str:
    found: list[str] = re.findall(r"^namespace (\w+) \{$", header.read_text(), re.MULTILINE)
    return found[-1]


def build_reader(folder: Path) -> Path:
    """The reader of weights, with AddressSanitizer and UndefinedBehaviorSanitizer."""
    program = folder / "read_weights"
    flags = ["-std=c++17", "-O1", *SANITIZERS]
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
