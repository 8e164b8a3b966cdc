"""Which nodes of a model need NaN or infinity, and so cannot be compiled with ``-ffinite-math-only``.

With that flag (part of ``-ffast-math`` and ``-Ofast``) a compiler assumes that no float is NaN or infinite.
The kernels of sofie_root do not mind. A model that asks for NaN or infinity, or computes with constants that
are, would be silently wrong; its header refuses such a compilation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

import numpy as np
import numpy.typing as npt

from sofie_root.ir.dtype import DType
from sofie_root.program import expr as ex
from sofie_root.program.expr import Call, Const, Expr
from sofie_root.program.operation import Operation
from sofie_root.program.program import Program
from sofie_root.program.statement import Bind, Check, Loop, Statement
from sofie_root.program.uses import reads

TESTS = {"isnan": "tests for NaN", "isinf": "tests for infinity"}


def needs_infinity(program: Program) -> dict[tuple[str, ...], str]:
    """What needs NaN or infinity, and why: by the names of the nodes that a statement stands for."""
    reasons: dict[tuple[str, ...], str] = {}
    for statement in program.statements:
        if not isinstance(statement, Check):
            for reason in _reasons(statement, program):
                reasons.setdefault(statement.origin, reason)
    return reasons


def name_nodes(
    before: dict[tuple[str, ...], str], after: dict[tuple[str, ...], str]
) -> dict[str, str]:
    """What needs NaN or infinity after scheduling, by the names of single nodes where they are known.

    Args:
        before: of the program as it was lowered, in which a statement stands for one node.
        after: of the scheduled one, in which statements are fused and some need infinity no more.
    """
    left = {name for origin in after for name in origin}
    single = {
        ", ".join(origin): reason for origin, reason in before.items() if left.issuperset(origin)
    }
    return single or {", ".join(origin): reason for origin, reason in after.items()}


def _reasons(statement: Statement, program: Program) -> Iterator[str]:
    for whole in _expressions(statement):
        for e in ex.walk(whole):
            if isinstance(e, Call) and e.function in TESTS:
                yield TESTS[e.function]
            if isinstance(e, Const) and not _is_finite(np.array(e.value), e.dtype):
                yield f"has the constant {e.value}"
    if isinstance(statement, Operation):
        if statement.needs_infinity:
            yield statement.needs_infinity
        for value in _numbers(statement):
            if not np.isfinite(value):
                yield f"has the constant {value}"
    for name in sorted(reads(statement)):
        array = program.constants.get(name)
        if array is not None and not _is_finite(array, program.buffers[name].dtype):
            yield "has constants that are NaN or infinite"


def _expressions(statement: Statement) -> Iterator[Expr]:
    if isinstance(statement, Loop):
        yield statement.body
    elif isinstance(statement, Bind):
        yield statement.value
    elif isinstance(statement, Operation) and statement.epilogue is not None:
        yield statement.epilogue.body


def _numbers(operation: Operation) -> Iterator[float]:
    """The floats among the attributes of an operation."""

    def floats(value: object) -> Iterator[float]:
        if isinstance(value, float):
            yield value
        for part in value if isinstance(value, tuple) else getattr(value, "args", ()):
            yield from floats(part)

    for f in fields(operation):
        yield from floats(getattr(operation, f.name))


def _is_finite(array: npt.NDArray[np.generic], dtype: DType) -> bool:
    """Whether all elements are finite as the C++ type that computes with them."""
    if not dtype.is_float:
        return True
    with np.errstate(over="ignore"):
        return bool(np.isfinite(array.astype(dtype.compute.numpy)).all())
