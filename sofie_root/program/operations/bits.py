"""The bytes of a tensor under another type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sofie_root.ir.dtype import DType

from ..operation import Array, Operand, Operation, Resolve


@dataclass(frozen=True, slots=True, kw_only=True)
class BitCast(Operation):
    """The elements read as another type of the same size.

    Attributes:
        x: numbers.
        dtype: the other type, that of the output.
    """

    x: Operand
    dtype: DType

    def evaluate(self, resolve: Resolve, **operands: Any) -> list[Array]:
        """The same bytes: those of the model's own type, whatever the numbers are computed in."""
        x = np.ascontiguousarray(operands["x"], self.x.dtype.numpy)
        return [x.reshape(-1).view(self.dtype.numpy)]
