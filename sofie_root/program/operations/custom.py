"""Calls of C++ functions that a user wrote."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..operation import Array, Operand, Operation, Resolve

MAX_RANK = 8
"""Axes of a ``sofie::Span``: its ``kMaxRank``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Custom(Operation):
    """``function(arguments..., outputs..., attributes...)``: spans and then plain values.

    The function writes all elements of all outputs, also of those that nobody reads.

    Attributes:
        function: C++ function with its namespace.
        header: absolute path of the user's header that defines it.
        arguments: what it reads; None for an omitted input, which is an empty span.
        attributes: numbers, texts, and tuples of numbers.
        reference: the same in NumPy: arrays (or None) in, one array or a tuple of arrays out.
    """

    function: str
    header: Path
    arguments: tuple[Operand | None, ...]
    attributes: tuple[Any, ...]
    reference: Callable[..., Any]

    def evaluate(self, resolve: Resolve, **operands: Any) -> list[Array]:
        """What the user's reference returns."""
        result = self.reference(*operands["arguments"])
        results = result if isinstance(result, tuple) else (result,)
        return [np.asarray(r) for r, _ in zip(results, self.outputs, strict=True)]
