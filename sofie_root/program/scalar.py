"""The functions of scalar expressions: one row per function, and everything that follows from it.

``Call.function`` (see :mod:`sofie_root.program.expr`) names a row. The type rules of expressions, the NumPy
interpreter, the cost model of the scheduler, the choice between vectors and scalars and the printers all
read their part of it here. What a function is called in C++ is for each target to say; those that a target
does not spell otherwise have the name of the row in namespace ``sofie`` (``math.hxx``, ``simd.hxx``).
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sofie_root.ir.dtype import DType

from . import functions as of
from .functions import Array

Result = Literal["first", "last", "bool", "given"]

ANY = frozenset(d for d in DType if d.compute is d)
FLOATS = frozenset({DType.FLOAT, DType.DOUBLE})
BOOLS = frozenset({DType.BOOL})
NUMBERS = ANY - BOOLS
INTEGERS = NUMBERS - FLOATS

LANE_INTEGERS = frozenset({DType.INT8, DType.UINT8, DType.INT16, DType.UINT16, DType.INT32})
"""Integers that fit a 32-bit lane."""
FLOAT_LANES = frozenset({DType.FLOAT, DType.BOOL})
"""Vectors of floats, and masks."""
NUMBER_LANES = FLOAT_LANES | LANE_INTEGERS


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """The facts about a scalar function that do not depend on a target.

    Attributes:
        arguments: how many it takes.
        accepts: dtypes of its first argument; 16-bit floats count as the float they are computed in.
        result: dtype of the result: that of the first or of the last argument, BOOL, or one that is given.
        numpy: its meaning for NumPy arrays. The interpreter itself knows what ``cast`` and ``guard`` (None)
            do: they depend on more than the values of their arguments.
        cost: instructions that it takes, roughly; reading an element costs one.
        work: operations per element that NumPy needs, for the budget of :mod:`sofie_root.budget`.
        vectors: dtypes of vectors that it takes and gives; none where it is computed element by element.
        symbol: how Python and C++ write it, between two arguments or before one.
        of_equals: its value where both arguments are one and the same integer, if that is always the same.
        unchanging: the second argument that leaves the first one as it is, where simplification uses that.
    """

    arguments: int
    accepts: frozenset[DType]
    numpy: Callable[..., Array] | None
    result: Result = "first"
    cost: int = 10
    work: int = 4
    vectors: frozenset[DType] = FLOAT_LANES
    symbol: str | None = None
    of_equals: bool | None = None
    unchanging: float | None = None

    def result_dtype(self, dtypes: Sequence[DType]) -> DType:
        """The result's dtype for arguments of these dtypes, unless the caller gives one (``cast``)."""
        return DType.BOOL if self.result == "bool" else dtypes[-1 if self.result == "last" else 0]


def _function(
    numpy: Callable[..., Array],
    accepts: frozenset[DType] = FLOATS,
    *,
    cost: int = 10,
    work: int = 4,
) -> Function:
    """A function of one argument."""
    return Function(arguments=1, accepts=accepts, numpy=numpy, cost=cost, work=work)


def _arithmetic(
    arguments: int, numpy: Callable[..., Array], symbol: str, *, cost: int = 1, integer_lanes: bool
) -> Function:
    """One of the four operations, or the negative; integers wrap around."""
    vectors = NUMBER_LANES if integer_lanes else FLOAT_LANES
    return Function(
        arguments=arguments, accepts=NUMBERS, numpy=numpy, cost=cost, vectors=vectors, symbol=symbol
    )


def _comparison(
    numpy: Callable[..., Array], symbol: str, accepts: frozenset[DType], *, of_equals: bool
) -> Function:
    return Function(
        arguments=2,
        accepts=accepts,
        numpy=numpy,
        result="bool",
        cost=1,
        symbol=symbol,
        of_equals=of_equals,
    )


def _logical(arguments: int, numpy: Callable[..., Array]) -> Function:
    return Function(arguments=arguments, accepts=BOOLS, numpy=numpy, cost=1)


def _bits(arguments: int, numpy: Callable[..., Array], *, cost: int = 1) -> Function:
    return Function(
        arguments=arguments, accepts=INTEGERS, numpy=numpy, cost=cost, vectors=frozenset()
    )


def _test(numpy: Callable[..., Array]) -> Function:
    return Function(arguments=1, accepts=FLOATS, numpy=numpy, result="bool")


def _extreme(numpy: Callable[..., Array], unchanging: float) -> Function:
    return Function(arguments=2, accepts=NUMBERS, numpy=numpy, cost=1, unchanging=unchanging)


FUNCTIONS: dict[str, Function] = {
    # Arithmetic
    "add": _arithmetic(2, np.add, "+", integer_lanes=True),
    "sub": _arithmetic(2, np.subtract, "-", integer_lanes=True),
    "mul": _arithmetic(2, np.multiply, "*", integer_lanes=True),
    "div": _arithmetic(2, of.divide, "/", cost=10, integer_lanes=False),
    "neg": _arithmetic(1, np.negative, "-", integer_lanes=False),
    "abs": _function(np.absolute, NUMBERS, cost=1),
    "sign": _function(np.sign, NUMBERS, cost=1),
    "relu": _function(of.relu, NUMBERS, cost=1),
    "min": _extreme(np.minimum, float("inf")),
    "max": _extreme(np.maximum, float("-inf")),
    "mod": Function(arguments=2, accepts=NUMBERS, numpy=of.modulo),
    "fmod": Function(arguments=2, accepts=NUMBERS, numpy=of.remainder),
    "pow": Function(arguments=2, accepts=NUMBERS, numpy=of.power, work=25),
    "reciprocal": _function(of.reciprocal),
    "sqrt": _function(np.sqrt),
    "rsqrt": _function(of.rsqrt),
    # Rounding
    "ceil": _function(of.rounding(np.ceil), NUMBERS, cost=1),
    "floor": _function(of.rounding(np.floor), NUMBERS, cost=1),
    "round": _function(of.rounding(np.rint), NUMBERS, cost=1),
    "trunc": _function(np.trunc, cost=1),
    # Exponentials, logarithms, the error function
    "exp": _function(np.exp),
    "exp2": _function(np.exp2),
    "expm1": _function(np.expm1),
    "log": _function(np.log),
    "log1p": _function(np.log1p),
    "tanh": _function(np.tanh),
    "sigmoid": _function(of.sigmoid),
    "softplus": _function(of.softplus),
    "softsign": _function(of.softsign),
    "erf": _function(of.erf, work=100),
    "one_plus_erf": _function(of.one_plus_erf, work=100),
    "normal_cdf": _function(of.normal_cdf, work=100),
    # Trigonometric and hyperbolic functions
    "sin": _function(np.sin),
    "cos": _function(np.cos),
    "tan": _function(np.tan),
    "asin": _function(np.arcsin),
    "acos": _function(np.arccos),
    "atan": _function(np.arctan),
    "sinh": _function(np.sinh),
    "cosh": _function(np.cosh),
    "asinh": _function(np.arcsinh),
    "acosh": _function(np.arccosh),
    "atanh": _function(np.arctanh),
    # Tests and comparisons
    "isnan": _test(np.isnan),
    "isinf": _test(np.isinf),
    "lt": _comparison(np.less, "<", NUMBERS, of_equals=False),
    "le": _comparison(np.less_equal, "<=", NUMBERS, of_equals=True),
    "gt": _comparison(np.greater, ">", NUMBERS, of_equals=False),
    "ge": _comparison(np.greater_equal, ">=", NUMBERS, of_equals=True),
    "eq": _comparison(np.equal, "==", ANY, of_equals=True),
    "ne": _comparison(np.not_equal, "!=", ANY, of_equals=False),
    # Logic and bits
    "logical_and": _logical(2, np.logical_and),
    "logical_or": _logical(2, np.logical_or),
    "logical_xor": _logical(2, np.logical_xor),
    "logical_not": _logical(1, np.logical_not),
    "bit_and": _bits(2, np.bitwise_and),
    "bit_or": _bits(2, np.bitwise_or),
    "bit_xor": _bits(2, np.bitwise_xor),
    "bit_not": _bits(1, np.invert),
    "shift_left": _bits(2, np.left_shift, cost=10),
    "shift_right": _bits(2, np.right_shift, cost=10),
    # Conversion and choice
    "cast": Function(
        arguments=1, accepts=ANY, numpy=None, result="given", cost=1, vectors=NUMBER_LANES
    ),
    "select": Function(arguments=3, accepts=BOOLS, numpy=np.where, result="last", cost=1),
    "guard": Function(
        arguments=3, accepts=BOOLS, numpy=None, result="last", cost=1, vectors=frozenset()
    ),
}
"""All functions by name. ``guard`` evaluates its second argument only where the first one holds."""


def mismatch(function: str, dtypes: Sequence[DType]) -> str | None:
    """Why the function cannot be called with arguments of these dtypes; None where it can."""
    row = FUNCTIONS.get(function)
    if row is None:
        close = difflib.get_close_matches(function, FUNCTIONS)
        hint = f"; is {close[0]!r} meant?" if close else ""
        return f"expressions have no function {function!r}{hint}"
    if len(dtypes) != row.arguments:
        return f"{function!r} takes {row.arguments} arguments, not {len(dtypes)}"
    if dtypes[0].compute not in row.accepts:
        return f"{function!r} takes no {dtypes[0]}; cast the argument first"
    return None
