"""Many graphs through parse, generated C++ and one translation unit with a precompiled header."""

from __future__ import annotations

import hashlib
import re
import shutil
import struct
import subprocess
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from guarded import apart
from onnx import ModelProto

import sofie_root
from sofie_root.config import include_dir
from sofie_root.errors import SofieError, UnsupportedError
from sofie_root.frontends.onnx import from_proto
from sofie_root.ir.dim import Symbol, single_atom
from sofie_root.model import Model
from sofie_root.program.choice import default_choice
from sofie_root.targets.cxx.bundle import collect
from sofie_root.targets.cxx.header import generate

from .modes import Mode
from .reference import Array

LIMIT = 20
"""Seconds that one graph may run."""
COMPILE_LIMIT = 900
_OF_ROOT = re.compile(r"#include <(ROOT/|[RT][A-Z])")
_MAIN = Path(__file__).with_name("run_graphs.cpp")
_PLACE = re.compile(r"g_(\d+)\.hxx:\d+")


@dataclass
class Run:
    """What became of one graph.

    Attributes:
        verdict: ``"ran"``, ``"refused"`` (an operator is not supported), or what went wrong:
            ``"load"``, ``"generate"``, ``"compile"``, ``"crash"``, ``"warning"``.
        message: what was said.
        sets: outputs of each set of inputs, and of the first one again; a text where that run failed.
        seconds: that it took to generate the code.
    """

    verdict: str
    message: str = ""
    sets: list[dict[str, Array] | str] = field(default_factory=list)


@dataclass(frozen=True)
class Job:
    """A model with its sets of inputs, and how it is run."""

    model: ModelProto
    feeds: Sequence[Mapping[str, Array]]
    mode: Mode


def run_jobs(jobs: Sequence[Job], folder: Path, only_check: bool = False) -> list[Run]:
    """Runs jobs that share compiler and flags.

    Args:
        jobs: many of them: they share a translation unit.
        folder: for all files; precompiled headers in it are used again.
        only_check: looks for errors of the compiler and runs nothing.
    """
    runs: list[Run] = []
    models: dict[int, Model] = {}
    place = folder / "batch"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    for k, job in enumerate(jobs):
        found = _generate(job, place / f"g_{k}.hxx", f"g_{k}")
        runs.append(Run("ran") if isinstance(found, Model) else found)
        if isinstance(found, Model):
            models[k] = found
    if models and only_check:
        _check(jobs[0].mode, models, runs, folder, place)
    elif models:
        _build_and_run(jobs, models, runs, folder, place)
    return runs


def _generate(job: Job, path: Path, namespace: str) -> Model | Run:
    stage = "load"
    try:
        model = Model(from_proto(job.model, name="model"))
        stage = "generate"
        with job.mode.chosen():
            schedule = model.scheduled(default_choice(job.mode.exact))
        header = generate(
            apart(schedule) if job.mode.guard else schedule,
            stem=namespace,
            weights="embedded",
            standalone=False,
            namespace=namespace,
        )
        path.write_text(header.text)
    except UnsupportedError as error:
        return Run(
            "refused", "; ".join(sorted({f"{r.operator}: {r.reason}" for r in error.refusals}))
        )
    except SofieError as error:
        return Run(stage, f"{type(error).__name__}: {error}")
    except Exception:  # whatever it is, it is a fault
        return Run(stage, traceback.format_exc(limit=-6))
    return model


# -- compiling -----------------------------------------------------------------------------------


def _build_and_run(
    jobs: Sequence[Job], models: Mapping[int, Model], runs: list[Run], folder: Path, place: Path
) -> None:
    mode = jobs[0].mode
    program = ["-o", str(place / "program"), str(_main(folder))]
    text = _compile(sorted(models), mode, folder, place, program)
    if text is None:
        _run(jobs, models, runs, place)
        return
    if len(models) == 1:
        kind = "compile" if "error:" in text or "warning:" not in text else "warning"
        runs[next(iter(models))] = Run(kind, text)
        return
    suspects = [k for k in models if re.search(rf"\bg_{k}\.hxx:", text)]
    if suspects:
        parts = [[k] for k in suspects] + [[k for k in models if k not in suspects]]
    else:
        half = len(models) // 2
        parts = [list(models)[:half], list(models)[half:]]
    for part in parts:
        if part:
            _build_and_run(jobs, {k: models[k] for k in part}, runs, folder, place)


def _check(
    mode: Mode, models: Mapping[int, Model], runs: list[Run], folder: Path, place: Path
) -> None:
    """Compiles without making code, each graph on its own."""
    for k in models:
        text = _compile([k], mode, folder, place, ["-fsyntax-only"])
        if text is not None:
            runs[k] = Run("compile" if "error:" in text else "warning", text)


def _compile(
    numbers: Sequence[int], mode: Mode, folder: Path, place: Path, how: Sequence[str]
) -> str | None:
    """Compiles these graphs; the compiler's text where it fails or warns."""
    lines = [f'#include "g_{k}.hxx"' for k in numbers]
    api = "const sofie::runtime::Api*"
    lines += [
        f"static {api} api_{k}() {{ return sofie::runtime::api<g_{k}::Session>(); }}"
        for k in numbers
    ]
    table = ", ".join(f"api_{k}" for k in numbers)
    lines += [f"extern {api} (*const kGraphs[])();", f"{api} (*const kGraphs[])() = {{{table}}};"]
    lines += ["extern const std::size_t kGraphCount;"]
    lines += [f"const std::size_t kGraphCount = {len(numbers)};", ""]
    source = place / "graphs.cpp"
    source.write_text("\n".join(lines))
    command = [mode.compiler, *mode.flags, *precompiled(folder, mode), f"-I{include_dir()}"]
    command += [str(source), *how]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=COMPILE_LIMIT
        )
    except subprocess.TimeoutExpired:
        return f"not compiled in {COMPILE_LIMIT} s"
    if done.returncode or done.stderr:
        return f"{' '.join([mode.compiler, *mode.flags])}\n{done.stderr}"
    return None


@cache
def included() -> list[str]:
    """Names of the headers that code for the CPU may include; those that need ROOT are not among them."""
    sources = Path(sofie_root.__file__).parent.rglob("*.py")
    named = {n for path in sources for n in re.findall(r"\b\w+/\w+\.hxx", path.read_text())}
    sofie = include_dir() / "sofie"
    found = [p.relative_to(sofie).as_posix() for p in sofie.glob("*/*.hxx")]
    return sorted(
        n
        for n in found
        if n in named
        and not n.startswith("reference/")
        and not any(_OF_ROOT.search(t) for _, t in collect([n]))
    )


def precompiled(folder: Path, mode: Mode) -> list[str]:
    """Flags that include all headers of ``sofie/``, compiled before."""
    include = include_dir()
    headers = [include / "sofie" / name for name in included()]
    digest = hashlib.sha256(" ".join([str(include), mode.compiler, *mode.flags]).encode())
    for path in headers:
        digest.update(path.read_bytes())
    target = folder / f"pch_{digest.hexdigest()[:12]}"
    text = target / "all.hpp"
    compiled = target / f"all.hpp.{'gch' if mode.compiler == 'g++' else 'pch'}"
    if not compiled.exists():
        for old in folder.glob("pch_*"):
            if len(list(folder.glob("pch_*"))) > 16:
                shutil.rmtree(old)
        target.mkdir(parents=True, exist_ok=True)
        names = [*(["core/guarded.hxx"] if mode.guard else []), *included()]
        text.write_text("".join(f"#include <sofie/{n}>\n" for n in names))
        command = [
            mode.compiler,
            *mode.flags,
            f"-I{include}",
            "-x",
            "c++-header",
            str(text),
            "-o",
            str(compiled),
        ]
        subprocess.run(command, check=True, capture_output=True)
    return ["-include", str(text)] if mode.compiler == "g++" else ["-include-pch", str(compiled)]


def _main(folder: Path) -> Path:
    digest = hashlib.sha256(
        _MAIN.read_bytes() + (include_dir() / "sofie/core/runtime.hxx").read_bytes()
    )
    path = folder / f"main_{digest.hexdigest()[:12]}.o"
    if not path.exists():
        command = [
            "g++",
            "-std=c++17",
            "-O1",
            f"-I{include_dir()}",
            "-c",
            str(_MAIN),
            "-o",
            str(path),
        ]
        subprocess.run(command, check=True)
    return path


# -- running -------------------------------------------------------------------------------------


def _run(jobs: Sequence[Job], models: Mapping[int, Model], runs: list[Run], place: Path) -> None:
    out = place / "out"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    (place / "in").write_bytes(_encoded([(models[k], jobs[k].feeds) for k in sorted(models)]))
    command = [str(place / "program"), str(place / "in"), str(out), str(LIMIT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    signals = {int(line.split()[0]): line.split(" ", 1)[1] for line in done.stdout.splitlines()}
    for position, k in enumerate(sorted(models)):
        if position in signals:
            runs[k] = Run("crash", f"{signals[position]}\n{done.stderr[:2000]}")
        elif not (out / str(position)).exists():
            runs[k] = Run(
                "crash",
                f"nothing written; the program ended with {done.returncode}\n{done.stderr[:2000]}",
            )
        else:
            runs[k].sets = _decoded(
                (out / str(position)).read_bytes(), models[k], len(jobs[k].feeds) + 1
            )


def sizes_of(model: Model, feeds: Mapping[str, Array]) -> dict[str, int]:
    """The size of each symbol."""
    sizes: dict[str, int] = {}
    for name, type_ in model.inputs.items():
        for dim, size in zip(type_.shape, feeds[name].shape, strict=True):
            atom = single_atom(dim)
            if isinstance(atom, Symbol):
                sizes.setdefault(atom.name, size)
    return sizes


def _encoded(graphs: Sequence[tuple[Model, Sequence[Mapping[str, Array]]]]) -> bytes:
    parts = [struct.pack("<Q", len(graphs))]
    for model, sets in graphs:
        parts.append(struct.pack("<Q", len(sets)))
        for feeds in sets:
            sizes = sizes_of(model, feeds)
            dims = [sizes[s] for s in model.symbols]
            parts.append(struct.pack(f"<{len(dims) + 2}Q", len(dims), *dims, len(model.inputs)))
            for name in model.inputs:
                data = np.ascontiguousarray(feeds[name]).tobytes()
                parts += [struct.pack("<Q", len(data)), data, b"\0" * (-len(data) % 8)]
    return b"".join(parts)


def _decoded(data: bytes, model: Model, count: int) -> list[dict[str, Array] | str]:
    at = 0

    def number() -> int:
        nonlocal at
        at += 8
        return int(struct.unpack_from("<Q", data, at - 8)[0])

    sets: list[dict[str, Array] | str] = []
    for _ in range(count):
        if at >= len(data):
            break
        length = number()
        if length:
            sets.append(data[at : at + length].decode(errors="replace"))
            at += length
            continue
        outputs: dict[str, Array] = {}
        for name, type_ in model.outputs.items():
            shape = [number() for _ in range(number())]
            size = number()
            raw = np.frombuffer(data[at : at + size], np.uint8).copy()
            at += size
            dtype: np.dtype[Any] = np.dtype(type_.dtype.numpy)
            outputs[name] = raw.view(dtype if dtype.kind != "b" else np.uint8).reshape(shape)
        sets.append(outputs)
    return sets


__all__ = ["Job", "Run", "precompiled", "run_jobs", "sizes_of"]
