"""Runs a model in an RDataFrame: checks columns, and makes the functor for ``DefineSlot``."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from sofie_root.errors import DataFrameError

from .booking import Booking
from .distributed import distribute, is_distributed
from .interpreter import TensorInfo, declare, import_root
from .session import Session

if TYPE_CHECKING:
    from sofie_root.model import Model

Columns: TypeAlias = Sequence[str] | Mapping[str, Sequence[str]]


def SofieFunctor(  # noqa: N802  (a C++ class template of this name; that is what it returns)
    model: Model | Session,
    df_or_nslots: Any,
    columns: Columns | None = None,
    *,
    output: str | None = None,
) -> Any:
    """A C++ functor that runs the model; for ``df.DefineSlot("y", functor, columns)``.

    It has one Session per slot. Which columns an input takes: as many numbers as it has values (a
    batch dimension counts as 1), or arrays that hold them; for a shape such as [N, 2, n_pf], 2
    array columns of n_pf elements, or one array of all values. If every input is [N, ...] and gets
    one array column per value, N is the arrays' length: one evaluation per object of the event.

    The result of an event is a number where the output has one element, else an RVec; of several
    outputs it is a ``std::tuple`` of these, so that ``Define("a", "std::get<0>(y)")`` reads one of
    them, or see ``output``.

    Args:
        model: the model, or a Session of it.
        df_or_nslots: the data frame (columns are checked against it), or a number of slots.
        columns: names of the columns, in the order of the model's inputs; or by input. None: each
            input takes numbers of its own type where it has at most 64 values, else arrays.
        output: name of the output to return; None: all.

    Raises:
        DataFrameError: a column is missing, or its type or their number does not fit the model.
    """
    if is_distributed(df_or_nslots):
        raise DataFrameError("a distributed data frame takes no functor: use sofie_root.define")
    session = model if isinstance(model, Session) else model.session()
    df = None if isinstance(df_or_nslots, int) else df_or_nslots
    if df is None and columns is not None:
        raise DataFrameError("to check columns, the data frame is needed, not a number of slots")
    booking = _book(session, df, columns, output)
    return _functor(session, df_or_nslots if df is None else int(df.GetNSlots()), booking)


def define(
    df: Any,
    name: str,
    model: Model | Session,
    columns: Columns,
    *,
    output: str | None = None,
) -> Any:
    """Adds the model's result to a data frame.

    Args:
        df: the data frame.
        name: the new column. Where the model has several outputs and none is picked, there is one
            column for each, ``name_output``, and the model still runs once per event.
        model: the model, or a Session of it.
        columns: see :func:`SofieFunctor`.
        output: name of the one output to define.

    Returns:
        The data frame with the new column or columns.

    Raises:
        DataFrameError: see :func:`SofieFunctor`; or the name is taken.
    """
    session = model if isinstance(model, Session) else model.session()
    booking = _book(session, df, columns, output)
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
        functor = _functor(session, int(df.GetNSlots()), booking)
        df = df.DefineSlot(column, functor, booking.columns)
    if not is_one:
        for k, part in enumerate(made):
            df = df.Define(part, f"std::get<{k}>({column})")
    return df


def _book(session: Session, df: Any, columns: Columns | None, output: str | None) -> Booking:
    """Decides which columns make which input.

    Raises:
        DataFrameError: they do not fit.
    """
    outputs = _pick(session, output)
    session_type = session.library.session_type()
    if columns is None:
        return Booking(session_type, outputs, f"::sofie::dataframe::Defaults<{session_type}>")
    names, counts = _flatten(session, columns)
    for name in names:
        if not _has_column(df, name):
            raise DataFrameError(f"there is no column {name!r}{_hint(name, _column_names(df))}")
    types = [str(df.GetColumnType(name)) for name in names]
    listed = f"::sofie::dataframe::Types<{', '.join(types)}>"
    booking = Booking(session_type, outputs, listed, names, types, counts)
    if message := str(_functor_class(booking).misfit(_labels(booking))):
        raise DataFrameError(message)
    return booking


def _functor(session: Session, slots: int, booking: Booking) -> Any:
    session.clone()  # its exception is readable if, say, the weights file is gone
    return _functor_class(booking)(slots, session.weights or "", _labels(booking))


def _functor_class(booking: Booking) -> Any:
    declare("#include <sofie/SofieFunctor.hxx>")
    return import_root().sofie.Functor[booking.arguments()]


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
