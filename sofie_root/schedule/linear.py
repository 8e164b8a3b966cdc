"""Moves a linear map before the gather, tile or concatenation that feeds it, where that is less work.

A product with constant weights commutes with everything that only picks rows: for an edge network,
``[x_i, x_j - x_i] W`` is ``x_i (W_1 - W_2) + x_j W_2``, two products over the points instead of one over
all pairs, and a loop that adds the rows which the pairs pick. The loops that fill the operand say
which rows are picked, so that this module needs no names of operators. Two linear maps become one where the
second is the only reader of the first.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from sofie_root.ir.dim import (
    Atom,
    Dim,
    Symbol,
    as_poly,
    depends_on,
    linear,
    product,
    single_atom,
    size_symbols,
    walk,
)
from sofie_root.ir.dtype import DType
from sofie_root.ir.types import Shape, TensorType
from sofie_root.program import expr as ex
from sofie_root.program.builder import Builder, Tensor, reshape_index
from sofie_root.program.expr import Call, Cell, Const, Expr, Load
from sofie_root.program.operations.matmul import Linear
from sofie_root.program.program import Program
from sofie_root.program.statement import Loop
from sofie_root.program.uses import reads_elements

from .epilogue import index_of, with_acc
from .inline import Decisions
from .memory import typical

GAIN = 2.0
"""A map is moved if that saves this factor of multiplications at typical sizes."""

MORE_ROWS = 4
"""How many rows are assumed to be picked from each row, where both numbers are symbols."""

Matrix = npt.NDArray[np.float32]


@dataclass(slots=True)
class Term:
    """``factor * source[rows of index, :] @ weights``: one part of the product.

    Attributes:
        source: buffer of which rows are picked.
        axis: its axis that is contracted.
        index: where the row is, in the indices of the result (the entry at ``axis`` is not used).
        weights: ``[extent of axis, N]``.
        factors: what the row is multiplied with, free of the contracted index.
    """

    source: str
    axis: int
    index: tuple[Dim, ...]
    weights: Matrix
    factors: tuple[Expr, ...]


def move_linear_maps(program: Program, decisions: Decisions) -> None:
    """Rewrites each product by constants whose operand only picks and adds rows of smaller tensors.

    Needs: indices taken apart, and linear maps with their weights as in the model. Leaves: products
    over the picked tensors, and loops that add the picked rows.
    """
    for kernel in [s for s in program.statements if isinstance(s, Linear)]:
        if kernel in program.statements:
            reason = _move(program, kernel)
            name = " + ".join(kernel.origin)
            if reason is None:
                decisions.fused.append(f"{name} is computed before the rows are picked")
            elif reason:
                decisions.refused.append(f"{name} before the rows are picked: {reason}")


def _move(program: Program, kernel: Linear) -> str | None:
    """Why the map was not moved (empty: there is nothing to pick), or None where it was."""
    operand, columns, out = kernel.x, kernel.n, kernel.outputs[0]
    buffer = program.buffers[operand.buffer]
    if out is None:
        return ""
    if buffer.kind != "arena" or buffer.dtype is not DType.FLOAT or operand.offset != 0:
        return ""
    if not operand.fits("contiguous") or buffer.numel != product(operand.shape):
        return ""
    if buffer.shape[-1:] != operand.shape[-1:]:
        return ""
    if len(program.readers(buffer.name)) != 1:
        return "the operand is also read elsewhere"
    writers = _writers(program, buffer.name)
    if not writers:
        return ""
    matrix = program.constants[kernel.w.buffer]
    rows = tuple(Symbol(f"{out}.r{axis}", d) for axis, d in enumerate(buffer.shape[:-1]))
    terms: list[Term] = []
    for writer in writers:
        found = _terms_of(program, writer, rows, matrix)
        if found is None:
            return "its operand is not made of picked rows"
        terms += found
    chained = [_through_product(program, writers, t) for t in terms]
    saved = sum(work for _, work in chained)
    merged = _merged([t for t, _ in chained])
    before = typical(product(buffer.shape)) * columns + saved
    after = sum(_work(program, t, rows) * columns for t in merged)
    if before < GAIN * after:
        return f"{after:.0f} multiplications instead of {before} at typical sizes"
    _rewrite(program, kernel, rows, merged)
    return None


def _through_product(program: Program, writers: list[Loop], term: Term) -> tuple[Term, float]:
    """Where the source is a product that only this term needs, the same term of that product's operand.

    Also the multiplications of the product that are saved: the two maps are one map.
    """
    users, kernel = program.readers(term.source), program.writer(term.source)
    same = (term, 0.0)
    if not isinstance(kernel, Linear) or kernel.fused is not None:
        return same
    only = users[0] if len(users) == 1 else None
    if not isinstance(only, Loop) or all(only.body != w.body for w in writers):
        return same
    operand = kernel.x
    shape, inner = program.buffers[term.source].shape, program.buffers[operand.buffer]
    if inner.dtype is not DType.FLOAT:
        return same
    if operand.offset != 0 or not operand.fits("contiguous") or inner.shape != operand.shape:
        return same
    if term.axis != len(shape) - 1 or inner.shape[:-1] != shape[:-1]:
        return same
    first = program.constants[kernel.w.buffer].astype(np.float64)
    both = (first @ term.weights.astype(np.float64)).astype(np.float32)
    work = typical(product(shape)) * first.shape[0]
    return replace(term, source=operand.buffer, axis=len(inner.shape) - 1, weights=both), work


def _work(program: Program, term: Term, rows: tuple[Symbol, ...]) -> float:
    """Elements of the source at typical sizes; less where rows of another size symbol are picked.

    None of a constant: its product is computed when the model is generated.

    Edges pick nodes, and there are more edges than nodes, which the sizes alone do not tell.
    """
    if term.source in program.constants:
        return 0
    shape = program.buffers[term.source].shape
    own = set(size_symbols(shape))
    picked = set(size_symbols([v.extent or 1 for v in rows])) - own
    gathers = any(isinstance(a, Cell) for d in term.index for a in walk(d))
    return typical(product(shape)) / (MORE_ROWS if picked and gathers else 1)


def _writers(program: Program, buffer: str) -> list[Loop]:
    """The pointwise loops that fill a buffer, seen through a transposition; none if others do."""
    found = program.writers(buffer)
    loops = [s for s in found if isinstance(s, Loop) and s.reduction is None and not s.scatters]
    if len(loops) != len(found):
        return []
    view = loops[0] if len(loops) == 1 else None
    if view is None or not isinstance(view.body, Load):
        return loops
    source, at = view.body.buffer, view.body.index
    plain = [d for d in at if d != 0]
    if (
        program.buffers[source].kind != "arena"
        or len(program.readers(source)) != 1
        or len(set(plain)) != len(plain)
        or sorted(map(str, plain)) != sorted(str(d) for d in view.index if d != 0)
        or len(at) != len(view.index)
    ):
        return loops
    free = iter(a for a, d in enumerate(at) if d == 0)
    order = [at.index(d) if d != 0 else next(free) for d in view.index]
    inner = _writers(program, source)
    return [replace(w, index=tuple(w.index[a] for a in order)) for w in inner] or loops


def _terms_of(
    program: Program, writer: Loop, rows: tuple[Symbol, ...], matrix: Matrix
) -> list[Term] | None:
    """The picked rows that a loop adds up, in the indices of the result; None where it does more."""
    *lead, last = writer.index
    channels = [v for v in writer.vars if depends_on(last, v)]
    if len(channels) != 1:
        return None
    channel = channels[0]
    parts = linear(last, channel)
    if parts is None or parts[0] != 1 or not isinstance(parts[1], int):
        return None
    if not isinstance(channel.extent, int):
        return None
    mapping: dict[Atom, Dim] = {}
    for own, row in zip(lead, rows, strict=True):
        atom = single_atom(own)
        if own == 0 and row.extent == 1:
            continue
        if not isinstance(atom, Symbol) or atom.extent != row.extent:
            return None
        mapping[atom] = as_poly(row)
    if len(mapping) + 1 != len(writer.vars):
        return None
    block = matrix[parts[1] : parts[1] + channel.extent]
    found: list[Term] = []
    for sign, factors, load in _sum(writer.body, channel):
        if load is None:
            return None
        axes = [a for a, d in enumerate(load.index) if depends_on(d, channel)]
        if len(axes) != 1 or load.dtype is not DType.FLOAT:
            return None
        at = linear(load.index[axes[0]], channel)
        extent = program.buffers[load.buffer].shape[axes[0]]
        if at is None or at[0] != 1 or not isinstance(at[1], int) or not isinstance(extent, int):
            return None
        own_weights = np.zeros((extent, matrix.shape[1]), np.float32)
        own_weights[at[1] : at[1] + channel.extent] = np.float32(sign) * block
        moved = ex.substitute_dims(load, mapping)
        assert isinstance(moved, Load)
        own_factors = tuple(ex.substitute_dims(f, mapping) for f in factors)
        found.append(
            Term(load.buffer, axes[0], _without(moved.index, axes[0]), own_weights, own_factors)
        )
    return found


def _without(index: tuple[Dim, ...], axis: int) -> tuple[Dim, ...]:
    return (*index[:axis], *index[axis + 1 :])


def _sum(body: Expr, channel: Symbol) -> list[tuple[float, tuple[Expr, ...], Load | None]]:
    """The expression as a sum of ``sign * factors * read``; a read of None: it is no such sum."""
    if isinstance(body, Load):
        return [(1.0, (), body)]
    if isinstance(body, Call) and body.function in ("add", "sub"):
        left, right = (_sum(a, channel) for a in body.args)
        sign = 1.0 if body.function == "add" else -1.0
        return left + [(sign * s, f, load) for s, f, load in right]
    if isinstance(body, Call) and body.function == "neg":
        return [(-s, f, load) for s, f, load in _sum(body.args[0], channel)]
    if isinstance(body, Call) and body.function == "mul":
        for factor, rest in (body.args, body.args[::-1]):
            if isinstance(factor, Const):
                return [(float(factor.value) * s, f, load) for s, f, load in _sum(rest, channel)]
            if not any(depends_on(d, channel) for d in ex.dims_of(factor)):
                return [(s, (factor, *f), load) for s, f, load in _sum(rest, channel)]
    return [(0.0, (), None)]


def _merged(terms: list[Term]) -> list[Term]:
    """Terms that pick the same rows, added up."""
    found: dict[tuple[object, ...], Term] = {}
    for term in terms:
        key = (term.source, term.axis, term.index, term.factors)
        if key in found:
            found[key] = replace(found[key], weights=found[key].weights + term.weights)
        else:
            found[key] = term
    return list(found.values())


def _rewrite(program: Program, kernel: Linear, rows: tuple[Symbol, ...], terms: list[Term]) -> None:
    """The products over the sources, and the loop that adds the picked rows, in the kernel's place."""
    out = kernel.outputs[0]
    assert out is not None
    place = program.statements.place(kernel)
    after = program.statements[place + 1 :]
    del program.statements[place:]
    builder = Builder(program)
    builder.origin, builder.names = kernel.origin, (out,)
    shape, columns = program.buffers[out].shape, kernel.n
    column = Symbol(f"{out}.n", columns)
    total: Expr | None = None
    products = _products(builder, terms, out)
    for term in terms:
        z, first = products[id(term)]
        index = term.index if len(term.index) == z.rank - 1 else (0,)
        value: Expr = z[(*index, first + as_poly(column))]
        for factor in term.factors:
            value = factor * value
        total = value if total is None else total + value
    assert total is not None
    axes = (*(v.extent or 1 for v in rows), columns)
    target = tuple(index_of(v) for v in (*rows, column))
    flat = reshape_index(target, axes, shape)
    if kernel.fused is not None:
        own = reshape_index(target, axes, (*kernel.x.shape[:-1], columns))
        mapping: dict[Atom, Dim] = dict(zip(kernel.fused.vars, own, strict=True))
        result = total
        total = with_acc(ex.substitute_dims(kernel.fused.body, mapping), result)
    variables = tuple(v for v in (*rows, column) if v.extent != 1)
    total = ex.substitute_dims(total, {v: 0 for v in (*rows, column) if v.extent == 1})
    program.statements.extend(after)
    if not _reshape(program, out, axes):
        target = flat
    program.statements.insert(
        len(program.statements) - len(after),
        Loop(out, variables, target, total, None, kernel.origin),
    )


def _reshape(program: Program, name: str, shape: Shape) -> bool:
    """Gives a buffer that nothing writes any more the axes of the loop that will; False if it cannot."""
    buffer = program.buffers[name]
    if buffer.shape == shape:
        return True
    if buffer.kind != "arena" or any(name in reads_elements(s) for s in program.readers(name)):
        return False

    def read(load: Load) -> Expr:
        if load.buffer != name:
            return load
        return replace(load, index=reshape_index(load.index, buffer.shape, shape))

    program.buffers[name] = replace(buffer, shape=shape)
    for s in program.readers(name):
        if isinstance(s, Loop):
            program.replace(s, s.map_loads(read))
    return True


def _products(builder: Builder, terms: list[Term], out: str) -> dict[int, tuple[Tensor, int]]:
    """For each term (by ``id``) the product that holds it, and its first column there.

    Products of one source are one product.
    """
    groups: dict[tuple[str, int], list[Term]] = {}
    for term in terms:
        groups.setdefault((term.source, term.axis), []).append(term)
    found: dict[int, tuple[Tensor, int]] = {}
    for (name, axis), group in groups.items():
        source = builder.program.buffers[name]
        x = Tensor(TensorType(source.dtype, source.shape), name, builder.program)
        x = builder.transpose(x, [*(a for a in range(x.rank) if a != axis), axis])
        if x.rank == 1:
            x = builder.reshape(x, (1, x.shape[0]))
        weights = np.concatenate([t.weights for t in group], axis=1)
        constant = builder.program.constants.get(name)
        if constant is None:
            z = builder.linear(x, weights, f"{out}.weights")
        else:
            product_of = np.moveaxis(constant, axis, -1) @ weights
            z = builder.constant(
                product_of.reshape(-1, weights.shape[1]) if constant.ndim == 1 else product_of,
                f"{out}.rows",
            )
        columns = group[0].weights.shape[1]
        found.update((id(t), (z, k * columns)) for k, t in enumerate(group))
    return found
