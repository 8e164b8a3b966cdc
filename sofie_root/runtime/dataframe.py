"""Runs a model in an RDataFrame: checks columns, and makes the functor for ``DefineSlot``."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from sofie_root.errors import DataFrameError

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
    session = model if isinstance(model, Session) else model.session()
    picked = _pick(session, output)
    if isinstance(df_or_nslots, int):
        if columns is not None:
            raise DataFrameError(
                "give the data frame instead of a number of slots, so that columns can be checked"
            )
        return _instantiate(session, df_or_nslots, picked, None, [], [])
    df, slots = df_or_nslots, int(df_or_nslots.GetNSlots())
    if columns is None:
        return _instantiate(session, slots, picked, None, [], [])
    names, counts = _flatten(session, columns)
    types = [_column_type(df, name) for name in names]
    return _instantiate(session, slots, picked, types, names, counts)


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
    functor = SofieFunctor(session, df, columns, output=output)
    names = _flatten(session, columns)[0]
    outputs = [t.name for t in session.outputs]
    is_one = output is not None or len(outputs) == 1
    made = [name] if is_one else [f"{name}_{_identifier(o)}" for o in outputs]
    for column in made:
        if df.HasColumn(column):
            raise DataFrameError(f"column {column!r} exists already: choose another name")
    if is_one:
        return df.DefineSlot(name, functor, names)
    # A name of this form is a private one to RDataFrame: neither listed nor written by Snapshot.
    every = f"rdf_{name}_outputs_"
    df = df.DefineSlot(every, functor, names)
    for k, column in enumerate(made):
        df = df.Define(column, f"std::get<{k}>({every})")
    return df


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


def _column_type(df: Any, name: str) -> str:
    """C++ type of a column."""
    if not df.HasColumn(name):
        listed = [str(c) for c in df.GetColumnNames()]
        raise DataFrameError(f"there is no column {name!r}{_hint(name, listed)}")
    return str(df.GetColumnType(name))


def _instantiate(
    session: Session,
    slots: int,
    outputs: list[int],
    types: list[str] | None,
    names: list[str],
    counts: list[int],
) -> Any:
    root = import_root()
    declare("#include <sofie/SofieFunctor.hxx>")
    session_type = session.library.session_type()
    if types is None:
        listed = f"sofie::dataframe::Defaults<{session_type}>"
    else:
        listed = f"sofie::dataframe::Types<{', '.join(types)}>"
    functor = root.sofie.Functor[
        session_type,
        f"std::index_sequence<{', '.join(map(str, outputs))}>",
        f"std::index_sequence<{', '.join(map(str, counts))}>",
        listed,
    ]
    labels = root.std.vector["std::string"](
        [f"column {n!r} ({t})" for n, t in zip(names, types or [], strict=True)]
    )
    if message := str(functor.misfit(labels)):
        raise DataFrameError(message)
    session.clone()  # its exception is readable if, say, the weights file is gone
    return functor(slots, session.weights or "", labels)


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


def _identifier(name: str) -> str:
    return re.sub(r"\W", "_", name, flags=re.ASCII)
