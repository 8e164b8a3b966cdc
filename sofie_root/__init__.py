"""sofie_root: a trained neural network as C++ that runs inside a ROOT analysis.

``load`` reads an ONNX (or ``.root``) file, ``Model.session`` runs it from NumPy, ``Model.generate``
prints a C++ header, and ``SofieFunctor`` or ``define`` puts it into an RDataFrame. ``operator`` registers
operators of your own, subclasses of ``Op`` or ``CppOp``; ``GraphBuilder`` makes a model without a file.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .config import VERSION
from .errors import SelfTestWarning, SofieError
from .runtime.interpreter import prepare_cling

if TYPE_CHECKING:
    from .budget import Budget
    from .build import GraphBuilder
    from .ir import Op, TensorType, operator
    from .model import InspectReport, Model, load
    from .ops.custom import CppOp
    from .runtime.dataframe import SofieFunctor, define
    from .runtime.session import Session

__version__ = VERSION

prepare_cling()  # ROOT's interpreter reads its flags once, when it starts

_PLACES = {
    "Budget": ".budget",
    "CppOp": ".ops.custom",
    "GraphBuilder": ".build",
    "InspectReport": ".model",
    "Model": ".model",
    "Op": ".ir.op",
    "Session": ".runtime.session",
    "SofieFunctor": ".runtime.dataframe",
    "TensorType": ".ir.types",
    "define": ".runtime.dataframe",
    "load": ".model",
    "operator": ".ir.op",
}


def __getattr__(name: str) -> Any:
    """Imports each name when it is first asked for, so that the command's help is there at once."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_PLACES[name], __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PLACES})


__all__ = [
    "Budget",
    "CppOp",
    "GraphBuilder",
    "InspectReport",
    "Model",
    "Op",
    "SelfTestWarning",
    "Session",
    "SofieError",
    "SofieFunctor",
    "TensorType",
    "__version__",
    "define",
    "load",
    "operator",
]
