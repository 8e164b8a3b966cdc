"""Pooling over sliding windows (``cpu/pool.hxx``)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from sofie_root.budget import STATEMENT, spend
from sofie_root.ir.dim import Dim, product
from sofie_root.ir.dtype import DType
from sofie_root.ir.types import Shape, TensorType
from sofie_root.program.builder import Builder, Tensor
from sofie_root.program.program import Extents, In, Kernel, KernelSpec, Out

Array = npt.NDArray[Any]
Resolve = Callable[[Dim], int]
Traits = tuple[tuple[str, Any], ...]


def max_pool(
    b: Builder, x: Tensor, window: Traits, out: Shape, column_major: bool
) -> tuple[Tensor, Tensor]:
    """The maximum of each window of ``x[N, C, ...]``, and where in all of ``x`` it was (INT64).

    Args:
        b: the builder.
        x: the input in a dtype that is computed in.
        window: kernel, stride, dilation, pad_begin and pad_end.
        out: spatial sizes of the result.
        column_major: whether the positions count the first spatial axis fastest.
    """
    traits = (*window, ("storage_order", int(column_major)))
    y, indices = _pool(b, MAX_POOL, x, traits, out, (x.dtype, DType.INT64))
    return y, indices


def average_pool(b: Builder, x: Tensor, window: Traits, out: Shape, include_pad: bool) -> Tensor:
    """The mean of each window; padding counts if ``include_pad``. Otherwise as :func:`max_pool`."""
    traits = (*window, ("count_include_pad", include_pad))
    return _pool(b, AVERAGE_POOL, x, traits, out, (x.dtype,))[0]


def lp_pool(b: Builder, x: Tensor, window: Traits, out: Shape, p: int) -> Tensor:
    """The p-norm of each window. Otherwise as :func:`max_pool`."""
    return _pool(b, LP_POOL, x, (*window, ("p", p)), out, (x.dtype,))[0]


def max_pool_channels_last(b: Builder, x: Tensor, window: Traits, out: Shape) -> Tensor:
    """The maximum of each window of ``x[N, ..., C]``, float."""
    return _pool_channels_last(b, MAX_POOL_CHANNELS_LAST, x, window, out)


def average_pool_channels_last(
    b: Builder, x: Tensor, window: Traits, out: Shape, include_pad: bool
) -> Tensor:
    """The mean of each window of ``x[N, ..., C]``, float; padding counts if ``include_pad``."""
    traits = (*window, ("count_include_pad", include_pad))
    return _pool_channels_last(b, AVERAGE_POOL_CHANNELS_LAST, x, traits, out)


def _pool_channels_last(
    b: Builder, spec: KernelSpec, x: Tensor, traits: Traits, out: Shape
) -> Tensor:
    batch, *spatial, channels = x.shape
    (y,) = b.kernel(
        spec,
        (batch, channels, Extents(tuple(spatial)), Extents(out), In(0), Out(0)),
        (x,),
        (TensorType(x.dtype, (batch, *out, channels)),),
        (("rank", len(out)), *traits),
    )
    return y


def _pool(
    b: Builder, spec: KernelSpec, x: Tensor, traits: Traits, out: Shape, dtypes: tuple[DType, ...]
) -> tuple[Tensor, ...]:
    planes, spatial = product(x.shape[:2]), x.shape[2:]
    types = tuple(TensorType(dtype, (*x.shape[:2], *out)) for dtype in dtypes)
    return b.kernel(
        spec,
        (planes, Extents(spatial), Extents(out), In(0), *(Out(k) for k in range(len(types)))),
        (x,),
        types,
        (("rank", len(out)), *traits),
    )


def _taps(
    kernel: Kernel, x: Array, resolve: Resolve
) -> Iterator[tuple[Array, Array, Array, Array]]:
    """For each tap of the windows: value, inside the input, inside its padding, and position."""
    t = dict(kernel.traits)
    extents = next(a for a in reversed(kernel.args) if isinstance(a, Extents))
    out, spatial = [resolve(d) for d in extents.dims], x.shape[2:]
    spend(prod(t["kernel"]) * (10 * STATEMENT + 20 * prod((*x.shape[:2], *out))))
    for tap in np.ndindex(*t["kernel"]):
        at = [
            np.arange(o) * s + i * d - p
            for o, s, i, d, p in zip(
                out, t["stride"], tap, t["dilation"], t["pad_begin"], strict=True
            )
        ]
        grid = np.meshgrid(*at, indexing="ij")
        inside = np.ones(out, bool)
        padded = np.ones(out, bool)
        for a, n, end in zip(grid, spatial, t["pad_end"], strict=True):
            inside &= (a >= 0) & (a < n)
            padded &= a < n + end
        near = [np.clip(a, 0, n - 1) for a, n in zip(grid, spatial, strict=True)]
        where: Any = (slice(None), slice(None), *near)
        order = "F" if t.get("storage_order") else "C"
        yield x[where], inside, padded, np.ravel_multi_index(near, spatial, order=order)  # type: ignore[call-overload]


def _max_reference(kernel: Kernel, inputs: list[Array], resolve: Resolve) -> list[Array]:
    x = inputs[0]
    lowest = -np.inf if np.issubdtype(x.dtype, np.floating) else np.iinfo(x.dtype).min
    best: Array | None = None
    for value, inside, _, position in _taps(kernel, x, resolve):
        if best is None:
            best = np.full(value.shape, lowest, x.dtype)
            places = np.zeros(value.shape, np.int64)
            found = np.zeros(value.shape, bool)
        better = inside & ((value > best) | ~found | ((value != value) & (best == best)))
        best, places = np.where(better, value, best), np.where(better, position, places)
        found |= inside
    assert best is not None
    planes = np.arange(x.shape[0] * x.shape[1]).reshape(*x.shape[:2], *(1,) * (x.ndim - 2))
    return [best, places + planes * int(np.prod(x.shape[2:]))]


def _average_reference(kernel: Kernel, inputs: list[Array], resolve: Resolve) -> list[Array]:
    total: Any = 0
    count: Any = 0
    for value, inside, padded, _ in _taps(kernel, inputs[0], resolve):
        total = total + np.where(inside, value, 0)
        count = count + (padded if kernel.trait("count_include_pad") else inside).astype(int)
    return [(total / np.maximum(count, 1)).astype(inputs[0].dtype)]


def _lp_reference(kernel: Kernel, inputs: list[Array], resolve: Resolve) -> list[Array]:
    p, total = kernel.trait("p"), np.zeros(())
    for value, inside, _, _ in _taps(kernel, inputs[0], resolve):
        total = total + np.where(inside, np.abs(value) ** p, 0)
    return [(total ** (1 / p)).astype(inputs[0].dtype)]


MAX_POOL = KernelSpec("max_pool", "cpu/pool.hxx", _max_reference)
AVERAGE_POOL = KernelSpec("average_pool", "cpu/pool.hxx", _average_reference)
LP_POOL = KernelSpec("lp_pool", "cpu/pool.hxx", _lp_reference)


def _channels_last(
    reference: Callable[[Kernel, list[Array], Resolve], list[Array]],
) -> Callable[[Kernel, list[Array], Resolve], list[Array]]:
    """The same for an input and a result with the channels last."""

    def moved(kernel: Kernel, inputs: list[Array], resolve: Resolve) -> list[Array]:
        first = np.moveaxis(inputs[0], -1, 1)
        return [np.ascontiguousarray(np.moveaxis(reference(kernel, [first], resolve)[0], 1, -1))]

    return moved


MAX_POOL_CHANNELS_LAST = KernelSpec(
    "max_pool_channels_last", "cpu/pool.hxx", _channels_last(_max_reference)
)
AVERAGE_POOL_CHANNELS_LAST = KernelSpec(
    "average_pool_channels_last", "cpu/pool.hxx", _channels_last(_average_reference)
)
