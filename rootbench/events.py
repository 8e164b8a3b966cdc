"""A model in an event loop: events per second of an RDataFrame with one slot, and with more."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from .peers import Job

Result = dict[str, Any]
CLUSTERS = 40
"""A file has that many clusters, so that slots find work."""


def events(job: Job, settings: str) -> Result:
    """Events per second of a loop that only reads the column, and of one that runs the model on it.

    The time is the difference between a long and a short file, so that booking and compiling, which
    both have, drop out.
    """
    import sofie_root
    from sofie_root.runtime.interpreter import import_root

    options = json.loads(settings)
    root = import_root()
    session = sofie_root.load(job.model).session()
    (sample,) = job.inputs.values()
    count = options["events"]
    files = [_write(job.folder / f"events{k}.root", count * (1 + 3 * k), sample) for k in (0, 1)]

    def seconds(file: Path, with_model: bool) -> float:
        frame = root.RDataFrame("Events", str(file))
        if with_model:
            frame = sofie_root.define(frame, "y", session, ["x"])
        result = frame.Define("first", "double(y[0])" if with_model else "double(x[0])").Sum(
            "first"
        )
        start = time.perf_counter()
        result.GetValue()
        return time.perf_counter() - start

    def rate(with_model: bool) -> float | None:
        short, long = (
            min(seconds(file, with_model) for _ in range(options["repeats"])) for file in files
        )
        return 3 * count / (long - short) if long > short else None

    rates: Result = {"events": 3 * count, "loops": []}
    for slots in (0, *options["slots"]):  # 0: without implicit multithreading
        if slots:
            root.EnableImplicitMT(slots)
        rates["loops"].append({"slots": slots, "read": rate(False), "model": rate(True)})
        if slots:
            root.DisableImplicitMT()
    for file in files:
        file.unlink()
    return rates


def _write(path: Path, count: int, sample: np.ndarray) -> Path:
    """A tree with one column of the sample's size."""
    import uproot

    rng = np.random.default_rng(5)
    with uproot.recreate(path, compression=None) as file:
        tree = file.mktree("Events", {"x": np.dtype((np.float32, (sample.size,)))})
        for _ in range(CLUSTERS):
            shape = (max(1, count // CLUSTERS), sample.size)
            tree.extend({"x": rng.standard_normal(shape, np.float32)})
    return path
