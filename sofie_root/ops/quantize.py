"""Linear quantisation: QuantizeLinear, DequantizeLinear, QLinearMatMul, QLinearConv."""

from __future__ import annotations

from dataclasses import dataclass
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
    require_at_most,
    require_equal,
)
from sofie_root.ir.dim import floordiv
from sofie_root.program.builder import Builder, Tensor
from sofie_root.program.expr import Expr, call, cast, constant

from .checks import FLOATS, as_axis, as_dtype, require_dtype
from .conv import Convolution
from .gemm import integer_matmul, matmul_shape, require_along

QUANTISED = frozenset({DType.INT8, DType.UINT8, DType.INT16, DType.UINT16})
BYTES = frozenset({DType.INT8, DType.UINT8})


def _check_parameter(p: TensorType | None, x: Shape, axis: int, block: int, what: str) -> None:
    """Checks a scale or zero point: one for all, one per slice of the axis, or one per block."""
    if p is None or p.numel == 1:
        return
    if block:
        if p.rank != len(x):
            raise ShapeError(f"{what} has {p.rank} axes, blocks of {len(x)} axes need as many")
        for k, (have, size) in enumerate(zip(p.shape, x, strict=True)):
            if k == axis:
                require_at_most(size, have * block, f"blocks of {what} must cover the axis")
            else:
                require_equal(have, size, f"shape of {what}")
        return
    if p.rank != 1:
        raise ShapeError(f"{what} must be one number or a vector, not {p}")
    require_equal(p.shape[0], x[axis], f"{what} needs one value per slice of axis {axis}")


def _parameter(p: Tensor, at: tuple[Dim, ...], axis: int, block: int) -> Expr:
    """The scale or zero point that goes with the element at this index."""
    if p.type.numel == 1:
        return p[(0,) * p.rank]
    if block:
        return p[(*at[:axis], floordiv(at[axis], block), *at[axis + 1 :])]
    return p[at[axis]]


def _axis(axis: int, rank: int) -> int:
    """The axis counted from the front; a tensor of no axis has one scale only."""
    return as_axis(axis, rank) if rank > 1 or axis in (0, -1) else 0


def saturated(value: Expr, zero: Expr | None, dtype: DType) -> Expr:
    """A float rounded to the nearest even integer, shifted by the zero point, and clamped."""
    limits = np.iinfo(dtype.numpy)
    value = call("round", value)
    if zero is not None:
        value = value + cast(zero, value.dtype)
    low, high = (constant(float(v), value.dtype) for v in (limits.min, limits.max))
    return cast(call("min", call("max", value, low), high), dtype)


@operator("QuantizeLinear", since=25)
@dataclass(frozen=True, slots=True)
class QuantizeLinear(Op):
    """``saturate(round(x / scale) + zero_point)``. Source: ONNX QuantizeLinear-25."""

    axis: int = 1
    block_size: int = 0
    output_dtype: int = 0
    precision: int = 0
    saturate: int = 1

    def infer(
        self, x: TensorType, scale: TensorType, zero_point: TensorType | None = None
    ) -> TensorType:
        """The shape of ``x`` in the dtype of the zero point."""
        require_dtype(x, FLOATS | {DType.INT32})
        require_dtype(scale, FLOATS)
        axis = _axis(self.axis, x.rank)
        if self.block_size < 0:
            raise ShapeError(f"block_size is {self.block_size}, must not be negative")
        _check_parameter(scale, x.shape, axis, self.block_size, "scale")
        _check_parameter(zero_point, x.shape, axis, self.block_size, "zero_point")
        dtype = DType.UINT8
        if self.output_dtype:
            dtype = as_dtype(self.output_dtype)
        if zero_point is not None:
            if self.output_dtype and zero_point.dtype is not dtype:
                raise ShapeError(f"zero_point is {zero_point.dtype}, output_dtype is {dtype}")
            dtype = zero_point.dtype
        if dtype not in QUANTISED:
            raise Refuse(f"quantisation to {dtype}")
        return TensorType(dtype, x.shape)

    def lower(self, b: Builder, x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
        """One loop."""
        axis, dtype = _axis(self.axis, x.rank), b.outputs[0].dtype

        def body(*i: Dim) -> Expr:
            factor = _parameter(scale, i, axis, self.block_size)
            z = None if zero is None else _parameter(zero, i, axis, self.block_size)
            return saturated(cast(x[i], factor.dtype) / factor, z, dtype)

        return b.loop(x.shape, body)


@operator("DequantizeLinear", since=25)
@dataclass(frozen=True, slots=True)
class DequantizeLinear(Op):
    """``(x - zero_point) * scale``. Source: ONNX DequantizeLinear-25."""

    axis: int = 1
    block_size: int = 0
    output_dtype: int = 0

    def infer(
        self, x: TensorType, scale: TensorType, zero_point: TensorType | None = None
    ) -> TensorType:
        """The shape of ``x`` in the dtype of the scale."""
        require_dtype(x, QUANTISED | {DType.INT32})
        require_dtype(scale, FLOATS)
        if zero_point is not None and zero_point.dtype is not x.dtype:
            raise ShapeError(f"zero_point is {zero_point.dtype}, x is {x.dtype}")
        axis = _axis(self.axis, x.rank)
        if self.block_size < 0:
            raise ShapeError(f"block_size is {self.block_size}, must not be negative")
        _check_parameter(scale, x.shape, axis, self.block_size, "scale")
        _check_parameter(zero_point, x.shape, axis, self.block_size, "zero_point")
        dtype = as_dtype(self.output_dtype) if self.output_dtype else scale.dtype
        return TensorType(dtype, x.shape)

    def lower(self, b: Builder, x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
        """One loop."""
        axis = _axis(self.axis, x.rank)

        def body(*i: Dim) -> Expr:
            factor = _parameter(scale, i, axis, self.block_size)
            value = cast(x[i], DType.INT32)
            if zero is not None:
                value = value - cast(_parameter(zero, i, axis, self.block_size), DType.INT32)
            return cast(value, factor.dtype) * factor

        return b.loop(x.shape, body, b.outputs[0].dtype)


def _check_operand(x: TensorType, scale: TensorType, zero: TensorType, what: str) -> None:
    require_dtype(x, BYTES)
    require_dtype(scale, FLOATS)
    if zero.dtype is not x.dtype:
        raise ShapeError(f"zero point of {what} is {zero.dtype}, {what} is {x.dtype}")


def _check_result(scale: TensorType, zero: TensorType) -> None:
    require_dtype(zero, BYTES)
    if scale.numel != 1 or zero.numel != 1:
        raise Refuse("the result must have one scale and one zero point")


def _along(p: Tensor, at: tuple[Dim, ...], axis: int) -> Expr:
    """A parameter for the element at ``at``: one for all, a vector along an axis, or broadcast."""
    if p.type.numel == 1:
        return p[(0,) * p.rank]
    if p.rank == 1:
        return p[at[axis]]
    tail = at[len(at) - p.rank :]
    return p[tuple(0 if n == 1 else i for i, n in zip(tail, p.shape, strict=True))]


def _factor(b: Builder, x: Tensor, w: Tensor, y: Tensor) -> Tensor | None:
    """The factor ``x * w / y`` where it is known and at most one per column or output channel."""
    if x.constant is None or w.constant is None or y.constant is None:
        return None
    if x.constant.size != 1 or y.constant.size != 1 or w.rank > 1:
        return None
    factor = x.constant.reshape(()) * w.constant / y.constant.reshape(())
    return b.constant(factor.astype(x.dtype.numpy), f"{w.buffer}.factor")


@operator("QLinearMatMul", since=21)
@dataclass(frozen=True, slots=True)
class QLinearMatMul(Op):
    """Matrix product of quantised operands, quantised again. Source: ONNX QLinearMatMul-21."""

    def infer(self, *inputs: TensorType) -> TensorType:
        """``[..., M, N]`` in the dtype of the result's zero point."""
        x, x_scale, x_zero, y, y_scale, y_zero, scale, zero = inputs
        _check_operand(x, x_scale, x_zero, "a")
        _check_operand(y, y_scale, y_zero, "b")
        _check_result(scale, zero)
        for operand, axis, parameters in ((x, -2, (x_scale, x_zero)), (y, -1, (y_scale, y_zero))):
            for parameter in parameters:
                require_along(operand, parameter, axis)
        return TensorType(zero.dtype, matmul_shape(x.shape, y.shape))

    def lower(self, b: Builder, *inputs: Tensor) -> Tensor:
        """An integer product, then a loop that fuses into its epilogue."""
        x, x_scale, x_zero, y, y_scale, y_zero, scale, zero = inputs
        product = integer_matmul(b, x, x_zero, y, y_zero)

        factor = _factor(b, x_scale, y_scale, scale)

        def body(*i: Any) -> Expr:
            if factor is None:
                by = _along(x_scale, i, -2) * _along(y_scale, i, -1) / _along(scale, i, -1)
            else:
                by = _along(factor, i, -1)
            value = cast(product[i], by.dtype) * by
            return saturated(value, _along(zero, i, -1), zero.dtype)

        return b.loop(product.shape, body)


@operator("QLinearConv", since=10)
@dataclass(frozen=True, slots=True)
class QLinearConv(Convolution):
    """Convolution of quantised operands, quantised again. Source: ONNX QLinearConv-10."""

    def infer(self, *inputs: TensorType) -> TensorType:
        """``[N, O, *out]`` in the dtype of the result's zero point."""
        x, x_scale, x_zero, w, w_scale, w_zero, scale, zero, *bias = inputs
        _check_operand(x, x_scale, x_zero, "x")
        _check_operand(w, w_scale, w_zero, "w")
        _check_result(scale, zero)
        if x_scale.numel != 1 or x_zero.numel != 1:
            raise Refuse("the input must have one scale and one zero point")
        shape = self.shape(x.shape, w.shape)
        for parameter in (w_scale, w_zero):
            if parameter.numel != 1:
                require_equal(parameter.numel, shape[1], "one parameter per output channel")
        if bias and (bias[0].dtype is not DType.INT32 or bias[0].rank != 1):
            raise ShapeError(f"bias must be a vector of int32, not {bias[0]}")
        if bias:
            require_equal(bias[0].shape[0], shape[1], "bias needs one value per output channel")
        return TensorType(zero.dtype, shape)

    def lower(self, b: Builder, *inputs: Tensor) -> Tensor:
        """An integer convolution, then a loop that fuses into its epilogue."""
        x, x_scale, x_zero, w, w_scale, w_zero, scale, zero, *bias = inputs
        y = self.convolved_bytes(b, x, x_zero, w, w_zero)

        factor = _factor(b, x_scale, w_scale, scale)

        def body(*i: Any) -> Expr:
            if factor is None:
                by = _along(x_scale, i, 1) * _along(w_scale, i, 1) / _along(scale, i, 1)
            else:
                by = _along(factor, i, 1)
            total = y[i] + bias[0][i[1]] if bias else y[i]
            return saturated(cast(total, by.dtype) * by, _along(zero, i, 1), zero.dtype)

        return b.loop(y.shape, body)
