"""Linear algebra beyond products."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sofie_root.budget import spend

from ..operation import Array, Operand, Operation, Resolve


@dataclass(frozen=True, slots=True, kw_only=True)
class Determinant(Operation):
    """The determinant of each square matrix, computed in double: ``[...]``.

    Attributes:
        x: ``[..., n, n]``.
    """

    x: Operand

    def evaluate(self, resolve: Resolve, **operands: Any) -> list[Array]:
        """The determinants."""
        x = operands["x"]
        spend(x.size * x.shape[-1])
        return [np.linalg.det(x.astype(np.float64)).astype(x.dtype)]
