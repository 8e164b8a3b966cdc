"""``sofie-root inspect``: what was done to a model on its way to C++."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from .commands import load_model, sizes_of
from .terminal import section, shape_text, size_text, status, table, write

if TYPE_CHECKING:
    from sofie_root.model import InspectReport
    from sofie_root.schedule.schedule import Schedule


def inspect_model(options: argparse.Namespace) -> int:
    """Prints what a model is, and as much of what was done to it as ``-v`` asks for."""
    model = load_model(options, sizes_of(options))
    with status(f"optimising {model.name}"):
        report = model.report()
    tensors = [("input", *pair) for pair in model.inputs.items()]
    tensors += [("output", *pair) for pair in model.outputs.items()]
    table(
        f"{model.name}: inputs and outputs",
        ("", "name", "dtype", "shape"),
        [(kind, name, str(t.dtype), shape_text(t.shape)) for kind, name, t in tensors],
    )
    counts = Counter(node.op.name for node in model.graph.all_nodes())
    operators = [(name, str(count)) for name, count in sorted(counts.items())]
    inside = counts.total() - len(model.graph.nodes)
    table(
        f"{counts.total()} nodes" + (f", {inside} of them in bodies" if inside else ""),
        ("operator", "nodes"),
        operators,
    )
    table("dims and memory", ("", ""), _facts(report))
    _run_time(report.schedule)
    passes = [(p.name, str(len(p.changes)), str(len(p.refusals))) for p in report.passes]
    table("passes", ("pass", "changes", "refused"), passes)
    write(f"fusion: {len(report.fused)} joined, {len(report.refused)} refused")
    if not options.verbose:
        write("(-v lists the changes, what was fused and what was refused; -vv adds the program)")
        return 0
    section("changes", [f"{p.name}: {c.node}: {c.text}" for p in report.passes for c in p.changes])
    refusals = [(p.name, r) for p in report.passes for r in p.refusals]
    section("refused", [f"{name}: {r.operator} {r.node}: {r.reason}" for name, r in refusals])
    section("fused", report.fused)
    section("not fused", report.refused)
    if options.verbose > 1:
        section("graph", str(model.graph).splitlines())
        for title, schedule in _programs("program", report.schedule):
            section(title, str(schedule).splitlines())
    return 0


def _programs(title: str, schedule: Schedule) -> Iterator[tuple[str, Schedule]]:
    """A scheduled program and the bodies inside it, with titles."""
    yield title, schedule
    for name, bodies in schedule.bodies.items():
        for k, body in enumerate(bodies):
            kind = ("then", "else")[k] if len(bodies) == 2 else "body"
            yield from _programs(f"{kind} of {name.removesuffix('.results')}", body)


def _facts(report: InspectReport) -> list[tuple[str, str]]:
    """What the generated code needs at run time."""
    symbols = list(report.symbols)
    facts = [("symbolic dims", ", ".join(symbols) or "none")]
    facts.append(("weights", size_text(report.weight_bytes)))
    plan = report.schedule.plan
    for size in (1, 16) if symbols else (0,):
        where = (
            f" at {', '.join(f'{s}={size}' for s in symbols)}"
            if len(symbols) < 4
            else (f" at {size} of each")
        )
        facts.append((f"arena{where if symbols else ''}", _arena(report.schedule, size)))
    if plan.growing:
        count = len(plan.growing)
        facts.append(("beside the arena", f"{count} buffers whose size is known at run time only"))
    return facts


def _arena(schedule: Schedule, size: int) -> str:
    """Bytes of temporaries where every size symbol has that size."""
    from sofie_root.ir.dim import value_of

    plan = schedule.plan
    used = plan.arena_bytes({s.name: size for s in schedule.symbols})
    total = value_of(plan.intermediates, lambda _: size)
    return f"{size_text(used)} for {size_text(total)} of intermediates"


def _run_time(schedule: Schedule) -> None:
    """What only the run tells: sizes, what must hold of sizes, and which bodies run."""
    from sofie_root.program.statement import Bind, Branch, Check, Repeat

    sizes: list[tuple[str, str]] = []
    checks: list[tuple[str, str]] = []
    bodies: list[tuple[str, ...]] = []

    def visit(schedule: Schedule, depth: int) -> None:
        for step in schedule.steps:
            if isinstance(step, Bind):
                sizes.append((str(step.symbol), ", ".join(step.origin)))
            elif isinstance(step, Check):
                checks.append((step.demand, step.why))
            elif isinstance(step, Branch | Repeat):
                kinds = ("then", "else") if isinstance(step, Branch) else ("body",)
                for kind, body in zip(kinds, schedule.bodies[step.name], strict=True):
                    name = "  " * depth + ", ".join(step.origin)
                    shapes = ", ".join(
                        shape_text(body.program.buffers[o].shape)
                        for o in body.program.outputs.values()
                    )
                    arena = _arena(body, 16 if body.symbols else 0)
                    bodies.append((name, kind, str(len(body.steps)), shapes, arena))
                    visit(body, depth + 1)

    visit(schedule, 0)
    if sizes:
        table("data-dependent dims", ("dim", "found by"), sizes)
    if checks:
        table("checked when the model runs", ("must hold", "because of"), checks)
    if bodies:
        columns = ("node", "body", "steps", "gives", "arena (symbolic dims: 16)")
        table("control flow", columns, bodies)
