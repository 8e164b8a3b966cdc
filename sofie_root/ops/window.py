"""Windows that slide over spatial axes: what convolution and pooling attributes mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce

from sofie_root.errors import ShapeError
from sofie_root.ir import Dim, Refuse, Shape, require_at_most
from sofie_root.ir.dim import ceildiv, floordiv, maximum, minimum
from sofie_root.program import expr
from sofie_root.program.builder import Builder, Tensor
from sofie_root.program.expr import Expr, call

MAX_SPATIAL_AXES = 3
"""The kernels handle up to three spatial axes."""


@dataclass(frozen=True, slots=True)
class Window:
    """A window over the spatial axes, one number per axis.

    Attributes:
        frame: begin and end paddings that depend on sizes which only the caller knows (auto_pad with
            strides); the input gets them with :meth:`framed` before a kernel sees it.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    pad_begin: tuple[int, ...]
    pad_end: tuple[int, ...]
    frame: tuple[tuple[Dim, Dim], ...] = ()

    def framed(self, b: Builder, x: Tensor, fill: float) -> tuple[Tensor, Window]:
        """The input with the frame around its spatial axes, and the window without it."""
        if not self.frame:
            return x, self
        frame = ((0, 0), (0, 0), *self.frame)
        shape = tuple(d + lo + hi for d, (lo, hi) in zip(x.shape, frame, strict=True))

        def body(*i: Dim) -> Expr:
            index = tuple(d - lo for d, (lo, _) in zip(i, frame, strict=True))
            tests = [
                test
                for at, size in zip(index[2:], x.shape[2:], strict=True)
                for test in (expr.index(at) >= 0, expr.index(at) < expr.index(size))
            ]
            return expr.guard(reduce(partial(call, "logical_and"), tests), x[index], fill)

        return b.loop(shape, body, x.dtype), replace(self, frame=())

    @property
    def reach(self) -> tuple[int, ...]:
        """Elements from the first to the last that a window touches."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilation, strict=True))

    def fields(self) -> dict[str, tuple[int, ...]]:
        """The fields of the window by name, as a ``Windowed`` operation has them."""
        names = ("kernel", "stride", "dilation", "pad_begin", "pad_end")
        return {name: getattr(self, name) for name in names}

    def out(self, spatial: Shape, ceil_mode: bool = False) -> Shape:
        """Number of windows along each axis; demands that at least one fits."""
        if self.frame:
            return tuple(map(ceildiv, spatial, self.stride))
        sizes: list[Dim] = []
        for axis, size in enumerate(spatial):
            stride, begin = self.stride[axis], self.pad_begin[axis]
            beyond = self.reach[axis] - begin - self.pad_end[axis]
            slack = stride - 1 if ceil_mode else 0
            require_at_most(beyond - slack, size, "the input must not be smaller than the window")
            if ceil_mode:
                # A window may hang over the end, but must not start behind the input.
                windows = ceildiv(size - beyond, stride) + 1
                sizes.append(minimum(windows, ceildiv(size + begin, stride)))
            else:
                sizes.append(floordiv(size - beyond, stride) + 1)
        return tuple(sizes)


def one_per_axis(
    values: Sequence[int] | None, rank: int, default: int, what: str
) -> tuple[int, ...]:
    """An attribute with one value per spatial axis; an omitted or empty one is all ``default``."""
    if not values:
        return (default,) * rank
    if len(values) != rank:
        raise ShapeError(f"{what} {tuple(values)} must have one value for each of {rank} axes")
    return tuple(values)


def window(
    spatial: Shape,
    kernel: Sequence[int],
    strides: Sequence[int] | None,
    dilations: Sequence[int] | None,
    pads: Sequence[int] | None,
    auto_pad: str,
) -> Window:
    """The window that ONNX attributes describe for an input of these spatial sizes."""
    rank = len(spatial)
    if not 1 <= rank <= MAX_SPATIAL_AXES:
        raise Refuse(f"{rank} spatial axes; 1 to {MAX_SPATIAL_AXES} are supported")
    kernel = one_per_axis(kernel, rank, 1, "kernel_shape")
    stride = one_per_axis(strides, rank, 1, "strides")
    dilation = one_per_axis(dilations, rank, 1, "dilations")
    if min(*kernel, *stride, *dilation) < 1:
        raise ShapeError("kernel_shape, strides and dilations must be positive")
    begin, end = _pads(rank, pads, auto_pad)
    if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        reach = Window(kernel, stride, dilation, begin, end).reach
        totals = tuple(map(_same_padding, spatial, reach, stride))
        upper = auto_pad == "SAME_UPPER"
        if not all(isinstance(t, int) for t in totals):
            smaller = [floordiv(t, 2) for t in totals]
            larger = [t - s for t, s in zip(totals, smaller, strict=True)]
            frame = (
                zip(smaller, larger, strict=True) if upper else zip(larger, smaller, strict=True)
            )
            return Window(kernel, stride, dilation, begin, end, tuple(frame))
        begin, end = split_padding([t for t in totals if isinstance(t, int)], upper)
    return Window(kernel, stride, dilation, begin, end)


def _pads(
    rank: int, pads: Sequence[int] | None, auto_pad: str
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    if auto_pad not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"):
        raise ShapeError(f"auto_pad {auto_pad!r} is not known")
    if auto_pad != "NOTSET" or not pads:
        return (0,) * rank, (0,) * rank
    if len(pads) != 2 * rank:
        raise ShapeError(f"pads {tuple(pads)} must have two values for each of {rank} axes")
    if min(pads) < 0:
        raise Refuse("negative pads")
    return tuple(pads[:rank]), tuple(pads[rank:])


def _same_padding(size: Dim, reach: int, stride: int) -> Dim:
    """Elements to add so that there are ``ceil(size / stride)`` windows."""
    return maximum((ceildiv(size, stride) - 1) * stride + reach - size, 0)


def split_padding(totals: Sequence[int], upper: bool) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Begin and end paddings of these totals; the odd one goes to the end if ``upper``."""
    small, large = tuple(t // 2 for t in totals), tuple(t - t // 2 for t in totals)
    return (small, large) if upper else (large, small)
