"""Matrix products by a packed constant and of strided batches (``gemm.hxx``)."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from sofie_root.ir.dim import Dim, ceildiv, product
from sofie_root.ir.dtype import DType
from sofie_root.ir.types import Shape, TensorType
from sofie_root.program.builder import Builder, Tensor
from sofie_root.program.expr import Expr, compare, guard, index
from sofie_root.program.program import Arg, Fused, In, Kernel, KernelSpec, Out, Scratch, Stride

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
    )


def _gemm_reference(kernel: Kernel, inputs: list[Array], resolve: Resolve) -> list[Array]:
    n = kernel.args[1]
    assert isinstance(n, int)
    return [np.matmul(inputs[0], unpack(inputs[1], n))]


def matmul(b: Builder, x: Tensor, y: Tensor, batch: Shape) -> Tensor:
    """``x[..., M, K]`` times ``y[..., K, N]``: ``[*batch, M, N]``.

    Args:
        b: the builder.
        x: left side; its leading axes broadcast to ``batch``.
        y: right side; its leading axes broadcast to ``batch``.
        batch: leading axes of the result.
    """
    if batch and all(d == 1 for d in y.shape[:-2]):
        # One right side for all: the batch is only more rows.
        x = b.expand(x, (*batch, *x.shape[-2:]))
        rows = x.shape[:-1]
        x = b.reshape(x, (product(rows), x.shape[-1]))
        return _matmul(b, x, b.reshape(y, y.shape[-2:]), (), rows)
    rows = (x.shape[-2],)
    return _matmul(b, _batched(b, x, batch), _batched(b, y, batch), batch, rows)


def _batched(b: Builder, x: Tensor, batch: Shape) -> Tensor:
    """``x`` with at most two leading axes that hold the whole batch; a view wherever it can be."""
    matrix = x.shape[-2:]
    collapsed = batch if len(batch) <= 2 else (product(batch[:-1]), batch[-1])
    if all(d == 1 for d in x.shape[:-2]):
        return b.expand(b.reshape(x, matrix), (*collapsed, *matrix))
    return b.reshape(b.expand(x, (*batch, *matrix)), (*collapsed, *matrix))


def _matmul(b: Builder, x: Tensor, y: Tensor, batch: Shape, rows: Shape) -> Tensor:
    batches, n, k = x.shape[:-2], y.shape[-1], y.shape[-2]
    sizes = (1,) * (2 - len(batches)) + batches
    args: tuple[Arg, ...] = (
        *sizes,
        x.shape[-2],
        n,
        k,
        In(0),
        *_strides(0, x.rank),
        In(1),
        *_strides(1, y.rank),
        Out(0),
        Scratch(_workspace(x.shape[-2], n, k, x.dtype), x.dtype),
        Fused(),
    )
    out = TensorType(x.dtype, (*batch, *rows, n))
    (z,) = b.kernel(_matmul_spec(len(batch), len(rows)), args, (x, y), (out,))
    return z


def _workspace(m: Dim, n: Dim, k: Dim, dtype: DType) -> Dim:
    """``sofie::matmul_workspace``, where rows of the left side may have to be copied."""
    return ceildiv(n, PANEL) * PANEL * k + m * k if dtype is DType.FLOAT else 0


def _strides(operand: int, rank: int) -> tuple[Arg, ...]:
    """The four strides of an operand with up to two batch axes."""
    return (*(0,) * (4 - rank), *(Stride(operand, axis) for axis in range(rank)))


@lru_cache
def _matmul_spec(batch_axes: int, row_axes: int) -> KernelSpec:
    axes = tuple(range(batch_axes + row_axes + 1))
    return KernelSpec(
        "matmul",
        "gemm.hxx",
        _matmul_reference,
        layouts=("strided",),
        epilogue=(axes[:batch_axes], axes[batch_axes:-1], axes[-1:]),
    )


def _matmul_reference(kernel: Kernel, inputs: list[Array], resolve: Resolve) -> list[Array]:
    return [np.matmul(inputs[0], inputs[1])]
