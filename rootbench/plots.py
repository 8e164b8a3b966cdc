"""Plots of the results: the ratio per model, and latency against batch and graph size."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from .peers import CONTENDERS, OURS
from .report import measured_peers, median, ratio

Result = dict[str, Any]


def draw(results: Result, folder: Path) -> list[Path]:
    """Writes the plots; none where matplotlib is not installed.

    Returns:
        The files.
    """
    try:
        import matplotlib
    except ImportError:
        return []
    matplotlib.use("agg")
    folder.mkdir(parents=True, exist_ok=True)
    written = [_ratios(results, folder / "ratio_per_model.png")]
    series: dict[str, list[tuple[int, Result]]] = {}
    for case in results["cases"].values():
        if case.get("series") and "results" in case.get("measure", {}):
            title, at = case["series"]
            series.setdefault(title, []).append((at, case))
    for title, points in series.items():
        if len(points) > 1:
            stem = re.sub(r"[^a-z0-9]+", "_", title.lower())
            written.append(
                _curves(results, title, sorted(points, key=lambda p: p[0]), folder / f"{stem}.png")
            )
    return written


def _ratios(results: Result, path: Path) -> Path:
    """One row per model: ours over each peer, and the bar."""
    from matplotlib import pyplot

    cases = {n: c for n, c in results["cases"].items() if ratio(c, "sofie-g++") is not None}
    figure, axes = pyplot.subplots(
        figsize=(8, 1.2 + 0.26 * max(len(cases), 1)), layout="constrained"
    )
    rows = range(len(cases))
    for k, name in enumerate(OURS):
        values = [ratio(c, name) or float("nan") for c in cases.values()]
        label = f"{CONTENDERS[name].title} / ONNX Runtime"
        axes.plot(values, rows, "os"[k], ms=6 - k, label=label, zorder=3)
    for peer in measured_peers(results):
        if peer != "onnxruntime":
            values = [ratio(c, peer) or float("nan") for c in cases.values()]
            axes.plot(values, rows, "x", label=f"{CONTENDERS[peer].title} / ONNX Runtime")
    bars = [c.get("bar") or float("nan") for c in cases.values()]
    axes.plot(bars, rows, "|", ms=10, mew=2, color="0.5", label="bar")
    axes.axvline(1, color="0.7", lw=1)
    axes.set_xscale("log")
    axes.set_yticks(list(rows), list(cases), fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel("median time over that of ONNX Runtime (left is faster)")
    axes.legend(fontsize=7)
    axes.grid(axis="x", which="both", alpha=0.2)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
    return path


def _curves(results: Result, title: str, points: list[tuple[int, Result]], path: Path) -> Path:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    for name in (*OURS, *measured_peers(results)):
        values = [(at, t / 1e3) for at, case in points if (t := median(case, name)) is not None]
        if values:
            axes.plot(*zip(*values, strict=True), "o-", label=CONTENDERS[name].title)
    what, _, axis = title.partition(": ")
    axes.set(title=what, xlabel=axis or "size", ylabel="median time per call / us")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.legend()
    axes.grid(which="both", alpha=0.2)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
    return path
