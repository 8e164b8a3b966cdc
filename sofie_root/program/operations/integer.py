"""Products of 8-bit integer matrices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from sofie_root.budget import spend_product
from sofie_root.ir.dim import product

from ..operation import Array, Epilogue, Operand, Operation, Resolve
from .conv import wrapped


@dataclass(frozen=True, slots=True, kw_only=True)
class IntegerMatMul(Operation):
    """``x[*rows, K] - x_zero`` times ``w[K, N] - w_zero``: ``[*rows, N]``.

    The sums are INT32 and wrap around.

    Attributes:
        x: left side, INT8 or UINT8, with at least one axis of rows.
        x_zero: zero points of the left side, INT32: ``[1]``, or ``[*rows]`` with one for each row.
        w: right side, INT8 or UINT8; a constant or computed when the model runs.
        w_zero: zero points of the right side, INT32: ``[1]``, or ``[N]`` with one for each column.
        fused: done to each element of the result; it may give another dtype.
    """

    x: Operand
    x_zero: Operand
    w: Operand
    w_zero: Operand
    fused: Epilogue | None = None

    SLOT: ClassVar[str] = "fused"

    def evaluate(self, resolve: Resolve, **operands: Any) -> list[Array]:
        """A product of doubles, which hold the sums exactly."""
        x, x_zero, w, w_zero = (operands[name] for name in ("x", "x_zero", "w", "w_zero"))
        return [multiply_integers(x, x_zero, w.astype(np.float64) - w_zero)]

    def multiply_adds(self, resolve: Resolve) -> int:
        """K for each element of the result."""
        return resolve(product(self.x.shape) * self.w.shape[-1])


def multiply_integers(x: Array, x_zero: Array, w: Array) -> Array:
    """``(x - x_zero) @ w`` in INT32.

    Args:
        x: ``[*rows, K]``.
        x_zero: one element, or one for each row.
        w: ``[K, N]``, whole doubles, less their zero points.
    """
    zero = x_zero.reshape(-1 if x_zero.size == 1 else (*x.shape[:-1], 1))
    left = x.astype(np.float64) - zero
    spend_product(left, w)
    return wrapped(np.matmul(left, w))
