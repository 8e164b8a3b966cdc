"""The order of a loop's indices, and the layout of the buffer that it fills.

The innermost index should be the one along which the loop reads and writes neighbours. Where that is not
the last axis of the buffer that the loop fills, and only loops read that buffer, its axes are put into the
order of the loop, so that the next reader finds neighbours too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from sofie_root.ir.dim import Atom, Dim, Symbol, as_poly, linear, single_atom, walk
from sofie_root.program import expr as ex
from sofie_root.program.builder import flat_index
from sofie_root.program.expr import Cell, Expr, Load
from sofie_root.program.program import Program
from sofie_root.program.statement import Loop
from sofie_root.program.uses import reads, writes
from sofie_root.schedule.inline import Decisions

STORE = 2.0
"""Weight of a store against that of a read: lanes that are stored far apart cost more than lanes read so."""
REDUCED_STORE = 0.5
"""The same in a reducing loop: it happens once for many reads."""
SHORT = 4
"""An index with so few values does not fill a vector."""


def order_loops(program: Program, decisions: Decisions) -> None:
    """Chooses innermost indices, and lays buffers out accordingly.

    One sweep along the statements: what a loop reads has its final layout by then.

    Needs: views composed into the loops that read them. Leaves: loops whose last index walks along
    memory most often, and buffers of the arena, touched by loops alone, in the order in which they are
    written.
    """
    uses: dict[str, list[int]] = defaultdict(list)
    last_writer: dict[str, int] = {}
    for k, statement in enumerate(program.statements):
        for name in writes(statement):
            last_writer[name] = k
        for name in reads(statement) | writes(statement):
            uses[name].append(k)
    for k, statement in enumerate(program.statements):
        if not isinstance(statement, Loop):
            continue
        name = statement.output
        free = _is_free(program, name, uses[name])
        if len(statement.vars) > 1:
            program.statements[k] = _ordered(program, statement, free)
        if free and last_writer[name] == k:
            _lay_out(program, name, uses[name])


def _is_free(program: Program, name: str, uses: list[int]) -> bool:
    """Whether only loops touch a buffer, so that its axes may be in any order."""
    buffer = program.buffers[name]
    return (
        buffer.kind == "arena"
        and len(buffer.shape) > 1
        and all(isinstance(program.statements[k], Loop) for k in uses)
    )


def _ordered(program: Program, loop: Loop, free: bool) -> Loop:
    """The loop with the index innermost that walks along memory most often."""
    last = loop.vars[-1]
    accesses = _accesses(program, loop, free)
    best, best_score = last, _score(accesses, last)
    fixed = _fixed(loop)
    for v in loop.vars[:-1]:
        if v in fixed:
            continue
        score = _score(accesses, v)
        if score > best_score:
            best, best_score = v, score
    if best is last:
        return loop
    return replace(loop, vars=(*(v for v in loop.vars if v is not best), best))


def _fixed(loop: Loop) -> set[Atom]:
    """The indices that must stay in their order: two iterations of a scatter may meet in one element.

    They do not where they differ in an index that is itself a coordinate of what is written.
    """
    if not loop.scatters:
        return set()
    free = {single_atom(d) for d in loop.index} - {a for d in loop.index for a in _cell_atoms(d)}
    return {v for v in loop.vars if v not in free}


def _cell_atoms(d: Dim) -> set[Atom]:
    return {a for cell in walk(d) if isinstance(cell, Cell) for a in walk(as_poly(cell))}


def _accesses(program: Program, loop: Loop, free: bool) -> list[tuple[Dim, float]]:
    """The position of each access of a loop in its buffer, and how much it counts.

    Args:
        program: where the buffers are.
        loop: whose accesses.
        free: whether its output will be stored in whatever order is best.
    """
    accesses: list[tuple[Dim, float]] = []
    short = any(isinstance(u.extent, int) and u.extent <= SHORT for u in loop.vars)
    for load in ex.loads(loop.body):
        position = flat_index(load.index, program.buffers[load.buffer].shape)
        # What is gathered lane by lane, whatever the order, does not count: few neighbours fill no vector.
        if not short or all(linear(position, u) is not None for u in loop.vars):
            accesses.append((position, 1.0))
    if not free or loop.reduction is not None:
        position = flat_index(loop.index, program.buffers[loop.output].shape)
        accesses.append((position, STORE if loop.reduction is None else REDUCED_STORE))
    return accesses


def _score(accesses: Sequence[tuple[Dim, float]], v: Symbol) -> float:
    """Accesses that are neighbours along the index, less those that are far apart."""
    return sum(weight * _along(position, v) for position, weight in accesses)


def _along(position: Dim, v: Symbol) -> float:
    parts = linear(position, v)
    if parts is None or parts[0] not in (0, 1):
        return -1.0
    return float(parts[0] == 1)


def _lay_out(program: Program, name: str, uses: list[int]) -> None:
    """Gives a buffer that only loops touch the axis order of the loops that fill it."""
    loops = [s for k in uses if isinstance(s := program.statements[k], Loop)]
    orders = {_axis_order(w) for w in loops if w.output == name}
    if len(orders) != 1:
        return
    order = orders.pop()
    if order is None or order == tuple(range(len(order))):
        return
    buffer = program.buffers[name]
    program.buffers[name] = replace(buffer, shape=tuple(buffer.shape[a] for a in order))

    def read(load: Load) -> Expr:
        if load.buffer != name:
            return load
        return replace(load, index=tuple(load.index[a] for a in order))

    for k in uses:
        s = program.statements[k]
        if isinstance(s, Loop):
            moved = s.map_loads(read)
            index = tuple(moved.index[a] for a in order) if s.output == name else moved.index
            program.statements[k] = replace(moved, index=index)


def _axis_order(loop: Loop) -> tuple[int, ...] | None:
    """The axes of the output in the order of the loop's indices; None where an axis is no plain index.

    Axes of extent 1 stay where they are; an axis that is filled piece by piece counts by its index.
    """
    position = {v: k for k, v in enumerate(loop.vars)}
    moving: list[tuple[int, int]] = []
    for axis, d in enumerate(loop.index):
        if d == 0:
            continue
        found = [v for v in loop.vars if (parts := linear(d, v)) is not None and parts[0] == 1]
        atom = single_atom(d)
        if len(found) != 1 and not isinstance(atom, Symbol):
            return None
        v = found[0] if found else atom
        if not isinstance(v, Symbol) or v not in position:
            return None
        moving.append((position[v], axis))
    if len(moving) != len(loop.vars):
        return None
    slots = sorted(axis for _, axis in moving)
    order = list(range(len(loop.index)))
    for slot, (_, axis) in zip(slots, sorted(moving), strict=True):
        order[slot] = axis
    return tuple(order)
