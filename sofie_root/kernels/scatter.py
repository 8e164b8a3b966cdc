"""Writing to positions that are data (``scatter.hxx``)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from sofie_root.ir.dim import Dim, product
from sofie_root.program.builder import Builder, Tensor
from sofie_root.program.program import Extents, In, Kernel, KernelSpec, Out

Array = npt.NDArray[Any]
Resolve = Callable[[Dim], int]
Meeting: TypeAlias = Literal["none", "add", "mul", "max", "min"]

MEETINGS: dict[str, tuple[str, Callable[[Any, Any], Any]]] = {
    "none": ("sofie::reduction::None", lambda old, update: update),
    "add": ("sofie::reduction::Add", lambda old, update: old + update),
    "mul": ("sofie::reduction::Mul", lambda old, update: old * update),
    "max": ("sofie::reduction::Max", np.maximum),
    "min": ("sofie::reduction::Min", np.minimum),
}
"""How a scattered value meets the old one: C++ functor and NumPy function."""


def scatter_elements(
    b: Builder, data: Tensor, indices: Tensor, updates: Tensor, axis: int, reduction: str
) -> Tensor:
    """``data`` with each update written (or combined) at its index along ``axis``."""
    (y,) = b.kernel(
        SCATTER_ELEMENTS,
        (Extents(data.shape), Extents(indices.shape), In(0), In(1), In(2), Out(0)),
        (data, indices, updates),
        (data.type.with_value(None),),
        (("rank", data.rank), ("axis", axis)),
        (MEETINGS[reduction][0],),
    )
    return y


def scatter_nd(
    b: Builder, data: Tensor, indices: Tensor, updates: Tensor, reduction: str
) -> Tensor:
    """``data`` with each slice of ``updates`` written (or combined) at its index vector."""
    length = indices.shape[-1]
    assert isinstance(length, int)
    count, slice_size = product(indices.shape[:-1]), product(data.shape[length:])
    (y,) = b.kernel(
        SCATTER_ND,
        (Extents(data.shape[:length]), count, slice_size, In(0), In(1), In(2), Out(0)),
        (data, indices, updates),
        (data.type.with_value(None),),
        (("length", length),),
        (MEETINGS[reduction][0],),
    )
    return y


def _function(kernel: Kernel) -> Callable[[Any, Any], Any]:
    return next(f for name, f in MEETINGS.values() if name == kernel.types[0])


def _checked(index: int, extent: int) -> int:
    if not -extent <= index < extent:
        raise IndexError(f"Scatter: index {index} into an axis of {extent}")
    return index % extent


def _elements_reference(kernel: Kernel, inputs: list[Array], resolve: Resolve) -> list[Array]:
    data, indices, updates = inputs
    axis, meet, out = kernel.trait("axis"), _function(kernel), np.array(data)
    for at in np.ndindex(*indices.shape):
        target = list(at)
        target[axis] = _checked(int(indices[at]), out.shape[axis])
        out[tuple(target)] = meet(out[tuple(target)], updates[at])
    return [out]


def _nd_reference(kernel: Kernel, inputs: list[Array], resolve: Resolve) -> list[Array]:
    data, indices, updates = inputs
    length, meet, out = kernel.trait("length"), _function(kernel), np.array(data)
    for at in np.ndindex(*indices.shape[:-1]):
        vector = (_checked(int(i), n) for i, n in zip(indices[at], out.shape[:length], strict=True))
        target = tuple(vector)
        out[target] = meet(out[target], updates[at])
    return [out]


SCATTER_ELEMENTS = KernelSpec("scatter_elements", "scatter.hxx", _elements_reference)
SCATTER_ND = KernelSpec("scatter_nd", "scatter.hxx", _nd_reference)
