"""Questions to the results of a run: times, ratios, who was wrong, who could not run what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .models import TOLERANCE
from .peers import CONTENDERS, OURS

Result = dict[str, Any]
MAIN = "sofie-g++"
"""The contender whose ratios are compared with the bars."""
RIVALS = ("onnxruntime", "openvino")
"""The peers that no model should be slower or larger than."""


def median(case: Result, name: str, kind: str = "warm", what: str = "median") -> float | None:
    """A time in nanoseconds, or None; ``kind`` is warm or flushed, ``what`` median, min or spread."""
    found = case.get("measure", {}).get("results", {}).get(name)
    return None if found is None else float(found[kind][what])


def ratio(
    case: Result,
    name: str = MAIN,
    peer: str = "onnxruntime",
    kind: str = "warm",
    what: str = "median",
) -> float | None:
    """Time of a contender over that of a peer; None if one was not measured."""
    ours, theirs = (median(case, n, kind, what) for n in (name, peer))
    return None if ours is None or theirs is None else ours / theirs


def faster_rival(case: Result) -> str | None:
    """Which of :data:`RIVALS` is faster; one with wrong outputs does not count."""
    times = {n: t for n in RIVALS if (t := median(case, n)) is not None and not is_wrong(case, n)}
    return min(times, key=times.__getitem__) if times else None


def ratio_to_faster(case: Result) -> float | None:
    """Our time over that of the faster of :data:`RIVALS`."""
    rival = faster_rival(case)
    return None if rival is None else ratio(case, MAIN, rival)


def growth(case: Result, name: str) -> int | None:
    """Anonymous memory that a contender took for a model, in bytes."""
    found = case.get("probe", {}).get(name, {}).get("memory_bytes")
    return None if found is None else int(found)


def larger_than(case: Result, library_bytes: Mapping[str, int] | None = None) -> list[str]:
    """Those of :data:`RIVALS` that took less memory than we did.

    Args:
        case: of which model.
        library_bytes: what the peers take without a model, if that is not to count.
    """
    ours = growth(case, MAIN)
    without = library_bytes or {}
    theirs = {n: size - without.get(n, 0) for n in RIVALS if (size := growth(case, n)) is not None}
    return [] if ours is None else [n for n, size in theirs.items() if size < ours]


def is_wrong(case: Result, name: str) -> bool:
    """Whether a contender's outputs are too far off: fast is easy if wrong is allowed."""
    found = case.get("measure", {}).get("results", {}).get(name)
    return found is not None and not found["max_rel"] <= case.get("tolerance", TOLERANCE)


def measured(results: Result) -> list[str]:
    """The contenders for which any model has a time."""
    cases = results["cases"].values()
    return [n for n in CONTENDERS if any(median(c, n) for c in cases)]


def measured_peers(results: Result) -> list[str]:
    """Those of :func:`measured` that are not ours."""
    return [n for n in measured(results) if n not in OURS]


def summary(results: Result) -> list[str]:
    """What is asked of all models in some sentences, with the models that miss it."""
    cases: dict[str, Result] = results["cases"]
    library = results["machine"].get("library_bytes", {})
    ratios = {n: r for n, c in cases.items() if c.get("bar") and (r := ratio(c)) is not None}
    rivals = {n: r for n, c in cases.items() if (r := ratio_to_faster(c)) is not None}
    sizes = [n for n, c in cases.items() if any(growth(c, r) is not None for r in (MAIN, *RIVALS))]
    allocations = {
        n: count
        for n, c in cases.items()
        if (count := c.get("probe", {}).get(MAIN, {}).get("allocations")) is not None
    }
    sentences: dict[str, dict[str, str]] = {
        "bars met": {
            n: "" if r <= cases[n]["bar"] else f"{r:.2f}, bar {cases[n]['bar']:.2f}"
            for n, r in ratios.items()
        },
        "not slower than the faster of ONNX Runtime and OpenVINO": {
            n: "" if r <= 1 else f"{r:.2f} of {faster_rival(cases[n])}" for n, r in rivals.items()
        },
        "memory not larger than either's": {n: " ".join(larger_than(cases[n])) for n in sizes},
        "memory not larger even if what the peers take without a model does not count": {
            n: " ".join(larger_than(cases[n], library)) for n in sizes if library
        },
        "no allocation in a warm infer_to": {n: str(k or "") for n, k in allocations.items()},
    }
    return [_sentence(what, found) for what, found in sentences.items() if found]


def _sentence(what: str, misses: Mapping[str, str]) -> str:
    """How many of the models miss nothing, and by how much the others do."""
    bad = [f"{name} ({miss})" for name, miss in misses.items() if miss]
    names = f"; not: {', '.join(bad)}" if bad else ""
    return f"{what}: {len(misses) - len(bad)} of {len(misses)}{names}"


def problems(results: Result) -> list[str]:
    """Who could not run what, and why; one line for a reason that all models share."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for name, case in results["cases"].items():
        found = [("model", case), ("generate", case.get("generate", {}))]
        found += [*case.get("probe", {}).items(), ("timing", case.get("measure", {}))]
        found.append(("event loop", case.get("events", {})))
        for who, part in found:
            if "error" in part:
                reasons.setdefault((who, part["error"]), []).append(name)
    lines = []
    for (who, why), names in reasons.items():
        where = "all models" if len(names) == len(results["cases"]) else ", ".join(names)
        lines.append(f"{who}, {where}: not measured: {' '.join(why.split())[:400]}")
    for name, case in results["cases"].items():
        for who, part in case.get("measure", {}).get("results", {}).items():
            if is_wrong(case, who):
                lines.append(
                    f"{who}, {name}: WRONG by {part['max_rel']:.1e}; its time counts nothing"
                )
    notes = {
        f"{who}: {probe['overhead']}"
        for case in results["cases"].values()
        for who, probe in case.get("probe", {}).items()
        if probe.get("overhead")
    }
    return lines + sorted(notes)
