"""A lowered model: buffers, and the statements that fill them in order.

There are three forms: a *view* is a loop whose body is a single read (it costs nothing once it is composed
into its readers), a *loop* computes one expression per element, pointwise or reducing, and an *operation*
(:mod:`.operation`) has a meaning of its own, such as a matrix product or a sort.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from sofie_root.ir.dim import (
    Atom,
    Broadcast,
    Dim,
    Min,
    Symbol,
    minimum,
    product,
    single_atom,
    size_symbols,
)
from sofie_root.ir.dtype import DType
from sofie_root.ir.graph import Graph
from sofie_root.ir.types import Shape

from .choice import Choice
from .expr import Expr, Load, map_dim_loads, map_loads, substitute_dims
from .operation import (
    AnyForm,
    Forms,
    Operand,
    Operation,
    contiguous_strides,
)

if TYPE_CHECKING:
    from .statements import Statements

Array = npt.NDArray[Any]
MOST_ELEMENTS = 1 << 44
"""The largest number of elements of a tensor, as in ``core/session.hxx``."""

BufferKind: TypeAlias = Literal["input", "output", "constant", "arena", "results"]


@dataclass(frozen=True, slots=True)
class Buffer:
    """Memory of a tensor, contiguous in row-major order."""

    name: str
    dtype: DType
    shape: Shape
    kind: BufferKind = "arena"

    @property
    def numel(self) -> Dim:
        """Number of elements."""
        return product(self.shape)

    @property
    def strides(self) -> tuple[Dim, ...]:
        """Elements between neighbours along each axis."""
        return contiguous_strides(self.shape)

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype}[{', '.join(map(str, self.shape))}]"


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


def _no_statements() -> Statements:
    from .statements import Statements  # it asks what the statements of this module read

    return Statements()


@dataclass(slots=True)
class Program:
    """Statements over buffers.

    Attributes:
        outputs: the buffer that holds each public name.
        choice: which kernels it may use.
        forms: in which form a target takes operations.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: dict[str, str]
    buffers: dict[str, Buffer] = field(default_factory=dict)
    constants: dict[str, Array] = field(default_factory=dict)
    choice: Choice = field(default_factory=Choice)
    forms: Forms = field(default_factory=AnyForm)
    _statements: Statements = field(default_factory=_no_statements)
    _suffixes: dict[str, int] = field(default_factory=dict, repr=False, compare=False)

    @property
    def statements(self) -> Statements:
        """The statements in order; edits of this list keep :meth:`readers` and :meth:`writers` up to date."""
        return self._statements

    @statements.setter
    def statements(self, statements: Sequence[Statement]) -> None:
        if statements is not self._statements:
            self._statements = type(self._statements)(statements)

    def readers(self, buffer: str) -> list[Statement]:
        """The statements that read a buffer (or the results of a branch or repetition), in order."""
        return self._statements.readers(buffer)

    def writers(self, buffer: str) -> list[Statement]:
        """The statements that write a buffer, in order."""
        return self._statements.writers(buffer)

    def writer(self, buffer: str) -> Statement | None:
        """The statement that alone writes a buffer; None where there is none or more than one."""
        return self._statements.writer(buffer)

    def replace(self, old: Statement, *new: Statement) -> None:
        """Puts statements (or none) into the place of one."""
        at = self._statements.place(old)
        if len(new) == 1:
            self._statements[at] = new[0]
        else:
            self._statements[at : at + 1] = new

    def knows_sizes(self, statement: Statement, dims: Iterable[Dim]) -> bool:
        """Whether all sizes in these expressions have their values when a statement runs."""
        sizes = set(size_symbols(dims))
        if not sizes:
            return True
        after = self._statements[self._statements.place(statement) :]
        return {s.symbol for s in after if isinstance(s, Bind)}.isdisjoint(sizes)

    def fresh(self, name: str) -> str:
        """A buffer name that is not taken: this one, or one with a number behind it."""
        if name not in self.buffers:
            return name
        suffix = self._suffixes.get(name, 0) + 1
        while f"{name}.{suffix}" in self.buffers:
            suffix += 1
        self._suffixes[name] = suffix  # those below it stay taken
        return f"{name}.{suffix}"

    def constant(self, buffer: str) -> Array | None:
        """The array of a constant buffer, else None."""
        return self.constants.get(buffer)

    def __str__(self) -> str:
        lines = [f"program {self.name}"]
        lines += [
            f"  {b.kind} {b}" for b in self.buffers.values() if b.kind in ("input", "constant")
        ]
        lines += [f"  {s}" for s in self.statements]
        lines += [f"  output {n} = {b}" for n, b in self.outputs.items()]
        return "\n".join(lines)


def ensure_contiguous(array: Array) -> Array:
    """The array in row-major order (a copy only where needed; never turns a scalar into a vector)."""
    return array if array.flags.c_contiguous else np.ascontiguousarray(array)
