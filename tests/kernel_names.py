"""Which C++ kernel the CPU takes for an operation."""

from __future__ import annotations

from sofie_root.program.operation import Operation
from sofie_root.targets.cpu.target import CPU


def kernel_name(operation: Operation) -> str:
    """Name of the function in namespace sofie."""
    called = CPU.call(operation)
    assert called is not None, operation
    return called.kernel.name
