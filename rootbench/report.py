"""Tables of the results: for the terminal, and ``RESULTS.md``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich import box
from rich.console import Console
from rich.table import Table

from .models import TOLERANCE
from .peers import CONTENDERS, OURS

Result = dict[str, Any]
NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Sheet:
    """A table with a title and a line that says how to read it."""

    title: str
    note: str
    header: list[str]
    rows: list[list[str]]


def ratio(case: Result, name: str, peer: str = "onnxruntime", kind: str = "warm") -> float | None:
    """Median time of a contender over that of a peer; None if one was not measured."""
    times = [median(case, n, kind) for n in (name, peer)]
    return None if None in times else times[0] / times[1]  # type: ignore[operator]


def median(case: Result, name: str, kind: str = "warm", what: str = "median") -> float | None:
    """A time in nanoseconds, or None."""
    found = case.get("measure", {}).get("results", {}).get(name)
    return None if found is None else float(found[kind][what])


def measured_peers(results: Result) -> list[str]:
    """The peers for which any model has a time."""
    cases = results["cases"].values()
    return [n for n in CONTENDERS if n not in OURS and any(median(c, n) for c in cases)]


def sheets(results: Result) -> list[Sheet]:
    """All tables."""
    every = [times, hardware, memory, first_calls, event_loops]
    return [sheet for make in every if (sheet := make(results)).rows]


def times(results: Result) -> Sheet:
    """Times and ratios."""
    peers = measured_peers(results)
    header = ["model", *OURS, *peers, *(f"g++ / {p}" for p in peers)]
    header += ["cling / onnxruntime", "bar", "met", "min / min", "cold"]
    rows = []
    for name, case in results["cases"].items():
        row = [name, *(_time(case, n) for n in (*OURS, *peers))]
        row += [_number(ratio(case, "sofie-g++", p)) for p in peers]
        reached = ratio(case, "sofie-g++")
        row += [_number(ratio(case, "sofie-cling")), _number(case.get("bar"))]
        row.append("" if reached is None or not case.get("bar") else _met(reached, case["bar"]))
        fastest = [median(case, n, what="min") for n in ("sofie-g++", "onnxruntime")]
        row.append(_number(fastest[0] / fastest[1] if all(fastest) else None))  # type: ignore[operator]
        row.append(_number(ratio(case, "sofie-g++", kind="flushed")))
        rows.append(row)
    note = (
        "Median of interleaved rounds on one core, caches warm; ratios below 1 mean that sofie_root is "
        "faster. 'bar' is the ratio to ONNX Runtime that is to be reached by g++; 'min / min' compares "
        "the fastest rounds; 'cold' is the ratio for single calls after the caches were flushed."
    )
    return Sheet("Time per call", note, header, rows)


def hardware(results: Result) -> Sheet:
    """GFLOP/s and share of what the core can do."""
    rows = []
    for name, case in results["cases"].items():
        limit = case.get("measure", {}).get("roof")
        time = median(case, "sofie-g++")
        if limit is None or time is None:
            continue
        macs = case.get("generate", {}).get("macs")
        peer = median(case, "onnxruntime")
        flops_ns = limit["flops_ns"]
        bound = max(flops_ns or 0.0, limit["bytes_ns"])
        rows.append(
            [
                name,
                "" if macs is None else f"{macs / 1e6:.3g}",
                "" if macs is None else f"{2 * macs / time:.3g}",
                "" if macs is None or peer is None else f"{2 * macs / peer:.3g}",
                "" if flops_ns is None else f"{100 * flops_ns / time:.0f} %",
                f"{limit['bytes'] / 1e3:.3g}",
                f"{100 * limit['bytes_ns'] / time:.0f} %",
                "arithmetic" if bound == flops_ns else "memory",
                _microseconds(bound),
            ]
        )
    header = ["model", "10^6 MAC", "GFLOP/s", "ONNX Runtime's", "of FMA peak", "kB to read"]
    header += ["of bandwidth", "bound by", "floor"]
    note = (
        "MAC of the exported graph, so an algorithm that needs fewer (Winograd, products moved before "
        "a gather) can exceed 100 % of the peak. 'kB to read' are packed weights, inputs and outputs; "
        "the bandwidth is the one measured for a block of that size."
    )
    return Sheet("Share of the hardware", note, header, rows)


def memory(results: Result) -> Sheet:
    """Bytes, and whether the numbers are right."""
    peers = measured_peers(results)
    rows = []
    for name, case in results["cases"].items():
        made = case.get("generate", {})
        row = [name, _kilobytes(made.get("arena_bytes")), _number(made.get("reuse"))]
        row.append(_kilobytes(made.get("weight_bytes")))
        for contender in ("sofie-g++", *peers):
            probe = case.get("probe", {}).get(contender, {})
            row.append(_kilobytes(probe.get("memory_bytes")))
        for contender in ("sofie-g++", "onnxruntime"):
            probe = case.get("probe", {}).get(contender, {})
            row.append(_kilobytes(probe.get("peak_bytes")))
            row.append(_integer(probe.get("allocations")))
        row += [_difference(case, n) for n in (*OURS, *peers)]
        rows.append(row)
    header = ["model", "arena", "reuse", "weights", "growth: sofie-g++"]
    header += [f"growth: {p}" for p in peers]
    for contender in ("sofie-g++", "onnxruntime"):
        header += [f"peak: {contender}", f"allocations: {contender}"]
    header += [f"error: {n}" for n in (*OURS, *peers)]
    note = (
        "kB. 'reuse' is the sum of all temporaries over the arena. 'growth' is anonymous memory of a "
        "fresh process after its first calls (the libraries' own code is not counted), 'peak' the largest "
        "resident size on the way, code included; below about 300 kB both are noise. "
        "'allocations' are those of one warm call. 'error' is the "
        "largest difference to ONNX Runtime without optimisation, relative to the largest output."
    )
    return Sheet("Memory and correctness", note, header, rows)


def first_calls(results: Result) -> Sheet:
    """From the file to the first result."""
    rows = []
    for name, case in results["cases"].items():
        made = case.get("generate", {})
        if "load_s" not in made:
            continue
        before = made["load_s"] + made["generate_s"]
        row = [name, _seconds(made["load_s"]), _seconds(made["generate_s"])]
        row.append(f"{made['header_bytes'] / 1e3:.0f} kB")
        for contender in (*OURS, *measured_peers(results)):
            found = case.get("probe", {}).get(contender, {}).get("first_call_s")
            extra = before if contender in OURS else 0.0
            row.append("" if found is None else _seconds(found + extra))
        rows.append(row)
    header = ["model", "load", "generate", "header", *OURS, *measured_peers(results)]
    note = (
        "From the file to the first result in fresh processes (for cling, ROOT runs already): ours "
        "imports, parses, optimises, prints and compiles, with nothing cached. A program that includes "
        "a generated header pays none of it at run time."
    )
    return Sheet("First call", note, header, rows)


def event_loops(results: Result) -> Sheet:
    """Throughput of an RDataFrame."""
    rows = []
    for name, case in results["cases"].items():
        loops = case.get("events", {}).get("loops", [])
        single = next((p["model"] for p in loops if p["slots"] == 1), None)
        for loop in loops:
            rate = loop["model"]
            gain = rate / single if rate and single else None
            slots = str(loop["slots"]) if loop["slots"] else "no multithreading"
            rows.append([name, slots, _rate(loop["read"]), _rate(rate), _number(gain)])
    header = [
        "model",
        "slots",
        "events/s, reading alone",
        "events/s, with the model",
        "over one slot",
    ]
    note = (
        "RDataFrame over a TTree with one array column, define() with cling, one event at a time. Not "
        "pinned; booking and compiling are subtracted."
    )
    return Sheet("Event loop", note, header, rows)


def is_wrong(case: Result, name: str) -> bool:
    """Whether a contender's outputs are too far off: fast is easy if wrong is allowed."""
    found = case.get("measure", {}).get("results", {}).get(name)
    return found is not None and not found["max_rel"] <= case.get("tolerance", TOLERANCE)


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
        lines.append(f"{who}, {where}: {NOT_MEASURED}: {' '.join(why.split())[:400]}")
    for name, case in results["cases"].items():
        for who, part in case.get("measure", {}).get("results", {}).items():
            if is_wrong(case, who):
                lines.append(
                    f"{who}, {name}: WRONG by {part['max_rel']:.1e}; its time counts nothing"
                )
    overheads = {
        f"{who}: {probe['overhead']}"
        for case in results["cases"].values()
        for who, probe in case.get("probe", {}).items()
        if probe.get("overhead")
    }
    return lines + sorted(overheads)


# ----------------------------------------------------------------------------------------------------
# Cells
# ----------------------------------------------------------------------------------------------------


def _met(reached: float, bar: float) -> str:
    return "yes" if reached <= bar else "no"


def _time(case: Result, name: str) -> str:
    value = median(case, name)
    return "" if value is None else _microseconds(value)


def _microseconds(ns: float) -> str:
    if ns < 1e6:
        return f"{ns / 1e3:.3g} us" if ns < 1e5 else f"{ns / 1e3:.0f} us"
    return f"{ns / 1e6:.3g} ms"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _integer(value: int | None) -> str:
    return "" if value is None else str(value)


def _rate(value: float | None) -> str:
    return "" if value is None else f"{value / 1e3:.0f} k"


def _seconds(value: float) -> str:
    return f"{value:.2f} s" if value >= 0.1 else f"{value * 1e3:.1f} ms"


def _kilobytes(value: float | None) -> str:
    return "" if value is None else f"{value / 1e3:.0f}"


def _difference(case: Result, name: str) -> str:
    found = case.get("measure", {}).get("results", {}).get(name)
    if found is None:
        return ""
    mark = " WRONG" if is_wrong(case, name) else ""
    return f"{found['max_rel']:.0e}{mark}"


# ----------------------------------------------------------------------------------------------------
# Output
# ----------------------------------------------------------------------------------------------------


def show(results: Result, console: Console) -> None:
    """Prints the tables."""
    for sheet in sheets(results):
        table = Table(
            title=sheet.title, caption=sheet.note, box=box.SIMPLE_HEAD, caption_justify="left"
        )
        for k, title in enumerate(sheet.header):
            side: Literal["left", "right"] = "left" if k == 0 else "right"
            table.add_column(title, justify=side, no_wrap=k == 0, overflow="fold")
        for row in sheet.rows:
            table.add_row(*row, style=_style(sheet, row))
        console.print(table)
    for line in problems(results):
        console.print(f"- {line}", markup=False)


def _style(sheet: Sheet, row: list[str]) -> str | None:
    if "met" not in sheet.header:
        return None
    return {"yes": "green", "no": "yellow"}.get(row[sheet.header.index("met")])


def write_markdown(results: Result, path: Path, plots: Iterable[Path] = ()) -> None:
    """Writes the tables, the machine and the command to ``RESULTS.md``."""
    m = results["machine"]
    versions = ", ".join(f"{k} {v}" for k, v in m["versions"].items())
    lines = [
        "# Results",
        "",
        f"Written by `{m['command']}` at {m['date']}; sofie_root at commit {m['commit']}.",
        "",
        f"- {m['cpu']}, {m['cores']} cores; everything ran pinned to core {m['core']}; load average "
        f"before the run {m['load_average']:.2f}",
        f"- {m['system']}, {m['compiler']}, Python {m['python']}, {versions}",
        f"- measured on that core: FMA peak {m['peak_gflops']:.0f} GFLOP/s, reads from memory "
        f"{m['dram_gbytes_per_s']:.0f} GB/s",
        "",
    ]
    for plot in plots:
        where = plot.relative_to(path.parent).as_posix()
        lines += [f"![{plot.stem.replace('_', ' ')}]({where})", ""]
    for sheet in sheets(results):
        lines += [f"## {sheet.title}", "", sheet.note, "", *_markdown_table(sheet), ""]
    if found := problems(results):
        lines += ["## Not measured, and notes", "", *(f"- {p}" for p in found), ""]
    path.write_text("\n".join(lines), encoding="utf-8")


def _markdown_table(sheet: Sheet) -> list[str]:
    def line(cells: Iterable[str]) -> str:
        return "| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |"

    align: Callable[[int], str] = lambda k: "---" if k == 0 else "---:"  # noqa: E731
    rule = line(align(k) for k in range(len(sheet.header)))
    return [line(sheet.header), rule, *map(line, sheet.rows)]
