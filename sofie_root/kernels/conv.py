"""Convolution and transposed convolution (``cpu/conv.hxx``, ``cpu/conv_transpose.hxx``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from sofie_root.budget import reserve, spend_product
from sofie_root.ir.dim import Dim, product
from sofie_root.ir.dtype import DType
from sofie_root.ir.types import Shape, TensorType
from sofie_root.program.builder import Builder, Tensor
from sofie_root.program.expr import Expr, compare, guard, index
from sofie_root.program.program import Extents, Fused, In, Kernel, KernelSpec, Out, Scratch

Array = npt.NDArray[Any]
Resolve = Callable[[Dim], int]
Traits = tuple[tuple[str, Any], ...]

BLOCK = 8
"""Output channels of a block of packed weights: ``sofie::kConvBlock``."""
SLACK = 128
"""Elements behind the planes in the workspace: ``sofie::detail::kConvSlack``."""


def pack(w: Array) -> Array:
    """Weights ``[g, O/g, C/g, *k]`` as ``[g, blocks, C/g, *k, 8]``, output channels zero padded."""
    groups, outputs, *rest = w.shape
    blocks = -(-outputs // BLOCK)
    padded = np.zeros((groups, blocks * BLOCK, *rest), w.dtype)
    padded[:, :outputs] = w
    blocked = padded.reshape(groups, blocks, BLOCK, *rest)
    return np.ascontiguousarray(np.moveaxis(blocked, 2, -1))


def unpack(packed: Array, outputs: int) -> Array:
    """The ``[g, O/g, C/g, *k]`` weights that were packed; ``outputs`` is O/g."""
    blocked = np.moveaxis(packed, -1, 2)
    groups, blocks, width, *rest = blocked.shape
    return blocked.reshape(groups, blocks * width, *rest)[:, :outputs]


def _packed(b: Builder, w: Tensor, dtype: DType, transposed: bool, groups: int) -> Tensor:
    """The weights as the kernels read them: packed now where constant, else by a loop."""
    first, second, *kernel = (int(d) for d in w.shape if isinstance(d, int))
    split = (groups, first // groups, second, *kernel)
    perm = (0, 2, 1, *range(3, len(split))) if transposed else tuple(range(len(split)))
    if w.constant is not None:
        array = w.constant.astype(dtype.numpy).reshape(split).transpose(perm)
        return b.constant(pack(array), f"{w.buffer}.packed")
    view = b.transpose(b.reshape(b.cast(w, dtype), split), perm)
    outputs, *rest = view.shape[1:]

    def body(g: Dim, block: Dim, *i: Dim) -> Expr:
        channel = block * BLOCK + i[-1]
        return guard(compare("lt", index(channel), index(outputs)), view[(g, channel, *i[:-1])], 0)

    return b.loop((groups, -(-int(outputs) // BLOCK), *rest, BLOCK), body)  # type: ignore[arg-type]


def conv(b: Builder, x: Tensor, w: Tensor, groups: int, window: Traits, out: Shape) -> Tensor:
    """``x[N, C, ...]`` convolved with ``w[O, C/g, *k]``: ``[N, O, *out]``.

    Args:
        b: the builder.
        x: the input in a dtype that is computed in.
        w: the weights, of static shape.
        groups: number of groups that do not see each other.
        window: kernel, stride, dilation, pad_begin and pad_end.
        out: spatial sizes of the result.
    """
    channels, outputs = int(w.shape[1]) * groups, int(w.shape[0])  # type: ignore[arg-type]
    traits = _traits(x.rank - 2, channels, outputs, groups, window)
    (y,) = b.kernel(
        _conv(x.rank),
        (
            x.shape[0],
            Extents(x.shape[2:]),
            In(0),
            In(1),
            Out(0),
            Scratch(_conv_workspace(x.dtype, traits, out), x.dtype),
            Fused(),
        ),
        (x, _packed(b, w, x.dtype, False, groups)),
        (TensorType(x.dtype, (x.shape[0], outputs, *out)),),
        traits,
    )
    return y


def conv_transpose(
    b: Builder, x: Tensor, w: Tensor, groups: int, window: Traits, out: Shape
) -> Tensor:
    """``x[N, C, ...]`` spread through ``w[C, O/g, *k]``: ``[N, O, *out]``; as :func:`conv`."""
    channels, outputs = int(w.shape[0]), int(w.shape[1]) * groups  # type: ignore[arg-type]
    traits = _traits(x.rank - 2, channels, outputs, groups, window)
    (y,) = b.kernel(
        _conv_transpose(x.rank),
        (
            x.shape[0],
            Extents(x.shape[2:]),
            Extents(out),
            In(0),
            In(1),
            Out(0),
            Scratch(_transpose_workspace(x.dtype, traits, out), x.dtype),
            Fused(),
        ),
        (x, _packed(b, w, x.dtype, True, groups)),
        (TensorType(x.dtype, (x.shape[0], outputs, *out)),),
        traits,
    )
    return y


def _traits(rank: int, channels: int, outputs: int, groups: int, window: Traits) -> Traits:
    return ("rank", rank), ("C", channels), ("O", outputs), ("groups", groups), *window


def _conv_workspace(dtype: DType, traits: Traits, out: Shape) -> Dim:
    """``sofie::conv_workspace``."""
    t: dict[str, Any] = dict(traits)
    if dtype is not DType.FLOAT or not (
        any(t["pad_begin"]) or any(t["pad_end"]) or max(t["stride"]) > 1
    ):
        return 0
    planes: Dim = product(
        s * (o + d * (k - 1) // s)
        for o, k, s, d in zip(out, t["kernel"], t["stride"], t["dilation"], strict=True)
    )
    return planes * int(t["C"] // t["groups"]) + SLACK


def _transpose_workspace(dtype: DType, traits: Traits, out: Shape) -> Dim:
    """``sofie::conv_transpose_workspace``."""
    if dtype is not DType.FLOAT:
        return 0
    t = dict(traits)
    grid: Dim = product(
        d * (k - 1) // s + (o + p - 1) // s + 1
        for o, k, s, d, p in zip(
            out, t["kernel"], t["stride"], t["dilation"], t["pad_begin"], strict=True
        )
    )
    return grid * int(t["C"] // t["groups"]) + SLACK + product(out) * int(t["O"] // t["groups"])


@lru_cache
def _conv(rank: int) -> KernelSpec:
    groups = ((0,), (1,), tuple(range(2, rank)))
    return KernelSpec("conv", "cpu/conv.hxx", _conv_reference, epilogue=groups)


@lru_cache
def _conv_transpose(rank: int) -> KernelSpec:
    groups = ((0,), (1,), tuple(range(2, rank)))
    return KernelSpec(
        "conv_transpose", "cpu/conv_transpose.hxx", _conv_transpose_reference, epilogue=groups
    )


def _conv_reference(kernel: Kernel, inputs: list[Array], resolve: Resolve) -> list[Array]:
    t, (x, packed) = dict(kernel.traits), inputs
    groups, outputs = t["groups"], t["O"] // t["groups"]
    w = unpack(packed, outputs)
    pads = list(zip(t["pad_begin"], t["pad_end"], strict=True))
    x = padded(x, [(0, 0), (0, 0), *pads])
    out = tuple(
        (n - (k - 1) * d - 1) // s + 1
        for n, k, s, d in zip(x.shape[2:], t["kernel"], t["stride"], t["dilation"], strict=True)
    )
    y = np.zeros((x.shape[0], groups, outputs, int(np.prod(out))), x.dtype)
    for tap in np.ndindex(*t["kernel"]):
        seen = tuple(
            slice(i * d, i * d + (o - 1) * s + 1, s)
            for i, d, o, s in zip(tap, t["dilation"], out, t["stride"], strict=True)
        )
        part = _grouped(_at(x, seen), groups)
        spend_product(_at(w, tap), part)
        y += np.matmul(_at(w, tap), part)
    return [y.reshape(x.shape[0], t["O"], *out)]


def padded(x: Array, widths: Sequence[tuple[int, int]]) -> Array:
    """``x`` with zeros around it, if the budget has memory for that."""
    reserve([n + sum(ends) for n, ends in zip(x.shape, widths, strict=True)], x.itemsize)
    return np.pad(x, widths)


def _grouped(x: Array, groups: int) -> Array:
    """``[N, C, ...]`` as ``[N, g, C/g, positions]``."""
    return x.reshape(x.shape[0], groups, x.shape[1] // groups, int(np.prod(x.shape[2:])))


def _conv_transpose_reference(kernel: Kernel, inputs: list[Array], resolve: Resolve) -> list[Array]:
    t, (x, packed) = dict(kernel.traits), inputs
    extents = kernel.args[2]
    assert isinstance(extents, Extents)
    out = tuple(resolve(d) for d in extents.dims)
    groups, outputs, spatial = t["groups"], t["O"] // t["groups"], x.shape[2:]
    w = unpack(packed, outputs)
    # Everything that the taps reach, at least as far as the output goes.
    whole = tuple(
        max((n - 1) * s + (k - 1) * d + 1, o + p)
        for n, k, s, d, o, p in zip(
            spatial, t["kernel"], t["stride"], t["dilation"], out, t["pad_begin"], strict=True
        )
    )
    reserve((x.shape[0], groups, outputs, *whole), x.itemsize)
    y = np.zeros((x.shape[0], groups, outputs, *whole), x.dtype)
    for tap in np.ndindex(*t["kernel"]):
        reached = tuple(
            slice(i * d, i * d + (n - 1) * s + 1, s)
            for i, d, n, s in zip(tap, t["dilation"], spatial, t["stride"], strict=True)
        )
        spend_product(_at(w, tap), _grouped(x, groups))
        part = np.matmul(_at(w, tap), _grouped(x, groups))
        _at(y, reached)[...] += part.reshape(*part.shape[:3], *spatial)
    cut = tuple(slice(p, p + o) for p, o in zip(t["pad_begin"], out, strict=True))
    return [_at(y, cut).reshape(x.shape[0], t["O"], *out)]


def _at(x: Array, spatial: tuple[int | slice, ...]) -> Array:
    """A view of ``x`` at these positions of its last axes."""
    where: Any = (..., *spatial)
    view: Array = x[where]
    return view
