"""Softmax of a product times a third operand, in one kernel (``attention.hxx``)."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from sofie_root.budget import spend_product
from sofie_root.ir.dim import Dim, Poly, ceildiv
from sofie_root.ir.dtype import DType
from sofie_root.program.program import (
    Arg,
    Fused,
    In,
    Kernel,
    KernelSpec,
    Operand,
    Out,
    Scratch,
    Stride,
)

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
        "attention",
        "attention.hxx",
        _reference,
        layouts=("strided",),
        slot="scores",
        epilogue=score_axes,
    )


def arguments(q: Operand, k: Operand, v: Operand, strides: tuple[Dim, ...]) -> tuple[Arg, ...]:
    """Arguments of ``sofie::attention``.

    Args:
        q: queries ``[batch0, batch1, M, K]``.
        k: keys ``[batch0, batch1, K, N]``.
        v: values ``[batch0, batch1, N, D]``.
        strides: of the result along batch0, batch1, M and D.
    """
    *batch, m, depth = q.shape
    n, d = k.shape[-1], v.shape[-1]
    size = workspace(m, n, depth, d, q.strides[3] != 1)
    operands: list[Arg] = []
    for i in range(3):
        operands += [In(i), *(Stride(i, axis) for axis in range(4))]
    sizes = (*batch, m, n, depth, d)
    return (*sizes, *operands, Out(0), *strides, Scratch(size, DType.FLOAT), Fused())


def _reference(
    kernel: Kernel,
    inputs: list[Array],
    resolve: Callable[[Dim], int],
    scores: Callable[[Array], Array],
) -> list[Array]:
    q, k, v = inputs
    spend_product(q, k)
    raised = scores(np.matmul(q, k))
    spend_product(raised, v)
    e = np.exp(raised - raised.max(axis=-1, keepdims=True, initial=-np.inf))
    value = np.matmul(e / e.sum(axis=-1, keepdims=True), v)
    where = kernel.args.index(Out(0)) + 1
    strides = [resolve(d) for d in kernel.args[where : where + 4] if isinstance(d, int | Poly)]
    result = np.empty(value.size, value.dtype)
    steps = [s * result.itemsize for s in strides]
    np.lib.stride_tricks.as_strided(result, value.shape, steps)[...] = value
    return [result]
