"""What a target is: its stages of scheduling, how it joins loops, and what prints its code."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import ClassVar, Protocol

from sofie_root.ir.dim import Dim
from sofie_root.ir.dtype import DType
from sofie_root.program.nest import Step
from sofie_root.program.operation import Form, Operation
from sofie_root.program.program import Program
from sofie_root.program.statement import Check
from sofie_root.schedule.inline import Decisions
from sofie_root.schedule.schedule import Schedule, Stage

from .cxx.names import Identifiers
from .cxx.shared import Shared
from .cxx.text import Scope


class Printer(Protocol):
    """Prints the steps of one schedule as C++."""

    def step(self, k: int) -> list[str]:
        """Lines of step ``k``, its comment first."""

    def check(self, check: Check, scope: Scope) -> list[str]:
        """The line that checks two sizes."""

    def whose(self, dims: Iterable[Dim]) -> str:
        """Which inputs the sizes in these expressions are of."""

    def scope(self) -> Scope:
        """The size symbols that have a value so far, and all buffers."""


class Target(ABC):
    """A kind of device that code is generated for.

    Attributes:
        name: what users call it: ``generate(..., target=name)``.
        stages: what is done to a lowered program, in this order. After each stage it is well formed and
            means the same.
        headers: headers of ``sofie/`` that each Session needs.
        namespace: where its functions are inside of ``sofie``; "" for ``sofie`` itself.
    """

    name: ClassVar[str]
    stages: ClassVar[tuple[Stage, ...]]
    headers: ClassVar[frozenset[str]]
    namespace: ClassVar[str] = ""

    @abstractmethod
    def form(self, operation: Operation) -> Form:
        """In which form it takes an operation."""

    @abstractmethod
    def workspaces(self, operation: Operation) -> tuple[tuple[Dim, DType], ...]:
        """Number of elements and their type of each workspace that an operation needs in the arena."""

    @abstractmethod
    def nest(self, program: Program, decisions: Decisions) -> list[Step]:
        """The program as steps: loops joined into nests, and what stands between them."""

    @abstractmethod
    def printer(
        self, schedule: Schedule, names: Identifiers, pointers: dict[str, str], shared: Shared
    ) -> Printer:
        """What prints the steps of a schedule.

        Args:
            schedule: what to print.
            names: identifiers of buffers (key: buffer name) and size symbols (key: Symbol).
            pointers: C++ text of the pointer to each buffer.
            shared: what all structs of one header share; the printer adds headers and traits.
        """
