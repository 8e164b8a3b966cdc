"""The whole way from a Graph to what a target prints: lower, the stages, nest, plan."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeAlias

from sofie_root.ir import Graph
from sofie_root.ir.dim import Dim, Symbol, as_poly
from sofie_root.program.choice import Choice
from sofie_root.program.expr import Load
from sofie_root.program.lower import lower
from sofie_root.program.nest import Nest, Step
from sofie_root.program.operation import Operation
from sofie_root.program.program import Buffer, Program
from sofie_root.program.statement import Branch, Loop, Repeat
from sofie_root.program.uses import reads, writes

from .finite import name_nodes, needs_infinity
from .inline import Decisions, remove_dead_statements
from .memory import Lifetime, Plan, plan

if TYPE_CHECKING:
    from sofie_root.targets.base import Target


@dataclass(slots=True)
class Schedule:
    """A program ready to be printed.

    Attributes:
        target: for which it was made, and which prints it.
        program: buffers, constants, inputs and outputs.
        steps: nests, kernels, run-time sizes and checks in order.
        plan: the arena.
        symbols: size symbols that the caller passes, in order of first use.
        scratch: buffer names of the workspaces of each kernel, by index of its step.
        decisions: what was fused and what was refused with the reason.
        bodies: the scheduled bodies of each branch and repetition, by its name.
        needs_infinity: why nodes need NaN or infinity, by their names.
    """

    target: Target
    program: Program
    steps: list[Step]
    plan: Plan
    symbols: list[Symbol]
    scratch: dict[int, list[str]]
    decisions: Decisions
    bodies: dict[str, tuple[Schedule, ...]] = field(default_factory=dict)
    needs_infinity: dict[str, str] = field(default_factory=dict)

    @property
    def weight_bytes(self) -> int:
        """Bytes of all constants, packed as the kernels read them."""
        own = sum(int(a.nbytes) for a in self.program.constants.values())
        return own + sum(b.weight_bytes for bodies in self.bodies.values() for b in bodies)

    def live_bytes(self, sizes: Mapping[str, int]) -> list[int]:
        """Bytes of the arena that each step finds or leaves in use, for these sizes of the symbols."""
        lifetimes = _lifetimes(self.program, self.steps, self.scratch)
        return self.plan.live_bytes(lifetimes, len(self.steps), sizes)

    def __str__(self) -> str:
        lines = [f"symbols {', '.join(f'{s} >= 0' for s in self.symbols)}"] if self.symbols else []
        lines += [f"const   {self.program.buffers[n]}" for n in self.program.constants]
        lines += [f"arena   {self.program.buffers[n]} @ {o}" for n, o in self.plan.offsets.items()]
        lines += [f"grows   {self.program.buffers[n]}" for n in self.plan.growing]
        lines.append(f"# arena {self.plan.total} bytes, reuse {self.plan.reuse():.2f}")
        for step in self.steps:
            if isinstance(step, Nest):
                lines.append(f"nest  # {', '.join(step.origin)}")
                for node in step.body:
                    lines += _nest_lines(node, 1, set(step.locals))
            else:
                origin = ", ".join(getattr(step, "origin", ()))
                lines.append(f"{step}" + (f"  # {origin}" if origin else ""))
        return "\n".join(lines)


def _nest_lines(node: object, depth: int, local: set[str]) -> list[str]:
    pad = "    " * depth
    if isinstance(node, Loop):
        mark = "row " if node.output in local else ""
        target = f"{node.output}[{', '.join(map(str, node.index))}]"
        if node.reduction:
            over = " ".join(f"{v} < {v.extent}" for v in node.reduction.vars)
            return [f"{pad}{mark}{target} = {node.reduction.kind}[{over}] {node.body}"]
        return [f"{pad}{mark}{target} = {node.body}"]
    lines = [f"{pad}for {node.var} < {node.extent}:"]  # type: ignore[attr-defined]
    for child in node.body:  # type: ignore[attr-defined]
        lines += _nest_lines(child, depth + 1, local)
    return lines


Stage: TypeAlias = Callable[[Program, Decisions], None]
"""Changes a program in place, keeps what it means, and notes what it did and refused."""


def store_outputs(program: Program, decisions: Decisions) -> None:
    """Gives every public output a buffer of its own that is written in full by one of the statements.

    Needs: any program. Leaves: outputs that are written and are no views, so that no later stage leaves
    one out; statements that nobody needs are gone.
    """
    taken: set[str] = set()
    written = Counter(name for s in program.statements for name in writes(s))
    views = {
        s.output
        for s in program.statements
        if isinstance(s, Loop) and s.is_view and written[s.output] == 1
    }
    for public, name in list(program.outputs.items()):
        buffer = program.buffers[name]
        if name in taken or name not in written or name in views or buffer.kind != "arena":
            name = _copy(program, public, buffer)
        taken.add(name)
        program.outputs[public] = name
        program.buffers[name] = replace(program.buffers[name], kind="output")
    remove_dead_statements(program)


def schedule(graph: Graph, target: Target, choice: Choice | None = None) -> Schedule:
    """Lowers and schedules a graph.

    Args:
        graph: an optimised graph.
        target: what it is scheduled for.
        choice: which kernels may be used; the default leaves it to cost models.

    Returns:
        The schedule; printing it (``str``) gives the text form of its steps.
    """
    program = lower(graph, choice, target)
    decisions = Decisions()
    infinite = needs_infinity(program)
    for stage in target.stages:
        stage(program, decisions)
    steps = target.nest(program, decisions)
    symbols = graph.symbols()
    scratch = _add_scratch(target, program, steps)
    return Schedule(
        target,
        program,
        steps,
        plan(_lifetimes(program, steps, scratch), set(symbols)),
        symbols,
        scratch,
        decisions,
        {
            step.name: tuple(schedule(body, target, choice) for body in step.bodies)
            for step in steps
            if isinstance(step, Branch | Repeat)
        },
        name_nodes(infinite, needs_infinity(program)),
    )


def _copy(program: Program, public: str, source: Buffer) -> str:
    name = program.fresh(public)
    program.buffers[name] = Buffer(name, source.dtype, source.shape)
    variables = tuple(Symbol(f"{name}.c{axis}", d) for axis, d in enumerate(source.shape) if d != 1)
    rest = iter(variables)
    index: tuple[Dim, ...] = tuple(0 if d == 1 else as_poly(next(rest)) for d in source.shape)
    program.statements.append(
        Loop(
            name,
            variables,
            index,
            Load(source.dtype, source.name, index),
            None,
            (f"output {public}",),
        )
    )
    return name


def _add_scratch(target: Target, program: Program, steps: list[Step]) -> dict[int, list[str]]:
    names: dict[int, list[str]] = {}
    for k, step in enumerate(steps):
        if isinstance(step, Operation):
            for size, dtype in target.workspaces(step):
                name = program.fresh(f"workspace.{k}")
                program.buffers[name] = Buffer(name, dtype, (size,))
                names.setdefault(k, []).append(name)
    return names


def _lifetimes(
    program: Program, steps: list[Step], scratch: dict[int, list[str]]
) -> list[Lifetime]:
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for k, step in enumerate(steps):
        if isinstance(step, Nest):
            used: Set[str] = set().union(*(reads(loop) | {loop.output} for loop in step.loops()))
            used = used - set(step.locals)
        elif isinstance(step, Operation):
            used = reads(step) | writes(step) | set(scratch.get(k, ()))
        else:
            used = reads(step) | writes(step)
        for name in used:
            first.setdefault(name, k)
            last[name] = k
    return [
        Lifetime(buffer, first[name], last[name])
        for name, buffer in program.buffers.items()
        if buffer.kind == "arena" and name in first
    ]
