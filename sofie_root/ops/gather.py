"""Reading elements at positions that are data: Gather, GatherElements, GatherND, Compress."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from sofie_root.errors import ShapeError
from sofie_root.ir import (
    Dim,
    DType,
    Op,
    Refuse,
    Shape,
    TensorType,
    operator,
    require_at_most,
    require_equal,
    runtime_size,
)
from sofie_root.program.builder import Builder, Tensor
from sofie_root.program.expr import as_index

from .checks import as_axis
from .sort import true_positions
from .symbolic import carried, known


def require_index_type(indices: TensorType) -> None:
    """States that a tensor holds indices."""
    if indices.dtype not in (DType.INT32, DType.INT64):
        raise ShapeError(f"indices must be int32 or int64, not {indices.dtype}")


def require_within(inner: Shape, outer: Shape, skip: int, why: str) -> None:
    """States that ``inner`` is nowhere larger than ``outer``, axis ``skip`` aside."""
    if len(inner) != len(outer):
        raise ShapeError(f"indices have {len(inner)} axes, data has {len(outer)}")
    for axis, (small, large) in enumerate(zip(inner, outer, strict=True)):
        if axis != skip:
            require_at_most(small, large, why)


@operator("Gather", since=13)
@dataclass(frozen=True, slots=True)
class Gather(Op):
    """Slices of ``data`` along ``axis`` at ``indices``. Source: ONNX Gather-13."""

    moves_data = True

    axis: int = 0

    def infer(self, data: TensorType, indices: TensorType) -> TensorType:
        """The axis is replaced by the shape of the indices."""
        require_index_type(indices)
        if data.rank == 0:
            raise ShapeError("data must have at least one axis")
        axis = as_axis(self.axis, data.rank)
        shape = data.shape[:axis] + indices.shape + data.shape[axis + 1 :]
        extent = data.shape[axis]
        if isinstance(extent, int) and indices.value is not None:
            for i in indices.value:
                if isinstance(i, int) and not -extent <= i < extent:
                    raise ShapeError(f"index {i} is outside axis {axis} of {data}")
        result, at = TensorType(data.dtype, shape), known(indices)
        if at is None or not all(isinstance(i, int) for i in at.flat):
            return result
        return carried(result, data, lambda v: np.take(v, at.astype(np.int64), axis))

    def lower(self, b: Builder, data: Tensor, indices: Tensor) -> Tensor:
        """A loop that reads at the index; a view where the indices are evenly spaced constants."""
        axis = as_axis(self.axis, data.rank)
        shape = data.shape[:axis] + indices.shape + data.shape[axis + 1 :]
        position = _positions(indices, data.shape[axis])
        last = axis + indices.rank
        return b.loop(
            shape,
            lambda *i: data[(*i[:axis], position(i[axis:last]), *i[last:])],
            data.dtype,
        )


def _positions(indices: Tensor, extent: Dim) -> Callable[[tuple[Dim, ...]], Dim]:
    """The position that the element of ``indices`` at an index stands for."""
    values = indices.constant
    if values is not None and values.size and values.ndim <= 1 and isinstance(extent, int):
        flat = [int(v) % extent for v in values.ravel()]
        step = flat[1] - flat[0] if len(flat) > 1 else 0
        if flat == [flat[0] + step * k for k in range(len(flat))]:
            return lambda i: flat[0] + (i[0] * step if i else 0)
    return lambda i: as_index(indices[i], extent)


@operator("GatherElements", since=13)
@dataclass(frozen=True, slots=True)
class GatherElements(Op):
    """The element of ``data`` at each index along ``axis``. Source: ONNX GatherElements-13."""

    moves_data = True

    axis: int = 0

    def infer(self, data: TensorType, indices: TensorType) -> TensorType:
        """The shape of the indices."""
        require_index_type(indices)
        axis = as_axis(self.axis, data.rank)
        require_within(indices.shape, data.shape, axis, "indices must not be larger than data")
        return TensorType(data.dtype, indices.shape)

    def lower(self, b: Builder, data: Tensor, indices: Tensor) -> Tensor:
        """A loop that reads at the index."""
        axis = as_axis(self.axis, data.rank)
        extent = data.shape[axis]
        return b.loop(
            indices.shape,
            lambda *i: data[(*i[:axis], as_index(indices[i], extent), *i[axis + 1 :])],
            data.dtype,
        )


@operator("GatherND", since=13)
@dataclass(frozen=True, slots=True)
class GatherND(Op):
    """Slices of ``data`` at index vectors. Source: ONNX GatherND-13."""

    moves_data = True

    batch_dims: int = 0

    def infer(self, data: TensorType, indices: TensorType) -> TensorType:
        """The last axis of the indices is replaced by what is left of the data."""
        require_index_type(indices)
        length = self._length(indices.shape)
        if not 0 <= self.batch_dims < indices.rank:
            raise ShapeError(f"batch_dims {self.batch_dims} is not below the rank of indices")
        if self.batch_dims + length > data.rank:
            raise ShapeError(f"index vectors of {length} do not fit {data}")
        for k in range(self.batch_dims):
            require_equal(
                data.shape[k], indices.shape[k], "batch axes of data and indices must be equal"
            )
        return TensorType(data.dtype, indices.shape[:-1] + data.shape[self.batch_dims + length :])

    def _length(self, indices: Shape) -> int:
        if not indices:
            raise ShapeError("indices must have at least one axis")
        if not isinstance(indices[-1], int):
            raise Refuse("the length of the index vectors must be known")
        return indices[-1]

    def lower(self, b: Builder, data: Tensor, indices: Tensor) -> Tensor:
        """A loop that reads at the index vector."""
        batch, length = self.batch_dims, self._length(indices.shape)
        outer = indices.rank - 1
        shape = indices.shape[:-1] + data.shape[batch + length :]

        def body(*i: Dim) -> Any:
            vector = (
                as_index(indices[(*i[:outer], k)], data.shape[batch + k]) for k in range(length)
            )
            return data[(*i[:batch], *vector, *i[outer:])]

        return b.loop(shape, body, data.dtype)


@operator("Compress", since=11)
@dataclass(frozen=True, slots=True)
class Compress(Op):
    """The slices along ``axis`` whose condition is true. Source: ONNX Compress-11."""

    moves_data = True

    axis: int | None = None

    def infer(self, data: TensorType, condition: TensorType) -> TensorType:
        """The axis (or the flattened tensor) has a size known only at run time."""
        if condition.dtype is not DType.BOOL or condition.rank != 1:
            raise ShapeError(f"condition must be a vector of bool, not {condition}")
        if self.axis is None:
            extent: Dim = data.numel
            shape: Shape = (runtime_size(0),)
        else:
            axis = as_axis(self.axis, data.rank)
            extent = data.shape[axis]
            shape = (*data.shape[:axis], runtime_size(0, axis), *data.shape[axis + 1 :])
        require_at_most(condition.shape[0], extent, "condition must not be longer than data")
        return TensorType(data.dtype, shape)

    def lower(self, b: Builder, data: Tensor, condition: Tensor) -> Tensor:
        """The positions of the true elements, then a loop that reads there."""
        if self.axis is None:
            data, axis = b.reshape(data, (data.type.numel,)), 0
        else:
            axis = as_axis(self.axis, data.rank)
        size = b.outputs[0].shape[axis]
        positions = true_positions(b, condition, size)
        shape = (*data.shape[:axis], size, *data.shape[axis + 1 :])
        extent = data.shape[axis]
        return b.loop(
            shape,
            lambda *i: data[(*i[:axis], as_index(positions[i[axis]], extent), *i[axis + 1 :])],
            data.dtype,
        )
