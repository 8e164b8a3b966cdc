"""Convolution in one to three dimensions: Conv, ConvTranspose, ConvInteger."""

from __future__ import annotations

from collections.abc import Sequence
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
)
from sofie_root.program.builder import Builder, Tensor
from sofie_root.program.operations import conv as operations

from .checks import FLOATS, require_dtype, require_one_dtype
from .gemm import without_zero_point, zero_points
from .window import Window, one_per_axis, split_padding, window


@dataclass(frozen=True, slots=True)
class Convolution(Op):
    """Base of convolutions: their attributes, and the shapes that follow from them."""

    auto_pad: str = "NOTSET"
    dilations: tuple[int, ...] | None = None
    group: int = 1
    kernel_shape: tuple[int, ...] | None = None
    pads: tuple[int, ...] | None = None
    strides: tuple[int, ...] | None = None

    def window(self, x: Shape, w: Shape) -> Window:
        """The window for these shapes of input and weights."""
        kernel = _static_kernel(x, w, self.kernel_shape)
        return window(x[2:], kernel, self.strides, self.dilations, self.pads, self.auto_pad)

    def shape(self, x: Shape, w: Shape) -> Shape:
        """Shape of the result for these shapes of input and weights."""
        slid = self.window(x, w)
        require_equal(x[1], w[1] * self.group, "input channels must fit weights times group")
        _check_groups(w[0], self.group)
        return (x[0], w[0], *slid.out(x[2:]))

    def convolved(self, b: Builder, x: Tensor, w: Tensor) -> Tensor:
        """The convolution of operands in a dtype that is computed in."""
        x, slid = self.window(x.shape, w.shape).framed(b, x, 0)
        out = b.outputs[0].shape[2:]
        (y,) = b.operation(
            operations.Conv,
            (TensorType(x.dtype, (x.shape[0], w.shape[0], *out)),),
            x=x,
            w=_weights(b, w, x.dtype),
            groups=self.group,
            out=out,
            **slid.fields(),
        )
        return y

    def convolved_bytes(
        self, b: Builder, x: Tensor, x_zero: Tensor | None, w: Tensor, w_zero: Tensor | None
    ) -> Tensor:
        """``x - x_zero`` convolved with ``w - w_zero`` in INT32.

        A frame of padding is made of zeros and not of zero points, so that a convolution with one widens
        its operands first.
        """
        slid, out = self.window(x.shape, w.shape), b.outputs[0].shape[2:]
        if slid.frame:
            wide = without_zero_point(b, x, x_zero, 1 - x.rank)
            return self.convolved(b, wide, without_zero_point(b, w, w_zero, -w.rank))
        (y,) = b.operation(
            operations.IntegerConv,
            (TensorType(DType.INT32, (x.shape[0], w.shape[0], *out)),),
            x=x,
            x_zero=zero_points(b, x_zero),
            w=w,
            w_zero=zero_points(b, w_zero),
            groups=self.group,
            out=out,
            **slid.fields(),
        )
        return y


@operator("Conv", since=11)
@dataclass(frozen=True, slots=True)
class Conv(Convolution):
    """Convolution with optional bias. Source: ONNX Conv-22."""

    def infer(self, x: TensorType, w: TensorType, bias: TensorType | None = None) -> TensorType:
        """``[N, O, *out]``."""
        require_dtype(x, FLOATS)
        require_one_dtype([t for t in (x, w, bias) if t is not None])
        shape = self.shape(x.shape, w.shape)
        _check_bias(bias, shape[1])
        return TensorType(x.dtype, shape)

    def lower(self, b: Builder, x: Tensor, w: Tensor, bias: Tensor | None = None) -> Tensor:
        """The convolution, then a loop for the bias, which a target can fuse into it."""
        return _add_bias(b, self.convolved(b, b.cast(x, x.dtype.compute), w), bias, x.dtype)


@operator("ConvInteger", since=10)
@dataclass(frozen=True, slots=True)
class ConvInteger(Convolution):
    """Convolution of 8-bit integers less their zero points. Source: ONNX ConvInteger-10."""

    def infer(
        self,
        x: TensorType,
        w: TensorType,
        x_zero_point: TensorType | None = None,
        w_zero_point: TensorType | None = None,
    ) -> TensorType:
        """``[N, O, *out]`` of INT32."""
        for operand, zero in ((x, x_zero_point), (w, w_zero_point)):
            if operand.dtype not in (DType.INT8, DType.UINT8):
                raise ShapeError(f"operands must be int8 or uint8, not {operand.dtype}")
            if zero is not None and zero.dtype is not operand.dtype:
                raise ShapeError(f"zero point is {zero.dtype}, its operand {operand.dtype}")
        if x_zero_point is not None and x_zero_point.numel != 1:
            raise ShapeError(f"the input has one zero point, not {x_zero_point}")
        if w_zero_point is not None and w_zero_point.numel != 1:
            if w_zero_point.rank != 1:
                raise ShapeError(f"zero points of the weights must have 1 axis: {w_zero_point}")
            require_equal(w_zero_point.shape[0], w.shape[0], "one zero point per output channel")
        return TensorType(DType.INT32, self.shape(x.shape, w.shape))

    def lower(
        self,
        b: Builder,
        x: Tensor,
        w: Tensor,
        x_zero: Tensor | None = None,
        w_zero: Tensor | None = None,
    ) -> Tensor:
        """A convolution of bytes."""
        return self.convolved_bytes(b, x, x_zero, w, w_zero)


@operator("ConvTranspose", since=11)
@dataclass(frozen=True, slots=True)
class ConvTranspose(Op):
    """Transposed convolution with optional bias. Source: ONNX ConvTranspose-22."""

    channels_first = True

    auto_pad: str = "NOTSET"
    dilations: tuple[int, ...] | None = None
    group: int = 1
    kernel_shape: tuple[int, ...] | None = None
    output_padding: tuple[int, ...] | None = None
    output_shape: tuple[int, ...] | None = None
    pads: tuple[int, ...] | None = None
    strides: tuple[int, ...] | None = None

    def infer(self, x: TensorType, w: TensorType, bias: TensorType | None = None) -> TensorType:
        """``[N, O, *out]``."""
        require_dtype(x, FLOATS)
        require_one_dtype([t for t in (x, w, bias) if t is not None])
        _, out = self._window(x.shape, w.shape)
        require_equal(x.shape[1], w.shape[0], "input channels must be those of the weights")
        _check_groups(w.shape[0], self.group)
        outputs = w.shape[1] * self.group
        _check_bias(bias, outputs)
        return TensorType(x.dtype, (x.shape[0], outputs, *out))

    def _window(self, x: Shape, w: Shape) -> tuple[Window, Shape]:
        """The window and the spatial sizes of the result."""
        kernel, spatial = _static_kernel(x, w, self.kernel_shape), x[2:]
        slid = window(spatial, kernel, self.strides, self.dilations, self.pads, "NOTSET")
        if self.auto_pad == "VALID":
            slid = window(spatial, kernel, self.strides, self.dilations, None, "VALID")
        extra = one_per_axis(self.output_padding, len(spatial), 0, "output_padding")
        whole = [
            (n - 1) * s + r + e
            for n, s, r, e in zip(spatial, slid.stride, slid.reach, extra, strict=True)
        ]
        for n in spatial:
            require_at_most(1, n, "the input must not be empty")
        upper = self.auto_pad == "SAME_UPPER"
        if self.output_shape:
            if len(self.output_shape) not in (len(spatial), len(x)):
                raise ShapeError(
                    f"output_shape {self.output_shape} does not fit {len(spatial)} axes"
                )
            out: Shape = tuple(self.output_shape[-len(spatial) :])
            totals = [_known(size) - int(o) for size, o in zip(whole, out, strict=True)]  # type: ignore[arg-type]
        elif self.auto_pad.startswith("SAME"):
            # Padded so that the result is the input times the stride.
            totals = [r + e - s for r, e, s in zip(slid.reach, extra, slid.stride, strict=True)]
            out = tuple(size - max(t, 0) for size, t in zip(whole, totals, strict=True))
        else:
            pads = [p + q for p, q in zip(slid.pad_begin, slid.pad_end, strict=True)]
            for size, pad in zip(whole, pads, strict=True):
                require_at_most(pad, size, "pads must not exceed the result")
            return slid, tuple(size - pad for size, pad in zip(whole, pads, strict=True))
        begin, end = split_padding([max(t, 0) for t in totals], upper)
        return Window(slid.kernel, slid.stride, slid.dilation, begin, end), out

    def lower(self, b: Builder, x: Tensor, w: Tensor, bias: Tensor | None = None) -> Tensor:
        """The convolution, then a loop for the bias, which a target can fuse into it."""
        slid, out = self._window(x.shape, w.shape)
        wide = b.cast(x, x.dtype.compute)
        (y,) = b.operation(
            operations.ConvTranspose,
            (TensorType(wide.dtype, (x.shape[0], w.shape[1] * self.group, *out)),),
            x=wide,
            w=_weights(b, w, wide.dtype),
            groups=self.group,
            out=out,
            **slid.fields(),
        )
        return _add_bias(b, y, bias, x.dtype)


def _known(size: Dim) -> int:
    if not isinstance(size, int):
        raise Refuse("output_shape needs an input of known size")
    return size


def _static_kernel(x: Shape, w: Shape, kernel_shape: Sequence[int] | None) -> tuple[int, ...]:
    """Spatial extents of the weights, which must agree with the attribute."""
    if len(x) < 3 or len(x) != len(w):
        raise ShapeError(f"input of {len(x)} axes and weights of {len(w)} do not fit")
    static = tuple(d for d in w if isinstance(d, int))
    if len(static) != len(w):
        raise Refuse("weights must have a known shape")
    if kernel_shape and tuple(kernel_shape) != static[2:]:
        raise ShapeError(f"kernel_shape {tuple(kernel_shape)} is not that of the weights {static}")
    return static[2:]


def _check_groups(channels: Dim, groups: int) -> None:
    if not isinstance(channels, int) or groups < 1 or channels % groups:
        raise ShapeError(f"{channels} channels cannot be split into {groups} groups")


def _check_bias(bias: TensorType | None, outputs: Dim) -> None:
    if bias is not None:
        if bias.rank != 1:
            raise ShapeError(f"bias must be a vector, not {bias}")
        require_equal(bias.shape[0], outputs, "bias needs one value per output channel")


def _weights(b: Builder, w: Tensor, dtype: DType) -> Tensor:
    """The weights in another dtype; constants stay constants."""
    if w.constant is None or w.dtype is dtype:
        return b.cast(w, dtype)
    return b.constant(w.constant.astype(dtype.numpy), w.buffer)


def _add_bias(b: Builder, y: Tensor, bias: Tensor | None, dtype: DType) -> Tensor:
    if bias is None:
        return b.cast(y, dtype)
    return b.loop(y.shape, lambda *i: y[i] + bias[i[1]], dtype)
