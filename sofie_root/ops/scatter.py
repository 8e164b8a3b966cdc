"""Writing to positions that are data: ScatterElements, ScatterND, TensorScatter."""

from __future__ import annotations

from dataclasses import dataclass

from sofie_root.errors import ShapeError
from sofie_root.ir import (
    Dim,
    DType,
    Op,
    Refuse,
    TensorType,
    operator,
    require_at_most,
    require_equal,
)
from sofie_root.ir.dim import mod
from sofie_root.program.builder import Builder, Tensor
from sofie_root.program.expr import Expr, as_index, call, guard, index
from sofie_root.program.statement import Update

from .checks import as_axis
from .gather import require_index_type, require_within

UPDATES: dict[str, Update] = {
    "none": "replace",
    "add": "sum",
    "mul": "prod",
    "max": "max",
    "min": "min",
}
"""ONNX's names of how a scattered value meets the one that is there."""


def scatter_elements(
    b: Builder, data: Tensor, indices: Tensor, updates: Tensor, axis: int, reduction: str
) -> Tensor:
    """``data`` with each update written, or combined, at its index along ``axis``."""

    def body(*i: Dim) -> tuple[tuple[Dim, ...], Expr]:
        at = as_index(indices[i], data.shape[axis])
        return (*i[:axis], at, *i[axis + 1 :]), updates[i]

    return b.scatter(data, indices.shape, body, UPDATES[reduction])


def _check_reduction(reduction: str, dtype: DType) -> None:
    if reduction not in UPDATES:
        raise ShapeError(f"reduction {reduction!r} is none of {', '.join(UPDATES)}")
    if reduction != "none" and dtype is DType.BOOL:
        raise Refuse(f"reduction {reduction!r} of bool")


@operator("ScatterElements", since=18)
@dataclass(frozen=True, slots=True)
class ScatterElements(Op):
    """``data`` with elements replaced or combined. Source: ONNX ScatterElements-18."""

    axis: int = 0
    reduction: str = "none"

    def infer(self, data: TensorType, indices: TensorType, updates: TensorType) -> TensorType:
        """The type of the data."""
        require_index_type(indices)
        _check_reduction(self.reduction, data.dtype)
        if data.dtype is not updates.dtype:
            raise ShapeError(f"data is {data.dtype}, updates are {updates.dtype}")
        axis = as_axis(self.axis, data.rank)
        require_within(indices.shape, data.shape, axis, "indices must not be larger than data")
        if indices.rank != updates.rank:
            raise ShapeError(f"indices have {indices.rank} axes, updates {updates.rank}")
        for i, u in zip(indices.shape, updates.shape, strict=True):
            require_equal(i, u, "indices and updates must have one shape")
        return TensorType(data.dtype, data.shape)

    def lower(self, b: Builder, data: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
        """A copy of the data, and a loop that writes into it at the index."""
        axis, compute = as_axis(self.axis, data.rank), data.dtype.compute
        y = scatter_elements(
            b, b.cast(data, compute), indices, b.cast(updates, compute), axis, self.reduction
        )
        return b.cast(y, data.dtype)


@operator("ScatterND", since=18)
@dataclass(frozen=True, slots=True)
class ScatterND(Op):
    """``data`` with slices replaced or combined. Source: ONNX ScatterND-18."""

    reduction: str = "none"

    def infer(self, data: TensorType, indices: TensorType, updates: TensorType) -> TensorType:
        """The type of the data."""
        if indices.dtype is not DType.INT64:
            raise ShapeError(f"indices must be int64, not {indices.dtype}")
        _check_reduction(self.reduction, data.dtype)
        if data.dtype is not updates.dtype:
            raise ShapeError(f"data is {data.dtype}, updates are {updates.dtype}")
        if indices.rank == 0 or data.rank == 0:
            raise ShapeError("data and indices must have at least one axis")
        length = indices.shape[-1]
        if not isinstance(length, int) or length == 0:
            raise Refuse("the length of the index vectors must be known and at least 1")
        if length > data.rank:
            raise ShapeError(f"index vectors of {length} do not fit {data}")
        expected = indices.shape[:-1] + data.shape[length:]
        if len(expected) != updates.rank:
            raise ShapeError(f"updates have {updates.rank} axes, expected {len(expected)}")
        for e, u in zip(expected, updates.shape, strict=True):
            require_equal(e, u, "updates must have the shape of the indexed slices")
        return TensorType(data.dtype, data.shape)

    def lower(self, b: Builder, data: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
        """A copy of the data, and a loop that writes slices into it at the index vectors."""
        compute, outer, length = data.dtype.compute, indices.rank - 1, indices.shape[-1]
        assert isinstance(length, int)

        def body(*i: Dim) -> tuple[tuple[Dim, ...], Expr]:
            vector = (
                as_index(indices[(*i[:outer], k)], d) for k, d in enumerate(data.shape[:length])
            )
            return (*vector, *i[outer:]), updates[i]

        updates = b.cast(updates, compute)
        y = b.scatter(b.cast(data, compute), updates.shape, body, UPDATES[self.reduction])
        return b.cast(y, data.dtype)


@operator("TensorScatter", since=24)
@dataclass(frozen=True, slots=True)
class TensorScatter(Op):
    """A cache with some of its steps replaced, from an index per batch on.

    Source: ONNX TensorScatter-24.
    """

    axis: int = -2
    mode: str = "linear"

    def infer(
        self, cache: TensorType, update: TensorType, start: TensorType | None = None
    ) -> TensorType:
        """The type of the cache."""
        axis = as_axis(self.axis, cache.rank)
        if self.mode not in ("linear", "circular"):
            raise ShapeError(f"mode {self.mode!r} does not exist")
        if axis == 0 or update.rank != cache.rank or update.dtype is not cache.dtype:
            raise ShapeError(f"{update} does not fit into {cache} along axis {axis}")
        for k in range(cache.rank):
            if k != axis:
                require_equal(update.shape[k], cache.shape[k], "sizes of update and cache")
        require_at_most(
            update.shape[axis], cache.shape[axis], "the update is longer than the cache"
        )
        if start is not None:
            require_index_type(start)
            if start.rank != 1:
                raise ShapeError(f"write_indices must have 1 axis, not {start.rank}")
            require_equal(start.shape[0], cache.shape[0], "one start for each batch")
        return cache.with_value(None)

    def lower(
        self, b: Builder, cache: Tensor, update: Tensor, start: Tensor | None = None
    ) -> Tensor:
        """One loop that reads the update where it covers the cache."""
        axis = as_axis(self.axis, cache.rank)
        size, steps = cache.shape[axis], update.shape[axis]
        room = size if self.mode == "circular" else size - steps + 1  # places it may start at

        def body(*i: Dim) -> Expr:
            first: Dim = 0 if start is None else as_index(start[i[0]], room)
            step = i[axis] - first
            if self.mode == "circular":
                step = mod(step + size, size)
            place = index(step)
            inside = call("logical_and", place >= 0, place < index(steps))
            new = update[tuple(step if k == axis else d for k, d in enumerate(i))]
            return guard(inside, new, cache[i])

        return b.loop(cache.shape, body, cache.dtype)
