"""Normalisations by mean and variance, as compositions of loops.

Statistics are computed in float (double for double), whatever 16-bit type the data are stored in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sofie_root.errors import ShapeError
from sofie_root.ir import Dim, DType, Op, Refuse, TensorType, operator, require_equal
from sofie_root.ir.dim import floordiv, product
from sofie_root.program import expr
from sofie_root.program.builder import Builder, Tensor
from sofie_root.program.expr import Expr, call

from .broadcast import element, require_broadcastable
from .checks import FLOATS, as_axes, as_axis, as_dtype, require_dtype
from .reduce import reduce_axes


def _require_stash_type(stash_type: int) -> None:
    if as_dtype(stash_type) not in (DType.FLOAT, DType.DOUBLE):
        raise Refuse(f"stash_type {stash_type} is not float")


def _at(index: Sequence[Dim], axes: Sequence[int]) -> tuple[Dim, ...]:
    """The index into what is left after reducing these axes, which keep size 1."""
    return tuple(0 if k in axes else d for k, d in enumerate(index))


def _mean(b: Builder, x: Tensor, axes: Sequence[int], *, square: bool = False) -> Tensor:
    count = product(x.shape[k] for k in axes)
    with b.called("variance" if square else "mean"):
        total = reduce_axes(b, "sum", x, axes, lambda v, _: v * v if square else v)
        return b.loop(total.shape, lambda *i: total[i] / expr.index(count, total.dtype))


def _centred(b: Builder, x: Tensor, axes: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The mean over these axes, and ``x`` without it."""
    mean = _mean(b, x, axes)
    with b.called("centred"):
        return mean, b.loop(x.shape, lambda *i: x[i] - mean[_at(i, axes)])


def _inverse_deviation(b: Builder, centred: Tensor, axes: Sequence[int], epsilon: float) -> Tensor:
    variance = _mean(b, centred, axes, square=True)
    with b.called("inverse_deviation"):
        return b.loop(variance.shape, lambda *i: 1 / call("sqrt", variance[i] + epsilon))


@operator("BatchNormalization", since=15)
@dataclass(frozen=True, slots=True)
class BatchNormalization(Op):
    """Normalisation by stored statistics. Source: ONNX BatchNormalization-15.

    ``scale * (x - mean) / sqrt(var + epsilon) + bias`` per channel.
    """

    epsilon: float = 1e-5
    momentum: float = 0.9
    training_mode: int = 0

    def infer(
        self, x: TensorType, scale: TensorType, bias: TensorType, mean: TensorType, var: TensorType
    ) -> TensorType:
        """The type of ``x``."""
        if self.training_mode:
            raise Refuse("training_mode=1 is not inference")
        require_dtype(x, FLOATS)
        if x.rank < 1:
            raise ShapeError("needs at least one axis")
        channels = x.shape[1] if x.rank > 1 else 1
        for name, t in (("scale", scale), ("bias", bias), ("mean", mean), ("variance", var)):
            require_dtype(t, FLOATS)
            if t.rank != 1:
                raise ShapeError(f"{name} must have 1 axis, not {t.rank}")
            require_equal(t.shape[0], channels, f"{name} must have one element per channel")
        return TensorType(x.dtype, x.shape)

    def lower(
        self, b: Builder, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, var: Tensor
    ) -> Tensor:
        """``x * factor + offset``; both are computed now where the parameters are constant."""
        factor, offset = self._factors(b, x.dtype.compute, scale, bias, mean, var)

        def body(*i: Any) -> Expr:
            channel = (i[1] if x.rank > 1 else 0,)
            return x[i] * element(factor, channel) + element(offset, channel)

        return b.loop(x.shape, body, x.dtype)

    def _factors(
        self, b: Builder, dtype: DType, scale: Tensor, bias: Tensor, mean: Tensor, var: Tensor
    ) -> tuple[Tensor, Tensor]:
        arrays = [t.constant for t in (scale, bias, mean, var)]
        if all(a is not None for a in arrays):
            s, o, m, v = (np.asarray(a, np.float64) for a in arrays)
            factor = s / np.sqrt(v + self.epsilon)
            return (
                b.constant(factor.astype(dtype.numpy), f"{scale.buffer}.factor"),
                b.constant((o - m * factor).astype(dtype.numpy), f"{bias.buffer}.offset"),
            )
        parameters = [b.cast(t, dtype) for t in (scale, bias, mean, var)]
        s_, o_, m_, v_ = parameters
        factors = b.loop(s_.shape, lambda i: s_[i] / call("sqrt", v_[i] + self.epsilon))
        return factors, b.loop(s_.shape, lambda i: o_[i] - m_[i] * factors[i])


@operator("InstanceNormalization", since=22)
@dataclass(frozen=True, slots=True)
class InstanceNormalization(Op):
    """Each channel to mean 0 and variance 1. Source: ONNX InstanceNormalization-22."""

    epsilon: float = 1e-5

    def infer(self, x: TensorType, scale: TensorType, bias: TensorType) -> TensorType:
        """The type of ``x``."""
        require_dtype(x, FLOATS)
        if x.rank < 3:
            raise ShapeError(f"needs at least 3 axes, not {x.rank}")
        _require_per_channel(x, scale, bias)
        return TensorType(x.dtype, x.shape)

    def lower(self, b: Builder, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        """Mean, centred, variance, scaled."""
        axes = range(2, x.rank)
        _, centred = _centred(b, x, axes)
        inverse = _inverse_deviation(b, centred, axes, self.epsilon)

        def body(*i: Any) -> Expr:
            scaled = centred[i] * inverse[_at(i, axes)]
            return scaled * element(scale, i[1:2]) + element(bias, i[1:2])

        return b.loop(x.shape, body, x.dtype)


def _require_per_channel(x: TensorType, *parameters: TensorType) -> None:
    for t in parameters:
        require_dtype(t, FLOATS)
        if t.rank != 1:
            raise ShapeError(f"scale and bias must have 1 axis, not {t.rank}")
        require_equal(t.shape[0], x.shape[1], "scale and bias have one element per channel")


@operator("GroupNormalization", since=21)
@dataclass(frozen=True, slots=True)
class GroupNormalization(Op):
    """Groups of channels to mean 0 and variance 1. Source: ONNX GroupNormalization-21."""

    num_groups: int
    epsilon: float = 1e-5
    stash_type: int = 1

    def infer(self, x: TensorType, scale: TensorType, bias: TensorType) -> TensorType:
        """The type of ``x``."""
        require_dtype(x, FLOATS)
        _require_stash_type(self.stash_type)
        if x.rank < 2:
            raise ShapeError(f"needs at least 2 axes, not {x.rank}")
        _require_per_channel(x, scale, bias)
        if self.num_groups < 1:
            raise ShapeError(f"num_groups is {self.num_groups}, must be positive")
        if isinstance(x.shape[1], int) and x.shape[1] % self.num_groups:
            raise ShapeError(f"{x.shape[1]} channels do not divide into {self.num_groups} groups")
        whole = floordiv(x.shape[1], self.num_groups) * self.num_groups
        require_equal(whole, x.shape[1], "channels divide into groups")
        return TensorType(x.dtype, x.shape)

    def lower(self, b: Builder, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        """Mean, centred, variance, scaled, with the channels split into groups."""
        batch, channels, *rest = x.shape
        size = floordiv(channels, self.num_groups)
        grouped = b.reshape(x, (batch, self.num_groups, size, *rest))
        axes = range(2, grouped.rank)
        _, centred = _centred(b, grouped, axes)
        inverse = _inverse_deviation(b, centred, axes, self.epsilon)

        def body(*i: Any) -> Expr:
            channel = (i[1] * size + i[2],)
            scaled = centred[i] * inverse[_at(i, axes)]
            return scaled * element(scale, channel) + element(bias, channel)

        return b.reshape(b.loop(grouped.shape, body, x.dtype), x.shape)


@operator("LayerNormalization", since=17)
@dataclass(frozen=True, slots=True)
class LayerNormalization(Op):
    """Axes from ``axis`` on to mean 0, variance 1. Source: ONNX LayerNormalization-17."""

    axis: int = -1
    epsilon: float = 1e-5
    stash_type: int = 1

    def infer(
        self, x: TensorType, scale: TensorType, bias: TensorType | None = None
    ) -> tuple[TensorType, TensorType, TensorType]:
        """The type of ``x``, and the types of mean and inverse standard deviation."""
        require_dtype(x, FLOATS)
        _require_stash_type(self.stash_type)
        axis = as_axis(self.axis, x.rank)
        for what, t in (("scale", scale), ("bias", bias)):
            if t is not None:
                require_dtype(t, FLOATS)
                require_broadcastable(t.shape, x.shape, what)
        statistics = TensorType(
            as_dtype(self.stash_type), tuple(1 if k >= axis else d for k, d in enumerate(x.shape))
        )
        return TensorType(x.dtype, x.shape), statistics, statistics

    def lower(
        self, b: Builder, x: Tensor, scale: Tensor, bias: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Mean, centred, variance, scaled."""
        axes = range(as_axis(self.axis, x.rank), x.rank)
        mean, centred = _centred(b, x, axes)
        inverse = _inverse_deviation(b, centred, axes, self.epsilon)

        def body(*i: Any) -> Expr:
            scaled = centred[i] * inverse[_at(i, axes)] * _as(element(scale, i), centred.dtype)
            return scaled if bias is None else scaled + _as(element(bias, i), centred.dtype)

        y = b.loop(x.shape, body, x.dtype)
        statistics = as_dtype(self.stash_type)
        return y, b.cast(mean, statistics), b.cast(inverse, statistics)


def _as(value: Expr, dtype: DType) -> Expr:
    return expr.cast(value, dtype)


@operator("RMSNormalization", since=23)
@dataclass(frozen=True, slots=True)
class RMSNormalization(Op):
    """Axes from ``axis`` on over their mean square root. Source: ONNX RMSNormalization-23."""

    axis: int = -1
    epsilon: float = 1e-5
    stash_type: int = 1

    def infer(self, x: TensorType, scale: TensorType) -> TensorType:
        """The type of ``x``, with the element type of the scale."""
        require_dtype(x, FLOATS)
        require_dtype(scale, FLOATS)
        _require_stash_type(self.stash_type)
        as_axis(self.axis, x.rank)
        require_broadcastable(scale.shape, x.shape, "scale")
        return TensorType(scale.dtype, x.shape)

    def lower(self, b: Builder, x: Tensor, scale: Tensor) -> Tensor:
        """The mean square, then products with its inverse root."""
        axes = range(as_axis(self.axis, x.rank), x.rank)
        inverse = _inverse_deviation(b, x, axes, self.epsilon)

        def body(*i: Any) -> Expr:
            return _as(x[i] * inverse[_at(i, axes)], scale.dtype.compute) * element(scale, i)

        return b.loop(x.shape, body, scale.dtype)


@operator("MeanVarianceNormalization", since=13)
@dataclass(frozen=True, slots=True)
class MeanVarianceNormalization(Op):
    """``axes`` to mean 0 and variance 1. Source: ONNX MeanVarianceNormalization-13."""

    axes: tuple[int, ...] = (0, 2, 3)

    def infer(self, x: TensorType) -> TensorType:
        """The type of ``x``."""
        require_dtype(x, FLOATS)
        as_axes(self.axes, x.rank)
        return TensorType(x.dtype, x.shape)

    def lower(self, b: Builder, x: Tensor) -> Tensor:
        """Mean, centred, variance, quotients; 1e-9 keeps a constant input finite."""
        axes = as_axes(self.axes, x.rank)
        _, centred = _centred(b, x, axes)
        variance = _mean(b, centred, axes, square=True)
        deviation = b.loop(variance.shape, lambda *i: call("sqrt", variance[i]) + 1e-9)
        return b.loop(x.shape, lambda *i: centred[i] / deviation[_at(i, axes)], x.dtype)


@operator("LRN", since=13)
@dataclass(frozen=True, slots=True)
class LRN(Op):
    """Elements divided by a power of the squares in nearby channels. Source: ONNX LRN-13."""

    channels_first = True

    size: int
    alpha: float = 1e-4
    beta: float = 0.75
    bias: float = 1.0

    def infer(self, x: TensorType) -> TensorType:
        """The type of ``x``."""
        require_dtype(x, FLOATS)
        if x.rank < 2:
            raise ShapeError(f"needs at least 2 axes, not {x.rank}")
        if self.size < 1:
            raise ShapeError(f"sums over {self.size} channels, at least 1 is needed")
        return TensorType(x.dtype, x.shape)

    def lower(self, b: Builder, x: Tensor) -> Tensor:
        """A sum over a window of channels that stops at the first and the last, then quotients."""
        before = (self.size - 1) // 2

        def square(out: tuple[Dim, ...], over: tuple[Dim, ...]) -> Expr:
            channel = out[1] + over[0] - before
            value = x[(out[0], channel, *out[2:])]
            position = expr.index(channel)
            inside = call("logical_and", position >= 0, position < expr.index(x.shape[1]))
            return expr.guard(inside, value * value, 0)

        squares = b.reduce("sum", x.shape, (self.size,), square)

        def body(*i: Any) -> Expr:
            return x[i] / call("pow", squares[i] * (self.alpha / self.size) + self.bias, self.beta)

        return b.loop(x.shape, body, x.dtype)
