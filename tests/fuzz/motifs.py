"""Motifs of networks over sets and graphs, scatters, quantisation, constants that fold, mixed precision."""

from __future__ import annotations

import numpy as np

from .builder import FLOAT, INT64, Builder, Rejected, Value
from .rows import Row
from .sequences import dense, sequence
from .shaping import adapted, bounded, cast, indices, operand, scalar, sizes, tame
from .views import split_of


def message_passing(b: Builder) -> Value:
    """Gathers of both ends of each edge, a layer on them, and a sum at the targets by a scatter."""
    names = list(b.symbols)
    nodes, edges = b.choice((5, 9, 17, *names)), b.choice((1, 7, 20, 33, *names))
    width = b.choice((3, 4, 8, 16, 20))
    found = [
        v
        for v in b.values
        if v.dtype == FLOAT and v.rank == 2 and not v.is_empty and len(set(v.dims[1])) == 1
    ]
    x = b.choice(found[-4:]) if found and b.chance(0.6) else b.input([nodes, width], FLOAT)
    width = x.dims[1][0]
    counts = [b.symbols[edges][k] if isinstance(edges, str) else edges for k in range(b.sets)]
    if min(x.dims[0]) < 1:
        raise Rejected("no nodes")
    ends = [b.numbers((2, n), INT64, 0, m - 1) for n, m in zip(counts, x.dims[0], strict=True)]
    pairs = b.input_of(ends, [2, edges])
    if b.chance(0.5):
        source, target = (b.node("Gather", pairs, k, axis=0) for k in (0, 1))
    else:
        source, target = (
            b.node("Squeeze", p, [0]) for p in b.node("Split", pairs, [1, 1], axis=0, outputs=2)
        )
    one, other = b.node("Gather", x, source, axis=0), b.node("Gather", x, target, axis=0)
    how = b.integer(0, 2)
    joined = b.node("Concat", one, other, axis=-1) if how == 0 else b.node("Sub", one, other)
    if how == 2:
        joined = b.node("Concat", one, joined, axis=1)
    message = dense(b, joined, width)
    message = tame(b, b.node(b.choice(("Relu", "Tanh", "Sigmoid", "LeakyRelu")), message))
    if b.opset < 18:
        raise Rejected("no reductions in scatters")
    zeros = b.node("ConstantOfShape", sizes(b, [(x, 0), width]))
    if b.chance(0.5):
        summed = b.node(
            "ScatterND",
            zeros,
            b.node("Unsqueeze", target, [1]),
            message,
            reduction=b.choice(("add", "add", "max")),
        )
    else:
        where = b.node("Expand", b.node("Unsqueeze", target, [-1]), b.node("Shape", message))
        summed = b.node(
            "ScatterElements",
            zeros,
            where,
            message,
            axis=0,
            reduction=b.choice(("add", "add", "max", "min")),
        )
    if b.chance(0.5):
        return tame(b, b.node("Add", x, summed))
    return dense(b, b.node("Concat", x, summed, axis=-1), b.size(20))


def assign(b: Builder) -> Value:
    """``t[:, i] = f(t[:, i])`` and ``t[i] = f(x)``: updates of computed values into copies."""
    v = b.pick("f", low=2, high=3, where=lambda o: not o.is_empty)
    column = b.integer(0, min(v.dims[1]) - 1)
    turned = b.node("Transpose", v, perm=[1, 0, *range(2, v.rank)])
    part = b.node("Gather", v, column if b.chance(0.5) else [column], axis=1)
    new = tame(
        b,
        b.node(
            b.choice(
                (
                    "Exp"
                    if np.max(np.abs(part.arrays[0].astype(float)), initial=0) < 4
                    else "Tanh",
                    "Tanh",
                    "Sigmoid",
                    "Neg",
                    "Softplus",
                )
            ),
            part,
        ),
    )
    if new.rank == v.rank:
        new = b.node("Transpose", new, perm=[1, 0, *range(2, v.rank)])
    else:
        new = b.node("Unsqueeze", new, [0])
    updated = b.node("ScatterND", turned, b.constant(np.array([[column]], np.int64)), new)
    back = b.node("Transpose", updated, perm=[1, 0, *range(2, v.rank)])
    return b.node("Add", back, v) if b.chance(0.3) else back


def quantise(b: Builder) -> Value:
    """QuantizeLinear and DequantizeLinear around something, per tensor or per axis."""
    x = b.pick("f", low=1, high=4, where=lambda o: o.dtype == FLOAT and not o.is_empty)
    dtype = np.dtype(b.choice(("u1", "i1")))
    zero = b.constant(b.integer(0, 9), dtype)
    scale = b.constant(b.choice((0.05, 0.031, 0.017)), FLOAT)
    attributes = {}
    if b.chance(0.3) and len(set(x.dims[-1])) == 1:
        scale = b.constant(b.numbers((x.dims[-1][0],), FLOAT, 0.02, 0.06))
        zero = b.constant(b.numbers((x.dims[-1][0],), dtype, 0, 9))
        attributes = {"axis": x.rank - 1}
    q = b.node("QuantizeLinear", x, scale, zero, **attributes)
    if b.chance(0.3) and not attributes and x.rank >= 2 and len(set(x.dims[-1])) == 1:
        weight = b.constant(b.numbers((x.dims[-1][0], b.size(20)), b.choice(("i1", "u1")), -90, 90))
        total = cast(b, b.node("MatMulInteger", q, weight, zero), FLOAT)
        return tame(b, b.node("Mul", total, b.constant(0.0005, FLOAT)))
    if b.chance(0.4):
        q = (
            b.node("Reshape", q, b.node("Shape", q))
            if b.chance(0.3)
            else b.node("Slice", q, [0], [2**62], [0], [1])
        )
    return b.node("DequantizeLinear", q, scale, zero, **attributes)


def dynamic_quantise(b: Builder) -> Value:
    x = b.pick("f", low=1, high=3, where=lambda o: o.dtype == FLOAT and not o.is_empty)
    q, scale, zero = b.node("DynamicQuantizeLinear", x, outputs=3)
    return b.node("DequantizeLinear", q, scale, zero)


def pooled_set(b: Builder) -> Value:
    """Deep sets: a layer for each element, a masked sum or mean over them, a layer for all."""
    x = sequence(b)
    y = b.node(
        b.choice(("Relu", "Gelu" if b.opset >= 20 else "Tanh")),
        dense(b, x, b.choice((4, 8, 16, 33))),
    )
    if b.chance(0.5):
        mask = cast(
            b, b.node("Greater", b.node("Slice", x, [0], [1], [2]), scalar(b, x.dtype)), x.dtype
        )
        y = b.node("Mul", y, mask)
        if b.opset >= 18 and b.chance(0.5):
            count = b.node(
                "Add", b.node("ReduceSum", mask, [1], keepdims=0), b.constant(0.1, x.dtype)
            )
            return tame(
                b,
                dense(b, b.node("Div", b.node("ReduceSum", y, [1], keepdims=0), count), b.size(12)),
            )
    if b.opset < 18:
        raise Rejected("axes are attributes")
    return tame(
        b,
        dense(
            b,
            b.node(b.choice(("ReduceMean", "ReduceMax", "ReduceSum")), y, [1], keepdims=0),
            b.size(12),
        ),
    )


def neighbours(b: Builder) -> Value:
    """The nearest neighbours in feature space: pairwise distances, TopK, GatherND or GatherElements."""
    x = sequence(b)
    k = min(b.integer(1, 4), *x.dims[1])
    turned = b.node("Transpose", x, perm=[0, 2, 1])
    inner = b.node("MatMul", x, turned)
    if b.opset < 18:
        raise Rejected("axes are attributes")
    square = b.node("ReduceSum", b.node("Mul", x, x), [2], keepdims=1)
    far = b.node(
        "Sub",
        b.node("Mul", inner, b.constant(2.0, x.dtype)),
        b.node("Add", square, b.node("Transpose", square, perm=[0, 2, 1])),
    )
    _, found = b.node("TopK", far, [k], axis=-1, outputs=2)
    rows = b.node("Expand", b.node("Unsqueeze", x, [1]), sizes(b, [1, (x, 1), 1, 1]))
    where = b.node("Expand", b.node("Unsqueeze", found, [3]), sizes(b, [1, 1, 1, x.dims[2][0]]))
    near = b.node("GatherElements", rows, where, axis=2)
    edge = b.node("Sub", near, b.node("Unsqueeze", x, [2]))
    return b.node("ReduceMax", edge, [2], keepdims=0) if b.chance(0.6) else edge


def folded(b: Builder) -> Value:
    """Nodes of constants alone, which folding evaluates, joined to something that is not."""
    x = b.pick("f", low=1, high=3, where=lambda o: o.fixed and not o.is_empty)
    value = b.constant(b.numbers([d[0] for d in x.dims], x.dtype))
    for _ in range(b.integer(1, 4)):
        op = b.choice(("Transpose", "Tanh", "Slice", "ScatterND", "Expand", "CumSum", "Reshape"))
        shape = value.arrays[0].shape
        if op == "Transpose":
            value = b.node(op, value)
        elif op == "Slice":
            value = b.node(op, value, [-1], [-(2**63) + 1], [0], [-1])
        elif op == "ScatterND":
            update = b.constant(b.numbers(shape[1:], x.dtype)[None])
            value = b.node(op, value, np.array([[b.integer(0, shape[0] - 1)]]), update)
        elif op == "Expand":
            value = (
                b.node(op, b.node("Unsqueeze", value, [0]), [2, *shape])
                if value.rank < 4
                else value
            )
            value = b.node("Gather", value, 1, axis=0)
        elif op == "CumSum":
            value = b.node(op, value, 0)
        elif op == "Reshape":
            value = b.node(op, value, [-1, shape[0]] if 0 not in shape else list(shape))
        else:
            value = b.node(op, value)
    flat = adapted(b, value, [d[0] for d in x.dims], x.dtype)
    return tame(b, b.node(b.choice(("Add", "Mul")), x, flat))


def lookup(b: Builder) -> Value:
    """An embedding: a table read at indices, plus another, normalised or scaled."""
    rows, width = b.size(30), b.choice((4, 8, 16, 24))
    shape = [b.size(5), b.choice((3, 8, 17))]
    table = b.weight(rows, width, scale=1.0)
    found = b.node("Gather", table, indices(b, shape, (rows,) * b.sets), axis=0)
    other = b.node("Gather", b.weight(shape[1], width, scale=1.0), list(range(shape[1])), axis=0)
    return b.node("Mul", b.node("Add", found, other), b.constant(np.sqrt(width) / 4, FLOAT))


def physics(b: Builder) -> Value:
    """Four-momenta: Split into columns, px = pt cos(phi), pz = pt sinh(eta), an invariant mass."""
    n = b.choice((1, 5, 16, *b.symbols))
    x = b.input([n, 3], b.float_dtype(), -1.5, 1.5)
    pt, eta, phi = b.node("Split", x, [1, 1, 1], axis=1, outputs=3)
    pt = b.node("Exp", bounded(b, pt, -2, 2))
    px, py = b.node("Mul", pt, b.node("Cos", phi)), b.node("Mul", pt, b.node("Sin", phi))
    pz = b.node("Mul", pt, b.node("Sinh", eta))
    square = b.node("Sum", *(b.node("Mul", p, p) for p in (px, py, pz)))
    energy = b.node("Sqrt", b.node("Add", square, b.constant(0.1, x.dtype)))
    return b.node("Concat", px, py, pz, energy, b.node("Log", energy), axis=-1)


def mixed(b: Builder) -> Value:
    """A row at another precision, between two Casts."""
    x = b.pick("f", low=1)
    other = np.dtype(b.choice(("f8", "f2", "f4")))
    y = cast(b, x, other)
    y = tame(b, b.node(b.choice(("Tanh", "Relu", "Sigmoid", "Neg")), y))
    y = tame(b, b.node(b.choice(("Add", "Mul")), y, operand(b, y)))
    return cast(b, y, x.dtype)


def parts(b: Builder) -> Value:
    """Softmax or a reduction that feeds Split, and the parts feed reductions."""
    x = b.pick("f", low=2, where=lambda o: not o.is_empty)
    y = (
        b.node("Softmax", x, axis=-1)
        if b.chance(0.6)
        else tame(b, b.node("Mul", x, b.node("Sigmoid", x)))
    )
    pieces = [p for p in split_of(b, y, x.rank - 1) if not p.is_empty]
    if b.opset < 18:
        raise Rejected("axes are attributes")
    return b.node(
        "Concat",
        *(b.node(b.choice(("ReduceSum", "ReduceMax")), p, [-1], keepdims=1) for p in pieces),
        axis=-1,
    )


ROWS: dict[str, tuple[float, Row]] = {
    "message passing": (2, message_passing),
    "assign": (1.5, assign),
    "quantise": (1.2, quantise),
    "dynamic quantise": (0.3, dynamic_quantise),
    "set": (1.2, pooled_set),
    "neighbours": (0.8, neighbours),
    "folded": (1.2, folded),
    "lookup": (0.7, lookup),
    "physics": (0.7, physics),
    "mixed": (1, mixed),
    "parts": (1, parts),
}
"""Weight and function of each."""
