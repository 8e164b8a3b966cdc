"""What a model would be given for the events of a data frame, as NumPy arrays."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sofie_root.errors import DataFrameError, InputError
from sofie_root.ir import DType
from sofie_root.samples import Sample

from .dataframe import book, make_functor
from .distributed import is_distributed
from .interpreter import TensorInfo, cpp_literal, declare, describe_cpp, import_root
from .session import Session

if TYPE_CHECKING:
    from .dataframe import Columns, Layout

_declared: set[str] = set()


def read_events(
    session: Session, df: Any, columns: Columns | None, layout: Layout, limit: int
) -> list[Sample]:
    """The model's inputs for the first events, made of columns as in the event loop.

    A model of the same inputs is run, whose outputs are its inputs and the sizes of the symbolic dims.

    Raises:
        DataFrameError: columns do not fit, or there are no events.
        InputError: an event does not.
    """
    if is_distributed(df):
        raise DataFrameError("events are read from a data frame of this process")
    booking = book(session, df, columns, None, layout, "raise")
    sizes = TensorInfo("sizes", DType.INT64, (max(len(session.symbols), 1),), False)
    outputs = [*session.inputs, sizes]
    echo = _declare_echo(session, outputs)
    echoing = replace(booking, session=echo, outputs=list(range(len(outputs))))
    root = import_root()
    # There are no ranges where several threads read events.
    many = root.IsImplicitMTEnabled()
    df = df.Filter(f"rdfentry_ < {limit}ull") if many else df.Range(limit)
    functor = make_functor(echoing, int(df.GetNSlots()))
    df = df.DefineSlotEntry("rdf_sofie_inputs_", functor.with_entry(), echoing.columns)
    names = [f"sofie_input_{k}" for k in range(len(outputs))]
    for k, name in enumerate(names):
        df = df.Define(name, f"std::get<{k}>(rdf_sofie_inputs_)")
    try:
        found = df.AsNumpy(names)
    except Exception as error:  # one of C++, which has no common base here
        raise InputError(f"an event does not fit the model: {error}") from error
    samples = [
        _sample(session, [found[name][event] for name in names])
        for event in range(len(found[names[-1]]))
    ]
    if not samples:
        raise DataFrameError("the data frame has no events")
    return samples


def _sample(session: Session, values: list[Any]) -> Sample:
    dims = dict(zip(session.symbols, map(int, np.atleast_1d(values[-1])), strict=False))
    inputs = {}
    for tensor, value in zip(session.inputs, values, strict=False):
        shape = [dims[d] if isinstance(d, str) else d for d in tensor.shape]
        array = np.atleast_1d(np.asarray(value))
        inputs[tensor.name] = array.astype(tensor.dtype.numpy).reshape(shape)
    return Sample(dims, inputs, {})


def _declare_echo(session: Session, outputs: list[TensorInfo]) -> str:
    """The name of a C++ class that looks like the model's Session and returns its inputs."""
    symbols = session.symbols
    name = f"{session.library.namespace}_inputs"
    if name in _declared:
        return f"{name}::Session"
    described = [
        describe_cpp(f"{kind}{k}", t, symbols)
        for kind, tensors in (("Input", session.inputs), ("Output", outputs))
        for k, t in enumerate(tensors)
    ]
    sizes = [f"std::size_t n{k}" for k in range(len(symbols))]
    taken = [f"const {t.dtype.cpp}* in{k}" for k, t in enumerate(session.inputs)]
    given = [f"{t.dtype.cpp}* out{k}" for k, t in enumerate(outputs)]
    lines = []
    for k, tensor in enumerate(session.inputs):
        factors = [f"n{symbols.index(d)}" if isinstance(d, str) else str(d) for d in tensor.shape]
        count = " * ".join(["std::size_t{1}", *factors])
        lines.append(f"for (std::size_t i = 0; i < {count}; ++i) out{k}[i] = in{k}[i];")
    last = f"out{len(session.inputs)}"
    lines.append(f"{last}[0] = 0;")
    lines += [f"{last}[{k}] = static_cast<std::int64_t>(n{k});" for k in range(len(symbols))]
    described_text, body = "\n".join(described), "\n    ".join(lines)
    declare(f"""#include <sofie/core/half.hxx>
#include <sofie/core/runtime.hxx>
namespace {name} {{
struct Session {{
  static constexpr std::size_t kSymbols = {len(symbols)};
  static constexpr const char* kSymbolNames[{max(len(symbols), 1)}] = {{{
        ", ".join(map(cpp_literal, symbols)) or '""'
    }}};
{described_text}
  using Inputs = std::tuple<{", ".join(f"Input{k}" for k in range(len(session.inputs)))}>;
  using Outputs = std::tuple<{", ".join(f"Output{k}" for k in range(len(outputs)))}>;
  void infer_to({", ".join([*sizes, *taken, *given])}) {{
    {body}
  }}
  void prepare({", ".join(sizes)}) {{}}
  std::vector<std::size_t> output_shape(std::size_t) const {{ return {{}}; }}
}};
}}
""")
    _declared.add(name)
    return f"{name}::Session"


__all__ = ["read_events"]
