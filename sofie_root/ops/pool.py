"""Pooling: MaxPool, AveragePool, LpPool, the global ones, and MaxUnpool."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sofie_root.errors import ShapeError
from sofie_root.ir import (
    Dim,
    DType,
    Op,
    Refuse,
    Shape,
    TensorType,
    operator,
    output_count,
    require_at_most,
    require_equal,
    runtime_size,
)
from sofie_root.ir.dim import product
from sofie_root.program.builder import Builder, Tensor
from sofie_root.program.expr import Expr, call, cast, compare, constant, guard, index
from sofie_root.program.operations import pool as operations
from sofie_root.program.statement import ReduceKind

from .checks import FLOATS, require_dtype
from .scatter import scatter_elements
from .shape import bind_sizes, static_length
from .symbolic import dims_of
from .window import Window, one_per_axis, window


def _spatial(x: TensorType) -> Shape:
    if x.rank < 3:
        raise ShapeError(f"input needs batch, channel and spatial axes, not {x}")
    return x.shape[2:]


@dataclass(frozen=True, slots=True)
class Pool(Op):
    """Base of pooling over windows: the attributes, and the shape that follows from them."""

    kernel_shape: tuple[int, ...]
    auto_pad: str = "NOTSET"
    ceil_mode: int = 0
    dilations: tuple[int, ...] | None = None
    pads: tuple[int, ...] | None = None
    strides: tuple[int, ...] | None = None

    def window(self, x: TensorType) -> Window:
        """The window for this input."""
        return window(
            _spatial(x), self.kernel_shape, self.strides, self.dilations, self.pads, self.auto_pad
        )

    def shape(self, x: TensorType) -> Shape:
        """``[N, C, *out]``."""
        return (*x.shape[:2], *self.window(x).out(x.shape[2:], bool(self.ceil_mode)))


def _lowest(dtype: DType) -> float:
    """What a maximum never is, unless there is nothing else."""
    return -math.inf if dtype.is_float else float(np.iinfo(dtype.numpy).min)


@operator("MaxPool", since=12)
@dataclass(frozen=True, slots=True)
class MaxPool(Pool):
    """The maximum of each window, and where it was. Source: ONNX MaxPool-22."""

    storage_order: int = 0

    def infer(self, x: TensorType) -> tuple[TensorType, TensorType]:
        """``[N, C, *out]``, and as INT64."""
        require_dtype(x, FLOATS | {DType.INT8, DType.UINT8})
        shape = self.shape(x)
        if self.window(x).frame and output_count() > 1:
            raise Refuse("indices where auto_pad and strides meet sizes that are not known")
        return TensorType(x.dtype, shape), TensorType(DType.INT64, shape)

    def lower(self, b: Builder, x: Tensor) -> tuple[Tensor, Tensor]:
        """The maxima, and their positions where they are wanted."""
        x, slid = self.window(x.type).framed(b, x, _lowest(x.dtype))
        wide, shape = b.cast(x, x.dtype.compute), b.outputs[0].shape
        places = TensorType(DType.INT64, shape) if any(b.wanted[1:]) else None
        y, indices = b.operation(
            operations.MaxPool,
            (TensorType(wide.dtype, shape), places),
            x=wide,
            storage_order=int(self.storage_order != 0),
            out=shape[2:],
            **slid.fields(),
        )
        return b.cast(y, x.dtype), indices


@operator("AveragePool", since=19)
@dataclass(frozen=True, slots=True)
class AveragePool(Pool):
    """The mean of each window. Source: ONNX AveragePool-22."""

    count_include_pad: int = 0

    def infer(self, x: TensorType) -> TensorType:
        """``[N, C, *out]``."""
        require_dtype(x, FLOATS)
        return TensorType(x.dtype, self.shape(x))

    def lower(self, b: Builder, x: Tensor) -> Tensor:
        """The means; with a frame, a loop that leaves it out of them."""
        out, include_pad = b.outputs[0].shape[2:], bool(self.count_include_pad)
        slid, extents = self.window(x.type), x.shape[2:]
        x, plain = slid.framed(b, x, 0)
        wide = b.cast(x, x.dtype.compute)
        (y,) = b.operation(
            operations.AveragePool,
            (TensorType(wide.dtype, b.outputs[0].shape),),
            x=wide,
            count_include_pad=include_pad,
            out=out,
            **plain.fields(),
        )
        y = b.cast(y, x.dtype)
        if include_pad or not slid.frame:
            return y
        shares = [
            self._share(b, extents[k], out[k], slid.frame[k][0], plain, k) for k in range(len(out))
        ]

        def body(*i: Dim) -> Expr:
            value = y[i]
            for share, at in zip(shares, i[2:], strict=True):
                value = value * cast(share[at], value.dtype)
            return value

        return b.loop(b.outputs[0].shape, body, x.dtype)

    def _share(self, b: Builder, size: Dim, out: Dim, begin: Dim, slid: Window, k: int) -> Tensor:
        """The factor from a mean over the whole window to a mean over its elements inside the input."""

        def inside(i: tuple[Dim, ...], tap: tuple[Dim, ...]) -> Expr:
            at = index(i[0] * slid.stride[k] + tap[0] * slid.dilation[k] - begin)
            test = call("logical_and", at >= 0, at < index(size))
            return cast(test, DType.DOUBLE)

        count = b.reduce("sum", (out,), (slid.kernel[k],), inside)
        return b.loop((out,), lambda i: constant(slid.kernel[k], DType.DOUBLE) / count[i])


@operator("LpPool", since=18)
@dataclass(frozen=True, slots=True)
class LpPool(Pool):
    """The p-norm of each window. Source: ONNX LpPool-22."""

    channels_first = True

    p: int = 2

    def infer(self, x: TensorType) -> TensorType:
        """``[N, C, *out]``."""
        require_dtype(x, FLOATS)
        if self.p < 1:
            raise ShapeError(f"p is {self.p}, must be positive")
        return TensorType(x.dtype, self.shape(x))

    def lower(self, b: Builder, x: Tensor) -> Tensor:
        """The norms."""
        x, slid = self.window(x.type).framed(b, x, 0)
        wide, shape = b.cast(x, x.dtype.compute), b.outputs[0].shape
        (y,) = b.operation(
            operations.LpPool,
            (TensorType(wide.dtype, shape),),
            x=wide,
            p=self.p,
            out=shape[2:],
            **slid.fields(),
        )
        return b.cast(y, x.dtype)


class GlobalPool(Op):
    """Base of pooling over all spatial axes at once."""

    __slots__ = ()

    def infer(self, x: TensorType) -> TensorType:
        """``[N, C, 1, ...]``."""
        require_dtype(x, FLOATS)
        return TensorType(x.dtype, (*x.shape[:2], *(1,) * len(_spatial(x))))


def _over_space(
    b: Builder,
    x: Tensor,
    kind: ReduceKind,
    before: Callable[[Expr], Expr],
    after: Callable[[Expr], Expr],
) -> Tensor:
    """A reduction over the spatial axes, and a loop that finishes it."""
    total = b.reduce(kind, x.shape[:2], x.shape[2:], lambda i, r: before(x[(*i, *r)]))
    ones = (1,) * (x.rank - 2)
    return b.loop((*x.shape[:2], *ones), lambda n, c, *_: after(total[n, c]), x.dtype)


@operator("GlobalAveragePool", since=1)
@dataclass(frozen=True, slots=True)
class GlobalAveragePool(GlobalPool):
    """The mean of each channel. Source: ONNX GlobalAveragePool-22."""

    def lower(self, b: Builder, x: Tensor) -> Tensor:
        """A sum, divided by the number of elements."""
        count = index(product(x.shape[2:]), x.dtype.compute)
        return _over_space(b, x, "sum", lambda v: v, lambda v: v / count)


@operator("GlobalMaxPool", since=1)
@dataclass(frozen=True, slots=True)
class GlobalMaxPool(GlobalPool):
    """The maximum of each channel. Source: ONNX GlobalMaxPool-22."""

    def lower(self, b: Builder, x: Tensor) -> Tensor:
        """A maximum."""
        return _over_space(b, x, "max", lambda v: v, lambda v: v)


@operator("GlobalLpPool", since=2)
@dataclass(frozen=True, slots=True)
class GlobalLpPool(GlobalPool):
    """The p-norm of each channel. Source: ONNX GlobalLpPool-22."""

    p: int = 2

    def infer(self, x: TensorType) -> TensorType:
        """``[N, C, 1, ...]``."""
        if self.p < 1:
            raise ShapeError(f"p is {self.p}, must be positive")
        return GlobalPool.infer(self, x)

    def lower(self, b: Builder, x: Tensor) -> Tensor:
        """A sum of powers, and its root."""
        if self.p == 1:
            return _over_space(b, x, "sum", lambda v: call("abs", v), lambda v: v)
        if self.p == 2:
            return _over_space(b, x, "sum", lambda v: v * v, lambda v: call("sqrt", v))
        power, root = float(self.p), 1.0 / self.p
        return _over_space(
            b,
            x,
            "sum",
            lambda v: call("pow", call("abs", v), power),
            lambda v: call("pow", v, root),
        )


@operator("MaxUnpool", since=11)
@dataclass(frozen=True, slots=True)
class MaxUnpool(Op):
    """The maxima of a MaxPool put back where they were. Source: ONNX MaxUnpool-22."""

    channels_first = True

    kernel_shape: tuple[int, ...]
    pads: tuple[int, ...] | None = None
    strides: tuple[int, ...] | None = None

    def infer(
        self, x: TensorType, indices: TensorType, output_shape: TensorType | None = None
    ) -> TensorType:
        """The shape that the pooling had as input, or the one that is given."""
        require_dtype(x, FLOATS)
        if indices.dtype is not DType.INT64 or indices.rank != x.rank:
            raise ShapeError(f"indices are {indices}, expected int64 in the shape of {x}")
        for n, m in zip(x.shape, indices.shape, strict=True):
            require_equal(n, m, "one index per element")
        inner = self._unpooled(x)
        if output_shape is None:
            return TensorType(x.dtype, inner)
        if static_length(output_shape, "output_shape") != x.rank:
            raise ShapeError(f"output_shape has {output_shape.numel} sizes for {x.rank} axes")
        if output_shape.value is None:  # what does not fit is cut off
            return TensorType(x.dtype, tuple(runtime_size(0, axis) for axis in range(x.rank)))
        outer = output_shape.value
        for small, large in zip(inner, outer, strict=True):
            require_at_most(small, large, "output_shape must hold the unpooled input")
        return TensorType(x.dtype, outer)

    def _unpooled(self, x: TensorType) -> Shape:
        rank = len(_spatial(x))
        kernel = one_per_axis(self.kernel_shape, rank, 1, "kernel_shape")
        stride = one_per_axis(self.strides, rank, 1, "strides")
        pads = one_per_axis(self.pads, 2 * rank, 0, "pads")
        sizes: list[Dim] = []
        for axis, n in enumerate(x.shape[2:]):
            size = (n - 1) * stride[axis] + kernel[axis] - pads[axis] - pads[rank + axis]
            if isinstance(size, int) and size < 0:
                raise Refuse("pads larger than the result")
            sizes.append(size)
        return (*x.shape[:2], *sizes)

    def lower(
        self, b: Builder, x: Tensor, indices: Tensor, output_shape: Tensor | None = None
    ) -> Tensor:
        """A scatter into zeros, and a loop that widens it to a given shape."""
        inner, out, compute = self._unpooled(x.type), b.outputs[0].shape, x.dtype.compute
        if output_shape is not None and output_shape.type.value is None:
            bind_sizes(b, dims_of(output_shape))
        numel = (x.type.numel,)
        zeros = b.loop((product(inner),), lambda _: constant(0, compute))
        wide = b.reshape(b.cast(x, compute), numel)
        y = scatter_elements(b, zeros, b.reshape(indices, numel), wide, 0, "none")
        y = b.reshape(y, inner)
        if inner == out:
            return b.cast(y, x.dtype)

        def body(*i: Dim) -> Expr:
            value = y[i]
            for position, size in zip(i, inner, strict=True):
                value = guard(compare("lt", index(position), index(size)), value, 0)
            return value

        return b.loop(out, body, x.dtype)
