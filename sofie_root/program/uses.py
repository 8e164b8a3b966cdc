"""What a statement reads and writes."""

from __future__ import annotations

from collections.abc import Set

from sofie_root.ir.dim import Dim, Symbol, walk

from . import expr as ex
from .expr import Cell, ResultSize
from .operation import Operation
from .statement import Bind, Branch, Fetch, Loop, Repeat, Statement


def reads(statement: Statement) -> Set[str]:
    """Names of the buffers, branches and repetitions whose results a statement reads."""
    if isinstance(statement, Loop | Operation):
        if (
            statement.cached_reads is None
        ):  # a statement never changes: what it reads is found out once
            object.__setattr__(statement, "cached_reads", frozenset(_reads(statement)))
        assert statement.cached_reads is not None
        return statement.cached_reads
    return _reads(statement)


def _reads(statement: Statement) -> set[str]:
    if isinstance(statement, Loop):
        found = {load.buffer for load in ex.loads(statement.body)}
        if statement.scatters:
            found.add(statement.output)
        extents = (v.extent or 0 for v in all_vars(statement))
        return found | dim_reads((*statement.index, *extents))
    if isinstance(statement, Operation):
        found = {operand.buffer for operand in statement.inputs}
        epilogue = statement.epilogue
        if epilogue is not None:
            found |= {load.buffer for load in ex.loads(epilogue.body)}
        return found
    if isinstance(statement, Bind):
        sizes = {e.control for e in ex.walk(statement.value) if isinstance(e, ResultSize)}
        return sizes | {load.buffer for load in ex.loads(statement.value)}
    if isinstance(statement, Branch | Repeat):
        return {operand.buffer for operand in statement.inputs}
    return {statement.control} if isinstance(statement, Fetch) else set()


def reads_elements(statement: Statement) -> Set[str]:
    """Buffers that a statement other than a loop reads at indices, as opposed to whole operands."""
    if isinstance(statement, Operation):
        epilogue = statement.epilogue
        return set() if epilogue is None else {load.buffer for load in ex.loads(epilogue.body)}
    return reads(statement) if isinstance(statement, Bind) else set()


def writes(statement: Statement) -> set[str]:
    """Names of the buffers that a statement writes; of a branch or repetition its own name."""
    if isinstance(statement, Loop):
        return {statement.output}
    if isinstance(statement, Operation):
        return {o for o in statement.outputs if o is not None}
    if isinstance(statement, Branch | Repeat):
        return {statement.name}
    return {statement.output} if isinstance(statement, Fetch) else set()


def all_vars(loop: Loop) -> tuple[Symbol, ...]:
    """The indices of a loop, those that it reduces over included."""
    return loop.vars + (loop.reduction.vars if loop.reduction else ())


def dim_reads(dims: tuple[Dim, ...]) -> set[str]:
    """Buffers that are read inside index expressions."""
    return {
        load.buffer
        for d in dims
        for atom in walk(d)
        if isinstance(atom, Cell)
        for load in ex.loads(atom.expr)
    }
