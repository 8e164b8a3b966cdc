"""Packed matrices: panels of columns, which the kernels of products read front to back."""

from __future__ import annotations

import numpy as np

from sofie_root.ir.dim import Dim, ceildiv
from sofie_root.program.builder import Builder, Tensor
from sofie_root.program.expr import Expr, compare, guard, index
from sofie_root.program.operation import Array

PANEL = 16
"""Columns of a packed panel: ``sofie::kPanel``."""


def pack(w: Array) -> Array:
    """A ``[K, N]`` matrix as zero-padded ``[ceil(N/16), K, 16]``, which is read front to back."""
    k, n = w.shape
    panels = -(-n // PANEL)
    padded = np.zeros((k, panels * PANEL), w.dtype)
    padded[:, :n] = w
    return np.ascontiguousarray(padded.reshape(k, panels, PANEL).transpose(1, 0, 2))


def unpack(packed: Array, n: int) -> Array:
    """The ``[K, N]`` matrix that was packed."""
    panels, k, width = packed.shape
    return packed.transpose(1, 0, 2).reshape(k, panels * width)[:, :n]


def packed(b: Builder, w: Tensor, name: str) -> Tensor:
    """A ``[K, N]`` tensor packed: when generating where it is constant, else by a loop."""
    if w.constant is not None:
        return b.constant(pack(w.constant), f"{name}.packed")
    k, n = w.shape

    def body(panel: Dim, row: Dim, lane: Dim) -> Expr:
        column = panel * PANEL + lane
        return guard(compare("lt", index(column), index(n)), w[row, column], 0)

    return b.loop((ceildiv(n, PANEL), k, PANEL), body)
