"""What all operations have that slide a window over spatial axes."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TypeAlias

from sofie_root.ir.dim import Dim, product
from sofie_root.ir.types import Shape

from ..operation import Operation

Spatial: TypeAlias = tuple[int, ...]
"""One number for each spatial axis."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Windowed(Operation):
    """Base of convolutions and poolings: the window, by ONNX's names, and how often it stands.

    Window ``o`` of an axis sees the elements ``o * stride + tap * dilation - pad_begin`` for each ``tap``
    below ``kernel``; those before the first and after the last element are padding.

    Attributes:
        kernel: taps of the window.
        stride: elements from one window to the next.
        dilation: elements from one tap to the next.
        pad_begin: elements of padding before the first.
        pad_end: elements of padding after the last.
        out: spatial sizes of the result.
    """

    kernel: Spatial
    stride: Spatial
    dilation: Spatial
    pad_begin: Spatial
    pad_end: Spatial
    out: Shape

    @property
    def window(self) -> dict[str, Spatial]:
        """The fields of the window by name."""
        names = ("kernel", "stride", "dilation", "pad_begin", "pad_end")
        return {name: getattr(self, name) for name in names}

    @property
    def pads(self) -> bool:
        """Whether there is padding."""
        return any(self.pad_begin) or any(self.pad_end)

    def taps(self, batch: Dim) -> Dim:
        """Number of taps of all windows, padding included, over so many inputs."""
        return batch * product(self.out) * prod(self.kernel)

    def windows(self, spatial: Spatial) -> Spatial:
        """How many whole windows fit into the padded input, along each axis.

        Args:
            spatial: sizes of the input without its padding.
        """
        reach = [(k - 1) * d + 1 for k, d in zip(self.kernel, self.dilation, strict=True)]
        rows = zip(spatial, self.pad_begin, self.pad_end, reach, self.stride, strict=True)
        return tuple((n + begin + end - r) // s + 1 for n, begin, end, r, s in rows)

    def seen(self, tap: Spatial, out: Spatial) -> tuple[slice, ...]:
        """Where in the padded input the windows see through one tap.

        Args:
            tap: its position in the window.
            out: number of windows along each axis.
        """
        rows = zip(tap, self.dilation, out, self.stride, strict=True)
        return tuple(slice(i * d, i * d + (o - 1) * s + 1, s) for i, d, o, s in rows)
