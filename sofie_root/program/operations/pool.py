"""Pooling over sliding windows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from sofie_root.budget import STATEMENT, spend

from ..operation import Array, Operand, Resolve
from .window import Spatial, Windowed


@dataclass(frozen=True, slots=True, kw_only=True)
class MaxPool(Windowed):
    """The maximum of each window of ``x[N, C, *spatial]``, and where it is: two times ``[N, C, *out]``.

    Padding is never the maximum. Of equal elements the first counts, and a NaN is greater than all else.

    Attributes:
        x: the input.
        storage_order: how the second output (INT64) counts the elements of ``x``: 0 in the order in which
            they lie, 1 with the spatial axes reversed, so that the first of them runs fastest.
    """

    x: Operand
    storage_order: int = 0

    def evaluate(self, resolve: Resolve, **operands: Any) -> list[Array]:
        """Maxima and positions, tap by tap."""
        out = tuple(map(resolve, self.out))
        return list(maxima(self, operands["x"], out, bool(self.storage_order)))


@dataclass(frozen=True, slots=True, kw_only=True)
class AveragePool(Windowed):
    """The mean of each window of ``x[N, C, *spatial]``: ``[N, C, *out]``.

    Attributes:
        x: the input.
        count_include_pad: whether padding counts as elements that are zero. What a window sees beyond the
            padding never counts.
    """

    x: Operand
    count_include_pad: bool = False

    def evaluate(self, resolve: Resolve, **operands: Any) -> list[Array]:
        """Sums and counts, tap by tap."""
        out = tuple(map(resolve, self.out))
        return [means(self, operands["x"], out, self.count_include_pad)]


@dataclass(frozen=True, slots=True, kw_only=True)
class LpPool(Windowed):
    """The p-norm of each window of ``x[N, C, *spatial]``: ``[N, C, *out]``.

    Attributes:
        x: the input.
        p: the exponent, at least 1.
    """

    x: Operand
    p: int = 2

    def evaluate(self, resolve: Resolve, **operands: Any) -> list[Array]:
        """Sums of powers, tap by tap."""
        x, total = operands["x"], np.zeros(())
        for value, inside, _, _ in _taps(self, x, tuple(map(resolve, self.out))):
            total = total + np.where(inside, np.abs(value) ** self.p, 0)
        return [(total ** (1 / self.p)).astype(x.dtype)]


def maxima(window: Windowed, x: Array, out: Spatial, column_major: bool) -> tuple[Array, Array]:
    """The maximum of each window of ``x[N, C, *spatial]``, and its position in ``x``.

    Args:
        window: how the windows lie.
        x: the input.
        out: number of windows along each axis.
        column_major: whether positions count the first spatial axis fastest.
    """
    lowest = -np.inf if np.issubdtype(x.dtype, np.floating) else np.iinfo(x.dtype).min
    best = np.full((*x.shape[:2], *out), lowest, x.dtype)
    places = np.zeros(best.shape, np.int64)
    taken = np.zeros(best.shape, bool)
    for value, inside, _, position in _taps(window, x, out, "F" if column_major else "C"):
        better = inside & ((value > best) | ~taken | ((value != value) & (best == best)))
        best, places = np.where(better, value, best), np.where(better, position, places)
        taken |= inside
    planes = np.arange(x.shape[0] * x.shape[1]).reshape(*x.shape[:2], *(1,) * (x.ndim - 2))
    return best, places + planes * int(np.prod(x.shape[2:]))


def means(window: Windowed, x: Array, out: Spatial, include_pad: bool) -> Array:
    """The mean of each window of ``x[N, C, *spatial]``; padding counts if ``include_pad``."""
    total: Any = 0
    count: Any = 0
    for value, inside, padded, _ in _taps(window, x, out):
        total = total + np.where(inside, value, 0)
        count = count + (padded if include_pad else inside).astype(int)
    result: Array = (total / np.maximum(count, 1)).astype(x.dtype)
    return result


def _taps(
    window: Windowed, x: Array, out: Spatial, order: str = "C"
) -> Iterator[tuple[Array, Array, Array, Array]]:
    """For each tap of the windows: value, inside the input, inside its padding, and position."""
    spatial = x.shape[2:]
    spend(prod(window.kernel) * (10 * STATEMENT + 20 * prod((*x.shape[:2], *out))))
    for tap in np.ndindex(*window.kernel):
        at = [
            np.arange(o) * s + i * d - p
            for o, s, i, d, p in zip(
                out, window.stride, tap, window.dilation, window.pad_begin, strict=True
            )
        ]
        grid = np.meshgrid(*at, indexing="ij")
        inside = np.ones(out, bool)
        padded = np.ones(out, bool)
        for a, n, end in zip(grid, spatial, window.pad_end, strict=True):
            inside &= (a >= 0) & (a < n)
            padded &= a < n + end
        near = [np.clip(a, 0, n - 1) for a, n in zip(grid, spatial, strict=True)]
        where: Any = (slice(None), slice(None), *near)
        yield x[where], inside, padded, np.ravel_multi_index(near, spatial, order=order)  # type: ignore[call-overload]
