"""A model in an event loop: events per second of an RDataFrame without threads, and with slots."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .peers import Job

Result = dict[str, Any]
CLUSTERS = 40
"""A file has that many clusters, so that slots find work."""
SLOTS = (0, 1, 2)
"""How many; 0 is without implicit multithreading."""
TURNS = 3
"""Processes for each number of slots; they take turns, and the median counts."""
MOST_BYTES = 100_000_000
"""A larger file would measure how fast it is read."""


def event_loops(
    job: Job, process: Callable[[str], Result], seconds: float, per_call_ns: float
) -> Result:
    """Throughput by the number of slots, each measured in processes of its own.

    Args:
        job: the model.
        process: runs :func:`events` with these settings in a fresh process.
        seconds: about how long the loop over the long file should take with one slot.
        per_call_ns: time of one call of the model.
    """
    per_event = sum(a.size * np.dtype(np.float32).itemsize for a in job.inputs.values())
    wanted = min(seconds * 1e9 / per_call_ns, MOST_BYTES / per_event)
    count = max(4, int(wanted) // CLUSTERS) * CLUSTERS
    rates: dict[int, list[Result]] = {slots: [] for slots in SLOTS}
    for _ in range(TURNS):
        for slots in SLOTS:
            found = process(json.dumps({"events": count, "slots": slots}))
            if "error" in found:
                return found
            rates[slots].append(found)
    loops = [
        {"slots": slots} | {k: _median([r[k] for r in found]) for k in ("read", "model")}
        for slots, found in rates.items()
    ]
    return {"events": count, "loops": loops}


def _median(values: list[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return float(np.median(known)) if known else None


def events(job: Job, settings: str) -> Result:
    """Events per second of a loop that only reads the columns, and of one that runs the model on them.

    The time is the difference between a long and a short file, so that booking and compiling, which
    both have, drop out.
    """
    import sofie_root
    from sofie_root.runtime.interpreter import import_root

    options = json.loads(settings)
    count, slots = options["events"], options["slots"]
    if hasattr(os, "sched_getaffinity") and len(os.sched_getaffinity(0)) < slots:
        return {"error": f"{slots} slots need {slots} cores, of which this process may not use all"}
    root = import_root()
    session = sofie_root.load(job.model).session()
    samples = list(job.inputs.values())
    columns = [f"x{k}" for k in range(len(samples))]
    files = [written(job.folder / f"events{n}.root", n, samples, root) for n in (count // 4, count)]
    if slots:
        root.EnableImplicitMT(slots)

    def seconds(file: Path, with_model: bool) -> float:
        frame = root.RDataFrame("Events", str(file))
        if with_model:
            frame = sofie_root.define(frame, "y", session, columns)
        used = "y[0]" if with_model else " + ".join(f"{c}[0]" for c in columns)
        result = frame.Define("used", f"double({used})").Sum("used")
        start = time.perf_counter()
        result.GetValue()
        return time.perf_counter() - start

    def rate(with_model: bool) -> float | None:
        short, long = (min(seconds(file, with_model) for _ in range(2)) for file in files)
        return (count - count // 4) / (long - short) if long > short else None

    return {"read": rate(False), "model": rate(True)}


def written(path: Path, count: int, samples: list[np.ndarray], root: Any) -> Path:
    """A tree with one column for each sample, of its size; written once.

    ROOT writes it, since slots share a file by its clusters, and one that uproot writes has one.
    """
    if path.exists():
        return path
    frame = root.RDataFrame(count)
    for k, array in enumerate(samples):
        fill = f"ROOT::RVecF x({array.size}); for (float& v : x) v = gRandom->Gaus(); return x;"
        frame = frame.Define(f"x{k}", fill)
    options = root.RDF.RSnapshotOptions()
    options.fAutoFlush = max(1, count // CLUSTERS)
    options.fCompressionLevel = 0
    scratch = path.with_suffix(".part.root")
    frame.Snapshot("Events", str(scratch), [f"x{k}" for k in range(len(samples))], options)
    scratch.replace(path)
    return path
