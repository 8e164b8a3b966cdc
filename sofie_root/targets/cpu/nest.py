"""Joins loops into nests: shared outer indices, and temporaries that never reach memory."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import replace
from heapq import merge

from sofie_root.ir.dim import Atom, Dim, Symbol, as_poly, product, single_atom, substitute
from sofie_root.ir.dtype import DType
from sofie_root.program import expr as ex
from sofie_root.program.expr import Expr, Load
from sofie_root.program.nest import For, Nest, Step, leaves
from sofie_root.program.program import Program
from sofie_root.program.statement import Bind, Loop, Statement
from sofie_root.program.uses import dim_reads, reads, writes
from sofie_root.schedule.inline import Decisions

STACK_ELEMENTS = 1024
"""Row temporaries up to this many elements live on the stack, larger ones in the arena."""


def _written(node: For | Loop) -> dict[str, list[Loop]]:
    found: dict[str, list[Loop]] = {}
    for leaf, _ in leaves(node):
        found.setdefault(leaf.output, []).append(leaf)
    return found


def build(program: Program, decisions: Decisions) -> list[Step]:
    """The program as steps: loops joined into nests, kernels and run-time sizes between them."""
    steps: list[Step] = []
    places = _Places()
    for statement in _without_empty_parts(program.statements):
        if not isinstance(statement, Loop):
            places.add_step(len(steps), statement)
            steps.append(statement)
            continue
        place = _join_earlier(steps, places, statement, decisions)
        if place is None:
            place = len(steps)
            steps.append(Nest([_wrap(statement, 0)]))
        places.add_loop(place, statement)
    users: dict[str, set[int]] = {}
    for k, step in enumerate(steps):
        for name in _used(step):
            users.setdefault(name, set()).add(k)
    own: dict[int, set[str]] = {}
    for name, used in users.items():
        if len(used) == 1:
            own.setdefault(min(used), set()).add(name)
    for k, step in enumerate(steps):
        if isinstance(step, Nest):
            _contract(program, step, own.get(k, set()))
    return steps


def _used(step: Step) -> Set[str]:
    """The buffers that a nest touches, and those that any other step reads."""
    if isinstance(step, Nest):
        return set().union(*(reads(loop) | {loop.output} for loop in step.loops()))
    return reads(step)


def _without_empty_parts(statements: Iterable[Statement]) -> list[Statement]:
    """The statements without the loops of no elements that fill a part of what others fill too.

    Two empty parts of a concatenation may have one and the same place, which a register has only once.
    """
    filled: dict[str, list[Loop]] = {}
    for s in statements:
        if isinstance(s, Loop):
            filled.setdefault(s.output, []).append(s)
    dropped: set[int] = set()
    for loops in filled.values():
        empty = [id(s) for s in loops if any(v.extent == 0 for v in s.vars)]
        dropped |= set(empty if len(empty) < len(loops) else empty[1:])
    return [s for s in statements if id(s) not in dropped]


class _Places:
    """Where the steps are that touch a buffer, so that a loop looks at no others."""

    def __init__(self) -> None:
        self._touching: dict[tuple[str, Dim], list[int]] = {}
        """Nests in order by what they read or write, and by the extent of their outermost For."""
        self._writer: dict[str, int] = {}
        """The last step that writes each buffer."""
        self._bind = -1
        """The last step that reads a size which the run tells: no loop goes before it."""

    def add_step(self, place: int, statement: Statement) -> None:
        """Takes in a step that is no nest."""
        if isinstance(statement, Bind):
            self._bind = place
        for name in writes(statement):
            self._writer[name] = place

    def add_loop(self, place: int, loop: Loop) -> None:
        """Takes in a loop of the nest at a place."""
        self._writer[loop.output] = max(place, self._writer.get(loop.output, -1))
        for name in {loop.output, *reads(loop)} if loop.vars else ():
            touching = self._touching.setdefault((name, _extent(loop)), [])
            at = bisect_left(touching, place)
            if touching[at : at + 1] != [place]:
                touching.insert(at, place)

    def candidates(self, loop: Loop) -> Iterator[int]:
        """Nests that touch what a loop reads, the last one first, up to where something it reads is made."""
        if not loop.vars:
            return
        needs = reads(loop)
        first = max((self._writer.get(name, -1) for name in needs), default=-1)
        lists = [self._touching.get((name, _extent(loop)), []) for name in needs]
        last = None
        for place in merge(*(reversed(each) for each in lists), reverse=True):
            if place < first or place < self._bind:
                return
            if place != last:
                yield place
            last = place


def _extent(loop: Loop) -> Dim:
    extent = loop.vars[0].extent
    assert extent is not None
    return extent


def _join_earlier(
    steps: Sequence[Step], places: _Places, loop: Loop, decisions: Decisions
) -> int | None:
    """Puts the loop into the nearest earlier nest that it may join: where that is; None without one."""
    for place in places.candidates(loop):
        step = steps[place]
        assert isinstance(step, Nest)
        if _insert(step.body, loop, 0):
            decisions.fused.append(f"{'+'.join(loop.origin)} into the nest of {step.origin[0]}")
            return place
    return None


def _wrap(loop: Loop, depth: int) -> For | Loop:
    node: For | Loop = loop
    for var in reversed(loop.vars[depth:]):
        node = For(var, [node])
    return node


def _insert(body: list[For | Loop], loop: Loop, depth: int) -> bool:
    """Adds the loop to a For of this body (or, below the top, at its end); False: not possible."""
    if depth < len(loop.vars):
        for node in reversed(body):
            others = (*loop.vars[:depth], *loop.vars[depth + 1 :])
            if (
                isinstance(node, For)
                and node.extent == loop.vars[depth].extent
                and node.var not in others
                and (depth + 1 < len(loop.vars) or _same_lanes(node, loop))
            ):
                candidate = _rename(loop, depth, node.var)
                if _may_share(node, candidate):
                    _insert(node.body, candidate, depth + 1)
                    return True
            if reads(loop) & set(_written(node)):
                break
    if depth == 0:
        return False
    body.append(_wrap(loop, depth))
    return True


def _same_lanes(node: For, loop: Loop) -> bool:
    """Whether an innermost loop that runs over vectors, or one that cannot, stays what it is."""
    own = loop.body.dtype is DType.INT64
    return not all(isinstance(n, Loop) for n in node.body) or all(
        (n.body.dtype is DType.INT64) == own for n in node.body if isinstance(n, Loop)
    )


def _rename(loop: Loop, depth: int, var: Symbol) -> Loop:
    mapping: dict[Atom, Dim] = {loop.vars[depth]: as_poly(var)}
    return replace(
        loop,
        vars=(*loop.vars[:depth], var, *loop.vars[depth + 1 :]),
        index=tuple(substitute(d, mapping) for d in loop.index),
        body=ex.substitute_dims(loop.body, mapping),
    )


def _may_share(node: For, loop: Loop) -> bool:
    """Whether the loop reads what the node writes only in the same iteration."""
    written = _written(node)
    accesses = ex.loads(loop.body)
    accesses += [load for d in loop.index for load in ex.loads(ex.index(d))]
    if loop.scatters:
        accesses.append(Load(loop.body.dtype, loop.output, loop.index))
    for load in accesses:
        for writer in written.get(load.buffer, ()):
            if len(writer.index) != len(load.index):  # a row-major position tells no axis
                return False
            if not any(
                single_atom(w) == node.var and w == r
                for w, r in zip(writer.index, load.index, strict=True)
            ):
                return False
    outside = dim_reads(tuple(v.extent or 0 for v in loop.vars))
    if loop.reduction:
        outside |= dim_reads(tuple(v.extent or 0 for v in loop.reduction.vars))
    return not outside & set(written)


def _contract(program: Program, nest: Nest, own: Set[str]) -> None:
    """Turns buffers that only this nest uses into registers, stack rows or smaller buffers.

    Args:
        program: where the buffers are.
        nest: changed in place.
        own: the buffers that no other step uses.
    """
    kept: set[str] = set(program.outputs.values())
    paths: dict[str, list[tuple[For, ...]]] = {}
    for node in nest.body:
        for leaf, path in leaves(node):
            for name in reads(leaf) | {leaf.output}:
                paths.setdefault(name, []).append(path)
    outputs = {loop.output for loop in nest.loops()}
    for loop in nest.loops():  # what is read at row-major positions keeps its shape
        for load in ex.loads(loop.body):
            if len(load.index) != len(program.buffers[load.buffer].shape):
                kept.add(load.buffer)
    for name in sorted((outputs & own) - kept):
        common = _common(paths[name])
        writers = [loop for loop in nest.loops() if loop.output == name]
        if any(loop.scatters for loop in writers):
            continue
        drop = _droppable(writers, common)
        shape = tuple(d for axis, d in enumerate(program.buffers[name].shape) if axis not in drop)
        if not common and not drop:
            continue
        keep = [axis for axis in range(len(program.buffers[name].shape)) if axis not in drop]
        small = product(shape)
        buffer = replace(program.buffers[name], shape=shape)
        if all(d == 1 for d in shape):
            keep = []
            buffer = replace(buffer, shape=())
        if isinstance(small, int) and small <= STACK_ELEMENTS:
            nest.locals[name] = buffer
            nest.declared[name] = common[-1] if common else None
        elif not drop:
            continue
        program.buffers[name] = buffer
        _reindex(nest.body, name, keep)


def _common(paths: list[tuple[For, ...]]) -> tuple[For, ...]:
    shared: list[For] = []
    for level in zip(*paths, strict=False):
        if any(node is not level[0] for node in level):
            break
        shared.append(level[0])
    return tuple(shared)


def _droppable(writers: list[Loop], common: tuple[For, ...]) -> set[int]:
    """Axes of a temporary that are indexed by a common loop variable in every write."""
    own = {node.var for node in common}
    axes = range(len(writers[0].index))
    return {a for a in axes if all(single_atom(w.index[a]) in own for w in writers)}


def _reindex(body: list[For | Loop], name: str, keep: list[int]) -> None:
    def read(load: Load) -> Expr:
        return (
            replace(load, index=tuple(load.index[a] for a in keep)) if load.buffer == name else load
        )

    for k, node in enumerate(body):
        if isinstance(node, For):
            _reindex(node.body, name, keep)
            continue
        moved = node.map_loads(read)
        index = tuple(moved.index[a] for a in keep) if node.output == name else moved.index
        body[k] = replace(moved, index=index)
