"""The one way from a model's values to C++: literals of numbers, texts and tuples of them.

Nothing else turns a value into C++ text, so nothing but a number can stand where C++ wants a number.
"""

from __future__ import annotations

import math

import numpy as np

from sofie_root.errors import ModelError
from sofie_root.ir.dtype import DType

from .names import string_literal


def number(value: object) -> str:
    """An integer or bool in decimal, for use as a size, an index or a constant of the program.

    Raises:
        ModelError: it is anything else, a text with C++ code in it for example.
    """
    if type(value) is bool:
        return "true" if value else "false"
    if type(value) is not int:
        raise ModelError(f"{value!r:.80} stands where a program needs an integer")
    return str(value)


def literal(value: object, dtype: DType) -> str:
    """A literal of that dtype that reads back to the same bits.

    Raises:
        ModelError: the value is no number, or not one of this dtype.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if type(value) not in (bool, int, float):
        raise ModelError(f"{value!r:.80} stands where a program needs a number")
    assert isinstance(value, (bool, int, float))
    if dtype is DType.BOOL:
        return number(bool(value))
    if dtype.is_float:
        return _real(float(value), dtype.compute)
    return _integer(int(value), dtype)


def _real(value: float, dtype: DType) -> str:
    if math.isnan(value):
        return f"std::numeric_limits<{dtype.cpp}>::quiet_NaN()"
    if math.isinf(value):
        sign = "-" if value < 0 else ""
        return f"{sign}std::numeric_limits<{dtype.cpp}>::infinity()"
    if dtype is DType.DOUBLE:
        return repr(value)
    with np.errstate(over="ignore"):
        narrow = np.float32(value)
    if np.isinf(narrow):
        return _real(float(narrow), dtype)
    return f"{float(str(narrow))!r}f"


def _integer(value: int, dtype: DType) -> str:
    if value == -(2**63):
        return "std::numeric_limits<std::int64_t>::min()"
    suffix = "u" if value > 2**63 - 1 else ""
    return f"{dtype.cpp}{{{number(value)}{suffix}}}"


def plain(value: object) -> str:
    """An attribute as a C++ function of the user's gets it.

    Raises:
        ModelError: it is neither a number, nor a text, nor a tuple of numbers.
    """
    if isinstance(value, str):
        return string_literal(value)
    if isinstance(value, tuple):
        kind = DType.FLOAT if any(isinstance(v, float) for v in value) else DType.INT64
        items = ", ".join(literal(v, kind) for v in value)
        return f"std::array<{kind.cpp}, {len(value)}>{{{{{items}}}}}"
    if isinstance(value, np.generic):
        dtype = DType.from_numpy(value.dtype)
        if dtype is None:
            raise ModelError(f"{value!r:.80} stands where a program needs a number")
        return literal(value, dtype)
    if isinstance(value, bool):
        return literal(value, DType.BOOL)
    return literal(value, DType.FLOAT if isinstance(value, float) else DType.INT64)
