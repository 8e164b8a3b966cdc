"""Linear algebra beyond products: Det."""

from __future__ import annotations

from dataclasses import dataclass

from sofie_root.errors import ShapeError
from sofie_root.ir import Op, TensorType, operator, require_equal
from sofie_root.program.builder import Builder, Tensor
from sofie_root.program.operations.linalg import Determinant

from .checks import FLOATS, require_dtype


@operator("Det", since=22)
@dataclass(frozen=True, slots=True)
class Det(Op):
    """Determinant of each square matrix. Source: ONNX Det-22."""

    def infer(self, x: TensorType) -> TensorType:
        """The shape without the last two axes."""
        require_dtype(x, FLOATS)
        if x.rank < 2:
            raise ShapeError(f"a matrix has 2 axes, not {x.rank}")
        require_equal(x.shape[-1], x.shape[-2], "a determinant needs a square matrix")
        return TensorType(x.dtype, x.shape[:-2])

    def lower(self, b: Builder, x: Tensor) -> Tensor:
        """One operation."""
        wide = b.cast(x, x.dtype.compute)
        (y,) = b.operation(Determinant, (TensorType(wide.dtype, x.shape[:-2]),), x=wide)
        return b.cast(y, x.dtype)
