"""The CPU as a target: vectors of up to 16 floats, one thread for each Session."""

from __future__ import annotations

from sofie_root.ir.dim import Dim
from sofie_root.ir.dtype import DType
from sofie_root.program.nest import Step
from sofie_root.program.operation import Form, Operation
from sofie_root.program.program import Program
from sofie_root.schedule.arithmetic import simplify_arithmetic, unroll_reductions
from sofie_root.schedule.attention import fuse_attention
from sofie_root.schedule.epilogue import fuse_epilogues
from sofie_root.schedule.hoist import hoist_indices
from sofie_root.schedule.inline import Decisions, compose_views, inline
from sofie_root.schedule.linear import move_linear_maps
from sofie_root.schedule.narrow import sum_narrow_products
from sofie_root.schedule.place import write_in_place
from sofie_root.schedule.schedule import Schedule, store_outputs
from sofie_root.schedule.split import split_indices
from sofie_root.targets.base import Printer, Target
from sofie_root.targets.cxx.call import Call
from sofie_root.targets.cxx.names import Identifiers
from sofie_root.targets.cxx.shared import Shared

from .choose import choose_forms
from .kernels import call
from .kernels.gemm import pack_weights
from .nest import build
from .order import order_loops
from .printer import CpuPrinter


class Cpu(Target):
    """One thread of a CPU, with SIMD kernels and packed weights."""

    name = "cpu"
    headers = frozenset(("core/session.hxx", "cpu/math.hxx"))
    stages = (
        choose_forms,
        store_outputs,
        unroll_reductions,
        compose_views,
        order_loops,  # before loops are joined: what several read is stored in the best order for all
        inline,
        split_indices,
        write_in_place,
        order_loops,
        inline,
        move_linear_maps,
        sum_narrow_products,
        split_indices,
        inline,
        fuse_epilogues,
        fuse_attention,
        simplify_arithmetic,
        hoist_indices,
        pack_weights,
    )

    def form(self, operation: Operation) -> Form:
        """That of its kernel; any, before one is chosen."""
        called = self.call(operation)
        return Form(layout_of_others="strided") if called is None else called.kernel

    def call(self, operation: Operation) -> Call | None:
        """How it is called; None for an operation that no form was chosen for yet."""
        return call(operation)

    def workspaces(self, operation: Operation) -> tuple[tuple[Dim, DType], ...]:
        """Those of its kernel."""
        called = self.call(operation)
        assert called is not None, operation
        return tuple((s.size, s.dtype) for s in called.workspaces)

    def nest(self, program: Program, decisions: Decisions) -> list[Step]:
        """Loops joined where they share indices, with temporaries in registers and on the stack."""
        return build(program, decisions)

    def printer(
        self, schedule: Schedule, names: Identifiers, pointers: dict[str, str], shared: Shared
    ) -> Printer:
        """Loops over vectors, and calls of kernels."""
        return CpuPrinter(schedule, names, pointers, shared.headers, shared.traits, shared.structs)


CPU = Cpu()
