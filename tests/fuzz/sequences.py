"""Motifs of sequence models, written as exporters write them: attention, LayerNorm, gates, recurrence."""

from __future__ import annotations

import numpy as np

from .builder import FLOAT, INT64, Builder, Rejected, Value
from .reference import element_type
from .rows import Row
from .shaping import part_of, sizes, tame


def sequence(b: Builder, width: int | None = None) -> Value:
    """A value ``[N, T, C]`` with a known width: of the graph, or a new input."""
    widths = (width,) if width else range(2, 99)
    found = [
        v
        for v in b.values
        if v.rank == 3
        and v.dtype in b.kinds
        and not v.is_empty
        and len(set(v.dims[2])) == 1
        and v.dims[2][0] in widths
    ]
    if found and b.chance(0.7):
        return b.choice(found[-4:])
    names = list(b.symbols)
    batch = b.choice((1, 2, 3, *names))
    steps = b.choice((1, 5, 7, 16, 17, *names, *names))
    return b.input(
        [batch, steps, width or b.choice((4, 6, 8, 12, 16, 20, 24, 32))], b.float_dtype()
    )


def dense(b: Builder, v: Value, width: int, bias: bool = True) -> Value:
    """A linear layer over the last axis: MatMul and Add."""
    if len(set(v.dims[-1])) > 1:
        raise Rejected("the width must be known")
    product = b.node(
        "MatMul",
        v,
        b.weight(v.dims[-1][0], width, dtype=v.dtype, scale=1.2 / np.sqrt(v.dims[-1][0])),
    )
    if not bias:
        return product
    pair = product, b.weight(width, dtype=v.dtype, scale=0.5)
    return b.node("Add", *(pair if b.chance(0.5) else pair[::-1]))


def attention(b: Builder) -> Value:
    """Self-attention: separate or joint projections, scales, masks, heads by Reshape or Split."""
    x = sequence(b)
    width = x.dims[2][0]
    heads = b.choice([h for h in (1, 2, 3, 4, 8) if width % h == 0])
    if b.chance(0.3):  # one projection for all, as torch does it
        joint = dense(b, x, 3 * width)
        if b.chance(0.5):
            q, k, v = b.node("Split", joint, [width] * 3, axis=2, outputs=3)
        else:
            parts = [part_of(b, x, 0), part_of(b, x, 1)]
            cube = b.node("Reshape", joint, sizes(b, [*parts, 3, heads, width // heads]))
            cube = b.node("Transpose", cube, perm=[2, 0, 3, 1, 4])
            picked = [b.node("Gather", cube, n, axis=0) for n in range(3)]
            return _attend(b, x, *picked, heads, done=True)
    else:
        q, k, v = (dense(b, x, width, b.chance(0.7)) for _ in range(3))
    return _attend(b, x, q, k, v, heads, done=False)


def _attend(b: Builder, x: Value, q: Value, k: Value, v: Value, heads: int, done: bool) -> Value:
    width = x.dims[2][0]
    depth = width // heads
    if not done and heads > 1:

        def apart(t: Value) -> Value:
            parts = [0 if b.chance(0.5) and not t.is_empty else part_of(b, t, a) for a in (0, 1)]
            cube = b.node("Reshape", t, sizes(b, [*parts, heads, depth]))
            return b.node("Transpose", cube, perm=[0, 2, 1, 3])

        q, k, v = apart(q), apart(k), apart(v)
    rank = q.rank
    factor = float(depth) ** -0.5
    how = b.integer(0, 3)
    if how == 0:
        q = b.node("Mul", q, b.constant(factor, q.dtype))
    if how == 1:
        q, k = (b.node("Mul", t, b.constant(factor**0.5, t.dtype)) for t in (q, k))
    turned = b.node("Transpose", k, perm=[*range(rank - 2), rank - 1, rank - 2])
    scores = b.node("MatMul", q, turned)
    if how == 2:
        scores = b.node("Div", scores, b.constant(1 / factor, q.dtype))
    if how == 3:
        scores = b.node("Mul", scores, b.constant(factor, q.dtype))
    scores = tame(b, scores)
    if b.chance(0.35):
        scores = _masked(b, scores)
    weights = b.node("Softmax", scores, axis=-1)
    if b.chance(0.1):
        weights = b.node("Dropout", weights)
    mixed = b.node("MatMul", weights, v)
    if rank == 4:
        mixed = b.node("Transpose", mixed, perm=[0, 2, 1, 3])
        mixed = b.node("Reshape", mixed, sizes(b, [part_of(b, x, 0), part_of(b, x, 1), width]))
    out = dense(b, mixed, width) if b.chance(0.6) else mixed
    if out.dims == x.dims and b.chance(0.6):
        out = b.node("Add", x, out)
    return tame(b, out)


def _masked(b: Builder, scores: Value) -> Value:
    """A causal mask of constants or computed, or one that is an input per key."""
    low = b.constant(b.choice((-np.inf, -1e4)), scores.dtype)
    last, before = scores.dims[-1], scores.dims[-2]
    if b.chance(0.5) and len(set(last)) == 1 and last == before:
        mask = np.triu(np.ones((last[0], last[0]), bool), 1)
        return b.node("Where", b.constant(mask), low, scores)
    if b.chance(0.5):
        ones = b.node(
            "ConstantOfShape", sizes(b, [(scores, scores.rank - 2), (scores, scores.rank - 1)])
        )
        tri = b.node(
            "Trilu", b.node("Add", ones, b.constant(1.0, FLOAT)), b.constant(0, INT64), upper=0
        )
        return b.node("Where", b.node("Greater", tri, b.constant(0.5, FLOAT)), scores, low)
    arrays = [b.rng.random(last[k]) < 0.7 for k in range(b.sets)]
    for a in arrays:
        a[:1] = True
    names = [n for n, s in b.symbols.items() if s == last]
    shape = [last[0]] if len(set(last)) == 1 else [names[0]] if names else None
    if shape is None:
        raise Rejected("no symbol for the mask")
    return b.node("Where", b.input_of(arrays, shape), scores, low)


def layer_norm(b: Builder) -> Value:
    """LayerNorm, RMSNorm or a standardisation by parts, in several exporters' ways."""
    x = b.pick("f", low=1, high=4, where=lambda o: not o.is_empty)
    axis = x.rank - 1 if b.chance(0.8) else b.axis(x)

    def mean(v: Value) -> Value:
        if b.opset >= 18:
            return b.node("ReduceMean", v, [axis if b.chance(0.5) else axis - x.rank], keepdims=1)
        return b.node("ReduceMean", v, axes=[axis], keepdims=1)

    centred = x if b.chance(0.2) else b.node("Sub", x, mean(x))
    how = b.integer(0, 2)
    square = (
        b.node("Mul", centred, centred) if how == 0
        else b.node("Pow", centred, b.constant(2.0, x.dtype)) if how == 1
        else b.node("Pow", centred, b.constant(2, INT64))
    )  # fmt: skip
    spread = b.node("Add", mean(square), b.constant(b.choice((1e-5, 1e-3)), x.dtype))
    root = b.node("Sqrt", spread)
    how = b.integer(0, 2)
    if how == 0:
        y = b.node("Div", centred, root)
    elif how == 1:
        y = b.node("Mul", centred, b.node("Reciprocal", root))
    else:
        y = b.node("Mul", centred, b.node("Pow", spread, b.constant(-0.5, x.dtype)))
    if len(set(x.dims[-1])) == 1 and b.chance(0.6):
        y = b.node("Mul", y, b.weight(x.dims[-1][0], dtype=x.dtype, scale=1.5))
        if b.chance(0.7):
            y = b.node("Add", y, b.weight(x.dims[-1][0], dtype=x.dtype, scale=1.0))
    return tame(b, y)


def gate(b: Builder) -> Value:
    """GLU, SwiGLU, GeGLU, highway: halves of a projection that multiply each other."""
    x = b.pick(
        "f",
        low=2,
        high=4,
        where=lambda o: o.rank > 1 and len(set(o.dims[-1])) == 1 and not o.is_empty,
    )
    width = b.choice((3, 4, 8, 12, 16, 17, 32))
    both = dense(b, x, 2 * width, b.chance(0.5)) if b.chance(0.8) else None
    if both is None:
        one, other = dense(b, x, width), dense(b, x, width)
    elif b.chance(0.6):
        one, other = b.node("Split", both, [width, width], axis=-1, outputs=2)
    else:
        one = b.node("Slice", both, [0], [width], [-1])
        other = b.node("Slice", both, [width], [2**62], [-1])
    how = b.integer(0, 3)
    opened = (
        b.node("Sigmoid", other) if how == 0
        else b.node("Mul", other, b.node("Sigmoid", other)) if how == 1
        else b.node("Gelu", other) if how == 2 and b.opset >= 20
        else b.node("Tanh", other)
    )  # fmt: skip
    return tame(b, b.node("Mul", one, opened))


def gelu(b: Builder) -> Value:
    """Gelu written out, by erf or by tanh."""
    x = b.pick("f")
    half, one = b.constant(0.5, x.dtype), b.constant(1.0, x.dtype)
    if b.chance(0.6):
        inner = b.node("Erf", b.node("Div", x, b.constant(np.sqrt(2.0), x.dtype)))
    else:
        cube = b.node(
            "Mul", b.node("Pow", x, b.constant(3.0, x.dtype)), b.constant(0.044715, x.dtype)
        )
        inner = b.node(
            "Tanh", b.node("Mul", b.node("Add", x, cube), b.constant(np.sqrt(2 / np.pi), x.dtype))
        )
    bent = b.node("Add", inner, one)
    if b.chance(0.5):
        return tame(b, b.node("Mul", b.node("Mul", x, half), bent))
    return tame(b, b.node("Mul", b.node("Mul", x, bent), half))


def lstm_cell(b: Builder) -> Value:
    """Two or three steps of an LSTM or GRU by hand, the gates by Split."""
    names = list(b.symbols)
    hidden, width = b.choice((3, 4, 8, 16, 17)), b.size(12)
    batch = b.choice((1, 2, 5, *names))
    h = b.input([batch, hidden], FLOAT)
    c = b.input([batch, hidden], FLOAT)
    w, r, bias = (
        b.weight(width, 4 * hidden),
        b.weight(hidden, 4 * hidden),
        b.weight(4 * hidden, scale=0.5),
    )
    for _ in range(b.integer(1, 3)):
        x = b.input([batch, width], FLOAT)
        z = b.node("Add", b.node("Add", b.node("MatMul", x, w), b.node("MatMul", h, r)), bias)
        i, o, f, g = split_of4(b, z, hidden)
        i, o, f = (b.node("Sigmoid", t) for t in (i, o, f))
        c = b.node("Add", b.node("Mul", f, c), b.node("Mul", i, b.node("Tanh", g)))
        h = b.node("Mul", o, b.node("Tanh", c))
    return h if b.chance(0.5) else b.node("Concat", h, c, axis=1)


def split_of4(b: Builder, z: Value, width: int) -> tuple[Value, Value, Value, Value]:
    """Four parts of the last axis, by Split or by Slices."""
    if b.chance(0.7):
        one, two, three, four = b.node("Split", z, [width] * 4, axis=b.choice((1, -1)), outputs=4)
    else:
        one, two, three, four = (
            b.node("Slice", z, [k * width], [(k + 1) * width], [1]) for k in range(4)
        )
    return one, two, three, four


def recurrent(b: Builder) -> Value:
    """LSTM, GRU and RNN as operators over a sequence."""
    x = sequence(b)
    hidden = b.choice((2, 4, 5, 8, 16))
    op, gates = b.choice((("LSTM", 4), ("GRU", 3), ("RNN", 1)))
    direction = b.choice(("forward", "reverse", "bidirectional"))
    count = 2 if direction == "bidirectional" else 1
    if x.dtype != FLOAT:
        raise Rejected("the operator is for floats")
    more = {"linear_before_reset": 1} if op == "GRU" and b.chance(0.5) else {}
    bias = b.weight(count, 2 * gates * hidden, scale=0.3) if b.chance(0.7) else None
    weights = (
        b.weight(count, gates * hidden, x.dims[2][0], scale=0.3),
        b.weight(count, gates * hidden, hidden, scale=0.3),
    )
    results = b.node(
        op, x, *weights, bias, hidden_size=hidden, direction=direction, outputs=2, **more
    )
    if b.chance(0.3):
        return results[1]
    turned = b.node("Transpose", results[0], perm=[0, 2, 1, 3])
    return b.node("Reshape", turned, [0, 0, -1]) if not turned.is_empty else turned


def positional(b: Builder) -> Value:
    """Sines of positions: Range, outer product, Sin and Cos, Concat or interleaved by Stack and Reshape."""
    x = sequence(b)
    width = x.dims[2][0]
    if width % 2:
        raise Rejected("needs an even width")
    end = b.node("Squeeze", sizes(b, [(x, 1)]), [0])
    steps = b.node(
        "Cast",
        b.node("Range", b.constant(0, INT64), end, b.constant(1, INT64)),
        to=element_type(x.dtype),
    )
    rates = b.constant(b.numbers((1, width // 2), x.dtype, 0.01, 1.0))
    angle = b.node("Mul", b.node("Unsqueeze", steps, [1]), rates)
    pair = b.node("Sin", angle), b.node("Cos", angle)
    if b.chance(0.5):
        code = b.node("Concat", *pair, axis=1)
    else:
        stacked = b.node("Concat", *(b.node("Unsqueeze", p, [2]) for p in pair), axis=2)
        code = b.node("Reshape", stacked, sizes(b, [(x, 1), width]))
    return b.node("Add", x, code)


def rotary(b: Builder) -> Value:
    """x * cos + rotate_half(x) * sin."""
    x = sequence(b)
    width = x.dims[2][0]
    if width % 2:
        raise Rejected("needs an even width")
    one, other = b.node("Split", x, [width // 2] * 2, axis=-1, outputs=2)
    turned = b.node("Concat", b.node("Neg", other), one, axis=-1)
    cos, sin = (b.source(x.dims[1:], x.dtype, -1, 1) for _ in range(2))
    return b.node("Add", b.node("Mul", x, cos), b.node("Mul", turned, sin))


ROWS: dict[str, tuple[float, Row]] = {
    "attention": (2.5, attention),
    "layer norm by parts": (2.5, layer_norm),
    "gate": (2, gate),
    "gelu": (1, gelu),
    "lstm by hand": (1, lstm_cell),
    "recurrent": (0.8, recurrent),
    "positional": (0.7, positional),
    "rotary": (0.7, rotary),
}
"""Weight and function of each."""
