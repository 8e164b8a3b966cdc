"""``python -m rootbench compare REV``: is the code of another revision of sofie_root faster or slower?

Both revisions generate the models of the benchmark, each with its own Python and C++; the same compiler
compiles both, and they are timed in turns in one process: what disturbs the machine disturbs both alike.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import math
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from . import timing
from .models import select
from .peers import Job, Opened
from .run import prepare
from .worker import WARM_BATCH_NS, compare

ROOT = Path(__file__).resolve().parents[1]
GENERATE = Path(__file__).with_name("generate_revision.py")
PROGRAM = Path(__file__).with_name("revision.cpp")

DESCRIPTION = """\
Compares the code that two revisions of sofie_root generate for the same models: interleaved in one
process, on one pinned core. 'after / before' is the median over the rounds of the ratio of their times,
with the 95 % interval of that median; 'fastest' is the ratio of the fastest rounds, which a busy
machine disturbs least. A model counts as slower when the whole interval lies above 1 + threshold.
Models whose headers are the same to the letter are not timed. Outputs of both are compared with ONNX
Runtime's and with each other's."""

EPILOG = """\
examples:
  python -m rootbench compare HEAD~1                 the working tree against the last commit but one
  python -m rootbench compare v0.1 --models gn2 'zoo/*particlenet*'
  python -m rootbench compare v0.1 v0.2 --all        two revisions, every model"""


@dataclass(frozen=True)
class Comparison:
    """What was found for one model; times in nanoseconds.

    Attributes:
        before: median time of the first revision; None where the headers are the same.
        after: of the second.
        ratio: median of after / before over the rounds.
        low: lower end of the ratio's 95 % interval.
        high: its upper end.
        fastest: ratio of the fastest rounds, which a busy machine disturbs least.
        generate_s: seconds that each revision took to load and generate.
        header_bytes: size of each header.
        wrong: names of the revisions whose outputs are not those of ONNX Runtime.
        difference: largest difference between both revisions' outputs, relative to the largest output.
    """

    before: float | None
    after: float | None
    ratio: float
    low: float
    high: float
    fastest: float
    generate_s: tuple[float, float]
    header_bytes: tuple[int, int]
    wrong: tuple[str, ...]
    difference: float


def main(arguments: Sequence[str], console: Console) -> int:
    """Runs the command; 1 where a model is slower by more than the threshold, or wrong."""
    options = _parser().parse_args(arguments)
    os.environ["ROOTBENCH_WORK"] = str(Path(options.output, "work").resolve())
    if options.core is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {options.core})
    trees = [export(revision) for revision in (options.before, options.after)]
    load = os.getloadavg()[0]
    if load > 0.5:
        console.print(f"[yellow]the machine is busy (load average {load:.1f}): expect noise")
    results: dict[str, Comparison] = {}
    failures: dict[str, str] = {}
    cases = select(options.models, quick=options.quick, everything=options.all)
    for number, case in enumerate(cases, 1):
        print(f"[{number}/{len(cases)}] {case.name}", file=sys.stderr, flush=True)
        try:
            job = prepare(case)
            results[case.name] = compare_model(job, trees, case.tolerance, options.seconds)
        except timing.BenchError as error:
            failures[case.name] = str(error)
    show(results, failures, options.threshold, console)
    file = Path(options.output, "compare.json")
    file.write_text(json.dumps({name: asdict(c) for name, c in results.items()}, indent=1))
    console.print(f"written: {file}")
    worse = [n for n, c in results.items() if c.wrong or c.low > 1 + options.threshold]
    return 1 if worse or failures else 0


def export(revision: str | None) -> Path:
    """The sources of a revision, in the work folder; for None the working tree as it is.

    Raises:
        BenchError: there is no such revision, or no repository.
    """
    if revision is None:
        return ROOT
    done = _git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    if done.returncode:
        raise timing.BenchError(f"git knows no revision {revision!r} of {ROOT}")
    commit = done.stdout.decode().strip()
    tree = timing.work_folder() / "revisions" / commit
    if not tree.exists():
        scratch = tree.with_suffix(f".{os.getpid()}")
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        archive = _git("archive", commit, "sofie_root", "cpp").stdout
        subprocess.run(["tar", "-x", "-C", str(scratch)], input=archive, check=True)
        scratch.rename(tree)
    return tree


def _git(*words: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, check=False)


def compare_model(
    job: Job, trees: Sequence[Path], tolerance: float, seconds: float, min_rounds: int = 15
) -> Comparison:
    """Generates a model with both source trees, and times both."""
    headers, took = [], []
    for name, tree in zip(("before", "after"), trees, strict=True):
        folder = job.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        took.append(generate(tree, job, folder))
        headers.append(folder / "model.hxx")
    sizes = [h.stat().st_size for h in headers]
    facts: dict[str, Any] = {"generate_s": tuple(took), "header_bytes": tuple(sizes)}
    same_weights = len({_content(h.with_suffix(".dat")) for h in headers}) == 1
    if same_weights and len({_content(h) for h in headers}) == 1:
        return Comparison(None, None, 1.0, 1.0, 1.0, 1.0, wrong=(), difference=0.0, **facts)
    opened = [open_header(header, job) for header in headers]
    times = interleave(opened, seconds, min_rounds)
    wrong = []
    for name, one in zip(("before", "after"), opened, strict=True):
        if max(compare(one, job).values(), default=0.0) > tolerance:
            wrong.append(name)
    outputs = [one.outputs() for one in opened]
    difference = max(
        (_difference(outputs[0][name], outputs[1][name]) for name in job.expected), default=0.0
    )
    ratios = times[1] / times[0]
    low, high = median_interval(ratios)
    before, after = (float(np.median(t)) for t in times)
    ratio, fastest = float(np.median(ratios)), float(times[1].min() / times[0].min())
    return Comparison(
        before, after, ratio, low, high, fastest, wrong=tuple(wrong), difference=difference, **facts
    )  # type: ignore[arg-type]


def _content(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def _difference(a: np.ndarray, b: np.ndarray) -> float:
    if np.array_equal(a, b, equal_nan=a.dtype.kind == "f"):
        return 0.0
    wide = [x.astype(np.float64) for x in (a, b)]
    scale = float(np.nanmax(np.abs(wide[0]))) or 1.0
    return float(np.nanmax(np.abs(wide[0] - wide[1]))) / scale


def generate(tree: Path, job: Job, folder: Path) -> float:
    """Writes ``model.hxx`` and ``model.dat`` with the sofie_root in ``tree``; seconds without imports."""
    environment = os.environ | {"PYTHONPATH": str(tree)}
    command = [sys.executable, str(GENERATE), str(tree), str(job.model), str(folder / "model.hxx")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise timing.BenchError(f"{tree.name} does not generate it: {done.stderr.strip()[-500:]}")
    return float(done.stdout)


def open_header(header: Path, job: Job) -> Opened:
    """A standalone header in a library of its own, bound to the job's inputs."""
    text = header.read_text()
    namespace = re.findall(r"^namespace (TMVA_SOFIE_\w+)", text, re.MULTILINE)[-1]
    source = header.with_name("revision.cpp")
    # With the header's text in it: a library is known by its source, and compiled once.
    source.write_text(f"{text}\nnamespace model = {namespace};\n{PROGRAM.read_text()}")
    # Each header brings sofie_root's kernels with it, so no symbol may be shared with the other library.
    lib = ctypes.CDLL(str(timing.compile_shared(source, ("-fvisibility=hidden",))))
    lib.open_session.restype = ctypes.c_void_p
    lib.open_session.argtypes = (ctypes.c_char_p, *[ctypes.c_void_p] * 3)
    symbols = [s.decode() for s in _strings(lib)]
    sizes = _symbol_sizes(lib, symbols, job)
    inputs = [np.ascontiguousarray(a) for a in job.inputs.values()]
    outputs = {name: np.zeros_like(a) for name, a in job.expected.items()}
    dims = (ctypes.c_size_t * (len(symbols) + 1))(*sizes)
    ins = (ctypes.c_void_p * (len(inputs) + 1))(*(a.ctypes.data for a in inputs))
    outs = (ctypes.c_void_p * (len(outputs) + 1))(*(a.ctypes.data for a in outputs.values()))
    handle = lib.open_session(str(header.with_suffix(".dat")).encode(), dims, ins, outs)
    if not handle:
        raise timing.BenchError(f"{header} does not open its weights")
    call = timing.Call(timing.address(lib.run), handle, (lib, inputs, outputs, dims, ins, outs))
    timing.warm(call, 1)
    return Opened(call, lambda: outputs)


def _strings(lib: ctypes.CDLL) -> list[bytes]:
    lib.symbol_name.restype = ctypes.c_char_p
    return [lib.symbol_name(k) for k in range(lib.symbol_count())]


def _symbol_sizes(lib: ctypes.CDLL, symbols: Sequence[str], job: Job) -> list[int]:
    """The size of each symbolic dim: wherever an input's axis is that symbol alone, the array has it."""
    sizes: dict[int, int] = {}
    lib.input_axis.restype = ctypes.c_int64
    for k, array in enumerate(job.inputs.values()):
        for axis, size in enumerate(array.shape):
            code = lib.input_axis(k, axis)
            if -len(symbols) <= code < 0:
                sizes[-code - 1] = size
    return [sizes[k] for k in range(len(symbols))]


def interleave(
    opened: Sequence[Opened], seconds: float, min_rounds: int
) -> tuple[np.ndarray, np.ndarray]:
    """Nanoseconds per call of both, round by round; each is the first in every other round."""
    single = [min(timing.warm(one.call, 1) for _ in range(5)) for one in opened]
    batch = max(1, round(WARM_BATCH_NS / max(single)))
    found: tuple[list[float], list[float]] = ([], [])
    end = time.monotonic() + seconds
    rounds = 0
    while rounds < min_rounds or time.monotonic() < end:
        for k in (0, 1) if rounds % 2 else (1, 0):
            found[k].append(timing.warm(opened[k].call, batch))
        rounds += 1
    return np.array(found[0]), np.array(found[1])


def median_interval(values: np.ndarray, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a median, from order statistics (Conover, Practical Nonparametric Statistics)."""
    ordered = np.sort(values)
    n = len(ordered)
    half = z * math.sqrt(n) / 2
    low, high = max(0, math.floor(n / 2 - half)), min(n - 1, math.ceil(n / 2 + half))
    return float(ordered[low]), float(ordered[high])


def show(
    results: dict[str, Comparison], failures: dict[str, str], threshold: float, console: Console
) -> None:
    """Prints the table and a line that sums it up."""
    columns: list[tuple[str, Callable[[Comparison], str]]] = [
        ("before", lambda c: _microseconds(c.before)),
        ("after", lambda c: _microseconds(c.after)),
        ("after / before", lambda c: "the same code" if c.before is None else f"{c.ratio:.3f}"),
        ("95 %", lambda c: "" if c.before is None else f"{c.low:.3f} to {c.high:.3f}"),
        ("fastest", lambda c: "" if c.before is None else f"{c.fastest:.3f}"),
        ("generate, s", lambda c: f"{c.generate_s[0]:.2f} -> {c.generate_s[1]:.2f}"),
        ("header, kB", lambda c: f"{c.header_bytes[0] / 1e3:.0f} -> {c.header_bytes[1] / 1e3:.0f}"),
        ("outputs", lambda c: _verdict(c)),
    ]
    table = Table(title="Two revisions")
    table.add_column("model")
    for title, _ in columns:
        table.add_column(title, justify="right")
    for name, comparison in results.items():
        style = "red" if comparison.wrong or comparison.low > 1 + threshold else None
        table.add_row(name, *(make(comparison) for _, make in columns), style=style)
    console.print(table)
    for name, reason in failures.items():
        console.print(f"{name}: {reason}", markup=False)
    timed = [c for c in results.values() if c.before is not None]
    slower = [n for n, c in results.items() if c.low > 1 + threshold]
    faster = [n for n, c in results.items() if c.high < 1 - threshold]
    mean = math.exp(sum(math.log(c.ratio) for c in timed) / len(timed)) if timed else 1.0
    console.print(
        f"{len(results)} models, {len(results) - len(timed)} with the same code; geometric mean of the "
        f"others' ratios {mean:.3f}; slower by more than {threshold:.0%}: {', '.join(slower) or 'none'}; "
        f"faster: {', '.join(faster) or 'none'}",
        markup=False,
    )


def _microseconds(ns: float | None) -> str:
    return "" if ns is None else f"{ns / 1e3:.4g} us"


def _verdict(comparison: Comparison) -> str:
    if comparison.wrong:
        return f"WRONG: {', '.join(comparison.wrong)}"
    return "identical" if comparison.difference == 0 else f"differ by {comparison.difference:.0e}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m rootbench compare",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add: Any = parser.add_argument
    add("before", metavar="REV", help="the revision to compare with, as git names it")
    add("after", nargs="?", metavar="REV2", help="the other revision (the working tree)")
    add(
        "--models",
        nargs="+",
        default=[],
        metavar="NAME",
        help="names or patterns (rootbench --list)",
    )
    add("--quick", action="store_true", help="few small models")
    add("--all", action="store_true", help="the heaviest models too")
    add("--seconds", type=float, default=1.0, help="time of a model's rounds (1)")
    add("--threshold", type=float, default=0.03, help="how much slower is too slow (0.03)")
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else {None}
    add("--core", type=int, default=max(cores), help="what everything is pinned to (the last core)")
    add(
        "--output",
        default=str(ROOT / "rootbench" / "results"),
        metavar="DIR",
        help="where results go",
    )
    return parser
