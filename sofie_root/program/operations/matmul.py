"""Matrix products, and the attention that two of them and a softmax make."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from sofie_root.budget import spend_product
from sofie_root.ir.dim import Dim, product
from sofie_root.ir.types import Shape

from ..operation import Array, Epilogue, Operand, Operation, Resolve


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear(Operation):
    """``x[*rows, K]`` times a constant ``w[K, N]``: ``[*rows, N]``.

    Attributes:
        x: at least one axis of rows.
        w: a whole constant buffer.
        fused: done to each element of the result.
    """

    x: Operand
    w: Operand
    fused: Epilogue | None = None

    SLOT: ClassVar[str] = "fused"

    @property
    def rows(self) -> Shape:
        """Axes of the result before its columns."""
        return self.x.shape[:-1]

    @property
    def n(self) -> int:
        """Number of columns of the result."""
        return int(self.w.shape[1])  # type: ignore[arg-type]

    @property
    def k(self) -> int:
        """Length of the sums."""
        return int(self.w.shape[0])  # type: ignore[arg-type]

    def evaluate(self, resolve: Resolve, **operands: Any) -> list[Array]:
        """``x @ w``."""
        spend_product(operands["x"], operands["w"])
        return [np.matmul(operands["x"], operands["w"])]

    def multiply_adds(self, resolve: Resolve) -> int:
        """K for each element of the result."""
        return resolve(product(self.rows) * self.n * self.k)


@dataclass(frozen=True, slots=True, kw_only=True)
class MatMul(Operation):
    """``x[*outer, M, K]`` times ``w[*outer, K, N]``, with up to two outer axes: ``[*batch, *rows, N]``.

    Attributes:
        x: left side.
        w: right side.
        batch: leading axes of the result, which the outer axes hold.
        rows: the axes of the result that M holds.
        fused: done to each element of the result.
    """

    x: Operand
    w: Operand
    batch: Shape
    rows: Shape
    fused: Epilogue | None = None

    SLOT: ClassVar[str] = "fused"

    @property
    def outer(self) -> Shape:
        """The two outer axes, of size 1 where there are fewer."""
        own = self.x.shape[:-2]
        return (*(1,) * (2 - len(own)), *own)

    @property
    def m(self) -> Dim:
        """Rows of each product."""
        return self.x.shape[-2]

    @property
    def n(self) -> Dim:
        """Columns of each product."""
        return self.w.shape[-1]

    @property
    def k(self) -> Dim:
        """Length of the sums."""
        return self.x.shape[-1]

    def evaluate(self, resolve: Resolve, **operands: Any) -> list[Array]:
        """``x @ w``."""
        spend_product(operands["x"], operands["w"])
        return [np.matmul(operands["x"], operands["w"])]

    def multiply_adds(self, resolve: Resolve) -> int:
        """K for each element of the result."""
        return resolve(product(self.outer) * self.m * self.n * self.k)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention(Operation):
    """``softmax(q k) v`` for each of two outer axes, the softmax along the last axis of the scores ``q k``.

    Attributes:
        q: queries ``[outer, inner, M, K]``.
        k: keys ``[outer, inner, K, N]``.
        v: values ``[outer, inner, N, D]``.
        strides: of the result in its buffer along outer, inner, M and D.
        batch: the axes of the scores that outer and inner hold.
        rows: the axes of the scores that M holds.
        scores: done to each score before the softmax: scale, mask, bias.
    """

    q: Operand
    k: Operand
    v: Operand
    strides: tuple[Dim, Dim, Dim, Dim]
    batch: Shape
    rows: Shape
    scores: Epilogue | None = None

    SLOT: ClassVar[str] = "scores"

    def evaluate(self, resolve: Resolve, **operands: Any) -> list[Array]:
        """The result as it lies in memory."""
        q, k, v = operands["q"], operands["k"], operands["v"]
        change: Callable[[Array], Array] = operands["scores"]
        spend_product(q, k)
        scores = change(np.matmul(q, k))
        spend_product(scores, v)
        e = np.exp(scores - scores.max(axis=-1, keepdims=True, initial=-np.inf))
        value = np.matmul(e / e.sum(axis=-1, keepdims=True), v)
        result = np.empty(value.size, value.dtype)
        steps = [resolve(d) * result.itemsize for d in self.strides]
        np.lib.stride_tricks.as_strided(result, value.shape, steps)[...] = value
        return [result]

    def multiply_adds(self, resolve: Resolve) -> int:
        """K for each score, and N for each element of the result."""
        *outer, n, d = self.v.shape
        m, k = self.q.shape[-2:]
        return resolve(product(tuple(outer)) * m * n * (k + d))
