"""Matrix products by a packed constant (``gemm.hxx``)."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from sofie_root.budget import spend_product
from sofie_root.ir.dim import Dim, ceildiv, product
from sofie_root.ir.types import TensorType
from sofie_root.program.builder import Builder, Tensor
from sofie_root.program.expr import Expr, compare, guard, index
from sofie_root.program.program import Arg, Fused, In, Kernel, KernelSpec, Out, Stride

Array = npt.NDArray[Any]
Resolve = Callable[[Dim], int]

PANEL = 16
"""Columns of a packed panel: ``sofie::kPanel``."""


def pack(w: Array) -> Array:
    """A ``[K, N]`` matrix as zero-padded ``[ceil(N/16), K, 16]``, which is read front to back."""
    k, n = w.shape
    panels = -(-n // PANEL)
    padded = np.zeros((k, panels * PANEL), w.dtype)
    padded[:, :n] = w
    return np.ascontiguousarray(padded.reshape(k, panels, PANEL).transpose(1, 0, 2))


def unpack(packed: Array, n: int) -> Array:
    """The ``[K, N]`` matrix that was packed."""
    panels, k, width = packed.shape
    return packed.transpose(1, 0, 2).reshape(k, panels * width)[:, :n]


def packed(b: Builder, w: Tensor, name: str) -> Tensor:
    """A ``[K, N]`` tensor packed: when generating where it is constant, else by a loop."""
    if w.constant is not None:
        return b.constant(pack(w.constant), f"{name}.packed")
    k, n = w.shape

    def body(panel: Dim, row: Dim, lane: Dim) -> Expr:
        column = panel * PANEL + lane
        return guard(compare("lt", index(column), index(n)), w[row, column], 0)

    return b.loop((ceildiv(n, PANEL), k, PANEL), body)


def gemm(b: Builder, x: Tensor, w: Array, name: str = "weights") -> Tensor:
    """``x[..., K]`` times the constant ``w[K, N]``: ``[..., N]``.

    Args:
        b: the builder.
        x: left side, at least one row axis.
        w: right side in the dtype of ``x``; packed here.
        name: what the weights are called in the generated code.
    """
    assert x.rank >= 2, x.type
    assert w.dtype == x.dtype.numpy, (x.type, w.dtype)
    k, n = (int(d) for d in w.shape)
    rows = x.shape[:-1]
    lda: Arg = Stride(0, 0) if len(rows) == 1 else k
    args: tuple[Arg, ...] = (product(rows), n, k, In(0), lda, In(1), Out(0), n, Fused())
    out = TensorType(x.dtype, (*rows, n))
    (y,) = b.kernel(_gemm(len(rows)), args, (x, b.constant(pack(w), f"{name}.packed")), (out,))
    return y


@lru_cache
def _gemm(row_axes: int) -> KernelSpec:
    return KernelSpec(
        "gemm",
        "gemm.hxx",
        _gemm_reference,
        layouts=("rows" if row_axes == 1 else "contiguous", "contiguous"),
        epilogue=(tuple(range(row_axes)), (row_axes,)),
        named_epilogues=True,
    )


def _gemm_reference(kernel: Kernel, inputs: list[Array], resolve: Resolve) -> list[Array]:
    n = kernel.args[1]
    assert isinstance(n, int)
    w = unpack(inputs[1], n)
    spend_product(inputs[0], w)
    return [np.matmul(inputs[0], w)]
