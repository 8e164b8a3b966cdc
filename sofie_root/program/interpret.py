"""Runs a Program with NumPy: what every statement means, without generating code.

Constant folding uses it, and tests hold it against ONNX Runtime and against the generated C++. An
expression is evaluated on the whole grid of a loop at once: each index variable is an ``arange``
along its own axis and NumPy's broadcasting does the rest. Reads whose indices are
``offset + step * variable`` are slices, all others gather through index arrays.

With ``double`` every float tensor is computed in double, whatever its type: what the model means but
for rounding, to judge by how much others are off. Sizes and indices that come from floats keep the
precision of their type, because there a last bit decides between two results that are both right, and
what is too large for a tensor's type is infinite, as it would be there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from sofie_root.budget import NODE, STATEMENT, Account, account, stage
from sofie_root.errors import BudgetError, InputError
from sofie_root.ir import DType, Graph
from sofie_root.ir.dim import Atom, Dim, Symbol, linear, single_atom

from .expr import Acc, Call, Cell, Const, Expr, Index, Load, ResultSize
from .functions import UPDATES, combine, convert
from .interpret_control import RunBody, run_branch, run_repeat
from .lower import lower
from .operation import Operand, Operation, arrays_of
from .program import (
    MOST_ELEMENTS,
    Bind,
    Branch,
    Buffer,
    Check,
    Fetch,
    Loop,
    Program,
    Statement,
)
from .scalar import FUNCTIONS

Array = npt.NDArray[Any]

GRID_LIMIT = 4_000_000
"""Loops over more points than this are evaluated in parts, to bound memory."""

CALL, SCATTER = 4, 50
"""Operations per element of a loop or a read, and of a write to places that are read at run time."""


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


@dataclass(slots=True)
class Memory:
    """What has been computed so far: arrays of buffers and values of size symbols."""

    program: Program
    arrays: dict[str, Array]
    sizes: dict[Atom, int]
    double: bool = False
    account: Account = field(default_factory=account)
    results: dict[str, list[Array]] = field(default_factory=dict)

    def buffer(self, name: str) -> Buffer:
        """Shape and type of a buffer."""
        return self.program.buffers[name]

    def numpy(self, dtype: DType) -> np.dtype[Any]:
        """The type in which a tensor of that type is kept here."""
        return DType.DOUBLE.numpy if self.double and dtype.is_float else dtype.numpy

    def store(self, value: Array, dtype: DType) -> Array:
        """A value as a tensor of that type keeps it."""
        kept = self.numpy(dtype)
        value = convert(value, kept) if value.dtype != kept else value
        if kept != dtype.numpy:
            largest = ml_dtypes.finfo(dtype.numpy).max  # type: ignore[no-untyped-call]
            too_large = np.abs(value) > float(largest)
            if np.any(too_large):
                value = np.where(too_large, np.copysign(np.inf, value), value)
        return value

    def array(self, buffer: str) -> Array:
        """The content of a buffer; one without elements needs no statement to write it."""
        if buffer not in self.arrays and 0 not in self.shape(self.buffer(buffer).shape):
            raise KeyError(f"{buffer} of {self.program.name} is read before it is written")
        return self.target(buffer)

    def assign(self, buffer: str, value: Array) -> None:
        """Makes an array of the buffer's shape and type its content."""
        self.arrays[buffer] = value

    def target(self, buffer: str) -> Array:
        """The array of a buffer that statements fill piece by piece."""
        if buffer not in self.arrays:
            declared = self.buffer(buffer)
            self.arrays[buffer] = self.zeros(self.shape(declared.shape), self.numpy(declared.dtype))
        return self.arrays[buffer]

    def changeable(self, buffer: str) -> Array:
        """The content of a buffer in an array of its own: what a loop made may be a view of others."""
        before = self.array(buffer)
        made = self.made(before.shape, before.dtype, lambda: np.array(before, order="C"))
        self.arrays[buffer] = made
        return made

    def contiguous(self, buffer: str) -> Array:
        """The content of a buffer in row-major order: a copy only where needed."""
        array = self.array(buffer)
        if array.flags.c_contiguous:
            return array
        return self.made(array.shape, array.dtype, lambda: np.array(array, order="C"))

    def zeros(self, shape: Sequence[int], dtype: np.dtype[Any]) -> Array:
        """A new array of zeros."""
        return self.made(shape, dtype, lambda: np.zeros(shape, dtype))

    def made(self, shape: Sequence[int], dtype: np.dtype[Any], make: Callable[[], Array]) -> Array:
        """What ``make`` returns, once there is memory for an array of that shape."""
        self.account.reserve(prod(shape) * dtype.itemsize)
        array = np.asarray(make())
        self.account.hold(array if array.base is None else array.base)
        return array

    def size(self, dim: Dim) -> int:
        """The number that a size expression stands for."""
        return int(Grid(self, ()).dim(dim))

    def shape(self, dims: Sequence[Dim]) -> tuple[int, ...]:
        """The numbers that a shape stands for."""
        sizes = tuple(self.size(d) for d in dims)
        if min(sizes, default=0) < 0 or prod(max(n, 1) for n in sizes) > MOST_ELEMENTS:
            shown = " and ".join("[" + ", ".join(map(str, s)) + "]" for s in (dims, sizes))
            raise InputError(f"{self.program.name}: no tensor can have the shape {shown}")
        return sizes


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


class Grid:
    """The points of a loop: evaluates expressions at all of them at once.

    Every value is an array that broadcasts to the grid's shape (one axis per variable).
    """

    def __init__(
        self,
        memory: Memory,
        variables: Sequence[Symbol],
        ranges: Sequence[tuple[int, int]] = (),
        acc: Array | None = None,
        in_own_type: bool = False,
    ) -> None:
        self.memory = memory
        self._in_own_type = (
            in_own_type  # whether floats are computed as they are without ``double``
        )
        self.axes: dict[Atom, int] = {v: axis for axis, v in enumerate(variables)}
        self.ranges = tuple(ranges)
        self.acc = acc
        self._mask: Array | None = None  # where the guards around the current expression hold
        self._atoms: dict[tuple[Atom, int], Any] = {}
        self._values: dict[tuple[int, int, bool], Array] = {}
        self._alive: list[Any] = []  # what the ids in the keys above belong to

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of points along each variable."""
        return tuple(stop - start for start, stop in self.ranges)

    # -- index expressions -------------------------------------------------------------------------
    def dim(self, dim: Dim) -> Any:
        """An index expression: an int where no variable is in it, else an INT64 array."""
        if isinstance(dim, int):
            return dim
        total: Any = 0
        for monomial, coefficient in dim.terms:
            term: Any = coefficient
            for atom, power in monomial:
                term = term * self._atom(atom) ** power
            total = total + term
        return total

    def _atom(self, atom: Atom) -> Any:
        key = (atom, id(self._mask))
        if key not in self._atoms:
            self._atoms[key] = self._evaluate_atom(atom)
        return self._atoms[key]

    def _evaluate_atom(self, atom: Atom) -> Any:
        if isinstance(atom, Cell):
            return self._cell(atom)
        if atom in self.axes:
            axis = self.axes[atom]
            start, stop = self.ranges[axis]
            rank = len(self.axes)
            shape = [stop - start if a == axis else 1 for a in range(rank)]
            positions = np.dtype(np.int64)
            return self.memory.made(
                shape, positions, lambda: np.arange(start, stop, dtype=positions).reshape(shape)
            )
        if isinstance(atom, Symbol):
            if atom not in self.memory.sizes:
                raise KeyError(f"size {atom} of {self.memory.program.name} has no value yet")
            return self.memory.sizes[atom]
        return atom.evaluate(tuple(self.dim(d) for d in atom.dims()), self._atom)

    def _cell(self, cell: Cell) -> Any:
        before, self._in_own_type = self._in_own_type, True
        value = self.value(cell.expr).astype(np.int64)
        self._in_own_type = before
        if cell.extent is not None:
            extent = self.dim(cell.extent)
            inside = (value >= -extent) & (value < extent)
            self._demand(inside, f"index {cell.expr} is not below {cell.extent}")
            value = np.where(value < 0, value + extent, value)
        return int(value.reshape(())) if value.size == 1 else value

    def _demand(self, holds: Any, message: str) -> None:
        """Raises IndexError where ``holds`` is false at a point that the guards let through."""
        if self._mask is not None:
            holds = holds | ~self._mask
        if 0 not in self.shape and not np.all(holds):
            raise IndexError(f"{message} ({self.memory.program.name})")

    # -- values ------------------------------------------------------------------------------------
    def value(self, expr: Expr) -> Array:
        """An expression at every point, in the expression's dtype."""
        key = (id(expr), id(self._mask), self._in_own_type)
        if key not in self._values:
            self._alive.append(expr)
            self._values[key] = np.asarray(self._evaluate(expr))
        return self._values[key]

    def _numpy(self, dtype: DType) -> np.dtype[Any]:
        """The type in which values of that type are computed here."""
        return dtype.numpy if self._in_own_type else self.memory.numpy(dtype)

    def _evaluate(self, expr: Expr) -> Array:
        if isinstance(expr, Const):
            return np.asarray(expr.value, self._numpy(expr.dtype))
        if isinstance(expr, Index):
            return np.asarray(self.dim(expr.dim), np.int64)
        if isinstance(expr, Load):
            return self._load(expr)
        if isinstance(expr, ResultSize):
            shape = self.memory.results[expr.control][expr.k].shape
            return np.asarray(shape[expr.axis], np.int64)
        if isinstance(expr, Acc):
            assert self.acc is not None, "acc outside an epilogue"
            return self.acc
        assert isinstance(expr, Call), expr
        if expr.function == "guard":
            return self._guard(*expr.args)
        args = [self.value(a) for a in expr.args]
        shape, dtype = np.broadcast_shapes(*(a.shape for a in args)), self._numpy(expr.dtype)
        function = FUNCTIONS[expr.function]
        self.memory.account.spend(function.work * prod(shape))
        if expr.function == "cast":
            if self._in_own_type:
                return self.memory.made(shape, dtype, lambda: convert(args[0], dtype))
            return self.memory.made(shape, dtype, lambda: self.memory.store(args[0], expr.dtype))
        meaning = function.numpy
        assert meaning is not None, expr.function
        return self.memory.made(
            shape, dtype, lambda: np.asarray(meaning(*args)).astype(dtype, copy=False)
        )

    def _guard(self, condition: Expr, inside: Expr, outside: Expr) -> Array:
        holds = self.value(condition)
        before = self._mask
        self._mask = holds if before is None else before & holds
        self._alive.append(self._mask)
        value = self.value(inside)
        self._mask = before
        return np.where(holds, value, self.value(outside))

    def _load(self, load: Load) -> Array:
        array = self.memory.array(load.buffer).astype(self._numpy(load.dtype), copy=False)
        if len(load.index) == 1 != array.ndim:  # a row-major position
            array = array.reshape(-1)
        window = self.window(array.shape, load.index)
        if window is not None:
            slices, axes = window
            return _spread(array[slices], axes, len(self.axes))
        if array.size == 0:  # only a guard that never holds may read it
            self._demand(np.zeros((), bool), f"{load.buffer} has no elements to be read")
            return np.zeros((1,) * len(self.axes), array.dtype)
        where = self.positions(load.buffer, array.shape, load.index)
        shape = np.broadcast_shapes(*(np.shape(w) for w in where))
        self.memory.account.spend(CALL * prod(shape))
        return self.memory.made(shape, array.dtype, lambda: array[where])

    def window(
        self, shape: tuple[int, ...], index: Sequence[Dim]
    ) -> tuple[tuple[int | slice, ...], list[int]] | None:
        """The slices that an index amounts to and the grid axis of each; None if there are none."""
        slices: list[int | slice] = []
        axes: list[int] = []
        for dim, extent in zip(index, shape, strict=True):
            found = self._range(dim)
            if found is None:
                return None
            axis, first, step, count = found
            last = first + step * (count - 1)
            if count == 0 or not (0 <= first < extent and 0 <= last < extent) or axis in axes:
                return None
            if axis is None:
                slices.append(first)
                continue
            stop = last + (1 if step > 0 else -1)
            slices.append(slice(first, stop if stop >= 0 else None, step))
            axes.append(axis)
        return tuple(slices), axes

    def _range(self, dim: Dim) -> tuple[int | None, int, int, int] | None:
        """``(axis, first, step, count)`` of an index that is linear in at most one variable."""
        if isinstance(dim, int):
            return None, dim, 1, 1
        variables = [v for v in self.axes if v in dim.atoms]
        if len(variables) > 1 or any(a.dims() for a in dim.atoms):
            return None
        if not variables:
            return None, int(self.dim(dim)), 1, 1
        parts = linear(dim, variables[0])
        if parts is None:
            return None
        step, offset = (int(self.dim(p)) for p in parts)
        axis = self.axes[variables[0]]
        start, stop = self.ranges[axis]
        return (axis, offset + step * start, step, stop - start) if step else None

    def positions(self, name: str, shape: tuple[int, ...], index: Sequence[Dim]) -> tuple[Any, ...]:
        """Index arrays into an array of that shape; out of range is an error unless guarded."""
        found = []
        for axis, (dim, extent) in enumerate(zip(index, shape, strict=True)):
            position = self.dim(dim)
            inside = (np.asarray(position) >= 0) & (np.asarray(position) < extent)
            if not np.all(inside):
                self._demand(inside, f"index {dim} is outside axis {axis} of {name}, {extent}")
                position = np.clip(position, 0, extent - 1)
            found.append(position)
        return tuple(found)


def _spread(array: Array, axes: list[int], rank: int) -> Array:
    """An array whose axes belong to these grid axes, transposed and padded to the grid's rank."""
    order = sorted(range(len(axes)), key=lambda k: axes[k])
    array = array.transpose(order)
    extents = dict(zip(sorted(axes), array.shape, strict=True))
    return array.reshape([extents.get(a, 1) for a in range(rank)])


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
    "Grid",
    "Memory",
    "evaluate",
    "interpret",
    "read_inputs",
    "run_statement",
    "sizes_of_body",
]
