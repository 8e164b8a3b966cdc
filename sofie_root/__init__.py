"""sofie_root: a trained neural network as C++ that runs inside a ROOT analysis.

``load`` reads an ONNX (or ``.root``) file, ``Model.session`` runs it from NumPy, ``Model.generate`` prints
a C++ header, and ``SofieFunctor`` or ``define`` puts it into an RDataFrame.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import SofieError
from .model import VERSION, InspectReport, Model, load
from .runtime.interpreter import prepare_cling

if TYPE_CHECKING:
    from .runtime.dataframe import SofieFunctor, define
    from .runtime.session import Session

__version__ = VERSION

prepare_cling()  # ROOT's interpreter reads its flags once, when it starts


def __getattr__(name: str) -> Any:
    """Loads the parts that need ROOT only when they are asked for."""
    if name in ("SofieFunctor", "define"):
        from .runtime import dataframe

        return getattr(dataframe, name)
    if name == "Session":
        from .runtime.session import Session

        return Session
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["InspectReport", "Model", "Session", "SofieError", "SofieFunctor", "define", "load"]
