"""What a Program is made of: loops, sizes that the run tells, checks, and control flow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from sofie_root.ir.dim import (
    Atom,
    Broadcast,
    Dim,
    Min,
    Symbol,
    minimum,
    single_atom,
)
from sofie_root.ir.graph import Graph

from .expr import Expr, Load, map_dim_loads, map_loads, substitute_dims
from .operation import (
    Operand,
    Operation,
)

ReduceKind: TypeAlias = Literal[
    "sum", "prod", "max", "min", "argmax", "argmax_last", "argmin", "argmin_last"
]


@dataclass(frozen=True, slots=True)
class Reduction:
    """How a loop combines the values over ``vars``.

    ``any`` and ``all`` are max and min of BOOL. The arg kinds give the flat position (INT64) of the first
    or last extreme value along the single reduced axis.
    """

    kind: ReduceKind
    vars: tuple[Symbol, ...]


Update: TypeAlias = Literal["replace", "sum", "prod", "max", "min"]
"""How a scattered value meets what an earlier statement left in its place."""


@dataclass(frozen=True, slots=True)
class Loop:
    """``for vars: output[index] = body``, or the reduction of ``body`` over ``reduction.vars``.

    Without ``update`` it writes each element at most once, and no other loop writes the same ones: loops
    that fill one buffer piece by piece may run in any order. With ``update`` it scatters: it writes over
    what earlier statements left, wherever its index says, and so comes after all that fill its buffer. Its
    iterations run in the order of ``vars``: where they meet, each one replaces or combines what is there.
    """

    output: str
    vars: tuple[Symbol, ...]
    index: tuple[Dim, ...]
    body: Expr
    reduction: Reduction | None = None
    origin: tuple[str, ...] = ()
    update: Update | None = None
    cached_reads: frozenset[str] | None = field(default=None, init=False, repr=False, compare=False)
    """Names of what it reads; see :func:`~.uses.reads`."""

    @property
    def is_view(self) -> bool:
        """Whether this only renames elements of another buffer."""
        return self.reduction is None and not self.scatters and isinstance(self.body, Load)

    @property
    def scatters(self) -> bool:
        """Whether it writes over what is there, an element more than once or not at all."""
        return self.update is not None

    def indices_at(self, index: Sequence[Dim]) -> dict[Atom, Dim] | None:
        """The value of each of its variables when it writes the element at ``index``.

        None where it walks its output otherwise than element by element along the axes.
        """
        mapping: dict[Atom, Dim] = {}
        for own, at in zip(self.index, index, strict=True):
            atom = single_atom(own)
            if isinstance(atom, Symbol) and atom in self.vars:
                mapping[atom] = at
            elif own != 0:
                return None
        return mapping if len(mapping) == len(self.vars) else None

    def at(self, index: Sequence[Dim]) -> Expr | None:
        """What it computes (or, if it reduces, what it combines) for the element at ``index``.

        None where it walks its output otherwise than element by element along the axes.
        """
        mapping = self.indices_at(index)
        return None if mapping is None else substitute_dims(self.body, mapping)

    def map_loads(self, fn: Callable[[Load], Expr]) -> Loop:
        """The loop with every read replaced by ``fn`` of it, those inside its target's index included."""
        index = tuple(map_dim_loads(d, fn) for d in self.index)
        return replace(self, index=index, body=map_loads(self.body, fn))

    def __str__(self) -> str:
        target = f"{self.output}[{', '.join(map(str, self.index))}]"
        ranges = " ".join(f"{v} < {v.extent}" for v in self.vars)
        value = str(self.body)
        if self.reduction:
            over = " ".join(f"{v} < {v.extent}" for v in self.reduction.vars)
            value = f"{self.reduction.kind}[{over}] {value}"
        return f"loop {ranges}: {target} {self.update or ''}= {value}"


@dataclass(frozen=True, slots=True)
class Bind:
    """Gives a size symbol its value at run time: ``symbol = value``."""

    symbol: Symbol
    value: Expr
    origin: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"bind {self.symbol} = {self.value}"


@dataclass(frozen=True, slots=True)
class Check:
    """Two sizes that must be equal when the model runs; ``why`` names the node that needs it."""

    a: Dim
    b: Dim
    why: str

    @property
    def parts(self) -> tuple[str, Dim, Dim]:
        """The kind of this check (``equal``, ``at_most``, ``broadcast`` or ``broadcast_to``), and of what."""
        joined = single_atom(self.a)
        if isinstance(joined, Broadcast) and self.b == self.a:
            return "broadcast", joined.a, joined.b
        if isinstance(joined, Broadcast) and self.b in joined.dims():
            return "broadcast_to", joined.a if self.b == joined.b else joined.b, self.b
        if isinstance(joined, Min) and self.b in joined.args:
            return "at_most", self.b, minimum(*(d for d in joined.args if d != self.b))
        return "equal", self.a, self.b

    @property
    def demand(self) -> str:
        """What must hold, in symbols."""
        kind, a, b = self.parts
        return {
            "equal": f"{a} == {b}",
            "at_most": f"{a} <= {b}",
            "broadcast": f"{a} == {b}, or one of them is 1",
            "broadcast_to": f"{a} is 1 or {b}",
        }[kind]

    def __str__(self) -> str:
        return f"check {self.demand}"


@dataclass(frozen=True, slots=True)
class Branch:
    """Runs one of two bodies; ``inputs`` are the condition and what both bodies read.

    What the chosen body gives is kept as the results of ``name``: ``ResultSize`` reads their sizes and
    :class:`Fetch` puts them into buffers.
    """

    name: str
    bodies: tuple[Graph, ...]
    inputs: tuple[Operand, ...]
    origin: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"branch {self.name}({', '.join(o.buffer for o in self.inputs)})"


@dataclass(frozen=True, slots=True)
class Repeat:
    """Runs a body again and again; its results are the final states and the stacked outputs.

    Attributes:
        name: under which the results are known.
        bodies: the one body.
        inputs: trip count and condition (where they exist), states, slices, captures, in this order.
        trips: whether the first input is a trip count.
        condition: whether the next input is a condition.
        count: number of iterations where it is a size; None where trip count and condition decide.
        numbered: whether the body takes the iteration number and the condition first, and gives the
            condition first (Loop).
        states: number of states.
        slices: number of inputs of which each iteration gets one slice along axis 0.
        origin: names of the nodes that this stands for.
    """

    name: str
    bodies: tuple[Graph, ...]
    inputs: tuple[Operand, ...]
    trips: bool = False
    condition: bool = False
    count: Dim | None = None
    numbered: bool = False
    states: int = 0
    slices: int = 0
    origin: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"repeat {self.name}({', '.join(o.buffer for o in self.inputs)})"


@dataclass(frozen=True, slots=True)
class Fetch:
    """Copies result ``k`` of a branch or repetition into a buffer."""

    output: str
    control: str
    k: int
    origin: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"fetch {self.output} = {self.control}.{self.k}"


Statement: TypeAlias = Loop | Operation | Bind | Check | Branch | Repeat | Fetch
