"""What runs in a process of its own: generation, a first call with its memory, and the timing.

``python -m rootbench.worker TASK FOLDER ARGUMENT`` writes ``FOLDER/TASK[-CONTENDER].json``. Each
model gets fresh processes, so that none inherits memory or threads from another.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from sofie_root.check import compare as difference

from . import timing
from .events import events
from .peers import CONTENDERS, EXACT, GENERATED, Job, Opened

Result = dict[str, Any]

WARM_BATCH_NS = 2e6
"""Calls are timed in batches of about this long: far above the clock's resolution."""

FLUSHED_BYTES_PER_NS = 8
"""About how fast memory goes through the caches to flush them."""

SLOW_NS = 3e8
"""Calls that are slower than this need no more warming up."""


def main() -> int:
    """Runs one task; its result is a JSON file."""
    task, folder, argument = sys.argv[1:4]
    os.environ.pop("LD_PRELOAD", None)  # it is for this process, not for the compiler
    core = os.environ.get("ROOTBENCH_CORE")
    if core and task != "events" and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(core)})
    tasks: dict[str, Callable[[Job, str], Result]] = {
        "generate": generate,
        "probe": probe,
        "measure": measure,
        "events": events,
    }
    try:
        result = tasks[task](Job(Path(folder)), argument)
    except Exception as error:
        if os.environ.get("ROOTBENCH_DEBUG"):
            raise
        kind = "" if isinstance(error, timing.BenchError) else f"{type(error).__name__}: "
        result = {"error": f"{kind}{error}".strip()[:1000]}
    suffix = f"-{argument}" if task == "probe" else ""
    Path(folder, f"{task}{suffix}.json").write_text(json.dumps(result))
    return 0


# ----------------------------------------------------------------------------------------------------
# One after the other
# ----------------------------------------------------------------------------------------------------


def generate(job: Job, _: str) -> Result:
    """From ONNX to the header: how long it takes, and what comes out."""
    import sofie_root
    from sofie_root.program.choice import default_choice

    from .macs import count

    start = time.perf_counter()
    model = sofie_root.load(job.model)
    loaded = time.perf_counter()
    header = job.folder / f"{GENERATED}.hxx"
    model.generate(header, weights="dat", standalone=False)
    done = time.perf_counter()
    report = model.report()
    # Winograd is all that it forbids, so far.
    exact_differs = any("Conv" in node.op.name for node in model.graph.all_nodes()) and (
        str(model.scheduled(default_choice(exact=True))) != str(report.schedule)
    )
    if exact_differs:
        model.generate(job.folder / f"{EXACT}.hxx", "dat", standalone=False, exact=True)
    sizes = {
        str(dim): size
        for name, type_ in model.inputs.items()
        for dim, size in zip(type_.shape, job.inputs[name].shape, strict=True)
        if not isinstance(dim, int)
    }
    plan = report.schedule.plan
    return {
        "load_s": loaded - start,
        "generate_s": done - loaded,
        "header_bytes": header.stat().st_size,
        "exact_differs": exact_differs,
        "weight_bytes": report.weight_bytes,
        "arena_bytes": plan.arena_bytes(sizes),
        "reuse": report.reuse,
        "live_bytes": report.schedule.live_bytes(sizes),
        "macs": count(model.graph, sizes) or job.facts.get("macs"),
    }


def probe(job: Job, contender: str) -> Result:
    """The first call in a fresh process: how long, how much memory, and whether it is right."""
    if contender == "sofie-cling":
        from sofie_root.runtime.interpreter import import_root

        import_root()  # in an analysis ROOT runs already
    timing.library()
    job.load()  # not counted as the contender's memory
    before = _memory(reset_peak=True)
    start = time.perf_counter()
    opened = CONTENDERS[contender].open(job)
    timing.warm(opened.call, 1)
    first = time.perf_counter() - start
    differences = compare(opened, job)
    per_call = timing.allocations(opened.call)
    after = _memory()
    return {
        "first_call_s": first,
        "memory_bytes": after["anonymous"] - before["anonymous"],
        "peak_bytes": after["peak"] - before["resident"],
        "allocations": per_call,
        "max_rel": max(differences.values(), default=0.0),
        "overhead": opened.overhead,
    }


SATURATED = 1e-3
"""Size of an output below which differences count absolutely."""


def compare(opened: Opened, job: Job) -> dict[str, float]:
    """Largest difference of each output to the expected one, relative to the output's largest value.

    Outputs below ``SATURATED`` are compared to that: a sigmoid far out says nothing relative.
    """
    found = opened.outputs()
    result = {}
    for name, expected in job.expected.items():
        how_far = difference(expected, found[name])
        if how_far.problem:
            raise timing.BenchError(f"output {name}: {how_far.problem}")
        largest = how_far.max_abs / how_far.max_rel if how_far.max_rel else 1.0
        result[name] = how_far.max_abs / max(largest, SATURATED)
    return result


def _memory(reset_peak: bool = False) -> dict[str, int]:
    """Memory of this process in bytes, after everything that is free has been given back."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
        if reset_peak:
            Path("/proc/self/clear_refs").write_text("5")
    except (OSError, AttributeError):
        pass
    status = Path("/proc/self/status").read_text()
    fields = {"anonymous": "RssAnon", "resident": "VmRSS", "peak": "VmHWM"}
    found = {k: re.search(rf"{name}:\s+(\d+) kB", status) for k, name in fields.items()}
    return {k: int(m[1]) * 1024 if m else 0 for k, m in found.items()}


# ----------------------------------------------------------------------------------------------------
# Side by side
# ----------------------------------------------------------------------------------------------------


def measure(job: Job, settings: str) -> Result:
    """Times all contenders in turn, round by round: what disturbs the machine disturbs all alike."""
    options = json.loads(settings)
    marked = job.folder / "at-work"
    mark = os.open(marked, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    width = max(map(len, CONTENDERS))

    def at_work(name: str) -> None:
        """Keeps the name for whoever wants to know why this process ended early."""
        os.pwrite(mark, name.ljust(width).encode(), 0)

    opened: dict[str, Opened] = {}
    single: dict[str, float] = {}
    for name in options["contenders"]:
        at_work(name)
        opened[name] = CONTENDERS[name].open(job)
        single[name] = _single_call(opened[name].call)
    batch = {name: max(1, round(WARM_BATCH_NS / ns)) for name, ns in single.items()}
    memory = np.zeros(2 * timing.last_level_cache(), np.uint8)
    overhead = timing.clock_overhead()

    def repeat(
        share: float, round_ns: float, one: Callable[[str], float]
    ) -> dict[str, list[float]]:
        """What ``one`` finds for each contender, round by round; another begins each round."""
        wanted = share * options["seconds"] * 1e9 / round_ns
        found: dict[str, list[float]] = {name: [] for name in opened}
        names = list(opened)
        for _ in range(int(min(max(wanted, options["min_rounds"]), options["max_rounds"]))):
            for name in names:
                at_work(name)
                found[name].append(one(name))
            names.append(names.pop(0))
        return found

    warm = repeat(
        1.0,
        sum(batch[name] * ns for name, ns in single.items()),
        lambda name: timing.warm(opened[name].call, batch[name]),
    )
    cold = repeat(
        0.5,
        sum(single.values()) + len(opened) * memory.nbytes / FLUSHED_BYTES_PER_NS,
        lambda name: timing.flushed(opened[name].call, memory, 1)[0] - overhead,
    )
    os.close(mark)
    marked.unlink()
    for one in opened.values():  # what is compared must come from a call like those that were timed
        for array in one.outputs().values():
            array.fill(0)
        timing.warm(one.call, 1)
    results = {
        name: {
            "warm": summary(warm[name]),
            "flushed": summary(cold[name]),
            "batch": batch[name],
            "max_rel": max(compare(opened[name], job).values(), default=0.0),
        }
        for name in opened
    }
    return {
        "rounds": len(next(iter(warm.values()))),
        "results": results,
        "roof": roof(job, options["peak_gflops"]),
    }


def _single_call(call: timing.Call) -> float:
    """About how long a call takes, in nanoseconds; warms up by the way."""
    first = timing.warm(call, 1)
    return first if first > SLOW_NS else min(timing.warm(call, 1) for _ in range(4))


def summary(times: list[float]) -> dict[str, float]:
    """Median, minimum and the quartiles' distance, in nanoseconds."""
    low, median, high = np.percentile(times, (25, 50, 75))
    return {"median": float(median), "min": float(min(times)), "spread": float(high - low)}


def roof(job: Job, peak_gflops: float) -> Result:
    """What the machine allows: the time for the arithmetic, and for reading weights, inputs and outputs.

    The bandwidth is that of a block of the same size, so it is the right cache level's.
    """
    generated = job.folder / "generate.json"
    facts = json.loads(generated.read_text()) if generated.exists() else job.facts
    arrays = [*job.inputs.values(), *job.expected.values()]
    bytes_ = facts.get("weight_bytes", 0) + sum(a.nbytes for a in arrays)
    bandwidth = timing.library().read_gbytes(max(bytes_, 64), 0.05)
    macs = facts.get("macs")
    return {
        "bytes": bytes_,
        "gbytes_per_s": bandwidth,
        "bytes_ns": bytes_ / bandwidth,
        "flops_ns": None if macs is None else 2 * macs / peak_gflops,
    }


if __name__ == "__main__":
    sys.exit(main())
