"""The static type of a tensor: dtype, symbolic shape and, for small integers, the symbolic content."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

from .dim import Dim, product
from .dtype import DType

Shape: TypeAlias = tuple[Dim, ...]

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

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]"
