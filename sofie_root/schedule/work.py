"""How much work each step is: floating-point operations and bytes, for given sizes."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

from sofie_root.ir.dim import Dim
from sofie_root.program.expr import Call, Expr, walk
from sofie_root.program.nest import Nest
from sofie_root.program.operation import Operation, Resolve
from sofie_root.program.program import Buffer
from sofie_root.program.statement import Loop
from sofie_root.program.uses import all_vars, reads, writes

from .run import used_by
from .schedule import Schedule

MOVES = ("cast", "select", "guard")
"""Functions that compute nothing."""


def operations(schedule: Schedule, k: int, resolve: Resolve) -> int | None:
    """Floating-point operations of a step: each function of an expression is one, a multiply-add two.

    Args:
        schedule: what is run.
        k: number of the step.
        resolve: turns a size into its number.

    Returns:
        None for steps that are counted in other ways (sorting, control flow).

    Raises:
        KeyError: a size is known only when the model runs.
    """
    step = schedule.steps[k]
    if isinstance(step, Nest):
        return sum(_of_loop(loop, resolve) for loop in step.loops())
    if not isinstance(step, Operation):
        return None
    products = step.multiply_adds(resolve)
    if products is None:
        return None
    fused = step.epilogue
    if fused is None:
        return 2 * products
    return 2 * products + _of_expression(fused.body) * _points(
        (v.extent or 0 for v in fused.vars), resolve
    )


def _of_loop(loop: Loop, resolve: Resolve) -> int:
    extra = loop.reduction is not None or loop.update not in (None, "replace")
    points = _points((v.extent or 0 for v in all_vars(loop)), resolve)
    return (_of_expression(loop.body) + extra) * points


def _of_expression(body: Expr) -> int:
    return sum(1 for e in walk(body) if isinstance(e, Call) and e.function not in MOVES)


def _points(extents: Iterable[Dim], resolve: Resolve) -> int:
    return prod(resolve(d) for d in extents)


def transferred(schedule: Schedule, k: int, resolve: Resolve) -> int:
    """Bytes of all buffers that a step reads and writes, each counted once, workspaces not.

    Raises:
        KeyError: a size is known only when the model runs.
    """
    buffers = schedule.program.buffers
    names = used_by(schedule, k) - set(schedule.scratch.get(k, ()))
    return sum(
        resolve(buffers[n].numel) * buffers[n].dtype.size
        for n in names
        if buffers[n].kind != "results"
    )


def shapes(schedule: Schedule, k: int) -> str:
    """What a step reads and writes, as ``[N, 16], [16, 32] -> [N, 32]``; constants of nests are left out."""
    step, buffers = schedule.steps[k], schedule.program.buffers
    if isinstance(step, Nest):
        written = list(dict.fromkeys(loop.output for loop in step.loops()))
        inner = {*written, *step.locals}
        names = dict.fromkeys(n for loop in step.loops() for n in sorted(reads(loop)))
        given = [_text(buffers[n]) for n in names if n not in inner and _is_data(buffers[n])]
        made = [_text(buffers[n]) for n in written if n not in step.locals]
    else:
        given = [_shape(o.shape) for o in getattr(step, "inputs", ())]
        made = [_text(buffers[n]) for n in sorted(writes(step)) if _is_data(buffers[n])]
    return f"{', '.join(given)} -> {', '.join(made)}"


def _is_data(buffer: Buffer) -> bool:
    return buffer.kind not in ("constant", "results")


def _text(buffer: Buffer) -> str:
    return _shape(buffer.shape)


def _shape(dims: Iterable[Dim]) -> str:
    return f"[{', '.join(map(str, dims))}]"


__all__ = ["operations", "shapes", "transferred"]
