"""What a model in a data frame is made of, as C++ types."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

OnError: TypeAlias = Literal["raise", "nan"] | float
"""What becomes of an event that fails."""

LAYOUTS = {
    "features last": "kFeaturesLast",
    "features first": "kFeaturesFirst",
    "concatenate": "kConcatenate",
}
"""How several columns fill an input, with the name in C++ (``sofie/root/columns.hxx``)."""


@dataclass(frozen=True, slots=True)
class Booking:
    """Columns and outputs of a model in a data frame; checked.

    Attributes:
        session: C++ name of the Session.
        outputs: positions of the outputs to return.
        columns: names of the columns, in the order of the model's inputs; None: those that the user of
            the functor will name, of the types that the model suggests.
        types: C++ types of the columns.
        counts: how many columns each input takes; empty where C++ is to deduce it.
        layouts: for each input a key of ``LAYOUTS``, or None: by the shape; empty: all by shape.
        on_error: what becomes of an event that fails.
    """

    session: str
    outputs: list[int]
    columns: list[str] | None = None
    types: list[str] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    layouts: list[str | None] = field(default_factory=list)
    on_error: OnError = "raise"

    def arguments(self, sofie: str = "sofie", session: str | None = None) -> tuple[str, ...]:
        """The template arguments of ``sofie::Functor``.

        Args:
            sofie: what the namespace is called.
            session: another name of the Session.
        """
        session = self.session if session is None else session
        space = f"::{sofie}::dataframe"
        chosen = [LAYOUTS[n] if n else "kByShape" for n in self.layouts]
        counts = f"std::index_sequence<{', '.join(map(str, self.counts))}>"
        listed = f"{space}::Types<{', '.join(self.types)}>"
        if self.columns is None:
            counts, listed = f"{space}::DefaultCounts<{session}>", f"{space}::Defaults<{session}>"
        return (
            session,
            f"std::index_sequence<{', '.join(map(str, self.outputs))}>",
            counts,
            f"{space}::Layouts<{', '.join(f'{space}::Layout::{c}' for c in chosen)}>",
            listed,
        )

    def labels(self) -> list[str]:
        """How messages name the columns."""
        names = self.columns or []
        return [f"column {c!r} ({t})" for c, t in zip(names, self.types, strict=True)]
