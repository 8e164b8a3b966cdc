"""Products of 8-bit integer matrices by a packed constant (``cpu/integer_gemm.hxx``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from sofie_root.ir.dim import Dim, product
from sofie_root.ir.dtype import DType
from sofie_root.ir.types import TensorType
from sofie_root.program.builder import Builder, Tensor
from sofie_root.program.expr import Expr
from sofie_root.program.operation import Array, Epilogue, Operand, Operation, Resolve
from sofie_root.program.operations.integer import IntegerMatMul, multiply_integers
from sofie_root.program.operations.matmul import MatMul
from sofie_root.targets.cxx.call import Arg, Call, CppKernel, Fused, In, Null, Out, Stride

from . import call, choose

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


def without_zero_points(b: Builder, x: Tensor, zeros: Tensor, axes: Sequence[int] = ()) -> Tensor:
    """``x - zeros`` in INT32; a constant of constants.

    Args:
        b: the builder.
        x: INT8 or UINT8.
        zeros: INT32 ``[1]``, or the sizes of ``x`` along ``axes``.
        axes: of ``x`` along which there are several zero points.
    """
    one = zeros.type.numel == 1
    if x.constant is not None and zeros.constant is not None:
        shape = [n if k in axes and not one else 1 for k, n in enumerate(x.constant.shape)]
        wide = x.constant.astype(np.int32) - zeros.constant.reshape(shape)
        return b.constant(wide, f"{x.buffer}.int32")
    x = b.cast(x, DType.INT32)
    if zeros.constant is not None and not np.any(zeros.constant):
        return x

    def body(*i: Dim) -> Expr:
        return x[i] - zeros[(0,) * zeros.rank if one else tuple(i[axis] for axis in axes)]

    return b.loop(x.shape, body)


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedIntegerMatMul(Operation):
    """``(x[*rows, K] - x_zero) @ (w[K, N] - w_zero)`` in INT32, ``w`` packed by :func:`pack`: ``[*rows, N]``.

    Attributes:
        x: left side, INT8 or UINT8.
        x_zero: INT32, one element or one for each row.
        w: the packed right side; what was UINT8 is stored less 128.
        sums: sum of each column of ``w - w_zero``.
        w_zero: zero point of each column, as ``w`` is stored; None where all are 0.
        k: length of the sums.
        n: number of columns.
        fused: done to each element of the result; it may give another dtype.
    """

    x: Operand
    x_zero: Operand
    w: Operand
    sums: Operand
    w_zero: Operand | None
    k: int
    n: int
    fused: Epilogue | None = None

    SLOT: ClassVar[str] = "fused"

    def evaluate(self, resolve: Resolve, **operands: Any) -> list[Array]:
        """A product of doubles, which hold the sums exactly."""
        w, zero = unpack(operands["w"], self.k, self.n), operands["w_zero"]
        right = w.astype(np.float64) - (0 if zero is None else zero)
        return [multiply_integers(operands["x"], operands["x_zero"], right)]

    def multiply_adds(self, resolve: Resolve) -> int:
        """K for each element of the result."""
        return resolve(product(self.x.shape) * self.n)


@choose.register
def _(operation: IntegerMatMul, b: Builder) -> tuple[Tensor]:
    x, w = b.tensor(operation.x), b.tensor(operation.w)
    x_zero, w_zero = b.tensor(operation.x_zero), b.tensor(operation.w_zero)
    known = w.constant is not None and w_zero.constant is not None
    if known and b.program.choice.specialised(pays=True):
        return (_packed(b, x, x_zero, w, w_zero),)
    wide = without_zero_points(b, x, x_zero, range(x.rank - 1))
    right = without_zero_points(b, w, w_zero, (1,))
    if right.constant is not None:
        return (b.linear(wide, right.constant, w.buffer),)
    rows, (k, n) = x.shape[:-1], right.shape
    flat = b.reshape(wide, (product(rows), k))
    out = TensorType(DType.INT32, (*rows, n))
    (y,) = b.operation(MatMul, (out,), x=flat, w=right, batch=(), rows=rows)
    return (y,)


def _packed(b: Builder, x: Tensor, x_zero: Tensor, w: Tensor, w_zero: Tensor) -> Tensor:
    """The product of bytes by constants, which are packed here."""
    signed, zero = signed_weights(w, w_zero)
    k, n = signed.shape
    zero = np.broadcast_to(zero, (n,))
    sums = (signed - zero).sum(axis=0, dtype=np.int32)
    (y,) = b.operation(
        PackedIntegerMatMul,
        (TensorType(DType.INT32, (*x.shape[:-1], n)),),
        x=x,
        x_zero=x_zero,
        w=b.constant(pack(signed), f"{w.buffer}.packed"),
        sums=b.constant(sums, f"{w.buffer}.sums"),
        w_zero=b.constant(zero, f"{w.buffer}.zeros") if np.any(zero) else None,
        k=k,
        n=n,
    )
    return y


def signed_weights(w: Tensor, w_zero: Tensor) -> tuple[Array, Array]:
    """Constant weights and their zero points in INT32, both less 128 where they are UINT8."""
    assert w.constant is not None, w
    assert w_zero.constant is not None, w_zero
    shift = 128 if w.dtype is DType.UINT8 else 0
    return w.constant.astype(np.int32) - shift, w_zero.constant - np.int32(shift)


@call.register
def _(operation: PackedIntegerMatMul) -> Call:
    rows = operation.x.shape[:-1]
    single = len(rows) == 1
    kernel = CppKernel(
        (("x", "rows" if single else "contiguous"),),
        epilogue_axes=(tuple(range(len(rows))), (len(rows),)),
        converts=True,
        name="integer_gemm",
        header="cpu/integer_gemm.hxx",
    )
    n, k = operation.n, operation.k
    args: tuple[Arg, ...] = (
        product(rows),
        n,
        k,
        In("x"),
        Stride("x", 0) if single else k,
        In("x_zero"),
        0 if product(operation.x_zero.shape) == 1 else 1,
        In("w"),
        In("sums"),
        Null() if operation.w_zero is None else In("w_zero"),
        Out(),
        n,
        Fused(),
    )
    return Call(kernel, args)
