"""Hypothesis strategies for shapes, axes, slices and arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

DTYPES = ("float32", "float64", "int8", "int32", "int64", "uint8", "uint32")


def shapes(
    min_rank: int = 0, max_rank: int = 4, max_side: int = 4
) -> st.SearchStrategy[tuple[int, ...]]:
    """Shapes, empty tensors included."""
    return st.lists(st.integers(0, max_side), min_size=min_rank, max_size=max_rank).map(tuple)


def broadcastable(count: int, max_rank: int = 4) -> st.SearchStrategy[tuple[tuple[int, ...], ...]]:
    """``count`` shapes that broadcast against each other."""
    return hnp.mutually_broadcastable_shapes(
        num_shapes=count, max_dims=max_rank, min_side=1, max_side=4
    ).map(lambda found: found.input_shapes)


def array_of(shape: tuple[int, ...], dtype: str, seed: int = 0) -> np.ndarray:
    """Small whole numbers (exact in every dtype and in every order of summing)."""
    low = 0 if dtype.startswith("u") else -4
    return np.asarray(np.random.default_rng(seed).integers(low, 5, shape)).astype(dtype)


@st.composite
def axes_of(draw: st.DrawFn, rank: int, min_size: int = 0) -> list[int]:
    """Distinct axes, some counted from the end."""
    chosen = draw(st.lists(st.integers(0, rank - 1), min_size=min_size, max_size=rank, unique=True))
    return [a - rank if draw(st.booleans()) else a for a in chosen]


@st.composite
def slices_of(draw: st.DrawFn, rank: int) -> dict[str, list[int]]:
    """Arguments of Slice for some axes, starts and ends well outside included."""
    axes = draw(axes_of(rank, 1))
    place = st.one_of(st.integers(-7, 7), st.sampled_from([2**63 - 1, -(2**63) + 1]))
    step = st.sampled_from([1, 1, 2, 3, -1, -2])
    return {
        "starts": [draw(place) for _ in axes],
        "ends": [draw(place) for _ in axes],
        "axes": axes,
        "steps": [draw(step) for _ in axes],
    }


def sliced(x: np.ndarray, window: dict[str, list[int]]) -> np.ndarray:
    """NumPy's slice of the same meaning."""
    index: list[Any] = [slice(None)] * x.ndim
    for start, end, axis, step in zip(*window.values(), strict=True):
        if (
            step < 0 and x.shape[axis]
        ):  # unlike Python's, a start before the first element is the first
            start = max(start, -x.shape[axis])
        index[axis] = slice(start, end, step)
    return x[tuple(index)]
