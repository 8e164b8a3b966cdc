"""Softmax of a product times a third operand, in one kernel (``attention.hxx``)."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from sofie_root.budget import spend_product
from sofie_root.ir.dim import Dim, ceildiv
from sofie_root.program.program import Kernel, KernelSpec

from .gemm import PANEL

Array = npt.NDArray[Any]

ROWS = 14
"""Rows of scores that the workspace holds: ``sofie::kAttentionRows``."""


def workspace(m: Dim, n: Dim, k: Dim, d: Dim, copies_q: bool) -> Dim:
    """``sofie::attention_workspace`` for m queries and n keys of size k, and values of size d."""
    keys, width = ceildiv(n, PANEL) * PANEL, ceildiv(d, PANEL) * PANEL
    return keys * k + width * n + ROWS * (keys + width) + (m * k if copies_q else 0)


@lru_cache
def spec(score_axes: tuple[tuple[int, ...], ...]) -> KernelSpec:
    """The kernel whose lambda gets the scores.

    Args:
        score_axes: axes of the scores that make up batch, row and column; the ``epilogue`` of the
            product that the kernel takes the place of.
    """
    return KernelSpec(
        "attention", "attention.hxx", _reference, layouts=("strided",), epilogue=score_axes
    )


def _reference(kernel: Kernel, inputs: list[Array], resolve: Callable[[Dim], int]) -> list[Array]:
    """Plain scores; without the strides of the result, which is ``[batch, M, D]``."""
    q, k, v = inputs
    spend_product(q, k)
    scores = np.matmul(q, k)
    spend_product(scores, v)
    e = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return [np.matmul(e / e.sum(axis=-1, keepdims=True), v)]
