"""Axes that are only known when the model runs: every axis asks whether it is one of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sofie_root.ir import Dim, DType, Shape, TensorType
from sofie_root.ir.dim import ComputedSize, as_poly, floordiv, maximum, product
from sofie_root.program import expr
from sofie_root.program.builder import Builder, Tensor
from sofie_root.program.expr import Expr
from sofie_root.program.statement import ReduceKind

ZERO, ONE = expr.constant(0, DType.INT64), expr.constant(1, DType.INT64)


def are_computed(axes: TensorType | None) -> bool:
    """Whether the content of an ``axes`` input is not known while parsing."""
    if axes is None or axes.numel == 0:
        return False
    return axes.value is None or not all(isinstance(v, int) for v in axes.value)


def bound(b: Builder, name: str, value: Expr) -> Dim:
    """A size that is bound to ``value`` (INT64, not negative) when the model runs.

    Args:
        b: the builder.
        name: unique among the sizes of the node that is being lowered.
        value: an expression without indices.
    """
    owner = next(n for n in b.names if n is not None)
    size = as_poly(ComputedSize(owner, name))
    b.bind(size, value)
    return size


@dataclass(frozen=True, slots=True)
class ComputedAxes:
    """The axes that a tensor names, among ``rank``; an axis outside throws when the model runs."""

    axes: Tensor
    rank: int

    @property
    def count(self) -> int:
        """How many are named."""
        count = self.axes.type.numel
        assert isinstance(count, int)
        return count

    def check(self, b: Builder) -> None:
        """Demands that no axis is named twice."""
        total: Expr = ZERO
        for axis in range(self.rank):
            total = total + self.names(axis)
        b.check_equal(bound(b, "axes", total), self.count, "no axis may be named twice")

    def numbers(self) -> list[Expr]:
        """Each axis counted from the front."""
        at: Sequence[tuple[int, ...]] = [(k,) for k in range(self.count)]
        places = at if self.axes.rank else [()]
        return [expr.index(expr.as_index(self.axes[k], self.rank)) for k in places]

    def chosen(self, axis: int, values: Sequence[Expr], default: Expr) -> Expr:
        """``values[k]`` where the ``k``-th named axis is this one, else ``default``."""
        result = default
        for number, value in zip(self.numbers(), values, strict=True):
            result = expr.select(expr.compare("eq", number, axis), value, result)
        return result

    def names(self, axis: int) -> Expr:
        """1 where the axis is named, else 0."""
        return self.chosen(axis, [ONE] * self.count, ZERO)

    def before(self, axis: int) -> Expr:
        """How many axes before this one are not named."""
        total: Expr = ZERO
        for k in range(axis):
            total = total + (1 - self.names(k))
        return total

    def rest(self, shape: Shape) -> list[Expr]:
        """The sizes of the axes that are not named, in order."""
        places = [self.before(k) for k in range(self.rank)]
        left = []
        for position in range(self.rank - self.count):
            size: Expr = ZERO
            for k, extent in enumerate(shape):
                here = expr.compare("eq", places[k] * 2 + self.names(k), 2 * position)
                size = expr.select(here, expr.index(extent), size)
            left.append(size)
        return left

    def filled(self, shape: Shape) -> list[Expr]:
        """The sizes of ``rank`` axes of which the named ones are 1 and the others are ``shape``."""
        sizes = []
        for k in range(self.rank):
            place = self.before(k)
            size: Expr = ONE
            for position, extent in enumerate(shape):
                here = expr.compare("eq", place, position)
                size = expr.select(here, expr.index(extent), size)
            sizes.append(expr.select(expr.compare("eq", self.names(k), 1), ONE, size))
        return sizes


@dataclass(frozen=True, slots=True)
class ComputedReduction:
    """A tensor split into result and reduced indices along axes known at run time.

    Every axis has both: one of them has the axis' extent, the other has extent 1.

    Attributes:
        x: the tensor.
        kept: shape of the result, reduced axes having size 1.
        over: extents of the reduced indices.
    """

    x: Tensor
    kept: Shape
    over: Shape

    @classmethod
    def of(cls, b: Builder, x: Tensor, axes: Tensor) -> ComputedReduction:
        """Binds the sizes of the result."""
        named = ComputedAxes(axes, x.rank)
        named.check(b)
        kept = tuple(
            bound(b, f"kept:{k}", expr.select(expr.compare("eq", named.names(k), 1), ONE, size))
            for k, size in enumerate(map(expr.index, x.shape))
        )
        # max(1, ...): a kept axis without elements leaves nothing to reduce either.
        over = tuple(floordiv(d, maximum(1, s)) for d, s in zip(x.shape, kept, strict=True))
        return cls(x, kept, over)

    @property
    def number(self) -> Dim:
        """How many elements each result is made of."""
        return product(self.over)

    def reduce(
        self,
        b: Builder,
        kind: ReduceKind,
        element: Callable[[Expr, tuple[Dim, ...]], Expr],
        dtype: DType | None = None,
    ) -> Tensor:
        """Combines ``element(x[i], kept index)``; reduced axes stay with size 1."""

        def body(out: tuple[Dim, ...], over: tuple[Dim, ...]) -> Expr:
            return element(self.x[tuple(i + r for i, r in zip(out, over, strict=True))], out)

        return b.reduce(kind, self.kept, self.over, body, dtype)
