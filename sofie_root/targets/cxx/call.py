"""How an operation is called in C++: the function, its header, and what each argument is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from sofie_root.ir.dim import Dim
from sofie_root.ir.dtype import DType
from sofie_root.program.operation import Form


@dataclass(frozen=True, slots=True)
class In:
    """Pointer to the first element of an operand, by its name in ``Operation.operands``."""

    operand: str


@dataclass(frozen=True, slots=True)
class Stride:
    """Elements between neighbours of an operand along ``axis``."""

    operand: str
    axis: int


@dataclass(frozen=True, slots=True)
class Strides:
    """A braced list of the strides of an operand, axis by axis."""

    operand: str


@dataclass(frozen=True, slots=True)
class Out:
    """Pointer to output ``k`` (``nullptr`` where nobody reads it)."""

    k: int = 0


@dataclass(frozen=True, slots=True)
class Extents:
    """A braced list of sizes, ``{h, w}``."""

    dims: tuple[Dim, ...]


@dataclass(frozen=True, slots=True)
class Scratch:
    """Pointer to workspace of ``size`` elements of ``dtype``, from the arena."""

    size: Dim
    dtype: DType


@dataclass(frozen=True, slots=True)
class Null:
    """An omitted pointer, ``nullptr``."""


@dataclass(frozen=True, slots=True)
class Spanned:
    """A ``sofie::Span`` of an operand or output with its shape; None: an empty one."""

    of: In | Out | None


@dataclass(frozen=True, slots=True)
class Plain:
    """An attribute as it is: a number, a text, or a tuple of numbers."""

    value: Any


@dataclass(frozen=True, slots=True)
class Functor:
    """Value of a trait: an object of a C++ class in namespace ``sofie``, made from these numbers."""

    name: str
    args: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Fused:
    """The lambda of what is fused into the operation."""


@dataclass(frozen=True, slots=True)
class Struct:
    """An object of a C++ struct in namespace ``sofie``, made from these members."""

    type: str
    members: tuple[Arg, ...]


Arg: TypeAlias = (
    Dim | In | Stride | Strides | Out | Extents | Scratch | Null | Spanned | Plain | Fused | Struct
)
"""One argument of the C++ call; a Dim prints as ``sofie::fixed<8>{}`` or a run-time size."""

Traits: TypeAlias = tuple[tuple[str, Any], ...]
"""Members of a trait struct: ints, bools, floats, tuples of ints, or functors."""


@dataclass(frozen=True, slots=True)
class CppKernel(Form):
    """A C++ function, and the form in which it takes an operation.

    Attributes:
        name: function in namespace ``sofie``; one of a user's starts with ``::``.
        header: file under ``cpp/include/sofie`` that declares it; of a user's the absolute path.
        named_epilogues: whether it knows the frequent epilogues by name (``cpu/epilogue.hxx``).
    """

    name: str = ""
    header: str = ""
    named_epilogues: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a C++ function.

    Attributes:
        kernel: which function.
        args: its arguments in order.
        traits: members of the trait struct that is the first template argument (empty: none).
        types: further template arguments, C++ text made by the target's code.
    """

    kernel: CppKernel
    args: tuple[Arg, ...]
    traits: Traits = ()
    types: tuple[str, ...] = ()

    @property
    def workspaces(self) -> tuple[Scratch, ...]:
        """What it needs of the arena for itself."""
        return tuple(a for a in self.args if isinstance(a, Scratch))
