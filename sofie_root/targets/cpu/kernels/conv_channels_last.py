"""Convolution with the channels last (``cpu/conv_channels_last.hxx``, ``cpu/conv_depthwise.hxx``)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

import numpy as np

from sofie_root.budget import spend, spend_product
from sofie_root.ir.dim import Dim, product
from sofie_root.ir.types import TensorType
from sofie_root.program.builder import Builder, Tensor
from sofie_root.program.operation import Array, Epilogue, Operand, Resolve
from sofie_root.program.operations.conv import padded
from sofie_root.program.operations.window import Spatial, Windowed
from sofie_root.targets.cpu import packing
from sofie_root.targets.cxx.call import Call, CppKernel, Extents, Fused, In, Out, Scratch, Strides

from . import call


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvChannelsLast(Windowed):
    """``x[N, *spatial, C]`` convolved with weights packed as those of a matrix: ``[N, *out, O]``.

    Attributes:
        x: the input, FLOAT.
        w: the weights as a matrix ``[taps * C, O]``, packed.
        out_channels: O.
        fused: done to each element of the result.
    """

    x: Operand
    w: Operand
    out_channels: int
    fused: Epilogue | None = None

    SLOT: ClassVar[str] = "fused"

    @property
    def in_channels(self) -> int:
        """C."""
        return int(self.w.shape[1]) // prod(self.kernel)  # type: ignore[arg-type]

    def evaluate(self, resolve: Resolve, **operands: Any) -> list[Array]:
        """A matrix product for each tap of the window."""
        w = packing.unpack(operands["w"], self.out_channels)
        w = w.reshape(*self.kernel, self.in_channels, self.out_channels)
        return [sum(_product(seen, w[tap]) for tap, seen in _taps(self, operands["x"]))]  # type: ignore[list-item]

    def multiply_adds(self, resolve: Resolve) -> int:
        """The channels at each tap of each window."""
        return resolve(self.taps(self.x.shape[0]) * self.in_channels * self.out_channels)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvDepthwise(Windowed):
    """``x[N, *spatial, C]``, each channel convolved with its own ``w[*k, C]``: ``[N, *out, C]``.

    Attributes:
        x: the input, FLOAT.
        w: the weights, channels last.
        fused: done to each element of the result.
    """

    x: Operand
    w: Operand
    fused: Epilogue | None = None

    SLOT: ClassVar[str] = "fused"

    def evaluate(self, resolve: Resolve, **operands: Any) -> list[Array]:
        """A sum of products over the taps of the window."""
        x, w = operands["x"], operands["w"]
        return [sum(seen * w[tap] for tap, seen in _taps(self, x))]

    def multiply_adds(self, resolve: Resolve) -> int:
        """The channels at each tap of each window."""
        return resolve(self.taps(self.x.shape[0]) * self.x.shape[-1])


def conv_channels_last(b: Builder, x: Tensor, w: Tensor, window: Windowed) -> Tensor:
    """``x[N, *spatial, C]`` convolved with the constant ``w[O, C, *k]``: ``[N, *out, O]``.

    Args:
        b: the builder.
        x: the input, FLOAT.
        w: the weights; packed here.
        window: how the windows lie.
    """
    assert w.constant is not None, w
    outputs = w.constant.shape[0]
    (y,) = b.operation(
        ConvChannelsLast,
        (TensorType(x.dtype, (x.shape[0], *window.out, outputs)),),
        x=x,
        w=b.constant(packing.pack(as_matrix(w.constant)), f"{w.buffer}.packed"),
        out_channels=outputs,
        out=window.out,
        **window.window,
    )
    return y


def conv_depthwise(b: Builder, x: Tensor, w: Tensor, window: Windowed) -> Tensor:
    """``x[N, *spatial, C]``, every channel convolved with its own ``w[C, 1, *k]``: ``[N, *out, C]``.

    The arguments are those of :func:`conv_channels_last`.
    """
    assert w.constant is not None, w
    weights = np.ascontiguousarray(np.moveaxis(w.constant[:, 0], 0, -1))
    (y,) = b.operation(
        ConvDepthwise,
        (TensorType(x.dtype, (x.shape[0], *window.out, weights.shape[-1])),),
        x=x,
        w=b.constant(weights, f"{w.buffer}.last"),
        out=window.out,
        **window.window,
    )
    return y


def as_matrix(w: Array) -> Array:
    """Weights ``[O, C, *k]`` as a matrix ``[taps * C, O]``."""
    return np.moveaxis(w, (0, 1), (-1, -2)).reshape(-1, w.shape[0])


def _product(a: Array, b: Array) -> Array:
    spend_product(a, b)
    result: Array = np.matmul(a, b)
    return result


def _taps(window: Windowed, x: Array) -> Iterator[tuple[Spatial, Array]]:
    """For each tap of the windows what the outputs see through it."""
    out = window.windows(x.shape[1:-1])
    pads = zip(window.pad_begin, window.pad_end, strict=True)
    x = padded(x, [(0, 0), *pads, (0, 0)])
    for tap in np.ndindex(*window.kernel):
        part = x[(slice(None), *window.seen(tap, out))]
        spend(part.size)
        yield tap, part


@call.register
def _(operation: ConvChannelsLast) -> Call:
    batch, *spatial, _ = operation.x.shape
    workspace: Dim = 0
    if operation.pads:
        ends = zip(spatial, operation.pad_begin, operation.pad_end, strict=True)
        workspace = product(n + p + q for n, p, q in ends) * operation.in_channels
    kernel = CppKernel(
        (("x", "strided" if operation.pads else "contiguous"),),
        epilogue_axes=_epilogue_axes(operation),
        name="conv_channels_last",
        header="cpu/conv_channels_last.hxx",
    )
    args = (
        batch,
        Extents(tuple(spatial)),
        In("x"),
        Strides("x"),
        In("w"),
        Out(),
        Scratch(workspace, operation.x.dtype),
        Fused(),
    )
    sizes = ("rank", len(spatial)), ("C", operation.in_channels), ("O", operation.out_channels)
    # A size that only the run tells is 0 among the template arguments.
    out = tuple(d if isinstance(d, int) else 0 for d in operation.out)
    return Call(kernel, args, (*sizes, ("out", out), *operation.window.items()))


@call.register
def _(operation: ConvDepthwise) -> Call:
    batch, *spatial, _ = operation.x.shape
    kernel = CppKernel(
        epilogue_axes=_epilogue_axes(operation),
        name="conv_depthwise",
        header="cpu/conv_depthwise.hxx",
    )
    args = (batch, Extents(tuple(spatial)), In("x"), In("w"), Out(), Fused())
    sizes = ("rank", len(spatial)), ("C", operation.w.shape[-1])
    return Call(kernel, args, (*sizes, *operation.window.items()))


def _epilogue_axes(operation: Windowed) -> tuple[tuple[int, ...], ...]:
    """Positions, and channels."""
    channel = len(operation.kernel) + 1
    return tuple(range(channel)), (channel,)
