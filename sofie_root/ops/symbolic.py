"""Content of small integer tensors, known while parsing: how ``infer`` computes with shapes.

The content is handled as a NumPy array of Python objects (ints and Polys), so that NumPy's own
reshaping, joining and slicing serve symbolic values too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sofie_root.ir import Dim, DType, Shape, TensorType
from sofie_root.ir.types import MAX_KNOWN_VALUES
from sofie_root.program.builder import Builder, Tensor
from sofie_root.program.expr import as_index, index

from .computed_axes import bound

Values = npt.NDArray[np.object_]


def static(shape: Shape) -> tuple[int, ...] | None:
    """The shape as ints, or None where a dim is symbolic."""
    ints = tuple(d for d in shape if isinstance(d, int))
    return ints if len(ints) == len(shape) else None


def pack(values: Sequence[Dim]) -> Values:
    """The dims as an array of one axis."""
    array = np.empty(len(values), object)
    array[:] = values
    return array


def known(x: TensorType) -> Values | None:
    """The content as an object array of the tensor's shape, or None where it is not known."""
    shape = static(x.shape)
    return None if x.value is None or shape is None else pack(x.value).reshape(shape)


def with_values(type_: TensorType, values: Any) -> TensorType:
    """The type with this content (anything array-like), unless it is too large to carry along."""
    array = np.asarray(values, object)
    if array.size > MAX_KNOWN_VALUES:
        return type_
    return type_.with_value(tuple(array.ravel()))


def _is_small(shape: tuple[int, ...] | None) -> bool:
    return shape is not None and math.prod(shape) <= MAX_KNOWN_VALUES


def carried(result: TensorType, x: TensorType, move: Callable[[Values], Any]) -> TensorType:
    """The result's type with the content of ``x`` moved to its new places, where it is known."""
    values = known(x)
    if values is None or not _is_small(static(result.shape)):
        return result
    return with_values(result, move(values))


def elementwise(
    result: TensorType, function: Callable[..., Dim | None], *inputs: TensorType
) -> TensorType:
    """The result's type with ``function`` applied to the broadcast contents.

    The content stays unknown where an input's is, or where ``function`` gives None for any element.
    """
    shape = static(result.shape)
    contents = [c for c in map(known, inputs) if c is not None]
    if shape is None or not _is_small(shape) or len(contents) != len(inputs):
        return result
    values: list[Dim] = []
    for row in zip(*(np.broadcast_to(c, shape).ravel() for c in contents), strict=True):
        value = function(*row)
        if value is None:
            return result
        values.append(value)
    return with_values(result, pack(values))


def dims_of(x: Tensor) -> tuple[Dim, ...]:
    """The content of a shape-like input as dims: known ones, else checked reads at run time.

    The tensor has one axis (or none) of static length.
    """
    if x.type.value is not None:
        return x.type.value
    if x.rank == 0:
        return (as_index(x[()]),)
    length = x.shape[0]
    assert isinstance(length, int)
    return tuple(as_index(x[k]) for k in range(length))


def sizes_of(b: Builder, x: Tensor, what: str) -> tuple[Dim, ...]:
    """The content of a shape-like input as sizes: known ones, else symbols bound to checked reads.

    Args:
        b: the builder.
        x: a tensor with one axis of static length.
        what: unique among the sizes of the node that is being lowered.
    """
    if x.type.value is not None:
        return x.type.value
    return tuple(bound(b, f"{what}:{k}", index(d)) for k, d in enumerate(dims_of(x)))


def wraps(dtype: DType, value: Dim) -> Dim | None:
    """``value`` as the given integer type stores it; None where that is not known."""
    if not isinstance(value, int):
        return value if dtype in (DType.INT64, DType.INT32) else None
    bits = 8 * dtype.size
    value %= 1 << bits
    return value - (1 << bits) if dtype.is_signed and value >> (bits - 1) else value
