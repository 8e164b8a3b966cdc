"""Products of 8-bit integer matrices by a packed constant (``cpu/integer_gemm.hxx``)."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from sofie_root.budget import spend_product
from sofie_root.ir.dim import Dim, product
from sofie_root.ir.dtype import DType
from sofie_root.ir.types import TensorType
from sofie_root.program.builder import Builder, Tensor
from sofie_root.program.program import Arg, Fused, In, Kernel, KernelSpec, Null, Out, Stride

Array = npt.NDArray[Any]
Resolve = Callable[[Dim], int]

PANEL = 16
"""Columns of a packed panel: ``sofie::kIntegerPanel``."""
GROUP = 4
"""Rows of the right side that one instruction multiplies."""


def pack(w: Array) -> Array:
    """An int8 ``[K, N]`` matrix as zero-padded ``[ceil(N/16), ceil(K/4), 16, 4]``."""
    k, n = w.shape
    panels, groups = -(-n // PANEL), -(-k // GROUP)
    padded = np.zeros((groups * GROUP, panels * PANEL), np.int8)
    padded[:k, :n] = w
    blocks = padded.reshape(groups, GROUP, panels, PANEL)
    return np.ascontiguousarray(blocks.transpose(2, 0, 3, 1))


def unpack(packed: Array, k: int, n: int) -> Array:
    """The ``[K, N]`` matrix that was packed."""
    panels, groups, width, depth = packed.shape
    blocks = packed.transpose(1, 3, 0, 2)
    return blocks.reshape(groups * depth, panels * width)[:k, :n]


def gemm(b: Builder, x: Tensor, x_zero: Tensor, w: Array, w_zero: Array, name: str) -> Tensor:
    """``(x[..., K] - x_zero) @ (w[K, N] - w_zero)``, exact in INT32: ``[..., N]``.

    Args:
        b: the builder.
        x: left side, INT8 or UINT8, at least one row axis.
        x_zero: INT32, one element or one per row (the shape of ``x`` without its last axis).
        w: right side, int8 or uint8; packed here.
        w_zero: the zero point of each column of ``w``, in its dtype.
        name: what the weights are called in the generated code.
    """
    k, n = (int(d) for d in w.shape)
    rows = x.shape[:-1]
    shift = 128 if w.dtype == np.uint8 else 0
    zero = np.broadcast_to(w_zero.astype(np.int32) - shift, (n,))
    signed = w.astype(np.int32) - shift
    constants = [
        b.constant(pack(signed), f"{name}.packed"),
        b.constant((signed - zero).sum(axis=0, dtype=np.int32), f"{name}.sums"),
    ]
    if np.any(zero):
        constants.append(b.constant(zero, f"{name}.zeros"))
    args: tuple[Arg, ...] = (
        product(rows),
        n,
        k,
        In(0),
        Stride(0, 0) if len(rows) == 1 else k,
        In(1),
        0 if x_zero.type.numel == 1 else 1,
        In(2),
        In(3),
        In(4) if np.any(zero) else Null(),
        Out(0),
        n,
        Fused(),
    )
    out = TensorType(DType.INT32, (*rows, n))
    (y,) = b.kernel(_gemm(len(rows)), args, (x, x_zero, *constants), (out,))
    return y


@lru_cache
def _gemm(row_axes: int) -> KernelSpec:
    return KernelSpec(
        "integer_gemm",
        "cpu/integer_gemm.hxx",
        _gemm_reference,
        layouts=("rows" if row_axes == 1 else "contiguous", "contiguous"),
        epilogue=(tuple(range(row_axes)), (row_axes,)),
        converts=True,
    )


def _gemm_reference(kernel: Kernel, inputs: list[Array], resolve: Resolve) -> list[Array]:
    n, k = kernel.args[1:3]
    assert isinstance(n, int)
    assert isinstance(k, int)
    x, x_zero, packed, _, *zero = inputs
    left = x.astype(np.float64) - x_zero.reshape(-1 if x_zero.size == 1 else (*x.shape[:-1], 1))
    right = unpack(packed, k, n).astype(np.float64) - (zero[0] if zero else 0)
    # Doubles hold these sums exactly; the result wraps around.
    spend_product(left, right)
    return [np.matmul(left, right).astype(np.int64).astype(np.int32)]
