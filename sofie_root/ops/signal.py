"""Signal processing: DFT, STFT and MelWeightMatrix.

Fourier transforms are sums with a table of the roots of unity: of any length, in double precision, and
in a time that grows with the square of the length.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

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
from sofie_root.ir.dim import floordiv, maximum, minimum, mod
from sofie_root.program import expr
from sofie_root.program.builder import Builder, Tensor
from sofie_root.program.expr import Expr, call, cast, compare, constant, select

from .checks import FLOATS, as_axis, as_dtype, constant_ints, require_dtype
from .computed_axes import ZERO, ComputedAxes, are_computed, bound

Index = tuple[Dim, ...]
Complex = tuple[Expr, Expr]


def _scalar(x: Tensor) -> Expr:
    """The only element of a tensor."""
    return x[(0,) * x.rank]


def _known(x: TensorType | None) -> Dim | None:
    """The only element of an integer tensor, where it is known while parsing."""
    return None if x is None or x.value is None else x.value[0]


def _require_scalar(x: TensorType | None, what: str) -> None:
    if x is not None and x.numel != 1:
        raise ShapeError(f"{what} must have one element, not {x}")


def _size(b: Builder, name: str, x: Tensor) -> Dim:
    """A positive size that a tensor holds."""
    known = _known(x.type)
    if known is not None:
        return known
    size = bound(b, name, cast(_scalar(x), DType.INT64))
    b.check_at_most(1, size, f"{name} is at least 1")
    return size


def fourier(
    b: Builder,
    shape: Sequence[Dim],
    over: Sequence[Dim],
    length: Dim,
    turn: Callable[[Index, Index], Dim],
    read: Callable[[Index, Index], Complex],
    sign: float,
) -> tuple[Tensor, Tensor]:
    """Real and imaginary part of the sum over ``r`` of ``read(i, r) * exp(sign * 2j pi turn / length)``.

    Args:
        b: the builder.
        shape: shape of each part.
        over: extents of ``r``.
        length: number of roots of unity.
        turn: which root, any number that is not negative.
        read: real and imaginary part of a sample, in DOUBLE.
        sign: -1 forward, 1 backward.
    """
    step = constant(2 * math.pi, DType.DOUBLE) / expr.index(length, DType.DOUBLE)
    cosines, sines = (
        b.loop((length,), lambda k, f=f: call(f, expr.index(k, DType.DOUBLE) * step))
        for f in ("cos", "sin")
    )

    def real(i: Index, r: Index) -> Expr:
        (x, y), k = read(i, r), mod(turn(i, r), length)
        return x * cosines[k] - y * sines[k] * sign

    def imaginary(i: Index, r: Index) -> Expr:
        (x, y), k = read(i, r), mod(turn(i, r), length)
        return y * cosines[k] + x * sines[k] * sign

    return b.reduce("sum", shape, over, real), b.reduce("sum", shape, over, imaginary)


def _joined(b: Builder, parts: Sequence[Tensor], dtype: DType) -> Tensor:
    """The parts beside each other along a new last axis."""
    shape = parts[0].shape
    offset = (0,) * len(shape)
    return b.pieces(
        (*shape, len(parts)),
        dtype,
        [((*offset, k), (*shape, 1), lambda *i, p=p: p[i[:-1]]) for k, p in enumerate(parts)],
    )


def _parts(x: Tensor, index: Index) -> Complex:
    """Real and imaginary part of an element; the last axis of ``x`` has one or both."""
    real = cast(x[(*index, 0)], DType.DOUBLE)
    if x.shape[-1] == 1:
        return real, constant(0, DType.DOUBLE)
    return real, cast(x[(*index, 1)], DType.DOUBLE)


def _require_signal(x: TensorType) -> None:
    require_dtype(x, FLOATS)
    if x.rank < 2 or x.shape[-1] not in (1, 2):
        raise ShapeError(f"the last of at least two axes must have size 1 or 2, not {x}")


@operator("DFT", since=20)
@dataclass(frozen=True, slots=True)
class DFT(Op):
    """Discrete Fourier transform along an axis. Source: ONNX DFT-20."""

    inverse: int = 0
    onesided: int = 0

    def _axis(self, x: TensorType, axis: TensorType | None) -> int | None:
        """The axis counted from the front; None where it is known at run time."""
        if axis is not None and are_computed(axis):
            return None
        found = as_axis(-2 if axis is None else constant_ints(axis, "axis")[0], x.rank)
        if found == x.rank - 1:
            raise ShapeError("the last axis holds real and imaginary parts and is not transformed")
        return found

    def _length(self, extent: Dim, given: Dim | None) -> Dim:
        if given is not None:
            return given
        return maximum(2 * (extent - 1), 1) if self.inverse and self.onesided else extent

    def infer(
        self, x: TensorType, length: TensorType | None = None, axis: TensorType | None = None
    ) -> TensorType:
        """The axis gets the length, or half of it; the last axis holds both parts."""
        _require_signal(x)
        _require_scalar(length, "dft_length")
        _require_scalar(axis, "axis")
        along = self._axis(x, axis)
        real = self.inverse and self.onesided
        if self.inverse and x.shape[-1] == 1 and self.onesided:
            raise Refuse("a one-sided inverse transform of real numbers")
        shape = list(x.shape[:-1])
        if along is None:
            shape = [runtime_size(0, k) for k in range(x.rank - 1)]
        elif length is not None and _known(length) is None:
            shape[along] = runtime_size(0, along)
        else:
            shape[along] = self._bins(self._length(shape[along], _known(length)))
        return TensorType(x.dtype, (*shape, 1 if real else 2))

    def _bins(self, length: Dim) -> Dim:
        return floordiv(length, 2) + 1 if self.onesided and not self.inverse else length

    def lower(
        self, b: Builder, x: Tensor, length: Tensor | None = None, axis: Tensor | None = None
    ) -> Tensor:
        """One sum for the real and one for the imaginary part."""
        out, rank = b.outputs[0].shape[:-1], x.rank - 1
        along = self._axis(x.type, None if axis is None else axis.type)
        marks: Shape  # 1 for the axis, 0 for the others
        if along is None:
            assert axis is not None
            named = ComputedAxes(axis, x.rank)
            marks = tuple(bound(b, f"axis:{k}", named.names(k)) for k in range(rank))
            chosen = [compare("eq", named.names(k), 1) for k in range(rank)]
            total: Expr = ZERO
            for mark, d in zip(chosen, x.shape[:-1], strict=True):
                total = select(mark, expr.index(d), total)
            extent = bound(b, "extent", total)
            b.check_equal(sum(marks, start=0), 1, "the last axis is not transformed")
        else:
            marks = tuple(int(k == along) for k in range(rank))
            extent = x.shape[along]
        size = self._length(extent, None if length is None else _size(b, "length", length))
        if along is None:
            for k, symbol in enumerate(out):
                kept = expr.index(x.shape[k])
                b.bind(symbol, select(chosen[k], expr.index(self._bins(size)), kept))
        elif out[along] != self._bins(size):
            b.bind(out[along], expr.index(self._bins(size)))
        taken = floordiv(size, 2) + 1 if self.inverse and self.onesided else size
        taken = minimum(extent, taken)  # what is longer is cut, what is shorter ends in zeros

        def at(i: Index, r: Index) -> Index:
            return tuple(k * (1 - m) + r[0] * m for k, m in zip(i, marks, strict=True))

        def turn(i: Index, r: Index) -> Dim:
            along: Dim = 0
            for k, m in zip(i, marks, strict=True):
                along = along + k * m
            return along * r[0]

        sign = 1.0 if self.inverse else -1.0
        parts = fourier(
            b, out, (taken,), size, turn, lambda i, r: self._read(x, at(i, r), r[0], size), sign
        )
        if self.inverse and self.onesided:
            parts = parts[:1]  # type: ignore[assignment]
        if self.inverse:
            count = expr.index(size, DType.DOUBLE)
            parts = tuple(b.loop(p.shape, lambda *i, p=p: p[i] / count) for p in parts)  # type: ignore[assignment]
        return _joined(b, parts, x.dtype)

    def _read(self, x: Tensor, index: Index, k: Dim, size: Dim) -> Complex:
        """A sample; of a one-sided spectrum each stands for its mirror image too."""
        real, imaginary = _parts(x, index)
        if not (self.inverse and self.onesided):
            return real, imaginary
        alone = call(
            "logical_or",
            compare("eq", expr.index(k), 0),
            compare("eq", expr.index(2 * k), expr.index(size)),
        )
        weight = select(alone, constant(1, DType.DOUBLE), 2)
        return real * weight, imaginary * weight


@operator("STFT", since=17)
@dataclass(frozen=True, slots=True)
class STFT(Op):
    """Fourier transforms of a window that moves along a signal. Source: ONNX STFT-17."""

    onesided: int = 1

    def infer(
        self,
        x: TensorType,
        step: TensorType,
        window: TensorType | None = None,
        length: TensorType | None = None,
    ) -> TensorType:
        """``[batch, frames, bins, 2]``."""
        _require_signal(x)
        if x.rank != 3:
            raise ShapeError(f"the signal must have 3 axes, not {x.rank}")
        _require_scalar(step, "frame_step")
        _require_scalar(length, "frame_length")
        if window is None and length is None:
            raise ShapeError("needs a window or a frame length")
        if window is not None and window.rank != 1:
            raise ShapeError(f"the window must have one axis, not {window.rank}")
        size = _known(length) if length is not None else None
        if window is not None:
            size = window.shape[0] if size is None else size
            require_equal(size, window.shape[0], "the window is as long as a frame")
        hop = _known(step)
        if size is not None:
            require_at_most(size, x.shape[1], "a frame must not be longer than the signal")
        frames: Dim = runtime_size(0, 1)
        if size is not None and hop is not None:
            frames = floordiv(x.shape[1] - size, hop) + 1
        bins = runtime_size(0, 2) if size is None else self._bins(size)
        return TensorType(x.dtype, (x.shape[0], frames, bins, 2))

    def _bins(self, length: Dim) -> Dim:
        return floordiv(length, 2) + 1 if self.onesided else length

    def lower(
        self,
        b: Builder,
        x: Tensor,
        step: Tensor,
        window: Tensor | None = None,
        length: Tensor | None = None,
    ) -> Tensor:
        """One sum for the real and one for the imaginary part."""
        _, frames, bins, _ = b.outputs[0].shape
        if window is not None:
            size = window.shape[0]
        else:
            assert length is not None
            size = _size(b, "length", length)
        hop = _size(b, "step", step)
        if bins != self._bins(size):
            b.bind(bins, expr.index(self._bins(size)))
        if frames != floordiv(x.shape[1] - size, hop) + 1:
            b.bind(frames, expr.index(maximum(floordiv(x.shape[1] - size, hop) + 1, 0)))

        def read(i: Index, r: Index) -> Complex:
            real, imaginary = _parts(x, (i[0], i[1] * hop + r[0]))
            if window is None:
                return real, imaginary
            weight = cast(window[r[0]], DType.DOUBLE)
            return real * weight, imaginary * weight

        shape = (x.shape[0], frames, bins)
        parts = fourier(b, shape, (size,), size, lambda i, r: i[2] * r[0], read, -1.0)
        return _joined(b, parts, x.dtype)


@operator("MelWeightMatrix", since=17)
@dataclass(frozen=True, slots=True)
class MelWeightMatrix(Op):
    """Weights that turn a spectrum into mel bins. Source: ONNX MelWeightMatrix-17."""

    output_datatype: int = 1

    def infer(self, *inputs: TensorType) -> TensorType:
        """``[dft_length // 2 + 1, num_mel_bins]``."""
        if len(inputs) != 5:
            raise ShapeError(f"needs 5 inputs, not {len(inputs)}")
        for k, what in enumerate(("num_mel_bins", "dft_length", "sample_rate", "lower", "upper")):
            _require_scalar(inputs[k], what)
        bins, length = _known(inputs[0]), _known(inputs[1])
        rows = runtime_size(0, 0) if length is None else floordiv(length, 2) + 1
        columns = runtime_size(0, 1) if bins is None else bins
        return TensorType(as_dtype(self.output_datatype), (rows, columns))

    def lower(self, b: Builder, *inputs: Tensor) -> Tensor:
        """The edges of the bins, then a triangle between each three of them."""
        (rows, columns), dtype = b.outputs[0].shape, b.outputs[0].dtype
        count, length = (cast(_scalar(t), DType.INT64) for t in inputs[:2])
        rate, lower, upper = (cast(_scalar(t), DType.DOUBLE) for t in inputs[2:])
        if _known(inputs[1].type) is None:
            b.bind(rows, call("div", length, 2) + 1)
        if _known(inputs[0].type) is None:
            b.bind(columns, count)

        def mel(hertz: Expr) -> Expr:
            return call("log1p", hertz / 700) * (2595 / math.log(10))

        def edge(i: Dim) -> Expr:
            low, high = mel(lower), mel(upper)
            width = (high - low) / (cast(count, DType.DOUBLE) + 2)
            at = (expr.index(i, DType.DOUBLE) * width + low) * (math.log(10) / 2595)
            hertz = call("expm1", at) * 700
            return cast(call("floor", (cast(length, DType.DOUBLE) + 1) * hertz / rate), DType.INT64)

        edges = b.loop((columns + 2,), edge)

        def body(j: Dim, i: Dim) -> Expr:
            low, centre, high = (edges[i + k] for k in range(3))
            at = expr.index(j)
            up, down = call("max", centre - low, 1), call("max", high - centre, 1)
            rising, falling = (
                cast(a, DType.DOUBLE) / cast(n, DType.DOUBLE)
                for a, n in ((at - low, up), (high - at, down))
            )
            rising = select(compare("eq", low, centre), 1, rising)
            left = call("logical_and", at >= low, at <= centre)
            right = call("logical_and", at >= centre, at < high)
            return select(right, falling, select(left, rising, 0))

        return b.loop((rows, columns), body, dtype)
