"""The arena plan: where each temporary lives, so that temporaries whose lives do not meet share memory.

Temporaries are ordered by size for typical dims and placed best-fit (greedy by size: Pisarchyk and Lee,
"Efficient Memory Management for Deep Neural Net Inference", 2020). With symbolic dims the same order
becomes a set of constraints, ``offset[b] >= offset[a] + size[a]`` for every a below b that lives at the
same time, so the plan holds for all dims and the offsets follow them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from sofie_root.ir.dim import (
    Atom,
    Dim,
    Max,
    Poly,
    Symbol,
    as_poly,
    ceildiv,
    maximum,
    size_symbols,
    value_of,
)
from sofie_root.program.expr import Cell
from sofie_root.program.program import Buffer

ALIGNMENT = 64
TYPICAL_SIZE = 48
"""Stands for every size symbol when temporaries are ordered."""


@dataclass(frozen=True, slots=True)
class Lifetime:
    """A temporary and the first and last step that uses it."""

    buffer: Buffer
    first: int
    last: int

    @property
    def bytes(self) -> Dim:
        """Size, rounded up to the alignment."""
        size = self.buffer.numel * self.buffer.dtype.size
        return ceildiv(size, ALIGNMENT) * ALIGNMENT

    def meets(self, other: Lifetime) -> bool:
        """Whether both are alive at some step."""
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True, slots=True)
class Plan:
    """Offsets in bytes by buffer name, and the totals.

    Attributes:
        offsets: byte offset of each planned temporary in the order in which they are computed: an
            expression of the input's size symbols and of earlier offsets (see :func:`offset_symbol`).
        total: bytes of the arena, likewise.
        intermediates: sum of the sizes of all temporaries, for comparison.
        growing: temporaries whose size only the run tells; each has memory of its own that only grows.
    """

    offsets: dict[str, Dim]
    total: Dim
    intermediates: Dim
    growing: tuple[str, ...] = ()

    def arena_bytes(self, sizes: Mapping[str, int]) -> int:
        """Bytes of the arena for these sizes of the input's symbols."""
        return self._value(self.total, lambda s: sizes[s.name])

    def reuse(self) -> float:
        """Sum of intermediates over arena bytes at typical sizes (1 where there is none)."""
        total = self._value(self.total, lambda _: TYPICAL_SIZE)
        return typical(self.intermediates) / total if total else 1.0

    def places(self, size: Callable[[Symbol], int]) -> tuple[dict[str, int], int]:
        """The byte offset of each planned temporary, and the bytes of the arena, for these sizes."""
        value = self._values(size)
        offsets = {name: value(as_poly(offset_symbol(name))) for name in self.offsets}
        return offsets, value(self.total)

    def live_bytes(
        self, lifetimes: Iterable[Lifetime], steps: int, sizes: Mapping[str, int]
    ) -> list[int]:
        """Bytes of the arena that are in use, step by step: what is live is never more than the total.

        Args:
            lifetimes: those that were planned; growing ones are left out.
            steps: how many steps there are.
            sizes: of the input's symbols.
        """
        value = self._values(lambda s: sizes[s.name])
        spans = [
            (t, value(as_poly(offset_symbol(t.buffer.name))), value(t.bytes))
            for t in lifetimes
            if t.buffer.name in self.offsets
        ]
        live = []
        for step in range(steps):
            used = top = 0
            for at, size in sorted((at, n) for t, at, n in spans if t.first <= step <= t.last):
                used += max(0, at + size - max(at, top))  # what shares bytes counts once
                top = max(top, at + size)
            live.append(used)
        return live

    def _value(self, d: Dim, size: Callable[[Symbol], int]) -> int:
        return self._values(size)(d)

    def _values(self, size: Callable[[Symbol], int]) -> Callable[[Dim], int]:
        """Evaluates expressions of size symbols and of offsets."""
        known: dict[Atom, int] = {}

        def lookup(atom: Atom) -> int:
            assert isinstance(atom, Symbol), atom
            return known[atom] if atom in known else size(atom)

        for name, offset in self.offsets.items():
            known[offset_symbol(name)] = int(value_of(offset, lookup))
        return lambda d: int(value_of(d, lookup))


def offset_symbol(name: str) -> Symbol:
    """Stands for the offset of a temporary in the offsets that are stacked on it."""
    return Symbol(f"offset of {name}")


def typical(d: Dim) -> int:
    """The value of an expression with every size symbol at its typical size."""

    def lookup(atom: Atom) -> int:
        assert not isinstance(atom, Cell), atom
        return TYPICAL_SIZE

    return int(value_of(d, lookup))


def plan(lifetimes: list[Lifetime], given: set[Symbol]) -> Plan:
    """Plans the arena.

    Args:
        lifetimes: every temporary with its first and last step.
        given: size symbols that the inputs give; a temporary of another size grows by itself.
    """
    growing = [t for t in lifetimes if not given.issuperset(size_symbols([t.buffer.numel]))]
    fixed = [t for t in lifetimes if t not in growing]
    order = sorted(fixed, key=lambda t: (-typical(t.bytes), t.first, t.buffer.name))
    placed: list[tuple[int, Lifetime]] = []
    for t in order:
        position = 0
        for at, other in sorted((p for p in placed if p[1].meets(t)), key=lambda p: p[0]):
            if position + typical(t.bytes) <= at:
                break
            position = max(position, at + typical(other.bytes))
        placed.append((position, t))
    placed.sort(key=lambda p: (p[0], p[1].first, p[1].buffer.name))
    offsets: dict[str, Dim] = {}
    for k, (_, t) in enumerate(placed):
        below = [other for _, other in placed[:k] if other.meets(t)]
        direct = [
            a for a in below if not any(_between(placed, a, c, t) for c in below if c is not a)
        ]
        offset = _highest([_end(offsets, a) for a in direct])
        offsets[t.buffer.name] = offset
    tops = [t for k, (_, t) in enumerate(placed) if not any(o.meets(t) for _, o in placed[k + 1 :])]
    total = _highest([_end(offsets, t) for t in tops])
    intermediates: Dim = 0
    for t in fixed:
        intermediates = intermediates + t.buffer.numel * t.buffer.dtype.size
    return Plan(offsets, total, intermediates, tuple(t.buffer.name for t in growing))


def _highest(ends: list[Dim]) -> Dim:
    """The largest of these; ends that cannot win are dropped where that is cheap to see."""
    kept = list(dict.fromkeys(ends))
    if len(kept) <= 1:
        return kept[0] if kept else 0
    if all(isinstance(d, int) or len(d.terms) <= 2 for d in kept):
        return maximum(*kept)
    return as_poly(Max(*sorted(kept, key=str)))


def _end(offsets: dict[str, Dim], t: Lifetime) -> Dim:
    """Where a temporary ends; an offset that is a maximum is named, not repeated."""
    offset = offsets[t.buffer.name]
    if isinstance(offset, Poly) and (
        len(offset.terms) > 2 or any(isinstance(a, Max) for a in offset.atoms)
    ):
        offset = as_poly(offset_symbol(t.buffer.name))
    return offset + t.bytes


def _between(placed: list[tuple[int, Lifetime]], a: Lifetime, c: Lifetime, t: Lifetime) -> bool:
    """Whether c is stacked on a, so that the constraint of a on t follows from that of c."""
    order = {id(p[1]): k for k, p in enumerate(placed)}
    return order[id(a)] < order[id(c)] and a.meets(c)
