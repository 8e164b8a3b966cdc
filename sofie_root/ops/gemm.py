"""Matrix products: Gemm, MatMul and MatMulInteger."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sofie_root.errors import ShapeError
from sofie_root.ir import DType, Op, Refuse, Shape, TensorType, operator, require_equal
from sofie_root.ir.dim import product
from sofie_root.program.builder import Builder, Tensor, broadcast_index
from sofie_root.program.expr import Expr, cast, constant
from sofie_root.program.operations import integer
from sofie_root.program.operations import matmul as operations

from .broadcast import broadcast_shapes, require_broadcastable

Array = npt.NDArray[Any]

INNER = "inner sizes of a matrix product must be equal"


@operator("Gemm", since=13)
@dataclass(frozen=True, slots=True)
class Gemm(Op):
    """``alpha * A' * B' + beta * C`` with optional transposes. Source: ONNX Gemm-13."""

    layout_wall = True

    alpha: float = 1.0
    beta: float = 1.0
    transA: int = 0  # noqa: N815
    transB: int = 0  # noqa: N815

    def infer(self, a: TensorType, b: TensorType, c: TensorType | None = None) -> TensorType:
        """``[M, N]``."""
        if a.rank != 2 or b.rank != 2:
            raise ShapeError(f"A and B must have 2 axes, not {a.rank} and {b.rank}")
        if a.dtype is not b.dtype or (c is not None and c.dtype is not a.dtype):
            raise ShapeError("A, B and C must have one dtype")
        if not a.dtype.is_float and (self.alpha % 1 or self.beta % 1):
            raise Refuse("alpha and beta must be whole numbers for integer matrices")
        m, k = a.shape[::-1] if self.transA else a.shape
        k2, n = b.shape[::-1] if self.transB else b.shape
        require_equal(k, k2, INNER)
        if c is not None:
            require_broadcastable(c.shape, (m, n), "C")
        return TensorType(a.dtype, (m, n))

    def lower(self, b: Builder, x: Tensor, y: Tensor, c: Tensor | None = None) -> Tensor:
        """A product, then a loop for ``beta * C``, which fuses into the product's epilogue."""
        dtype, compute = x.dtype, x.dtype.compute
        x = b.cast(b.transpose(x, (1, 0)) if self.transA else x, compute)
        weights = None if y.constant is None else y.constant.astype(compute.numpy)
        alpha = self.alpha
        if weights is not None:
            weights = weights.T if self.transB else weights
            if alpha != 1.0:
                weights, alpha = (weights * compute.numpy.type(alpha)), 1.0
            z = b.linear(x, weights, y.buffer)
        else:
            y = b.cast(b.transpose(y, (1, 0)) if self.transB else y, compute)
            z = _products(b, x, y, ())
        beta = self.beta if c is not None else 0.0
        if c is not None and c.constant is not None and beta not in (0.0, 1.0):
            scaled = c.constant.astype(compute.numpy) * compute.numpy.type(beta)
            c, beta = b.constant(scaled, f"{c.buffer}.scaled"), 1.0
        if alpha == 1.0 and beta == 0.0:
            return b.cast(z, dtype)

        def body(*ij: Any) -> Expr:
            value = _scaled(z[ij], alpha)
            if c is None or beta == 0.0:
                return value
            return value + _scaled(c[broadcast_index(ij, c.shape)], beta)

        return b.loop(z.shape, body, dtype)


def _scaled(value: Expr, factor: float) -> Expr:
    return value if factor == 1.0 else value * constant(factor, value.dtype)


@operator("MatMul", since=13)
@dataclass(frozen=True, slots=True)
class MatMul(Op):
    """Matrix product as ``numpy.matmul``. Source: ONNX MatMul-13."""

    layout_wall = True

    def infer(self, a: TensorType, b: TensorType) -> TensorType:
        """``[..., M, N]``; an operand of one axis loses its inner axis."""
        if a.dtype is not b.dtype:
            raise ShapeError(f"A is {a.dtype}, B is {b.dtype}; they must agree")
        return TensorType(a.dtype, matmul_shape(a.shape, b.shape))

    def lower(self, b: Builder, x: Tensor, y: Tensor) -> Tensor:
        """A packed product where the right side is a constant matrix, else a batched one."""
        return matmul(b, x, y)


@operator("MatMulInteger", since=10)
@dataclass(frozen=True, slots=True)
class MatMulInteger(Op):
    """Product of 8-bit matrices less their zero points. Source: ONNX MatMulInteger-10."""

    def infer(
        self,
        a: TensorType,
        b: TensorType,
        a_zero_point: TensorType | None = None,
        b_zero_point: TensorType | None = None,
    ) -> TensorType:
        """``[..., M, N]`` of INT32."""
        for operand, zero, axis in ((a, a_zero_point, -2), (b, b_zero_point, -1)):
            if operand.dtype not in (DType.INT8, DType.UINT8):
                raise ShapeError(f"operands must be int8 or uint8, not {operand.dtype}")
            if zero is not None:
                _check_zero_point(operand, zero, axis)
        return TensorType(DType.INT32, matmul_shape(a.shape, b.shape))

    def lower(
        self,
        b: Builder,
        x: Tensor,
        y: Tensor,
        x_zero: Tensor | None = None,
        y_zero: Tensor | None = None,
    ) -> Tensor:
        """A product of bytes."""
        return integer_matmul(b, x, x_zero, y, y_zero)


def integer_matmul(
    b: Builder, x: Tensor, x_zero: Tensor | None, y: Tensor, y_zero: Tensor | None
) -> Tensor:
    """``numpy.matmul(x - x_zero, y - y_zero)`` of 8-bit operands in INT32.

    A product of bytes where the right side is one matrix, with at most one zero point for each of its
    columns and for each row of the left side; else both sides are widened with their zero points
    subtracted, for a plain product.
    """
    columns, zeros = _column_zeros(b, y, y_zero), _row_zeros(b, x, x_zero)
    if columns is None or zeros is None or any(d != 1 for d in y.shape[:-2]):
        return matmul(b, without_zero_point(b, x, x_zero, -2), without_zero_point(b, y, y_zero, -1))
    shape = matmul_shape(x.shape, y.shape)
    x, y = x if x.rank > 1 else b.reshape(x, (1, *x.shape)), _matrix(b, y)
    out = TensorType(DType.INT32, (*x.shape[:-1], y.shape[-1]))
    (z,) = b.operation(integer.IntegerMatMul, (out,), x=x, x_zero=zeros, w=y, w_zero=columns)
    return b.reshape(z, shape)


def _matrix(b: Builder, y: Tensor) -> Tensor:
    """A right side without its outer axes, a vector as one column; constants stay constants."""
    shape = y.shape[-2:] if y.rank > 1 else (*y.shape, 1)
    if y.constant is None or y.shape == shape:
        return b.reshape(y, shape)
    return b.constant(
        y.constant.reshape(y.constant.shape[-2:] if y.rank > 1 else (-1, 1)), y.buffer
    )


def zero_points(b: Builder, zero: Tensor | None) -> Tensor:
    """All zero points in a row in INT32; a single 0 where there are none."""
    if zero is None:
        return b.constant(np.zeros(1, np.int32), "zero")
    if zero.constant is not None:
        return b.constant(zero.constant.astype(np.int32).reshape(-1), f"{zero.buffer}.int32")
    return b.reshape(b.cast(zero, DType.INT32), (zero.type.numel,))


def _column_zeros(b: Builder, y: Tensor, zero: Tensor | None) -> Tensor | None:
    """The zero point of all columns, or that of each column, in INT32; None where columns have several."""
    columns = y.shape[-1] if y.rank > 1 else 1
    if zero is None or zero.type.numel == 1:
        return zero_points(b, zero)
    return zero_points(b, zero) if columns == zero.shape[-1] == zero.type.numel else None


def _row_zeros(b: Builder, x: Tensor, zero: Tensor | None) -> Tensor | None:
    """The zero point of all rows, or that of each row, in INT32; None where rows have several."""
    if zero is None or zero.type.numel == 1:
        return zero_points(b, zero)
    if zero.rank > 1 and zero.shape[-1] != 1:
        return None

    def body(*i: Any) -> Expr:
        at = (*i, 0) if zero.rank > 1 else i
        return cast(zero[broadcast_index(at, zero.shape)], DType.INT32)

    return b.loop(x.shape[:-1], body)


def _check_zero_point(operand: TensorType, zero: TensorType, axis: int) -> None:
    if zero.dtype is not operand.dtype:
        raise ShapeError(f"zero point is {zero.dtype}, its operand {operand.dtype}")
    require_along(operand, zero, axis)


def require_along(operand: TensorType, parameter: TensorType, axis: int) -> None:
    """Checks a scale or zero point: one for all, a vector along an axis, or one that broadcasts."""
    if parameter.rank == 1 and parameter.shape != (1,):
        if operand.rank < -axis:
            raise ShapeError(f"{parameter} has no axis of {operand} to go along")
        require_equal(parameter.shape[0], operand.shape[axis], "one parameter per row or column")
    elif parameter.rank > 1:
        require_broadcastable(parameter.shape, operand.shape, "scale or zero point")


def without_zero_point(b: Builder, x: Tensor, zero: Tensor | None, axis: int) -> Tensor:
    """``x - zero`` in INT32; a vector of zero points goes along ``axis``."""
    if x.constant is not None and (zero is None or zero.constant is not None):
        wide = x.constant.astype(np.int32)
        if zero is not None and zero.constant is not None:
            wide = wide - _along(zero.constant.astype(np.int32), axis)
        return b.constant(wide, f"{x.buffer}.int32")
    x = b.cast(x, DType.INT32)
    if zero is None:
        return x
    z = b.cast(zero, DType.INT32)
    if z.rank == 1:
        z = b.reshape(z, (z.shape[0],) + (1,) * (-1 - axis))

    def body(*i: Any) -> Expr:
        return x[i] - z[broadcast_index(i, z.shape)]

    return b.loop(x.shape, body)


def _along(zero: Array, axis: int) -> Array:
    return zero.reshape(-1, *(1,) * (-1 - axis)) if zero.ndim == 1 else zero


def matmul_shape(a: Shape, b: Shape) -> Shape:
    """Shape of ``numpy.matmul`` of these shapes."""
    if not a or not b:
        raise ShapeError("operands of a matrix product must have at least one axis")
    left, right = (a if len(a) > 1 else (1, *a)), (b if len(b) > 1 else (*b, 1))
    require_equal(left[-1], right[-2], INNER)
    batch = broadcast_shapes(left[:-2], right[:-2])
    rows = left[-2:-1] if len(a) > 1 else ()
    columns = right[-1:] if len(b) > 1 else ()
    return (*batch, *rows, *columns)


def matmul(b: Builder, x: Tensor, y: Tensor) -> Tensor:
    """``numpy.matmul(x, y)`` in the dtype of the operands."""
    dtype, compute = x.dtype, x.dtype.compute
    shape = matmul_shape(x.shape, y.shape)
    x = b.cast(x if x.rank > 1 else b.reshape(x, (1, *x.shape)), compute)
    if y.constant is not None and all(d == 1 for d in y.shape[:-2]):
        weights = y.constant.astype(compute.numpy)
        weights = weights.reshape(weights.shape[-2:] if y.rank > 1 else (-1, 1))
        z = b.linear(x, weights, y.buffer)
    else:
        y = b.cast(y if y.rank > 1 else b.reshape(y, (*y.shape, 1)), compute)
        z = _products(b, x, y, broadcast_shapes(x.shape[:-2], y.shape[:-2]))
    return b.cast(b.reshape(z, shape), dtype)


def _products(b: Builder, x: Tensor, y: Tensor, batch: Shape) -> Tensor:
    """``x[..., M, K]`` times ``y[..., K, N]``, leading axes broadcast to ``batch``: ``[*batch, M, N]``."""
    if batch and all(d == 1 for d in y.shape[:-2]):
        # One right side for all: the batch is only more rows.
        x = b.expand(x, (*batch, *x.shape[-2:]))
        rows = x.shape[:-1]
        x = b.reshape(x, (product(rows), x.shape[-1]))
        return _product(b, x, b.reshape(y, y.shape[-2:]), (), rows)
    rows = (x.shape[-2],)
    return _product(b, _batched(b, x, batch), _batched(b, y, batch), batch, rows)


def _product(b: Builder, x: Tensor, y: Tensor, batch: Shape, rows: Shape) -> Tensor:
    out = TensorType(x.dtype, (*batch, *rows, y.shape[-1]))
    (z,) = b.operation(operations.MatMul, (out,), x=x, w=y, batch=batch, rows=rows)
    return z


def _batched(b: Builder, x: Tensor, batch: Shape) -> Tensor:
    """``x`` with at most two leading axes that hold the whole batch; a view wherever it can be."""
    matrix = x.shape[-2:]
    collapsed = batch if len(batch) <= 2 else (product(batch[:-1]), batch[-1])
    if all(d == 1 for d in x.shape[:-2]):
        return b.expand(b.reshape(x, matrix), (*collapsed, *matrix))
    return b.reshape(b.expand(x, (*batch, *matrix)), (*collapsed, *matrix))
