"""Matrix products of strided batches (``matmul.hxx``)."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from sofie_root.budget import spend_product
from sofie_root.ir.dim import Dim, ceildiv, product
from sofie_root.ir.dtype import DType
from sofie_root.ir.types import Shape, TensorType
from sofie_root.program.builder import Builder, Tensor
from sofie_root.program.program import Arg, Fused, In, Kernel, KernelSpec, Out, Scratch, Stride

from .gemm import PANEL

Array = npt.NDArray[Any]
Resolve = Callable[[Dim], int]


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
        Scratch(_workspace(n, k, x.dtype), x.dtype),
        Fused(),
    )
    out = TensorType(x.dtype, (*batch, *rows, n))
    (z,) = b.kernel(_matmul_spec(len(batch), len(rows)), args, (x, y), (out,))
    return z


def _workspace(n: Dim, k: Dim, dtype: DType) -> Dim:
    """``sofie::matmul_workspace``."""
    return ceildiv(n, PANEL) * PANEL * k if dtype is DType.FLOAT else 0


def _strides(operand: int, rank: int) -> tuple[Arg, ...]:
    """The four strides of an operand with up to two batch axes."""
    return (*(0,) * (4 - rank), *(Stride(operand, axis) for axis in range(rank)))


@lru_cache
def _matmul_spec(batch_axes: int, row_axes: int) -> KernelSpec:
    axes = tuple(range(batch_axes + row_axes + 1))
    return KernelSpec(
        "matmul",
        "matmul.hxx",
        _matmul_reference,
        layouts=("strided",),
        epilogue=(axes[:batch_axes], axes[batch_axes:-1], axes[-1:]),
        named_epilogues=True,
    )


def _matmul_reference(kernel: Kernel, inputs: list[Array], resolve: Resolve) -> list[Array]:
    spend_product(inputs[0], inputs[1])
    return [np.matmul(inputs[0], inputs[1])]
