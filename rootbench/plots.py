"""Plots of the results: ratio per model, latency against batch and graph size, arena over time."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .findings import MAIN, Result, measured, measured_peers, median, ratio
from .peers import CONTENDERS, OURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ARENAS = 6
"""So many arenas are drawn: those of the models with the most temporaries."""


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
            points.sort(key=lambda p: p[0])
            written.append(_curves(results, title, points, folder / f"{stem}.png"))
    arenas = {n: c for n, c in results["cases"].items() if c.get("generate", {}).get("arena_bytes")}
    if arenas:
        written.append(_arenas(arenas, folder / "arena_over_time.png"))
    return written


def _ratios(results: Result, path: Path) -> Path:
    """One row per model: ours over ONNX Runtime, the peers over it, and the bar."""
    cases = {n: c for n, c in results["cases"].items() if ratio(c) is not None}
    figure, axes = _figure(8, 1.2 + 0.26 * max(len(cases), 1))
    rows = range(len(cases))
    for name in (*OURS, *measured_peers(results)):
        values = [ratio(c, name) or float("nan") for c in cases.values()]
        if name == "onnxruntime" or name not in measured(results):
            continue
        style = {"ls": "", "marker": "o" if name == MAIN else "s", "ms": 6 if name == MAIN else 4}
        if name not in OURS:
            style = {"ls": "", "marker": "x"}
        axes.plot(values, rows, label=f"{CONTENDERS[name].title} / ONNX Runtime", **style)
    bars = [c.get("bar") or float("nan") for c in cases.values()]
    axes.plot(bars, rows, "|", ms=10, mew=2, color="0.5", label="bar")
    axes.axvline(1, color="0.7", lw=1)
    axes.set_xscale("log")
    axes.set_yticks(list(rows), list(cases), fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel("median time over that of ONNX Runtime (left is faster)")
    axes.grid(axis="x", which="both", alpha=0.2)
    axes.legend(fontsize=7)
    return _saved(figure, path)


def _curves(results: Result, title: str, points: list[tuple[int, Result]], path: Path) -> Path:
    figure, axes = _figure(6, 4)
    for name in measured(results):
        values = [(at, t / 1e3) for at, case in points if (t := median(case, name)) is not None]
        if values:
            axes.plot(*zip(*values, strict=True), "o-", label=CONTENDERS[name].title)
    what, _, axis = title.partition(": ")
    axes.set(title=what, xlabel=axis or "size", ylabel="median time per call / us")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.grid(which="both", alpha=0.2)
    axes.legend()
    return _saved(figure, path)


def _arenas(cases: dict[str, Result], path: Path) -> Path:
    """Bytes in use at each step of a model, under the size of its arena and of all its temporaries."""

    def temporaries(case: Result) -> float:
        return float(case["generate"]["arena_bytes"] * case["generate"]["reuse"])

    shown = sorted(cases.items(), key=lambda item: -temporaries(item[1]))[:ARENAS]
    figure, grid = _figure(9, 2.4 * ((len(shown) + 1) // 2), (len(shown) + 1) // 2, 2)
    for place, (name, case) in zip(grid.flat, shown, strict=False):
        made = case["generate"]
        place.stairs([b / 1e3 for b in made["live_bytes"]], fill=True, alpha=0.5, label="in use")
        place.axhline(made["arena_bytes"] / 1e3, color="k", lw=1, label="arena")
        place.set_title(f"{name}: all temporaries are {made['reuse']:.1f} arenas", fontsize=8)
        place.set_xlabel("step", fontsize=8)
        place.set_ylabel("kB", fontsize=8)
        place.tick_params(labelsize=7)
        place.set_ylim(0)
        place.legend(fontsize=6)
    for place in grid.flat[len(shown) :]:
        place.axis("off")
    return _saved(figure, path)


def _figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Any, Axes | Any]:
    from matplotlib import pyplot

    return pyplot.subplots(rows, columns, figsize=(width, height), layout="constrained")


def _saved(figure: Any, path: Path) -> Path:
    from matplotlib import pyplot

    figure.savefig(path, dpi=150)
    pyplot.close(figure)
    return path
