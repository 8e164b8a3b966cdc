"""Replaces arithmetic by cheaper arithmetic that gives the same result, or one that is as well rounded.

Divisions cost most: a vector of them takes as long as ten products. A division by a power of two becomes a
product. A normalisation that is written out in operators divides each row by its standard deviation; the
reciprocal of that is computed once per row instead. The argument of erf may be rounded once more than in the
model. Gelu uses ``1 + erf(x)``, which needs only a small absolute error and becomes one function.

All other quotients stay as they are, because the functions that read them may be discontinuous (floor,
round, a comparison).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from sofie_root.ir.dim import Atom, Dim, product
from sofie_root.ir.dtype import DType
from sofie_root.program import expr as ex
from sofie_root.program.expr import Call, Const, Expr, Load
from sofie_root.program.operation import Operation
from sofie_root.program.program import Program
from sofie_root.program.scalar import FUNCTIONS
from sofie_root.program.statement import Loop, Statement

from .inline import Decisions, cost

SMALL = 4
"""A reduction over so few elements is written out: it then is pointwise, fuses, and needs no lanes."""
SMALL_COST = 40
"""Largest cost of a reduction that is written out."""
LEAST = 1e-20
"""A square root of more than this has a reciprocal that is an ordinary number."""


def unroll_reductions(program: Program, decisions: Decisions) -> None:
    """Writes reductions over very few elements out as expressions.

    Needs: any program. Leaves: no reduction over fewer elements than are worth a loop.
    """
    combine = {"sum": "add", "prod": "mul", "max": "max", "min": "min"}
    for k, loop in enumerate(program.statements):
        if not isinstance(loop, Loop) or loop.reduction is None:
            continue
        function = combine.get(loop.reduction.kind)
        count = product(v.extent or 0 for v in loop.reduction.vars)
        if function is None or not isinstance(count, int) or not 1 <= count <= SMALL:
            continue
        if loop.body.dtype is not DType.FLOAT or count * cost(loop.body) > SMALL_COST:
            continue
        if program.buffers[loop.output].dtype is not DType.FLOAT:
            continue
        points: list[dict[Atom, Dim]] = [{}]
        for v in loop.reduction.vars:
            assert isinstance(v.extent, int)
            points = [{**point, v: i} for point in points for i in range(v.extent)]
        terms = [ex.substitute_dims(loop.body, point) for point in points]
        total = terms[0]
        for term in terms[1:]:
            total = ex.call(function, total, term)
        program.statements[k] = replace(loop, body=total, reduction=None)


def simplify_arithmetic(program: Program, decisions: Decisions) -> None:
    """Rewrites the expressions of all loops and epilogues; see the module's text.

    Needs: expressions that no later stage joins, since a rule looks at one expression at a time.
    Leaves: the same statements with cheaper expressions.
    """
    for k, statement in enumerate(program.statements):
        program.statements[k] = _map_body(statement, partial(_rewritten, rule=_simpler))
    _divide_once(program)


def reciprocal(divisor: Const) -> Const | None:
    """The constant to multiply with instead of dividing; None where it is no ordinary number."""
    number = float(divisor.value)
    if divisor.dtype is not DType.FLOAT or not 1e-30 < abs(number) < 1e30:
        return None
    return ex.constant(float(np.float32(1 / number)), divisor.dtype)


def _map_body(statement: Statement, change: Callable[[Expr], Expr]) -> Statement:
    if isinstance(statement, Loop):
        return replace(statement, body=change(statement.body))
    if isinstance(statement, Operation) and statement.epilogue is not None:
        body = change(statement.epilogue.body)
        return statement.with_epilogue(replace(statement.epilogue, body=body))
    return statement


def _rewritten(e: Expr, rule: Callable[[Call], Expr]) -> Expr:
    """The expression with a rule applied to each call, the inner ones first."""
    if not isinstance(e, Call):
        return e
    return rule(replace(e, args=tuple(_rewritten(a, rule) for a in e.args)))


def _constant_result(e: Call) -> Expr | None:
    """What a comparison of integers gives for all values, or a choice by such a condition; else None."""
    if e.function == "select" and isinstance(e.args[0], Const):
        return e.args[1 if e.args[0].value else 2]
    a, b = e.args if len(e.args) == 2 else (None, None)
    of_equals = FUNCTIONS[e.function].of_equals
    if of_equals is not None and a == b and isinstance(a, Expr) and not a.dtype.is_float:
        return ex.constant(of_equals, DType.BOOL)
    if e.function in ("gt", "le"):
        a, b = b, a
    if (
        e.function in ("lt", "ge", "gt", "le")
        and isinstance(a, Expr)
        and a.dtype.is_integer
        and not a.dtype.is_signed
        and isinstance(b, Const)
        and b.value == 0
    ):
        return ex.constant(e.function in ("ge", "le"), DType.BOOL)
    return None


def _simpler(e: Call) -> Expr:
    result = _constant_result(e)
    if result is not None:
        return result
    unchanging = FUNCTIONS[e.function].unchanging
    if unchanging is not None and e.dtype.is_float:
        # Exporters write an infinite limit where a Clip has only the other one.
        for a, b in (e.args, e.args[::-1]):
            if isinstance(b, Const) and float(b.value) == unchanging:
                return a
    if e.function == "div" and e.dtype is DType.FLOAT:
        a, b = e.args
        if isinstance(b, Const) and b.value and abs(math.frexp(float(b.value))[0]) == 0.5:
            factor = reciprocal(b)
            return e if factor is None else ex.call("mul", a, factor)
    if e.dtype is not DType.FLOAT:
        return e
    if e.function == "erf":
        return replace(e, args=(_product(e.args[0]),))
    if e.function == "add":
        for a, b in (e.args, e.args[::-1]):
            if (
                isinstance(a, Const)
                and a.value == 1
                and isinstance(b, Call)
                and b.function == "erf"
            ):
                return ex.call("one_plus_erf", *b.args)
    return e


def _product(e: Expr) -> Expr:
    """A quotient by a constant as a product."""
    if isinstance(e, Call) and e.function == "div" and isinstance(e.args[1], Const):
        factor = reciprocal(e.args[1])
        if factor is not None:
            return ex.call("mul", e.args[0], factor)
    return e


def _divide_once(program: Program) -> None:
    """Lets loops that store ``sqrt(x + c)`` store its reciprocal where all readers only divide by it."""
    for k, loop in enumerate(program.statements):
        if not isinstance(loop, Loop) or loop.reduction is not None or not _is_root(loop.body):
            continue
        name = loop.output
        if name in program.outputs.values() or loop.body.dtype is not DType.FLOAT:
            continue
        readers = program.readers(name)
        if program.writer(name) is None or not all(_only_divides(s, name) for s in readers):
            continue
        program.statements[k] = replace(loop, body=ex.call("div", 1.0, loop.body))

        change = partial(_rewritten, rule=partial(_times, name))
        for reader in readers:
            program.replace(reader, _map_body(reader, change))


def _times(name: str, e: Call) -> Expr:
    """A quotient by an element of the buffer as a product."""
    by = e.args[1] if e.function == "div" else None
    return replace(e, function="mul") if isinstance(by, Load) and by.buffer == name else e


def _is_root(e: Expr) -> bool:
    """Whether this is the square root of a sum with a constant that keeps it away from zero."""
    if not isinstance(e, Call) or e.function != "sqrt" or not isinstance(e.args[0], Call):
        return False
    inner = e.args[0]
    return inner.function == "add" and any(
        isinstance(a, Const) and float(a.value) >= LEAST for a in inner.args
    )


def _only_divides(statement: Statement, name: str) -> bool:
    """Whether every read of the buffer is the right side of a division."""
    if not isinstance(statement, Loop | Operation):
        return False
    if isinstance(statement, Operation):
        if statement.epilogue is None or any(o.buffer == name for o in statement.inputs):
            return False
        body = statement.epilogue.body
    else:
        body = statement.body
    divisors = 0
    for e in ex.walk(body):
        if isinstance(e, Call) and e.function == "div" and isinstance(e.args[1], Load):
            divisors += e.args[1].buffer == name
    return divisors == sum(load.buffer == name for load in ex.loads(body)) > 0
