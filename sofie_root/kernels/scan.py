"""Running sums and products (``core/scan.hxx``)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from sofie_root.ir.dim import Dim
from sofie_root.program.builder import Builder, Tensor
from sofie_root.program.program import Extents, In, Kernel, KernelSpec, Out

from .sort import around

Array = npt.NDArray[Any]
Resolve = Callable[[Dim], int]

FUNCTORS = {"add": "sofie::reduction::Add", "mul": "sofie::reduction::Mul"}
"""C++ functors of ``core/reduction.hxx`` by how elements join."""


def scan(
    b: Builder, x: Tensor, axis: int | Tensor, kind: str, exclusive: bool, reverse: bool
) -> Tensor:
    """Sums (``kind`` "add") or products ("mul") of ``x`` up to each position along ``axis``.

    Args:
        b: the builder.
        x: the input in a dtype that is computed in.
        axis: a number, or a tensor that holds it at run time.
        kind: how elements join; a key of :data:`FUNCTORS`.
        exclusive: whether an element itself is left out.
        reverse: whether to start from the end.
    """
    traits: tuple[tuple[str, int], ...] = (("exclusive", exclusive), ("reverse", reverse))
    out, types = (x.type.with_value(None),), (FUNCTORS[kind],)
    if isinstance(axis, int):
        args = (*around(x.shape, axis), In(0), Out(0))
        (y,) = b.kernel(SCAN, args, (x,), out, traits, types)
    else:
        extents, traits = Extents(x.shape), (*traits, ("rank", x.rank))
        (y,) = b.kernel(SCAN_ALONG, (extents, In(1), In(0), Out(0)), (x, axis), out, traits, types)
    return y


def _scanned(kernel: Kernel, x: Array) -> Array:
    """``x[outer, n, inner]`` scanned along its middle axis."""
    add = kernel.types[0] == FUNCTORS["add"]
    x = x[:, ::-1] if kernel.trait("reverse") else x
    y = (np.cumsum if add else np.cumprod)(x, axis=1, dtype=x.dtype)
    if kernel.trait("exclusive"):
        first = np.full_like(y[:, :1], 0 if add else 1)
        y = np.concatenate([first, y[:, :-1]], axis=1)
    return y[:, ::-1] if kernel.trait("reverse") else y


def _reference(kernel: Kernel, inputs: list[Array], resolve: Resolve) -> list[Array]:
    outer, n, inner = (resolve(d) for d in kernel.args[:3])  # type: ignore[arg-type]
    return [_scanned(kernel, inputs[0].reshape(outer, n, inner))]


def _along_reference(kernel: Kernel, inputs: list[Array], resolve: Resolve) -> list[Array]:
    x, axis = inputs[0], int(inputs[1].reshape(()))
    if not -x.ndim <= axis < x.ndim:
        raise IndexError(f"axis {axis} of a tensor of {x.ndim} axes")
    axis %= x.ndim
    shape = (int(np.prod(x.shape[:axis])), x.shape[axis], int(np.prod(x.shape[axis + 1 :])))
    return [_scanned(kernel, x.reshape(shape))]


SCAN = KernelSpec("scan", "core/scan.hxx", _reference)
SCAN_ALONG = KernelSpec("scan_along", "core/scan.hxx", _along_reference)
