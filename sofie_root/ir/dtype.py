"""Element types, named and numbered as in ONNX's ``TensorProto.DataType``."""

from __future__ import annotations

from enum import Enum
from typing import Any

import ml_dtypes
import numpy as np


class DType(Enum):
    """An ONNX element type with its NumPy and C++ counterparts.

    Each member's value is ``(ONNX number, numpy dtype, C++ type)``. ``FLOAT16`` and ``BFLOAT16`` are
    storage types: they are computed in float.
    """

    FLOAT = (1, np.dtype(np.float32), "float")
    UINT8 = (2, np.dtype(np.uint8), "std::uint8_t")
    INT8 = (3, np.dtype(np.int8), "std::int8_t")
    UINT16 = (4, np.dtype(np.uint16), "std::uint16_t")
    INT16 = (5, np.dtype(np.int16), "std::int16_t")
    INT32 = (6, np.dtype(np.int32), "std::int32_t")
    INT64 = (7, np.dtype(np.int64), "std::int64_t")
    BOOL = (9, np.dtype(np.bool_), "bool")
    FLOAT16 = (10, np.dtype(np.float16), "sofie::float16")
    DOUBLE = (11, np.dtype(np.float64), "double")
    UINT32 = (12, np.dtype(np.uint32), "std::uint32_t")
    UINT64 = (13, np.dtype(np.uint64), "std::uint64_t")
    BFLOAT16 = (16, np.dtype(ml_dtypes.bfloat16), "sofie::bfloat16")

    @property
    def onnx(self) -> int:
        """Number in ``TensorProto.DataType``."""
        number: int = self.value[0]
        return number

    @property
    def numpy(self) -> np.dtype[Any]:
        """NumPy dtype of the same layout."""
        dtype: np.dtype[Any] = self.value[1]
        return dtype

    @property
    def cpp(self) -> str:
        """C++ type of the same layout."""
        name: str = self.value[2]
        return name

    @property
    def size(self) -> int:
        """Bytes per element."""
        return int(self.numpy.itemsize)

    @property
    def is_float(self) -> bool:
        """Whether this is a floating-point type (of any width)."""
        return self in (DType.FLOAT, DType.DOUBLE, DType.FLOAT16, DType.BFLOAT16)

    @property
    def is_integer(self) -> bool:
        """Whether this is a signed or unsigned integer type (bool is not)."""
        return self is not DType.BOOL and not self.is_float

    @property
    def is_signed(self) -> bool:
        """Whether negative values exist."""
        return self.is_float or self in (DType.INT8, DType.INT16, DType.INT32, DType.INT64)

    @property
    def compute(self) -> DType:
        """The type in which arithmetic on this type is done: float for the 16-bit floats."""
        return DType.FLOAT if self in (DType.FLOAT16, DType.BFLOAT16) else self

    @classmethod
    def from_onnx(cls, number: int) -> DType | None:
        """The member with that ONNX number, or None where it is not supported."""
        return _BY_ONNX.get(number)

    @classmethod
    def from_numpy(cls, dtype: Any) -> DType | None:
        """The member with that NumPy dtype, or None where it is not supported."""
        return _BY_NUMPY.get(np.dtype(dtype))

    def __str__(self) -> str:
        return self.name.lower()


_BY_ONNX = {d.onnx: d for d in DType}
_BY_NUMPY = {d.numpy: d for d in DType}
