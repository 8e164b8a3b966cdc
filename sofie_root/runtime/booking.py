"""What a model in a data frame is made of, as C++ types."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Booking:
    """Columns and outputs of a model in a data frame; checked.

    Attributes:
        session: C++ name of the Session.
        outputs: positions of the outputs to return.
        listed: C++ name of the list of the columns' types.
        columns: names of the columns, in the order of the model's inputs.
        types: C++ types of the columns.
        counts: how many columns each input takes; empty where C++ is to deduce it.
    """

    session: str
    outputs: list[int]
    listed: str
    columns: list[str] = field(default_factory=list)
    types: list[str] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)

    def arguments(self) -> tuple[str, str, str, str]:
        """The template arguments of ``sofie::Functor``."""
        return (
            self.session,
            f"std::index_sequence<{', '.join(map(str, self.outputs))}>",
            f"std::index_sequence<{', '.join(map(str, self.counts))}>",
            self.listed,
        )

    def labels(self) -> list[str]:
        """How messages name the columns."""
        return [f"column {c!r} ({t})" for c, t in zip(self.columns, self.types, strict=True)]
