"""Rows that move elements: views, views of views, Split and Concat ladders, computed shapes."""

from __future__ import annotations

import numpy as np

from .builder import FLOAT, INT64, Builder, Rejected, Value
from .rows import Row
from .shaping import cast, operand, part_of, reshaped, scalar, sizes, tame

ANY = "ffffffib"


def transpose(b: Builder, v: Value | None = None) -> Value:
    v = v or b.pick(ANY, low=1)
    return b.node("Transpose", v, perm=[int(a) for a in b.rng.permutation(v.rank)])


def join_axes(b: Builder, v: Value | None = None) -> Value:
    """Reshape that joins neighbouring axes."""
    v = v or b.pick(ANY, low=2)
    if v.rank < 2:
        raise Rejected("nothing to join")
    groups: list[list[int]] = [[0]]
    for axis in range(1, v.rank):
        if b.chance(0.5):
            groups[-1].append(axis)
        else:
            groups.append([axis])
    return reshaped(b, v, groups)


def split_axis(b: Builder, v: Value | None = None) -> Value:
    """Reshape that cuts one axis in two."""
    v = v or b.pick(ANY, low=1)
    axis = b.choice([k for k, d in enumerate(v.dims) if len(set(d)) == 1 and d[0] > 1])
    size = v.dims[axis][0]
    first = b.choice([n for n in range(1, size + 1) if size % n == 0])
    pair = [first, size // first]
    parts = [part_of(b, v, k) for k in range(v.rank)]
    if (
        not v.is_empty
        and all(isinstance(p, int) for k, p in enumerate(parts) if k != axis)
        and b.chance(0.4)
    ):
        pair[b.integer(0, 1)] = -1
    return b.node("Reshape", v, sizes(b, [*parts[:axis], *pair, *parts[axis + 1 :]]))


def flatten(b: Builder, v: Value | None = None) -> Value:
    v = v or b.pick(ANY, low=1)
    return b.node("Flatten", v, axis=b.integer(0, v.rank))


def cut(b: Builder, v: Value | None = None) -> Value:
    """Slice with constant or computed bounds, steps and axes counted from the end."""
    v = v or b.pick(ANY, low=1)
    axes = sorted(int(a) for a in b.rng.permutation(v.rank)[: b.integer(1, min(v.rank, 2))])
    starts, ends, steps = [], [], []
    for axis in axes:
        smallest = min(v.dims[axis])
        low = b.integer(0, max(0, smallest - 1))
        high = (
            b.integer(low, smallest)
            if b.chance(0.1)
            else b.integer(min(low + 1, smallest), smallest)
        )
        step = b.choice((1, 1, 1, 2, 3))
        if b.chance(0.25):
            low, high, step = high - 1, low - 1, -step
            starts.append(low if b.chance(0.6) else -1)
            ends.append(-(2**63) + 1 if high < 0 else high)
        else:
            starts.append(low if b.chance(0.7) or low == 0 else low - smallest)
            ends.append(high if b.chance(0.6) else 2**63 - 1 if b.chance(0.7) else -1)
        steps.append(step)
    names = [b.signed(a, v.rank) for a in axes]
    extra = [names, steps] if any(s != 1 for s in steps) or b.chance(0.3) else [names]
    return b.node("Slice", v, starts, ends, *extra)


def cut_at_run_time(b: Builder) -> Value:
    """Slice whose end is half of a size, or comes from an input."""
    v = b.pick("f", low=1, where=lambda o: not o.is_empty)
    axis = b.axis(v)
    end = sizes(b, [(v, axis)])
    end = b.node("Div", end, [2]) if b.chance(0.6) else b.node("Sub", end, [1])
    if b.chance(0.3):
        end = b.input_of([b.numbers((1,), INT64, 1, d) for d in v.dims[axis]], [1])
    first, second = b.node("Slice", v, [0], end, [axis]), b.node("Slice", v, end, [2**62], [axis])
    return b.node("Concat", *((first, second) if b.chance(0.5) else (second, first)), axis=axis)


def flip(b: Builder, v: Value | None = None) -> Value:
    v = v or b.pick(ANY, low=1)
    axis = b.axis(v, -1)
    return b.node("Slice", v, [-1], [-(2**63) + 1], [b.signed(axis, v.rank)], [-1])


def squeeze(b: Builder, v: Value | None = None) -> Value:
    v = v or b.pick(ANY, low=0)
    ones = [k for k, d in enumerate(v.dims) if set(d) == {1}]
    if ones and b.chance(0.6):
        return b.node("Squeeze", v, [b.signed(b.choice(ones), v.rank)])
    return b.node("Unsqueeze", v, [b.integer(-v.rank - 1, v.rank)])


def expand(b: Builder, v: Value | None = None) -> Value:
    v = v or b.pick(ANY, low=0, high=4)
    if not any(set(d) == {1} for d in v.dims) or b.chance(0.3):
        axis = b.integer(0, v.rank)
        v = b.node("Unsqueeze", v, [axis])
    parts: list[int | tuple[Value, int]] = []
    for k, d in enumerate(v.dims):
        others = [(o, a) for o in b.values[-10:] for a in range(o.rank) if len(set(o.dims[a])) > 1]
        if set(d) != {1}:
            parts.append(part_of(b, v, k) if b.chance(0.6) else 1)
        elif others and b.chance(0.4):
            parts.append(b.choice(others))
        else:
            parts.append(b.size(9))
    if b.chance(0.2):
        parts.insert(0, b.size(4))
    return b.node("Expand", v, sizes(b, parts))


def tile(b: Builder, v: Value | None = None) -> Value:
    v = v or b.pick(ANY, low=1)
    return b.node("Tile", v, [b.integer(1, 3) if b.chance(0.5) else 1 for _ in range(v.rank)])


def pad(b: Builder, v: Value | None = None) -> Value:
    v = v or b.pick("ffi", low=1, high=4)
    mode = b.choice(("constant", "constant", "edge", "reflect", "wrap"))
    least = [min(d) for d in v.dims]
    most = [max(0, s - 1) if mode in ("reflect", "wrap") else 3 for s in least]
    pads = [
        b.integer(-1 if mode == "constant" and s > 2 else 0, min(3, m))
        for s, m in zip(least * 2, most * 2, strict=True)
    ]
    value = (scalar(b, v.dtype),) if mode == "constant" and b.chance(0.5) else ()
    return b.node("Pad", v, pads, *value, mode=mode)


def view_of_views(b: Builder) -> Value:
    """Several views in a row, with something elementwise before or after."""
    v = b.pick(ANY, low=1)
    if v.kind == "f" and b.chance(0.5):
        v = b.node(b.choice(("Tanh", "Neg", "Exp" if _small(v) else "Sigmoid", "Softsign")), v)
    for _ in range(b.integer(2, 5)):
        row = b.choice((transpose, join_axes, split_axis, cut, flip, squeeze, expand, flatten))
        try:
            v = row(b, v)
        except Rejected:
            continue
    return b.node("Mul", v, v) if v.kind == "f" and b.chance(0.4) else v


def _small(v: Value) -> bool:
    return all(not a.size or np.max(np.abs(a.astype(np.float64))) < 5 for a in v.arrays)


def split(b: Builder) -> Value:
    """Split of a value that was just computed; the parts are used, differently or not at all."""
    v = b.pick("f", low=1)
    how = b.integer(0, 3)
    if how == 1:
        v = b.node(b.choice(("Tanh", "Sigmoid", "Neg", "Softplus")), v)
    elif how == 2:
        v = b.node("Softmax", v, axis=-1)
    axis = v.rank - 1 if b.chance(0.6) else b.axis(v)
    parts = split_of(b, v, axis)
    kept = [
        p if b.chance(0.4) else tame(b, b.node(b.choice(("Relu", "Exp", "Neg", "Abs")), p))
        for p in parts
        if p
    ]
    pairs = [(p, q) for p in kept for q in kept if p is not q and p.dims == q.dims]
    if pairs and b.chance(0.5):
        return b.node(b.choice(("Add", "Mul", "Sub")), *b.choice(pairs))
    if b.chance(0.4):
        return b.node("Concat", *kept[::-1], axis=axis)
    return kept[-1]


def split_of(b: Builder, v: Value, axis: int) -> list[Value]:
    """The parts of a value along an axis."""
    size = set(v.dims[axis])
    if len(size) > 1:
        if b.opset < 18:
            raise Rejected("sizes must be known")
        count = b.integer(2, 3)
        return list(
            b.node("Split", v, axis=b.signed(axis, v.rank), num_outputs=count, outputs=count)
        )
    total = size.pop()
    divisors = [n for n in range(2, 7) if total % n == 0]
    if divisors and b.chance(0.5):
        count = b.choice(divisors)
        more = {"num_outputs": count} if b.opset >= 18 else {}
        return list(b.node("Split", v, axis=b.signed(axis, v.rank), outputs=count, **more))
    count = b.integer(2, 4)
    bounds = sorted(b.integer(0, total) for _ in range(count - 1))
    lengths = [int(n) for n in np.diff([0, *bounds, total])]
    return list(b.node("Split", v, lengths, axis=b.signed(axis, v.rank), outputs=count))


def concat(b: Builder) -> Value:
    v = b.pick("fffi", low=1)
    axis = b.axis(v, -1)
    rest = [d for k, d in enumerate(v.dims) if k != axis]
    others = [o for o in b.values if o.dtype == v.dtype and o.rank == v.rank
              and [d for k, d in enumerate(o.dims) if k != axis] == rest]  # fmt: skip
    parts = [b.choice(others) for _ in range(b.integer(1, 3))]
    if b.chance(0.4):
        dims = list(v.dims)
        dims[axis] = (b.size(9),) * b.sets
        parts.append(b.source(tuple(dims), v.dtype))
    parts.insert(b.integer(0, len(parts)), v)
    return b.node("Concat", *parts, axis=b.signed(axis, v.rank))


def ladder(b: Builder) -> Value:
    """Split, treat some parts, Concat with the others, and again, as coupling layers do."""
    v = b.pick(
        "f", low=2, where=lambda o: o.rank > 0 and len(set(o.dims[-1])) == 1 and o.dims[-1][0] > 1
    )
    for _ in range(b.integer(2, 3)):
        parts = split_of(b, v, v.rank - 1)
        treated = [
            tame(b, b.node(b.choice(("Tanh", "Relu", "Sigmoid", "Exp", "Neg")), p))
            if b.chance(0.6)
            else p
            for p in parts
        ]
        if len(treated) > 1 and treated[0].dims == treated[1].dims and b.chance(0.5):
            treated[0] = b.node("Mul", treated[0], parts[1])
        order = [int(k) for k in b.rng.permutation(len(treated))]
        v = b.node("Concat", *(treated[k] for k in order), axis=b.choice((-1, v.rank - 1)))
    return v


def shapes(b: Builder) -> Value:
    """Sizes as numbers: Shape, Size, and arithmetic with them that ends in floats."""
    v = b.pick("f", low=1)
    count = b.node("Size", v) if b.chance(0.4) else b.node("Shape", v)
    total = cast(b, count, FLOAT)
    if b.chance(0.5):
        return b.node("Sqrt", total)
    return b.node("ReduceSum", b.node("Mul", total, b.constant(0.01, FLOAT)), keepdims=0)


def made(b: Builder) -> Value:
    """ConstantOfShape, Range or EyeLike, added to something of that shape."""
    v = b.pick("f", low=1)
    how = b.integer(0, 2)
    if how == 0:
        zeros = b.node("ConstantOfShape", b.node("Shape", v))
        return b.node("Add", cast(b, zeros, v.dtype), v)
    if how == 1:
        axis = v.rank - 1
        end = b.node("Squeeze", sizes(b, [(v, axis)]), [0])
        steps = b.node("Range", b.constant(0, INT64), end, b.constant(1, INT64))
        return b.node("Add", v, b.node("Mul", cast(b, steps, v.dtype), b.constant(0.05, v.dtype)))
    if v.rank != 2:
        raise Rejected("EyeLike is for matrices")
    return b.node("Add", v, b.node("EyeLike", v, k=b.integer(-1, 1)))


def blocks(b: Builder) -> Value:
    """DepthToSpace and SpaceToDepth."""
    v = b.pick("f", low=4, high=4)
    if b.chance(0.5):
        return b.node("DepthToSpace", v, blocksize=2, mode=b.choice(("DCR", "CRD")))
    return b.node("SpaceToDepth", v, blocksize=2)


def reverse_sequence(b: Builder) -> Value:
    v = b.pick("f", low=2, where=lambda o: o.rank > 1 and o.fixed and not o.is_empty)
    lengths = b.constant(b.numbers((v.dims[1][0],), INT64, 1, v.dims[0][0]))
    return b.node("ReverseSequence", v, lengths, time_axis=0, batch_axis=1)


def outer(b: Builder) -> Value:
    """All pairs of the rows of a value, by Unsqueeze and broadcasting, or by Expand and Concat."""
    v = b.pick("f", low=1, high=3)
    axis = b.axis(v, -1)
    one, other = b.node("Unsqueeze", v, [axis]), b.node("Unsqueeze", v, [axis + 1])
    pair = tame(b, b.node(b.choice(("Sub", "Mul", "Add")), one, other))
    return b.node("Mul", pair, operand(b, pair)) if b.chance(0.4) else pair


ROWS: dict[str, tuple[float, Row]] = {
    "transpose": (2, transpose),
    "join axes": (1.5, join_axes),
    "split axis": (1.5, split_axis),
    "flatten": (0.5, flatten),
    "slice": (2.5, cut),
    "slice at run time": (0.7, cut_at_run_time),
    "flip": (0.7, flip),
    "squeeze": (1, squeeze),
    "expand": (1.5, expand),
    "tile": (0.7, tile),
    "pad": (1.5, pad),
    "view of views": (4, view_of_views),
    "split": (4, split),
    "concat": (2.5, concat),
    "ladder": (1.5, ladder),
    "shapes": (0.7, shapes),
    "made": (1, made),
    "blocks": (0.4, blocks),
    "reverse sequence": (0.4, reverse_sequence),
    "outer": (1, outer),
}
"""Weight and function of each."""
