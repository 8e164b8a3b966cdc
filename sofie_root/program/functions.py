"""Functions and reductions in NumPy, where NumPy's own do something else than ``cpp/include/sofie``.

Integers wrap around, integer division truncates (by zero: 0), conversions from float to integer
saturate, minimum and maximum propagate NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def convert(x: Array, dtype: np.dtype[Any]) -> Array:
    """``x`` as another dtype: float to integer saturates and makes NaN 0, to bool is ``x != 0``."""
    if dtype == np.bool_:
        return np.asarray(x != 0)
    if not _is_integer(dtype) or x.dtype == np.bool_ or _is_integer(x.dtype):
        return x.astype(dtype)
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    wide = np.trunc(x.astype(np.float64))
    # high + 1 is a power of two, so exact where high itself may not be a double.
    inside = (wide >= float(low)) & (wide < float(high + 1))
    limit = np.where(wide > 0, dtype.type(high), np.where(wide < 0, dtype.type(low), dtype.type(0)))
    return np.where(inside, np.where(inside, wide, 0.0).astype(dtype), limit)


def _is_integer(dtype: np.dtype[Any]) -> bool:
    return bool(np.issubdtype(dtype, np.integer))


def divide(a: Array, b: Array) -> Array:
    """``a / b``; integers truncate towards zero, and by zero give 0."""
    if not _is_integer(a.dtype):
        return np.asarray(np.divide(a, b))
    divisor = np.where(b == 0, b.dtype.type(1), b)
    quotient = np.asarray(np.floor_divide(a, divisor))
    inexact = (quotient * divisor != a) & ((a < 0) != (divisor < 0))
    return np.asarray(np.where(b == 0, a.dtype.type(0), quotient + inexact.astype(a.dtype)))


def modulo(a: Array, b: Array) -> Array:
    """The remainder with the sign of the divisor; integers give 0 for a divisor of 0."""
    return _integers_by_zero(np.mod, a, b)


def remainder(a: Array, b: Array) -> Array:
    """The remainder with the sign of the dividend; integers give 0 for a divisor of 0."""
    return _integers_by_zero(np.fmod, a, b)


def _integers_by_zero(function: Callable[[Array, Array], Array], a: Array, b: Array) -> Array:
    """``function`` of both, or 0 where the second is the integer 0."""
    if not _is_integer(a.dtype):
        return function(a, b)
    return np.where(b == 0, a.dtype.type(0), function(a, np.where(b == 0, b.dtype.type(1), b)))


def power(a: Array, b: Array) -> Array:
    """``a`` to the power of ``b``, in the dtype of ``a``: integers wrap around and truncate."""
    if not _is_integer(a.dtype):
        return np.asarray(np.power(a, b.astype(a.dtype)))
    if not _is_integer(b.dtype):
        return convert(np.power(a.astype(np.float64), b.astype(np.float64)), a.dtype)
    zero, one = a.dtype.type(0), a.dtype.type(1)
    exponent = np.where(b < 0, 0, b).astype(np.int64)
    result = np.asarray(np.power(a, exponent, dtype=a.dtype, casting="unsafe"))
    # 1 and -1 have an inverse; that of anything else truncates to 0.
    inverse = np.where(a == one, one, np.where(a + one == 0, np.where(b % 2 != 0, a, one), zero))
    return np.where(b < 0, inverse, result)


def relu(x: Array) -> Array:
    """The larger one of ``x`` and 0."""
    return np.asarray(np.maximum(x, x.dtype.type(0)))


def reciprocal(x: Array) -> Array:
    """``1 / x``."""
    return np.asarray(x.dtype.type(1) / x)


def rsqrt(x: Array) -> Array:
    """``1 / sqrt(x)``."""
    return np.asarray(x.dtype.type(1) / np.sqrt(x))


def softplus(x: Array) -> Array:
    """``log(1 + exp(x))`` without overflow."""
    return np.asarray(relu(x) + np.log1p(np.exp(-np.abs(x))))


def softsign(x: Array) -> Array:
    """``x / (1 + |x|)``."""
    return np.asarray(x / (np.abs(x) + x.dtype.type(1)))


def sigmoid(x: Array) -> Array:
    """``1 / (1 + exp(-x))`` without overflow."""
    e = np.exp(-np.abs(x))
    return np.asarray(np.where(x < 0, e, x.dtype.type(1)) / (e + x.dtype.type(1)))


_scalar_erf = np.frompyfunc(math.erf, 1, 1)


def erf(x: Array) -> Array:
    """The error function, computed in double."""
    return np.asarray(_scalar_erf(x.astype(np.float64))).astype(x.dtype)


def one_plus_erf(x: Array) -> Array:
    """``1 + erf(x)``, rounded as that sum is."""
    return 1 + erf(x)


_scalar_erfc = np.frompyfunc(math.erfc, 1, 1)


def normal_cdf(x: Array) -> Array:
    """The cumulative distribution of the standard normal distribution, computed in double."""
    tail = _scalar_erfc(x.astype(np.float64) * -math.sqrt(0.5))
    return (0.5 * np.asarray(tail, np.float64)).astype(x.dtype)


def rounding(function: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """A function that leaves integers alone."""
    return lambda x: x if _is_integer(x.dtype) else function(x)


def identity_of(kind: str, dtype: np.dtype[Any]) -> Any:
    """What a reduction over no elements gives."""
    if kind in ("sum", "prod"):
        return dtype.type(0 if kind == "sum" else 1)
    if dtype == np.bool_:
        return kind == "min"
    if np.issubdtype(dtype, np.integer):
        limits = np.iinfo(dtype)
        return dtype.type(limits.min if kind == "max" else limits.max)
    return dtype.type(-np.inf if kind == "max" else np.inf)


UPDATES: dict[str, np.ufunc] = {
    "sum": np.add,
    "prod": np.multiply,
    "max": np.maximum,
    "min": np.minimum,
}
"""How a value meets the one that is there (see ``Loop.update``)."""


def combine(kind: str, values: Array, axes: tuple[int, ...]) -> Array:
    """A reduction (see ``ReduceKind``) over these axes, in the dtype of ``values``."""
    if kind.startswith("arg"):
        (axis,) = axes
        if values.shape[axis] == 0:  # there is no position; the generated code says 0 as well
            return np.zeros(values.shape[:axis] + values.shape[axis + 1 :], np.int64)
        pick = np.argmax if kind.startswith("argmax") else np.argmin
        if kind.endswith("_last"):
            last = values.shape[axis] - 1
            return np.asarray(last - pick(np.flip(values, axis), axis=axis))
        return np.asarray(pick(values, axis=axis))
    if kind == "sum":
        return np.asarray(np.sum(values, axis=axes, dtype=values.dtype))
    if kind == "prod":
        return np.asarray(np.prod(values, axis=axes, dtype=values.dtype))
    reduce = np.max if kind == "max" else np.min
    return np.asarray(reduce(values, axis=axes, initial=identity_of(kind, values.dtype)))
