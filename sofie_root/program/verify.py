"""Whether a Program is well formed: what every stage of scheduling may rely on and must leave behind.

The rules are those that :mod:`~sofie_root.program.program` states for each statement. Nothing is computed
here; that a stage keeps what a program *means* is tested by running it (``program/interpret.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from sofie_root.errors import SofieError
from sofie_root.ir.dim import Atom, Dim, Symbol, product, walk
from sofie_root.ir.dtype import DType

from .expr import Acc, Call, Expr, Index, Load, ResultSize
from .operation import Epilogue, Operand, Operation
from .program import Program
from .scalar import mismatch
from .statement import Bind, Branch, Check, Fetch, Loop, Repeat, Statement
from .uses import all_vars, reads, writes


class ProgramError(SofieError):
    """A Program breaks the rules: a fault of sofie_root, never of the model that it was made from."""


def verify(program: Program, outer: Iterable[Symbol] = ()) -> None:
    """Checks the rules.

    Args:
        program: a lowered program, before or after any stage of scheduling.
        outer: size symbols that are bound outside (bodies of branches and repetitions).

    Raises:
        ProgramError: names every rule that is broken, and the statement.
    """
    problems = list(_problems(program, set(outer)))
    if problems:
        raise ProgramError(
            f"the program of {program.name} is not well formed: " + "; ".join(problems[:20])
        )


def _problems(program: Program, outer: set[Symbol]) -> Iterator[str]:
    for name, array in program.constants.items():
        buffer = program.buffers.get(name)
        if buffer is None or array.shape != buffer.shape or array.dtype != buffer.dtype.numpy:
            yield f"constant {name} is {array.dtype}{list(array.shape)}, its buffer {buffer}"
    for name in program.inputs:
        if name not in program.buffers or program.buffers[name].kind != "input":
            yield f"input {name} has no input buffer"
    yield from _order(program)
    bound: set[Atom] = {
        a for n in program.inputs for d in program.buffers[n].shape for a in walk(d)
    }
    bound |= outer
    for k, statement in enumerate(program.statements):
        for problem in _statement(program, statement, bound):
            yield f"statement {k}, {str(statement)[:160]}: {problem}"
        if isinstance(statement, Bind):
            bound.add(statement.symbol)


def _order(program: Program) -> Iterator[str]:
    """Every buffer is written before it is read, and what scatters comes after all that fills."""
    first_read: dict[str, int] = {}
    last_write: dict[str, int] = {}
    scattered: dict[str, int] = {}
    known = {*program.inputs, *program.constants}
    for k, statement in enumerate(program.statements):
        own = writes(statement)
        for name in reads(statement) - own:
            first_read.setdefault(name, k)
        for name in own:
            if name in known:
                yield f"statement {k} writes {name}, which is an input or a constant"
            scatters = isinstance(statement, Loop) and statement.scatters
            if name in scattered and not scatters:
                yield f"statement {k} fills {name} after statement {scattered[name]} scattered into it"
            if scatters:
                scattered[name] = k
                if name not in last_write and 0 not in program.buffers[name].shape:
                    yield f"statement {k} scatters into {name}, which nothing has filled"
            elif name in last_write and not isinstance(statement, Loop):
                yield f"statement {k} writes {name} again"
            last_write[name] = k
    for name, k in first_read.items():
        if name in known:
            continue
        if name not in last_write:
            if name not in program.buffers or 0 not in program.buffers[name].shape:
                yield f"statement {k} reads {name}, which nothing writes"
        elif last_write[name] > k:
            yield f"statement {k} reads {name} before statement {last_write[name]} writes it"
    for public, name in program.outputs.items():
        if name not in program.buffers:
            yield f"output {public} has no buffer {name}"
        elif name not in known | set(last_write) and 0 not in program.buffers[name].shape:
            yield f"output {public} is {name}, which nothing writes"


def _statement(program: Program, statement: Statement, bound: set[Atom]) -> Iterator[str]:
    controls = {s.name for s in program.statements if isinstance(s, Branch | Repeat)}
    for name in reads(statement) | writes(statement):
        if name not in program.buffers and name not in controls:
            yield f"there is no buffer {name}"
            return
    if isinstance(statement, Loop):
        yield from _loop(program, statement, bound)
    elif isinstance(statement, Operation):
        yield from _operation(program, statement, bound)
    elif isinstance(statement, Bind):
        if statement.symbol in bound:
            yield f"size {statement.symbol} is bound again"
        yield from _expression(program, statement.value, (), bound, in_epilogue=False)
    elif isinstance(statement, Check):
        yield from _unbound((statement.a, statement.b), bound)
    elif isinstance(statement, Branch | Repeat):
        for operand in statement.inputs:
            yield from _operand(program, operand, "contiguous", bound)
    else:
        assert isinstance(statement, Fetch)
        yield from _unbound(program.buffers[statement.output].shape, bound)


def _loop(program: Program, loop: Loop, bound: set[Atom]) -> Iterator[str]:
    buffer = program.buffers[loop.output]
    variables = all_vars(loop)
    if len(set(variables)) < len(variables):
        yield f"an index stands twice among {', '.join(map(str, variables))}"
    if len(loop.index) != len(buffer.shape):
        yield f"{len(loop.index)} indices for {buffer}"
        return
    yield from _unbound((*buffer.shape, *(v.extent or 0 for v in variables)), bound)
    if any(v.extent == 0 for v in variables):
        return  # it never runs
    own = bound | set(loop.vars)
    yield from _unbound(loop.index, own)
    yield from _inside(loop.index, buffer.shape, f"writes {buffer}")
    kind = loop.reduction.kind if loop.reduction else ""
    if kind.startswith("arg"):
        if buffer.dtype is not DType.INT64:
            yield f"positions of {kind} are kept as {buffer.dtype}"
    elif loop.body.dtype.compute is not buffer.dtype.compute:
        yield f"a value of {loop.body.dtype} is stored as {buffer.dtype}"
    if loop.update is not None and loop.reduction is not None:
        yield "it reduces and updates"
    for v in loop.vars:
        targeted = any(v in set(walk(d)) for d in loop.index)
        if not targeted and v.extent != 1 and not loop.scatters:
            yield f"index {v} is not in the target, so elements are written again and again"
    yield from _expression(program, loop.body, variables, bound, in_epilogue=False)


def _operation(program: Program, operation: Operation, bound: set[Atom]) -> Iterator[str]:
    form = program.forms.form(operation)
    for name, operand in operation.operands.items():
        yield from _operand(program, operand, form.layout(name), bound)
    yield from _unbound(operation.sizes, bound)
    for name in writes(operation):
        yield from _unbound(program.buffers[name].shape, bound)
    if operation.epilogue is not None:
        yield from _epilogue(program, operation, operation.epilogue, bound)


def _epilogue(
    program: Program, operation: Operation, epilogue: Epilogue, bound: set[Atom]
) -> Iterator[str]:
    groups = program.forms.form(operation).epilogue_axes
    if groups is None:
        yield "nothing can be fused into it"
    elif sorted(a for group in groups for a in group) != list(range(len(epilogue.vars))):
        yield f"the axes {groups} of the epilogue are not those of {len(epilogue.vars)} indices"
    result = operation.outputs[0]
    if operation.SLOT == "fused" and result is not None:
        numel = product(v.extent or 0 for v in epilogue.vars)
        if numel != program.buffers[result].numel:
            yield f"the epilogue goes over {numel} elements of {program.buffers[result]}"
        if epilogue.body.dtype.compute is not program.buffers[result].dtype.compute:
            yield f"a value of {epilogue.body.dtype} is stored as {program.buffers[result]}"
    yield from _expression(program, epilogue.body, epilogue.vars, bound, in_epilogue=True)


def _operand(program: Program, operand: Operand, layout: str, bound: set[Atom]) -> Iterator[str]:
    dims = (operand.offset, *operand.shape, *operand.strides)
    yield from _unbound(dims, bound)
    if len(operand.strides) != len(operand.shape):
        yield f"operand {operand.buffer} has {len(operand.strides)} strides for its shape"
        return
    if not operand.fits(layout):
        yield f"operand {operand.buffer} is not {layout}: strides {operand.strides}"
    reach = _reach_of(operand)
    numel = program.buffers[operand.buffer].numel
    if reach is None or not isinstance(numel, int):
        return
    if reach[0] < 0 or reach[1] >= numel:
        yield f"operand {operand.buffer} reaches {reach[0]}..{reach[1]} of {numel} elements"


def _reach_of(operand: Operand) -> tuple[int, int] | None:
    """First and last element that an operand of fixed shape and strides reads; None for others."""
    if not isinstance(operand.offset, int):
        return None
    low = high = operand.offset
    for extent, stride in zip(operand.shape, operand.strides, strict=True):
        if not isinstance(extent, int) or not isinstance(stride, int) or extent == 0:
            return None
        end = (extent - 1) * stride
        low, high = low + min(end, 0), high + max(end, 0)
    return low, high


def _expression(
    program: Program,
    expr: Expr,
    variables: Sequence[Symbol],
    bound: set[Atom],
    *,
    in_epilogue: bool,
) -> Iterator[str]:
    own = bound | set(variables)

    def visit(e: Expr, guarded: bool) -> Iterator[str]:
        if isinstance(e, Acc) and not in_epilogue:
            yield "it uses the result of a kernel outside an epilogue"
        if isinstance(e, Load):
            yield from _load(program, e, guarded, own)
        elif isinstance(e, Index):
            yield from _unbound((e.dim,), own)
        elif isinstance(e, ResultSize):
            return
        elif isinstance(e, Call):
            problem = mismatch(e.function, [a.dtype for a in e.args])
            if problem is not None:
                yield problem
            for k, argument in enumerate(e.args):
                yield from visit(argument, guarded or (e.function == "guard" and k == 1))

    yield from visit(expr, False)


def _load(program: Program, load: Load, guarded: bool, bound: set[Atom]) -> Iterator[str]:
    buffer = program.buffers[load.buffer]
    yield from _unbound(load.index, bound)
    if load.dtype is not buffer.dtype and load.dtype is not buffer.dtype.compute:
        yield f"{load} is read as {load.dtype}, {buffer.name} holds {buffer.dtype}"
    if len(load.index) == len(buffer.shape):
        shape: tuple[Dim, ...] = buffer.shape
    elif len(load.index) == 1:
        shape = (buffer.numel,)
    else:
        yield f"{load} has {len(load.index)} indices for {buffer}"
        return
    if not guarded:
        yield from _inside(load.index, shape, f"reads {load}")


def _inside(index: Sequence[Dim], shape: Sequence[Dim], what: str) -> Iterator[str]:
    """Indices that are known to leave the shape: those that are linear in loop indices of fixed extents."""
    for axis, (d, extent) in enumerate(zip(index, shape, strict=True)):
        reach = _reach(d)
        if reach is None or not isinstance(extent, int) or reach[0] > reach[1]:
            continue
        if reach[0] < 0 or reach[1] >= extent:
            yield f"it {what}, but {d} goes from {reach[0]} to {reach[1]} along axis {axis} of {extent}"


def _reach(d: Dim) -> tuple[int, int] | None:
    """Smallest and largest value of a linear expression of indices with fixed extents; None for others."""
    if isinstance(d, int):
        return d, d
    low = high = 0
    for monomial, coefficient in d.terms:
        if not monomial:
            low, high = low + coefficient, high + coefficient
            continue
        ((atom, power), *rest) = monomial
        if rest or power != 1 or not isinstance(atom, Symbol) or not isinstance(atom.extent, int):
            return None
        if atom.extent == 0:
            return 1, 0  # the loop does not run
        end = coefficient * (atom.extent - 1)
        low, high = low + min(end, 0), high + max(end, 0)
    return low, high


def _unbound(dims: Iterable[Dim], bound: set[Atom]) -> Iterator[str]:
    """Symbols that have no value where these expressions are used."""
    for d in dims:
        for atom in walk(d):
            if isinstance(atom, Symbol) and atom not in bound:
                yield f"{'index' if atom.is_index else 'size'} {atom} has no value in {d}"
