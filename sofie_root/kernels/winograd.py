"""Convolution by Winograd's minimal filtering (``winograd.hxx``), channels last.

A tile of m outputs of an r-tap filter costs m + r - 1 products instead of m * r along each axis. The price
is rounding: values pass through sums with alternating signs. Largest error over largest result against
direct convolution in float64, for normally distributed inputs and weights and 64 channels, beside that of
direct summation in float32 in the same order (3x3: 4e-7, 5x5: 6e-7):

======  =======  ==================  =====
kernel  tile     products / output   error
======  =======  ==================  =====
3x3     2x2      4      (of 9)       3e-7
3x3     4x4      2.25   (of 9)       1e-6
5x5     2x2      9      (of 25)      9e-7
5x5     4x4      4      (of 25)      5e-6
======  =======  ==================  =====

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

from sofie_root.ir.dim import Dim, ceildiv, floordiv, minimum, product
from sofie_root.ir.dtype import DType
from sofie_root.ir.types import Shape, TensorType
from sofie_root.program.builder import Builder, Tensor
from sofie_root.program.program import Extents, Fused, In, Kernel, KernelSpec, Out, Scratch

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

TRANSFORM = 11
"""Time to transform one value there or back, in multiply-adds of a matrix product."""
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
    padded = -(-outputs // ROW) * ROW
    weights = positions * channels * padded
    transformed = positions * count * (-(-channels // ROW) * ROW + padded)
    return max(weights * count, weights * STREAM) + transformed * TRANSFORM


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
    block = _block(channels, _positions(kernel, tile))
    traits: Traits = (
        ("rank", len(kernel)),
        ("C", channels),
        ("O", outputs),
        ("kernel", kernel),
        ("tile", tile),
        ("pad_begin", slid["pad_begin"]),
        ("pad_end", slid["pad_end"]),
        ("block", block),
    )
    count = x.shape[0] * product(ceildiv(d, m) for d, m in zip(out, tile, strict=True))
    packed = b.constant(pack(w, tile), f"{name}.winograd")
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


def pack(w: Array, tile: Sequence[int]) -> Array:
    """Weights ``[O, C, *k]`` as ``G g G^T``: blocks ``[positions, C, 32]`` one after another.

    The last block is 16 wide where that is enough for the rest of the outputs.
    """
    outputs, channels, *kernel = w.shape
    u = w.astype(np.float64)
    for m, r in zip(tile, kernel, strict=True):
        u = np.tensordot(u, transforms(m, r)[1], (2, 1))  # the axis of r goes, that of n comes last
    u = u.reshape(outputs, channels, -1).transpose(2, 1, 0)
    u = np.pad(u, ((0, 0), (0, 0), (0, -outputs % ROW))).astype(np.float32)
    return np.concatenate([u[..., o : o + BLOCK].ravel() for o in range(0, outputs, BLOCK)])


def unpack(packed: Array, outputs: int, channels: int, positions: int) -> Array:
    """The transformed weights ``[positions, C, O]`` that were packed."""
    padded, step = -(-outputs // ROW) * ROW, positions * channels
    blocks = [
        packed[o * step : min(o + BLOCK, padded) * step].reshape(positions, channels, -1)
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
    rows = CACHE // (positions * (-(-channels // ROW) * ROW + BLOCK))
    return min(max(rows // 14, 1), 4) * 14


def _workspace(t: dict[str, Any], count: Dim) -> Dim:
    """``sofie::winograd_workspace``."""
    block = minimum(count, t["block"])
    rows = block * -(-t["C"] // ROW)
    planes: Dim = (floordiv(rows, 2) * 2 + 1) + (block * 2 + 1)
    return planes * (ROW * _positions(t["kernel"], t["tile"]))


@lru_cache
def _winograd(rank: int) -> KernelSpec:
    groups = (tuple(range(rank - 1)), (rank - 1,))
    return KernelSpec("winograd", "winograd.hxx", _reference, epilogue=groups)


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
    x = np.pad(x, ((0, 0), *((first[a], ends[a]) for a in axes), (0, 0)))
    n = tuple(size[a] + tile[a] - 1 for a in axes)
    d = np.lib.stride_tricks.sliding_window_view(x, n, (1, 2))[:, :: tile[0], :: tile[1]]
    d = d[:, : count[0], : count[1]].astype(np.float64)
    (b0, _, a0), (b1, _, a1) = (transforms(tile[a], size[a]) for a in axes)
    v = np.einsum("iu,jv,nstcuv->ijnstc", b0, b1, d, optimize=True)
    u = unpack(packed, t["O"], t["C"], n[0] * n[1]).astype(np.float64)
    m = np.matmul(v.reshape(n[0] * n[1], -1, t["C"]), u).reshape(*v.shape[:-1], t["O"])
    y = np.einsum("pi,qj,ijnsto->nsptqo", a0, a1, m, optimize=True)
    y = y.reshape(x.shape[0], count[0] * tile[0], count[1] * tile[1], t["O"])
    y = np.ascontiguousarray(y[:, : out[0], : out[1]], dtype=packed.dtype)
    return [y if t["rank"] == 2 else y[:, 0]]
