"""The CPU's kernels: for each operation how it is called, how its weights are packed, and what it needs.

Each module registers its operations with :func:`call`; what the plain operation of a model becomes is
registered with :func:`choose`. The modules are found by being in this folder. Operations that need no SIMD
are called as by every C++ target (``targets/cxx/kernels``).
"""

from __future__ import annotations

import pkgutil
from functools import singledispatch
from importlib import import_module

from sofie_root.program.builder import Builder, Tensor
from sofie_root.program.operation import Operation
from sofie_root.targets.cxx import kernels as core
from sofie_root.targets.cxx.call import Call


@singledispatch
def call(operation: Operation) -> Call | None:
    """How an operation is called; None for one that must be replaced first (see :func:`choose`)."""
    return core.call(operation)


@singledispatch
def choose(operation: Operation, b: Builder) -> Operation | tuple[Tensor | None, ...] | None:
    """Writes the statements that compute an operation in the form that is best for this CPU.

    Returns:
        The operation that takes its place and writes the same outputs, or the tensors that hold what its
        outputs should; None where the operation is called as it is.
    """
    return None


for _module in pkgutil.iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
