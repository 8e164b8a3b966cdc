"""Resize and GridSample: elements read between the elements of a tensor."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce as fold
from typing import Any

from sofie_root.errors import ShapeError
from sofie_root.ir import Dim, DType, Op, Refuse, TensorType, operator, require_equal, runtime_size
from sofie_root.ir.dim import floordiv
from sofie_root.program import expr
from sofie_root.program.builder import Builder, Tensor
from sofie_root.program.expr import Expr, call, cast, constant, select

from .checks import FLOATS, as_axis, require_dtype
from .computed_axes import bound
from .symbolic import dims_of, static

MODES = ("nearest", "linear", "cubic")


# -- interpolation between neighbours --------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Interpolation:
    """How much a neighbour at some distance counts.

    Attributes:
        mode: one of ``MODES``.
        cubic: the coefficient of the cubic spline.
        shrink: below 1 it widens the filter (antialiasing).
    """

    mode: str
    cubic: float = -0.75
    shrink: Expr | None = None

    @property
    def reach(self) -> int:
        """Distance beyond which nothing counts, where nothing is widened."""
        return {"nearest": 0, "linear": 1, "cubic": 2}[self.mode]

    def weight(self, distance: Expr) -> Expr:
        """The weight of a neighbour at this distance."""
        d = call("abs", distance)
        if self.shrink is not None:
            d = d * self.shrink
        if self.mode == "nearest":
            return constant(1, d.dtype)
        if self.mode == "linear":
            return call("max", 1 - d, 0)
        a = self.cubic
        near = ((a + 2) * d - (a + 3)) * d * d + 1
        far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
        return select(d <= 1, near, select(d < 2, far, constant(0, d.dtype)))


def _all(tests: list[Expr]) -> Expr:
    return fold(lambda a, b: call("logical_and", a, b), tests)


def _any(tests: list[Expr]) -> Expr:
    return fold(lambda a, b: call("logical_or", a, b), tests)


def _size(dim: Dim, dtype: DType = DType.DOUBLE) -> Expr:
    return expr.index(dim, dtype)


def _clamped(position: Expr, size: Dim) -> Dim:
    """The position as an index, the nearest inside."""
    last = call("max", expr.index(size) - 1, 0)
    inside = call("min", call("max", cast(position, DType.INT64), 0), last)
    return expr.as_index(inside, size)


def _outside(position: Expr, size: Dim) -> Expr:
    return call("logical_or", position < 0, position > _size(size, position.dtype) - 1)


# -- Resize ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Axis:
    """One axis that is resized.

    Attributes:
        number: which.
        size, out: elements before and after.
        scale: factor between them (DOUBLE), ``ratio`` its value where it is known.
        real: size after before it was rounded (DOUBLE).
        limits: start and end of the region of interest, relative to the axis.
    """

    number: int
    size: Dim
    out: Dim
    scale: Expr
    ratio: float | None
    real: Expr
    limits: tuple[Expr, Expr] | None

    def source(self, mode: str, o: Dim) -> Expr:
        """Where the element ``o`` of the result lies in the input."""
        at, last = _size(o), _size(self.size) - 1
        if mode == "asymmetric":
            return at / self.scale
        if mode == "align_corners":
            return select(expr.compare("eq", self.real, 1), 0, at * last / (self.real - 1))
        if mode == "tf_crop_and_resize":
            assert self.limits is not None
            start, end = self.limits
            inner = at * (end - start) * last / (self.real - 1)
            single = expr.compare("eq", self.real, 1)
            return start * last + select(single, (end - start) * last / 2, inner)
        centre = (at + 0.5) / self.scale - 0.5
        if mode == "pytorch_half_pixel":
            return select(expr.compare("eq", self.real, 1), -0.5, centre)
        if mode == "half_pixel_symmetric":
            return _size(self.size) / 2 * (1 - _size(self.out) / self.real) + centre
        return centre


COORDINATES = frozenset(
    {
        "half_pixel",
        "half_pixel_symmetric",
        "pytorch_half_pixel",
        "align_corners",
        "asymmetric",
        "tf_crop_and_resize",
    }
)
_NEAREST: dict[str, Callable[[Expr], Expr]] = {
    "round_prefer_floor": lambda x: call("ceil", x - 0.5),
    "round_prefer_ceil": lambda x: call("floor", x + 0.5),
    "floor": lambda x: call("floor", x),
    "ceil": lambda x: call("ceil", x),
}


@operator("Resize", since=19)
@dataclass(frozen=True, slots=True)
class Resize(Op):
    """The input resampled along each axis. Source: ONNX Resize-19.

    Scales that are constant are the attribute ``scales`` instead of an input.
    """

    channels_first = True

    antialias: int = 0
    axes: tuple[int, ...] | None = None
    coordinate_transformation_mode: str = "half_pixel"
    cubic_coeff_a: float = -0.75
    exclude_outside: int = 0
    extrapolation_value: float = 0.0
    keep_aspect_ratio_policy: str = "stretch"
    mode: str = "nearest"
    nearest_mode: str = "round_prefer_floor"
    scales: tuple[float, ...] = ()

    def _axes(self, rank: int) -> tuple[int, ...]:
        if self.axes is None:
            return tuple(range(rank))
        found = tuple(as_axis(a, rank) for a in self.axes)
        if len(set(found)) < len(found):
            raise ShapeError(f"axes {self.axes} name an axis twice")
        return found

    @property
    def _crops(self) -> bool:
        return self.coordinate_transformation_mode == "tf_crop_and_resize"

    def _check(
        self,
        x: TensorType,
        roi: TensorType | None,
        scales: TensorType | None,
        sizes: TensorType | None,
    ) -> None:
        require_dtype(x, FLOATS | {DType.UINT8, DType.INT8, DType.INT32, DType.INT64})
        if self.mode not in MODES or self.nearest_mode not in _NEAREST:
            raise ShapeError(f"mode {self.mode!r} with {self.nearest_mode!r} does not exist")
        if self.coordinate_transformation_mode not in COORDINATES:
            raise Refuse(f"coordinates by {self.coordinate_transformation_mode!r}")
        if self.keep_aspect_ratio_policy not in ("stretch", "not_larger", "not_smaller"):
            raise ShapeError(f"policy {self.keep_aspect_ratio_policy!r} does not exist")
        if self.antialias and self.mode == "nearest":
            raise ShapeError("nearest neighbours cannot be antialiased")
        count = len(self._axes(x.rank))
        if self._crops:
            if roi is None:
                raise ShapeError("needs a region of interest to crop")
            require_equal(roi.numel, 2 * count, "roi has start and end of each axis")
        given: list[Dim] = [t.numel for t in (scales, sizes) if t is not None]
        given += [len(self.scales)] if self.scales else []
        if len(given) != 1:
            raise ShapeError("needs either scales or sizes")
        if not all(0 < s < math.inf for s in self.scales):
            raise ShapeError(f"scales {self.scales} are not all positive numbers")
        require_equal(given[0], count, "one scale or size for each axis")

    def infer(
        self,
        x: TensorType,
        roi: TensorType | None = None,
        scales: TensorType | None = None,
        sizes: TensorType | None = None,
    ) -> TensorType:
        """The given sizes, or each size times its scale."""
        self._check(x, roi, scales, sizes)
        shape = list(x.shape)
        for k, axis in enumerate(self._axes(x.rank)):
            if self.scales:
                above, below = self.scales[k].as_integer_ratio()
                shape[axis] = floordiv(x.shape[axis] * above, below)
            elif sizes is not None and sizes.value is not None and not self._keeps_ratio:
                shape[axis] = sizes.value[k]
            else:
                shape[axis] = runtime_size(0, axis)
        if self._keeps_ratio and sizes is not None:
            known = self._kept_ratio(x, sizes)
            if known is not None:
                for axis, size in zip(self._axes(x.rank), known, strict=True):
                    shape[axis] = size
        return TensorType(x.dtype, tuple(shape))

    @property
    def _keeps_ratio(self) -> bool:
        return self.keep_aspect_ratio_policy != "stretch"

    def _common_ratio(self, x: TensorType, sizes: TensorType) -> float | None:
        """The scale of all axes where the aspect ratio is kept, if it is known."""
        wanted = None if sizes.value is None else static(sizes.value)
        have = static(tuple(x.shape[a] for a in self._axes(x.rank)))
        if wanted is None or have is None:
            return None
        ratios = [w / h for w, h in zip(wanted, have, strict=True)]
        return min(ratios) if self.keep_aspect_ratio_policy == "not_larger" else max(ratios)

    def _kept_ratio(self, x: TensorType, sizes: TensorType) -> list[int] | None:
        ratio = self._common_ratio(x, sizes)
        if ratio is None:
            return None
        have = static(tuple(x.shape[a] for a in self._axes(x.rank))) or ()
        return [int(ratio * h + 0.5) for h in have]

    def lower(
        self,
        b: Builder,
        x: Tensor,
        roi: Tensor | None = None,
        scales: Tensor | None = None,
        sizes: Tensor | None = None,
    ) -> Tensor:
        """One gathering loop for nearest neighbours, else a weighted sum axis by axis."""
        axes = self._resized(b, x, roi, scales, sizes)
        if self.mode == "nearest":
            return self._nearest(b, x, axes)
        floats = x.dtype.is_float
        y = b.cast(x, x.dtype.compute if floats else DType.DOUBLE)
        for axis in axes:
            y = self._interpolated(b, y, axis)
        if floats:
            return b.cast(y, x.dtype)
        return b.loop(y.shape, lambda *i: call("round", y[i]), x.dtype)

    def _resized(
        self,
        b: Builder,
        x: Tensor,
        roi: Tensor | None,
        scales: Tensor | None,
        sizes: Tensor | None,
    ) -> list[_Axis]:
        """The axes that change, their sizes bound where they were not known."""
        out = b.outputs[0].shape
        axes = self._axes(x.rank)
        common: Expr | None = None
        if sizes is not None and self._keeps_ratio:
            pick = "min" if self.keep_aspect_ratio_policy == "not_larger" else "max"
            ratios = [
                _size(d) / _size(x.shape[a]) for a, d in zip(axes, dims_of(sizes), strict=True)
            ]
            common = fold(lambda p, q: call(pick, p, q), ratios)
        found = []
        for k, axis in enumerate(axes):
            size, ratio = x.shape[axis], None
            if self.scales:
                ratio = self.scales[k]
                scale: Expr = constant(ratio, DType.DOUBLE)
            elif scales is not None:
                scale = cast(scales[k], DType.DOUBLE)
                b.bind(out[axis], cast(call("floor", scale * _size(size)), DType.INT64))
            else:
                assert sizes is not None
                if common is not None:
                    scale, ratio = common, self._common_ratio(x.type, sizes.type)
                    if not isinstance(out[axis], int):
                        b.bind(out[axis], cast(common * _size(size) + 0.5, DType.INT64))
                else:
                    if sizes.type.value is None:
                        b.bind(out[axis], cast(sizes[k], DType.INT64))
                    scale = _size(out[axis]) / _size(size)
                    both = static((out[axis], size))
                    ratio = None if both is None else both[0] / both[1]
            given = sizes is not None and common is None
            real = _size(out[axis]) if given else scale * _size(size)
            limits = None
            if self._crops and roi is not None:
                places = (k, k + len(axes))
                start, end = (cast(roi[p], DType.DOUBLE) for p in places)
                limits = (start, end)
            elif ratio == 1.0 or (given and out[axis] == size):
                continue
            found.append(_Axis(axis, size, out[axis], scale, ratio, real, limits))
        return found

    def _nearest(self, b: Builder, x: Tensor, axes: list[_Axis]) -> Tensor:
        mode = self.coordinate_transformation_mode
        sources = {a.number: b.loop((a.out,), lambda o, a=a: a.source(mode, o)) for a in axes}
        rounded = _NEAREST[self.nearest_mode]

        def body(*i: Dim) -> Expr:
            index = list(i)
            outside = []
            for a in axes:
                source = sources[a.number][i[a.number]]
                index[a.number] = _clamped(rounded(source), a.size)
                outside.append(_outside(source, a.size))
            value = x[tuple(index)]
            return select(_any(outside), self.extrapolation_value, value) if crops else value

        crops = self._crops and bool(axes)
        return b.loop(b.outputs[0].shape, body, x.dtype)

    def _interpolated(self, b: Builder, x: Tensor, axis: _Axis) -> Tensor:
        mode, k = self.coordinate_transformation_mode, axis.number
        sources = b.loop((axis.out,), lambda o: axis.source(mode, o))
        filter_ = Interpolation(self.mode, self.cubic_coeff_a)
        first: Expr = constant(1 - filter_.reach, DType.INT64)
        taps: Dim = 2 * filter_.reach
        if self.antialias:
            shrink = call("min", axis.scale, 1)
            filter_ = Interpolation(self.mode, self.cubic_coeff_a, shrink)
            first = cast(call("floor", -filter_.reach / shrink), DType.INT64) + 1
            if axis.ratio is None:
                taps = bound(b, f"taps:{k}", 2 - first * 2)
            else:
                start = int(-filter_.reach // min(axis.ratio, 1.0)) + 1
                first, taps = constant(start, DType.INT64), 2 - 2 * start

        def place(o: Dim, t: Dim) -> Expr:
            return cast(call("floor", sources[o]), DType.INT64) + first + expr.index(t)

        def weight(o: Dim, t: Dim) -> Expr:
            at = place(o, t)
            value = filter_.weight(cast(at, DType.DOUBLE) - sources[o])
            if not self.exclude_outside:
                return value
            return select(_all([at >= 0, at < expr.index(axis.size)]), value, 0)

        weights = b.loop((axis.out, taps), weight)
        if self.antialias or self.exclude_outside:
            total = b.reduce("sum", (axis.out,), (taps,), lambda o, t: weights[o + t])
            plain = weights
            weights = b.loop(plain.shape, lambda o, t: plain[o, t] / total[o])
        shape = (*x.shape[:k], axis.out, *x.shape[k + 1 :])

        def body(i: tuple[Dim, ...], t: tuple[Dim, ...]) -> Expr:
            index = (*i[:k], _clamped(place(i[k], t[0]), axis.size), *i[k + 1 :])
            return x[index] * cast(weights[i[k], t[0]], x.dtype)

        y = b.reduce("sum", shape, (taps,), body)
        if not self._crops:
            return y
        value = self.extrapolation_value
        return b.loop(shape, lambda *i: select(_outside(sources[i[k]], axis.size), value, y[i]))


# -- GridSample ------------------------------------------------------------------------------------


@operator("GridSample", since=22)
@dataclass(frozen=True, slots=True)
class GridSample(Op):
    """The input read at positions that a grid gives. Source: ONNX GridSample-22."""

    channels_first = True

    align_corners: int = 0
    mode: str = "linear"
    padding_mode: str = "zeros"

    def infer(self, x: TensorType, grid: TensorType) -> TensorType:
        """The spatial sizes of the grid."""
        require_dtype(x, FLOATS)
        require_dtype(grid, FLOATS)
        if self.mode not in MODES or self.padding_mode not in ("zeros", "border", "reflection"):
            raise ShapeError(
                f"mode {self.mode!r} with padding {self.padding_mode!r} does not exist"
            )
        if x.rank < 3 or grid.rank != x.rank:
            raise ShapeError(
                f"X has {x.rank} axes, grid {grid.rank}; they must have as many, over 2"
            )
        require_equal(grid.shape[-1], x.rank - 2, "the grid names one position per spatial axis")
        batch = require_equal(x.shape[0], grid.shape[0], "one grid per image")
        return TensorType(x.dtype, (batch, x.shape[1], *grid.shape[1:-1]))

    def lower(self, b: Builder, x: Tensor, grid: Tensor) -> Tensor:
        """The positions, then a weighted sum over the neighbours of each."""
        spatial = x.shape[2:]
        shape = (grid.shape[0], *grid.shape[1:-1])
        positions = [
            b.loop(
                shape, lambda *i, k=k: self._position(grid[(*i, len(spatial) - 1 - k)], spatial[k])
            )
            for k in range(len(spatial))
        ]
        filter_ = Interpolation(self.mode)
        taps = max(1, 2 * filter_.reach)
        compute = x.dtype.compute

        def body(out: tuple[Dim, ...], tap: tuple[Dim, ...]) -> Expr:
            at = (out[0], *out[2:])
            index: list[Dim] = []
            inside: list[Expr] = []
            weight: Expr = constant(1, compute)
            for position, size, t in zip(positions, spatial, tap, strict=True):
                value = position[at]
                place = call("floor", value)
                if filter_.reach:
                    place = place + (expr.index(t, value.dtype) + float(1 - filter_.reach))
                weight = weight * cast(filter_.weight(place - value), compute)
                if self.padding_mode == "zeros":
                    inside += [place >= 0, place < _size(size, value.dtype)]
                elif self.padding_mode == "reflection":
                    place = self._reflected(place, size)
                index.append(_clamped(place, size))
            read = x[(*out[:2], *index)]
            return weight * (expr.guard(_all(inside), read, 0) if inside else read)

        total = b.reduce("sum", b.outputs[0].shape, (taps,) * len(spatial), body)
        return b.cast(total, x.dtype)

    def _position(self, normal: Expr, size: Dim) -> Expr:
        """From ``[-1, 1]`` to elements, brought inside as the padding mode says."""
        n = _size(size, normal.dtype)
        at = (normal + 1) / 2 * (n - 1) if self.align_corners else ((normal + 1) * n - 1) / 2
        if self.mode == "nearest":
            at = call("round", at)
        if self.padding_mode == "border" and self.mode != "cubic":
            return call("min", call("max", at, 0), n - 1)
        return self._reflected(at, size) if self.padding_mode == "reflection" else at

    def _reflected(self, at: Expr, size: Dim) -> Expr:
        """Mirrored at the borders until it is inside."""
        n = _size(size, at.dtype)
        low: Any = constant(0.0 if self.align_corners else -0.5, at.dtype)
        high = n - (1.0 if self.align_corners else 0.5)
        width = high - low
        below = at < low
        beyond = select(below, low - at, at - high)
        times = call("floor", beyond / width)
        rest = beyond - times * width
        even = expr.compare("eq", times - call("floor", times / 2) * 2, 0)
        from_low = expr.compare("eq", cast(below, DType.INT32), cast(even, DType.INT32))
        mirrored = select(from_low, low + rest, high - rest)
        return select(call("logical_or", below, at > high), mirrored, at)
