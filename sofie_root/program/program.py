"""A lowered model: buffers, and the statements that fill them in order.

There are three forms: a *view* is a loop whose body is a single read (it costs nothing once it is composed
into its readers), a *loop* computes one expression per element, pointwise or reducing, and an *operation*
(:mod:`.operation`) has a meaning of its own, such as a matrix product or a sort.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from sofie_root.ir.dim import (
    Dim,
    product,
    size_symbols,
)
from sofie_root.ir.dtype import DType
from sofie_root.ir.types import Shape

from .choice import Choice
from .operation import (
    AnyForm,
    Forms,
    contiguous_strides,
)
from .statement import Bind, Statement
from .use_def import Statements

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
    _statements: Statements = field(default_factory=Statements)
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
