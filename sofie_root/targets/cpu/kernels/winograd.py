"""Convolution by Winograd's minimal filtering (``cpu/winograd.hxx``), channels last.

A tile of m outputs of an r-tap filter costs m + r - 1 products instead of m * r along each axis. The price
is rounding: values pass through sums with alternating signs. Largest error over largest result against
direct convolution in float64, for normally distributed inputs and weights and 64 channels:

======  =======  ==================  =====  ===========================
kernel  tile     products / output   error  of direct sums in float32
======  =======  ==================  =====  ===========================
3x3     2x2      4      (of 9)       3e-7   7e-7
3x3     4x4      2.25   (of 9)       1e-6   7e-7
5x5     2x2      9      (of 25)      1e-6   1e-6
5x5     4x4      4      (of 25)      6e-6   1e-6
======  =======  ==================  =====  ===========================

Transformed weights are larger than the weights, so that few tiles and many channels are bound by fetching
them; beyond ``LARGE`` they are stored as they are, and transformed block by block on their way, provided
that one block of tiles is all there is.

An infinity or NaN reaches all outputs of the tiles that see it, not only those whose window it is in.

Sources: A. Lavin and S. Gray, "Fast algorithms for convolutional neural networks", CVPR 2016;
B. Barabasz et al., "Error analysis and improving the accuracy of Winograd convolution for deep neural
networks", ACM TOMS 46 (2020).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product as combinations
from typing import Any, ClassVar

import numpy as np
from numpy.polynomial.polynomial import polyfromroots

from sofie_root.budget import spend_product
from sofie_root.ir.dim import Dim, ceildiv, floordiv, minimum, product
from sofie_root.ir.dtype import DType
from sofie_root.ir.types import TensorType
from sofie_root.program.builder import Builder, Tensor
from sofie_root.program.operation import Array, Epilogue, Operand, Resolve
from sofie_root.program.operations.conv import padded
from sofie_root.program.operations.window import Spatial, Windowed
from sofie_root.targets.cxx.call import Call, CppKernel, Extents, Fused, In, Out, Scratch, Traits

from . import call

BLOCK = 32
"""Output channels of a block of packed weights: ``sofie::kWinogradBlock``."""
ROW = 16
"""Channels that lie together in the workspace: ``sofie::detail::kWinogradRow``."""
POINTS = {1: (1.0,), 2: (0.625, 1.5), 3: (0.5, 1.0, 2.0)}
"""Points of interpolation beside 0 and infinity, each with both signs: ``WinogradPoints``."""
TILES = (2, 4)
"""Outputs of a tile along an axis on which the kernel is longer than 1."""
CACHE = 1 << 17
"""Floats of transformed tiles and products at a time: half of a second-level cache of 1 MB."""

WEIGHTS = 1 << 16
"""Floats of weights that are transformed at a time on their way: ``winograd_channels``."""

TRANSFORM = 11
"""Time to transform one value there or back, in multiply-adds of a matrix product."""
WEIGHT = 8
"""Time to transform one weight on its way, in multiply-adds of a matrix product."""
LARGE = 1 << 21
"""Transformed weights that are not stored, as long as one block of tiles reads them."""
STREAM = 12
"""Time to fetch one weight from behind the caches, in multiply-adds of a matrix product."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Winograd(Windowed):
    """``x[N, *spatial, C]`` convolved by Winograd's algorithm: ``[N, *out, O]``.

    There are one or two spatial axes, and all strides and dilations are 1.

    Attributes:
        x: the input, FLOAT.
        w: the weights, packed by :func:`pack`.
        in_channels: C.
        out_channels: O.
        tile: outputs of a tile, one of :func:`tiles`.
        block: tiles that are computed together.
        transformed: whether the weights are stored transformed.
        fused: done to each element of the result.
    """

    x: Operand
    w: Operand
    in_channels: int
    out_channels: int
    tile: Spatial
    block: int
    transformed: bool
    fused: Epilogue | None = None

    SLOT: ClassVar[str] = "fused"

    @property
    def count(self) -> Dim:
        """Number of tiles."""
        tiles = product(ceildiv(d, m) for d, m in zip(self.out, self.tile, strict=True))
        return self.x.shape[0] * tiles

    def evaluate(self, resolve: Resolve, **operands: Any) -> list[Array]:
        """The algorithm with its transforms in doubles."""
        x, packed, channels = operands["x"], operands["w"], self.in_channels
        size, tile, first, last = self.kernel, self.tile, self.pad_begin, self.pad_end
        axes = range(2)
        if len(size) == 1:  # one row
            x = x[:, None]
            size, tile, first, last = (1, *size), (1, *tile), (0, *first), (0, *last)
        out = [x.shape[1 + a] + first[a] + last[a] - size[a] + 1 for a in axes]
        count = [-(-out[a] // tile[a]) for a in axes]
        # Zeros behind the image so that the last tiles are whole.
        ends = [count[a] * tile[a] + size[a] - 1 - x.shape[1 + a] - first[a] for a in axes]
        x = padded(x, ((0, 0), *((first[a], ends[a]) for a in axes), (0, 0)))
        n = tuple(size[a] + tile[a] - 1 for a in axes)
        d = np.lib.stride_tricks.sliding_window_view(x, n, (1, 2))[:, :: tile[0], :: tile[1]]
        d = d[:, : count[0], : count[1]].astype(np.float64)
        (b0, _, a0), (b1, _, a1) = (transforms(tile[a], size[a]) for a in axes)
        v = np.einsum("iu,jv,nstcuv->ijnstc", b0, b1, d, optimize=True)
        tiles = v.shape[:-1]
        if not self.transformed:
            w = unpack(packed, self.out_channels, (channels, size[0] * size[1])).transpose(2, 0, 1)
            packed = pack(w.reshape(*w.shape[:2], *size), tile)
        u = unpack(packed, self.out_channels, (n[0] * n[1], channels)).astype(np.float64)
        v = v.reshape(n[0] * n[1], -1, channels)
        spend_product(v, u)
        m = np.matmul(v, u).reshape(*tiles, self.out_channels)
        y = np.einsum("pi,qj,ijnsto->nsptqo", a0, a1, m, optimize=True)
        y = y.reshape(x.shape[0], count[0] * tile[0], count[1] * tile[1], self.out_channels)
        y = np.ascontiguousarray(y[:, : out[0], : out[1]], dtype=packed.dtype)
        return [y if len(self.kernel) == 2 else y[:, 0]]

    def multiply_adds(self, resolve: Resolve) -> int:
        """As many as a direct convolution does, which is more than this one does."""
        return resolve(self.taps(self.x.shape[0]) * self.in_channels * self.out_channels)


def tiles(kernel: Sequence[int]) -> list[tuple[int, ...]]:
    """The tiles with which a kernel of this size can be computed, one or two axes; none for others."""
    if not 1 <= len(kernel) <= 2 or max(kernel) == 1 or not all(k in (1, 3, 5) for k in kernel):
        return []
    sizes = (TILES if k > 1 else (1,) for k in kernel)
    return [tile for tile in combinations(*sizes) if len({m for m in tile if m > 1}) == 1]


def cost(
    channels: int, outputs: int, kernel: Sequence[int], out: Sequence[int], tile: Sequence[int]
) -> int:
    """Estimated time for one image, in multiply-adds of a matrix product that runs at full speed.

    Args:
        channels: of the input.
        outputs: channels of the result.
        kernel: its sizes.
        out: spatial sizes of the result.
        tile: outputs of a tile, one of :func:`tiles`.
    """
    positions = _positions(kernel, tile)
    count = int(np.prod([-(-d // m) for d, m in zip(out, tile, strict=True)]))
    weights, padded = channels * _padded(outputs), _padded(channels) + _padded(outputs)
    total = positions * (weights * count + padded * count * TRANSFORM)
    if _stores_transformed(weights * positions, count, _block(channels, positions)):
        return max(total, weights * positions * STREAM)
    return total + weights * positions * WEIGHT


def _padded(channels: int) -> int:
    return -(-channels // ROW) * ROW


def _stores_transformed(size: int, count: Dim, block: int) -> bool:
    """Whether weights of this size when transformed are stored so, for a number of tiles."""
    return size <= LARGE or not isinstance(count, int) or count > block


def winograd(b: Builder, x: Tensor, w: Tensor, window: Windowed, tile: Spatial) -> Tensor:
    """``x[N, *spatial, C]`` convolved with the constant ``w[O, C, *k]``: ``[N, *out, O]``.

    Args:
        b: the builder.
        x: FLOAT, channels last, with one or two spatial axes.
        w: the weights; transformed and packed here.
        window: how the windows lie; all strides and dilations are 1.
        tile: outputs of a tile, one of :func:`tiles`.
    """
    assert w.constant is not None, w
    assert x.dtype is DType.FLOAT, x.type
    assert tile in tiles(window.kernel), (window.kernel, tile)
    assert max(*window.stride, *window.dilation) == 1, window
    outputs, channels = w.constant.shape[:2]
    positions = _positions(window.kernel, tile)
    block = _block(channels, positions)
    count = x.shape[0] * product(ceildiv(d, m) for d, m in zip(window.out, tile, strict=True))
    size = positions * channels * _padded(outputs)
    transformed = _stores_transformed(size, count, block)
    (y,) = b.operation(
        Winograd,
        (TensorType(DType.FLOAT, (x.shape[0], *window.out, outputs)),),
        x=x,
        w=b.constant(pack(w.constant, tile, transformed), f"{w.buffer}.winograd"),
        in_channels=channels,
        out_channels=outputs,
        tile=tile,
        block=block,
        transformed=transformed,
        out=window.out,
        **window.window,
    )
    return y


def pack(w: Array, tile: Sequence[int], transformed: bool = True) -> Array:
    """Weights ``[O, C, *k]`` in blocks of 32 outputs one after another.

    Transformed, G g G^T, a block is ``[positions, C, 32]``, else ``[C, taps, 32]``. The last block is
    16 wide where that is enough for the rest of the outputs.
    """
    outputs, channels, *kernel = w.shape
    u = w.astype(np.float64)
    if transformed:
        for m, r in zip(tile, kernel, strict=True):
            u = np.tensordot(u, transforms(m, r)[1], (2, 1))  # axis r goes, axis n comes last
    u = u.reshape(outputs, channels, -1).transpose((2, 1, 0) if transformed else (1, 2, 0))
    u = np.pad(u, ((0, 0), (0, 0), (0, -outputs % ROW))).astype(np.float32)
    return np.concatenate([u[..., o : o + BLOCK].ravel() for o in range(0, outputs, BLOCK)])


def unpack(packed: Array, outputs: int, rows: tuple[int, int]) -> Array:
    """What was packed, without padding: ``[positions, C, O]`` or ``[C, taps, O]``.

    Args:
        packed: the blocks.
        outputs: O.
        rows: the other two sizes.
    """
    step = rows[0] * rows[1]
    blocks = [
        packed[o * step : min(o + BLOCK, _padded(outputs)) * step].reshape(*rows, -1)
        for o in range(0, outputs, BLOCK)
    ]
    return np.concatenate(blocks, axis=-1)[..., :outputs]


@lru_cache
def transforms(m: int, r: int) -> tuple[Array, Array, Array]:
    """``B^T``, ``G`` and ``A^T`` of F(m, r): y = A^T ((G g) * (B^T d)) for m outputs and r taps.

    The Toom-Cook scheme transposed: multiplication of polynomials by their values at the points.
    """
    if m == r == 1:
        return np.ones((1, 1)), np.ones((1, 1)), np.ones((1, 1))
    n = m + r - 1
    points = np.array([0.0, *(s * p for p in POINTS[n // 2 - 1] for s in (1, -1))])
    forward, weights, back = np.zeros((n, n)), np.zeros((n, r)), np.zeros((m, n))
    for i, point in enumerate(points):
        others = np.delete(points, i)
        forward[i, :-1] = polyfromroots(others)
        weights[i] = point ** np.arange(r) / np.prod(point - others)
        back[:, i] = point ** np.arange(m)
    forward[-1] = polyfromroots(points)
    weights[-1, -1] = back[-1, -1] = 1
    return forward, weights, back


def _positions(kernel: Sequence[int], tile: Sequence[int]) -> int:
    """Products of a tile."""
    return int(np.prod([m + r - 1 for m, r in zip(tile, kernel, strict=True)]))


def _block(channels: int, positions: int) -> int:
    """Tiles to compute together: multiples of 14, as many as the register tile of AVX-512 has rows."""
    rows = CACHE // (positions * (_padded(channels) + BLOCK))
    return min(max(rows // 14, 2), 4) * 14


def _workspace(operation: Winograd) -> Dim:
    """``sofie::winograd_workspace``."""
    positions = _positions(operation.kernel, operation.tile)
    block = minimum(operation.count, operation.block)
    rows = block * (_padded(operation.in_channels) // ROW)
    planes: Dim = (floordiv(rows, 2) * 2 + 1) + (block * 2 + 1)
    if not operation.transformed:
        planes = planes + max(WEIGHTS // (positions * BLOCK * ROW), 1) * BLOCK + 1
    return planes * (ROW * positions)


@call.register
def _(operation: Winograd) -> Call:
    rank = len(operation.kernel)
    kernel = CppKernel(
        epilogue_axes=(tuple(range(rank + 1)), (rank + 1,)),
        name="winograd",
        header="cpu/winograd.hxx",
    )
    args = (
        operation.x.shape[0],
        Extents(operation.x.shape[1:-1]),
        In("x"),
        In("w"),
        Out(),
        Scratch(_workspace(operation), DType.FLOAT),
        Fused(),
    )
    traits: Traits = (
        ("rank", rank),
        ("C", operation.in_channels),
        ("O", operation.out_channels),
        ("kernel", operation.kernel),
        ("tile", operation.tile),
        ("pad_begin", operation.pad_begin),
        ("pad_end", operation.pad_end),
        ("block", operation.block),
        ("transformed", operation.transformed),
    )
    return Call(kernel, args, traits)
