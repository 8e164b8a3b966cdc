"""Running sums and products."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ..operation import Array, Operand, Operation, Resolve


@dataclass(frozen=True, slots=True, kw_only=True)
class Cumulative(Operation):
    """Sums or products of the elements up to each position along an axis, of the shape of ``x``.

    Attributes:
        x: numbers.
        axis: from the front; None where only the run tells it.
        axis_operand: one integer, the axis where only the run tells it, from the front or (negative) from
            the back; None where ``axis`` is given.
        kind: ``"add"`` for sums, ``"mul"`` for products.
        exclusive: whether the element at the position itself is left out.
        reverse: whether to start from the end.
    """

    x: Operand
    axis: int | None
    axis_operand: Operand | None = None
    kind: Literal["add", "mul"]
    exclusive: bool
    reverse: bool

    def evaluate(self, resolve: Resolve, **operands: Any) -> list[Array]:
        """The running results."""
        x, axis = operands["x"], self.axis
        if axis is None:
            axis = int(operands["axis_operand"].reshape(()))
            if not -x.ndim <= axis < x.ndim:
                raise IndexError(f"axis {axis} of a tensor of {x.ndim} axes")
        x = np.flip(x, axis) if self.reverse else x
        y = (np.cumsum if self.kind == "add" else np.cumprod)(x, axis=axis, dtype=x.dtype)
        if self.exclusive:
            y = np.moveaxis(y, axis, 0)
            first = np.full_like(y[:1], 0 if self.kind == "add" else 1)
            y = np.moveaxis(np.concatenate([first, y[:-1]]), 0, axis)
        return [np.flip(y, axis) if self.reverse else y]
