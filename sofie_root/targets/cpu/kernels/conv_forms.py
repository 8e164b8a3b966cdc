"""Which way a convolution is computed: a cost model per layer.

The costs are cycles of a core that multiplies and adds two vectors of 16 floats in each; only their ratios
count, and these are about the same on narrower machines. Both direct kernels run near the peak of the
machine, so what differs is what they compute in vain: the one with the channels first fills its vectors
with positions (and drops those between two rows), the one with the channels last with output channels (and
drops those beyond the last). Winograd's algorithm computes less, but not the same to the last bits. The
rest is memory: padded copies, and transpositions where the input is stored the other way round.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum, auto

from sofie_root.ir.dim import Dim
from sofie_root.program.builder import Builder, Tensor
from sofie_root.program.operations.window import Windowed
from sofie_root.targets.cpu.channels import innermost_axis

from . import winograd

LANES = 16
TYPICAL_SIZE = 48
"""Stands for every size that only the run tells."""
COPY = 1 / 8
"""Cycles for copying an element, padding it or not."""
TRANSPOSE = 1 / 2
"""Cycles for writing an element to another place in every row."""
WORSE = 1.05
"""Channels first against channels last at equal work; measured on large layers."""
ALONE = 0.6
"""Cycles of a position for a vector of outputs that is not one of two: a value read is used only once."""


class Form(Enum):
    """How a convolution is computed."""

    CHANNELS_FIRST = auto()
    """Direct, vectors of positions."""
    CHANNELS_LAST = auto()
    """Direct, vectors of output channels."""
    MATRIX = auto()
    """One position at a time: a matrix product over the channels."""
    DEPTHWISE = auto()
    """Each channel by itself, vectors of channels."""


def cheapest(
    b: Builder, x: Tensor, w: Tensor, groups: int, window: Windowed
) -> Form | tuple[int, ...]:
    """The cheapest form of a convolution by constant weights.

    Args:
        b: the builder, which knows which kernels may be chosen.
        x: the input ``[N, C, *spatial]``.
        w: the weights ``[O, C/g, *k]``.
        groups: number of groups that do not see each other.
        window: how the windows lie.

    Returns:
        A form of direct convolution, or the tile for Winograd's algorithm.
    """
    choice, stored_last = b.program.choice, innermost_axis(x) == 1
    if groups > 1:
        # Little is computed for each value: it does not pay to transpose them.
        depthwise = w.shape[0] == groups and w.shape[1] == 1
        pays = stored_last and groups >= LANES // 2
        return Form.DEPTHWISE if depthwise and choice.specialised(pays) else Form.CHANNELS_FIRST
    layer = _Layer(
        _number(w.shape[1]),
        _number(w.shape[0]),
        tuple(map(_number, x.shape[2:])),
        tuple(map(_number, window.out)),
        window,
        stored_last,
    )
    found = None if choice.exact else layer.winograd()
    if found is not None:
        cost, tile = found
        if choice.specialised(cost < min(layer.channels_first(), layer.channels_last())):
            return tile
    if not choice.specialised(layer.channels_last() < layer.channels_first()):
        return Form.CHANNELS_FIRST
    if max(*window.kernel, *window.stride) == 1 and not window.pads:
        return Form.MATRIX
    return Form.CHANNELS_LAST


@dataclass(frozen=True, slots=True)
class _Layer:
    """Sizes of a layer, and what each form of it costs."""

    channels: int
    outputs: int
    spatial: tuple[int, ...]
    out: tuple[int, ...]
    window: Windowed
    stored_last: bool

    def channels_first(self) -> float:
        w = self.window
        shape = zip(self.out, w.dilation, w.kernel, w.stride, strict=True)
        grid = [o + d * (k - 1) // s for o, d, k, s in shape]
        vectors = math.ceil(math.prod(self.out[:-1]) * grid[-1] / LANES)
        sums = vectors * math.ceil(self.outputs / 8) * 8 / 2
        copied = self.channels * math.prod(grid) * math.prod(w.stride)
        copy = TRANSPOSE if max(w.stride) > 1 else COPY if w.pads else 0.0
        return (
            WORSE * sums * self.channels * math.prod(w.kernel)
            + copy * copied
            + TRANSPOSE * self.stored_last * self.channels * math.prod(self.spatial)
        )

    def winograd(self) -> tuple[float, tuple[int, ...]] | None:
        """Cost and tile, if the algorithm knows such windows."""
        w = self.window
        options = winograd.tiles(w.kernel)
        if not options or max(*w.stride, *w.dilation) > 1:
            return None
        copied = 0 if self.stored_last else self.channels * math.prod(self.spatial)
        cost, tile = min(
            (winograd.cost(self.channels, self.outputs, w.kernel, self.out, tile), tile)
            for tile in options
        )
        return cost / (2 * LANES) + TRANSPOSE * copied, tile

    def channels_last(self) -> float:
        w = self.window
        vectors = math.ceil(self.outputs / LANES)
        sums = math.prod(self.out) * (vectors // 2 + ALONE * (vectors % 2))
        padded = zip(self.spatial, w.pad_begin, w.pad_end, strict=True)
        copied = self.channels * math.prod(n + p + q for n, p, q in padded)
        copy = COPY * w.pads if self.stored_last else TRANSPOSE
        return sums * self.channels * math.prod(w.kernel) + copy * copied


def _number(d: Dim) -> int:
    return d if isinstance(d, int) else TYPICAL_SIZE
