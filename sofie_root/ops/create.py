"""Operators that make tensors from sizes and scalars, and masks of diagonals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sofie_root.errors import ShapeError
from sofie_root.ir import Dim, DType, Op, Refuse, TensorType, operator, require_equal, runtime_size
from sofie_root.ir.dim import at_least, ceildiv, maximum
from sofie_root.ir.types import MAX_KNOWN_VALUES
from sofie_root.program import expr
from sofie_root.program.builder import Builder, Tensor
from sofie_root.program.expr import Expr, call

from .broadcast import element
from .checks import NUMERIC, as_axis, as_dtype, require_dtype, require_one_dtype
from .shape import bind_sizes, static_length
from .symbolic import dims_of, static, with_values

ZERO = np.float32(0)


def only_element(x: Tensor) -> Expr:
    """The element of a tensor that has one."""
    return element(x, (0,) * x.rank)


def _require_scalar(x: TensorType, what: str) -> None:
    if x.numel != 1:
        raise ShapeError(f"{what} must be a scalar, not of shape [{', '.join(map(str, x.shape))}]")


@operator("Shape", since=25)
@dataclass(frozen=True, slots=True)
class ShapeOf(Op):
    """Sizes of the axes from ``start`` to before ``end``. Source: ONNX Shape-25."""

    reads_sizes_only = True

    start: int = 0
    end: int | None = None

    def infer(self, x: TensorType) -> TensorType:
        """A vector whose content is known."""
        sizes = x.shape[slice(self.start, self.end)] if x.rank else ()
        return TensorType(DType.INT64, (len(sizes),), sizes)

    def lower(self, b: Builder, x: Tensor) -> Tensor:
        """Never called: the content is known."""
        raise AssertionError("the content of Shape is always known")


@operator("Size", since=25)
@dataclass(frozen=True, slots=True)
class Size(Op):
    """Number of elements. Source: ONNX Size-25."""

    reads_sizes_only = True

    def infer(self, x: TensorType) -> TensorType:
        """A scalar whose content is known."""
        return TensorType(DType.INT64, (), (x.numel,))

    def lower(self, b: Builder, x: Tensor) -> Tensor:
        """Never called: the content is known."""
        raise AssertionError("the content of Size is always known")


@operator("ConstantOfShape", since=25)
@dataclass(frozen=True, slots=True)
class ConstantOfShape(Op):
    """A tensor of one repeated value. Source: ONNX ConstantOfShape-25."""

    expands_data = True

    value: np.generic = ZERO

    def infer(self, shape: TensorType) -> TensorType:
        """The shape that the input holds."""
        dtype = DType.from_numpy(self.value.dtype)
        if dtype is None:
            raise Refuse(f"element type {self.value.dtype} is not supported")
        length = static_length(shape, "shape")
        if shape.value is None:
            return TensorType(dtype, tuple(runtime_size(0, k) for k in range(length)))
        if any(isinstance(d, int) and d < 0 for d in shape.value):
            raise ShapeError(f"shape {shape.value} has negative sizes")
        result = TensorType(dtype, shape.value)
        count = result.numel
        if dtype.is_float or not isinstance(count, int) or count > MAX_KNOWN_VALUES:
            return result
        return result.with_value((int(self.value),) * count)

    def lower(self, b: Builder, shape: Tensor) -> Tensor:
        """One loop."""
        if shape.type.value is None:
            bind_sizes(b, dims_of(shape))
        out = b.outputs[0]
        return b.loop(out.shape, lambda *_: expr.scalar(self.value, out.dtype.compute), out.dtype)


@operator("Range", since=27)
@dataclass(frozen=True, slots=True)
class Range(Op):
    """Numbers from ``start`` to before ``limit`` in steps of ``delta``. Source: ONNX Range-27."""

    expands_data = True

    stash_type: int = 1

    def infer(self, start: TensorType, limit: TensorType, delta: TensorType) -> TensorType:
        """As many as fit; the content where it is known."""
        dtype = require_one_dtype((start, limit, delta))
        require_dtype(start, NUMERIC)
        for what, t in (("start", start), ("limit", limit), ("delta", delta)):
            _require_scalar(t, what)
        counted = self._known(start, limit, delta)
        if counted is None:
            return TensorType(dtype, (runtime_size(0),))
        first, step, count = counted
        result = TensorType(dtype, (count,))
        if not isinstance(count, int) or count > MAX_KNOWN_VALUES:
            return result
        return result.with_value(tuple(first + k * step for k in range(count)))

    def _known(
        self, start: TensorType, limit: TensorType, delta: TensorType
    ) -> tuple[Dim, int, Dim] | None:
        """Start, step and number of elements where they are known while parsing."""
        if (
            start.dtype.is_float
            or start.value is None
            or limit.value is None
            or delta.value is None
        ):
            return None
        step = delta.value[0]
        if not isinstance(step, int) or step == 0:
            return None
        return start.value[0], step, _count(start.value[0], limit.value[0], step)

    def lower(self, b: Builder, start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
        """One loop."""
        first, last, step = (only_element(t) for t in (start, limit, delta))
        out = b.outputs[0]
        if self._known(start.type, limit.type, delta.type) is None:
            low, high, pace = (expr.cast(e, DType.DOUBLE) for e in (first, last, step))
            count = call("max", call("ceil", (high - low) / pace), 0)
            b.bind(out.shape[0], expr.cast(count, DType.INT64))
        dtype = out.dtype
        return b.loop(out.shape, lambda i: first + expr.index(i, dtype.compute) * step, dtype)


def _count(first: Dim, last: Dim, step: int) -> Dim:
    length = last - first if step > 0 else first - last
    count = ceildiv(length, abs(step))
    return count if at_least(length, 0) else maximum(0, count)


@operator("EyeLike", since=22)
@dataclass(frozen=True, slots=True)
class EyeLike(Op):
    """Ones on a diagonal, zeros elsewhere. Source: ONNX EyeLike-22."""

    expands_data = True

    dtype: int | None = None
    k: int = 0

    def infer(self, x: TensorType) -> TensorType:
        """The shape of ``x``."""
        if x.rank != 2:
            raise ShapeError(f"needs 2 axes, not {x.rank}")
        dtype = x.dtype if self.dtype is None else as_dtype(self.dtype)
        result = TensorType(dtype, x.shape)
        sizes = static(x.shape)
        if sizes is None or dtype.is_float or sizes[0] * sizes[1] > MAX_KNOWN_VALUES:
            return result
        return with_values(result, np.eye(sizes[0], sizes[1], self.k, dtype=np.int64).tolist())

    def lower(self, b: Builder, x: Tensor) -> Tensor:
        """One loop."""
        out = b.outputs[0]
        one = expr.constant(1, out.dtype.compute)
        diagonal = expr.constant(self.k, DType.INT64)
        return b.loop(
            out.shape,
            lambda i, j: expr.select(expr.compare("eq", expr.index(j - i), diagonal), one, 0),
            out.dtype,
        )


@operator("OneHot", since=28)
@dataclass(frozen=True, slots=True)
class OneHot(Op):
    """A new axis that is "on" at the given index and "off" elsewhere. Source: ONNX OneHot-28."""

    expands_data = True

    axis: int = -1

    def infer(self, indices: TensorType, depth: TensorType, values: TensorType) -> TensorType:
        """The shape of the indices with an axis of size ``depth``."""
        require_dtype(indices, NUMERIC)
        require_dtype(depth, NUMERIC)
        _require_scalar(depth, "depth")
        if values.rank != 1:
            raise ShapeError(f"values must have 1 axis, not {values.rank}")
        require_equal(values.shape[0], 2, "values holds off and on")
        size = runtime_size(0) if depth.value is None else depth.value[0]
        axis = as_axis(self.axis, indices.rank + 1)
        return TensorType(values.dtype, (*indices.shape[:axis], size, *indices.shape[axis:]))

    def lower(self, b: Builder, indices: Tensor, depth: Tensor, values: Tensor) -> Tensor:
        """One loop; an index outside ``[-depth, depth)`` is on nowhere."""
        axis = as_axis(self.axis, indices.rank + 1)
        out = b.outputs[0]
        size = out.shape[axis]
        if depth.type.value is None:
            b.bind(size, expr.cast(only_element(depth), DType.INT64))

        def body(*i: Dim) -> Expr:
            wanted = expr.cast(indices[(*i[:axis], *i[axis + 1 :])], DType.INT64)
            wanted = expr.select(wanted < 0, wanted + expr.index(size), wanted)
            chosen = expr.compare("eq", wanted, expr.index(i[axis]))
            return expr.select(chosen, values[1], values[0])

        return b.loop(out.shape, body, out.dtype)


@operator("Trilu", since=14)
@dataclass(frozen=True, slots=True)
class Trilu(Op):
    """The upper or lower triangle of the last two axes, zeros elsewhere. Source: ONNX Trilu-14."""

    upper: int = 1

    def infer(self, x: TensorType, k: TensorType | None = None) -> TensorType:
        """The type of ``x``."""
        if x.rank < 2:
            raise ShapeError(f"needs at least 2 axes, not {x.rank}")
        if k is not None:
            _require_scalar(k, "k")
        return TensorType(x.dtype, x.shape)

    def lower(self, b: Builder, x: Tensor, k: Tensor | None = None) -> Tensor:
        """One loop."""
        diagonal = expr.constant(0, DType.INT64) if k is None else only_element(k)

        def body(*i: Any) -> Expr:
            offset = expr.index(i[-1] - i[-2])
            inside = offset >= diagonal if self.upper else offset <= diagonal
            return expr.select(inside, x[i], _zero(x.dtype))

        return b.loop(x.shape, body, x.dtype)


def _zero(dtype: DType) -> Expr:
    return expr.constant(0, dtype.compute)
