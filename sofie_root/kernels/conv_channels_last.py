"""Convolution with the channels last (``cpu/conv_channels_last.hxx``, ``cpu/conv_depthwise.hxx``)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from sofie_root.budget import spend, spend_product
from sofie_root.ir.dim import Dim, product
from sofie_root.ir.types import Shape, TensorType
from sofie_root.program.builder import Builder, Tensor
from sofie_root.program.program import Extents, Fused, In, Kernel, KernelSpec, Out, Scratch, Strides

from . import conv, gemm

Array = npt.NDArray[Any]
Resolve = Callable[[Dim], int]
Traits = tuple[tuple[str, Any], ...]


def conv_channels_last(
    b: Builder, x: Tensor, w: Array, window: Traits, out: Shape, name: str = "weights"
) -> Tensor:
    """``x[N, *spatial, C]`` convolved with the constant ``w[O, C, *k]``: ``[N, *out, O]``.

    Args:
        b: the builder.
        x: the input, float.
        w: the weights; packed here.
        window: kernel, stride, dilation, pad_begin and pad_end.
        out: spatial sizes of the result.
        name: what the weights are called in the generated code.
    """
    outputs, channels = w.shape[:2]
    known = tuple(d if isinstance(d, int) else 0 for d in out)
    sizes = ("rank", len(out)), ("C", channels), ("O", outputs), ("out", known)
    traits = dict(window)
    pads = tuple(p + q for p, q in zip(traits["pad_begin"], traits["pad_end"], strict=True))
    spatial = x.shape[1:-1]
    workspace: Dim = 0
    if any(pads):
        workspace = product(n + p for n, p in zip(spatial, pads, strict=True)) * channels
    (y,) = b.kernel(
        _spec(x.rank, any(pads)),
        (
            x.shape[0],
            Extents(spatial),
            In(0),
            Strides(0),
            In(1),
            Out(0),
            Scratch(workspace, x.dtype),
            Fused(),
        ),
        (x, b.constant(gemm.pack(as_matrix(w)), f"{name}.packed")),
        (TensorType(x.dtype, (x.shape[0], *out, outputs)),),
        (*sizes, *window),
    )
    return y


def conv_depthwise(
    b: Builder, x: Tensor, w: Array, window: Traits, out: Shape, name: str = "weights"
) -> Tensor:
    """``x[N, *spatial, C]``, every channel convolved with its own ``w[C, 1, *k]``: ``[N, *out, C]``.

    The arguments are those of :func:`conv_channels_last`.
    """
    channels = w.shape[0]
    weights = np.ascontiguousarray(np.moveaxis(w[:, 0], 0, -1))
    (y,) = b.kernel(
        _depthwise(x.rank),
        (x.shape[0], Extents(x.shape[1:-1]), In(0), In(1), Out(0), Fused()),
        (x, b.constant(weights, f"{name}.last")),
        (TensorType(x.dtype, (x.shape[0], *out, channels)),),
        (("rank", len(out)), ("C", channels), *window),
    )
    return y


def as_matrix(w: Array) -> Array:
    """Weights ``[O, C, *k]`` as a matrix ``[taps * C, O]``."""
    return np.moveaxis(w, (0, 1), (-1, -2)).reshape(-1, w.shape[0])


@lru_cache
def _spec(rank: int, padded: bool) -> KernelSpec:
    return KernelSpec(
        "conv_channels_last",
        "cpu/conv_channels_last.hxx",
        _reference,
        layouts=("strided" if padded else "contiguous", "contiguous"),
        epilogue=(tuple(range(rank - 1)), (rank - 1,)),
    )


@lru_cache
def _depthwise(rank: int) -> KernelSpec:
    return KernelSpec(
        "conv_depthwise",
        "cpu/conv_depthwise.hxx",
        _depthwise_reference,
        epilogue=(tuple(range(rank - 1)), (rank - 1,)),
    )


def _reference(kernel: Kernel, inputs: list[Array], resolve: Resolve) -> list[Array]:
    t, (x, packed) = dict(kernel.traits), inputs
    w = gemm.unpack(packed, t["O"]).reshape(*t["kernel"], t["C"], t["O"])
    return [sum(_product(seen, w[tap]) for tap, seen in _taps(t, x))]


def _product(a: Array, b: Array) -> Any:
    spend_product(a, b)
    return np.matmul(a, b)


def _depthwise_reference(kernel: Kernel, inputs: list[Array], resolve: Resolve) -> list[Array]:
    x, w = inputs
    return [sum(seen * w[tap] for tap, seen in _taps(dict(kernel.traits), x))]


def _taps(t: dict[str, Any], x: Array) -> Iterator[tuple[tuple[int, ...], Array]]:
    """For each tap of the windows what the outputs see through it."""
    pads = zip(t["pad_begin"], t["pad_end"], strict=True)
    x = conv.padded(x, [(0, 0), *pads, (0, 0)])
    geometry = list(zip(t["kernel"], t["stride"], t["dilation"], strict=True))
    out = [
        (n - (k - 1) * d - 1) // s + 1 for n, (k, s, d) in zip(x.shape[1:-1], geometry, strict=True)
    ]
    for tap in np.ndindex(*t["kernel"]):
        seen = tuple(
            slice(i * d, i * d + (o - 1) * s + 1, s)
            for i, o, (_, s, d) in zip(tap, out, geometry, strict=True)
        )
        part = x[(slice(None), *seen)]
        spend(part.size)
        yield tap, part
