"""Activation functions: one expression per element."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sofie_root.errors import ShapeError
from sofie_root.ir import DType, Op, TensorType, operator
from sofie_root.ir.dim import maximum, minimum
from sofie_root.program.builder import Builder, Tensor
from sofie_root.program.expr import Expr, call, cast, select

from .broadcast import element, require_broadcastable
from .checks import NUMERIC, require_dtype, require_one_dtype
from .elementwise import Binary, Unary, unary
from .symbolic import elementwise

Relu = unary("Relu", 14, "relu", NUMERIC)
Sigmoid = unary("Sigmoid", 13, "sigmoid")
Softplus = unary("Softplus", 22, "softplus")
Softsign = unary("Softsign", 22, "softsign")
Tanh = unary("Tanh", 13, "tanh")


@operator("LeakyRelu", since=16)
@dataclass(frozen=True, slots=True)
class LeakyRelu(Unary):
    """``x``, and ``alpha * x`` below zero. Source: ONNX LeakyRelu-16."""

    alpha: float = 0.01

    def element(self, *args: Expr) -> Expr:
        """A choice by sign."""
        (x,) = args
        return select(x < 0, x * self.alpha, x)


@operator("PRelu", since=16)
@dataclass(frozen=True, slots=True)
class PRelu(Binary):
    """``x``, and ``slope * x`` below zero. Source: ONNX PRelu-16."""

    accepts = NUMERIC

    def infer(self, a: TensorType, b: TensorType) -> TensorType:
        """The type of ``x``; the slope broadcasts to it."""
        require_broadcastable(b.shape, a.shape, "slope")
        require_one_dtype((a, b))
        return TensorType(a.dtype, a.shape)

    def element(self, *args: Expr) -> Expr:
        """A choice by sign."""
        x, slope = args
        return select(x < 0, x * slope, x)


@operator("ThresholdedRelu", since=22)
@dataclass(frozen=True, slots=True)
class ThresholdedRelu(Unary):
    """``x`` above ``alpha``, else zero. Source: ONNX ThresholdedRelu-22."""

    alpha: float = 1.0

    def element(self, *args: Expr) -> Expr:
        """A choice by size."""
        (x,) = args
        return select(x > self.alpha, x, 0)


@operator("Elu", since=22)
@dataclass(frozen=True, slots=True)
class Elu(Unary):
    """``x``, and ``alpha * (exp(x) - 1)`` below zero. Source: ONNX Elu-22."""

    alpha: float = 1.0

    def element(self, *args: Expr) -> Expr:
        """A choice by sign."""
        (x,) = args
        return select(x < 0, call("expm1", x) * self.alpha, x)


@operator("Celu", since=28)
@dataclass(frozen=True, slots=True)
class Celu(Unary):
    """``x``, and ``alpha * (exp(x / alpha) - 1)`` below zero. Source: ONNX Celu-28."""

    alpha: float = 1.0

    def element(self, *args: Expr) -> Expr:
        """A choice by sign."""
        (x,) = args
        return select(x < 0, call("expm1", x / self.alpha) * self.alpha, x)


@operator("Selu", since=22)
@dataclass(frozen=True, slots=True)
class Selu(Unary):
    """``gamma * x``, and ``gamma * alpha * (exp(x) - 1)`` below zero. Source: ONNX Selu-22."""

    alpha: float = 1.6732631921768188
    gamma: float = 1.0507010221481323

    def element(self, *args: Expr) -> Expr:
        """A choice by sign."""
        (x,) = args
        return select(x > 0, x, call("expm1", x) * self.alpha) * self.gamma


@operator("HardSigmoid", since=22)
@dataclass(frozen=True, slots=True)
class HardSigmoid(Unary):
    """``alpha * x + beta`` cut to [0, 1]. Source: ONNX HardSigmoid-22."""

    alpha: float = 0.2
    beta: float = 0.5

    def element(self, *args: Expr) -> Expr:
        """A straight line, cut."""
        return _hard_sigmoid(args[0], self.alpha, self.beta)


@operator("HardSwish", since=22)
@dataclass(frozen=True, slots=True)
class HardSwish(Unary):
    """``x`` times its hard sigmoid of slope 1/6. Source: ONNX HardSwish-22."""

    def element(self, *args: Expr) -> Expr:
        """A product."""
        (x,) = args
        return x * _hard_sigmoid(x, 1 / 6, 0.5)


def _hard_sigmoid(x: Expr, alpha: float, beta: float) -> Expr:
    return call("max", call("min", x * alpha + beta, 1), 0)


@operator("Swish", since=24)
@dataclass(frozen=True, slots=True)
class Swish(Unary):
    """``x * sigmoid(alpha * x)``. Source: ONNX Swish-24."""

    alpha: float = 1.0

    def element(self, *args: Expr) -> Expr:
        """A product."""
        (x,) = args
        return x * call("sigmoid", x if self.alpha == 1 else x * self.alpha)


@operator("Mish", since=22)
@dataclass(frozen=True, slots=True)
class Mish(Unary):
    """``x * tanh(softplus(x))``. Source: ONNX Mish-22."""

    def element(self, *args: Expr) -> Expr:
        """A product."""
        (x,) = args
        return x * call("tanh", call("softplus", x))


@operator("Gelu", since=20)
@dataclass(frozen=True, slots=True)
class Gelu(Unary):
    """``x`` times the normal cumulative distribution, or by tanh; -0 at -infinity. Source: ONNX Gelu-20."""

    approximate: str = "none"

    def element(self, *args: Expr) -> Expr:
        """By the error function or by tanh."""
        (x,) = args
        # Far below zero the probability is 0: -infinity times it must not be NaN.
        least = float(np.finfo(x.dtype.compute.numpy).min)
        number = call("max", x, least)
        if self.approximate == "tanh":
            inner = (x + x * x * x * 0.044715) * math.sqrt(8 / math.pi)
            return number * call("sigmoid", inner)  # (1 + tanh(u)) / 2, without cancellation
        return number * call("normal_cdf", x)


@operator("Shrink", since=9)
@dataclass(frozen=True, slots=True)
class Shrink(Unary):
    """Moved towards zero by ``bias`` outside ``lambd``, zero inside. Source: ONNX Shrink-9."""

    bias: float = 0.0
    lambd: float = 0.5
    accepts = NUMERIC

    def element(self, *args: Expr) -> Expr:
        """A choice by size."""
        (given,) = args
        # The attributes are floats; integers are computed in double and truncated.
        x = given if given.dtype.is_float else cast(given, DType.DOUBLE)
        moved = select(x < -self.lambd, x + self.bias, select(x > self.lambd, x - self.bias, 0))
        return cast(moved, given.dtype)


@operator("Clip", since=13)
@dataclass(frozen=True, slots=True)
class Clip(Op):
    """Elements cut to the range of two optional scalars. Source: ONNX Clip-13."""

    def infer(
        self, x: TensorType, low: TensorType | None = None, high: TensorType | None = None
    ) -> TensorType:
        """The type of ``x``."""
        require_dtype(x, NUMERIC)
        limits = [t for t in (low, high) if t is not None]
        require_one_dtype((x, *limits))
        if any(t.numel != 1 for t in limits):
            raise ShapeError("min and max must be scalars")
        result = TensorType(x.dtype, x.shape)
        if low is not None and high is not None:
            return elementwise(result, lambda v, a, b: minimum(maximum(v, a), b), x, low, high)
        if low is not None:
            return elementwise(result, maximum, x, low)
        return elementwise(result, minimum, x, high) if high is not None else x

    def lower(
        self, b: Builder, x: Tensor, low: Tensor | None = None, high: Tensor | None = None
    ) -> Tensor:
        """One loop; the upper limit wins where the limits cross."""

        def body(*i: int) -> Expr:
            value = x[i]
            if low is not None:
                value = call("max", value, element(low, (0,) * low.rank))
            if high is not None:
                value = call("min", value, element(high, (0,) * high.rank))
            return value

        return b.loop(x.shape, body, x.dtype)
