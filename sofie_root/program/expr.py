"""Scalar expressions: what one element of a loop's result is.

An expression reads buffers at symbolic indices and applies the functions of :mod:`sofie_root.program.scalar`
by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from sofie_root.errors import ShapeError
from sofie_root.ir.dim import Atom, Dim, as_poly, substitute
from sofie_root.ir.dim import walk as walk_dim
from sofie_root.ir.dtype import DType

from .scalar import FUNCTIONS, mismatch

Number: TypeAlias = bool | int | float


@dataclass(frozen=True, slots=True)
class Expr:
    """Base of all scalar expressions; Python operators build new ones."""

    dtype: DType

    def __add__(self, other: Expr | Number) -> Expr:
        return call("add", self, other)

    def __radd__(self, other: Number) -> Expr:
        return call("add", constant(other, self.dtype), self)

    def __sub__(self, other: Expr | Number) -> Expr:
        return call("sub", self, other)

    def __rsub__(self, other: Number) -> Expr:
        return call("sub", constant(other, self.dtype), self)

    def __mul__(self, other: Expr | Number) -> Expr:
        return call("mul", self, other)

    def __rmul__(self, other: Number) -> Expr:
        return call("mul", constant(other, self.dtype), self)

    def __truediv__(self, other: Expr | Number) -> Expr:
        return call("div", self, other)

    def __rtruediv__(self, other: Number) -> Expr:
        return call("div", constant(other, self.dtype), self)

    def __neg__(self) -> Expr:
        return call("neg", self)

    def __lt__(self, other: Expr | Number) -> Expr:
        return compare("lt", self, other)

    def __le__(self, other: Expr | Number) -> Expr:
        return compare("le", self, other)

    def __gt__(self, other: Expr | Number) -> Expr:
        return compare("gt", self, other)

    def __ge__(self, other: Expr | Number) -> Expr:
        return compare("ge", self, other)

    def children(self) -> tuple[Expr, ...]:
        """The expressions this one is made of."""
        return ()


@dataclass(frozen=True, slots=True)
class Const(Expr):
    """A literal."""

    value: Number

    def __str__(self) -> str:
        return repr(self.value)


@dataclass(frozen=True, slots=True)
class Load(Expr):
    """One element of a buffer: at one index per axis of its shape, or at a single row-major position."""

    buffer: str
    index: tuple[Dim, ...]

    def __str__(self) -> str:
        return f"{self.buffer}[{', '.join(map(str, self.index))}]"


@dataclass(frozen=True, slots=True)
class Index(Expr):
    """An integer expression of loop indices and sizes, as a value (INT64)."""

    dim: Dim

    def __str__(self) -> str:
        return f"({self.dim})"


@dataclass(frozen=True, slots=True)
class ResultSize(Expr):
    """A size of what a branch or a repeated body gave (INT64): axis ``axis`` of its result ``k``."""

    control: str
    k: int
    axis: int

    def __str__(self) -> str:
        return f"size({self.control}.{self.k}, {self.axis})"


@dataclass(frozen=True, slots=True)
class Acc(Expr):
    """In an epilogue: the kernel's result for this element."""

    def __str__(self) -> str:
        return "acc"


@dataclass(frozen=True, slots=True)
class Call(Expr):
    """A named function of scalars."""

    function: str
    args: tuple[Expr, ...]

    def children(self) -> tuple[Expr, ...]:
        """The arguments."""
        return self.args

    def __str__(self) -> str:
        symbol = FUNCTIONS[self.function].symbol
        if symbol and len(self.args) == 2:
            return f"({self.args[0]} {symbol} {self.args[1]})"
        name = f"cast<{self.dtype}>" if self.function == "cast" else self.function
        return f"{name}({', '.join(map(str, self.args))})"


class Cell(Atom):
    """An integer that is read at run time and used as an index or a size.

    Generated code checks it: a value in ``[-extent, 0)`` counts from the end, anything outside
    ``[-extent, extent)`` throws ``std::out_of_range``. Without an extent (None) it is taken as it is.
    """

    __slots__ = ("expr", "extent")

    def __init__(self, expr: Expr, extent: Dim | None) -> None:
        super().__init__(expr, extent)
        self.expr = expr
        self.extent = extent

    def dims(self) -> tuple[Dim, ...]:
        """The index expressions inside, the extent last."""
        inner = tuple(dims_of(self.expr))
        return inner if self.extent is None else (*inner, self.extent)

    def rebuild(self, dims: tuple[Dim, ...]) -> Dim:
        """The same read at other indices."""
        rest = iter(dims)
        expr = map_dims(self.expr, lambda _: next(rest))
        return as_poly(Cell(expr, None if self.extent is None else next(rest)))

    def bounds(self) -> tuple[Dim | None, Dim | None]:
        """``[0, extent)`` after the check."""
        return (None, None) if self.extent is None else (0, self.extent - 1)

    def __str__(self) -> str:
        return f"cell({self.expr})"


def constant(value: Number, dtype: DType) -> Const:
    """A literal of that dtype."""
    if dtype is DType.BOOL:
        return Const(dtype, bool(value))
    return Const(dtype, float(value) if dtype.is_float else int(value))


def index(dim: Dim, dtype: DType = DType.INT64) -> Expr:
    """A loop index or size as a value of the given dtype."""
    value: Expr = constant(dim, DType.INT64) if isinstance(dim, int) else Index(DType.INT64, dim)
    return cast(value, dtype)


def as_index(value: Expr, extent: Dim | None = None) -> Dim:
    """An integer value read at run time, for use inside an index; see :class:`Cell` for the check."""
    while isinstance(value, Call) and value.function == "cast" and value.args[0].dtype.is_integer:
        value = value.args[0]
    if isinstance(value, Const) and extent is None:
        return int(value.value)
    if isinstance(value, Const) and isinstance(extent, int) and -extent <= value.value < extent:
        return int(value.value) % extent if extent else 0
    return as_poly(Cell(value, extent))


def call(function: str, *args: Expr | Number, dtype: DType | None = None) -> Expr:
    """``function`` of the arguments; Python numbers take the dtype of the first expression.

    Args:
        function: a row of :data:`sofie_root.program.scalar.FUNCTIONS`.
        args: its arguments; all of one dtype, with the exception of ``pow``.
        dtype: of the result, if it is not the one that the row says: BOOL for comparisons and tests, that
            of the first argument for most.

    Raises:
        ShapeError: there is no such function, or it does not take so many arguments, or not of this dtype.
    """
    first = next(a.dtype for a in args if isinstance(a, Expr))
    exprs = tuple(a if isinstance(a, Expr) else constant(a, first) for a in args)
    problem = mismatch(function, [e.dtype for e in exprs])
    if problem is not None:
        raise ShapeError(problem)
    return Call(
        dtype or FUNCTIONS[function].result_dtype([e.dtype for e in exprs]), function, exprs
    )


def compare(function: str, a: Expr, b: Expr | Number) -> Expr:
    """A comparison ``lt``, ``le``, ``gt``, ``ge``, ``eq`` or ``ne``; the result is BOOL."""
    return call(function, a, b)


def cast(value: Expr, dtype: DType) -> Expr:
    """The value converted to ``dtype`` (nothing to do if it has it already)."""
    if value.dtype is dtype:
        return value
    if isinstance(value, Const) and not (value.dtype.is_float and not dtype.is_float):
        if dtype is not DType.FLOAT16 and dtype is not DType.BFLOAT16 and dtype is not DType.FLOAT:
            if dtype in (DType.DOUBLE, DType.INT64, DType.BOOL):
                return constant(value.value, dtype)
        elif isinstance(value.value, (bool, int)) and abs(value.value) <= 256:
            return constant(value.value, dtype)
    return Call(dtype, "cast", (value,))


def select(condition: Expr, a: Expr | Number, b: Expr | Number) -> Expr:
    """``condition ? a : b``; both sides may be evaluated, so both must be safe to read."""
    first = a if isinstance(a, Expr) else b
    assert isinstance(first, Expr)
    a = a if isinstance(a, Expr) else constant(a, first.dtype)
    b = b if isinstance(b, Expr) else constant(b, first.dtype)
    return Call(a.dtype, "select", (condition, a, b))


def guard(condition: Expr, inside: Expr, outside: Expr | Number) -> Expr:
    """``condition ? inside : outside`` where ``inside`` may only be read if the condition holds (Pad)."""
    other = outside if isinstance(outside, Expr) else constant(outside, inside.dtype)
    return Call(inside.dtype, "guard", (condition, inside, other))


def walk(expr: Expr) -> Iterator[Expr]:
    """The expression and everything inside it, reads inside indices included."""
    waiting = [expr]
    while waiting:
        e = waiting.pop()
        yield e
        inside = [*e.children()]
        for dim in _own_dims(e):
            inside += [atom.expr for atom in walk_dim(dim) if isinstance(atom, Cell)]
        waiting += reversed(inside)


def _own_dims(expr: Expr) -> tuple[Dim, ...]:
    if isinstance(expr, Load):
        return expr.index
    return (expr.dim,) if isinstance(expr, Index) else ()


def dims_of(expr: Expr) -> Iterator[Dim]:
    """The index expressions of an expression in a fixed order (that of :func:`map_dims`)."""
    yield from _own_dims(expr)
    for child in expr.children():
        yield from dims_of(child)


def map_dims(expr: Expr, fn: Callable[[Dim], Dim]) -> Expr:
    """The expression with every index expression replaced by ``fn`` of it."""
    if isinstance(expr, Load):
        return replace(expr, index=tuple(fn(d) for d in expr.index))
    if isinstance(expr, Index):
        dim = fn(expr.dim)
        return constant(dim, DType.INT64) if isinstance(dim, int) else replace(expr, dim=dim)
    if isinstance(expr, Call):
        return replace(expr, args=tuple(map_dims(a, fn) for a in expr.args))
    return expr


def substitute_dims(expr: Expr, mapping: Mapping[Atom, Dim]) -> Expr:
    """The expression with index atoms replaced: how a view or a producer is moved into its reader."""
    return map_dims(expr, lambda d: substitute(d, mapping)) if mapping else expr


def map_loads(expr: Expr, fn: Callable[[Load], Expr]) -> Expr:
    """The expression with every read replaced by ``fn`` of it, those inside indices included."""
    if isinstance(expr, Load):
        index = tuple(map_dim_loads(d, fn) for d in expr.index)
        return fn(expr if index == expr.index else replace(expr, index=index))
    if isinstance(expr, Index):
        return replace(expr, dim=map_dim_loads(expr.dim, fn))
    if isinstance(expr, Call):
        args = tuple(map_loads(a, fn) for a in expr.args)
        same = all(a is b for a, b in zip(args, expr.args, strict=True))
        return expr if same else replace(expr, args=args)
    return expr


def map_dim_loads(dim: Dim, fn: Callable[[Load], Expr]) -> Dim:
    """An index with every read inside it replaced by ``fn`` of it."""
    mapping: dict[Atom, Dim] = {}
    for atom in walk_dim(dim):
        if isinstance(atom, Cell):
            mapping[atom] = as_index(map_loads(atom.expr, fn), atom.extent)
    return substitute(dim, mapping) if mapping else dim


def loads(expr: Expr) -> list[Load]:
    """Every read of the expression, those inside indices included."""
    return [e for e in walk(expr) if isinstance(e, Load)]


def unary(function: str) -> Callable[[Expr], Expr]:
    """The named one-argument function as a Python callable."""

    def apply(x: Expr) -> Expr:
        return call(function, x)

    return apply


def scalar(value: Any, dtype: DType) -> Const:
    """A NumPy scalar as a literal."""
    return constant(value.item() if hasattr(value, "item") else value, dtype)
