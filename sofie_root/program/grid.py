"""Expressions in NumPy, at all points of a loop at once, and the memory that they read.

Each index variable is an ``arange`` along its own axis and NumPy's broadcasting does the rest. Reads whose
indices are ``offset + step * variable`` are slices, all others gather through index arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from sofie_root.budget import Account, account
from sofie_root.errors import InputError
from sofie_root.ir import DType
from sofie_root.ir.dim import Atom, Dim, Symbol, linear

from .expr import Acc, Call, Cell, Const, Expr, Index, Load, ResultSize
from .functions import convert
from .program import MOST_ELEMENTS, Buffer, Program
from .scalar import FUNCTIONS

Array = npt.NDArray[Any]

CALL = 4
"""Operations per element of a loop or a read."""


@dataclass(slots=True)
class Memory:
    """What has been computed so far: arrays of buffers and values of size symbols."""

    program: Program
    arrays: dict[str, Array]
    sizes: dict[Atom, int]
    double: bool = False
    account: Account = field(default_factory=account)
    results: dict[str, list[Array]] = field(default_factory=dict)

    def buffer(self, name: str) -> Buffer:
        """Shape and type of a buffer."""
        return self.program.buffers[name]

    def numpy(self, dtype: DType) -> np.dtype[Any]:
        """The type in which a tensor of that type is kept here."""
        return DType.DOUBLE.numpy if self.double and dtype.is_float else dtype.numpy

    def store(self, value: Array, dtype: DType) -> Array:
        """A value as a tensor of that type keeps it."""
        kept = self.numpy(dtype)
        value = convert(value, kept) if value.dtype != kept else value
        if kept != dtype.numpy:
            largest = ml_dtypes.finfo(dtype.numpy).max  # type: ignore[no-untyped-call]
            too_large = np.abs(value) > float(largest)
            if np.any(too_large):
                value = np.where(too_large, np.copysign(np.inf, value), value)
        return value

    def array(self, buffer: str) -> Array:
        """The content of a buffer; one without elements needs no statement to write it."""
        if buffer not in self.arrays and 0 not in self.shape(self.buffer(buffer).shape):
            raise KeyError(f"{buffer} of {self.program.name} is read before it is written")
        return self.target(buffer)

    def assign(self, buffer: str, value: Array) -> None:
        """Makes an array of the buffer's shape and type its content."""
        self.arrays[buffer] = value

    def target(self, buffer: str) -> Array:
        """The array of a buffer that statements fill piece by piece."""
        if buffer not in self.arrays:
            declared = self.buffer(buffer)
            self.arrays[buffer] = self.zeros(self.shape(declared.shape), self.numpy(declared.dtype))
        return self.arrays[buffer]

    def changeable(self, buffer: str) -> Array:
        """The content of a buffer in an array of its own: what a loop made may be a view of others."""
        before = self.array(buffer)
        made = self.made(before.shape, before.dtype, lambda: np.array(before, order="C"))
        self.arrays[buffer] = made
        return made

    def contiguous(self, buffer: str) -> Array:
        """The content of a buffer in row-major order: a copy only where needed."""
        array = self.array(buffer)
        if array.flags.c_contiguous:
            return array
        return self.made(array.shape, array.dtype, lambda: np.array(array, order="C"))

    def zeros(self, shape: Sequence[int], dtype: np.dtype[Any]) -> Array:
        """A new array of zeros."""
        return self.made(shape, dtype, lambda: np.zeros(shape, dtype))

    def made(self, shape: Sequence[int], dtype: np.dtype[Any], make: Callable[[], Array]) -> Array:
        """What ``make`` returns, once there is memory for an array of that shape."""
        self.account.reserve(prod(shape) * dtype.itemsize)
        array = np.asarray(make())
        self.account.hold(array if array.base is None else array.base)
        return array

    def size(self, dim: Dim) -> int:
        """The number that a size expression stands for."""
        return int(Grid(self, ()).dim(dim))

    def shape(self, dims: Sequence[Dim]) -> tuple[int, ...]:
        """The numbers that a shape stands for."""
        sizes = tuple(self.size(d) for d in dims)
        if min(sizes, default=0) < 0 or prod(max(n, 1) for n in sizes) > MOST_ELEMENTS:
            shown = " and ".join("[" + ", ".join(map(str, s)) + "]" for s in (dims, sizes))
            raise InputError(f"{self.program.name}: no tensor can have the shape {shown}")
        return sizes


class Grid:
    """The points of a loop: evaluates expressions at all of them at once.

    Every value is an array that broadcasts to the grid's shape (one axis per variable).
    """

    def __init__(
        self,
        memory: Memory,
        variables: Sequence[Symbol],
        ranges: Sequence[tuple[int, int]] = (),
        acc: Array | None = None,
        in_own_type: bool = False,
    ) -> None:
        self.memory = memory
        self._in_own_type = (
            in_own_type  # whether floats are computed as they are without ``double``
        )
        self.axes: dict[Atom, int] = {v: axis for axis, v in enumerate(variables)}
        self.ranges = tuple(ranges)
        self.acc = acc
        self._mask: Array | None = None  # where the guards around the current expression hold
        self._atoms: dict[tuple[Atom, int], Any] = {}
        self._values: dict[tuple[int, int, bool], Array] = {}
        self._alive: list[Any] = []  # what the ids in the keys above belong to

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of points along each variable."""
        return tuple(stop - start for start, stop in self.ranges)

    # -- index expressions -------------------------------------------------------------------------
    def dim(self, dim: Dim) -> Any:
        """An index expression: an int where no variable is in it, else an INT64 array."""
        if isinstance(dim, int):
            return dim
        total: Any = 0
        for monomial, coefficient in dim.terms:
            term: Any = coefficient
            for atom, power in monomial:
                term = term * self._atom(atom) ** power
            total = total + term
        return total

    def _atom(self, atom: Atom) -> Any:
        key = (atom, id(self._mask))
        if key not in self._atoms:
            self._atoms[key] = self._evaluate_atom(atom)
        return self._atoms[key]

    def _evaluate_atom(self, atom: Atom) -> Any:
        if isinstance(atom, Cell):
            return self._cell(atom)
        if atom in self.axes:
            axis = self.axes[atom]
            start, stop = self.ranges[axis]
            rank = len(self.axes)
            shape = [stop - start if a == axis else 1 for a in range(rank)]
            positions = np.dtype(np.int64)
            return self.memory.made(
                shape, positions, lambda: np.arange(start, stop, dtype=positions).reshape(shape)
            )
        if isinstance(atom, Symbol):
            if atom not in self.memory.sizes:
                raise KeyError(f"size {atom} of {self.memory.program.name} has no value yet")
            return self.memory.sizes[atom]
        return atom.evaluate(tuple(self.dim(d) for d in atom.dims()), self._atom)

    def _cell(self, cell: Cell) -> Any:
        before, self._in_own_type = self._in_own_type, True
        value = self.value(cell.expr).astype(np.int64)
        self._in_own_type = before
        if cell.extent is not None:
            extent = self.dim(cell.extent)
            inside = (value >= -extent) & (value < extent)
            self._demand(inside, f"index {cell.expr} is not below {cell.extent}")
            value = np.where(value < 0, value + extent, value)
        return int(value.reshape(())) if value.size == 1 else value

    def _demand(self, holds: Any, message: str) -> None:
        """Raises IndexError where ``holds`` is false at a point that the guards let through."""
        if self._mask is not None:
            holds = holds | ~self._mask
        if 0 not in self.shape and not np.all(holds):
            raise IndexError(f"{message} ({self.memory.program.name})")

    # -- values ------------------------------------------------------------------------------------
    def value(self, expr: Expr) -> Array:
        """An expression at every point, in the expression's dtype."""
        key = (id(expr), id(self._mask), self._in_own_type)
        if key not in self._values:
            self._alive.append(expr)
            self._values[key] = np.asarray(self._evaluate(expr))
        return self._values[key]

    def _numpy(self, dtype: DType) -> np.dtype[Any]:
        """The type in which values of that type are computed here."""
        return dtype.numpy if self._in_own_type else self.memory.numpy(dtype)

    def _evaluate(self, expr: Expr) -> Array:
        if isinstance(expr, Const):
            return np.asarray(expr.value, self._numpy(expr.dtype))
        if isinstance(expr, Index):
            return np.asarray(self.dim(expr.dim), np.int64)
        if isinstance(expr, Load):
            return self._load(expr)
        if isinstance(expr, ResultSize):
            shape = self.memory.results[expr.control][expr.k].shape
            return np.asarray(shape[expr.axis], np.int64)
        if isinstance(expr, Acc):
            assert self.acc is not None, "acc outside an epilogue"
            return self.acc
        assert isinstance(expr, Call), expr
        if expr.function == "guard":
            return self._guard(*expr.args)
        args = [self.value(a) for a in expr.args]
        shape, dtype = np.broadcast_shapes(*(a.shape for a in args)), self._numpy(expr.dtype)
        function = FUNCTIONS[expr.function]
        self.memory.account.spend(function.work * prod(shape))
        if expr.function == "cast":
            if self._in_own_type:
                return self.memory.made(shape, dtype, lambda: convert(args[0], dtype))
            return self.memory.made(shape, dtype, lambda: self.memory.store(args[0], expr.dtype))
        meaning = function.numpy
        assert meaning is not None, expr.function
        return self.memory.made(
            shape, dtype, lambda: np.asarray(meaning(*args)).astype(dtype, copy=False)
        )

    def _guard(self, condition: Expr, inside: Expr, outside: Expr) -> Array:
        holds = self.value(condition)
        before = self._mask
        self._mask = holds if before is None else before & holds
        self._alive.append(self._mask)
        value = self.value(inside)
        self._mask = before
        return np.where(holds, value, self.value(outside))

    def _load(self, load: Load) -> Array:
        array = self.memory.array(load.buffer).astype(self._numpy(load.dtype), copy=False)
        if len(load.index) == 1 != array.ndim:  # a row-major position
            array = array.reshape(-1)
        window = self.window(array.shape, load.index)
        if window is not None:
            slices, axes = window
            return _spread(array[slices], axes, len(self.axes))
        if array.size == 0:  # only a guard that never holds may read it
            self._demand(np.zeros((), bool), f"{load.buffer} has no elements to be read")
            return np.zeros((1,) * len(self.axes), array.dtype)
        where = self.positions(load.buffer, array.shape, load.index)
        shape = np.broadcast_shapes(*(np.shape(w) for w in where))
        self.memory.account.spend(CALL * prod(shape))
        return self.memory.made(shape, array.dtype, lambda: array[where])

    def window(
        self, shape: tuple[int, ...], index: Sequence[Dim]
    ) -> tuple[tuple[int | slice, ...], list[int]] | None:
        """The slices that an index amounts to and the grid axis of each; None if there are none."""
        slices: list[int | slice] = []
        axes: list[int] = []
        for dim, extent in zip(index, shape, strict=True):
            found = self._range(dim)
            if found is None:
                return None
            axis, first, step, count = found
            last = first + step * (count - 1)
            if count == 0 or not (0 <= first < extent and 0 <= last < extent) or axis in axes:
                return None
            if axis is None:
                slices.append(first)
                continue
            stop = last + (1 if step > 0 else -1)
            slices.append(slice(first, stop if stop >= 0 else None, step))
            axes.append(axis)
        return tuple(slices), axes

    def _range(self, dim: Dim) -> tuple[int | None, int, int, int] | None:
        """``(axis, first, step, count)`` of an index that is linear in at most one variable."""
        if isinstance(dim, int):
            return None, dim, 1, 1
        variables = [v for v in self.axes if v in dim.atoms]
        if len(variables) > 1 or any(a.dims() for a in dim.atoms):
            return None
        if not variables:
            return None, int(self.dim(dim)), 1, 1
        parts = linear(dim, variables[0])
        if parts is None:
            return None
        step, offset = (int(self.dim(p)) for p in parts)
        axis = self.axes[variables[0]]
        start, stop = self.ranges[axis]
        return (axis, offset + step * start, step, stop - start) if step else None

    def positions(self, name: str, shape: tuple[int, ...], index: Sequence[Dim]) -> tuple[Any, ...]:
        """Index arrays into an array of that shape; out of range is an error unless guarded."""
        found = []
        for axis, (dim, extent) in enumerate(zip(index, shape, strict=True)):
            position = self.dim(dim)
            inside = (np.asarray(position) >= 0) & (np.asarray(position) < extent)
            if not np.all(inside):
                self._demand(inside, f"index {dim} is outside axis {axis} of {name}, {extent}")
                position = np.clip(position, 0, extent - 1)
            found.append(position)
        return tuple(found)


def _spread(array: Array, axes: list[int], rank: int) -> Array:
    """An array whose axes belong to these grid axes, transposed and padded to the grid's rank."""
    order = sorted(range(len(axes)), key=lambda k: axes[k])
    array = array.transpose(order)
    extents = dict(zip(sorted(axes), array.shape, strict=True))
    return array.reshape([extents.get(a, 1) for a in range(rank)])


__all__ = ["CALL", "Array", "Grid", "Memory"]
