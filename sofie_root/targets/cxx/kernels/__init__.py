"""Calls of the functions in ``core/``, which every C++ target has.

Each module registers the operations that it knows with :func:`call`. The modules are found by being in this
folder.
"""

from __future__ import annotations

import pkgutil
from functools import singledispatch
from importlib import import_module

from sofie_root.program.operation import Operation
from sofie_root.targets.cxx.call import Call


@singledispatch
def call(operation: Operation) -> Call | None:
    """How an operation is called; None for one that ``core/`` has no function for."""
    return None


for _module in pkgutil.iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
