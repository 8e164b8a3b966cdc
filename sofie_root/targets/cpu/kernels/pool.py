"""Pooling over sliding windows (``cpu/pool.hxx``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sofie_root.ir.dim import product
from sofie_root.ir.dtype import DType
from sofie_root.ir.types import TensorType
from sofie_root.program.builder import Builder, Tensor
from sofie_root.program.operation import Array, Operand, Resolve
from sofie_root.program.operations.pool import AveragePool, LpPool, MaxPool, maxima, means
from sofie_root.program.operations.window import Windowed
from sofie_root.targets.cpu.channels import channels_first, channels_last, innermost_axis
from sofie_root.targets.cxx.call import Call, CppKernel, Extents, In, Out, Traits

from . import call, choose


@dataclass(frozen=True, slots=True, kw_only=True)
class MaxPoolChannelsLast(Windowed):
    """The maximum of each window of ``x[N, *spatial, C]``, FLOAT: ``[N, *out, C]``.

    Attributes:
        x: the input.
    """

    x: Operand

    def evaluate(self, resolve: Resolve, **operands: Any) -> list[Array]:
        """That of the channels first, and moved."""
        first = np.moveaxis(operands["x"], -1, 1)
        best, _ = maxima(self, first, tuple(map(resolve, self.out)), column_major=False)
        return [np.moveaxis(best, 1, -1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class AveragePoolChannelsLast(Windowed):
    """The mean of each window of ``x[N, *spatial, C]``, FLOAT: ``[N, *out, C]``.

    Attributes:
        x: the input.
        count_include_pad: whether padding counts as elements that are zero.
    """

    x: Operand
    count_include_pad: bool

    def evaluate(self, resolve: Resolve, **operands: Any) -> list[Array]:
        """That of the channels first, and moved."""
        first = np.moveaxis(operands["x"], -1, 1)
        mean = means(self, first, tuple(map(resolve, self.out)), self.count_include_pad)
        return [np.moveaxis(mean, 1, -1)]


@choose.register
def _(operation: MaxPool, b: Builder) -> tuple[Tensor, None] | None:
    x = b.tensor(operation.x)
    if operation.outputs[1] is not None or not _stored_last(b, x):
        return None
    return _channels_last(b, MaxPoolChannelsLast, x, operation), None


@choose.register
def _(operation: AveragePool, b: Builder) -> tuple[Tensor] | None:
    x = b.tensor(operation.x)
    if not _stored_last(b, x):
        return None
    include_pad = operation.count_include_pad
    y = _channels_last(b, AveragePoolChannelsLast, x, operation, count_include_pad=include_pad)
    return (y,)


def _stored_last(b: Builder, x: Tensor) -> bool:
    """Whether to pool along vectors of channels: where they are neighbours in memory anyway."""
    return x.dtype is DType.FLOAT and b.program.choice.specialised(innermost_axis(x) == 1)


def _channels_last(
    b: Builder, kind: type[Windowed], x: Tensor, window: Windowed, **attributes: Any
) -> Tensor:
    last, type_ = channels_last(b, x), TensorType(x.dtype, (x.shape[0], *window.out, x.shape[1]))
    (y,) = b.operation(kind, (type_,), x=last, out=window.out, **window.window, **attributes)
    return channels_first(b, y)


@call.register
def _(operation: MaxPool) -> Call:
    return _planes(operation, "max_pool", (("storage_order", operation.storage_order),))


@call.register
def _(operation: AveragePool) -> Call:
    include_pad = operation.count_include_pad
    return _planes(operation, "average_pool", (("count_include_pad", include_pad),))


@call.register
def _(operation: LpPool) -> Call:
    return _planes(operation, "lp_pool", (("p", operation.p),))


def _planes(operation: MaxPool | AveragePool | LpPool, name: str, traits: Traits) -> Call:
    """A call for all planes of ``[N, C, *spatial]``."""
    shape, out = operation.x.shape, operation.out
    outputs = (Out(k) for k in range(len(operation.outputs)))
    args = (product(shape[:2]), Extents(shape[2:]), Extents(out), In("x"), *outputs)
    kernel = CppKernel(name=name, header="cpu/pool.hxx")
    return Call(kernel, args, (("rank", len(out)), *operation.window.items(), *traits))


@call.register
def _(operation: MaxPoolChannelsLast) -> Call:
    return _vectors(operation, operation.x, "max_pool_channels_last")


@call.register
def _(operation: AveragePoolChannelsLast) -> Call:
    traits = (("count_include_pad", operation.count_include_pad),)
    return _vectors(operation, operation.x, "average_pool_channels_last", traits)


def _vectors(operation: Windowed, x: Operand, name: str, traits: Traits = ()) -> Call:
    """A call for all positions of ``[N, *spatial, C]``."""
    batch, *spatial, channels = x.shape
    args = (batch, channels, Extents(tuple(spatial)), Extents(operation.out), In("x"), Out())
    kernel = CppKernel(name=name, header="cpu/pool.hxx")
    return Call(kernel, args, (("rank", len(spatial)), *operation.window.items(), *traits))
