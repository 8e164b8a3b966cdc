"""Reductions, and the normalised exponentials that are made of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from sofie_root.errors import ShapeError
from sofie_root.ir import Dim, DType, Op, Shape, TensorType, operator, runtime_size
from sofie_root.ir.dim import maximum, minimum, product
from sofie_root.program import expr
from sofie_root.program.builder import Builder, Tensor
from sofie_root.program.expr import Expr, call
from sofie_root.program.statement import ReduceKind

from .checks import ANY, FLOATS, NUMERIC, as_axes, as_axis, constant_ints, require_dtype
from .computed_axes import ComputedAxes, ComputedReduction, are_computed
from .shape import bind_sizes, bind_values, static_length
from .symbolic import known, pack, with_values


def reduced_shape(shape: Shape, axes: Sequence[int], keepdims: bool) -> Shape:
    """The shape left when these axes (counted from the front) are reduced."""
    if keepdims:
        return tuple(1 if k in axes else d for k, d in enumerate(shape))
    return tuple(d for k, d in enumerate(shape) if k not in axes)


def reduce_axes(
    b: Builder,
    kind: ReduceKind,
    x: Tensor,
    axes: Sequence[int],
    element: Callable[[Expr, tuple[Dim, ...]], Expr],
    dtype: DType | None = None,
    keepdims: bool = True,
) -> Tensor:
    """Combines ``element(x[i], i)`` over these axes (counted from the front) of ``x``.

    Args:
        b: the builder.
        kind: how to combine.
        x: the tensor to reduce.
        axes: the axes to reduce.
        element: the value to combine, from an element of ``x`` and its index.
        dtype: element type of the result; that of the computation if not given.
        keepdims: whether the axes stay, with size 1.
    """
    kept = [k for k in range(x.rank) if k not in axes]

    def body(out: tuple[Dim, ...], over: tuple[Dim, ...]) -> Expr:
        rest, reduced = iter(out if not keepdims else [out[k] for k in kept]), iter(over)
        index = tuple(next(reduced) if k in axes else next(rest) for k in range(x.rank))
        return element(x[index], index)

    shape = reduced_shape(x.shape, axes, keepdims)
    over = [x.shape[k] for k in sorted(axes)]
    if all(extent == 1 for extent in over):  # nothing to combine
        if kind.startswith("arg"):
            return b.loop(shape, lambda *_: expr.constant(0, DType.INT64))
        return b.loop(shape, lambda *out: body(out, (0,) * len(over)), dtype)
    return b.reduce(kind, shape, over, body, dtype)


@dataclass(frozen=True, slots=True)
class Reduce(Op):
    """Base of the reductions: what is combined, how, and what is made of the result."""

    keepdims: int = 1
    noop_with_empty_axes: int = 0

    accepts: ClassVar[frozenset[DType]] = NUMERIC
    kind: ClassVar[ReduceKind] = "sum"

    def before(self, x: Expr) -> Expr:
        """What is combined, from one element."""
        return x

    def after(self, total: Expr, count: Dim) -> Expr:
        """The result, from the combination of ``count`` elements."""
        return total

    def of_dims(self, values: list[Dim]) -> Dim | None:
        """The result for sizes, or None where it is not known while parsing."""
        return None

    def _axes(self, x: TensorType, axes: TensorType | None) -> tuple[int, ...]:
        if axes is None or axes.numel == 0:
            return () if self.noop_with_empty_axes else tuple(range(x.rank))
        return as_axes(constant_ints(axes, "axes"), x.rank)

    def infer(self, x: TensorType, axes: TensorType | None = None) -> TensorType:
        """The shape without, or with size 1 for, the reduced axes."""
        require_dtype(x, self.accepts)
        if axes is not None and are_computed(axes):
            rank = x.rank - (0 if self.keepdims else static_length(axes, "axes"))
            static_length(axes, "axes")
            return TensorType(x.dtype, tuple(runtime_size(0, k) for k in range(rank)))
        over = self._axes(x, axes)
        result = TensorType(x.dtype, reduced_shape(x.shape, over, bool(self.keepdims)))
        values = known(x)
        if values is None or not over or not values.size or x.dtype.is_float:
            return result
        kept = [k for k in range(x.rank) if k not in over]
        rows = values.transpose([*kept, *over]).reshape([values.shape[k] for k in kept] + [-1])
        totals = [self.of_dims(list(row)) for row in rows.reshape(-1, rows.shape[-1])]
        found = [t for t in totals if t is not None]
        return with_values(result, pack(found)) if len(found) == len(totals) else result

    def lower(self, b: Builder, x: Tensor, axes: Tensor | None = None) -> Tensor:
        """One reducing loop, and one for what is done with the total, if anything is."""
        if axes is not None and are_computed(axes.type):
            parts = ComputedReduction.of(b, x, axes)
            total = self.total(b, parts)
            done = b.loop(total.shape, lambda *i: self.after(total[i], parts.number), x.dtype)
            return self._shaped(b, done, x, axes)
        over = self._axes(x.type, None if axes is None else axes.type)
        out = b.outputs[0]
        count = product(x.shape[k] for k in over)
        if not over:
            return b.loop(out.shape, lambda *i: self.after(self.before(x[i]), count), out.dtype)
        plain = type(self).after is Reduce.after
        total = reduce_axes(
            b,
            self.kind,
            x,
            over,
            lambda v, _: self.before(v),
            x.dtype if plain else None,
            bool(self.keepdims),
        )
        return (
            total if plain else b.loop(out.shape, lambda *i: self.after(total[i], count), out.dtype)
        )

    def total(self, b: Builder, parts: ComputedReduction) -> Tensor:
        """The combination over axes that are known at run time."""
        return parts.reduce(b, self.kind, lambda v, _: self.before(v))

    def _shaped(self, b: Builder, total: Tensor, x: Tensor, axes: Tensor) -> Tensor:
        """The total with its reduced axes kept or removed, as ``keepdims`` says."""
        if self.keepdims:
            bind_sizes(b, total.shape)
        else:
            bind_values(b, ComputedAxes(axes, x.rank).rest(x.shape))
        return b.reshape(total, b.outputs[0].shape)


@operator("ReduceSum", since=13)
@dataclass(frozen=True, slots=True)
class ReduceSum(Reduce):
    """Sum over axes. Source: ONNX ReduceSum-13."""

    def of_dims(self, values: list[Dim]) -> Dim:
        """Their sum."""
        total: Dim = 0
        for value in values:
            total = total + value
        return total


@operator("ReduceProd", since=18)
@dataclass(frozen=True, slots=True)
class ReduceProd(Reduce):
    """Product over axes. Source: ONNX ReduceProd-18."""

    kind = "prod"

    def of_dims(self, values: list[Dim]) -> Dim:
        """Their product."""
        return product(values)


@operator("ReduceMax", since=20)
@dataclass(frozen=True, slots=True)
class ReduceMax(Reduce):
    """Largest element over axes. Source: ONNX ReduceMax-20."""

    accepts = ANY
    kind = "max"

    def of_dims(self, values: list[Dim]) -> Dim | None:
        """The largest."""
        return maximum(*values) if values else None


@operator("ReduceMin", since=20)
@dataclass(frozen=True, slots=True)
class ReduceMin(Reduce):
    """Smallest element over axes. Source: ONNX ReduceMin-20."""

    accepts = ANY
    kind = "min"

    def of_dims(self, values: list[Dim]) -> Dim | None:
        """The smallest."""
        return minimum(*values) if values else None


@operator("ReduceMean", since=18)
@dataclass(frozen=True, slots=True)
class ReduceMean(Reduce):
    """Mean over axes. Source: ONNX ReduceMean-18."""

    def after(self, total: Expr, count: Dim) -> Expr:
        """The sum divided by the number of elements."""
        return total / expr.index(count, total.dtype)


@operator("ReduceL1", since=18)
@dataclass(frozen=True, slots=True)
class ReduceL1(Reduce):
    """Sum of magnitudes over axes. Source: ONNX ReduceL1-18."""

    def before(self, x: Expr) -> Expr:
        """The magnitude."""
        return call("abs", x)


@operator("ReduceSumSquare", since=18)
@dataclass(frozen=True, slots=True)
class ReduceSumSquare(Reduce):
    """Sum of squares over axes. Source: ONNX ReduceSumSquare-18."""

    def before(self, x: Expr) -> Expr:
        """The square."""
        return x * x


@operator("ReduceL2", since=18)
@dataclass(frozen=True, slots=True)
class ReduceL2(Reduce):
    """Root of the sum of squares over axes. Source: ONNX ReduceL2-18."""

    def before(self, x: Expr) -> Expr:
        """The square."""
        return x * x

    def after(self, total: Expr, count: Dim) -> Expr:
        """The root; of integers, in double."""
        return _through_double("sqrt", total)


@operator("ReduceLogSum", since=28)
@dataclass(frozen=True, slots=True)
class ReduceLogSum(Reduce):
    """Logarithm of the sum over axes. Source: ONNX ReduceLogSum-28."""

    def after(self, total: Expr, count: Dim) -> Expr:
        """The logarithm; of integers, in double."""
        return _through_double("log", total)


@operator("ReduceLogSumExp", since=28)
@dataclass(frozen=True, slots=True)
class ReduceLogSumExp(Reduce):
    """Logarithm of the sum of exponentials; of integers, in double. Source: ONNX ReduceLogSumExp-28."""

    def lower(self, b: Builder, x: Tensor, axes: Tensor | None = None) -> Tensor:
        """The largest element is taken out of the sum first."""
        if axes is not None and are_computed(axes.type):
            return Reduce.lower(self, b, x, axes)
        over = self._axes(x.type, None if axes is None else axes.type)
        largest = reduce_axes(b, "max", x, over, lambda v, _: v)
        shift = _finite(b, largest)

        def shifted(value: Expr, index: tuple[Dim, ...]) -> Expr:
            at = tuple(0 if k in over else d for k, d in enumerate(index))
            return call("exp", _wide(value) - shift[at])

        total = reduce_axes(b, "sum", x, over, shifted)
        logarithm = b.loop(total.shape, lambda *i: call("log", total[i]) + shift[i], x.dtype)
        return b.reshape(logarithm, b.outputs[0].shape)

    def total(self, b: Builder, parts: ComputedReduction) -> Tensor:
        """The same over axes that are known at run time."""
        shift = _finite(b, parts.reduce(b, "max", lambda v, _: v))
        total = parts.reduce(b, "sum", lambda v, at: call("exp", _wide(v) - shift[at]))
        return b.loop(total.shape, lambda *i: call("log", total[i]) + shift[i])


def _wide(x: Expr) -> Expr:
    """The element, an integer as double."""
    return x if x.dtype.is_float else expr.cast(x, DType.DOUBLE)


def _through_double(function: str, x: Expr) -> Expr:
    """The function of an element; that of an integer is truncated."""
    return expr.cast(call(function, _wide(x)), x.dtype)


def _finite(b: Builder, x: Tensor) -> Tensor:
    """``x`` with infinite elements replaced by the largest and smallest numbers; integers as double."""
    if x.dtype.is_integer:
        return b.loop(x.shape, lambda *i: _wide(x[i]), DType.DOUBLE)
    largest = float(np.finfo(x.dtype.compute.numpy).max)
    return b.loop(x.shape, lambda *i: call("max", call("min", x[i], largest), -largest))


@dataclass(frozen=True, slots=True)
class ArgReduce(Op):
    """Base of ArgMax and ArgMin."""

    axis: int = 0
    keepdims: int = 1
    select_last_index: int = 0

    extreme: ClassVar[Literal["argmax", "argmin"]] = "argmax"

    def infer(self, x: TensorType) -> TensorType:
        """The shape without, or with size 1 for, the axis."""
        require_dtype(x, NUMERIC)
        over = (as_axis(self.axis, x.rank),)
        return TensorType(DType.INT64, reduced_shape(x.shape, over, bool(self.keepdims)))

    def lower(self, b: Builder, x: Tensor) -> Tensor:
        """One reducing loop."""
        kinds: dict[tuple[str, bool], ReduceKind] = {
            ("argmax", False): "argmax",
            ("argmax", True): "argmax_last",
            ("argmin", False): "argmin",
            ("argmin", True): "argmin_last",
        }
        kind = kinds[self.extreme, bool(self.select_last_index)]
        over = (as_axis(self.axis, x.rank),)
        return reduce_axes(b, kind, x, over, lambda v, _: v, DType.INT64, bool(self.keepdims))


@operator("ArgMax", since=13)
@dataclass(frozen=True, slots=True)
class ArgMax(ArgReduce):
    """Position of the largest element along an axis. Source: ONNX ArgMax-13."""


@operator("ArgMin", since=13)
@dataclass(frozen=True, slots=True)
class ArgMin(ArgReduce):
    """Position of the smallest element along an axis. Source: ONNX ArgMin-13."""

    extreme = "argmin"


@dataclass(frozen=True, slots=True)
class AlongAxis(Op):
    """Base of operators that normalise along one axis and keep type and shape."""

    axis: int = -1

    def infer(self, x: TensorType) -> TensorType:
        """The type of ``x``."""
        require_dtype(x, FLOATS)
        if x.rank == 0:
            raise ShapeError("a scalar has no axis to normalise along")
        as_axis(self.axis, x.rank)
        return TensorType(x.dtype, x.shape)

    def _reduce(
        self, b: Builder, kind: ReduceKind, x: Tensor, before: Callable[[Expr], Expr] = lambda v: v
    ) -> Tensor:
        over = (as_axis(self.axis, x.rank),)
        return reduce_axes(b, kind, x, over, lambda v, _: before(v))

    def _at(self, index: Sequence[Dim]) -> tuple[Dim, ...]:
        """The index into a result of :meth:`_reduce`."""
        axis = as_axis(self.axis, len(index))
        return tuple(0 if k == axis else d for k, d in enumerate(index))


@operator("Softmax", since=13)
@dataclass(frozen=True, slots=True)
class Softmax(AlongAxis):
    """Exponentials normalised to sum to one along ``axis``. Source: ONNX Softmax-13."""

    def lower(self, b: Builder, x: Tensor) -> Tensor:
        """Largest element, exponentials, their sum, quotients."""
        with b.called("max"):
            largest = self._reduce(b, "max", x)
        with b.called("exp"):
            e = b.loop(x.shape, lambda *i: call("exp", x[i] - largest[self._at(i)]))
        with b.called("sum"):
            total = self._reduce(b, "sum", e)
        return b.loop(x.shape, lambda *i: e[i] / total[self._at(i)], x.dtype)


@operator("LogSoftmax", since=13)
@dataclass(frozen=True, slots=True)
class LogSoftmax(AlongAxis):
    """Logarithm of Softmax. Source: ONNX LogSoftmax-13."""

    def lower(self, b: Builder, x: Tensor) -> Tensor:
        """Largest element, the sum of exponentials, differences."""
        with b.called("max"):
            largest = self._reduce(b, "max", x)
        with b.called("shifted"):
            shifted = b.loop(x.shape, lambda *i: x[i] - largest[self._at(i)])
        with b.called("sum"):
            total = self._reduce(b, "sum", shifted, lambda v: call("exp", v))
        with b.called("log"):
            logarithm = b.loop(total.shape, lambda *i: call("log", total[i]))
        return b.loop(x.shape, lambda *i: shifted[i] - logarithm[self._at(i)], x.dtype)


@operator("Hardmax", since=13)
@dataclass(frozen=True, slots=True)
class Hardmax(AlongAxis):
    """One at the first largest element along ``axis``, zero elsewhere. Source: ONNX Hardmax-13."""

    def lower(self, b: Builder, x: Tensor) -> Tensor:
        """The position of the largest element, then a comparison with it."""
        axis = as_axis(self.axis, x.rank)
        with b.called("argmax"):
            best = self._reduce(b, "argmax", x)

        def body(*i: Any) -> Expr:
            chosen = expr.compare("eq", best[self._at(i)], expr.index(i[axis]))
            return expr.select(chosen, expr.constant(1, x.dtype.compute), 0)

        return b.loop(x.shape, body, x.dtype)


@operator("LpNormalization", since=22)
@dataclass(frozen=True, slots=True)
class LpNormalization(AlongAxis):
    """Elements divided by their L1 or L2 norm along ``axis``. Source: ONNX LpNormalization-22."""

    p: int = 2

    def infer(self, x: TensorType) -> TensorType:
        """The type of ``x``."""
        if self.p not in (1, 2):
            raise ShapeError(f"p is {self.p}, but only norms 1 and 2 exist")
        return AlongAxis.infer(self, x)

    def lower(self, b: Builder, x: Tensor) -> Tensor:
        """The norm, then quotients; zero where the norm is zero."""
        if self.p == 1:
            norm = self._reduce(b, "sum", x, lambda v: call("abs", v))
        else:
            squares = self._reduce(b, "sum", x, lambda v: v * v)
            norm = b.loop(squares.shape, lambda *i: call("sqrt", squares[i]))

        def body(*i: Any) -> Expr:
            n = norm[self._at(i)]
            return expr.select(expr.compare("eq", n, 0), 0, x[i] / n)

        return b.loop(x.shape, body, x.dtype)
