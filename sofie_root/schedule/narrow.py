"""A product with one column is a sum per row.

A register tile of the matrix kernel would compute a whole vector of columns for the one that is wanted; a
sum runs over vectors of the row instead, and joins the loop that makes the row.
"""

from __future__ import annotations

from sofie_root.ir.dim import Atom, Dim, Symbol, as_poly, product, single_atom
from sofie_root.ir.dtype import DType
from sofie_root.program import expr as ex
from sofie_root.program.builder import Builder, reshape_index
from sofie_root.program.expr import Load
from sofie_root.program.operations.matmul import Linear
from sofie_root.program.program import Buffer, Program
from sofie_root.program.statement import Loop, Reduction, Statement

from .epilogue import index_of, with_acc
from .inline import Decisions

ROW = 8
"""Shorter rows stay products: their sums would spend their time on adding up lanes."""


def sum_narrow_products(program: Program, decisions: Decisions) -> None:
    """Makes loops of products by a constant column; see the module's text.

    Needs: linear maps with their weights as in the model. Leaves: no linear map with one column and
    long rows.
    """
    statements: list[Statement] = []
    for statement in program.statements:
        if isinstance(statement, Linear):
            sums = _as_sums(program, statement)
            if sums:
                decisions.fused.append(f"{' + '.join(statement.origin)} is a sum per row")
            statements += sums or [statement]
        else:
            statements.append(statement)
    program.statements = statements


def _as_sums(program: Program, kernel: Linear) -> list[Loop]:
    """The loop that adds up and, for an epilogue, one more; none where it stays a product."""
    operand, out = kernel.x, kernel.outputs[0]
    buffer, length = program.buffers[operand.buffer], operand.shape[-1]
    if out is None or kernel.n != 1 or buffer.dtype is not DType.FLOAT:
        return []
    if operand.offset != 0 or not operand.fits("contiguous"):
        return []
    if not isinstance(length, int) or buffer.numel != product(operand.shape):
        return []
    if not program.choice.specialised(length >= ROW):
        return []
    column = Builder(program).constant(
        program.constants[kernel.w.buffer][:, 0], f"{kernel.w.buffer}.column"
    )
    rows = tuple(Symbol(f"{out}.s{axis}", d) for axis, d in enumerate(operand.shape[:-1]))
    along = as_poly(Symbol(f"{out}.k", length)) if length != 1 else 0
    at: tuple[Dim, ...] = tuple(index_of(v) for v in rows)
    place = reshape_index((*at, along), operand.shape, buffer.shape)
    term = Load(DType.FLOAT, buffer.name, place) * Load(DType.FLOAT, column.buffer, (along,))
    used = tuple(v for v in rows if v.extent != 1)
    over = single_atom(along)
    reduction = Reduction("sum", (over,)) if isinstance(over, Symbol) else None
    target = reshape_index((*at, 0), (*operand.shape[:-1], 1), program.buffers[out].shape)
    if kernel.fused is None:
        return [Loop(out, used, target, term, reduction, kernel.origin)]
    total = program.fresh(f"{out}.sum")
    program.buffers[total] = Buffer(total, DType.FLOAT, tuple(v.extent or 1 for v in used))
    own = tuple(as_poly(v) for v in used)
    mapping: dict[Atom, Dim] = dict(zip(kernel.fused.vars, (*at, 0), strict=True))
    body = ex.substitute_dims(kernel.fused.body, mapping)
    body = with_acc(body, Load(DType.FLOAT, total, own))
    return [
        Loop(total, used, own, term, reduction, kernel.origin),
        Loop(out, used, target, body, None, kernel.origin),
    ]
