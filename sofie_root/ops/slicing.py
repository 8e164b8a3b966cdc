"""Slice and Pad: windows into a tensor, and frames around it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sofie_root.errors import ShapeError
from sofie_root.ir import Dim, DType, Op, Refuse, Shape, TensorType, operator, runtime_size
from sofie_root.ir.dim import at_least, ceildiv, maximum, minimum, mod
from sofie_root.program import expr
from sofie_root.program.builder import Builder, Tensor
from sofie_root.program.expr import Expr, call

from .broadcast import element
from .checks import as_axis, constant_ints, require_one_dtype
from .computed_axes import ONE, ZERO, ComputedAxes, are_computed, bound
from .shape import bind_sizes, static_length
from .symbolic import carried, dims_of, static

FAR = 1 << 31
"""A start or end beyond this means as far as the axis goes."""


@dataclass(frozen=True, slots=True)
class Window:
    """Elements ``start + step * k`` for ``k < count`` of an axis."""

    start: Dim
    step: int
    count: Dim

    def at(self, k: Dim) -> Dim:
        """Where the ``k``-th element is."""
        return self.start + k * self.step


def window(start: Dim, end: Dim, step: int, size: Dim) -> Window:
    """The window that ONNX Slice means on an axis of this size."""
    if step > 0:
        first = maximum(_from_front(start, size), 0)
        stop = size
        if not (isinstance(end, int) and end >= FAR):
            stop = minimum(_from_front(end, size), size)
        if isinstance(start, int) and start >= FAR:
            first = size
        return Window(first, step, _count(stop - first, step))
    first = size - 1
    if not (isinstance(start, int) and start >= FAR):
        first = minimum(_from_front(start, size), size - 1)
    stop = -1 if isinstance(end, int) and end <= -FAR else maximum(_from_front(end, size), -1)
    return Window(first, step, _count(first - stop, -step))


def _from_front(position: Dim, size: Dim) -> Dim:
    """A position where negative ones count from the end; the sign may be known only at run time."""
    if isinstance(position, int):
        return position + size if position < 0 else position
    if at_least(position, 0):
        return position
    if at_least(-1, position):
        return position + size
    return position + size * minimum(1, maximum(0, position * -1))


def _count(length: Dim, step: int) -> Dim:
    return maximum(0, ceildiv(length, step)) if not at_least(length, 0) else ceildiv(length, step)


@operator("Slice", since=13)
@dataclass(frozen=True, slots=True)
class Slice(Op):
    """Every ``step``-th element from ``start`` to before ``end``. Source: ONNX Slice-13."""

    def _windows(
        self,
        shape: Shape,
        starts: Sequence[Dim],
        ends: Sequence[Dim],
        axes: TensorType | None,
        steps: TensorType | None,
    ) -> dict[int, Window]:
        numbers = tuple(range(len(starts))) if axes is None else constant_ints(axes, "axes")
        strides = (1,) * len(starts) if steps is None else constant_ints(steps, "steps")
        if not len(starts) == len(ends) == len(numbers) == len(strides):
            raise ShapeError("starts, ends, axes and steps have different lengths")
        if 0 in strides:
            raise ShapeError("a step is 0")
        found = [as_axis(a, len(shape)) for a in numbers]
        if len(set(found)) != len(found):
            raise ShapeError(f"axes {numbers} name an axis twice")
        return {
            axis: window(start, end, step, shape[axis])
            for axis, start, end, step in zip(found, starts, ends, strides, strict=True)
        }

    def infer(
        self,
        x: TensorType,
        starts: TensorType,
        ends: TensorType,
        axes: TensorType | None = None,
        steps: TensorType | None = None,
    ) -> TensorType:
        """Sizes of the windows; those with unknown limits are bound at run time."""
        count = static_length(starts, "starts")
        if static_length(ends, "ends") != count:
            raise ShapeError(f"has {count} starts and {ends.shape[0]} ends")
        if are_computed(axes) or are_computed(steps):
            return TensorType(x.dtype, tuple(runtime_size(0, k) for k in range(x.rank)))
        if starts.value is None or ends.value is None:
            unknown = (0,) * count
            cut = self._windows(x.shape, unknown, unknown, axes, steps)
            sizes = (runtime_size(0, k) if k in cut else d for k, d in enumerate(x.shape))
            return TensorType(x.dtype, tuple(sizes))
        cut = self._windows(x.shape, starts.value, ends.value, axes, steps)
        shape = tuple(cut[k].count if k in cut else d for k, d in enumerate(x.shape))
        result = TensorType(x.dtype, shape)
        if static((*shape, *x.shape)) is None:
            return result
        places = tuple(_python_slice(cut.get(k)) for k in range(x.rank))
        return carried(result, x, lambda v: v[places])

    def lower(
        self,
        b: Builder,
        x: Tensor,
        starts: Tensor,
        ends: Tensor,
        axes: Tensor | None = None,
        steps: Tensor | None = None,
    ) -> Tensor:
        """A view."""
        if any(t is not None and are_computed(t.type) for t in (axes, steps)):
            return self._lower_computed(b, x, starts, ends, axes, steps)
        cut = self._windows(
            x.shape,
            dims_of(starts),
            dims_of(ends),
            None if axes is None else axes.type,
            None if steps is None else steps.type,
        )
        bind_sizes(b, [cut[k].count if k in cut else d for k, d in enumerate(x.shape)])

        def body(*i: Dim) -> Expr:
            return x[tuple(cut[k].at(d) if k in cut else d for k, d in enumerate(i))]

        return b.loop(b.outputs[0].shape, body, x.dtype)

    def _lower_computed(
        self,
        b: Builder,
        x: Tensor,
        starts: Tensor,
        ends: Tensor,
        axes: Tensor | None,
        steps: Tensor | None,
    ) -> Tensor:
        """A view whose windows are computed for every axis when the model runs."""
        count = static_length(starts.type, "starts")
        if axes is None:
            axes = b.constant(np.arange(count))
        given = [[expr.cast(t[k], DType.INT64) for k in range(count)] for t in (starts, ends)]
        strides = [ONE if steps is None else expr.cast(steps[k], DType.INT64) for k in range(count)]
        named = ComputedAxes(axes, x.rank)
        first: list[Dim] = []
        step: list[Dim] = []
        for k, size in enumerate(map(expr.index, x.shape)):
            stride = b.loop((), lambda k=k: named.chosen(k, strides, ONE))
            by = call("max", call("abs", stride[()]), 1)
            forward = stride[()] > 0
            start, end = (named.chosen(k, g, d) for g, d in zip(given, (ZERO, size), strict=True))
            lowest, highest = expr.select(forward, ZERO, -ONE), expr.select(forward, size, size - 1)
            start = call("max", 0, _clamped(start, size, ZERO, highest))
            end = _clamped(end, size, lowest, highest)
            length = expr.select(forward, end - start, start - end)
            b.bind(b.outputs[0].shape[k], call("max", 0, call("div", length + by - 1, by)))
            first.append(bound(b, f"start:{k}", start))
            step.append(expr.as_index(stride[()]))

        def body(*i: Dim) -> Expr:
            return x[tuple(f + s * d for f, s, d in zip(first, step, i, strict=True))]

        return b.loop(b.outputs[0].shape, body, x.dtype)


def _clamped(position: Expr, size: Expr, low: Expr, high: Expr) -> Expr:
    """A position, negative ones counted from the end, brought between ``low`` and ``high``."""
    counted = expr.select(position < 0, position + size, position)
    return call("min", call("max", counted, low), high)


def _python_slice(cut: Window | None) -> slice:
    if cut is None:
        return slice(None)
    start, count = cut.start, cut.count
    assert isinstance(start, int)
    assert isinstance(count, int)
    stop = start + cut.step * count
    return slice(start, stop if stop >= 0 else None, cut.step) if count else slice(0, 0)


@operator("Pad", since=25)
@dataclass(frozen=True, slots=True)
class Pad(Op):
    """A frame of constant, mirrored, repeated or wrapped elements. Source: ONNX Pad-25."""

    mode: str = "constant"

    def _pads(
        self, rank: int, pads: Sequence[Dim], axes: TensorType | None
    ) -> tuple[list[Dim], list[Dim]]:
        numbers = range(rank) if axes is None else constant_ints(axes, "axes")
        if len(pads) != 2 * len(numbers):
            raise ShapeError(f"pads has {len(pads)} elements for {len(numbers)} axes")
        before: list[Dim] = [0] * rank
        after: list[Dim] = [0] * rank
        for k, axis in enumerate(numbers):
            before[as_axis(axis, rank)] = pads[k]
            after[as_axis(axis, rank)] = pads[k + len(numbers)]
        return before, after

    def infer(
        self,
        x: TensorType,
        pads: TensorType,
        value: TensorType | None = None,
        axes: TensorType | None = None,
    ) -> TensorType:
        """Each size with its pads added; negative pads cut."""
        if self.mode not in ("constant", "reflect", "edge", "wrap"):
            raise Refuse(f"mode {self.mode!r} is not known")
        if value is not None:
            require_one_dtype((x, value))
            if value.numel != 1:
                raise ShapeError("constant_value must be a scalar")
        length = static_length(pads, "pads")
        if are_computed(axes):
            return TensorType(x.dtype, tuple(runtime_size(0, k) for k in range(x.rank)))
        if pads.value is None:
            marks = self._pads(x.rank, range(1, length + 1), axes)[0]
            sizes = (runtime_size(0, k) if marks[k] else d for k, d in enumerate(x.shape))
            return TensorType(x.dtype, tuple(sizes))
        before, after = self._pads(x.rank, pads.value, axes)
        shape = tuple(d + lo + hi for d, lo, hi in zip(x.shape, before, after, strict=True))
        if any(isinstance(d, int) and d < 0 for d in shape):
            raise ShapeError(f"pads cut more than there is of {x}")
        return TensorType(x.dtype, shape)

    def lower(
        self,
        b: Builder,
        x: Tensor,
        pads: Tensor,
        value: Tensor | None = None,
        axes: Tensor | None = None,
    ) -> Tensor:
        """One loop; outside the input it reads the constant or another element."""
        if axes is not None and are_computed(axes.type):
            before, after = self._computed_pads(b, x, pads, axes)
        else:
            known = None if axes is None else axes.type
            before, after = self._pads(x.rank, dims_of(pads), known)
        bind_sizes(b, [d + lo + hi for d, lo, hi in zip(x.shape, before, after, strict=True)])
        out = b.outputs[0].shape
        if self.mode == "constant":
            filler: Expr = expr.constant(0, x.dtype.compute)
            if value is not None:
                filler = element(value, (0,) * value.rank)
            return b.loop(out, lambda *i: self._framed(x, i, before, after, filler), x.dtype)

        def body(*i: Dim) -> Expr:
            places = zip(i, x.shape, before, after, strict=True)
            return x[
                tuple(d if lo == hi == 0 else self._folded(d, lo, n) for d, n, lo, hi in places)
            ]

        return b.loop(out, body, x.dtype)

    def _computed_pads(
        self, b: Builder, x: Tensor, pads: Tensor, axes: Tensor
    ) -> tuple[list[Dim], list[Dim]]:
        """The pads of every axis, where the axes they are for are known at run time."""
        named = ComputedAxes(axes, x.rank)
        values = [expr.cast(pads[k], DType.INT64) for k in range(2 * named.count)]
        sides: list[list[Dim]] = []
        for side in (values[: named.count], values[named.count :]):
            found = [
                b.loop((), lambda k=k, s=side: named.chosen(k, s, ZERO)) for k in range(x.rank)
            ]
            sides.append([expr.as_index(t[()]) for t in found])
        return sides[0], sides[1]

    def _framed(
        self, x: Tensor, i: Sequence[Dim], before: list[Dim], after: list[Dim], filler: Expr
    ) -> Expr:
        index = tuple(d - lo for d, lo in zip(i, before, strict=True))
        inside: Expr | None = None
        for k, position in enumerate(index):
            tests = []
            if not at_least(0, before[k]):
                tests.append(expr.index(position) >= 0)
            if not at_least(0, after[k]):
                tests.append(expr.index(position) < expr.index(x.shape[k]))
            for test in tests:
                inside = test if inside is None else call("logical_and", inside, test)
        return x[index] if inside is None else expr.guard(inside, x[index], filler)

    def _folded(self, out: Dim, before: Dim, size: Dim) -> Dim:
        """The position inside the input that is shown at ``out``."""
        if self.mode == "edge":
            return minimum(maximum(out - before, 0), size - 1)
        if self.mode == "wrap":
            return self._cycled(out, before, size)
        if size == 1:
            return 0
        # Mirrored without repeating the edge: the distance from 0 in a cycle of 2 * (size - 1).
        cycle = 2 * (size - 1) if at_least(size, 2) else maximum(2 * (size - 1), 1)
        within = self._cycled(out, before, cycle)
        return minimum(within, cycle - within)

    def _cycled(self, out: Dim, before: Dim, cycle: Dim) -> Dim:
        """``(out - before) mod cycle``, with cycles added so that nothing negative is divided."""
        return mod(out - before + cycle * ceildiv(maximum(before, 0), cycle), cycle)
