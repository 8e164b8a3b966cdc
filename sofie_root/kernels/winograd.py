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

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import product as combinations
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.polynomial.polynomial import polyfromroots

from sofie_root.budget import spend_product
from sofie_root.ir.dim import Dim, ceildiv, floordiv, minimum, product
from sofie_root.ir.dtype import DType
from sofie_root.ir.types import Shape, TensorType
from sofie_root.program.builder import Builder, Tensor
from sofie_root.program.program import Extents, Fused, In, Kernel, KernelSpec, Out, Scratch

from .conv import padded

Array = npt.NDArray[Any]
Resolve = Callable[[Dim], int]
Traits = tuple[tuple[str, Any], ...]

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


def winograd(
    b: Builder,
    x: Tensor,
    w: Array,
    window: Traits,
    out: Shape,
    tile: tuple[int, ...],
    name: str = "weights",
) -> Tensor:
    """``x[N, *spatial, C]`` convolved with the constant ``w[O, C, *k]``: ``[N, *out, O]``.

    Args:
        b: the builder.
        x: FLOAT, channels last, with one or two spatial axes.
        w: the weights; transformed and packed here.
        window: kernel, stride, dilation (both all 1), pad_begin and pad_end.
        out: spatial sizes of the result.
        tile: outputs of a tile, one of :func:`tiles`.
        name: what the weights are called in the generated code.
    """
    slid = dict(window)
    kernel = slid["kernel"]
    assert x.dtype is DType.FLOAT, x.type
    assert tile in tiles(kernel), (kernel, tile)
    assert max(*slid["stride"], *slid["dilation"]) == 1, window
    outputs, channels = w.shape[:2]
    positions = _positions(kernel, tile)
    block = _block(channels, positions)
    count = x.shape[0] * product(ceildiv(d, m) for d, m in zip(out, tile, strict=True))
    size = positions * channels * _padded(outputs)
    transformed = _stores_transformed(size, count, block)
    traits: Traits = (
        ("rank", len(kernel)),
        ("C", channels),
        ("O", outputs),
        ("kernel", kernel),
        ("tile", tile),
        ("pad_begin", slid["pad_begin"]),
        ("pad_end", slid["pad_end"]),
        ("block", block),
        ("transformed", transformed),
    )
    packed = b.constant(pack(w, tile, transformed), f"{name}.winograd")
    (y,) = b.kernel(
        _winograd(x.rank),
        (
            x.shape[0],
            Extents(x.shape[1:-1]),
            In(0),
            In(1),
            Out(0),
            Scratch(_workspace(dict(traits), count), DType.FLOAT),
            Fused(),
        ),
        (x, packed),
        (TensorType(DType.FLOAT, (x.shape[0], *out, outputs)),),
        traits,
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


def _workspace(t: dict[str, Any], count: Dim) -> Dim:
    """``sofie::winograd_workspace``."""
    positions, block = _positions(t["kernel"], t["tile"]), minimum(count, t["block"])
    rows = block * (_padded(t["C"]) // ROW)
    planes: Dim = (floordiv(rows, 2) * 2 + 1) + (block * 2 + 1)
    if not t["transformed"]:
        planes = planes + max(WEIGHTS // (positions * BLOCK * ROW), 1) * BLOCK + 1
    return planes * (ROW * positions)


@lru_cache
def _winograd(rank: int) -> KernelSpec:
    groups = (tuple(range(rank - 1)), (rank - 1,))
    return KernelSpec("winograd", "cpu/winograd.hxx", _reference, epilogue=groups)


def _reference(kernel: Kernel, inputs: list[Array], resolve: Resolve) -> list[Array]:
    t, (x, packed) = dict(kernel.traits), inputs
    axes = range(t["rank"])
    names = ("kernel", "tile", "pad_begin", "pad_end")
    if t["rank"] == 1:  # one row
        x, axes = x[:, None], range(2)
        t.update({name: (int(name in ("kernel", "tile")), *t[name]) for name in names})
    size, tile, first, last = (t[name] for name in names)
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
    if not t["transformed"]:
        w = unpack(packed, t["O"], (t["C"], size[0] * size[1])).transpose(2, 0, 1)
        packed = pack(w.reshape(*w.shape[:2], *size), tile)
    u = unpack(packed, t["O"], (n[0] * n[1], t["C"])).astype(np.float64)
    v = v.reshape(n[0] * n[1], -1, t["C"])
    spend_product(v, u)
    m = np.matmul(v, u).reshape(*tiles, t["O"])
    y = np.einsum("pi,qj,ijnsto->nsptqo", a0, a1, m, optimize=True)
    y = y.reshape(x.shape[0], count[0] * tile[0], count[1] * tile[1], t["O"])
    y = np.ascontiguousarray(y[:, : out[0], : out[1]], dtype=packed.dtype)
    return [y if t["rank"] == 2 else y[:, 0]]
