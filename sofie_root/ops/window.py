"""Windows that slide over spatial axes: what convolution and pooling attributes mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sofie_root.errors import ShapeError
from sofie_root.ir import Dim, Refuse, Shape, require_at_most
from sofie_root.ir.dim import ceildiv, floordiv, minimum

MAX_SPATIAL_AXES = 3
"""The kernels handle up to three spatial axes."""


@dataclass(frozen=True, slots=True)
class Window:
    """A window over the spatial axes, one number per axis."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    pad_begin: tuple[int, ...]
    pad_end: tuple[int, ...]

    @property
    def reach(self) -> tuple[int, ...]:
        """Elements from the first to the last that a window touches."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilation, strict=True))

    def traits(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """The members that every trait struct of a windowed kernel has."""
        names = ("kernel", "stride", "dilation", "pad_begin", "pad_end")
        return tuple((name, getattr(self, name)) for name in names)

    def out(self, spatial: Shape, ceil_mode: bool = False) -> Shape:
        """Number of windows along each axis; demands that at least one fits."""
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
        begin, end = split_padding(totals, upper=auto_pad == "SAME_UPPER")
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


def _same_padding(size: Dim, reach: int, stride: int) -> int:
    if isinstance(size, int):
        return max((-(-size // stride) - 1) * stride + reach - size, 0)
    if stride == 1:
        return reach - 1
    raise Refuse(f"auto_pad with stride {stride} needs a known size, not {size}")


def split_padding(totals: Sequence[int], upper: bool) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Begin and end paddings of these totals; the odd one goes to the end if ``upper``."""
    small, large = tuple(t // 2 for t in totals), tuple(t - t // 2 for t in totals)
    return (small, large) if upper else (large, small)
