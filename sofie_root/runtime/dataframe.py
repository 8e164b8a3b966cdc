"""Runs a model in an RDataFrame: checks columns, and makes the functor for ``DefineSlot``."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from sofie_root.errors import DataFrameError

from .booking import LAYOUTS, Booking, OnError
from .distributed import distribute, is_distributed
from .interpreter import TensorInfo, declare, import_root
from .session import Session

if TYPE_CHECKING:
    from sofie_root.model import Model

Columns: TypeAlias = Sequence[str] | Mapping[str, Sequence[str]]
Layout: TypeAlias = str | Mapping[str, str] | None


def SofieFunctor(  # noqa: N802  (a C++ class template of this name; that is what it returns)
    model: Model | Session,
    df_or_nslots: Any,
    columns: Columns | None = None,
    *,
    output: str | None = None,
    layout: Layout = None,
    on_error: OnError = "raise",
) -> Any:
    """A C++ functor that runs the model; for ``df.DefineSlot("y", functor, columns)``.

    It has one Session per slot. Which columns an input takes (a batch dimension counts as 1):

    - A list of values, [N, 16] or [40, 21]: as many numbers, or arrays that hold as many together, one
      after the other.
    - A table, [N, 25, 4] or [N, 4, n_pf]: as many columns as one axis has elements (4), each with
      one element per particle; a number among them stands for every particle. Or one array of all
      values.
    - If every input is [N, ...] and gets one column per value, arrays among them, N is the arrays'
      length: one evaluation per object of the event. A number stands for every object.

    Where that fits in several ways (25 columns for [N, 25, 25]) or in none, ``layout`` chooses.

    The result of an event is a number where the output has one element, else an RVec; of several
    outputs it is a ``std::tuple`` of these, so that ``Define("a", "std::get<0>(y)")`` reads one of
    them, or see ``output``.

    An event that the model cannot take (arrays of a wrong length, an index out of range) raises an
    exception that names the entry and has the columns' values, or gives what ``on_error`` says;
    ``functor.failed`` counts those, and one warning of ROOT's after the loop says how many there were.

    Args:
        model: the model, or a Session of it.
        df_or_nslots: the data frame (columns are checked against it), or a number of slots.
        columns: names of the columns, in the order of the model's inputs; or by input. None: each
            input takes numbers of its own type where it has at most 64 values, else arrays.
        output: name of the output to return; None: all.
        layout: how several array columns fill a table: ``"features last"`` (column k is x[..., k]),
            ``"features first"`` (x[k, ...] after the batch) or ``"concatenate"`` (one after the
            other); of all inputs that are tables, or by input.
        on_error: ``"raise"``, or what an event gets that fails: ``"nan"``, or a number. An output of
            several values gets as many of them, as far as their number is known, else none.

    Raises:
        DataFrameError: a column is missing, or its type or their number does not fit the model; an
            output is of integers, which ``on_error`` is not.
    """
    if is_distributed(df_or_nslots):
        raise DataFrameError("a distributed data frame takes no functor: use sofie_root.define")
    session = model if isinstance(model, Session) else model.session()
    df = None if isinstance(df_or_nslots, int) else df_or_nslots
    if df is None and columns is not None:
        raise DataFrameError("to check columns, the data frame is needed, not a number of slots")
    booking = book(session, df, columns, output, layout, on_error)
    return _functor(session, df_or_nslots, booking)


def define(
    df: Any,
    name: str,
    model: Model | Session,
    columns: Columns,
    *,
    output: str | None = None,
    layout: Layout = None,
    on_error: OnError = "raise",
) -> Any:
    """Adds the model's result to a data frame.

    Args:
        df: the data frame.
        name: the new column. Where the model has several outputs and none is picked, there is one
            column for each, ``name_output``, and the model still runs once per event.
        model: the model, or a Session of it.
        columns: see :func:`SofieFunctor`.
        output: name of the one output to define.
        layout: how array columns fill an input; see :func:`SofieFunctor`.
        on_error: what an event gets that fails; see :func:`SofieFunctor`. Workers of a distributed
            data frame warn in their own logs.

    Returns:
        The data frame with the new column or columns.

    Raises:
        DataFrameError: see :func:`SofieFunctor`; or the name is taken.
    """
    session = model if isinstance(model, Session) else model.session()
    booking = book(session, df, columns, output, layout, on_error)
    is_one = len(booking.outputs) == 1
    made = [name] if is_one else _column_per_output(name, [t.name for t in session.outputs])
    for column in made:
        if _has_column(df, column):
            raise DataFrameError(f"column {column!r} exists already: choose another name")
    # A name of the second form is private to RDataFrame: neither listed nor written by Snapshot.
    column = name if is_one else f"rdf_{name}_outputs_"
    if is_distributed(df):
        df = df.Define(column, distribute(model, booking))
    else:
        functor = _functor(session, df, booking)
        df = df.DefineSlotEntry(column, functor.with_entry(), booking.columns)
    if not is_one:
        for k, part in enumerate(made):
            df = df.Define(part, f"std::get<{k}>({column})")
    return df


def book(
    session: Session,
    df: Any,
    columns: Columns | None,
    output: str | None,
    layout: Layout,
    on_error: OnError,
) -> Booking:
    """Decides which columns make which input.

    Raises:
        DataFrameError: they do not fit.
    """
    outputs = _pick(session, output)
    layouts = _layouts(session, layout)
    names, counts = (None, []) if columns is None else _flatten(session, columns)
    for name in names or []:
        if not _has_column(df, name):
            raise DataFrameError(f"there is no column {name!r}{_hint(name, _column_names(df))}")
    types = [str(df.GetColumnType(name)) for name in names or []]
    session_type = session.library.session_type()
    if not isinstance(on_error, str):
        on_error = float(on_error)
    elif on_error not in ("raise", "nan"):
        raise DataFrameError(f"on_error is 'raise', 'nan' or a number, not {on_error!r}")
    booking = Booking(session_type, outputs, names, types, counts, layouts, on_error)
    functor = _functor_class(booking)
    if message := str(functor.misfit(_labels(booking)) or functor.misfit(_on_error(booking))):
        raise DataFrameError(message)
    return booking


def _layouts(session: Session, layout: Layout) -> list[str | None]:
    """The layout of each input; empty where none is chosen."""
    inputs = [t.name for t in session.inputs]
    if layout is None:
        return []
    by_input = layout if isinstance(layout, Mapping) else dict.fromkeys(inputs, layout)
    for name, chosen in by_input.items():
        if name not in inputs:
            raise DataFrameError(f"the model has no input {name!r}{_hint(name, inputs)}")
        if chosen not in LAYOUTS:
            listed = ", ".join(map(repr, LAYOUTS))
            raise DataFrameError(f"layout is one of {listed}, not {chosen!r}")
    return [by_input.get(name) for name in inputs]


def _functor(session: Session, df_or_nslots: Any, booking: Booking) -> Any:
    session.clone()  # its exception is readable if, say, the weights file is gone
    df = None if isinstance(df_or_nslots, int) else df_or_nslots
    slots = df_or_nslots if df is None else int(df.GetNSlots())
    functor = make_functor(booking, slots, session.weights or "")
    if df is not None and booking.on_error != "raise":
        declare("#include <sofie/root/after_loop.hxx>")
        root = import_root()
        root.sofie.dataframe.warn_after_loop(root.RDF.AsRNode(df), functor)
    return functor


def make_functor(booking: Booking, slots: int, weights: str = "") -> Any:
    """The C++ functor of a booking, for so many slots."""
    return _functor_class(booking)(slots, weights, _labels(booking), _on_error(booking))


def _functor_class(booking: Booking) -> Any:
    declare("#include <sofie/SofieFunctor.hxx>")
    functor = import_root().sofie.Functor[booking.arguments()]
    if not isinstance(functor.failed, property):
        count = functor.failed
        functor.failed = property(lambda self: int(count(self)))
    return functor


def _on_error(booking: Booking) -> Any:
    made = import_root().sofie.OnError
    if isinstance(booking.on_error, str):
        return getattr(made, booking.on_error)()
    return made.value(booking.on_error)


def _labels(booking: Booking) -> Any:
    return import_root().std.vector["std::string"](booking.labels())


def _has_column(df: Any, name: str) -> bool:
    if is_distributed(df):
        return name in _column_names(df)
    return bool(df.HasColumn(name))  # also the short name of a friend's column, which is not listed


def _column_names(df: Any) -> list[str]:
    return [str(c) for c in df.GetColumnNames()]


def _pick(session: Session, output: str | None) -> list[int]:
    """Positions of the outputs to return."""
    names = [t.name for t in session.outputs]
    if output is None:
        return list(range(len(names)))
    if output not in names:
        raise DataFrameError(f"the model has no output {output!r}{_hint(output, names)}")
    return [names.index(output)]


def _flatten(session: Session, columns: Columns) -> tuple[list[str], list[int]]:
    """All columns in the order of the inputs, and how many each input takes (empty: not said)."""
    if isinstance(columns, str):
        raise DataFrameError(
            f"columns is a list of names, or lists by input; not the string {columns!r}"
        )
    if not isinstance(columns, Mapping):
        return [str(c) for c in columns], []
    inputs = [t.name for t in session.inputs]
    for name, listed in columns.items():
        if name not in inputs:
            raise DataFrameError(f"the model has no input {name!r}{_hint(name, inputs)}")
        if isinstance(listed, str):
            raise DataFrameError(
                f"the columns of input {name!r} are a list of names, not the string {listed!r}"
            )
    if missing := [n for n in inputs if n not in columns]:
        raise DataFrameError(
            f"columns names none for input {missing[0]!r} {_info(session, missing[0])}"
        )
    return [str(c) for n in inputs for c in columns[n]], [len(columns[n]) for n in inputs]


def _info(session: Session, name: str) -> TensorInfo:
    return next(t for t in session.inputs if t.name == name)


def _hint(name: str, known: Sequence[str]) -> str:
    """What may have been meant, else what there is."""
    near = (
        difflib.get_close_matches(name, known, n=3)
        or [k for k in known if name.lower() in k.lower()][:3]
    )
    if near:
        return f"; did you mean {' or '.join(map(repr, near))}?"
    listed = ", ".join(known[:20]) + (f", and {len(known) - 20} more" if len(known) > 20 else "")
    return f"; there are: {listed}" if known else ""


def _column_per_output(prefix: str, outputs: Sequence[str]) -> list[str]:
    """``prefix_output`` for each output, as identifiers and all different."""
    names: list[str] = []
    for k, output in enumerate(outputs):
        name = re.sub(r"\W", "_", f"{prefix}_{output}", flags=re.ASCII)
        names.append(f"{name}_{k}" if name in names else name)
    return names
