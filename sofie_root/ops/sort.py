"""Ordering and counting along an axis: TopK, NonZero, Unique, CumSum, CumProd."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sofie_root.errors import ShapeError
from sofie_root.ir import (
    Dim,
    DType,
    Op,
    TensorType,
    operator,
    require_at_most,
    runtime_size,
)
from sofie_root.ir.dim import floordiv, mod
from sofie_root.program.builder import Builder, Tensor
from sofie_root.program.expr import Expr, as_index, cast, compare, index, select
from sofie_root.program.operation import contiguous_strides
from sofie_root.program.operations import scan, sort

from .checks import NUMERIC, as_axis, require_dtype


@operator("TopK", since=11)
@dataclass(frozen=True, slots=True)
class TopK(Op):
    """The ``k`` largest or smallest elements along an axis, with positions. Source: ONNX TopK-11.

    Equal elements come in the order of their positions; NaN counts as larger than every number.
    Without ``sorted`` any order is allowed, and this is one.
    """

    layout_wall = True

    axis: int = -1
    largest: int = 1
    sorted: int = 1

    def infer(self, x: TensorType, k: TensorType) -> tuple[TensorType, TensorType]:
        """Values and indices; the axis has ``k`` elements, known only at run time if computed."""
        if k.dtype is not DType.INT64 or k.numel != 1:
            raise ShapeError(f"k must be one int64, not {k}")
        if x.dtype is DType.BOOL:
            raise ShapeError("bool cannot be ordered")
        axis = as_axis(self.axis, x.rank)
        size: Dim = runtime_size(0, axis) if k.value is None else k.value[0]
        if k.value is not None:
            if isinstance(size, int) and size < 0:
                raise ShapeError(f"k is {size}")
            require_at_most(size, x.shape[axis], "k must not exceed the size of the axis")
        shape = (*x.shape[:axis], size, *x.shape[axis + 1 :])
        return TensorType(x.dtype, shape), TensorType(DType.INT64, shape)

    def lower(self, b: Builder, x: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """One operation."""
        axis = as_axis(self.axis, x.rank)
        size = b.outputs[0].shape[axis]
        if k.type.value is None:
            extent = x.shape[axis]
            asked = k[(0,) * k.rank]
            # A size is checked like an index into 0 ... extent, but a negative one must not wrap.
            checked = select(asked < 0, index(extent + 1), asked)
            b.bind(size, index(as_index(checked, extent + 1)))
        wide, shape = b.cast(x, x.dtype.compute), b.outputs[0].shape
        values, positions = b.operation(
            sort.TopK,
            (TensorType(wide.dtype, shape), TensorType(DType.INT64, shape)),
            x=wide,
            axis=axis,
            k=size,
            largest=bool(self.largest),
        )
        return b.cast(values, x.dtype), positions


def true_positions(b: Builder, x: Tensor, size: Dim) -> Tensor:
    """Row-major positions of the non-zero elements of ``x``, ``[size]``; binds ``size``."""

    def is_true(_: tuple[Dim, ...], at: tuple[Dim, ...]) -> Expr:
        value = x[at]
        return cast(value if x.dtype is DType.BOOL else compare("ne", value, 0), DType.INT64)

    b.bind(size, b.reduce("sum", (), x.shape, is_true)[()])
    (positions,) = b.operation(sort.TruePositions, (TensorType(DType.INT64, (size,)),), x=x)
    return positions


@operator("NonZero", since=13)
@dataclass(frozen=True, slots=True)
class NonZero(Op):
    """Index vectors of the elements that are not zero, one column each. Source: ONNX NonZero-13."""

    def infer(self, x: TensorType) -> TensorType:
        """``[rank, number of non-zero elements]``."""
        return TensorType(DType.INT64, (x.rank, runtime_size(0, 1)))

    def lower(self, b: Builder, x: Tensor) -> Tensor:
        """The flat positions, then a loop per axis that takes the index apart."""
        size = b.outputs[0].shape[1]
        positions = true_positions(b, x, size)
        strides, numel = contiguous_strides(x.shape), x.type.numel

        if x.rank == 0:
            return b.loop((0, size), lambda *_: index(0))

        def along(axis: int, i: Dim) -> Expr:
            at = as_index(positions[i], numel)
            return index(mod(floordiv(at, strides[axis]), x.shape[axis]))

        return b.pieces(
            (x.rank, size),
            DType.INT64,
            [
                ((axis, 0), (1, size), lambda _, i, axis=axis: along(axis, i))
                for axis in range(x.rank)
            ],
        )


@operator("Unique", since=11)
@dataclass(frozen=True, slots=True)
class Unique(Op):
    """The distinct elements or slices of a tensor. Source: ONNX Unique-11."""

    axis: int | None = None
    sorted: int = 1

    def infer(self, x: TensorType) -> tuple[TensorType, TensorType, TensorType, TensorType]:
        """Distinct slices, their first positions, the slice at each position, and the counts."""
        axis = 0 if self.axis is None else as_axis(self.axis, x.rank)
        size = runtime_size(0, axis)
        extent = x.numel if self.axis is None else x.shape[axis]
        rest = () if self.axis is None else x.shape
        vector = TensorType(DType.INT64, (size,))
        y = TensorType(x.dtype, (*rest[:axis], size, *rest[axis + 1 :]))
        return y, vector, TensorType(DType.INT64, (extent,)), vector

    def lower(self, b: Builder, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """An operation that groups the slices, then loops that copy what was found."""
        y = b.cast(x, x.dtype.compute)
        if self.axis is None:
            x, y, axis = b.reshape(x, (x.type.numel,)), b.reshape(y, (x.type.numel,)), 0
        else:
            axis = as_axis(self.axis, x.rank)
        size = runtime_size(0, axis)
        extent = x.shape[axis]
        vector = TensorType(DType.INT64, (extent,))
        number, first, inverse, counts = b.operation(
            sort.Unique,
            (TensorType(DType.INT64, ()), vector, vector, vector),
            x=y,
            axis=axis,
            sorted=bool(self.sorted),
        )
        b.bind(size, number[()])
        distinct = b.loop(
            (*x.shape[:axis], size, *x.shape[axis + 1 :]),
            lambda *i: x[(*i[:axis], as_index(first[i[axis]], extent), *i[axis + 1 :])],
            x.dtype,
        )
        places, numbers = (b.loop((size,), lambda i, t=t: t[i]) for t in (first, counts))
        return distinct, places, inverse, numbers


@dataclass(frozen=True, slots=True)
class Cumulative(Op):
    """Base of CumSum and CumProd: all but how elements join."""

    kind: ClassVar[str]

    exclusive: int = 0
    reverse: int = 0

    def infer(self, x: TensorType, axis: TensorType) -> TensorType:
        """The type of ``x``."""
        require_dtype(x, NUMERIC)
        if axis.numel != 1 or axis.dtype not in (DType.INT32, DType.INT64):
            raise ShapeError(f"axis must be one integer, not {axis}")
        if x.rank == 0:
            raise ShapeError("a scalar has no axis")
        self._axis(x, axis)
        return TensorType(x.dtype, x.shape)

    def _axis(self, x: TensorType, axis: TensorType) -> int | None:
        """The axis counted from the front, or None where it is only known at run time."""
        value = None if axis.value is None else axis.value[0]
        return as_axis(value, x.rank) if isinstance(value, int) else None

    def lower(self, b: Builder, x: Tensor, axis: Tensor) -> Tensor:
        """One operation."""
        known, wide = self._axis(x.type, axis.type), b.cast(x, x.dtype.compute)
        (y,) = b.operation(
            scan.Cumulative,
            (TensorType(wide.dtype, x.shape),),
            x=wide,
            axis=known,
            axis_operand=axis if known is None else None,
            kind=self.kind,
            exclusive=bool(self.exclusive),
            reverse=bool(self.reverse),
        )
        return b.cast(y, x.dtype)


@operator("CumSum", since=14)
@dataclass(frozen=True, slots=True)
class CumSum(Cumulative):
    """Sums up to each position along an axis. Source: ONNX CumSum-14."""

    kind = "add"
    exclusive: int = 0
    reverse: int = 0


@operator("CumProd", since=26)
@dataclass(frozen=True, slots=True)
class CumProd(Cumulative):
    """Products up to each position along an axis. Source: ONNX CumProd-26."""

    kind = "mul"
    exclusive: int = 0
    reverse: int = 0
