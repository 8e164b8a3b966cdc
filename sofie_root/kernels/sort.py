"""Selecting and ordering elements (``core/sort.hxx``, ``cpu/top_k.hxx``)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from sofie_root.budget import spend
from sofie_root.ir.dim import Dim, product
from sofie_root.ir.dtype import DType
from sofie_root.ir.types import Shape, TensorType
from sofie_root.program.builder import Builder, Tensor
from sofie_root.program.expr import cast, compare
from sofie_root.program.program import In, Kernel, KernelSpec, Out, Scratch

Array = npt.NDArray[Any]
Resolve = Callable[[Dim], int]

SORT = 100
"""Operations per element of sorting in NumPy."""


def around(shape: Shape, axis: int) -> tuple[Dim, Dim, Dim]:
    """The shape as ``(outer, n, inner)`` around an axis."""
    return product(shape[:axis]), shape[axis], product(shape[axis + 1 :])


def top_k(b: Builder, x: Tensor, axis: int, k: Dim, largest: bool) -> tuple[Tensor, Tensor]:
    """The ``k`` largest or smallest along ``axis`` in order, and their positions (INT64)."""
    outer, n, inner = around(x.shape, axis)
    shape = (*x.shape[:axis], k, *x.shape[axis + 1 :])
    values, indices = b.kernel(
        TOP_K,
        (outer, n, inner, k, In(0), Out(0), Out(1), Scratch(3 * n + 80, DType.INT64)),
        (x,),
        (TensorType(x.dtype, shape), TensorType(DType.INT64, shape)),
        (("largest", largest),),
    )
    return values, indices


def _top_k_reference(kernel: Kernel, inputs: list[Array], resolve: Resolve) -> list[Array]:
    outer, n, inner, k = (resolve(d) for d in kernel.args[:4])  # type: ignore[arg-type]
    if k > n:
        raise IndexError(f"TopK: k = {k} of only {n} elements")
    x = inputs[0].reshape(outer, n, inner)
    spend(SORT * x.size)
    if kernel.trait("largest"):
        # A stable ascending sort of the reversed axis, reversed: NaN first, then lower positions.
        order = n - 1 - np.argsort(x[:, ::-1], axis=1, kind="stable")[:, ::-1]
    else:
        order = np.argsort(x, axis=1, kind="stable")
    order = order[:, :k]
    return [np.take_along_axis(x, order, axis=1), order.astype(np.int64)]


TOP_K = KernelSpec("top_k", "cpu/top_k.hxx", _top_k_reference)


def true_positions(b: Builder, x: Tensor, size: Dim) -> Tensor:
    """Row-major positions of the non-zero elements of ``x``, ``[size]``; binds ``size``."""

    def is_true(_: tuple[Dim, ...], at: tuple[Dim, ...]) -> Any:
        value = x[at]
        return cast(value if x.dtype is DType.BOOL else compare("ne", value, 0), DType.INT64)

    b.bind(size, b.reduce("sum", (), x.shape, is_true)[()])
    out = TensorType(DType.INT64, (size,))
    (positions,) = b.kernel(TRUE_POSITIONS, (x.type.numel, In(0), Out(0)), (x,), (out,))
    return positions


def _true_positions_reference(kernel: Kernel, inputs: list[Array], resolve: Resolve) -> list[Array]:
    return [np.flatnonzero(inputs[0]).astype(np.int64)]


TRUE_POSITIONS = KernelSpec("true_positions", "core/sort.hxx", _true_positions_reference)


def unique(
    b: Builder, x: Tensor, axis: int, ascending: bool, size: Dim
) -> tuple[Tensor, Tensor, Tensor]:
    """The distinct slices of ``x`` along ``axis``; binds their number to ``size``.

    Returns:
        Position of the first occurrence and number of occurrences of each distinct slice (of these,
        the first ``size`` elements count), and which distinct slice stands at each position.
    """
    outer, n, inner = around(x.shape, axis)
    vector = TensorType(DType.INT64, (n,))
    number, first, inverse, counts = b.kernel(
        UNIQUE,
        (outer, n, inner, In(0), Out(0), Out(1), Out(2), Out(3), Scratch(2 * n, DType.INT64)),
        (x,),
        (TensorType(DType.INT64, ()), vector, vector, vector),
        (("sorted", ascending),),
    )
    b.bind(size, number[()])
    return first, counts, inverse


def _unique_reference(kernel: Kernel, inputs: list[Array], resolve: Resolve) -> list[Array]:
    outer, n, inner = (resolve(d) for d in kernel.args[:3])  # type: ignore[arg-type]
    slices = inputs[0].reshape(outer, n, inner).transpose(1, 0, 2).reshape(n, outer * inner)
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
    if not kernel.trait("sorted"):
        by_place = np.argsort(first)
        first, counts = first[by_place], counts[by_place]
        inverse = np.argsort(by_place)[inverse] if n else inverse
    rest = np.zeros(n - len(distinct), np.int64)
    results = [np.concatenate([a, rest]).astype(np.int64) for a in (first, counts)]
    return [np.asarray(len(distinct), np.int64), results[0], inverse, results[1]]


UNIQUE = KernelSpec("unique", "core/sort.hxx", _unique_reference)
