"""Operators on patches of an image: Col2Im and DeformConv."""

from __future__ import annotations

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
from sofie_root.ir.dim import floordiv, mod, product
from sofie_root.program import expr
from sofie_root.program.builder import Builder, Tensor, flat_index
from sofie_root.program.expr import Expr, call, cast, compare

from .checks import FLOATS, require_dtype, require_one_dtype
from .shape import static_length
from .symbolic import dims_of, sizes_of
from .window import one_per_axis

Index = tuple[Dim, ...]


@operator("Col2Im", since=18)
@dataclass(frozen=True, slots=True)
class Col2Im(Op):
    """Patches added up to an image. Source: ONNX Col2Im-18."""

    dilations: tuple[int, ...] | None = None
    pads: tuple[int, ...] | None = None
    strides: tuple[int, ...] | None = None

    def infer(self, x: TensorType, image: TensorType, block: TensorType) -> TensorType:
        """``[N, C, *image]``."""
        rank = static_length(image, "image_shape")
        if x.rank != 3 or static_length(block, "block_shape") != rank:
            raise ShapeError(f"needs 3 axes and blocks of {rank} axes, not {x} and {block}")
        self._attributes(rank)
        sizes = tuple(runtime_size(0, k + 2) for k in range(rank))
        shape: Shape = sizes if image.value is None else image.value
        channels: Dim = runtime_size(0, 1)
        if block.value is not None:
            channels = floordiv(x.shape[1], product(block.value))
            require_equal(channels * product(block.value), x.shape[1], "whole blocks of channels")
            if image.value is not None:
                places = self._places(shape, block.value)
                for n in places:
                    require_at_most(1, n, "a block must fit into the image")
                require_equal(product(places), x.shape[2], "one column for each place of a block")
        return TensorType(x.dtype, (x.shape[0], channels, *shape))

    def _attributes(self, rank: int) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """Strides, dilations and pads."""
        stride = one_per_axis(self.strides, rank, 1, "strides")
        dilation = one_per_axis(self.dilations, rank, 1, "dilations")
        pads = self.pads or (0,) * 2 * rank
        if len(pads) != 2 * rank or min(*stride, *dilation) < 1 or min(pads) < 0:
            raise ShapeError("strides, dilations and pads do not fit the image")
        return stride, dilation, tuple(pads)

    def _places(self, image: Shape, block: Shape) -> Shape:
        """How many places a block has along each axis."""
        rank = len(image)
        stride, dilation, pads = self._attributes(rank)
        return tuple(
            floordiv(n + pads[k] + pads[k + rank] - dilation[k] * (size - 1) - 1, stride[k]) + 1
            for k, (n, size) in enumerate(zip(image, block, strict=True))
        )

    def lower(self, b: Builder, x: Tensor, image: Tensor, block: Tensor) -> Tensor:
        """A sum over the elements of a block, of those that lie on this pixel."""
        out = b.outputs[0].shape
        if image.type.value is None:
            for symbol, size in zip(out[2:], dims_of(image), strict=True):
                b.bind(symbol, expr.index(size))
        taps = sizes_of(b, block, "block")
        if block.type.value is None:
            b.bind(out[1], expr.index(floordiv(x.shape[1], product(taps))))
            b.check_equal(out[1] * product(taps), x.shape[1], "whole blocks of channels")
        rank = len(taps)
        stride, dilation, pads = self._attributes(rank)
        places = self._places(out[2:], taps)
        if image.type.value is None or block.type.value is None:
            for n, size in zip(places, taps, strict=True):
                b.check_at_most(1, size, "a block has elements")
                b.check_at_most(1, n, "a block must fit into the image")
            b.check_equal(product(places), x.shape[2], "one column for each place of a block")

        def body(i: Index, tap: Index) -> Expr:
            position: list[Dim] = []
            tests = []
            for k in range(rank):
                start = i[2 + k] + pads[k] - tap[k] * dilation[k]
                position.append(floordiv(start, stride[k]))
                tests.append(expr.index(start) >= 0)
                tests.append(expr.index(position[k]) < expr.index(places[k]))
                if stride[k] > 1:
                    tests.append(compare("eq", expr.index(mod(start, stride[k])), 0))
            inside = tests[0]
            for test in tests[1:]:
                inside = call("logical_and", inside, test)
            row = i[1] * product(taps) + flat_index(tap, taps)
            return expr.guard(inside, x[i[0], row, flat_index(position, places)], 0)

        return b.reduce("sum", out, taps, body, x.dtype)


@operator("DeformConv", since=22)
@dataclass(frozen=True, slots=True)
class DeformConv(Op):
    """Convolution that reads beside its grid, where offsets say. Source: ONNX DeformConv-22."""

    dilations: tuple[int, ...] | None = None
    group: int = 1
    kernel_shape: tuple[int, ...] | None = None
    offset_group: int = 1
    pads: tuple[int, ...] | None = None
    strides: tuple[int, ...] | None = None

    def infer(
        self,
        x: TensorType,
        w: TensorType,
        offset: TensorType,
        bias: TensorType | None = None,
        mask: TensorType | None = None,
    ) -> TensorType:
        """``[N, O, *out]``."""
        given = [t for t in (x, w, offset, bias, mask) if t is not None]
        require_one_dtype(given)
        require_dtype(x, FLOATS)
        if x.rank != 4 or w.rank != 4 or offset.rank != 4:
            raise Refuse("other than two spatial axes")
        for t, rank in ((bias, 1), (mask, 4)):
            if t is not None and t.rank != rank:
                raise ShapeError(f"bias has 1 axis and mask 4 axes, not {t}")
        for t in (offset, mask):
            if t is not None:
                require_equal(t.shape[0], x.shape[0], "offsets and masks of every image")
        kernel = w.shape[2:]
        if self.kernel_shape is not None:
            if len(self.kernel_shape) != 2:
                raise ShapeError(f"kernel_shape {self.kernel_shape} is not of two axes")
            for have, size in zip(self.kernel_shape, kernel, strict=True):
                require_equal(have, size, "kernel_shape is the shape of the weights")
        require_equal(x.shape[1], w.shape[1] * self.group, "channels of all groups")
        taps = product(kernel) * self.offset_group
        require_equal(offset.shape[1], taps * 2, "two offsets for each weight of a channel")
        if mask is not None:
            require_equal(mask.shape[1], taps, "one mask for each weight of a channel")
        if bias is not None:
            require_equal(bias.shape[0], w.shape[0], "one bias per output channel")
        stride, dilation, pads = self._attributes()
        out = tuple(
            floordiv(n + pads[k] + pads[k + 2] - dilation[k] * (size - 1) - 1, stride[k]) + 1
            for k, (n, size) in enumerate(zip(x.shape[2:], kernel, strict=True))
        )
        for t in (offset, mask):
            for k in (0, 1) if t is not None else ():
                assert t is not None
                require_equal(t.shape[2 + k], out[k], "offsets and masks of every output pixel")
        return TensorType(x.dtype, (x.shape[0], w.shape[0], *out))

    def _attributes(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        stride = one_per_axis(self.strides, 2, 1, "strides")
        dilation = one_per_axis(self.dilations, 2, 1, "dilations")
        pads = self.pads or (0,) * 4
        if len(pads) != 4 or min(*stride, *dilation, self.group, self.offset_group) < 1:
            raise ShapeError("strides, dilations, pads and groups do not fit two spatial axes")
        return stride, dilation, tuple(pads)

    def lower(
        self,
        b: Builder,
        x: Tensor,
        w: Tensor,
        offset: Tensor,
        bias: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """A sum over channels and weights of interpolated pixels."""
        out, channels = b.outputs[0].shape, w.shape[1]
        kernel = w.shape[2:]
        stride, dilation, pads = self._attributes()
        shared = floordiv(x.shape[1], self.offset_group)  # channels that have the same offsets
        per_group = floordiv(out[1], self.group)

        def body(i: Index, r: Index) -> Expr:
            n, o, *at = i
            c, *tap = r
            channel = floordiv(o, per_group) * channels + c
            weight = floordiv(channel, shared) * product(kernel) + flat_index(tap, kernel)
            place = [
                expr.index(at[k] * stride[k] + tap[k] * dilation[k] - pads[k], x.dtype.compute)
                + offset[n, weight * 2 + k, at[0], at[1]]
                for k in (0, 1)
            ]
            value = w[o, c, tap[0], tap[1]] * self._pixel(x, n, channel, place)
            return value if mask is None else value * mask[n, weight, at[0], at[1]]

        total = b.reduce("sum", out, (channels, *kernel), body)
        if bias is None:
            return b.cast(total, x.dtype)
        return b.loop(out, lambda *i: total[i] + bias[i[1]], x.dtype)

    @staticmethod
    def _pixel(x: Tensor, n: Dim, channel: Dim, place: list[Expr]) -> Expr:
        """The image between its pixels; zero outside."""
        low = [call("floor", p) for p in place]
        total: Expr | None = None
        for corner in ((0, 0), (0, 1), (1, 0), (1, 1)):
            weight: Expr | None = None
            index: list[Dim] = []
            inside: Expr | None = None
            for k in (0, 1):
                size = x.shape[2 + k]
                position = low[k] + float(corner[k])
                part = 1 - call("abs", place[k] - position)
                weight = part if weight is None else weight * part
                whole = cast(position, DType.INT64)
                test = call("logical_and", whole >= 0, whole < expr.index(size))
                inside = test if inside is None else call("logical_and", inside, test)
                index.append(expr.as_index(whole, size))
            assert weight is not None
            assert inside is not None
            value = weight * expr.guard(inside, x[n, channel, index[0], index[1]], 0)
            total = value if total is None else total + value
        assert total is not None
        return total
