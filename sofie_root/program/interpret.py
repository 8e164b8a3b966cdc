"""Runs a Program with NumPy: what every statement means, without generating code.

Constant folding uses it, and tests hold it against ONNX Runtime and against the generated C++. An
expression is evaluated on the whole grid of a loop at once (see :mod:`.grid`).

With ``double`` every float tensor is computed in double, whatever its type: what the model means but
for rounding, to judge by how much others are off. Sizes and indices that come from floats keep the
precision of their type, because there a last bit decides between two results that are both right, and
what is too large for a tensor's type is infinite, as it would be there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod

import numpy as np

from sofie_root.budget import NODE, STATEMENT, stage
from sofie_root.errors import BudgetError, InputError
from sofie_root.ir import Graph
from sofie_root.ir.dim import Atom, Dim, Symbol, single_atom

from .functions import UPDATES, combine
from .grid import CALL, Array, Grid, Memory
from .interpret_control import RunBody, run_branch, run_repeat
from .lower import lower
from .operation import Operand, Operation, arrays_of
from .program import MOST_ELEMENTS, Program
from .statement import Bind, Branch, Check, Fetch, Loop, Statement

GRID_LIMIT = 4_000_000
"""Loops over more points than this are evaluated in parts, to bound memory."""

SCATTER = 50
"""Operations per element of a write to places that are read at run time."""


def evaluate(
    graph: Graph, inputs: Mapping[str, Array], *, double: bool = False
) -> dict[str, Array]:
    """Lowers a graph and runs it: ``interpret(lower(graph), inputs)``."""
    return interpret(lower(graph), inputs, double=double)


def interpret(
    program: Program,
    inputs: Mapping[str, Array],
    sizes: Mapping[Atom, int] | None = None,
    *,
    double: bool = False,
) -> dict[str, Array]:
    """Runs an unscheduled Program.

    Args:
        program: as :func:`~sofie_root.program.lower.lower` makes it.
        inputs: array of every input, by name.
        sizes: of symbols that the shapes of the inputs do not tell (bodies of control flow).
        double: computes all float tensors in double; inputs may have their own type or float64.

    Returns:
        The outputs by public name, with ``double`` those of floats as float64. Arrays may share memory
        with the inputs and with each other.

    Raises:
        InputError: an input is missing, has a wrong dtype, rank or dimension, or sizes that the
            model needs to be equal are not.
        IndexError: an index read from a tensor is out of range.
        BudgetError: the run takes more work or memory than its budget (see :mod:`sofie_root.budget`).
    """
    with stage() as spent, np.errstate(all="ignore"):
        memory = Memory(program, dict(program.constants), dict(sizes or {}), double, spent)
        if double:
            for name, array in program.constants.items():
                memory.arrays[name] = memory.store(array, program.buffers[name].dtype)
        read_inputs(memory, inputs)
        for statement in program.statements:
            try:
                spent.spend(STATEMENT)
                run_statement(memory, statement)
            except BudgetError as error:
                if error.node is None and not isinstance(statement, Check):
                    error.node = next(iter(statement.origin), None)
                raise
        return {name: memory.contiguous(b) for name, b in program.outputs.items()}


def run_statement(memory: Memory, statement: Statement, run_body: RunBody | None = None) -> None:
    """Runs one statement.

    Args:
        memory: what it reads, and where its results go.
        statement: of the memory's program, or one with the same effect.
        run_body: runs a body of control flow; if not given, it is lowered and interpreted.

    Raises:
        InputError: a size is none, or sizes that must be equal are not.
        IndexError: an index is out of range.
        BudgetError: it takes more work or memory than there is.
    """
    if isinstance(statement, Loop):
        _run_loop(memory, statement)
    elif isinstance(statement, Operation):
        _run_operation(memory, statement)
    elif isinstance(statement, Bind):
        _bind(memory, statement)
    elif isinstance(statement, Check):
        _check(memory, statement)
    elif isinstance(statement, Fetch):
        memory.assign(statement.output, memory.results[statement.control][statement.k])
    else:
        run = run_body or _body_runner(memory)
        operands = [_operand(memory, o) for o in statement.inputs]
        control = run_branch if isinstance(statement, Branch) else run_repeat
        memory.results[statement.name] = control(statement, operands, memory.sizes, run)  # type: ignore[arg-type]


def read_inputs(memory: Memory, inputs: Mapping[str, Array]) -> None:
    """Takes the inputs, and the sizes that their shapes tell.

    Raises:
        InputError: an input is missing, or has a wrong dtype, rank or dimension.
    """
    for name in memory.program.inputs:
        buffer = memory.program.buffers[name]
        if name not in inputs:
            raise InputError("is missing; pass an array for every input", tensor=name)
        array = np.asarray(inputs[name])
        if array.dtype not in (buffer.dtype.numpy, memory.numpy(buffer.dtype)):
            raise InputError(f"has dtype {array.dtype}, expected {buffer.dtype.numpy}", tensor=name)
        if array.ndim != len(buffer.shape):
            raise InputError(f"has shape {array.shape}, expected {buffer}", tensor=name)
        memory.arrays[name] = memory.store(array, buffer.dtype) if memory.double else array
        for dim, extent in zip(buffer.shape, array.shape, strict=True):
            symbol = single_atom(dim)
            if isinstance(symbol, Symbol):
                memory.sizes.setdefault(symbol, extent)
    for name in memory.program.inputs:
        expected = memory.program.buffers[name].shape
        for axis, (dim, extent) in enumerate(zip(expected, memory.arrays[name].shape, strict=True)):
            if memory.size(dim) != extent:
                raise InputError(
                    f"dimension {axis} is {extent}, expected {dim}"
                    + ("" if isinstance(dim, int) else f" = {memory.size(dim)}"),
                    tensor=name,
                )


def _body_runner(memory: Memory) -> RunBody:
    """What runs the bodies of one branch or repetition; each is lowered once."""
    programs: dict[int, Program] = {}

    def run(body: Graph, inputs: Sequence[Array], sizes: Mapping[Atom, int]) -> list[Array]:
        if id(body) not in programs:
            memory.account.spend(NODE * len(body.nodes))
            programs[id(body)] = lower(body)
        own = dict(zip(body.inputs, inputs, strict=True))
        inner = sizes_of_body(body, inputs, sizes)
        return list(interpret(programs[id(body)], own, inner, double=memory.double).values())

    return run


def sizes_of_body(
    body: Graph, inputs: Sequence[Array], sizes: Mapping[Atom, int]
) -> dict[Atom, int]:
    """The sizes that a body of control flow sees: its own are those of the shapes of its inputs."""
    inner = dict(sizes)
    for name, array in zip(body.inputs, inputs, strict=True):
        for d, extent in zip(body.types[name].shape, array.shape, strict=True):
            atom = single_atom(d)
            if isinstance(atom, Symbol):
                inner[atom] = extent
    return inner


def _bind(memory: Memory, bind: Bind) -> None:
    size = int(Grid(memory, (), in_own_type=True).value(bind.value))
    if not 0 <= size <= MOST_ELEMENTS:
        raise InputError(
            f"{bind.symbol} is {size}, which is no size", node=", ".join(bind.origin) or None
        )
    memory.sizes[bind.symbol] = size


def _check(memory: Memory, check: Check) -> None:
    kind, *sizes = check.parts
    a, b = map(memory.size, sizes)
    holds = {
        "equal": a == b,
        "at_most": a <= b,
        "broadcast": a == b or 1 in (a, b),
        "broadcast_to": a in (1, b),
    }
    if not holds[kind]:
        raise InputError(f"{check.why}: {check.demand} does not hold, these are {a} and {b}")


def _run_loop(memory: Memory, loop: Loop) -> None:
    buffer = memory.buffer(loop.output)
    shape, dtype = memory.shape(buffer.shape), memory.numpy(buffer.dtype)
    memory.account.reserve(prod(shape) * dtype.itemsize)
    reduced = loop.reduction.vars if loop.reduction else ()
    variables = (*loop.vars, *reduced)
    ranges = [(0, memory.size(_extent(v))) for v in variables]
    # What a scatter writes last stays: the parts follow one another as the iterations do.
    for part in _parts(ranges, len(loop.vars)):
        memory.account.spend(STATEMENT)
        grid = Grid(memory, variables, part)
        kept = grid.shape[: len(loop.vars)]
        if 0 in kept:
            memory.target(loop.output)
            continue
        value = _reduced(grid, loop) if loop.reduction else grid.value(loop.body)
        value = np.broadcast_to(memory.store(value, buffer.dtype), kept)
        target = Grid(memory, loop.vars, part[: len(loop.vars)])
        if loop.scatters:
            _scatter(memory, loop, target, value)
            continue
        window = target.window(shape, loop.index)
        if window is not None and _whole(window, shape):
            # The loop writes each element once, in order: its value is the buffer, without a copy.
            memory.assign(loop.output, value.reshape(shape))
            continue
        array = memory.target(loop.output)
        memory.account.spend(CALL * prod(kept))
        if window is not None and len(window[1]) == len(kept):
            array[window[0]] = value.transpose(window[1])
        else:
            array[target.positions(loop.output, shape, loop.index)] = value


def _scatter(memory: Memory, loop: Loop, target: Grid, value: Array) -> None:
    """Writes one element after the other."""
    result = memory.changeable(loop.output)
    memory.account.spend(SCATTER * value.size)
    where = target.positions(loop.output, result.shape, loop.index)
    grid = np.broadcast_shapes(value.shape, *(np.shape(w) for w in where))
    flat = np.ravel_multi_index([np.broadcast_to(w, grid) for w in where], result.shape).ravel()
    elements = result.reshape(-1)
    assert np.shares_memory(elements, result), "what is written must not be a copy"
    if loop.update is None or loop.update == "replace":
        elements[flat] = value.ravel()
    else:
        UPDATES[loop.update].at(elements, flat, value.ravel())


def _extent(variable: Symbol) -> Dim:
    assert variable.extent is not None, variable
    return variable.extent


def _whole(window: tuple[tuple[int | slice, ...], list[int]], shape: tuple[int, ...]) -> bool:
    """Whether the slices are all of a buffer of that shape, in its own order."""
    slices, axes = window
    pairs = zip(slices, shape, strict=True)
    return all(s == slice(0, n, 1) or s == 0 == n - 1 for s, n in pairs) and axes == sorted(axes)


def _reduced(grid: Grid, loop: Loop) -> Array:
    assert loop.reduction is not None
    kept = len(loop.vars)
    axes = tuple(range(kept, len(grid.shape)))
    grid.memory.account.spend(CALL * prod(grid.shape))
    if not axes:
        value = grid.value(loop.body)
        return np.zeros_like(value, np.int64) if loop.reduction.kind.startswith("arg") else value
    if 0 in grid.shape[kept:]:
        empty = grid.memory.zeros(grid.shape, grid.memory.numpy(loop.body.dtype))
        return combine(loop.reduction.kind, empty, axes)
    return combine(loop.reduction.kind, np.broadcast_to(grid.value(loop.body), grid.shape), axes)


def _parts(
    ranges: list[tuple[int, int]], kept: int, axis: int = 0
) -> Iterator[list[tuple[int, int]]]:
    """The ranges cut into blocks of at most GRID_LIMIT points, where the kept variables allow that.

    The blocks follow one another as the iterations do: where iterations write to one place, order matters.
    """
    points = prod(stop - start for start, stop in ranges)
    if points <= GRID_LIMIT or axis == kept:
        yield ranges
        return
    first, last = ranges[axis]
    step = max(1, GRID_LIMIT * (last - first) // points)
    for start in range(first, last, step):
        block = [*ranges[:axis], (start, min(start + step, last)), *ranges[axis + 1 :]]
        yield from _parts(block, kept, axis + 1)


def _run_operation(memory: Memory, operation: Operation) -> None:
    arrays = arrays_of(operation, lambda operand: _operand(memory, operand))
    outputs = [o for o in operation.outputs if o]
    shapes = [memory.shape(memory.buffer(o).shape) for o in outputs]
    read = sum(prod(memory.shape(o.shape)) for o in operation.inputs)
    memory.account.spend(CALL * (read + sum(map(prod, shapes))))
    for output, shape in zip(outputs, shapes, strict=True):
        memory.account.reserve(prod(shape) * memory.buffer(output).dtype.size)
    fused = operation.epilogue

    def epilogue(value: Array) -> Array:
        """What is fused into the slot does to all elements; the result has the axes of ``value``."""
        if fused is None:
            return value
        ranges = [(0, memory.size(_extent(v))) for v in fused.vars]
        shape = [stop for _, stop in ranges]
        grid = Grid(memory, fused.vars, ranges, acc=value.reshape(shape))
        return np.broadcast_to(grid.value(fused.body), shape)

    if operation.SLOT not in ("", "fused"):
        arrays[operation.SLOT] = lambda value: epilogue(value).reshape(value.shape)
    results = operation.evaluate(memory.size, **arrays)
    for position, (name, result) in enumerate(zip(operation.outputs, results, strict=False)):
        if name is None:
            continue
        buffer = memory.buffer(name)
        shape = memory.shape(buffer.shape)
        value = np.asarray(result)
        if position == 0 and operation.SLOT == "fused":
            value = epilogue(value)
        kept = memory.store(value.reshape(shape), buffer.dtype)
        memory.assign(name, kept)
        memory.account.hold(kept)


def _operand(memory: Memory, operand: Operand) -> Array:
    """A kernel's strided view of a buffer."""
    array = memory.contiguous(operand.buffer)
    flat = array.reshape(-1)
    shape, strides = memory.shape(operand.shape), tuple(map(memory.size, operand.strides))
    offset = memory.size(operand.offset)
    if 0 in shape:
        return np.zeros(shape, array.dtype)
    reach = [(n - 1) * s for n, s in zip(shape, strides, strict=True)]
    low, high = offset + sum(min(r, 0) for r in reach), offset + sum(max(r, 0) for r in reach)
    if low < 0 or high >= flat.size:
        raise IndexError(f"operand {operand.buffer} reads {low}..{high} of {flat.size} elements")
    steps = [s * array.itemsize for s in strides]
    return np.lib.stride_tricks.as_strided(flat[offset:], shape, steps, writeable=False)


__all__ = [
    "GRID_LIMIT",
    "evaluate",
    "interpret",
    "read_inputs",
    "run_statement",
    "sizes_of_body",
]
