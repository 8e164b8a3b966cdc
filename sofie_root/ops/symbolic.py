"""Content of small integer tensors, known as dims while parsing: how ``infer`` computes with shapes.

The content is handled as a NumPy array of Python objects (ints and Polys), so that NumPy's own reshaping,
joining and slicing serve symbolic values too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from sofie_root.ir import Dim, DType, Shape, TensorType
from sofie_root.ir.types import MAX_KNOWN_VALUES
from sofie_root.program.builder import Tensor
from sofie_root.program.expr import as_index

Values = npt.NDArray[np.object_]


def is_static(shape: Shape) -> bool:
    """Whether every dim is an int."""
    return all(isinstance(d, int) for d in shape)


def known(x: TensorType) -> Values | None:
    """The content as an object array of the tensor's shape, or None where it is not known."""
    if x.value is None or not is_static(x.shape):
        return None
    values = np.empty(len(x.value), object)
    values[:] = x.value
    return values.reshape(x.shape)


def with_values(type_: TensorType, values: Any) -> TensorType:
    """The type with this content (anything array-like), unless it is too large to carry along."""
    array = np.asarray(values, object)
    if array.size > MAX_KNOWN_VALUES:
        return type_
    return type_.with_value(tuple(array.ravel()))


def carried(result: TensorType, x: TensorType, move: Callable[[Values], Any]) -> TensorType:
    """The result's type with the content of ``x`` moved to its new places, where it is known."""
    values = known(x)
    if values is None or not is_static(result.shape) or int(result.numel) > MAX_KNOWN_VALUES:  # type: ignore[arg-type]
        return result
    return with_values(result, move(values))


def elementwise(
    result: TensorType, function: Callable[..., Dim | None], *inputs: TensorType
) -> TensorType:
    """The result's type with ``function`` applied to the broadcast contents.

    The content stays unknown where an input's is, or where ``function`` gives None for any element.
    """
    contents = [known(x) for x in inputs]
    if any(c is None for c in contents) or not is_static(result.shape):
        return result
    if int(result.numel) > MAX_KNOWN_VALUES:  # type: ignore[arg-type]
        return result
    expanded = [np.broadcast_to(c, result.shape).ravel() for c in contents if c is not None]
    values = []
    for row in zip(*expanded, strict=True):
        value = function(*row)
        if value is None:
            return result
        values.append(value)
    return with_values(result, np.array([*values, None], object)[:-1])


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


def wraps(dtype: DType, value: Dim) -> Dim | None:
    """``value`` as the given integer type stores it; None where that is not known."""
    if not isinstance(value, int):
        return value if dtype in (DType.INT64, DType.INT32) else None
    bits = 8 * dtype.size
    value %= 1 << bits
    return value - (1 << bits) if dtype.is_signed and value >> (bits - 1) else value
