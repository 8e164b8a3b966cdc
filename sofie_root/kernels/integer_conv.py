"""Convolution of 8-bit integers with constant weights (``cpu/integer_conv.hxx``)."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from sofie_root.budget import spend_product
from sofie_root.ir.dim import Dim, product
from sofie_root.ir.dtype import DType
from sofie_root.ir.types import Shape, TensorType
from sofie_root.program.builder import Builder, Tensor
from sofie_root.program.program import Extents, Fused, In, Kernel, KernelSpec, Null, Out, Scratch

from .conv import padded

Array = npt.NDArray[Any]
Resolve = Callable[[Dim], int]
Traits = tuple[tuple[str, Any], ...]

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


def conv(
    b: Builder,
    x: Tensor,
    x_zero: Tensor,
    w: Array,
    w_zero: Array,
    name: str,
    groups: int,
    window: Traits,
    out: Shape,
) -> Tensor:
    """``x[N, C, ...] - x_zero`` convolved with ``w[O, C/g, *k] - w_zero`` in INT32: ``[N, O, *out]``.

    Args:
        b: the builder.
        x: the input, INT8 or UINT8.
        x_zero: INT32, one element.
        w: the weights, int8 or uint8; packed here.
        w_zero: the zero point of each output channel, or one for all, in the dtype of ``w``.
        name: what the weights are called in the generated code.
        groups: number of groups that do not see each other.
        window: kernel, stride, dilation, pad_begin and pad_end.
        out: spatial sizes of the result.
    """
    outputs, channels = w.shape[0], w.shape[1] * groups
    shift = 128 if w.dtype == np.uint8 else 0
    signed = w.astype(np.int32) - shift
    zero = np.broadcast_to(w_zero.reshape(-1).astype(np.int32) - shift, (outputs,))
    less = signed - zero.reshape(-1, *(1,) * (w.ndim - 1))
    constants = [
        b.constant(pack(signed), f"{name}.packed"),
        b.constant(less.reshape(outputs, -1).sum(axis=1, dtype=np.int32), f"{name}.sums"),
    ]
    if np.any(zero):
        constants.append(b.constant(zero, f"{name}.zeros"))
    traits: Traits = (
        ("rank", x.rank - 2), ("C", channels), ("O", outputs), ("groups", groups), *window
    )  # fmt: skip
    (y,) = b.kernel(
        _conv(x.rank),
        (
            x.shape[0],
            Extents(x.shape[2:]),
            Extents(out),
            In(0),
            In(1),
            In(2),
            In(3),
            In(4) if np.any(zero) else Null(),
            Out(0),
            Scratch(_workspace(traits, out), DType.UINT32),
            Fused(),
        ),
        (x, x_zero, *constants),
        (TensorType(DType.INT32, (x.shape[0], outputs, *out)),),
        traits,
    )
    return y


def _workspace(traits: Traits, out: Shape) -> Dim:
    """As ``sofie::integer_conv`` says."""
    t: dict[str, Any] = dict(traits)
    plane: Dim = product(
        (o - 1) * s + d * (k - 1) + 1
        for o, k, s, d in zip(out, t["kernel"], t["stride"], t["dilation"], strict=True)
    )
    quads: int = -(-t["C"] // t["groups"] // QUAD)
    return (plane + int(np.prod(t["kernel"])) * BLOCK) * quads + 2 * BLOCK


@lru_cache
def _conv(rank: int) -> KernelSpec:
    groups = ((0,), (1,), tuple(range(2, rank)))
    return KernelSpec(
        "integer_conv", "cpu/integer_conv.hxx", _reference, epilogue=groups, converts=True
    )


def _reference(kernel: Kernel, inputs: list[Array], resolve: Resolve) -> list[Array]:
    t, (x, x_zero, packed, _, *zero) = dict(kernel.traits), inputs
    extents = kernel.args[2]
    assert isinstance(extents, Extents)
    out = tuple(resolve(d) for d in extents.dims)
    groups, channels, outputs = t["groups"], t["C"] // t["groups"], t["O"] // t["groups"]
    w = packed[:, :, :channels].astype(np.float64)
    if zero:
        w = w - zero[0].reshape(-1, 1, 1)
    w = w.reshape(groups, outputs, -1, channels)
    pads = list(zip(t["pad_begin"], t["pad_end"], strict=True))
    # Doubles hold these sums exactly; the result wraps around.
    x = padded(x.astype(np.float64) - x_zero, [(0, 0), (0, 0), *pads])
    y = np.zeros((x.shape[0], groups, outputs, int(np.prod(out))))
    for k, tap in enumerate(np.ndindex(*t["kernel"])):
        seen = tuple(
            slice(i * d, i * d + (o - 1) * s + 1, s)
            for i, d, o, s in zip(tap, t["dilation"], out, t["stride"], strict=True)
        )
        where: Any = (..., *seen)
        part = x[where].reshape(x.shape[0], groups, channels, y.shape[-1])
        spend_product(w[:, :, k], part)
        y += np.matmul(w[:, :, k], part)
    return [y.astype(np.int64).astype(np.int32).reshape(x.shape[0], t["O"], *out)]
