"""Composes views and cheap pointwise loops into the loops and kernels that read them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial

from sofie_root.ir.dim import (
    Dim,
    Symbol,
    at_least,
    depends_on,
    linear,
    product,
    single_atom,
    walk,
)
from sofie_root.ir.dtype import DType
from sofie_root.program import expr as ex
from sofie_root.program.expr import Call, Cell, Const, Expr, Load
from sofie_root.program.operation import Operand, Operation
from sofie_root.program.program import Program
from sofie_root.program.scalar import FUNCTIONS
from sofie_root.program.statement import Bind, Branch, Check, Loop, Repeat, Statement
from sofie_root.program.uses import all_vars, dim_reads, reads, writes

RECOMPUTE_COST = 4
"""A producer is recomputed in several readers, or several times in one, up to this cost."""
MAX_BODY = 160
"""A loop's expression never grows beyond this many nodes by inlining."""


@dataclass(slots=True)
class Decisions:
    """What the scheduler did and refused, for ``inspect``."""

    fused: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


def cost(expr: Expr) -> int:
    """A rough count of instructions: a read is 1, the table of functions says what each of them is."""
    total = 0
    for e in ex.walk(expr):
        if isinstance(e, Load):
            total += 1
        elif isinstance(e, Call):
            total += FUNCTIONS[e.function].cost
    return total


def size(expr: Expr) -> int:
    """Number of nodes of an expression."""
    return sum(1 for _ in ex.walk(expr))


def remove_dead_statements(program: Program) -> None:
    """Drops statements whose results nobody needs, and kernel outputs that nobody reads."""
    needed = set(program.outputs.values())
    kept: list[Statement] = []
    for statement in reversed(program.statements):
        if isinstance(statement, Bind | Check):
            needed |= reads(statement)
            kept.append(statement)
            continue
        if not writes(statement) & needed:
            continue
        if isinstance(statement, Operation) and not program.forms.form(statement).writes_all:
            outputs = tuple(o if o in needed else None for o in statement.outputs)
            statement = replace(statement, outputs=outputs)
        needed |= reads(statement)
        kept.append(statement)
    program.statements = kept[::-1]
    used = needed | set(program.inputs) | set(program.outputs.values())
    for statement in program.statements:
        used |= reads(statement) | writes(statement)
    program.buffers = {n: b for n, b in program.buffers.items() if n in used}
    program.constants = {n: a for n, a in program.constants.items() if n in used}


def compose_views(program: Program, decisions: Decisions) -> None:
    """Moves each view into the loops that read it; their order in memory then shows in their indices.

    Needs: any program. Leaves: loops that read through views of fixed or symbolic strides; the views
    stay for the operations that read them.
    """
    for at in range(len(program.statements)):
        view = program.statements[at]
        if not isinstance(view, Loop) or not view.is_view or program.writer(view.output) is None:
            continue
        if not _covers(program, view):
            continue
        for reader in program.readers(view.output):
            if isinstance(reader, Loop):
                origin = _join(view.origin, reader.origin)
                spliced = reader.map_loads(partial(_splice, producer=view))
                program.replace(reader, replace(spliced, origin=origin))


def inline(program: Program, decisions: Decisions) -> None:
    """Moves views, scalar constants and cheap or singly read pointwise loops into their readers.

    Needs: any program. Leaves: no view that a loop reads, and operands of operations that are strided
    views where the target takes them so.
    """
    from .epilogue import fuse_early

    _inline_scalar_constants(program)
    at = 0
    while at < len(program.statements):
        producer = program.statements[at]
        at += 1
        if not isinstance(producer, Loop) or producer.reduction:
            continue
        if program.writer(producer.output) is None or not _covers(program, producer):
            continue
        readers = program.readers(producer.output)
        if len(readers) > 1 and not producer.is_view and fuse_early(program, producer):
            at -= 1  # better once in the kernel than again in every reader
            continue
        if readers:
            _inline_producer(program, readers, producer, decisions)
            if (
                not program.readers(producer.output)
                and producer.output not in program.outputs.values()
            ):
                program.replace(producer)
                at -= 1
    remove_dead_statements(program)


def _inline_scalar_constants(program: Program) -> None:
    literals: dict[str, Const] = {}
    for name, array in program.constants.items():
        dtype = program.buffers[name].dtype
        if array.size == 1 and dtype.compute is dtype:
            literals[name] = ex.scalar(array.reshape(())[()], dtype)

    def literal(load: Load) -> Expr:
        return literals.get(load.buffer, load)

    for name in literals:
        for statement in program.readers(name):
            if isinstance(statement, Loop):
                program.replace(statement, statement.map_loads(literal))
            elif isinstance(statement, Bind):
                value = ex.map_loads(statement.value, literal)
                program.replace(statement, replace(statement, value=value))


def _covers(program: Program, loop: Loop) -> bool:
    """Whether the loop writes every element of its output at its own plain indices."""
    shape = program.buffers[loop.output].shape
    own = [i for i in loop.index if i != 0]
    return len(own) == len(loop.vars) and all(
        (i == 0 and d == 1)
        or (isinstance(a := single_atom(i), Symbol) and a.extent == d and a.is_index)
        for i, d in zip(loop.index, shape, strict=True)
    )


def _inline_producer(
    program: Program, readers: list[Statement], producer: Loop, decisions: Decisions
) -> None:
    view = producer.is_view
    price = cost(producer.body)
    loops: list[Loop] = []
    must_store = producer.output in program.outputs.values()
    for reader in readers:
        if isinstance(reader, Loop):
            loops.append(reader)
        elif isinstance(reader, Bind):
            if view:
                value = ex.map_loads(reader.value, partial(_splice, producer=producer))
                program.replace(reader, replace(reader, value=value))
        elif isinstance(reader, Operation | Branch | Repeat):
            composed = _compose_operands(program, producer, reader) if view else reader
            program.replace(reader, composed)
            must_store = must_store or producer.output in reads(composed)
    sites = sum(len({d.index for d in _sites(loop, producer)}) for loop in loops)
    body_size = size(producer.body)
    for loop in loops:
        places = _sites(loop, producer)
        once = sites == 1 and not must_store and _iterations(loop, program, producer)
        cheap = price <= RECOMPUTE_COST and not (_picks(places) and _reads_several(producer))
        grown = size(loop.body) + len(places) * body_size
        if view or ((once or cheap) and grown <= MAX_BODY):
            spliced = loop.map_loads(partial(_splice, producer=producer))
            program.replace(loop, replace(spliced, origin=_join(producer.origin, loop.origin)))
            if not view:
                decisions.fused.append(f"{_name(producer)} into {_name(loop)}")
        elif not view:
            reason = (
                f"the expression would have {grown} nodes"
                if grown > MAX_BODY
                else f"costs {price} per element and would be computed more than once"
            )
            decisions.refused.append(f"{_name(producer)} into {_name(loop)}: {reason}")


def _name(statement: Loop | Operation) -> str:
    return " + ".join(statement.origin) or str(writes(statement))


def _join(a: tuple[str, ...], b: tuple[str, ...]) -> tuple[str, ...]:
    return a + tuple(name for name in b if name not in a)


def _iterations(reader: Loop, program: Program, producer: Loop) -> bool:
    """Whether the reader evaluates its expression no more often than the producer has elements."""
    count = product(v.extent or 0 for v in all_vars(reader))
    return at_least(program.buffers[producer.output].numel, count)


def _sites(loop: Loop, producer: Loop) -> list[Load]:
    """The loop's reads of what the producer makes."""
    inside = [e for d in loop.index for e in ex.loads(ex.Index(DType.INT64, d))]
    return [d for d in (*ex.loads(loop.body), *inside) if d.buffer == producer.output]


def _picks(sites: list[Load]) -> bool:
    """Whether some read takes its position from data. Such reads may meet one element many times."""
    return any(isinstance(a, Cell) for load in sites for d in load.index for a in walk(d))


def _reads_several(producer: Loop) -> bool:
    return sum(isinstance(e, Load) for e in ex.walk(producer.body)) > 1


def _splice(load: Load, producer: Loop) -> Expr:
    """What the producer computes, where this reads its output; any other read as it is."""
    if load.buffer != producer.output:
        return load
    value = producer.at(load.index)
    assert value is not None, producer
    return ex.cast(value, load.dtype)


def _compose_operands(
    program: Program, view: Loop, reader: Operation | Branch | Repeat
) -> Operation | Branch | Repeat:
    inputs = []
    if isinstance(reader, Operation):
        form = program.forms.form(reader)
        layouts = [form.layout(name) for name in reader.operands]
    else:
        layouts = ["contiguous"] * len(reader.inputs)
    for operand, layout in zip(reader.inputs, layouts, strict=True):
        if operand.buffer == view.output:
            composed = _strided(program, view, operand)
            if composed is not None and composed.fits(layout):
                operand = composed
        inputs.append(operand)
    if isinstance(reader, Operation):
        return reader.with_inputs(inputs)
    return replace(reader, inputs=tuple(inputs))


def _strided(program: Program, view: Loop, operand: Operand) -> Operand | None:
    """The operand as a strided read of the view's source, or None where it is not one."""
    if operand.offset != 0 or operand.shape != program.buffers[view.output].shape:
        return None
    load = view.body
    assert isinstance(load, Load)
    flat: Dim = 0
    for i, stride in zip(load.index, program.buffers[load.buffer].strides, strict=True):
        flat = flat + i * stride
    strides: list[Dim] = []
    for target in view.index:
        atom = single_atom(target)
        if atom is None:
            strides.append(0)
            continue
        parts = linear(flat, atom)
        if parts is None:
            return None
        strides.append(parts[0])
        flat = parts[1]
    for v in view.vars:
        if any(depends_on(s, v) for s in (*strides, flat)):
            return None
    if dim_reads((flat, *strides)) or not all(at_least(d, 0) for d in (flat, *strides)):
        return None
    return Operand(load.buffer, operand.dtype, operand.shape, flat, tuple(strides))
