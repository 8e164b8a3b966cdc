"""What sizes must be for generated code to compute with them: no product overflows, no axis is negative.

Sizes come from whoever calls a Session and from data, so each is checked once, where it becomes known:
those of the inputs when they change, those that the run tells after they were read. A tensor may have
``sofie::kMostElements`` elements. It is enough to check the largest products: of ``2*N``, ``N*M`` and
``25*N*M`` only the last, with factors below 1 counting as 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sofie_root.ir.dim import (
    Broadcast,
    Dim,
    FloorDiv,
    Max,
    Min,
    Symbol,
    as_poly,
    at_least,
    product,
    size_symbols,
)
from sofie_root.program.expr import Cell, dims_of
from sofie_root.program.nest import Nest, Step
from sofie_root.program.operation import Operation
from sofie_root.program.program import Program
from sofie_root.program.statement import Bind, Check

Magnitude = Mapping[tuple[Symbol, ...], int]
"""A bound of an expression: the sum of these products of sizes, each at least 1, times these numbers."""


@dataclass(slots=True)
class Limits:
    """What is demanded of sizes at one moment.

    Attributes:
        products: factors of products that must be a number of elements. What the run tells is a
            size already when it is bound.
        axes: sizes that might come out negative, and what they are sizes of.
    """

    products: list[tuple[Dim, ...]] = field(default_factory=list)
    axes: list[tuple[Dim, str]] = field(default_factory=list)


def limits(
    program: Program, steps: Sequence[Step], symbols: Sequence[Symbol]
) -> dict[Symbol | None, Limits]:
    """What is demanded once the sizes of the inputs are known (None), and after each run-time size.

    Args:
        program: its buffers are what the steps use.
        steps: in order.
        symbols: sizes that the inputs give.
    """
    order: dict[Symbol, int] = dict.fromkeys(symbols, 0)
    bound = [s.symbol for s in steps if isinstance(s, Bind)]
    order |= {symbol: place for place, symbol in enumerate(bound, 1)}
    moments: list[Symbol | None] = [None, *bound]
    totals: dict[Symbol | None, list[Dim]] = {m: [] for m in moments}
    found: dict[Symbol | None, Limits] = {m: Limits() for m in moments}
    totals[None] += map(as_poly, symbols)

    def moment(d: Dim) -> Symbol | None:
        return moments[max((order.get(s, 0) for s in size_symbols([d])), default=0)]

    for d in _totals(program, steps):
        if not isinstance(d, int):
            totals[moment(d)].append(d)
    seen: set[Dim] = set()
    for d, what in _axes(program, steps):
        if d not in seen and not at_least(d, 0):
            found[moment(d)].axes.append((d, what))
        seen.add(d)
    for at, dims in totals.items():
        products = _largest(dims)
        found[at].products = products if at is None else [p for p in products if len(p) > 1]
    return found


def _used(program: Program, steps: Sequence[Step]) -> Iterator[str]:
    """The buffers outside of nests, in order."""
    local = {name for s in steps if isinstance(s, Nest) for name in s.locals}
    yield from (name for name, b in program.buffers.items() if name not in local)


def _totals(program: Program, steps: Sequence[Step]) -> Iterator[Dim]:
    """What must be a number of elements, or an integer at all."""
    for name in _used(program, steps):
        yield program.buffers[name].numel
    for step in steps:
        if isinstance(step, Nest):
            for loop in step.loops():
                over = loop.vars + (loop.reduction.vars if loop.reduction else ())
                yield product(v.extent or 0 for v in over)
        elif isinstance(step, Operation):
            for operand in step.inputs:
                yield product(operand.shape)
        elif isinstance(step, Bind):
            yield from dims_of(step.value)
        elif isinstance(step, Check):
            yield from (step.a, step.b)


def _axes(program: Program, steps: Sequence[Step]) -> Iterator[tuple[Dim, str]]:
    for name in _used(program, steps):
        for axis, d in enumerate(program.buffers[name].shape):
            yield d, f"axis {axis} of {name!r}"
    for step in steps:
        if isinstance(step, Nest):
            for loop in step.loops():
                over = loop.vars + (loop.reduction.vars if loop.reduction else ())
                for v in over:
                    yield v.extent or 0, f"a size in {', '.join(step.origin)}"
        elif isinstance(step, Operation):
            for operand in step.inputs:
                for d in operand.shape:
                    yield d, f"a size in {', '.join(step.origin)}"


def _magnitude(d: Dim) -> Magnitude:
    """A bound of the expression's value, and of all that is computed on the way to it."""
    if isinstance(d, int):
        return {(): abs(d)}
    total: dict[tuple[Symbol, ...], int] = {}
    for mono, coefficient in d.terms:
        term: Magnitude = {(): abs(coefficient)}
        for atom, power in mono:
            for _ in range(power):
                term = _times(term, _of_atom(atom))
        for key, count in term.items():
            total[key] = total.get(key, 0) + count
    return total


def _of_atom(atom: object) -> Magnitude:
    if isinstance(atom, Symbol):
        return {(atom,): 1} if atom.extent is None else _magnitude(atom.extent)
    if isinstance(atom, FloorDiv):
        # The dividend may be larger than a tensor, but must not overflow either.
        by = min(atom.b, 1 << 18) if isinstance(atom.b, int) and atom.b > 0 else 1
        return {key: -(-count // by) for key, count in _magnitude(atom.a).items()}
    if isinstance(atom, Min) and all(at_least(d, 0) for d in atom.args):
        return _magnitude(min(atom.args, key=_rough))
    if isinstance(atom, Min | Max | Broadcast):
        bounds = [_magnitude(d) for d in atom.dims()]
        return {key: max(b.get(key, 0) for b in bounds) for b in bounds for key in b}
    if isinstance(atom, Cell) and atom.extent is not None:
        return _magnitude(atom.extent)
    return {(): 1}


def _rough(d: Dim) -> int:
    """Orders the operands of a minimum: small numbers, sizes, then numbers that stand for no limit."""
    return d if isinstance(d, int) else 1 << 16


def _times(a: Magnitude, b: Magnitude) -> Magnitude:
    total: dict[tuple[Symbol, ...], int] = {}
    for p, m in a.items():
        for q, n in b.items():
            key = tuple(sorted((*p, *q), key=lambda s: s.name))
            total[key] = total.get(key, 0) + m * n
    return total


def _largest(dims: Iterable[Dim]) -> list[tuple[Dim, ...]]:
    """Factors of the products that bound all of these."""
    bounds = [_magnitude(d) for d in dict.fromkeys(dims)]
    keys = dict.fromkeys(key for b in bounds for key in b if key)
    largest = [k for k in keys if not any(k != o and _divides(k, o) for o in keys)]
    products: list[tuple[Dim, ...]] = []
    for key in largest:
        count = max(sum(n for k, n in b.items() if _divides(k, key)) for b in bounds)
        products.append((*([count] if count > 1 else []), *map(as_poly, key)))
    return products


def _divides(a: tuple[Symbol, ...], b: tuple[Symbol, ...]) -> bool:
    return len(a) <= len(b) and all(a.count(s) <= b.count(s) for s in dict.fromkeys(a))
