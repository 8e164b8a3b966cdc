"""Operations: statements with a meaning of their own, such as a matrix product or a sort.

An operation is a frozen dataclass whose fields name what it reads (:class:`Operand`), its sizes and
attributes, and what is fused into it (:class:`Epilogue`). How a device computes it is a matter of the target:
packing, workspace, argument order, header files and C++ types are nowhere here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import numpy.typing as npt

from sofie_root.ir.dim import Dim, Poly, Symbol, product
from sofie_root.ir.dtype import DType
from sofie_root.ir.types import Shape

from .expr import Expr

Array = npt.NDArray[Any]
Resolve = Callable[[Dim], int]
"""Turns a size into its number."""


def contiguous_strides(shape: Shape) -> tuple[Dim, ...]:
    """Row-major strides in elements."""
    return tuple(product(shape[axis + 1 :]) for axis in range(len(shape)))


@dataclass(frozen=True, slots=True)
class Operand:
    """What an operation reads: a strided view of a buffer, of the buffer's element type."""

    buffer: str
    dtype: DType
    shape: Shape
    offset: Dim
    strides: tuple[Dim, ...]

    def fits(self, layout: str) -> bool:
        """Whether this has the layout that a target asks for; see :attr:`Form.layouts`."""
        if layout == "rows":
            return self.shape[-1] == 1 or self.strides[-1] == 1
        return layout == "strided" or all(
            d == 1 or a == b
            for d, a, b in zip(
                self.shape, self.strides, contiguous_strides(self.shape), strict=True
            )
        )


@dataclass(frozen=True, slots=True)
class Epilogue:
    """What is done to each element that an operation computes before it goes on.

    ``vars`` are the indices of the element, ``body`` an expression of them and of ``Acc``.
    """

    vars: tuple[Symbol, ...]
    body: Expr


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """Base of operations.

    A subclass adds its operands, sizes and attributes as fields and says in :meth:`evaluate` what it means.

    Attributes:
        outputs: buffers written whole; None where the output is not wanted.
        origin: names of the nodes that this stands for.
    """

    outputs: tuple[str | None, ...]
    origin: tuple[str, ...] = ()

    cached_reads: frozenset[str] | None = field(default=None, init=False, repr=False, compare=False)
    """Names of what it reads; see :func:`~.uses.reads`."""

    SLOT: ClassVar[str] = ""
    """The field that holds an :class:`Epilogue`: ``"fused"`` where it is done to the elements of the first
    output before they are stored, ``"scores"`` where it is done to the scores of attention; "" for none."""

    # -- what it reads -----------------------------------------------------------------------------------
    @property
    def operands(self) -> dict[str, Operand]:
        """What it reads by field; of a field that holds several, ``field[k]``."""
        found: dict[str, Operand] = {}
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, Operand):
                found[f.name] = value
            elif isinstance(value, tuple):
                for k, part in enumerate(value):
                    if isinstance(part, Operand):
                        found[f"{f.name}[{k}]"] = part
        return found

    @property
    def inputs(self) -> tuple[Operand, ...]:
        """What it reads, in the order of the fields."""
        return tuple(self.operands.values())

    def with_inputs(self, inputs: Sequence[Operand]) -> Self:
        """The same operation of other operands."""
        rest = iter(inputs)
        changed: dict[str, Any] = {}
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, Operand):
                changed[f.name] = next(rest)
            elif isinstance(value, tuple) and any(isinstance(part, Operand) for part in value):
                changed[f.name] = tuple(
                    next(rest) if isinstance(part, Operand) else part for part in value
                )
        return replace(self, **changed)

    # -- what is fused into it ---------------------------------------------------------------------------
    @property
    def epilogue(self) -> Epilogue | None:
        """What its slot holds."""
        return getattr(self, self.SLOT) if self.SLOT else None

    def with_epilogue(self, epilogue: Epilogue | None) -> Self:
        """The same with another expression in its slot."""
        slot: dict[str, Any] = {self.SLOT: epilogue}
        return replace(self, **slot)

    # -- what it means -----------------------------------------------------------------------------------
    @property
    def sizes(self) -> Iterator[Dim]:
        """Expressions of sizes among its fields, those of operands not included."""
        for f in fields(self):
            value = getattr(self, f.name)
            for part in value if isinstance(value, tuple) else (value,):
                if isinstance(part, Poly):
                    yield part

    def evaluate(self, resolve: Resolve, **operands: Any) -> list[Array]:
        """The outputs in NumPy, before anything that is fused into the result.

        Args:
            resolve: turns a size into its number.
            operands: an array for each operand, by the name of its field; None for one that is omitted,
                and a list for a field that holds several. Operations whose slot is not the result get a
                function of arrays under the slot's name.

        Returns:
            An array for each output; the caller gives it the shape of its buffer.

        Raises:
            IndexError: an index among the operands is out of range.
        """
        raise NotImplementedError(type(self).__name__)

    def multiply_adds(self, resolve: Resolve) -> int | None:
        """Multiplications that are summed up, as the textbook counts them; None where that is not its work.

        Args:
            resolve: turns a size into its number.
        """
        return None

    @property
    def needs_infinity(self) -> str:
        """Why it depends on NaN or infinity, in words; empty where it does not."""
        return ""

    @property
    def title(self) -> str:
        """What it is called in the text form."""
        return type(self).__name__

    def __str__(self) -> str:
        outs = ", ".join(o or "_" for o in self.outputs)
        ins = ", ".join(
            f"{name}={o.buffer}[{', '.join(map(str, o.shape))}]"
            for name, o in self.operands.items()
        )
        text = f"{self.title}({ins}) -> {outs}"
        return f"{text}     {self.SLOT} {self.epilogue.body}" if self.epilogue else text


def arrays_of(operation: Operation, read: Callable[[Operand], Array]) -> dict[str, Any]:
    """The arguments of :meth:`Operation.evaluate` that are arrays."""
    found: dict[str, Any] = {}
    for name in operation.__dataclass_fields__:
        value = getattr(operation, name)
        kind = str(operation.__dataclass_fields__[name].type)
        if isinstance(value, Operand):
            found[name] = np.asarray(read(value))
        elif kind == "Operand | None":
            found[name] = None
        elif kind.startswith("tuple[Operand"):
            found[name] = [None if part is None else np.asarray(read(part)) for part in value]
    return found


@dataclass(frozen=True, slots=True)
class Form:
    """In which form a target takes an operation.

    Attributes:
        layouts: per operand ``"contiguous"``, ``"strided"`` or ``"rows"`` (strided, but for the last axis),
            by its name in :attr:`Operation.operands`.
        layout_of_others: layout of the operands that are not named.
        epilogue_axes: groups of axes of the result that index an epilogue, the last group being computed
            many at a time; None where nothing can be fused.
        writes_all: whether it needs memory for outputs that nobody reads, too.
        converts: whether an epilogue may give another dtype than is computed in.
    """

    layouts: tuple[tuple[str, str], ...] = ()
    layout_of_others: str = "contiguous"
    epilogue_axes: tuple[tuple[int, ...], ...] | None = None
    writes_all: bool = False
    converts: bool = False

    def layout(self, operand: str) -> str:
        """Layout in which this operand must be."""
        return dict(self.layouts).get(operand, self.layout_of_others)


class Forms(Protocol):
    """What stages ask a target about operations."""

    def form(self, operation: Operation) -> Form:
        """In which form the target takes this operation."""


class AnyForm:
    """Takes every operation as it is, with nothing fused: for programs that are only interpreted."""

    def form(self, operation: Operation) -> Form:
        """Operands with any strides."""
        return Form(layout_of_others="strided")
