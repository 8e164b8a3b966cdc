"""What rows share: values brought to a range, a dtype or a shape by nodes of the graph; computed shapes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import helper

from .builder import FLOAT, INT64, Builder, Dims, Rejected, Value
from .reference import element_type


def cast(b: Builder, v: Value, dtype: Any) -> Value:
    """The value as another dtype; as it is where it has it."""
    dtype = np.dtype(dtype)
    if v.dtype == dtype:
        return v
    if dtype.kind == "u" and v.kind != "b":
        v = b.node("Abs", v) if v.kind != "u" else v
    if dtype.kind in "iu" and dtype.itemsize == 1 and v.kind in "fiu":
        v = bounded(b, v, 0, 100)
    if v.kind == "f" and dtype.kind in "b" and b.chance(0.5):
        return b.node("Greater", v, scalar(b, v.dtype))
    return b.node("Cast", v, to=element_type(dtype))


def scalar(b: Builder, dtype: Any, low: float = -0.5, high: float = 0.5) -> Value:
    """A constant of rank 0."""
    dtype = np.dtype(dtype)
    if dtype.kind in "iu":
        return b.constant(b.numbers((), dtype, np.ceil(low), max(1.0, high)))
    return b.constant(b.numbers((), dtype, low, high))


def bounded(b: Builder, v: Value, low: float, high: float) -> Value:
    """The value within ``[low, high]``; as it is where it is already."""
    if all(not a.size or (a.min() >= low and a.max() <= high) for a in v.arrays) and v.kind != "b":
        return v
    if v.kind in "iu":
        count = b.constant(np.array(int(high) - int(np.ceil(low)) + 1, v.dtype))
        v = b.node("Mod", v, count)
        return (
            b.node("Add", v, b.constant(np.array(int(np.ceil(low)), v.dtype)))
            if low >= 1 or low < 0
            else v
        )
    middle, half = (low + high) / 2, (high - low) / 2 * 0.98
    how = b.integer(0, 3)
    if how == 0 and low < high:
        return b.node("Clip", v, b.constant(low, v.dtype), b.constant(high, v.dtype))
    if how == 1:
        low, half = low + 0.01 * (high - low), 2 * half
        return b.node(
            "Add",
            b.node("Mul", b.node("Sigmoid", v), b.constant(half, v.dtype)),
            b.constant(low, v.dtype),
        )
    squeezed = b.node(b.choice(("Tanh", "Softsign")), v)
    return b.node(
        "Add", b.node("Mul", squeezed, b.constant(half, v.dtype)), b.constant(middle, v.dtype)
    )


def tame(b: Builder, v: Value) -> Value:
    """The value with no numbers that grow further; most values are as they are."""
    if v.kind != "f" or v.is_empty:
        return v
    largest = max(float(np.max(np.abs(a.astype(np.float64)), initial=0)) for a in v.arrays)
    if not np.isfinite(largest):
        return v
    if largest > 20:
        if b.chance(0.5):
            return b.node(b.choice(("Tanh", "Softsign", "Atan")), v)
        return b.node("Mul", v, b.constant(1.0 / 2.0 ** np.ceil(np.log2(largest / 2)), v.dtype))
    if 0 < largest < 1e-2:
        return b.node("Mul", v, b.constant(2.0 ** np.floor(np.log2(1.0 / largest)), v.dtype))
    return v


# -- computed sizes ------------------------------------------------------------------------------


def dim_of(b: Builder, v: Value, axis: int) -> Value:
    """The size of an axis as a list of one, in one of the ways that exporters write it."""
    how = b.integer(0, 3)
    if how == 0 and b.opset >= 15:
        end = axis + 1 - (v.rank if axis + 1 < v.rank and b.chance(0.3) else 0)
        return b.node("Shape", v, start=axis, end=end)
    shape = b.node("Shape", v)
    if how == 1:
        return b.node("Slice", shape, [axis], [axis + 1], [0])
    if how == 2:
        return b.node("Gather", shape, [axis])
    return b.node("Unsqueeze", b.node("Gather", shape, axis), [0])


def sizes(b: Builder, parts: Sequence[int | tuple[Value, int]]) -> Value:
    """A list of sizes: numbers, and axes of values."""
    if all(isinstance(p, int) for p in parts):
        return b.constant(np.array(parts, np.int64))
    pieces = [
        b.constant(np.array([p], np.int64)) if isinstance(p, int) else dim_of(b, *p) for p in parts
    ]
    return pieces[0] if len(pieces) == 1 and b.chance(0.5) else b.node("Concat", *pieces, axis=0)


def part_of(b: Builder, v: Value, axis: int) -> int | tuple[Value, int]:
    """A size for :func:`sizes`: a number where it is one, and sometimes even then the axis."""
    d = v.dims[axis]
    return d[0] if len(set(d)) == 1 and b.chance(0.85) else (v, axis)


def reshaped(b: Builder, v: Value, groups: Sequence[Sequence[int]]) -> Value:
    """The value with neighbouring axes joined: one group of axes for each new one."""
    parts: list[int | tuple[Value, int]] = []
    joker = False
    for k, group in enumerate(groups):
        if len(group) == 1:
            axis = group[0]
            known = len(set(v.dims[axis])) == 1
            parts.append(
                0
                if axis == k and 0 not in v.dims[axis] and b.chance(0.4 if known else 0.7)
                else part_of(b, v, axis)
            )
        elif all(len(set(v.dims[a])) == 1 for a in group) and b.chance(0.5):
            parts.append(int(np.prod([v.dims[a][0] for a in group])))
        elif not joker and not v.is_empty:
            joker = True
            parts.append(-1)
        elif all(len(set(v.dims[a])) == 1 for a in group):
            parts.append(int(np.prod([v.dims[a][0] for a in group])))
        else:
            raise Rejected("two sizes are not known")
    return b.node("Reshape", v, sizes(b, parts))


def adapted(b: Builder, v: Value, shape: Sequence[int], dtype: Any = FLOAT) -> Value:
    """A value of a fixed shape, cut or repeated from any other: views of views."""
    if v.dims == tuple((d,) * b.sets for d in shape):
        return cast(b, v, dtype)
    count = int(np.prod(shape))
    if v.is_empty or count == 0 or count > 6000:
        raise Rejected("no elements to take")
    flat = b.node("Reshape", v, [-1])
    smallest = min(flat.dims[0])
    if smallest < count:
        repeats = -(-count // smallest)
        if repeats * max(flat.dims[0]) > 20_000:
            raise Rejected("too large")
        if b.chance(0.5):
            flat = b.node("Tile", flat, [repeats])
        else:
            flat = b.node("Expand", b.node("Unsqueeze", flat, [0]), sizes(b, [repeats, (flat, 0)]))
            flat = b.node("Reshape", flat, [-1])
    if set(flat.dims[0]) != {count}:
        start = b.integer(0, min(flat.dims[0]) - count)
        flat = b.node("Slice", flat, [start], [start + count], [0])
    return cast(b, b.node("Reshape", flat, list(shape)) if list(shape) != [count] else flat, dtype)


# -- operands ------------------------------------------------------------------------------------


def operand(b: Builder, v: Value, low: float = -2.0, high: float = 2.0) -> Value:
    """Something that broadcasts with the value: another one of the graph, or a new constant or input."""
    how = b.rng.random()
    if how < 0.4:
        others = [
            o for o in b.values if o.dtype == v.dtype and o is not v and broadcasts(o.dims, v.dims)
        ]
        if others:
            return b.choice(others[-12:])
    if how < 0.55:
        return scalar(b, v.dtype, low, high)
    keep = b.integer(0, v.rank)
    dims = [d if b.chance(0.7) else (1,) * b.sets for d in v.dims[v.rank - keep :]]
    return b.source(tuple(dims), v.dtype, low, high)


def broadcasts(a: Dims, c: Dims) -> bool:
    """Whether two shapes go together, by equal sizes or by ones that are ones in all sets."""
    pairs = zip(a[::-1], c[::-1], strict=False)
    return all(x == y or set(x) == {1} or set(y) == {1} for x, y in pairs)


def indices(
    b: Builder, shape: Sequence[int], extent: tuple[int, ...], negative: bool = True
) -> Value:
    """Whole numbers below an extent, which differs between the sets: constant, given or computed."""
    smallest = min(extent)
    if smallest < 1:
        raise Rejected("an empty axis has no indices")
    low = -smallest if negative and b.chance(0.3) else 0
    how = b.integer(0, 3)
    if how == 0:
        return b.constant(b.numbers(shape, INT64, low, smallest - 1))
    dtype = np.dtype(b.choice(("i8", "i8", "i4")))
    if how == 1:
        arrays = [b.numbers(shape, dtype, low, e - 1) for e in extent]
        return b.input_of(arrays, list(shape))
    source = b.pick("fi", where=lambda v: not v.is_empty)
    value = adapted(b, source, shape, FLOAT if source.kind == "f" else INT64)
    if value.kind == "f":
        scaled = b.node("Mul", b.node("Sigmoid", value), b.constant(smallest - 0.01, FLOAT))
        return b.node("Cast", scaled, to=element_type(dtype))
    return b.node("Mod", value, b.constant(smallest, INT64))


def unique_rows(b: Builder, count: int, extent: tuple[int, ...]) -> Value:
    """Different whole numbers below an extent: what a scatter may be given without an order of updates."""
    if min(extent) < count:
        raise Rejected("too few")
    if len(set(extent)) == 1 and b.chance(0.5):
        return b.constant(b.rng.permutation(extent[0])[:count].astype(np.int64))
    arrays = [b.rng.permutation(e)[:count].astype(np.int64) for e in extent]
    return b.input_of(arrays, [count])


__all__ = ["adapted", "bounded", "broadcasts", "cast", "dim_of", "helper", "indices", "operand",
           "part_of", "reshaped", "scalar", "sizes", "tame", "unique_rows"]  # fmt: skip
