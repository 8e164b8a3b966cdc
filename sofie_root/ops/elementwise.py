"""Operators that work element by element: maths, comparisons, logic, Where and casts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from sofie_root.errors import ShapeError
from sofie_root.ir import Dim, DType, Op, Poly, Refuse, TensorType, operator
from sofie_root.ir.dim import at_least, floordiv, maximum, minimum, mod, product
from sofie_root.program import expr
from sofie_root.program.builder import Builder, Tensor
from sofie_root.program.expr import Expr, call
from sofie_root.program.operations.bits import BitCast as BitCastOperation

from .broadcast import broadcast_shapes, element
from .checks import (
    ANY,
    BOOLS,
    FLOATS,
    INTEGERS,
    NUMERIC,
    as_dtype,
    require_dtype,
    require_one_dtype,
)
from .symbolic import elementwise, wraps


class Elementwise(Op):
    """Base of operators whose element is a function of the elements it is broadcast from.

    Subclasses say which element types they take, what one element is, and (where shape arithmetic
    needs it) what it is for sizes.
    """

    __slots__ = ()
    accepts: ClassVar[frozenset[DType]] = FLOATS
    comparison: ClassVar[bool] = False

    def element(self, *args: Expr) -> Expr:
        """The result for one element of each input."""
        raise NotImplementedError(type(self).__name__)

    def of_dims(self, *args: Dim) -> Dim | None:
        """The result for sizes, or None where it is not known while parsing."""
        return None

    def _infer(self, *inputs: TensorType) -> TensorType:
        require_one_dtype(inputs)
        require_dtype(inputs[0], self.accepts)
        dtype = DType.BOOL if self.comparison else inputs[0].dtype
        shape = broadcast_shapes(*(x.shape for x in inputs))
        return elementwise(TensorType(dtype, shape), self.of_dims, *inputs)

    def lower(self, b: Builder, *inputs: Tensor) -> Tensor:
        """One loop."""
        out = b.outputs[0]
        return b.loop(
            out.shape, lambda *i: self.element(*(element(x, i) for x in inputs)), out.dtype
        )


class Unary(Elementwise):
    """Base of operators of one tensor."""

    __slots__ = ()

    def infer(self, x: TensorType) -> TensorType:
        """The type of ``x``, or BOOL."""
        return self._infer(x)


class Binary(Elementwise):
    """Base of operators of two tensors, broadcast against each other."""

    __slots__ = ()

    def infer(self, a: TensorType, b: TensorType) -> TensorType:
        """The broadcast shape."""
        return self._infer(a, b)


class Variadic(Elementwise):
    """Base of operators of one or more tensors, all broadcast against each other."""

    __slots__ = ()

    def infer(self, *inputs: TensorType) -> TensorType:
        """The broadcast shape."""
        if not inputs:
            raise ShapeError("needs at least one input")
        return self._infer(*inputs)


def _make(
    base: type[Elementwise],
    name: str,
    since: int,
    function: str,
    accepts: frozenset[DType],
    of_dims: Callable[..., Dim | None] | None,
) -> type[Op]:
    """An operator without attributes, which is one named function of expressions."""
    comparison = function in ("lt", "le", "gt", "ge", "eq", "isnan", "isinf")

    def one(self: Elementwise, *args: Expr) -> Expr:
        dtype = DType.BOOL if comparison else None
        if base is Variadic and len(args) == 1:
            return args[0]
        result = call(function, *args[:2], dtype=dtype)
        for further in args[2:]:
            result = call(function, result, further)
        return result

    members: dict[str, object] = {
        "__slots__": (),
        "__doc__": f"``{function}`` of each element. Source: ONNX {name}-{since}.",
        "__module__": __name__,
        "accepts": accepts,
        "comparison": comparison,
        "element": one,
    }
    if of_dims is not None:
        members["of_dims"] = lambda _, *dims: of_dims(*dims)
    return operator(name, since)(dataclass(frozen=True)(type(name, (base,), members)))


def unary(
    name: str,
    since: int,
    function: str,
    accepts: frozenset[DType] = FLOATS,
    of_dims: Callable[[Dim], Dim | None] | None = None,
) -> type[Op]:
    """A table row: an operator of one tensor that is one named function."""
    return _make(Unary, name, since, function, accepts, of_dims)


def binary(
    name: str,
    since: int,
    function: str,
    accepts: frozenset[DType],
    of_dims: Callable[[Dim, Dim], Dim | None] | None = None,
) -> type[Op]:
    """A table row: an operator of two broadcast tensors that is one named function."""
    return _make(Binary, name, since, function, accepts, of_dims)


def variadic(
    name: str,
    since: int,
    function: str,
    accepts: frozenset[DType],
    of_dims: Callable[..., Dim | None],
) -> type[Op]:
    """A table row: one named function joining any number of broadcast tensors."""
    return _make(Variadic, name, since, function, accepts, of_dims)


# -- sizes -----------------------------------------------------------------------------------------


def _same(a: Dim) -> Dim:
    return a


def _abs(a: Dim) -> Dim | None:
    if isinstance(a, int):
        return abs(a)
    return a if at_least(a, 0) else None


def _sign(a: Dim) -> Dim | None:
    if isinstance(a, int):
        return (a > 0) - (a < 0)
    return 1 if at_least(a, 1) else None


def _div(a: Dim, b: Dim) -> Dim | None:
    """Integer division truncates; sizes are not negative, so that is their floor."""
    if isinstance(a, int) and isinstance(b, int):
        return None if b == 0 else abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
    return None if isinstance(b, int) and b <= 0 else floordiv(a, b)


def _mod(a: Dim, b: Dim) -> Dim | None:
    if isinstance(b, int) and (b == 0 or (b < 0 and isinstance(a, Poly))):
        return None
    return mod(a, b)


def _compare(a: Dim, b: Dim) -> int | None:
    """-1, 0 or 1 for less, equal, greater, where that holds for every value of the sizes."""
    if a == b:
        return 0
    if at_least(a, b + 1):
        return 1
    return -1 if at_least(b, a + 1) else None


def _equal(a: Dim, b: Dim) -> Dim | None:
    order = _compare(a, b)
    return None if order is None else int(order == 0)


def _greater(a: Dim, b: Dim) -> Dim | None:
    return 1 if at_least(a, b + 1) else 0 if at_least(b, a) else None


def _less(a: Dim, b: Dim) -> Dim | None:
    return _greater(b, a)


def _not(a: Dim | None) -> Dim | None:
    return int(not a) if isinstance(a, int) else None


def _and(a: Dim, b: Dim) -> Dim | None:
    if a == 0 or b == 0:
        return 0
    return 1 if isinstance(a, int) and isinstance(b, int) else None


def _or(a: Dim, b: Dim) -> Dim | None:
    if 1 in (a, b):
        return 1
    return 0 if a == 0 and b == 0 else None


def _xor(a: Dim, b: Dim) -> Dim | None:
    return int(a != b) if isinstance(a, int) and isinstance(b, int) else None


# -- tables ----------------------------------------------------------------------------------------

Abs = unary("Abs", 13, "abs", NUMERIC, _abs)
Acos = unary("Acos", 22, "acos")
Acosh = unary("Acosh", 22, "acosh")
Asin = unary("Asin", 22, "asin")
Asinh = unary("Asinh", 22, "asinh")
Atan = unary("Atan", 22, "atan")
Atanh = unary("Atanh", 22, "atanh")
BitwiseNot = unary("BitwiseNot", 18, "bit_not", INTEGERS)
Ceil = unary("Ceil", 13, "ceil", FLOATS, _same)
Cos = unary("Cos", 22, "cos")
Cosh = unary("Cosh", 22, "cosh")
Erf = unary("Erf", 13, "erf")
Exp = unary("Exp", 13, "exp")
Floor = unary("Floor", 13, "floor", FLOATS, _same)
IsNaN = unary("IsNaN", 20, "isnan")
Log = unary("Log", 13, "log")
Neg = unary("Neg", 13, "neg", NUMERIC, lambda a: -a)
Not = unary("Not", 1, "logical_not", BOOLS, _not)
Reciprocal = unary("Reciprocal", 13, "reciprocal")
Round = unary("Round", 22, "round", FLOATS, _same)
Sign = unary("Sign", 13, "sign", NUMERIC, _sign)
Sin = unary("Sin", 22, "sin")
Sinh = unary("Sinh", 22, "sinh")
Sqrt = unary("Sqrt", 13, "sqrt")
Tan = unary("Tan", 22, "tan")

Add = binary("Add", 14, "add", NUMERIC, lambda a, b: a + b)
Sub = binary("Sub", 14, "sub", NUMERIC, lambda a, b: a - b)
Mul = binary("Mul", 14, "mul", NUMERIC, lambda a, b: a * b)
And = binary("And", 7, "logical_and", BOOLS, _and)
Or = binary("Or", 7, "logical_or", BOOLS, _or)
Xor = binary("Xor", 7, "logical_xor", BOOLS, _xor)
BitwiseAnd = binary("BitwiseAnd", 18, "bit_and", INTEGERS)
BitwiseOr = binary("BitwiseOr", 18, "bit_or", INTEGERS)
BitwiseXor = binary("BitwiseXor", 18, "bit_xor", INTEGERS)
Equal = binary("Equal", 19, "eq", ANY, _equal)
Greater = binary("Greater", 13, "gt", NUMERIC, _greater)
GreaterOrEqual = binary("GreaterOrEqual", 16, "ge", NUMERIC, lambda a, b: _not(_less(a, b)))
Less = binary("Less", 13, "lt", NUMERIC, _less)
LessOrEqual = binary("LessOrEqual", 16, "le", NUMERIC, lambda a, b: _not(_greater(a, b)))

Max = variadic("Max", 13, "max", NUMERIC, lambda *a: maximum(*a))
Min = variadic("Min", 13, "min", NUMERIC, lambda *a: minimum(*a))
Sum = variadic("Sum", 13, "add", NUMERIC, lambda *a: sum(a))


@operator("Mean", since=13)
@dataclass(frozen=True, slots=True)
class Mean(Variadic):
    """Mean of the inputs, element by element. Source: ONNX Mean-13."""

    def element(self, *args: Expr) -> Expr:
        """Their sum divided by their number."""
        total = args[0]
        for further in args[1:]:
            total = total + further
        return total / len(args) if len(args) > 1 else total


@operator("Div", since=14)
@dataclass(frozen=True, slots=True)
class Div(Binary):
    """Quotient; integers truncate towards zero. Source: ONNX Div-14."""

    accepts = NUMERIC

    def infer(self, a: TensorType, b: TensorType) -> TensorType:
        """The broadcast shape; a quotient of floats is never a known size."""
        result = self._infer(a, b)
        return result.with_value(None) if a.dtype.is_float else result

    def element(self, *args: Expr) -> Expr:
        """``a / b``."""
        return call("div", *args)

    def of_dims(self, *args: Dim) -> Dim | None:
        """The truncated quotient."""
        return _div(*args)


@operator("Mod", since=28)
@dataclass(frozen=True, slots=True)
class Mod(Binary):
    """Remainder with the divisor's sign, or with ``fmod`` the dividend's. Source: ONNX Mod-28."""

    fmod: int = 0
    accepts = NUMERIC

    def element(self, *args: Expr) -> Expr:
        """``a % b``."""
        return call("fmod" if self.fmod else "mod", *args)

    def of_dims(self, *args: Dim) -> Dim | None:
        """The remainder of sizes, where the two kinds agree."""
        a, b = args
        return _mod(a, b) if not self.fmod or (at_least(a, 0) and at_least(b, 1)) else None


@operator("BitShift", since=28)
@dataclass(frozen=True, slots=True)
class BitShift(Binary):
    """Bits moved to the LEFT or to the RIGHT. Source: ONNX BitShift-28."""

    direction: str
    accepts = INTEGERS

    def element(self, *args: Expr) -> Expr:
        """``a << b`` or ``a >> b``."""
        return call("shift_left" if self.direction == "LEFT" else "shift_right", *args)


@operator("Pow", since=15)
@dataclass(frozen=True, slots=True)
class Pow(Op):
    """``a`` to the power ``b``, in the dtype of ``a``. Source: ONNX Pow-15."""

    def infer(self, a: TensorType, b: TensorType) -> TensorType:
        """The broadcast shape, the base's dtype."""
        require_dtype(a, NUMERIC)
        require_dtype(b, NUMERIC)
        result = TensorType(a.dtype, broadcast_shapes(a.shape, b.shape))
        return elementwise(result, _power, a, b) if b.dtype.is_integer else result

    def lower(self, b: Builder, x: Tensor, y: Tensor) -> Tensor:
        """One loop; small whole exponents are products."""
        out = b.outputs[0]
        return b.loop(out.shape, lambda *i: power(element(x, i), element(y, i)), out.dtype)


def _power(a: Dim, b: Dim) -> Dim | None:
    return product([a] * b) if isinstance(b, int) and 0 <= b <= 8 else None


def power(x: Expr, y: Expr) -> Expr:
    """``x`` to the power ``y``; exponents 1, 2, 3, 1/2 and -1 need no general power."""
    exponent = y.value if isinstance(y, expr.Const) else None
    if exponent == 1:
        return x
    if exponent == 2:
        return x * x
    if exponent == 3:
        return x * x * x
    if exponent == 0.5 and x.dtype.is_float:
        return call("sqrt", x)
    if exponent == -1 and x.dtype.is_float:
        return call("reciprocal", x)
    return call("pow", x, y)


@operator("IsInf", since=20)
@dataclass(frozen=True, slots=True)
class IsInf(Unary):
    """Whether an element is infinite. Source: ONNX IsInf-20."""

    detect_negative: int = 1
    detect_positive: int = 1
    comparison = True

    def element(self, *args: Expr) -> Expr:
        """A test for the signs that are asked for."""
        (x,) = args
        infinite = call("isinf", x, dtype=DType.BOOL)
        if self.detect_negative and self.detect_positive:
            return infinite
        if not self.detect_negative and not self.detect_positive:
            return expr.constant(False, DType.BOOL)
        return call("logical_and", infinite, x < 0 if self.detect_negative else x > 0)


@operator("Where", since=16)
@dataclass(frozen=True, slots=True)
class Where(Op):
    """Elements of ``x`` where the condition holds, else of ``y``. Source: ONNX Where-16."""

    def infer(self, condition: TensorType, x: TensorType, y: TensorType) -> TensorType:
        """The broadcast shape."""
        require_dtype(condition, BOOLS)
        dtype = require_one_dtype((x, y))
        result = TensorType(dtype, broadcast_shapes(condition.shape, x.shape, y.shape))
        return elementwise(result, _where, condition, x, y)

    def lower(self, b: Builder, condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """One loop."""
        out = b.outputs[0]
        return b.loop(
            out.shape,
            lambda *i: expr.select(element(condition, i), element(x, i), element(y, i)),
            out.dtype,
        )


def _where(condition: Dim, x: Dim, y: Dim) -> Dim | None:
    if x == y:
        return x
    return (x if condition else y) if isinstance(condition, int) else None


class Conversion(Op):
    """Base of Cast and CastLike."""

    __slots__ = ()

    def _converted(self, x: TensorType, dtype: DType) -> TensorType:
        def value(dim: Dim) -> Dim | None:
            if dtype is DType.BOOL:
                return int(dim != 0) if isinstance(dim, int) else 1 if at_least(dim, 1) else None
            if dtype.is_float:  # small whole numbers stay exact
                return dim if dtype in (DType.FLOAT, DType.DOUBLE) and not _is_large(dim) else None
            return wraps(dtype, dim)

        return elementwise(TensorType(dtype, x.shape), value, x)

    def lower(self, b: Builder, x: Tensor, *_: Tensor) -> Tensor:
        """One loop."""
        out = b.outputs[0]
        return b.loop(out.shape, lambda *i: element(x, i), out.dtype)


def _is_large(dim: Dim) -> bool:
    return isinstance(dim, int) and abs(dim) > 1 << 24


@operator("Cast", since=28)
@dataclass(frozen=True, slots=True)
class Cast(Conversion):
    """Elements as another type; float to integer truncates and saturates. Source: ONNX Cast-28."""

    moves_data = True

    to: int
    saturate: int = 1
    round_mode: str = "up"

    def infer(self, x: TensorType) -> TensorType:
        """The shape of ``x``."""
        return self._converted(x, as_dtype(self.to))


@operator("CastLike", since=25)
@dataclass(frozen=True, slots=True)
class CastLike(Conversion):
    """Elements as the type of the second input. Source: ONNX CastLike-25."""

    moves_data = True

    saturate: int = 1
    round_mode: str = "up"

    def infer(self, x: TensorType, like: TensorType) -> TensorType:
        """The shape of ``x``."""
        return self._converted(x, like.dtype)


@operator("BitCast", since=26)
@dataclass(frozen=True, slots=True)
class BitCast(Op):
    """The same bits as another type of the same size. Source: ONNX BitCast-26."""

    to: int

    def infer(self, x: TensorType) -> TensorType:
        """The shape of ``x``."""
        dtype = as_dtype(self.to)
        if dtype.size != x.dtype.size:
            raise ShapeError(f"{x.dtype} and {dtype} have different sizes")
        if dtype is DType.BOOL and x.dtype is not DType.BOOL:
            raise Refuse("bits of other types as bool")
        return TensorType(dtype, x.shape)

    def lower(self, b: Builder, x: Tensor) -> Tensor:
        """One kernel that copies the bytes."""
        dtype = b.outputs[0].dtype
        (y,) = b.operation(BitCastOperation, (TensorType(dtype, x.shape),), x=x, dtype=dtype)
        return y


@operator("Identity", since=25)
@dataclass(frozen=True, slots=True)
class Identity(Op):
    """The input itself. Source: ONNX Identity-25."""

    moves_data = True

    def infer(self, x: TensorType) -> TensorType:
        """The type of ``x``."""
        return x

    def lower(self, b: Builder, x: Tensor) -> Tensor:
        """Nothing to do."""
        return x


@operator("Dropout", since=22)
@dataclass(frozen=True, slots=True)
class Dropout(Op):
    """The input itself, and a mask that keeps everything. Source: ONNX Dropout-22."""

    moves_data = True

    seed: int = 0

    def infer(
        self,
        x: TensorType,
        ratio: TensorType | None = None,
        training_mode: TensorType | None = None,
    ) -> tuple[TensorType, TensorType]:
        """The type of ``x``, and its shape as BOOL."""
        if training_mode is not None and training_mode.value != (0,):
            raise Refuse("training_mode must be a constant false")
        return x, TensorType(DType.BOOL, x.shape)

    def lower(self, b: Builder, x: Tensor, *_: Tensor | None) -> tuple[Tensor, Tensor]:
        """Nothing to do for the first output."""
        if len(b.wanted) < 2 or not b.wanted[1]:
            return x, x
        return x, b.loop(x.shape, lambda *_: expr.constant(True, DType.BOOL), DType.BOOL)
