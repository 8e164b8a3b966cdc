"""Finds attention among the statements: a product, its softmax along the last axis, and a second product.

    x = Q K (with scale, bias and mask as its epilogue);  p = exp(x - max x) / sum;  y = p V

become one kernel that never stores the scores whole. This runs when views are composed and epilogues are
fused, so whatever was done to the scores is one expression by then, and heads that were split by reshapes and
transposes are strides. Where a head could not be read through strides because the batch is a product of axes
(``8*N`` heads), the batch is split, and copies that were made for the products are bypassed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sofie_root.ir.dim import (
    Atom,
    Dim,
    FloorDiv,
    Symbol,
    as_poly,
    at_least,
    depends_on,
    floordiv,
    linear,
    product,
    substitute,
    walk,
)
from sofie_root.ir.dtype import DType
from sofie_root.ir.types import Shape
from sofie_root.program import expr as ex
from sofie_root.program.builder import flat_index, reshape_index
from sofie_root.program.expr import Acc, Call, Const, Expr, Load
from sofie_root.program.operation import Epilogue, Operand, contiguous_strides
from sofie_root.program.operations.matmul import Attention, MatMul
from sofie_root.program.program import Buffer, Program
from sofie_root.program.statement import Loop, Reduction
from sofie_root.program.uses import dim_reads

from .arithmetic import reciprocal
from .epilogue import index_of, with_acc
from .inline import Decisions, remove_dead_statements


@dataclass(frozen=True, slots=True)
class Match:
    """The statements of one attention.

    Attributes:
        scores: the product of queries and keys.
        values: the product of the probabilities and the values.
        transposed: whether ``values`` has the probabilities on its right, ``V^T P^T``.
        origin: names of all nodes that the kernel stands for.
    """

    scores: MatMul
    values: MatMul
    transposed: bool
    origin: tuple[str, ...]


def fuse_attention(program: Program, decisions: Decisions) -> None:
    """Replaces each attention that stands alone by one operation.

    Needs: what is done to scores fused into their product. Leaves: the operation Attention in the place
    of two products and a softmax.
    """
    if not program.choice.specialised(True):
        return
    for values in [s for s in program.statements if isinstance(s, MatMul)]:
        for side in (0, 1):
            match = _match(program, values, side)
            if isinstance(match, Match):
                _replace(program, match)
                decisions.fused.append(f"{' + '.join(match.origin)} are one attention")
                break
            if match:
                decisions.refused.append(f"{' + '.join(values.origin)} as attention: {match}")
    remove_dead_statements(program)


# -- matching --------------------------------------------------------------------------------------------


def _match(program: Program, values: MatMul, side: int) -> Match | str:
    """The attention whose last product this is, or why it is none (empty: nothing like it)."""
    operand = (values.x, values.w)[side]
    quotients = _only_writer(program, operand.buffer)
    if quotients is None or quotients.reduction:
        return ""
    # Indices of the scores: batch, row, column; the operand has the last two exchanged on the right.
    axes = tuple(
        Symbol(f"{operand.buffer}.{name}", d)
        for name, d in zip(
            ("outer", "inner", "row", "column"), _scores_shape(values, side), strict=True
        )
    )
    at = tuple(index_of(v) for v in axes)
    column = axes[-1]
    steps = _with_batch(_turned(operand) if side == 1 else operand).strides
    position: Dim = operand.offset
    for v, step in zip(at, steps, strict=True):
        position = position + v * step
    buffer = program.buffers[operand.buffer]
    quotient = quotients.at(reshape_index((position,), (buffer.numel,), buffer.shape))
    parts = _arguments(quotient, "div", Load, Load)
    if parts is None or column.extent == 1:
        return ""
    e, total = parts
    terms, sums = _only_writer(program, e.buffer), _only_writer(program, total.buffer)
    raised = _arguments(None if terms is None else terms.at(e.index), "exp", Call)
    parts = _arguments(raised and raised[0], "sub", Expr, Load)
    if sums is None or parts is None:
        return ""
    score, largest = parts
    maxima = _only_writer(program, largest.buffer)
    if (
        maxima is None
        or _reduced(sums, "sum", total.index, column) != e
        or _reduced(maxima, "max", largest.index, column) != score
    ):
        return "it is no softmax along the axis that the second product sums over"
    if not isinstance(score, Load):
        return "what is done to the scores does not fit vectors"
    scores = program.writer(score.buffer)
    if not isinstance(scores, MatMul):
        return "its scores are no product"
    if program.buffers[score.buffer].dtype is not DType.FLOAT:
        return "it is not computed in float"
    shape = _scores_shape(values, side)
    if (*scores.outer, scores.m, scores.n) != shape:
        return "the products go over different batches"
    if flat_index(score.index, program.buffers[score.buffer].shape) != flat_index(at, shape):
        return "the second product reads the probabilities in another order"
    users = {
        score.buffer: {id(terms), id(maxima)},
        e.buffer: {id(sums), id(quotients)},
        quotients.output: {id(values)},
    }
    for name, allowed in users.items():
        readers = {id(s) for s in program.readers(name)}
        if not readers <= allowed or name in program.outputs.values():
            return "scores or probabilities are read elsewhere"
    statements = (scores, maxima, terms, sums, quotients, values)
    origin = tuple(dict.fromkeys(o for s in statements if s is not None for o in s.origin))
    return Match(scores, values, side == 1, origin)


def _scores_shape(values: MatMul, side: int) -> tuple[Dim, ...]:
    """Batch, rows and columns of the scores that the second product reads."""
    return (*values.outer, values.m if side == 0 else values.n, values.k)


def _only_writer(program: Program, buffer: str) -> Loop | None:
    writer = program.writer(buffer)
    return writer if isinstance(writer, Loop) else None


def _arguments(e: Any, function: str, *kinds: type[Expr]) -> tuple[Any, ...] | None:
    """The arguments of a call of that function if they are of these kinds, else None."""
    if not isinstance(e, Call) or e.function != function or len(e.args) != len(kinds):
        return None
    return e.args if all(map(isinstance, e.args, kinds)) else None


def _reduced(loop: Loop, kind: str, index: Sequence[Dim], column: Symbol) -> Expr | None:
    """What a loop reduces over ``column`` for the element at ``index``; None where it does not."""
    reduction = loop.reduction
    mapping = loop.indices_at(index)
    if not isinstance(reduction, Reduction) or reduction.kind != kind or mapping is None:
        return None
    if len(reduction.vars) != 1 or reduction.vars[0].extent != column.extent:
        return None
    if any(depends_on(d, column) for d in index):
        return None
    return ex.substitute_dims(loop.body, {**mapping, reduction.vars[0]: as_poly(column)})


def _same_strides(shape: Shape, a: Sequence[Dim], b: Sequence[Dim]) -> bool:
    return all(d == 1 or x == y for d, x, y in zip(shape, a, b, strict=True))


# -- operands --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Source:
    """An operand with two batch axes, and what its elements are divided by or multiplied with."""

    operand: Operand
    scale: tuple[tuple[str, Const], ...] = ()


def _with_batch(operand: Operand) -> Operand:
    """The operand with exactly two batch axes."""
    missing = 4 - len(operand.shape)
    return replace(
        operand,
        shape=(*(1,) * missing, *operand.shape),
        strides=(*(0,) * missing, *operand.strides),
    )


def _turned(operand: Operand) -> Operand:
    """The operand with its last two axes exchanged."""
    (*outer, a, b), (*steps, x, y) = operand.shape, operand.strides
    return replace(operand, shape=(*outer, b, a), strides=(*steps, y, x))


def _split_batch(operand: Operand, inner: Dim) -> Operand:
    """The operand with its single batch axis as ``[batch / inner, inner]``."""
    batch, step = operand.shape[1], operand.strides[1]
    return replace(
        operand,
        shape=(floordiv(batch, inner), inner, *operand.shape[2:]),
        strides=(step * inner, step, *operand.strides[2:]),
    )


def _resolve(program: Program, operand: Operand) -> tuple[Source, list[Dim]]:
    """The operand read from where it was copied from, if strides can express that.

    Returns:
        What to read, and sizes that the batch may be split by to make it so.
    """
    plain = Source(operand)
    writer = _only_writer(program, operand.buffer)
    buffer = program.buffers[operand.buffer]
    if writer is None or writer.reduction is not None or operand.offset != 0:
        return plain, []
    if buffer.numel != product(operand.shape) or not _same_strides(
        operand.shape, operand.strides, contiguous_strides(operand.shape)
    ):
        return plain, []
    body, scale = _scaled(writer.body)
    if not isinstance(body, Load) or body.dtype is not buffer.dtype:
        return plain, []
    axes = tuple(Symbol(f"{operand.buffer}.a{k}", d) for k, d in enumerate(operand.shape))
    at = tuple(index_of(v) for v in axes)
    mapping = writer.indices_at(reshape_index(at, operand.shape, buffer.shape))
    if mapping is None:
        return plain, []
    source = program.buffers[body.buffer]
    index = tuple(substitute(d, mapping) for d in body.index)
    flat = flat_index(index, source.shape)
    if dim_reads((flat,)):
        return plain, []
    strides, rest = _linear(flat, axes)
    if strides is None:
        return plain, [inner for _, inner in _splits(flat, axes[1:2])]
    if not all(at_least(d, 0) for d in (*strides, rest)):
        return plain, []
    return Source(Operand(body.buffer, operand.dtype, operand.shape, rest, strides), scale), []


def _scaled(e: Expr) -> tuple[Expr, tuple[tuple[str, Const], ...]]:
    """The expression without constant factors and divisors, and those, the innermost first."""
    if isinstance(e, Call) and e.function in ("mul", "div"):
        a, b = e.args
        if e.function == "mul" and isinstance(a, Const):
            a, b = b, a
        if isinstance(b, Const):
            inner, scale = _scaled(a)
            return inner, (*scale, (e.function, b))
    return e, ()


def _linear(flat: Dim, axes: Sequence[Symbol]) -> tuple[tuple[Dim, ...] | None, Dim]:
    """The stride of a position along each axis and what remains; None where it is not linear."""
    strides: list[Dim] = []
    for v in axes:
        parts = linear(flat, v)
        if parts is None:
            return None, flat
        strides.append(parts[0])
        flat = parts[1]
    if any(depends_on(d, v) for d in (*strides, flat) for v in axes):
        return None, flat
    return tuple(strides), flat


def _splits(flat: Dim, variables: Sequence[Symbol]) -> list[tuple[Symbol, Dim]]:
    """Variables that are divided somewhere in a position, and the inner extents that would undo it."""
    divided: list[tuple[Symbol, Dim]] = []
    for atom in walk(flat):
        if not isinstance(atom, FloorDiv):
            continue
        for v in variables:
            parts = linear(atom.a, v)
            if parts is None or parts[0] == 0 or v.extent is None:
                continue
            inner = floordiv(atom.b, parts[0])
            if inner * parts[0] == atom.b and floordiv(v.extent, inner) * inner == v.extent:
                divided.append((v, inner))
    return divided


def _sources(program: Program, operands: Sequence[Operand]) -> list[Source]:
    """Where each operand was copied from, if it can be read there; the batch is split where that helps."""
    resolved = [_resolve(program, o) for o in operands]
    for inner in (size for _, sizes in resolved for size in sizes):
        if all(o.shape[0] == 1 for o in operands):
            split = [_resolve(program, _split_batch(o, inner)) for o in operands]
            if not any(sizes for _, sizes in split):
                return [source for source, _ in split]
    return [source for source, _ in resolved]


# -- rewriting -------------------------------------------------------------------------------------------


def _replace(program: Program, match: Match) -> None:
    """Puts the kernel in the place of the second product; the other statements are dead then."""
    values, scores = match.values, match.scores
    q, k = _with_batch(scores.x), _with_batch(scores.w)
    v = _with_batch(values.x if match.transposed else values.w)
    sources = _sources(program, (q, k, _turned(v) if match.transposed else v))
    q, k, v = (s.operand for s in sources)
    b0, b1, m, _ = q.shape
    d = v.shape[-1]
    out, after = _finish(program, values)
    shape = (b0, b1, d, m) if match.transposed else (b0, b1, m, d)
    moved = None if after is not None else _written_to(program, values, shape)
    out, strides = moved or (out, contiguous_strides(shape))
    if match.transposed:
        strides = (*strides[:2], strides[3], strides[2])
    s0, s1, s2, s3 = strides
    attention = Attention(
        q=q,
        k=k,
        v=v,
        strides=(s0, s1, s2, s3),
        batch=scores.batch,
        rows=scores.rows,
        scores=_score(program, scores, (*sources[0].scale, *sources[1].scale)),
        outputs=(out,),
        origin=match.origin,
    )
    program.replace(values, *([attention] if after is None else [attention, after]))
    if moved is not None:
        for s in program.writers(out):
            if isinstance(s, Loop):
                program.replace(s)


def _score(
    program: Program, scores: MatMul, scale: tuple[tuple[str, Const], ...]
) -> Epilogue | None:
    """What is done to a product of a query and a key: the scales of both, then the epilogue."""
    value: Expr = Acc(DType.FLOAT)
    for function, factor in scale:
        value = ex.call(function, value, factor)
    value = _multiplied(value)
    if scores.epilogue is not None:
        body = with_acc(_multiplied(scores.epilogue.body), value)
        return replace(scores.epilogue, body=body)
    if not scale:
        return None
    assert scores.outputs[0] is not None
    buffer = program.buffers[scores.outputs[0]]
    axes = tuple(Symbol(f"{buffer.name}.e{k}", d) for k, d in enumerate(buffer.shape))
    return Epilogue(axes, value)


def _multiplied(e: Expr) -> Expr:
    """The scores with products in the place of quotients by constants: the softmax is continuous."""
    if not isinstance(e, Call) or e.function not in ("add", "sub", "mul", "div", "select"):
        return e
    e = replace(e, args=tuple(_multiplied(a) for a in e.args))
    factor = None
    if e.function == "div" and isinstance(e.args[1], Const):
        factor = reciprocal(e.args[1])
    return e if factor is None else ex.call("mul", e.args[0], factor)


def _finish(program: Program, values: MatMul) -> tuple[str, Loop | None]:
    """The buffer for the kernel's result, and the loop that does what the product's epilogue did."""
    out = values.outputs[0]
    assert out is not None
    if values.epilogue is None or isinstance(values.epilogue.body, Acc):
        return out, None
    name = program.fresh(f"{out}.attention")
    buffer = program.buffers[out]
    variables = values.epilogue.vars
    own = tuple(v.extent or 1 for v in variables)
    program.buffers[name] = Buffer(name, buffer.dtype, own)
    at = tuple(index_of(v) for v in variables)
    ones: dict[Atom, Dim] = {v: 0 for v in variables if v.extent == 1}
    body = ex.substitute_dims(values.epilogue.body, ones)
    body = with_acc(body, Load(buffer.dtype, name, at))
    index = reshape_index(at, own, buffer.shape)
    return name, Loop(
        out, tuple(v for v in variables if v.extent != 1), index, body, None, values.origin
    )


def _written_to(
    program: Program, kernel: MatMul, shape: tuple[Dim, ...]
) -> tuple[str, tuple[Dim, ...]] | None:
    """Where the only reader copies the result to, and its strides there along the kernel's axes."""
    result = kernel.outputs[0]
    assert result is not None
    readers = program.readers(result)
    if len(readers) != 1 or result in program.outputs.values():
        return None
    copy = readers[0]
    if not isinstance(copy, Loop) or not copy.is_view or _only_writer(program, copy.output) is None:
        return None
    assert isinstance(copy.body, Load)
    source, target = program.buffers[result], program.buffers[copy.output]
    if source.dtype is not target.dtype or source.numel != target.numel:
        return None
    if not program.knows_sizes(kernel, target.shape):
        return None
    if copy.indices_at(copy.index) is None or dim_reads((*copy.index, *copy.body.index)):
        return None
    read = flat_index(copy.body.index, source.shape)
    written = flat_index(copy.index, target.shape)
    variables = list(copy.vars)
    while splits := _splits(read, variables):
        v, inner = splits[0]
        outer = Symbol(f"{v.name}.outer", floordiv(v.extent or 1, inner))
        rest = Symbol(f"{v.name}.inner", inner)
        whole: dict[Atom, Dim] = {v: index_of(outer) * inner + index_of(rest)}
        read, written = substitute(read, whole), substitute(written, whole)
        variables[variables.index(v) : variables.index(v) + 1] = [outer, rest]
    variables = [v for v in variables if v.extent != 1]
    from_, start = _linear(read, variables)
    to, offset = _linear(written, variables)
    if from_ is None or to is None or start != 0 or offset != 0:
        return None
    steps = {(step, v.extent): at for step, v, at in zip(from_, variables, to, strict=True)}
    wanted = [
        (step, extent)
        for step, extent in zip(contiguous_strides(shape), shape, strict=True)
        if extent != 1
    ]
    if sorted(map(str, steps)) != sorted(map(str, wanted)) or len(steps) != len(variables):
        return None
    strides = tuple(
        0 if extent == 1 else steps[step, extent]
        for step, extent in zip(contiguous_strides(shape), shape, strict=True)
    )
    return copy.output, strides
