"""Tables of the results, for the terminal and for ``RESULTS.md``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich import box
from rich.console import Console
from rich.table import Table

from .findings import (
    MAIN,
    Result,
    faster_rival,
    growth,
    is_wrong,
    larger_than,
    measured,
    measured_peers,
    median,
    problems,
    ratio,
    ratio_to_faster,
    summary,
)
from .peers import CONTENDERS, OURS

Column = tuple[str, Callable[[Result], str]]
"""A title, and what stands there for a case."""


@dataclass(frozen=True)
class Sheet:
    """A table with a title and a line that says how to read it."""

    title: str
    note: str
    header: list[str]
    rows: list[list[str]]


def sheets(results: Result) -> list[Sheet]:
    """All tables; those in which nothing stands are left out."""
    every = [times, ratios, rounds, hardware, memory, correctness, first_calls, event_loops]
    return [sheet for make in every if (sheet := make(results)).rows]


def times(results: Result) -> Sheet:
    """Times and bars: what most readers want to see."""
    note = (
        "Median of interleaved rounds on one core, caches warm, through infer_to or the peer's C API "
        "(PyTorch through Python). 'ratio' is g++ over ONNX Runtime and 'bar' the largest one that was "
        "asked for; 'to the faster' is g++ over the faster of ONNX Runtime and OpenVINO. Below 1 "
        "sofie_root is faster. 'exact' forbids Winograd; it has a time where the code differs."
    )
    columns: list[Column] = [
        ("bar", lambda c: _number(c.get("bar"))),
        ("ratio", lambda c: _number(ratio(c))),
        ("met", lambda c: _met(ratio(c), c.get("bar"))),
        ("to the faster", lambda c: _number(ratio_to_faster(c))),
        ("which is", lambda c: faster_rival(c) or ""),
        ("exact bar", lambda c: _number(c.get("exact_bar"))),
        ("exact ratio", lambda c: _number(ratio(c, "sofie-exact"))),
        *((n, lambda c, n=n: _microseconds(median(c, n))) for n in measured(results)),
    ]
    return _sheet("Time per call", note, results, columns)


def ratios(results: Result) -> Sheet:
    """Ours over each peer."""
    peers = measured_peers(results)
    short = {"sofie-g++": "g++", "sofie-cling": "cling", "sofie-exact": "exact"}
    columns: list[Column] = [
        (f"{short[n]} / {p}", lambda c, n=n, p=p: _number(ratio(c, n, p)))
        for n in measured(results)
        for p in peers
        if n in OURS and (n == MAIN or p in ("onnxruntime", "openvino"))
    ]
    return _sheet("Ratio to each peer", "Of the medians, caches warm.", results, columns)


def rounds(results: Result) -> Sheet:
    """How sure the medians are, and what single calls cost."""
    few = [n for n in (MAIN, "onnxruntime", "openvino") if n in measured(results)]
    note = (
        "'min' is the fastest round; 'spread' the distance of the quartiles in percent of the median, "
        "over that many rounds. 'cold' is the median of single calls after as much other memory as "
        "twice the last-level cache has gone through the caches."
    )
    columns: list[Column] = [
        ("rounds", lambda c: str(c.get("measure", {}).get("rounds", ""))),
        *((f"min: {n}", lambda c, n=n: _microseconds(median(c, n, what="min"))) for n in few),
        *((f"min / {p}", lambda c, p=p: _number(ratio(c, peer=p, what="min"))) for p in few[1:]),
        *((f"spread: {n}", lambda c, n=n: _spread(c, n)) for n in few),
        *((f"cold: {n}", lambda c, n=n: _microseconds(median(c, n, "flushed"))) for n in few),
        *(
            (f"cold / {p}", lambda c, p=p: _number(ratio(c, peer=p, kind="flushed")))
            for p in few[1:]
        ),
    ]
    return _sheet("Fastest rounds, noise and cold caches", note, results, columns)


def hardware(results: Result) -> Sheet:
    """GFLOP/s and share of what the core can do."""
    note = (
        "MAC of the exported graph, so an algorithm that needs fewer (Winograd, products moved before "
        "a gather) can exceed 100 % of the peak. 'kB to read' are packed weights, inputs and outputs; "
        "the bandwidth is the one measured for a block of that size. 'floor' is the longer of the two "
        "times that arithmetic at the peak and reading once would take."
    )

    def roof(case: Result, what: str) -> float | None:
        found = case.get("measure", {}).get("roof", {}).get(what)
        return None if found is None else float(found)

    def macs(case: Result) -> float | None:
        return case.get("generate", {}).get("macs") if "roof" in case.get("measure", {}) else None

    def rate(case: Result, name: str) -> str:
        count, time = macs(case), median(case, name)
        return "" if not count or not time else f"{2 * count / time:.3g}"

    def share(case: Result, what: str) -> str:
        limit, time = roof(case, what), median(case, MAIN)
        return "" if limit is None or not time else f"{100 * limit / time:.0f} %"

    def floor(case: Result) -> float | None:
        limits = [t for what in ("flops_ns", "bytes_ns") if (t := roof(case, what)) is not None]
        return max(limits) if limits and median(case, MAIN) else None

    def bound(case: Result) -> str:
        if floor(case) is None:
            return ""
        return "arithmetic" if floor(case) == roof(case, "flops_ns") else "memory"

    columns: list[Column] = [
        ("10^6 MAC", lambda c: _scaled(macs(c), 1e6)),
        ("GFLOP/s", lambda c: rate(c, MAIN)),
        *(
            (f"{n}'s", lambda c, n=n: rate(c, n))
            for n in ("onnxruntime", "openvino")
            if n in measured(results)
        ),
        ("of FMA peak", lambda c: share(c, "flops_ns")),
        ("kB to read", lambda c: _scaled(roof(c, "bytes"), 1e3)),
        ("of bandwidth", lambda c: share(c, "bytes_ns")),
        ("bound by", bound),
        ("floor", lambda c: _microseconds(floor(c))),
        ("floor / onnxruntime", lambda c: _over(floor(c), median(c, "onnxruntime"))),
    ]
    return _sheet("Share of the hardware", note, results, columns)


def memory(results: Result) -> Sheet:
    """Bytes and allocations."""
    names = [n for n in measured(results) if n not in ("sofie-cling", "sofie-exact")]
    note = (
        "kB. 'reuse' is the sum of all temporaries over the arena. 'growth' is anonymous memory of a "
        "fresh process after its first calls (the libraries' own code is not counted), 'peak' the largest "
        "resident size on the way, code included; below about 300 kB both are noise. 'smaller' says "
        "whether our growth is below ONNX Runtime's and OpenVINO's (which hold "
        f"{_library(results)} without a model). "
        "'allocations' are those of one warm call: infer_to makes none."
    )

    def generated(case: Result, what: str) -> float | None:
        return case.get("generate", {}).get(what)

    def probe(case: Result, name: str, what: str) -> int | None:
        return case.get("probe", {}).get(name, {}).get(what)

    def smaller(case: Result) -> str:
        return "" if growth(case, MAIN) is None else "no" if larger_than(case) else "yes"

    columns: list[Column] = [
        ("arena", lambda c: _kilobytes(generated(c, "arena_bytes"))),
        ("reuse", lambda c: _number(generated(c, "reuse"))),
        ("weights", lambda c: _kilobytes(generated(c, "weight_bytes"))),
        *((f"growth: {n}", lambda c, n=n: _kilobytes(growth(c, n))) for n in names),
        ("smaller", smaller),
        *((f"peak: {n}", lambda c, n=n: _kilobytes(probe(c, n, "peak_bytes"))) for n in names),
        *((f"allocations: {n}", lambda c, n=n: _text(probe(c, n, "allocations"))) for n in names),
    ]
    return _sheet("Memory", note, results, columns)


def correctness(results: Result) -> Sheet:
    """How far each contender's outputs are from the reference."""
    note = (
        "Largest difference to ONNX Runtime without optimisation, relative to the largest output, of the "
        "outputs that the timed calls wrote."
    )
    columns: list[Column] = [(n, lambda c, n=n: _difference(c, n)) for n in measured(results)]
    return _sheet("Correctness", note, results, columns)


def first_calls(results: Result) -> Sheet:
    """From the file to the first result."""
    note = (
        "From the file to the first result in fresh processes (for cling, ROOT runs already): ours "
        "imports, parses, optimises, prints and compiles, with nothing cached. A program that includes "
        "a generated header pays none of it at run time."
    )

    def made(case: Result, what: str) -> float | None:
        return case.get("generate", {}).get(what)

    def first(case: Result, name: str) -> str:
        found = case.get("probe", {}).get(name, {}).get("first_call_s")
        before = [made(case, w) or 0.0 for w in ("load_s", "generate_s") if name in OURS]
        return "" if found is None else _seconds(found + sum(before))

    columns: list[Column] = [
        ("load", lambda c: _seconds(made(c, "load_s"))),
        ("generate", lambda c: _seconds(made(c, "generate_s"))),
        ("header, kB", lambda c: _kilobytes(made(c, "header_bytes"))),
        *((n, lambda c, n=n: first(c, n)) for n in measured(results)),
    ]
    return _sheet("First call", note, results, columns)


def event_loops(results: Result) -> Sheet:
    """Throughput of an RDataFrame."""
    note = (
        "RDataFrame over a TTree with one array column, define() with cling, one event at a time; "
        "median over fresh processes that take turns, each with 1 or more slots, booking and compiling "
        "subtracted. 'gain' is the rate over that of one slot; 1.85 are asked of two slots."
    )
    rows = []
    for name, case in results["cases"].items():
        loops = case.get("events", {}).get("loops", [])
        single = next((p["model"] for p in loops if p["slots"] == 1), None)
        for loop in loops:
            rate, read = loop["model"], loop["read"]
            slots = str(loop["slots"]) if loop["slots"] else "no multithreading"
            cost = 1e9 / rate - 1e9 / read if rate and read else None
            rows.append(
                [name, slots, _rate(read), _rate(rate), _over(rate, single), _microseconds(cost)]
            )
    header = ["model", "slots", "events/s, reading alone", "events/s, with the model", "gain"]
    return Sheet("Event loop", note, [*header, "model's share of an event"], rows)


def _sheet(title: str, note: str, results: Result, columns: Iterable[Column]) -> Sheet:
    """A row per model; without those that would be empty, and without empty columns."""
    kept = list(columns)
    table = [[name, *(cell(c) for _, cell in kept)] for name, c in results["cases"].items()]
    table = [row for row in table if any(row[1:])]
    used = [0, *(k for k in range(1, len(kept) + 1) if any(row[k] for row in table))]
    header = ["model", *(t for t, _ in kept)]
    rows = [[row[k] for k in used] for row in table]
    return Sheet(title, note, [header[k] for k in used], rows)


# ----------------------------------------------------------------------------------------------------
# Cells
# ----------------------------------------------------------------------------------------------------


def _met(reached: float | None, bar: float | None) -> str:
    return "" if reached is None or not bar else "yes" if reached <= bar else "no"


def _microseconds(ns: float | None) -> str:
    if ns is None:
        return ""
    if ns < 1e6:
        return f"{ns / 1e3:.3g} us" if ns < 1e5 else f"{ns / 1e3:.0f} us"
    return f"{ns / 1e6:.3g} ms"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _over(value: float | None, base: float | None) -> str:
    return "" if not value or not base else f"{value / base:.2f}"


def _scaled(value: float | None, unit: float) -> str:
    return "" if value is None else f"{value / unit:.3g}"


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _library(results: Result) -> str:
    found = results["machine"].get("library_bytes", {})
    return ", ".join(f"{n} {size / 1e3:.0f}" for n, size in found.items()) or "an unknown number"


def _rate(value: float | None) -> str:
    return "" if value is None else f"{value / 1e3:.0f} k"


def _seconds(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.2f} s" if value >= 0.1 else f"{value * 1e3:.1f} ms"


def _kilobytes(value: float | None) -> str:
    return "" if value is None else f"{value / 1e3:.0f}"


def _spread(case: Result, name: str) -> str:
    wide, middle = median(case, name, what="spread"), median(case, name)
    return "" if wide is None or not middle else f"{100 * wide / middle:.0f} %"


def _difference(case: Result, name: str) -> str:
    found = case.get("measure", {}).get("results", {}).get(name)
    if found is None:
        return ""
    return f"{found['max_rel']:.0e}{' WRONG' if is_wrong(case, name) else ''}"


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
    for line in [*problems(results), *summary(results)]:
        console.print(f"- {line}", markup=False)


def _style(sheet: Sheet, row: list[str]) -> str | None:
    if "met" not in sheet.header:
        return None
    return {"yes": "green", "no": "yellow"}.get(row[sheet.header.index("met")])


def write_markdown(results: Result, path: Path, plots: Iterable[Path] = ()) -> None:
    """Writes the tables, the machine and the command to ``RESULTS.md``."""
    m = results["machine"]
    versions = ", ".join(f"{k} {v}" for k, v in m["versions"].items())
    titles = ", ".join(f"{n} is {CONTENDERS[n].title}" for n in measured(results))
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
        f"- {titles}",
        "",
        *(f"- {line}" for line in summary(results)),
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
