"""Selecting and ordering elements."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sofie_root.budget import spend
from sofie_root.ir.dim import Dim, product
from sofie_root.ir.types import Shape

from ..operation import Array, Operand, Operation, Resolve

SORT = 100
"""Work per element of sorting in NumPy, in the units of the budget."""


def around(shape: Shape, axis: int) -> tuple[Dim, Dim, Dim]:
    """The shape as ``(outer, n, inner)`` around an axis."""
    return product(shape[:axis]), shape[axis], product(shape[axis + 1 :])


@dataclass(frozen=True, slots=True, kw_only=True)
class TopK(Operation):
    """The ``k`` largest or smallest elements along an axis, in order, and their positions (INT64).

    Equal elements come in the order of their positions; NaN counts as larger than every number.

    Attributes:
        x: numbers.
        axis: from the front.
        k: how many, at most the size of the axis.
        largest: whether the largest are wanted, largest first, instead of the smallest, smallest first.
    """

    x: Operand
    axis: int
    k: Dim
    largest: bool

    def evaluate(self, resolve: Resolve, **operands: Any) -> list[Array]:
        """Values and positions."""
        x, axis, k = operands["x"], self.axis, resolve(self.k)
        n = x.shape[axis]
        if k > n:
            raise IndexError(f"TopK: k = {k} of only {n} elements")
        spend(SORT * x.size)
        if self.largest:
            # A stable ascending sort of the reversed axis, reversed: NaN first, then lower positions.
            order = np.argsort(np.flip(x, axis), axis=axis, kind="stable")
            order = n - 1 - np.flip(order, axis)
        else:
            order = np.argsort(x, axis=axis, kind="stable")
        order = np.take(order, np.arange(k), axis=axis)
        return [np.take_along_axis(x, order, axis=axis), order.astype(np.int64)]


@dataclass(frozen=True, slots=True, kw_only=True)
class TruePositions(Operation):
    """Row-major positions (INT64) of the elements that are not zero, as many as the output has.

    Attributes:
        x: numbers or truth values.
    """

    x: Operand

    def evaluate(self, resolve: Resolve, **operands: Any) -> list[Array]:
        """The positions."""
        return [np.flatnonzero(operands["x"]).astype(np.int64)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unique(Operation):
    """The distinct slices along an axis.

    NaN is equal to itself and larger than every number. The outputs are all INT64: the number of
    distinct slices; the position of the first occurrence of each (``[n]``, of which that many count); which
    distinct slice stands at each position (``[n]``); the number of occurrences of each (``[n]``, likewise).

    Attributes:
        x: numbers.
        axis: from the front.
        sorted: whether the distinct slices are in ascending order, instead of that of their first
            occurrences.
    """

    x: Operand
    axis: int
    sorted: bool

    def evaluate(self, resolve: Resolve, **operands: Any) -> list[Array]:
        """Number, first positions, which slice, and counts."""
        slices = np.moveaxis(operands["x"], self.axis, 0)
        n = slices.shape[0]
        slices = slices.reshape(n, int(np.prod(slices.shape[1:])))
        spend(SORT * slices.size)
        # One rank per slice by sorting on every column, NaN last and equal to itself.
        order = np.lexsort(slices.T[::-1]) if slices.shape[1] else np.arange(n)
        ordered = slices[order]
        a, b = ordered[1:], ordered[:-1]
        same = (a == b) | ((a != a) & (b != b))
        group = np.concatenate([[0], np.cumsum(~same.all(axis=1))])[:n].astype(np.int64)
        inverse = np.empty(n, np.int64)
        inverse[order] = group
        distinct, first, counts = np.unique(inverse, return_index=True, return_counts=True)
        if not self.sorted:
            by_place = np.argsort(first)
            first, counts = first[by_place], counts[by_place]
            inverse = np.argsort(by_place)[inverse] if n else inverse
        rest = np.zeros(n - len(distinct), np.int64)
        first, counts = (np.concatenate([a, rest]).astype(np.int64) for a in (first, counts))
        return [np.asarray(len(distinct), np.int64), first, inverse, counts]
