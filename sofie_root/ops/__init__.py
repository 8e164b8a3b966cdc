"""The operators of ONNX, one class each; importing this package fills ``ir.OPERATORS``.

The modules are found by being in this folder.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module

for _module in pkgutil.iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
