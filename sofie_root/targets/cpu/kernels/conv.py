"""Direct convolution with the channels first: ``cpu/conv.hxx``, ``cpu/conv_transpose.hxx``."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

import numpy as np

from sofie_root.ir.dim import Dim, product
from sofie_root.ir.dtype import DType
from sofie_root.ir.types import TensorType
from sofie_root.program.builder import Builder, Tensor
from sofie_root.program.expr import Expr, compare, guard, index
from sofie_root.program.operation import Array, Epilogue, Operand, Resolve
from sofie_root.program.operations.conv import Conv, ConvTranspose, convolve, spread
from sofie_root.program.operations.window import Windowed
from sofie_root.targets.cpu.channels import channels_first, channels_last
from sofie_root.targets.cxx.call import Call, CppKernel, Extents, Fused, In, Out, Scratch, Traits

from . import call, choose
from .conv_channels_last import as_matrix, conv_channels_last, conv_depthwise
from .conv_forms import Form, cheapest
from .winograd import winograd

BLOCK = 8
"""Output channels of a block of packed weights: ``sofie::kConvBlock``."""
SLACK = 128
"""Elements behind the planes in the workspace: ``sofie::detail::kConvSlack``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectConv(Windowed):
    """A convolution with the channels first and packed weights ``[g, ceil(O/g/8), C/g, *k, 8]``.

    Attributes:
        x: the input ``[N, C, *spatial]``.
        w: the packed weights, in the dtype of ``x``.
        out_channels: O.
        fused: done to each element of the result ``[N, O, *out]``.
    """

    x: Operand
    w: Operand
    out_channels: int
    fused: Epilogue | None = None

    SLOT: ClassVar[str] = "fused"

    def evaluate(self, resolve: Resolve, **operands: Any) -> list[Array]:
        """The convolution by the weights that were packed."""
        groups = len(operands["w"])
        w = unpack(operands["w"], self.out_channels // groups)
        return [convolve(self, operands["x"], w.reshape(self.out_channels, *w.shape[2:]), groups)]

    def multiply_adds(self, resolve: Resolve) -> int:
        """The channels at each tap of each window."""
        return resolve(self.taps(self.x.shape[0]) * self.out_channels * self.w.shape[2])


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectConvTranspose(Windowed):
    """A transposed convolution with packed weights; its fields are those of :class:`DirectConv`."""

    x: Operand
    w: Operand
    out_channels: int
    fused: Epilogue | None = None

    SLOT: ClassVar[str] = "fused"

    def evaluate(self, resolve: Resolve, **operands: Any) -> list[Array]:
        """The transposed convolution by the weights that were packed."""
        x, groups = operands["x"], len(operands["w"])
        w = unpack(operands["w"], self.out_channels // groups).swapaxes(1, 2)
        w = w.reshape(x.shape[1], *w.shape[2:])
        return [spread(self, x, w, groups, tuple(map(resolve, self.out)))]

    def multiply_adds(self, resolve: Resolve) -> int:
        """The channels at each tap, for each element of the input."""
        outputs = self.out_channels // resolve(self.w.shape[0])
        return resolve(product(self.x.shape)) * prod(self.kernel) * outputs


def pack(w: Array) -> Array:
    """Weights ``[g, O/g, C/g, *k]`` as ``[g, blocks, C/g, *k, 8]``, output channels zero padded."""
    groups, outputs, *rest = w.shape
    blocks = -(-outputs // BLOCK)
    padded = np.zeros((groups, blocks * BLOCK, *rest), w.dtype)
    padded[:, :outputs] = w
    blocked = padded.reshape(groups, blocks, BLOCK, *rest)
    return np.ascontiguousarray(np.moveaxis(blocked, 2, -1))


def unpack(packed: Array, outputs: int) -> Array:
    """The ``[g, O/g, C/g, *k]`` weights that were packed; ``outputs`` is O/g."""
    blocked = np.moveaxis(packed, -1, 2)
    groups, blocks, width, *rest = blocked.shape
    return blocked.reshape(groups, blocks * width, *rest)[:, :outputs]


def _packed(b: Builder, w: Tensor, transposed: bool, groups: int) -> Tensor:
    """The weights as the kernels read them: packed now where they are constant, else by a loop."""
    first, second, *kernel = (int(d) for d in w.shape if isinstance(d, int))
    split = (groups, first // groups, second, *kernel)
    perm = (0, 2, 1, *range(3, len(split))) if transposed else tuple(range(len(split)))
    if w.constant is not None:
        return b.constant(pack(w.constant.reshape(split).transpose(perm)), f"{w.buffer}.packed")
    view = b.transpose(b.reshape(w, split), perm)
    outputs, *rest = view.shape[1:]

    def body(g: Dim, block: Dim, *i: Dim) -> Expr:
        channel = block * BLOCK + i[-1]
        return guard(compare("lt", index(channel), index(outputs)), view[(g, channel, *i[:-1])], 0)

    return b.loop((groups, -(-int(outputs) // BLOCK), *rest, BLOCK), body)  # type: ignore[arg-type]


@choose.register
def _(operation: Conv, b: Builder) -> tuple[Tensor]:
    x, w = b.tensor(operation.x), b.tensor(operation.w)
    return (convolution(b, x, w, operation.groups, operation),)


def convolution(b: Builder, x: Tensor, w: Tensor, groups: int, window: Windowed) -> Tensor:
    """``x[N, C, *spatial]`` convolved in the form that is cheapest: ``[N, O, *out]``.

    Args:
        b: the builder.
        x: the input in a dtype that is computed in.
        w: the weights ``[O, C/g, *k]`` in the dtype of ``x``.
        groups: number of groups that do not see each other.
        window: how the windows lie.
    """
    form: Form | tuple[int, ...] = Form.CHANNELS_FIRST
    if w.constant is not None and x.dtype is DType.FLOAT:
        form = cheapest(b, x, w, groups, window)
    if w.constant is None or form is Form.CHANNELS_FIRST:
        return _direct(b, x, w, groups, window)
    last = channels_last(b, x)
    if form is Form.MATRIX:
        y = b.linear(last, as_matrix(w.constant), w.buffer)
    elif form is Form.DEPTHWISE:
        y = conv_depthwise(b, last, w, window)
    elif isinstance(form, tuple):
        y = winograd(b, last, w, window, form)
    else:
        y = conv_channels_last(b, last, w, window)
    return channels_first(b, y)


def _direct(b: Builder, x: Tensor, w: Tensor, groups: int, window: Windowed) -> Tensor:
    outputs = int(w.shape[0])  # type: ignore[arg-type]
    (y,) = b.operation(
        DirectConv,
        (TensorType(x.dtype, (x.shape[0], outputs, *window.out)),),
        x=x,
        w=_packed(b, w, False, groups),
        out_channels=outputs,
        out=window.out,
        **window.window,
    )
    return y


@choose.register
def _(operation: ConvTranspose, b: Builder) -> tuple[Tensor]:
    x, w, groups = b.tensor(operation.x), b.tensor(operation.w), operation.groups
    outputs = int(w.shape[1]) * groups  # type: ignore[arg-type]
    (y,) = b.operation(
        DirectConvTranspose,
        (TensorType(x.dtype, (x.shape[0], outputs, *operation.out)),),
        x=x,
        w=_packed(b, w, True, groups),
        out_channels=outputs,
        out=operation.out,
        **operation.window,
    )
    return (y,)


@call.register
def _(operation: DirectConv) -> Call:
    x, traits = operation.x, _traits(operation)
    args = (
        x.shape[0],
        Extents(x.shape[2:]),
        In("x"),
        In("w"),
        Out(),
        Scratch(_conv_workspace(operation), x.dtype),
        Fused(),
    )
    return Call(_kernel(operation, "conv"), args, traits)


@call.register
def _(operation: DirectConvTranspose) -> Call:
    x, traits = operation.x, _traits(operation)
    args = (
        x.shape[0],
        Extents(x.shape[2:]),
        Extents(operation.out),
        In("x"),
        In("w"),
        Out(),
        Scratch(_transpose_workspace(operation), x.dtype),
        Fused(),
    )
    return Call(_kernel(operation, "conv_transpose"), args, traits)


def _kernel(operation: Windowed, name: str) -> CppKernel:
    axes = ((0,), (1,), tuple(range(2, 2 + len(operation.kernel))))
    return CppKernel(epilogue_axes=axes, name=name, header=f"cpu/{name}.hxx")


def _widths(operation: DirectConv | DirectConvTranspose) -> tuple[int, int]:
    """Number of groups, and input channels of each."""
    groups, _, channels = operation.w.shape[:3]
    assert isinstance(groups, int)
    assert isinstance(channels, int)
    return groups, channels


def _traits(operation: DirectConv | DirectConvTranspose) -> Traits:
    groups, channels = _widths(operation)
    sizes = (
        ("rank", len(operation.kernel)),
        ("C", channels * groups),
        ("O", operation.out_channels),
    )
    return (*sizes, ("groups", groups), *operation.window.items())


def _conv_workspace(operation: DirectConv) -> Dim:
    """``sofie::conv_workspace``."""
    if operation.x.dtype is not DType.FLOAT or not (operation.pads or max(operation.stride) > 1):
        return 0
    w = operation
    planes = product(
        s * (o + d * (k - 1) // s)
        for o, k, s, d in zip(w.out, w.kernel, w.stride, w.dilation, strict=True)
    )
    return planes * _widths(operation)[1] + SLACK


def _transpose_workspace(operation: DirectConvTranspose) -> Dim:
    """``sofie::conv_transpose_workspace``."""
    if operation.x.dtype is not DType.FLOAT:
        return 0
    w, (groups, channels) = operation, _widths(operation)
    grid = product(
        d * (k - 1) // s + (o + p - 1) // s + 1
        for o, k, s, d, p in zip(w.out, w.kernel, w.stride, w.dilation, w.pad_begin, strict=True)
    )
    return grid * channels + SLACK + product(w.out) * (w.out_channels // groups)
