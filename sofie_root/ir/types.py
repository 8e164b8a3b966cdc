"""The static type of a tensor: dtype, symbolic shape and, for small integers, the symbolic content."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import TypeAlias

from .dim import Dim, product
from .dtype import DType

Shape: TypeAlias = tuple[Dim, ...]

MAX_RANK = 32
"""Most axes of a tensor; NumPy broadcasts no more."""

MAX_BYTES = 1 << 62
"""Most bytes of a tensor, also where an axis of size 0 leaves none of them: strides must fit."""

MAX_KNOWN_VALUES = 1024
"""Tensors with more elements never carry a symbolic value."""


@dataclass(frozen=True, slots=True)
class TensorType:
    """dtype and shape of a tensor.

    Attributes:
        dtype: element type.
        shape: one :data:`~sofie_root.ir.dim.Dim` per axis; ``()`` is a scalar.
        value: the elements in row-major order as dims, where they are known while parsing (an integer or
            bool tensor that only computes shapes); None otherwise. bools are 0 and 1.
    """

    dtype: DType
    shape: Shape
    value: tuple[Dim, ...] | None = None

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def numel(self) -> Dim:
        """Number of elements."""
        return product(self.shape)

    def with_value(self, value: tuple[Dim, ...] | None) -> TensorType:
        """The same type with that symbolic content."""
        return replace(self, value=value)

    def impossible(self) -> str | None:
        """Why there can be no such tensor, None where there can."""
        if self.rank > MAX_RANK:
            return f"has {self.rank} axes, at most {MAX_RANK} are possible"
        sizes = [d for d in self.shape if isinstance(d, int)]
        if any(d < 0 for d in sizes):
            return f"has the impossible shape {self}"
        if prod(max(d, 1) for d in sizes) * self.dtype.size > MAX_BYTES:
            return f"has the impossible shape {self}, of more than 2^62 bytes"
        if self.value is not None and self.numel != len(self.value):
            return f"has {len(self.value)} known elements, which are not those of {self}"
        return None

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]"
