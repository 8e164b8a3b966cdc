"""Convolution, transposed convolution, and convolution of 8-bit integers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from sofie_root.budget import reserve, spend_product
from sofie_root.ir.dim import product

from ..operation import Array, Epilogue, Operand, Resolve
from .window import Spatial, Windowed


@dataclass(frozen=True, slots=True, kw_only=True)
class Conv(Windowed):
    """``x[N, C, *spatial]`` convolved with ``w[O, C/groups, *kernel]``: ``[N, O, *out]``.

    As in ONNX the kernel is not flipped, and padding is zeros.

    Attributes:
        x: the input.
        w: the weights, in the dtype of ``x``; a constant or computed when the model runs.
        groups: number of groups of channels that do not see each other.
        fused: done to each element of the result.
    """

    x: Operand
    w: Operand
    groups: int
    fused: Epilogue | None = None

    SLOT: ClassVar[str] = "fused"

    def evaluate(self, resolve: Resolve, **operands: Any) -> list[Array]:
        """A matrix product for each tap of the window."""
        return [convolve(self, operands["x"], operands["w"], self.groups)]

    def multiply_adds(self, resolve: Resolve) -> int:
        """The weights of each output position, padding included."""
        return resolve(self.x.shape[0] * product(self.out) * product(self.w.shape))


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvTranspose(Windowed):
    """``x[N, C, *spatial]`` spread through ``w[C, O/groups, *kernel]``: ``[N, O, *out]``.

    Element ``i`` of the input adds to the elements ``i * stride + tap * dilation - pad_begin`` of the
    result. The elements of the result that nothing reaches are zero.

    Attributes:
        x: the input.
        w: the weights, in the dtype of ``x``; a constant or computed when the model runs.
        groups: number of groups of channels that do not see each other.
        fused: done to each element of the result.
    """

    x: Operand
    w: Operand
    groups: int
    fused: Epilogue | None = None

    SLOT: ClassVar[str] = "fused"

    def evaluate(self, resolve: Resolve, **operands: Any) -> list[Array]:
        """A matrix product for each tap of the window."""
        out = tuple(map(resolve, self.out))
        return [spread(self, operands["x"], operands["w"], self.groups, out)]

    def multiply_adds(self, resolve: Resolve) -> int:
        """The weights of each channel, for each element of the input."""
        return resolve(product(self.x.shape) * product(self.w.shape[1:]))


@dataclass(frozen=True, slots=True, kw_only=True)
class IntegerConv(Windowed):
    """``x[N, C, *spatial] - x_zero`` convolved with ``w[O, C/groups, *kernel] - w_zero``: ``[N, O, *out]``.

    The sums are INT32 and wrap around. Padding counts as ``x_zero``, so that it adds nothing.

    Attributes:
        x: the input, INT8 or UINT8.
        x_zero: zero point of the input, INT32 ``[1]``.
        w: the weights, INT8 or UINT8; a constant or computed when the model runs.
        w_zero: zero points of the weights, INT32: ``[1]``, or ``[O]`` with one for each output channel.
        groups: number of groups of channels that do not see each other.
        fused: done to each element of the result; it may give another dtype.
    """

    x: Operand
    x_zero: Operand
    w: Operand
    w_zero: Operand
    groups: int
    fused: Epilogue | None = None

    SLOT: ClassVar[str] = "fused"

    def evaluate(self, resolve: Resolve, **operands: Any) -> list[Array]:
        """A matrix product for each tap of the window, in doubles, which hold the sums exactly."""
        x, w, zero = (operands[name].astype(np.float64) for name in ("x", "w", "w_zero"))
        w = w - zero.reshape(-1, *(1,) * (w.ndim - 1))
        return [wrapped(convolve(self, x - operands["x_zero"], w, self.groups))]

    def multiply_adds(self, resolve: Resolve) -> int:
        """The weights of each output position, padding included."""
        return resolve(self.x.shape[0] * product(self.out) * product(self.w.shape))


def convolve(window: Windowed, x: Array, w: Array, groups: int) -> Array:
    """``x[N, C, *spatial]`` convolved with ``w[O, C/groups, *kernel]``, in the dtype of ``x``."""
    pads = list(zip(window.pad_begin, window.pad_end, strict=True))
    out = window.windows(x.shape[2:])
    x = padded(x, [(0, 0), (0, 0), *pads])
    w = w.reshape(groups, w.shape[0] // groups, *w.shape[1:])
    y = np.zeros((x.shape[0], groups, w.shape[1], int(np.prod(out))), x.dtype)
    for tap in np.ndindex(*window.kernel):
        part = _grouped(_at(x, window.seen(tap, out)), groups)
        spend_product(_at(w, tap), part)
        y += np.matmul(_at(w, tap), part)
    return y.reshape(x.shape[0], groups * w.shape[1], *out)


def spread(window: Windowed, x: Array, w: Array, groups: int, out: Spatial) -> Array:
    """``x[N, C, *spatial]`` spread through ``w[C, O/groups, *kernel]``; see :class:`ConvTranspose`."""
    spatial, outputs = x.shape[2:], w.shape[1]
    w = w.reshape(groups, w.shape[0] // groups, *w.shape[1:]).swapaxes(1, 2)
    # Everything that the taps reach, at least as far as the output goes.
    whole = tuple(
        max((n - 1) * s + (k - 1) * d + 1, o + p)
        for n, k, s, d, o, p in zip(
            spatial,
            window.kernel,
            window.stride,
            window.dilation,
            out,
            window.pad_begin,
            strict=True,
        )
    )
    reserve((x.shape[0], groups, outputs, *whole), x.itemsize)
    y = np.zeros((x.shape[0], groups, outputs, *whole), x.dtype)
    for tap in np.ndindex(*window.kernel):
        spend_product(_at(w, tap), _grouped(x, groups))
        part = np.matmul(_at(w, tap), _grouped(x, groups))
        _at(y, window.seen(tap, spatial))[...] += part.reshape(*part.shape[:3], *spatial)
    cut = tuple(slice(p, p + o) for p, o in zip(window.pad_begin, out, strict=True))
    return _at(y, cut).reshape(x.shape[0], groups * outputs, *out)


def padded(x: Array, widths: Sequence[tuple[int, int]]) -> Array:
    """``x`` with zeros around it, if the budget has memory for that."""
    reserve([n + sum(ends) for n, ends in zip(x.shape, widths, strict=True)], x.itemsize)
    return np.pad(x, widths)


def wrapped(sums: Array) -> Array:
    """Whole doubles as INT32, which wraps around."""
    return sums.astype(np.int64).astype(np.int32)


def _grouped(x: Array, groups: int) -> Array:
    """``[N, C, ...]`` as ``[N, g, C/g, positions]``."""
    return x.reshape(x.shape[0], groups, x.shape[1] // groups, int(np.prod(x.shape[2:])))


def _at(x: Array, spatial: tuple[int | slice, ...]) -> Array:
    """A view of ``x`` at these positions of its last axes."""
    where: Any = (..., *spatial)
    view: Array = x[where]
    return view
