"""Operators that only move elements: reshaping, slicing, joining, repeating and padding.

Most lower to a view, a loop whose body is one read. A shape-like input whose content is not known
while parsing gives sizes that the node binds when the model runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from sofie_root.errors import ShapeError
from sofie_root.ir import (
    Dim,
    DType,
    Op,
    Refuse,
    Shape,
    TensorType,
    operator,
    output_count,
    require_equal,
    runtime_size,
)
from sofie_root.ir.dim import (
    at_least,
    broadcast,
    ceildiv,
    floordiv,
    maximum,
    minimum,
    mod,
    product,
)
from sofie_root.ir.types import MAX_KNOWN_VALUES
from sofie_root.program import expr
from sofie_root.program.builder import Builder, Tensor, broadcast_index
from sofie_root.program.expr import Expr, call

from .broadcast import broadcast_shapes
from .checks import as_axes, as_axis, constant_ints, require_dtype, require_one_dtype
from .computed_axes import ComputedAxes, are_computed
from .symbolic import Values, carried, known, sizes_of, static, with_values

SHAPES = frozenset({DType.INT64, DType.INT32})


def static_length(x: TensorType, what: str) -> int:
    """Number of elements of a shape-like input, which must not depend on the run."""
    if x.rank > 1:
        raise ShapeError(f"{what} must have 1 axis, not {x.rank}")
    length = x.numel
    if not isinstance(length, int):
        raise Refuse(f"the length of {what} is not known")
    if length > MAX_KNOWN_VALUES:
        raise ShapeError(f"{what} has {length} elements, at most {MAX_KNOWN_VALUES} make sense")
    return length


def bind_sizes(b: Builder, sizes: Sequence[Dim], output: int = 0) -> None:
    """Binds those sizes of an output that ``infer`` made run-time symbols to these values."""
    for symbol, size in zip(b.outputs[output].shape, sizes, strict=True):
        if symbol != size:
            b.bind(symbol, expr.index(size))


def bind_values(b: Builder, values: Sequence[Expr], output: int = 0) -> None:
    """Binds the sizes of an output, all of them run-time symbols, to these values."""
    for symbol, value in zip(b.outputs[output].shape, values, strict=True):
        b.bind(symbol, value)


# -- the same elements under another shape ---------------------------------------------------------


@operator("Reshape", since=25)
@dataclass(frozen=True, slots=True)
class Reshape(Op):
    """The same elements under another shape, -1 being what is left. Source: ONNX Reshape-25."""

    moves_data = True
    reshapes = True

    allowzero: int = 0

    def infer(self, x: TensorType, shape: TensorType) -> TensorType:
        """The given shape, with 0 and -1 replaced."""
        length = static_length(shape, "shape")
        if shape.value is None:
            sizes: Shape = tuple(runtime_size(0, k) for k in range(length))
            require_equal(x.numel, product(sizes), "a reshaped tensor keeps its number of elements")
            return TensorType(x.dtype, sizes)
        new = self._resolved(x.shape, shape.value)
        if product(new) != x.numel:
            require_equal(x.numel, product(new), "a reshaped tensor keeps its number of elements")
        return carried(TensorType(x.dtype, new), x, lambda v: v.reshape(new))

    def _resolved(self, old: Shape, wanted: Sequence[Dim]) -> Shape:
        new: list[Dim] = list(wanted)
        for k, size in enumerate(new):
            if size == 0 and not self.allowzero:
                if k >= len(old):
                    raise ShapeError(f"shape has a 0 at axis {k}, which the input does not have")
                new[k] = old[k]
        free = [k for k, size in enumerate(new) if size == -1]
        if len(free) > 1:
            raise ShapeError("shape has more than one -1")
        for k in free:
            numel: Dim = product(old)
            rest = product(size for i, size in enumerate(new) if i != k)
            if (
                isinstance(numel, int)
                and isinstance(rest, int)
                and (numel % rest if rest else numel)
            ):
                raise ShapeError(f"{numel} elements do not divide into rows of {rest}")
            new[k] = floordiv(numel, rest)
        return tuple(new)

    def lower(self, b: Builder, x: Tensor, shape: Tensor) -> Tensor:
        """A view."""
        out = b.outputs[0]
        if shape.type.value is None:
            self._bind(b, x, shape)
        return b.reshape(x, out.shape)

    def _bind(self, b: Builder, x: Tensor, shape: Tensor) -> None:
        given = [expr.cast(shape[k], DType.INT64) for k in range(len(b.outputs[0].shape))]
        if not self.allowzero:
            # -2 is no size: a 0 behind the axes of the input copies nothing.
            old = [expr.index(x.shape[k] if k < x.rank else -2) for k in range(len(given))]
            given = [
                expr.select(expr.compare("eq", g, 0), o, g) for g, o in zip(given, old, strict=True)
            ]
        free = [expr.compare("eq", g, -1) for g in given]
        for k, (symbol, size) in enumerate(zip(b.outputs[0].shape, given, strict=True)):
            rest: Expr = expr.constant(1, DType.INT64)
            for other in given[:k] + given[k + 1 :]:
                rest = rest * other
            left = call("div", expr.index(x.type.numel), call("max", rest, 1))
            for other in free[:k] + free[k + 1 :]:
                left = expr.select(other, size, left)  # a second -1 stays what it is, no size
            b.bind(symbol, expr.select(free[k], left, size))


@operator("Flatten", since=25)
@dataclass(frozen=True, slots=True)
class Flatten(Op):
    """Axes before ``axis`` joined to one, and the others to one. Source: ONNX Flatten-25."""

    moves_data = True
    reshapes = True

    axis: int = 1

    def _shape(self, x: TensorType) -> Shape:
        axis = self.axis if self.axis == x.rank else as_axis(self.axis, x.rank)
        return product(x.shape[:axis]), product(x.shape[axis:])

    def infer(self, x: TensorType) -> TensorType:
        """Two axes."""
        shape = self._shape(x)
        return carried(TensorType(x.dtype, shape), x, lambda v: v.reshape(shape))

    def lower(self, b: Builder, x: Tensor) -> Tensor:
        """A view."""
        return b.reshape(x, b.outputs[0].shape)


@operator("Squeeze", since=25)
@dataclass(frozen=True, slots=True)
class Squeeze(Op):
    """Axes of size 1 removed. Source: ONNX Squeeze-25."""

    moves_data = True
    reshapes = True

    def infer(self, x: TensorType, axes: TensorType | None = None) -> TensorType:
        """The shape without these axes (without all of size 1 where none are named)."""
        if axes is not None and are_computed(axes):
            left = x.rank - static_length(axes, "axes")
            shape: Shape = tuple(runtime_size(0, k) for k in range(left))
            require_equal(x.numel, product(shape), "axes that are removed must have size 1")
            return TensorType(x.dtype, shape)
        if axes is None:
            gone = tuple(k for k, d in enumerate(x.shape) if d == 1)
        else:
            gone = as_axes(constant_ints(axes, "axes"), x.rank)
        for k in gone:
            require_equal(x.shape[k], 1, f"axis {k} is removed and must have size 1")
        shape = tuple(d for k, d in enumerate(x.shape) if k not in gone)
        return carried(TensorType(x.dtype, shape), x, lambda v: v.reshape(shape))

    def lower(self, b: Builder, x: Tensor, axes: Tensor | None = None) -> Tensor:
        """A view."""
        if axes is None:
            return b.reshape(x, b.outputs[0].shape)
        if are_computed(axes.type):
            named = ComputedAxes(axes, x.rank)
            named.check(b)
            bind_values(b, named.rest(x.shape))
            return b.reshape(x, b.outputs[0].shape)
        gone = as_axes(constant_ints(axes.type, "axes"), x.rank)

        def body(*i: Dim) -> Expr:
            rest = iter(i)
            return x[tuple(0 if k in gone else next(rest) for k in range(x.rank))]

        return b.loop(b.outputs[0].shape, body, x.dtype)


@operator("Unsqueeze", since=25)
@dataclass(frozen=True, slots=True)
class Unsqueeze(Op):
    """New axes of size 1. Source: ONNX Unsqueeze-25."""

    moves_data = True
    reshapes = True

    def infer(self, x: TensorType, axes: TensorType) -> TensorType:
        """The shape with these axes, counted in the result."""
        if are_computed(axes):
            rank = x.rank + static_length(axes, "axes")
            shape: Shape = tuple(runtime_size(0, k) for k in range(rank))
            require_equal(x.numel, product(shape), "the new axes must differ from each other")
            return TensorType(x.dtype, shape)
        numbers = constant_ints(axes, "axes")
        new = as_axes(numbers, x.rank + len(numbers))
        rest = iter(x.shape)
        shape = tuple(1 if k in new else next(rest) for k in range(x.rank + len(new)))
        return carried(TensorType(x.dtype, shape), x, lambda v: v.reshape(shape))

    def lower(self, b: Builder, x: Tensor, axes: Tensor) -> Tensor:
        """A view."""
        if are_computed(axes.type):
            named = ComputedAxes(axes, len(b.outputs[0].shape))
            named.check(b)
            bind_values(b, named.filled(x.shape))
        return b.reshape(x, b.outputs[0].shape)


# -- elements at other places ----------------------------------------------------------------------


@operator("Transpose", since=25)
@dataclass(frozen=True, slots=True)
class Transpose(Op):
    """Axis ``k`` of the result is axis ``perm[k]``. Source: ONNX Transpose-25."""

    moves_data = True

    perm: tuple[int, ...] | None = None

    def _perm(self, rank: int) -> tuple[int, ...]:
        perm = tuple(reversed(range(rank))) if self.perm is None else self.perm
        if sorted(perm) != list(range(rank)):
            raise ShapeError(f"perm {perm} does not order {rank} axes")
        return perm

    def infer(self, x: TensorType) -> TensorType:
        """The shape, permuted."""
        perm = self._perm(x.rank)
        result = TensorType(x.dtype, tuple(x.shape[p] for p in perm))
        return carried(result, x, lambda v: v.transpose(perm))

    def lower(self, b: Builder, x: Tensor) -> Tensor:
        """A view."""
        return b.transpose(x, self._perm(x.rank))


@operator("Expand", since=13)
@dataclass(frozen=True, slots=True)
class Expand(Op):
    """The input repeated along axes of size 1, by NumPy's broadcasting. Source: ONNX Expand-13."""

    moves_data = True
    expands_data = True

    def infer(self, x: TensorType, shape: TensorType) -> TensorType:
        """The broadcast of both shapes."""
        length = static_length(shape, "shape")
        if shape.value is not None:
            new = broadcast_shapes(x.shape, shape.value)
            result = TensorType(x.dtype, new)
            return carried(result, x, lambda v: np.broadcast_to(v, static(new) or ()))
        rank = max(length, x.rank)
        old = (1,) * (rank - x.rank) + x.shape
        return TensorType(
            x.dtype,
            tuple(
                runtime_size(0, k) if k >= rank - length and not at_least(d, 2) else d
                for k, d in enumerate(old)
            ),
        )

    def lower(self, b: Builder, x: Tensor, shape: Tensor) -> Tensor:
        """A view."""
        out = b.outputs[0].shape
        if shape.type.value is None:
            given = sizes_of(b, shape, "given")
            start = len(out) - len(given)
            old = ((1,) * (len(out) - x.rank) + x.shape)[start:]
            for symbol, d, size in zip(out[start:], old, given, strict=True):
                joined = broadcast(d, size)
                known = symbol == d
                b.check_equal(joined, d if known else joined, "the input must broadcast to shape")
                if not known:
                    b.bind(symbol, expr.index(joined))
        return b.expand(x, out)


@operator("Tile", since=13)
@dataclass(frozen=True, slots=True)
class Tile(Op):
    """The input repeated along each axis. Source: ONNX Tile-13."""

    moves_data = True
    expands_data = True

    def infer(self, x: TensorType, repeats: TensorType) -> TensorType:
        """Each size times its repeats."""
        if static_length(repeats, "repeats") != x.rank:
            raise ShapeError(f"repeats has {repeats.numel} elements for {x.rank} axes")
        if repeats.value is None:
            return TensorType(x.dtype, tuple(runtime_size(0, k) for k in range(x.rank)))
        times = repeats.value
        shape = tuple(d * n for d, n in zip(x.shape, times, strict=True))
        return carried(TensorType(x.dtype, shape), x, lambda v: np.tile(v, static(times) or ()))

    def lower(self, b: Builder, x: Tensor, repeats: Tensor) -> Tensor:
        """A view."""
        times = sizes_of(b, repeats, "repeats")
        out = b.outputs[0].shape
        if repeats.type.value is None:
            bind_sizes(b, [d * n for d, n in zip(x.shape, times, strict=True)])

        def body(*i: Dim) -> Expr:
            index = [k if n == 1 else mod(k, d) for k, d, n in zip(i, x.shape, times, strict=True)]
            return x[broadcast_index(index, x.shape)]

        return b.loop(out, body, x.dtype)


# -- joining and splitting -------------------------------------------------------------------------


@operator("Concat", since=13)
@dataclass(frozen=True, slots=True)
class Concat(Op):
    """Tensors one after the other along an axis. Source: ONNX Concat-13."""

    axis: int

    def infer(self, *inputs: TensorType) -> TensorType:
        """The sizes along the axis added up."""
        if not inputs:
            raise ShapeError("needs at least one input")
        dtype = require_one_dtype(inputs)
        rank = inputs[0].rank
        if any(x.rank != rank for x in inputs):
            raise ShapeError(f"inputs have {', '.join(str(x.rank) for x in inputs)} axes")
        axis = as_axis(self.axis, rank)
        shape = list(inputs[0].shape)
        for x in inputs[1:]:
            for k in range(rank):
                if k == axis:
                    shape[k] = shape[k] + x.shape[k]
                else:
                    shape[k] = require_equal(shape[k], x.shape[k], f"axis {k} of joined tensors")
        result = TensorType(dtype, tuple(shape))
        contents = [known(x) for x in inputs]
        present = [c for c in contents if c is not None]
        if len(present) < len(contents):
            return result
        return with_values(result, np.concatenate(present, axis))

    def lower(self, b: Builder, *inputs: Tensor) -> Tensor:
        """One piece for each input."""
        out = b.outputs[0]
        axis = as_axis(self.axis, len(out.shape))
        start: Dim = 0
        pieces: list[Any] = []
        for x in inputs:
            offset = tuple(start if k == axis else 0 for k in range(x.rank))
            extent = tuple(d if k == axis else out.shape[k] for k, d in enumerate(x.shape))
            pieces.append((offset, extent, lambda *i, x=x: x[i]))
            start = start + x.shape[axis]
        return b.pieces(out.shape, out.dtype, pieces)


def _cut(part: slice, axis: int, values: Values) -> Values:
    return values[(slice(None),) * axis + (part,)]


@operator("Split", since=18)
@dataclass(frozen=True, slots=True)
class Split(Op):
    """Parts of a tensor along an axis, of given or of equal sizes. Source: ONNX Split-18."""

    moves_data = True

    axis: int = 0
    num_outputs: int | None = None

    def _sizes(self, x: TensorType, split: TensorType | None, count: int) -> tuple[Dim, ...]:
        total = x.shape[as_axis(self.axis, x.rank)]
        if split is not None:
            sizes = split.value
            if sizes is None:
                length = static_length(split, "split")
                sizes = tuple(runtime_size(k, self.axis % x.rank) for k in range(length))
            if len(sizes) < count:
                raise ShapeError(f"splits into {len(sizes)}, but has {count} outputs")
            whole: Dim = 0
            for size in sizes:
                whole = whole + size
            require_equal(whole, total, "split sizes add up to the axis")
            return sizes
        parts = count if self.num_outputs is None else self.num_outputs
        if parts < 1:
            raise ShapeError(f"splits into {parts} parts")
        each = ceildiv(total, parts)
        read = min(parts, count)  # a file may name more parts than it reads
        return tuple(maximum(0, minimum(each, total - each * k)) for k in range(read))

    def infer(self, x: TensorType, split: TensorType | None = None) -> tuple[TensorType, ...]:
        """One type for each part."""
        axis = as_axis(self.axis, x.rank)
        results = []
        start: Dim = 0
        for size in self._sizes(x, split, output_count()):
            part = TensorType(x.dtype, (*x.shape[:axis], size, *x.shape[axis + 1 :]))
            places = static((start, start + size))
            if places is not None:
                part = carried(part, x, partial(_cut, slice(*places), axis))
            results.append(part)
            start = start + size
        return tuple(results)

    def lower(self, b: Builder, x: Tensor, split: Tensor | None = None) -> tuple[Tensor, ...]:
        """A view for each part."""
        axis = as_axis(self.axis, x.rank)
        sizes = self._sizes(x.type, None if split is None else split.type, len(b.names))
        if split is not None and split.type.value is None:
            for k, size in enumerate(sizes):
                b.bind(size, expr.cast(split[k], DType.INT64))
        results = []
        start: Dim = 0
        for size in sizes:
            at = start

            def body(*i: Dim, at: Dim = at) -> Expr:
                return x[(*i[:axis], i[axis] + at, *i[axis + 1 :])]

            shape = (*x.shape[:axis], size, *x.shape[axis + 1 :])
            results.append(b.loop(shape, body, x.dtype))
            start = start + size
        return tuple(results)


@dataclass(frozen=True, slots=True)
class _BlockMove(Op):
    """Base of the two moves between channels and space."""

    blocksize: int
    mode: str = "DCR"

    def _check(self, x: TensorType) -> None:
        if x.rank != 4:
            raise ShapeError(f"needs 4 axes, not {x.rank}")
        if self.blocksize < 1:
            raise ShapeError(f"blocksize is {self.blocksize}, must be positive")


@operator("DepthToSpace", since=28)
@dataclass(frozen=True, slots=True)
class DepthToSpace(_BlockMove):
    """Channels laid out as blocks of pixels. Source: ONNX DepthToSpace-28."""

    moves_data = True

    def infer(self, x: TensorType) -> TensorType:
        """Fewer channels, larger image."""
        self._check(x)
        n, c, h, w = x.shape
        s = self.blocksize
        if isinstance(c, int) and c % (s * s):
            raise ShapeError(f"{c} channels do not divide into blocks of {s} x {s}")
        require_equal(floordiv(c, s * s) * (s * s), c, "channels divide into blocks")
        return TensorType(x.dtype, (n, floordiv(c, s * s), h * s, w * s))

    def lower(self, b: Builder, x: Tensor) -> Tensor:
        """A view."""
        n, c, h, w = x.shape
        s = self.blocksize
        rest = floordiv(c, s * s)
        if self.mode == "CRD":
            blocks = b.transpose(b.reshape(x, (n, rest, s, s, h, w)), (0, 1, 4, 2, 5, 3))
        else:
            blocks = b.transpose(b.reshape(x, (n, s, s, rest, h, w)), (0, 3, 4, 1, 5, 2))
        return b.reshape(blocks, b.outputs[0].shape)


@operator("SpaceToDepth", since=28)
@dataclass(frozen=True, slots=True)
class SpaceToDepth(_BlockMove):
    """Blocks of pixels laid out as channels. Source: ONNX SpaceToDepth-28."""

    moves_data = True

    def infer(self, x: TensorType) -> TensorType:
        """More channels, smaller image."""
        self._check(x)
        n, c, h, w = x.shape
        s = self.blocksize
        for d in (h, w):
            if isinstance(d, int) and d % s:
                raise ShapeError(f"{d} pixels do not divide into blocks of {s}")
            require_equal(floordiv(d, s) * s, d, "pixels divide into blocks")
        return TensorType(x.dtype, (n, c * (s * s), floordiv(h, s), floordiv(w, s)))

    def lower(self, b: Builder, x: Tensor) -> Tensor:
        """A view."""
        n, c, _, _ = x.shape
        s = self.blocksize
        _, _, h, w = b.outputs[0].shape
        order = (0, 1, 3, 5, 2, 4) if self.mode == "CRD" else (0, 3, 5, 1, 2, 4)
        blocks = b.transpose(b.reshape(x, (n, c, h, s, w, s)), order)
        return b.reshape(blocks, b.outputs[0].shape)


@operator("ReverseSequence", since=28)
@dataclass(frozen=True, slots=True)
class ReverseSequence(Op):
    """The first elements of each sequence in reverse. Source: ONNX ReverseSequence-28."""

    moves_data = True

    batch_axis: int = 1
    time_axis: int = 0

    def infer(self, x: TensorType, lengths: TensorType) -> TensorType:
        """The type of ``x``."""
        require_dtype(lengths, SHAPES)
        batch, time = as_axis(self.batch_axis, x.rank), as_axis(self.time_axis, x.rank)
        if {batch, time} != {0, 1}:
            raise ShapeError(f"batch axis {batch} and time axis {time} must be 0 and 1")
        if lengths.rank != 1:
            raise ShapeError(f"sequence_lens must have 1 axis, not {lengths.rank}")
        require_equal(lengths.shape[0], x.shape[batch], "sequence_lens has one per sequence")
        return x.with_value(None)

    def lower(self, b: Builder, x: Tensor, lengths: Tensor) -> Tensor:
        """One loop that reads at a computed time."""
        batch, time = as_axis(self.batch_axis, x.rank), as_axis(self.time_axis, x.rank)

        def body(*i: Dim) -> Expr:
            length = expr.cast(lengths[i[batch]], DType.INT64)
            now, extent = expr.index(i[time]), expr.index(x.shape[time])
            mirrored = expr.select(now < length, length - 1 - now, now)
            # A negative length is no position either, and refused like one beyond the end.
            position = expr.as_index(expr.select(length < 0, extent, mirrored), x.shape[time])
            return x[tuple(position if k == time else d for k, d in enumerate(i))]

        return b.loop(x.shape, body, x.dtype)
