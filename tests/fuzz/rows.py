"""Rows of single operators on values as they are: elementwise, reductions, products, indexing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .builder import BOOL, FLOAT, INT64, Builder, Rejected, Value
from .reference import BFLOAT16
from .shaping import adapted, bounded, cast, indices, operand, scalar, tame, unique_rows

Row = Callable[[Builder], object]

UNARY = [
    "Abs",
    "Neg",
    "Sign",
    "Relu",
    "Sigmoid",
    "Tanh",
    "Exp",
    "Erf",
    "Gelu",
    "Softplus",
    "Softsign",
    "Elu",
    "Selu",
    "Celu",
    "LeakyRelu",
    "HardSigmoid",
    "HardSwish",
    "Mish",
    "ThresholdedRelu",
    "Shrink",
    "Floor",
    "Ceil",
    "Round",
    "Sin",
    "Cos",
    "Atan",
    "Asinh",
    "Identity",
    "Swish",
]
RANGES = {
    "Acos": (-0.95, 0.95),
    "Asin": (-0.95, 0.95),
    "Atanh": (-0.9, 0.9),
    "Acosh": (1.1, 5),
    "Log": (0.1, 9),
    "Sqrt": (0.01, 9),
    "Reciprocal": (0.3, 4),
    "Sinh": (-3, 3),
    "Cosh": (-3, 3),
    "Tan": (-1.3, 1.3),
    "Exp": (-4, 3),
}
"""Ranges that the inputs of some operators are brought to first."""
ATTRIBUTES = {"LeakyRelu": ("alpha",), "Elu": ("alpha",), "Celu": ("alpha",), "Selu": ("alpha", "gamma"),
              "HardSigmoid": ("alpha", "beta"), "ThresholdedRelu": ("alpha",), "Swish": ("alpha",),
              "Shrink": ("lambd", "bias")}  # fmt: skip
REDUCTIONS = [
    "ReduceSum",
    "ReduceMean",
    "ReduceMax",
    "ReduceMin",
    "ReduceProd",
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceSumSquare",
]


# -- elementwise ---------------------------------------------------------------------------------


def unary(b: Builder) -> Value:
    op = b.choice([*UNARY, *RANGES])
    v = b.pick("fi" if op in ("Abs", "Neg", "Sign", "Relu", "Identity") else "f")
    if op in RANGES:
        v = bounded(b, v, *RANGES[op])
    attributes = {
        a: round(float(b.rng.uniform(0.1, 1.5)), 3) for a in ATTRIBUTES.get(op, ()) if b.chance(0.4)
    }
    if op == "Gelu" and b.chance(0.4):
        attributes["approximate"] = "tanh"
    return tame(b, b.node(op, v, **attributes))


def chain(b: Builder) -> Value:
    """A few elementwise operators in a row, which fuse."""
    v = b.pick("f")
    for _ in range(b.integer(2, 5)):
        v = tame(
            b,
            b.node(
                b.choice(("Relu", "Tanh", "Sigmoid", "Neg", "Abs", "Softplus", "Erf", "Atan")), v
            ),
        )
        if b.chance(0.5):
            v = b.node(b.choice(("Add", "Mul", "Sub", "Max")), v, operand(b, v))
    return v


def binary(b: Builder) -> Value:
    v = b.pick("ffffiu")
    op = b.choice(("Add", "Add", "Mul", "Mul", "Sub", "Max", "Min", "Div", "Pow", "Mod", "PRelu"))
    if op == "Div" or op == "Mod":
        other = operand(b, v, 0.5, 3.0)
        other = bounded(b, other, 0.5, 4.0) if other.kind == "f" else bounded(b, other, 1, 7)
        fmod = {"fmod": 1} if op == "Mod" and (v.kind == "f" or b.chance(0.3)) else {}
        return tame(b, b.node(op, v, other, **fmod))
    if op == "Pow":
        v = bounded(b, v, 0.2, 3) if v.kind == "f" else bounded(b, v, 0, 5)
        return tame(b, b.node(op, v, bounded(b, operand(b, v), 0, 3)))
    if op == "PRelu":
        return b.node(
            op, v, b.source(tuple(d if b.chance(0.6) else (1,) * b.sets for d in v.dims), v.dtype)
        )
    pair = (v, operand(b, v))
    return tame(b, b.node(op, *(pair if b.chance(0.7) else pair[::-1])))


def same_twice(b: Builder) -> Value:
    v = b.pick("f")
    op = b.choice(("Add", "Mul", "Sub", "Max", "Concat", "Where", "Sum"))
    if op == "Concat":
        return b.node(op, v, v, axis=b.signed(b.axis(v, -1), v.rank)) if v.rank else v
    if op == "Where":
        return b.node(op, cast(b, v, BOOL), v, b.node("Neg", v))
    return tame(b, b.node(op, v, v))


def residual(b: Builder) -> Value:
    v = b.pick("f", low=1)
    w = b.node(b.choice(("Tanh", "Sigmoid", "Relu", "Softsign")), v)
    if b.chance(0.5):
        w = b.node("Mul", w, operand(b, w))
    if w.dims != v.dims:
        raise Rejected("broadcast to more")
    return tame(b, b.node("Add", v, w))


def variadic(b: Builder) -> Value:
    v = b.pick("f")
    return tame(
        b,
        b.node(
            b.choice(("Sum", "Mean", "Max", "Min")),
            v,
            *(operand(b, v) for _ in range(b.integer(0, 3))),
        ),
    )


def compare(b: Builder) -> Value:
    v = b.pick("fffi")
    op = b.choice(("Greater", "Less", "GreaterOrEqual", "LessOrEqual", "Equal"))
    if op == "Equal":
        v = cast(b, v, INT64)
    return b.node(op, v, operand(b, v))


def logic(b: Builder) -> Value:
    v = b.pick("b") if any(o.kind == "b" for o in b.values) else compare(b)
    if b.chance(0.3):
        return b.node("Not", v)
    return b.node(b.choice(("And", "Or", "Xor")), v, operand(b, v))


def where(b: Builder) -> Value:
    mask = b.pick("b") if b.chance(0.5) and any(o.kind == "b" for o in b.values) else compare(b)
    v = adapted(b, b.pick("f"), [d[0] for d in mask.dims]) if b.chance(0.2) else None
    if v is None:
        like = [o for o in b.values if o.kind == "f" and o.dims == mask.dims]
        v = b.choice(like) if like else b.source(mask.dims, b.float_dtype())
    pair = (v, operand(b, v))
    return b.node("Where", mask, *(pair if b.chance(0.5) else pair[::-1]))


def masked_softmax(b: Builder) -> Value:
    """Scores with -inf where a mask says so; the first of each row always stays."""
    v = b.pick(
        "f", low=1, where=lambda o: o.kind == "f" and not o.is_empty and o.dtype.itemsize > 2
    )
    keep = b.rng.random([max(d) for d in v.dims]) < 0.6
    keep[..., 0] = True
    if not v.fixed:
        keep = (
            keep[(slice(0, 1),) * (v.rank - 1)]
            if set(v.dims[-1]) == {v.dims[-1][0]}
            else keep[(slice(0, 1),) * v.rank]
        )
    how = b.integer(0, 2)
    low = b.constant(-np.inf if b.chance(0.7) else -1e9, v.dtype)
    if how == 0:
        scores = b.node("Where", b.constant(keep), v, low)
    else:
        scores = b.node("Add", v, b.constant(np.where(keep, 0.0, -np.inf), v.dtype))
    return b.node(
        b.choice(("Softmax", "Softmax", "LogSoftmax")) if how != 1 else "Softmax", scores, axis=-1
    )


def clip(b: Builder) -> Value:
    v = b.pick("ffi")
    low, high = (-3, 4) if v.kind == "i" else (-0.8, 0.9)
    return b.node("Clip", v, b.constant(low, v.dtype) if b.chance(0.7) else None,
                  b.constant(high, v.dtype) if b.chance(0.8) else None)  # fmt: skip


def casts(b: Builder) -> Value:
    v = b.pick("ffffiub")
    targets = [
        FLOAT,
        np.dtype("f8"),
        np.dtype("f2"),
        BFLOAT16,
        np.dtype("i4"),
        INT64,
        np.dtype("u1"),
        np.dtype("i1"),
        BOOL,
    ]
    other = cast(b, v, b.choice(targets))
    if other.kind == "f" and b.chance(0.7):
        other = b.node(
            b.choice(("Relu", "Neg", "Exp", "Sigmoid", "Tanh", "Abs")), bounded(b, other, -3, 3)
        )
    if b.chance(0.6) and v.kind == "f":
        return cast(b, other, FLOAT) if b.chance(0.7) else b.node("CastLike", other, v)
    return other


def bits(b: Builder) -> Value:
    v = b.pick("iu")
    op = b.choice(("BitwiseAnd", "BitwiseOr", "BitwiseXor", "BitwiseNot", "BitShift"))
    if op == "BitwiseNot":
        return b.node(op, v)
    if op == "BitShift":
        v = cast(b, v, np.uint32)
        return b.node(
            op, v, b.constant(b.integer(0, 5), np.uint32), direction=b.choice(("LEFT", "RIGHT"))
        )
    return b.node(op, v, operand(b, v))


# -- reductions ----------------------------------------------------------------------------------


def reduce(b: Builder) -> Value:
    v = b.pick("fffffi", low=1)
    op = b.choice(REDUCTIONS)
    if v.kind == "i":
        op = b.choice(("ReduceSum", "ReduceMax", "ReduceMin", "ReduceSumSquare", "ReduceL1"))
    if op == "ReduceLogSum":
        v = bounded(b, v, 0.2, 3)
    if op == "ReduceProd":
        v = bounded(b, v, 0.6, 1.4)
    keep = b.integer(0, 1)
    axes = [b.signed(int(a), v.rank) for a in b.rng.permutation(v.rank)[: b.integer(1, v.rank)]]
    if (
        v.is_empty
    ):  # ONNX Runtime does not take negative axes there, and has 0 for the mean of nothing
        axes = [a % v.rank for a in axes]
        op = op if op != "ReduceMean" else "ReduceSum"
    if b.chance(0.08):
        return tame(b, b.node(op, v, keepdims=keep))
    if b.opset >= 18 or op == "ReduceSum":
        return tame(b, b.node(op, v, axes, keepdims=keep))
    return tame(b, b.node(op, v, axes=axes, keepdims=keep))


def softmax(b: Builder) -> Value:
    v = b.pick("f", low=1)
    op = b.choice(("Softmax", "Softmax", "Softmax", "LogSoftmax", "LpNormalization", "Hardmax"))
    return b.node(op, v, axis=b.signed(b.axis(v), v.rank))


def arg_reduce(b: Builder) -> Value:
    v = b.pick("f", low=1)
    found = b.node(
        b.choice(("ArgMax", "ArgMin")),
        v,
        axis=b.signed(b.axis(v), v.rank),
        keepdims=b.integer(0, 1),
    )
    if b.chance(0.5):
        return cast(b, found, b.float_dtype())
    extent = max(int(a.max(initial=0)) for a in found.arrays) + 1
    table = b.weight(extent, b.size(9), scale=1.0)
    return b.node("Gather", table, found, axis=0)


def cumulate(b: Builder) -> Value:
    v = b.pick("ffi", low=1)
    return tame(
        b,
        b.node(
            "CumSum",
            v,
            b.signed(b.axis(v, -1), v.rank),
            exclusive=b.integer(0, 1),
            reverse=b.integer(0, 1),
        ),
    )


def top_k(b: Builder) -> Value:
    v = b.pick("f", low=1)
    axis = b.axis(v)
    k = b.integer(1, min(min(v.dims[axis]), 8))
    values, where_ = b.node(
        "TopK", v, [k], axis=b.signed(axis, v.rank), largest=b.integer(0, 1), outputs=2
    )
    if b.chance(0.5):
        return b.node("GatherElements", v, where_, axis=axis)
    return values if b.chance(0.5) else b.node("Add", values, cast(b, where_, values.dtype))


def normalise(b: Builder) -> Value:
    v = b.pick("f", low=2, where=lambda o: o.kind == "f" and not o.is_empty)
    op = b.choice(("LayerNormalization", "LayerNormalization", "InstanceNormalization", "BatchNormalization",
                   "GroupNormalization", "MeanVarianceNormalization", "RMSNormalization", "LRN"))  # fmt: skip
    channels = set(v.dims[1])
    if op in ("LayerNormalization", "RMSNormalization"):
        axis = v.rank - 1 if b.chance(0.8) else b.integer(1, v.rank - 1)
        tail = v.dims[axis:]
        if any(len(set(d)) > 1 for d in tail):
            raise Rejected("sizes of weights are fixed")
        shape = [d[0] for d in tail]
        extra = (
            (b.weight(*shape, dtype=v.dtype, scale=1.0),) if op[0] == "L" and b.chance(0.7) else ()
        )
        scale = b.constant(b.numbers(shape, v.dtype, 0.5, 1.5))
        return b.node(
            op, v, scale, *extra, axis=b.signed(axis, v.rank), epsilon=b.choice((1e-5, 1e-3))
        )
    if op == "MeanVarianceNormalization":
        axes = sorted(int(a) for a in b.rng.permutation(v.rank)[: b.integer(1, v.rank)])
        return b.node(op, v, axes=axes)
    if op == "LRN":
        return b.node(op, v, size=b.choice((1, 3, 5)), alpha=0.1)
    if len(channels) > 1:
        raise Rejected("the number of channels is fixed")
    count = channels.pop()
    parameters = [
        b.constant(b.numbers((count,), v.dtype, low, high))
        for low, high in ((0.5, 1.5), (-1, 1), (-1, 1), (0.3, 2))
    ]
    if op == "BatchNormalization":
        return b.node(op, v, *parameters)
    if op == "GroupNormalization":
        groups = b.choice([g for g in range(1, count + 1) if count % g == 0])
        return b.node(op, v, *parameters[:2], num_groups=groups)
    return b.node(op, v, *parameters[:2])


# -- products ------------------------------------------------------------------------------------


def matmul(b: Builder) -> Value:
    v = b.pick(
        "f",
        low=1,
        where=lambda o: o.kind == "f" and len(set(o.dims[-1] if o.rank else (0, 1))) == 1,
    )
    depth, width = v.dims[-1][0], b.size(48)
    if v.rank == 2 and b.chance(0.4):
        weight = b.weight(
            *((width, depth) if (turned := b.integer(0, 1)) else (depth, width)),
            dtype=v.dtype,
            scale=0.5,
        )
        bias = (
            (b.weight(*((width,) if b.chance(0.8) else ()), dtype=v.dtype, scale=1.0),)
            if b.chance(0.8)
            else ()
        )
        return tame(
            b, b.node("Gemm", v, weight, *bias, transB=turned, alpha=b.choice((1.0, 1.0, 0.5)))
        )
    shape = (depth, width) if b.chance(0.9) else (depth,)
    product = b.node("MatMul", v, b.weight(*shape, dtype=v.dtype, scale=0.5))
    if b.chance(0.5):
        product = b.node(
            "Add", product, b.weight(width if len(shape) == 2 else 1, dtype=v.dtype, scale=1.0)
        )
    return tame(
        b,
        product
        if b.chance(0.5)
        else b.node(b.choice(("Relu", "Tanh", "Gelu", "Sigmoid")), product),
    )


def pair_product(b: Builder) -> Value:
    """A product of two values of the graph."""
    v = b.pick("f", low=2, high=4)
    order = [*range(v.rank - 2), v.rank - 1, v.rank - 2]
    others = [o for o in b.values if o.dtype == v.dtype and o.rank == v.rank and o.dims[:-2] == v.dims[:-2]
              and o.dims[-2] == v.dims[-1]]  # fmt: skip
    other = b.choice(others) if others and b.chance(0.6) else b.node("Transpose", v, perm=order)
    if other.dims[-2] != v.dims[-1]:
        raise Rejected("sizes differ")
    return tame(b, b.node("MatMul", v, other))


def einsum(b: Builder) -> Value:
    v = b.pick("f", low=2, high=3)
    if v.rank == 2:
        rule = b.choice(("ij->ji", "ij->i", "ij,ij->i", "ij,kj->ik", "ij,ij->ij", "ij,ij->"))
    else:
        rule = b.choice(
            ("bij->bji", "bij,bij->bi", "bij,bkj->bik", "bij,bkj->bki", "bij->j", "bij,bij->ij")
        )
    return tame(b, b.node("Einsum", *([v] * (rule.count(",") + 1)), equation=rule))


# -- indexing ------------------------------------------------------------------------------------


def gather(b: Builder) -> Value:
    v = b.pick("ffffib", low=1)
    axis = b.axis(v)
    shape = [b.size(12) for _ in range(b.integer(0, 2))]
    return b.node("Gather", v, indices(b, shape, v.dims[axis]), axis=b.signed(axis, v.rank))


def gather_elements(b: Builder) -> Value:
    v = b.pick("f", low=1, high=3, where=lambda o: not o.is_empty)
    axis = b.axis(v)
    shape = [min(d) for d in v.dims]
    shape[axis] = b.size(9)
    if any(
        set(d) != {s} for k, (d, s) in enumerate(zip(v.dims, shape, strict=True)) if k != axis
    ) and b.chance(0.5):
        raise Rejected("prefers whole axes")
    return b.node("GatherElements", v, indices(b, shape, v.dims[axis]), axis=b.signed(axis, v.rank))


def gather_nd(b: Builder) -> Value:
    v = b.pick("f", low=2, high=4, where=lambda o: not o.is_empty)
    depth = b.integer(1, v.rank)
    columns = [indices(b, [b_, 1], v.dims[k]) for b_ in (b.size(7),) for k in range(depth)]
    columns = [cast(b, c, INT64) for c in columns]
    return b.node("GatherND", v, b.node("Concat", *columns, axis=-1) if depth > 1 else columns[0])


def scatter_nd(b: Builder) -> Value:
    """Updates of some rows by a function of what is there: ``t[i] = f(t[i])`` as it is exported."""
    v = b.pick("f", low=1, high=3, where=lambda o: not o.is_empty)
    count = b.integer(1, min(4, min(v.dims[0])))
    rows = b.node("Unsqueeze", unique_rows(b, count, v.dims[0]), [1])
    base = v if b.chance(0.5) else b.node(b.choice(("Tanh", "Neg", "Identity", "Sigmoid")), v)
    old = b.node("GatherND", v, rows)
    new = tame(b, b.node(b.choice(("Tanh", "Sigmoid", "Abs", "Cos")), old))
    if b.chance(0.4):
        new = b.node("Add", new, operand(b, new))
    if b.chance(0.3):
        new = b.node("Squeeze", b.node("Unsqueeze", new, [0]), [0])
    reduction = (
        {"reduction": b.choice(("add", "mul", "max", "min"))}
        if b.opset >= 18 and b.chance(0.35)
        else {}
    )
    return tame(b, b.node("ScatterND", base, rows, new, **reduction))


def scatter_elements(b: Builder) -> Value:
    v = b.pick("f", low=1, high=3, where=lambda o: not o.is_empty and o.fixed)
    axis = b.axis(v)
    shape = [d[0] for d in v.dims]
    shape[axis] = b.integer(1, shape[axis])
    add = {"reduction": b.choice(("add", "max", "min"))} if b.opset >= 18 and b.chance(0.5) else {}
    if add:
        where_ = indices(b, shape, v.dims[axis], negative=False)
    else:
        order = np.argsort(b.rng.random([d[0] for d in v.dims]), axis=axis)
        where_ = b.constant(np.take(order, range(shape[axis]), axis).astype(np.int64))
    updates = adapted(b, b.pick("f", where=lambda o: o.dtype == v.dtype), shape, v.dtype)
    if b.chance(0.5):
        updates = b.node(b.choice(("Tanh", "Abs", "Sigmoid")), updates)
    return tame(
        b, b.node("ScatterElements", v, where_, updates, axis=b.signed(axis, v.rank), **add)
    )


def one_hot(b: Builder) -> Value:
    depth = b.integer(2, 9)
    where_ = indices(b, [b.size(9) for _ in range(b.integer(1, 2))], (depth,) * b.sets)
    return b.node("OneHot", where_, depth, b.constant(b.numbers((2,))), axis=b.choice((0, -1, 1)))


def select(b: Builder) -> Value:
    """Rows that a condition of the numbers chooses: sizes that the run tells."""
    v = b.pick("f", low=1, high=3, where=lambda o: not o.is_empty)
    axes = list(range(1, v.rank))
    if not axes:
        score = v
    elif b.opset >= 18:
        score = b.node("ReduceSum", v, axes, keepdims=0)
    else:
        raise Rejected("axes are attributes")
    how = b.integer(0, 3)
    mask = b.node("Greater", score, scalar(b, v.dtype, -0.4, 0.1))
    if how == 0:
        return b.node("Compress", v, mask, axis=0)
    found = b.node("NonZero", mask)
    if how == 1:
        return b.node("GatherND", v, b.node("Transpose", found))
    if how == 2:
        return b.node("Gather", v, b.node("Squeeze", found, [0]), axis=0)
    rows = b.node("Transpose", found)
    return b.node("ScatterND", v, rows, b.node("Neg", b.node("GatherND", v, rows)))


def unique(b: Builder) -> Value:
    if b.chance(0.5):
        v = b.pick("i", low=1, where=lambda o: not o.is_empty and o.dtype == INT64)
    else:
        v = b.input([b.size(20)], INT64, -4, 4)
    count = b.integer(1, 4)
    results = b.node("Unique", b.node("Reshape", v, [-1]), outputs=count, sorted=b.integer(0, 1))
    first = results[0] if isinstance(results, tuple) else results
    return cast(b, first, FLOAT)


def trilu(b: Builder) -> Value:
    return b.node("Trilu", b.pick("ffi", low=2), b.integer(-2, 3), upper=b.integer(0, 1))


ROWS: dict[str, tuple[float, Row]] = {
    "unary": (6, unary),
    "chain": (3, chain),
    "binary": (7, binary),
    "same twice": (2, same_twice),
    "residual": (2, residual),
    "variadic": (1.5, variadic),
    "compare": (1, compare),
    "logic": (1, logic),
    "where": (2, where),
    "masked softmax": (1, masked_softmax),
    "clip": (1, clip),
    "casts": (2.5, casts),
    "bits": (0.7, bits),
    "reduce": (4, reduce),
    "softmax": (2, softmax),
    "arg reduce": (1, arg_reduce),
    "cumulate": (1, cumulate),
    "top k": (1, top_k),
    "normalise": (2, normalise),
    "matmul": (3, matmul),
    "pair product": (1.5, pair_product),
    "einsum": (1, einsum),
    "gather": (2, gather),
    "gather elements": (1, gather_elements),
    "gather nd": (1, gather_nd),
    "scatter nd": (2, scatter_nd),
    "scatter elements": (1.5, scatter_elements),
    "one hot": (0.5, one_hot),
    "select": (1.2, select),
    "unique": (0.5, unique),
    "trilu": (0.7, trilu),
}
"""Weight and function of each."""
