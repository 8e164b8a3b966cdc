"""Convolution of 8-bit integers with constant weights (``cpu/integer_conv.hxx``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from sofie_root.ir.dim import Dim, product
from sofie_root.ir.dtype import DType
from sofie_root.ir.types import TensorType
from sofie_root.program.builder import Builder, Tensor
from sofie_root.program.operation import Array, Epilogue, Operand, Resolve
from sofie_root.program.operations.conv import IntegerConv, convolve, wrapped
from sofie_root.program.operations.window import Windowed
from sofie_root.targets.cxx.call import (
    Arg,
    Call,
    CppKernel,
    Extents,
    Fused,
    In,
    Null,
    Out,
    Scratch,
    Traits,
)

from . import call, choose
from .conv import convolution
from .integer import signed_weights, without_zero_points

QUAD = 4
"""Channels that one instruction multiplies."""
BLOCK = 32
"""Output positions of a block: ``sofie::kIntegerConvBlock``."""


def pack(w: Array) -> Array:
    """int8 weights ``[O, C/g, *k]`` as ``[O, taps, C/g]``, C/g zero padded to a multiple of 4."""
    outputs, channels = w.shape[:2]
    padded = np.zeros((outputs, -(-channels // QUAD) * QUAD, int(np.prod(w.shape[2:]))), np.int8)
    padded[:, :channels] = w.reshape(outputs, channels, -1)
    return np.ascontiguousarray(padded.transpose(0, 2, 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedIntegerConv(Windowed):
    """``x[N, C, ...] - x_zero`` convolved in INT32 with weights packed by :func:`pack`: ``[N, O, *out]``.

    Attributes:
        x: the input, INT8 or UINT8.
        x_zero: INT32 ``[1]``.
        w: the packed weights; what was UINT8 is stored less 128.
        sums: sum of ``w - w_zero`` for each output channel.
        w_zero: zero point of each output channel, as ``w`` is stored; None where all are 0.
        in_channels: C.
        groups: number of groups of channels that do not see each other.
        fused: done to each element of the result; it may give another dtype.
    """

    x: Operand
    x_zero: Operand
    w: Operand
    sums: Operand
    w_zero: Operand | None
    in_channels: int
    groups: int
    fused: Epilogue | None = None

    SLOT: ClassVar[str] = "fused"

    @property
    def out_channels(self) -> int:
        """O."""
        return int(self.w.shape[0])  # type: ignore[arg-type]

    def evaluate(self, resolve: Resolve, **operands: Any) -> list[Array]:
        """A matrix product for each tap of the window, in doubles, which hold the sums exactly."""
        width, zero = self.in_channels // self.groups, operands["w_zero"]
        w = operands["w"][:, :, :width].astype(np.float64)
        if zero is not None:
            w = w - zero.reshape(-1, 1, 1)
        w = w.transpose(0, 2, 1).reshape(self.out_channels, width, *self.kernel)
        x = operands["x"].astype(np.float64) - operands["x_zero"]
        return [wrapped(convolve(self, x, w, self.groups))]

    def multiply_adds(self, resolve: Resolve) -> int:
        """The channels at each tap of each window."""
        width = self.in_channels // self.groups
        return resolve(self.taps(self.x.shape[0]) * self.out_channels * width)


@choose.register
def _(operation: IntegerConv, b: Builder) -> tuple[Tensor]:
    x, w = b.tensor(operation.x), b.tensor(operation.w)
    x_zero, w_zero = b.tensor(operation.x_zero), b.tensor(operation.w_zero)
    known = w.constant is not None and w_zero.constant is not None
    if not (known and b.program.choice.specialised(pays=True)):
        wide = without_zero_points(b, x, x_zero)
        right = without_zero_points(b, w, w_zero, (0,))
        return (convolution(b, wide, right, operation.groups, operation),)
    signed, zero = signed_weights(w, w_zero)
    outputs, width = signed.shape[:2]
    zero = np.broadcast_to(zero, (outputs,))
    less = signed - zero.reshape(-1, *(1,) * (signed.ndim - 1))
    sums = less.reshape(outputs, -1).sum(axis=1, dtype=np.int32)
    (y,) = b.operation(
        PackedIntegerConv,
        (TensorType(DType.INT32, (x.shape[0], outputs, *operation.out)),),
        x=x,
        x_zero=x_zero,
        w=b.constant(pack(signed), f"{w.buffer}.packed"),
        sums=b.constant(sums, f"{w.buffer}.sums"),
        w_zero=b.constant(zero, f"{w.buffer}.zeros") if np.any(zero) else None,
        in_channels=width * operation.groups,
        groups=operation.groups,
        out=operation.out,
        **operation.window,
    )
    return (y,)


@call.register
def _(operation: PackedIntegerConv) -> Call:
    rank = len(operation.kernel)
    kernel = CppKernel(
        epilogue_axes=((0,), (1,), tuple(range(2, 2 + rank))),
        converts=True,
        name="integer_conv",
        header="cpu/integer_conv.hxx",
    )
    args: tuple[Arg, ...] = (
        operation.x.shape[0],
        Extents(operation.x.shape[2:]),
        Extents(operation.out),
        In("x"),
        In("x_zero"),
        In("w"),
        In("sums"),
        Null() if operation.w_zero is None else In("w_zero"),
        Out(),
        Scratch(_workspace(operation), DType.UINT32),
        Fused(),
    )
    traits: Traits = (
        ("rank", rank),
        ("C", operation.in_channels),
        ("O", operation.out_channels),
        ("groups", operation.groups),
        *operation.window.items(),
    )
    return Call(kernel, args, traits)


def _workspace(operation: PackedIntegerConv) -> Dim:
    """As ``sofie::integer_conv`` says."""
    w = operation
    plane = product(
        (o - 1) * s + d * (k - 1) + 1
        for o, k, s, d in zip(w.out, w.kernel, w.stride, w.dilation, strict=True)
    )
    quads = -(-w.in_channels // w.groups // QUAD)
    return (plane + int(np.prod(w.kernel)) * BLOCK) * quads + 2 * BLOCK
