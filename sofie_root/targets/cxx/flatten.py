"""Reads and writes as one position in their buffer each: what C++ indexes memory with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from sofie_root.program import expr as ex
from sofie_root.program.builder import flat_index
from sofie_root.program.expr import Expr, Load
from sofie_root.program.nest import For, Nest
from sofie_root.program.statement import Loop
from sofie_root.schedule.schedule import Schedule


def flatten(node: For | Loop, schedule: Schedule, nest: Nest) -> For | Loop:
    """The same loops with every access as one position in its buffer."""
    if isinstance(node, For):
        return For(node.var, [flatten(child, schedule, nest) for child in node.body])
    shape = nest.locals.get(node.output, schedule.program.buffers[node.output]).shape
    flat = node.map_loads(_flattened(schedule, nest))
    return replace(flat, index=(flat_index(flat.index, shape),))


def flatten_expr(body: Expr, schedule: Schedule, nest: Nest | None = None) -> Expr:
    """An expression with every read at one position in its buffer."""
    return ex.map_loads(body, _flattened(schedule, nest))


def _flattened(schedule: Schedule, nest: Nest | None) -> Callable[[Load], Load]:
    def read(load: Load) -> Load:
        buffer = schedule.program.buffers[load.buffer]
        if nest is not None:
            buffer = nest.locals.get(load.buffer, buffer)
        return replace(load, index=(flat_index(load.index, buffer.shape),))

    return read
