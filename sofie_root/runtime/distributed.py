"""A model in a distributed RDataFrame: its code is shipped to the workers as text.

A functor object cannot be shipped (the job would hang), and there is no DefineSlot. So the workers declare
the header, weights included, and a function that they call from a Define. Give each worker one thread:
with more, ROOT 6.40 itself computes wrong sums.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from sofie_root.errors import DataFrameError, ToolchainError
from sofie_root.targets.cxx.bundle import bundle

from .booking import Booking
from .interpreter import cpp_literal, import_root, with_unique_namespace
from .session import Session

if TYPE_CHECKING:
    from sofie_root.model import Model


def is_distributed(df: Any) -> bool:
    """Whether this is a data frame of ROOT's distributed kind."""
    return "distrdf" in type(df).__module__.lower()


def distribute(model: Model | Session, booking: Booking) -> str:
    """Ships the model to the workers.

    Workers should have ``EXTRA_CLING_ARGS`` of
    :data:`~sofie_root.runtime.interpreter.CLING_FLAGS` in their environment, for speed.

    Returns:
        The expression for Define.

    Raises:
        DataFrameError: a Session was given, which cannot be shipped.
        ToolchainError: the code does not compile here, so it would not there.
    """
    if isinstance(model, Session):
        raise DataFrameError("a distributed data frame needs the model itself, not a Session of it")
    kernels, sofie = bundle(["root/functor.hxx"])
    header, namespace = with_unique_namespace(model.header(weights="embedded").text)
    arguments = ", ".join(booking.arguments(sofie, "Session"))
    numbered = [f"c{k}" for k in range(len(booking.types))]
    columns = [f"const {t}& {c}" for t, c in zip(booking.types, numbered, strict=True)]
    parameters = ", ".join(["ULong64_t entry", *columns])
    labels = ", ".join(cpp_literal(label) for label in booking.labels())
    on_error = f"::{sofie}::OnError::{booking.on_error}()"
    if not isinstance(booking.on_error, str):
        on_error = f"::{sofie}::OnError::value({booking.on_error!r})"
    # One Session per thread: tasks of a worker may run in several, all of them as slot 0.
    body = f"""
  thread_local const ::{sofie}::Functor<{arguments}> functor(1, "", {{{labels}}}, {on_error});
  return functor.at({", ".join(["0", "entry", *numbered])});
"""
    function = f"evaluate_{hashlib.sha256((parameters + body).encode()).hexdigest()[:12]}"
    code = f"""{kernels}
{header}
namespace {namespace} {{
inline auto {function}({parameters}) {{{body}}}
}}
"""
    root = import_root()
    root.RDF.Distributed.DistributeCppCode(code)
    if not hasattr(getattr(root, namespace), function):
        raise ToolchainError("cling cannot compile the code for the workers; its message is above")
    return f"{namespace}::{function}({', '.join(['rdfentry_', *(booking.columns or [])])})"
