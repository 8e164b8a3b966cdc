"""Runs the steps of a Schedule in NumPy, inside its planned arena: what the printed code does, but printing.

All temporaries lie at their planned places in one array of bytes. Each one is filled with 0xFF, which is NaN
for floats and -1 for integers, when its first step comes, and so are workspaces, rows on the stack and
registers at the start of the iteration that declares them. So a temporary that is overwritten while it is
needed, that is read before it is written, or that lies where another one is, shows as a wrong number.

The loops of a nest run for all values of an index at once where no iteration depends on another one: what
lives inside one iteration then has an axis for that index. All other indices count step by step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np

from sofie_root.budget import STATEMENT, stage
from sofie_root.errors import ValidationError
from sofie_root.ir import Graph
from sofie_root.ir.dim import Atom, Dim, Symbol, as_poly, depends_on, single_atom
from sofie_root.program import expr as ex
from sofie_root.program.expr import Load
from sofie_root.program.grid import Array, Memory
from sofie_root.program.interpret import read_inputs, run_statement, sizes_of_body
from sofie_root.program.nest import For, Nest, leaves
from sofie_root.program.program import Buffer, Program
from sofie_root.program.statement import Loop
from sofie_root.program.uses import all_vars, reads, writes

from .schedule import Schedule

POISON = 0xFF
"""Every byte of memory that nobody has written yet."""

Observer: TypeAlias = Callable[[int, Memory], None]
"""Is called after each step with its number and all that has been computed so far."""


def run(
    schedule: Schedule, inputs: Mapping[str, Array], observe: Observer | None = None
) -> dict[str, Array]:
    """What the steps of a schedule compute.

    Args:
        schedule: any schedule; it is left as it is.
        inputs: array of every input, by name.
        observe: called after each step (not after those inside bodies of control flow).

    Returns:
        The outputs by public name.

    Raises:
        ValidationError: two temporaries that one step uses lie in the same bytes, or one outside the arena,
            or an output is not written.
        InputError: an input is missing or does not fit, or the model refuses its sizes.
        IndexError: an index is out of range.
        BudgetError: the run takes more work or memory than its budget.
    """
    with stage(), np.errstate(all="ignore"):
        return _Runner(schedule).run(inputs, {}, observe)


@dataclass(slots=True)
class _Counted:
    """An index that counts step by step.

    Attributes:
        var: the index.
        fresh: what is poisoned at the start of each iteration.
        body: what each iteration does.
    """

    var: Symbol
    fresh: list[str]
    body: list[_Counted | Loop]


@dataclass(slots=True)
class _Loops:
    """A nest as it is run.

    Attributes:
        fresh: what is poisoned at its start.
        body: its loops in order, those over counted indices as trees.
        locals: its registers and rows, with an axis for each index of which they live in one iteration.
    """

    fresh: list[str] = field(default_factory=list)
    body: list[_Counted | Loop] = field(default_factory=list)
    locals: dict[str, Buffer] = field(default_factory=dict)


@dataclass(slots=True)
class _Arena(Memory):
    """Memory in which buffers have their places.

    Attributes:
        locals: shapes and types of registers and rows.
    """

    locals: dict[str, Buffer] = field(default_factory=dict)

    def buffer(self, name: str) -> Buffer:
        """Shape and type of a buffer, a register or a row."""
        return self.locals.get(name) or self.program.buffers[name]

    def assign(self, buffer: str, value: Array) -> None:
        """Copies an array to the buffer's place."""
        place = self.target(buffer)
        if place.shape != value.shape:
            raise ValidationError(f"has shape {place.shape}, found {value.shape}", tensor=buffer)
        place[...] = value

    def target(self, buffer: str) -> Array:
        """The buffer's place, poisoned where there was none."""
        if buffer not in self.arrays:
            declared = self.buffer(buffer)
            shape, dtype = self.shape(declared.shape), declared.dtype.numpy
            self.arrays[buffer] = self.made(shape, dtype, lambda: poisoned(shape, dtype))
        return self.arrays[buffer]

    def changeable(self, buffer: str) -> Array:
        """The buffer's place."""
        return self.array(buffer)


def poisoned(shape: Sequence[int], dtype: np.dtype[Any]) -> Array:
    """An array in which every byte is 0xFF."""
    array = np.empty(shape, dtype)
    poison(array)
    return array


def poison(array: Array) -> None:
    """Fills contiguous memory with 0xFF."""
    array.reshape(-1).view(np.uint8)[...] = POISON


class _Runner:
    """Runs one schedule, as often as needed; those of bodies of control flow have runners of their own."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.used = [used_by(schedule, k) for k in range(len(schedule.steps))]
        everywhere = [name for names in self.used for name in names]
        counts = {name: everywhere.count(name) for name in set(everywhere)}
        self.first: list[list[str]] = []
        seen: set[str] = set()
        for names in self.used:
            self.first.append(sorted(names - seen))
            seen |= names
        private = {n for n, count in counts.items() if count == 1}
        private -= set(schedule.program.outputs.values())
        self.loops = {
            k: _prepared(step, schedule.program, private)
            for k, step in enumerate(schedule.steps)
            if isinstance(step, Nest)
        }
        self.bodies: dict[int, _Runner] = {}

    def run(
        self,
        inputs: Mapping[str, Array],
        sizes: Mapping[Atom, int],
        observe: Observer | None = None,
    ) -> dict[str, Array]:
        """The outputs by public name."""
        program = self.schedule.program
        memory = _Arena(program, dict(program.constants), dict(sizes))
        read_inputs(memory, inputs)
        places = self._places(memory)
        for k, step in enumerate(self.schedule.steps):
            memory.account.spend(STATEMENT)
            for name in self.first[k]:
                if name in places:
                    memory.arrays[name] = places[name]
                    poison(places[name])
            self._check_places(memory, k, places)
            if isinstance(step, Nest):
                self._run_nest(memory, self.loops[k])
            else:
                run_statement(memory, step, self._run_body)
            if observe is not None:
                observe(k, memory)
        outputs = {}
        for public, name in program.outputs.items():
            if name not in memory.arrays and 0 not in memory.shape(program.buffers[name].shape):
                raise ValidationError("is an output that no step writes", tensor=public)
            outputs[public] = memory.array(name)
        return outputs

    def _places(self, memory: Memory) -> dict[str, Array]:
        """The arrays of all planned temporaries, parts of one arena."""
        plan, sizes = self.schedule.plan, memory.sizes
        offsets, total = plan.places(lambda symbol: sizes[symbol])
        arena = memory.made((total,), np.dtype(np.uint8), lambda: poisoned((total,), _BYTE))
        places = {}
        for name, start in offsets.items():
            buffer = self.schedule.program.buffers[name]
            shape, dtype = memory.shape(buffer.shape), buffer.dtype.numpy
            count = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
            if start < 0 or start + count > total:
                message = f"lies in bytes {start}..{start + count} of an arena of {total}"
                raise ValidationError(message, tensor=name)
            places[name] = arena[start : start + count].view(dtype).reshape(shape)
        return places

    def _check_places(self, memory: Memory, k: int, places: Mapping[str, Array]) -> None:
        """Refuses a step of which two temporaries share memory."""
        end, last = 0, ""
        spans = [
            (a.ctypes.data, a.nbytes, n) for n in self.used[k] if (a := places.get(n)) is not None
        ]
        for start, count, name in sorted(s for s in spans if s[1]):
            if start < end:
                message = f"shares bytes of the arena with {last!r}, which the same step uses"
                raise ValidationError(message, tensor=name, node=title(self.schedule, k))
            end, last = start + count, name

    def _run_nest(self, memory: _Arena, loops: _Loops) -> None:
        memory.locals = loops.locals
        for name in loops.fresh:
            memory.target(name)
        self._run_loops(memory, loops.body)
        for name in loops.locals:
            memory.arrays.pop(name, None)

    def _run_loops(self, memory: Memory, body: Iterable[_Counted | Loop]) -> None:
        for node in body:
            if isinstance(node, Loop):
                memory.account.spend(STATEMENT)
                run_statement(memory, node)
                continue
            assert node.var.extent is not None
            for k in range(memory.size(node.var.extent)):
                memory.sizes[node.var] = k
                for name in node.fresh:
                    poison(memory.target(name))
                self._run_loops(memory, node.body)
            memory.sizes.pop(node.var, None)

    def _run_body(
        self, body: Graph, inputs: Sequence[Array], sizes: Mapping[Atom, int]
    ) -> list[Array]:
        """Runs a body of control flow in an arena of its own."""
        if id(body) not in self.bodies:
            for step in self.schedule.steps:
                for k, graph in enumerate(getattr(step, "bodies", ())):
                    self.bodies[id(graph)] = _Runner(self.schedule.bodies[step.name][k])  # type: ignore[union-attr]
        own = dict(zip(body.inputs, inputs, strict=True))
        return list(self.bodies[id(body)].run(own, sizes_of_body(body, inputs, sizes)).values())


_BYTE = np.dtype(np.uint8)


def used_by(schedule: Schedule, k: int) -> set[str]:
    """Names of the buffers that a step uses, its workspaces included, registers and rows not."""
    step = schedule.steps[k]
    if isinstance(step, Nest):
        every = [name for loop in step.loops() for name in (*reads(loop), loop.output)]
        return set(every) - set(step.locals)
    touched = {*reads(step), *writes(step), *schedule.scratch.get(k, ())}
    return touched & set(schedule.program.buffers)


def title(schedule: Schedule, k: int) -> str:
    """What a step is called in messages: the nodes it stands for."""
    return ", ".join(getattr(schedule.steps[k], "origin", ())) or str(schedule.steps[k])


# -- how a nest is run -----------------------------------------------------------------------------------


def _prepared(nest: Nest, program: Program, private: set[str]) -> _Loops:
    """The nest with the indices that count, and the others as axes of whole loops."""
    result = _Loops()
    path_of: dict[int | None, tuple[For, ...]] = {id(path[-1]): path for path in _paths(nest.body)}
    path_of[None] = ()
    counted = {id(path[-1]) for path in _paths(nest.body) if not _is_parallel(path[-1], nest)}
    axes: dict[str, tuple[Symbol, ...]] = {}
    fresh: dict[int | None, list[str]] = {key: [] for key in path_of}
    for name in nest.locals:
        home = nest.declared.get(name)
        path = path_of[None if home is None else id(home)]
        axes[name] = _parallel(path, counted)
        fresh[next((id(f) for f in reversed(path) if id(f) in counted), None)].append(name)
    for name, row_home in _rows_in_arena(nest, private).items():
        if id(row_home) in counted:
            fresh[id(row_home)].append(name)
    result.fresh = fresh[None]
    result.locals = {
        name: replace(buffer, shape=(*(v.extent or 0 for v in axes[name]), *buffer.shape))
        for name, buffer in nest.locals.items()
    }
    lead: dict[str, tuple[Dim, ...]] = {n: tuple(map(as_poly, a)) for n, a in axes.items()}

    def moved(load: Load) -> Load:
        return replace(load, index=(*lead.get(load.buffer, ()), *load.index))

    def built(body: Iterable[For | Loop], path: tuple[For, ...]) -> list[_Counted | Loop]:
        found: list[_Counted | Loop] = []
        for node in body:
            if isinstance(node, For):
                inner = built(node.body, (*path, node))
                counts = id(node) in counted
                found += [_Counted(node.var, fresh[id(node)], inner)] if counts else inner
                continue
            loop = node.map_loads(moved)
            index = (*lead.get(node.output, ()), *loop.index)
            found.append(replace(loop, vars=_parallel(path, counted), index=index))
        return found

    result.body = built(nest.body, ())
    return result


def _paths(body: Iterable[For | Loop], path: tuple[For, ...] = ()) -> Iterator[tuple[For, ...]]:
    """Every For with those around it, outermost first."""
    for node in body:
        if isinstance(node, For):
            yield (*path, node)
            yield from _paths(node.body, (*path, node))


def _parallel(path: tuple[For, ...], counted: set[int]) -> tuple[Symbol, ...]:
    return tuple(f.var for f in path if id(f) not in counted)


def _is_parallel(node: For, nest: Nest) -> bool:
    """Whether the loops inside may each run for all values of the index before the next one starts.

    They may where each buffer that more than one of them uses is declared inside, or is accessed by all of
    them at the index itself along one axis, so that no iteration meets what another one does.
    """
    inside = {id(path[-1]) for path in _paths([node])}
    accesses: dict[str, list[tuple[Dim, ...]]] = {}
    read: set[str] = set()
    written: list[str] = []
    scattered: set[str] = set()
    for leaf, _ in leaves(node):
        body = ex.loads(leaf.body)
        body += [e for d in _dims(leaf) for e in ex.loads(ex.index(d))]
        for load in body:
            accesses.setdefault(load.buffer, []).append(load.index)
            read.add(load.buffer)
        accesses.setdefault(leaf.output, []).append(leaf.index)
        written.append(leaf.output)
        if leaf.scatters:
            scattered.add(leaf.output)
    read |= {name for name in scattered if written.count(name) > 1}
    for name in read.intersection(written):
        home = nest.declared.get(name)
        if home is not None and id(home) in inside:
            continue
        ranks = {len(index) for index in accesses[name]}
        if len(ranks) != 1 or not any(
            len(set(along)) == 1 and single_atom(along[0]) == node.var
            for along in zip(*accesses[name], strict=True)
        ):
            return False
    return True


def _dims(loop: Loop) -> tuple[Dim, ...]:
    return (*loop.index, *(v.extent or 0 for v in all_vars(loop)))


def _rows_in_arena(nest: Nest, private: set[str]) -> dict[str, For]:
    """Buffers of which each iteration of a For uses all memory anew, with the innermost such For."""
    paths: dict[str, list[tuple[For, ...]]] = {}
    outputs = {loop.output for loop in nest.loops()} - set(nest.locals)
    indices: dict[str, list[Dim]] = {}
    for node in nest.body:
        for leaf, path in leaves(node):
            for name in reads(leaf) | {leaf.output}:
                paths.setdefault(name, []).append(path)
            indices.setdefault(leaf.output, []).extend(leaf.index)
    found: dict[str, For] = {}
    for name in outputs & private:
        for level in zip(*paths[name], strict=False):
            used = any(depends_on(d, level[0].var) for d in indices[name])
            if any(f is not level[0] for f in level):
                break
            if not used:
                found[name] = level[0]
    return found


__all__ = ["Observer", "run", "used_by"]
