"""The reference target: plain C++17, one loop nest for each loop of the program."""

from __future__ import annotations

from sofie_root.ir.dim import Dim
from sofie_root.ir.dtype import DType
from sofie_root.program.nest import For, Nest, Step
from sofie_root.program.operation import Form, Operation
from sofie_root.program.program import Program
from sofie_root.program.statement import Loop
from sofie_root.schedule.inline import Decisions, compose_views, remove_dead_statements
from sofie_root.schedule.schedule import Schedule, store_outputs
from sofie_root.targets.base import Printer, Target
from sofie_root.targets.cxx.call import Call
from sofie_root.targets.cxx.names import Identifiers
from sofie_root.targets.cxx.shared import Shared

from .kernels import call
from .printer import ReferencePrinter


def drop_unread(program: Program, decisions: Decisions) -> None:
    """Drops statements that nobody reads.

    Needs: composed views. Leaves: no view that has been composed into all that read it.
    """
    remove_dead_statements(program)


class Reference(Target):
    """Scalar loops, one for each statement, and kernels that are written as their formulas are.

    Nothing is fused and nothing is packed, so that each line of the code belongs to one node of the model.
    """

    name = "reference"
    namespace = "reference"
    headers = frozenset(("core/session.hxx", "reference/math.hxx"))
    stages = (store_outputs, compose_views, drop_unread)

    def call(self, operation: Operation) -> Call:
        """How it is called."""
        called = call(operation)
        assert called is not None, operation
        return called

    def form(self, operation: Operation) -> Form:
        """That of its kernel."""
        return self.call(operation).kernel

    def workspaces(self, operation: Operation) -> tuple[tuple[Dim, DType], ...]:
        """Those of its kernel."""
        return tuple((s.size, s.dtype) for s in self.call(operation).workspaces)

    def nest(self, program: Program, decisions: Decisions) -> list[Step]:
        """Each loop on its own."""
        return [_nest(s) if isinstance(s, Loop) else s for s in program.statements]

    def printer(
        self, schedule: Schedule, names: Identifiers, pointers: dict[str, str], shared: Shared
    ) -> Printer:
        """Loops over scalars, and calls of kernels."""
        return ReferencePrinter(
            schedule, names, pointers, shared.headers, shared.traits, shared.structs
        )


def _nest(loop: Loop) -> Nest:
    node: For | Loop = loop
    for var in reversed(loop.vars):
        node = For(var, [node])
    return Nest([node])


REFERENCE = Reference()
