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
from .symbolic import carried, static

FAR = (1 << 31) - 1
"""A start or an end beyond this means the end of the axis."""

LONGEST = 1 << 44
"""No axis is longer, so a longer step is as good as one of this length."""


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
        first = maximum(_from_front(start, size, 0, size), 0)
        stop = minimum(_from_front(end, size, 0, size), size)
        return Window(first, step, _count(stop - first, step))
    first = minimum(maximum(_from_front(start, size, 0, size - 1), 0), size - 1)
    stop = minimum(maximum(_from_front(end, size, -1, size - 1), -1), size - 1)
    return Window(first, step, _count(first - stop, -step))


def _from_front(position: Dim, size: Dim, low: Dim, high: Dim) -> Dim:
    """A position where negative ones count from the end; the sign may be known only at run time.

    A position that means an end of the axis becomes ``low`` or ``high``.
    """
    if isinstance(position, int):
        if abs(position) >= FAR:
            return low if position < 0 else high
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

    moves_data = True

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
        if not len(starts) == len(numbers) == len(strides):
            raise ShapeError("starts, ends, axes and steps have different lengths")
        if 0 in strides:
            raise ShapeError("a step is 0")
        strides = tuple(max(-LONGEST, min(step, LONGEST)) for step in strides)
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
        for t, what in ((ends, "ends"), (axes, "axes"), (steps, "steps")):
            if t is not None and static_length(t, what) != count:
                raise ShapeError(f"starts has {count} elements and {what} {t.numel}")
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
            first, step = self._computed_windows(b, x, starts, ends, axes, steps)
        elif starts.type.value is None or ends.type.value is None:
            first, step = self._run_time_windows(b, x, starts, ends, axes, steps)
        else:
            known = tuple(None if t is None else t.type for t in (axes, steps))
            cut = self._windows(x.shape, starts.type.value, ends.type.value, *known)
            whole = [cut.get(k, Window(0, 1, d)) for k, d in enumerate(x.shape)]
            first, step = [w.start for w in whole], [w.step for w in whole]

        def body(*i: Dim) -> Expr:
            return x[tuple(f + s * d for f, s, d in zip(first, step, i, strict=True))]

        return b.loop(b.outputs[0].shape, body, x.dtype)

    def _run_time_windows(
        self,
        b: Builder,
        x: Tensor,
        starts: Tensor,
        ends: Tensor,
        axes: Tensor | None,
        steps: Tensor | None,
    ) -> tuple[list[Dim], list[Dim]]:
        """Starts and steps of all axes; binds the sizes of those with limits that only the run tells."""
        count = static_length(starts.type, "starts")
        numbers = tuple(range(count)) if axes is None else constant_ints(axes.type, "axes")
        known = tuple(None if t is None else t.type for t in (axes, steps))
        given = starts.type.value or (0,) * count
        cut = self._windows(x.shape, given, (0,) * count, *known)
        first: list[Dim] = [0] * x.rank
        step: list[Dim] = [1] * x.rank
        for k, axis in enumerate(as_axis(a, x.rank) for a in numbers):
            start, end = (expr.cast(_element(t, k), DType.INT64) for t in (starts, ends))
            step[axis] = cut[axis].step
            stride = expr.constant(cut[axis].step, DType.INT64)
            first[axis] = _bind_window(b, axis, start, end, stride, x.shape[axis])
            if starts.type.value is not None:
                first[axis] = cut[axis].start
        return first, step

    def _computed_windows(
        self,
        b: Builder,
        x: Tensor,
        starts: Tensor,
        ends: Tensor,
        axes: Tensor | None,
        steps: Tensor | None,
    ) -> tuple[list[Dim], list[Dim]]:
        """Starts and steps of all axes, each of which asks whether it is cut; binds all sizes."""
        count = static_length(starts.type, "starts")
        if axes is None:
            axes = b.constant(np.arange(count))
        given = [
            [expr.cast(_element(t, k), DType.INT64) for k in range(count)] for t in (starts, ends)
        ]
        strides = [
            ONE if steps is None else expr.cast(_element(steps, k), DType.INT64)
            for k in range(count)
        ]
        named = ComputedAxes(axes, x.rank)
        named.check(b)
        first: list[Dim] = []
        step: list[Dim] = []
        for k, size in enumerate(map(expr.index, x.shape)):
            asked = b.loop((), lambda k=k: named.chosen(k, strides, ONE))[()]
            asked = call("min", call("max", asked, -LONGEST), LONGEST)
            start, end = (named.chosen(k, g, d) for g, d in zip(given, (ZERO, size), strict=True))
            first.append(_bind_window(b, k, start, end, asked, x.shape[k]))
            length = bound(b, f"step:{k}", call("abs", asked))
            b.check_at_most(1, length, "a step is 0")
            step.append(expr.as_index(b.loop((), lambda asked=asked: asked)[()]))
        return first, step


def _element(x: Tensor, k: int) -> Expr:
    """The ``k``-th element of a vector, or the one of a scalar."""
    return x[k] if x.rank else x[()]


def _bind_window(b: Builder, axis: int, start: Expr, end: Expr, step: Expr, extent: Dim) -> Dim:
    """Where a window begins; binds the size of the result's axis to the number of its elements.

    The window is empty where its limits say so, and lies inside the axis wherever they are.

    Args:
        b: the builder.
        axis: which axis.
        start: first position (INT64), counted from the end if negative, as is ``end``.
        end: the position that ends it.
        step: between elements; not 0, at most ``LONGEST`` either way.
        extent: size of the axis.
    """
    size = expr.index(extent)
    forward = step > 0
    lowest, highest = expr.select(forward, ZERO, -ONE), expr.select(forward, size, size - 1)
    start = call("min", call("max", _counted(start, size), 0), highest)
    end = call("min", call("max", _counted(end, size), lowest), highest)
    length = expr.select(forward, end - start, start - end)
    by = call("max", call("abs", step), 1)
    b.bind(b.outputs[0].shape[axis], call("max", 0, call("div", length + by - 1, by)))
    return bound(b, f"start:{axis}", call("max", start, 0))


def _counted(position: Expr, size: Expr) -> Expr:
    """A position, negative ones counted from the end."""
    return expr.select(position < 0, position + size, position)


def _python_slice(cut: Window | None) -> slice:
    if cut is None:
        return slice(None)
    start, count = cut.start, cut.count
    assert isinstance(start, int)
    assert isinstance(count, int)
    stop = start + cut.step * count
    return slice(start, stop if stop >= 0 else None, cut.step) if count else slice(0, 0)


@dataclass(frozen=True, slots=True)
class Frame:
    """What pads do to an axis: of its elements, ``kept`` from ``start`` on stay, with a frame around them.

    Attributes:
        before: elements in front of them.
        after: elements behind them.
    """

    start: Dim
    kept: Dim
    before: Dim
    after: Dim

    @classmethod
    def of(cls, size: Dim, before: Dim, after: Dim) -> Frame:
        """The frame that known pads make; negative ones take elements away."""
        start, end = maximum(before * -1, 0), maximum(after * -1, 0)
        return cls(start, size - start - end, maximum(before, 0), maximum(after, 0))

    @classmethod
    def bound(cls, b: Builder, axis: int, size: Dim, before: Expr, after: Expr) -> Frame:
        """The frame of pads (INT64) that only the run tells."""
        taken = [call("max", ZERO - call("max", pad, -2 * LONGEST), 0) for pad in (before, after)]
        start, end = (
            bound(b, f"{n}:{axis}", t) for n, t in zip(("start", "end"), taken, strict=True)
        )
        sides = (("before", before), ("after", after))
        return cls(
            start,
            bound(b, f"kept:{axis}", expr.index(size - start - end)),
            *(bound(b, f"{n}:{axis}", call("max", pad, 0)) for n, pad in sides),
        )


@operator("Pad", since=25)
@dataclass(frozen=True, slots=True)
class Pad(Op):
    """A frame of constant, mirrored, repeated or wrapped elements. Source: ONNX Pad-25."""

    mode: str = "constant"

    def _pads(
        self, rank: int, pads: Sequence[Dim], axes: TensorType | None
    ) -> tuple[list[Dim], list[Dim]]:
        numbers = range(rank) if axes is None else constant_ints(axes, "axes")
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
        count = x.rank if axes is None else static_length(axes, "axes")
        if length != 2 * count:
            raise ShapeError(f"pads has {length} elements for {count} axes")
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
        frames = self._frames(b, x, pads, axes)
        sizes = [f.before + f.kept + f.after for f in frames]
        bind_sizes(b, sizes)
        out = b.outputs[0].shape
        if self.mode == "constant":
            filler: Expr = expr.constant(0, x.dtype.compute)
            if value is not None:
                filler = element(value, (0,) * value.rank)
            return b.loop(out, lambda *i: self._framed(x, i, frames, filler), x.dtype)
        turns = []
        for k, (f, n) in enumerate(zip(frames, out, strict=True)):
            if not at_least(f.kept, minimum(n, 1)):
                b.check_at_most(minimum(n, 1), f.kept, f"mode {self.mode} repeats elements")
            cycle = f.kept if self.mode == "wrap" else maximum(2 * (f.kept - 1), 1)
            if isinstance(f.before, int):
                turns.append((cycle, cycle * ceildiv(f.before, cycle) - f.before))
                continue
            cycle = bound(b, f"cycle:{k}", expr.index(maximum(cycle, 1)))
            turn = expr.index(cycle * ceildiv(f.before, cycle) - f.before)
            turns.append((cycle, bound(b, f"turn:{k}", turn)))

        def body(*i: Dim) -> Expr:
            return x[tuple(map(self._folded, i, frames, turns))]

        return b.loop(out, body, x.dtype)

    def _frames(self, b: Builder, x: Tensor, pads: Tensor, axes: Tensor | None) -> list[Frame]:
        """One for each axis; those of pads and axes that only the run tells are bound."""
        if (axes is None or not are_computed(axes.type)) and pads.type.value is not None:
            known = self._pads(x.rank, pads.type.value, None if axes is None else axes.type)
            return list(map(Frame.of, x.shape, *known))
        count = static_length(pads.type, "pads")
        values = [expr.cast(_element(pads, k), DType.INT64) for k in range(count)]
        if axes is not None and are_computed(axes.type):
            named = ComputedAxes(axes, x.rank)
            named.check(b)
            sides = values[: named.count], values[named.count :]
            return [
                Frame.bound(b, k, d, *(named.chosen(k, side, ZERO) for side in sides))
                for k, d in enumerate(x.shape)
            ]
        places = self._pads(x.rank, range(1, count + 1), None if axes is None else axes.type)
        return [
            Frame.bound(b, k, d, values[lo - 1], values[hi - 1])
            if isinstance(lo, int) and isinstance(hi, int) and lo
            else Frame(0, d, 0, 0)
            for k, (d, lo, hi) in enumerate(zip(x.shape, *places, strict=True))
        ]

    def _framed(self, x: Tensor, i: Sequence[Dim], frames: list[Frame], filler: Expr) -> Expr:
        inside: Expr | None = None
        for d, f in zip(i, frames, strict=True):
            position = d - f.before
            tests = []
            if f.before != 0:
                tests.append(expr.index(position) >= 0)
            if f.after != 0:
                tests.append(expr.index(position) < expr.index(f.kept))
            for test in tests:
                inside = test if inside is None else call("logical_and", inside, test)
        value = x[tuple(d - f.before + f.start for d, f in zip(i, frames, strict=True))]
        return value if inside is None else expr.guard(inside, value, filler)

    def _folded(self, out: Dim, frame: Frame, turn: tuple[Dim, Dim]) -> Dim:
        """The position that is shown at ``out``; what is added to it before it is divided is ``turn[1]``."""
        if frame.before == frame.after == 0:
            return out + frame.start
        if self.mode == "edge":
            return frame.start + minimum(maximum(out - frame.before, 0), frame.kept - 1)
        cycle, start = turn
        within = mod(out + start, cycle)
        if self.mode == "wrap":
            return frame.start + within
        if frame.kept == 1:
            return frame.start
        # Mirrored without repeating the edge: the distance from 0 in a cycle of 2 * (kept - 1).
        return frame.start + minimum(within, cycle - within)
