"""The statements of a Program in order, with who reads and who writes each buffer (use-def information)."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, MutableSequence
from typing import TYPE_CHECKING, overload

from .uses import reads, writes

if TYPE_CHECKING:
    from .statement import Statement


class Statements(MutableSequence["Statement"]):
    """A list of statements that knows the readers and writers of every buffer.

    The index follows each edit, so that asking for the readers of a buffer does not walk the program.
    Statements are told apart by identity: two equal ones at different places are two statements.

    Each statement has a rank, a number that grows along the list and stays when others come and go; the
    place of a statement is found from its rank by bisection.
    """

    def __init__(self, statements: Iterable[Statement] = ()) -> None:
        self._items: list[Statement] = []
        self._ranks: list[float] = []
        self._rank_of: dict[int, float] = {}
        self._readers: dict[str, dict[int, Statement]] = {}
        self._writers: dict[str, dict[int, Statement]] = {}
        self[0:0] = statements

    # -- who uses a buffer -------------------------------------------------------------------------------
    def readers(self, buffer: str) -> list[Statement]:
        """The statements that read a buffer (or the results of a branch or repetition), in order."""
        return self._in_order(self._readers.get(buffer, {}))

    def writers(self, buffer: str) -> list[Statement]:
        """The statements that write a buffer, in order."""
        return self._in_order(self._writers.get(buffer, {}))

    def writer(self, buffer: str) -> Statement | None:
        """The statement that alone writes a buffer; None where there is none or more than one."""
        writers = self._writers.get(buffer, {})
        return next(iter(writers.values())) if len(writers) == 1 else None

    def place(self, statement: Statement) -> int:
        """Where a statement stands.

        Raises:
            KeyError: it is not among the statements.
        """
        return bisect_left(self._ranks, self._rank_of[id(statement)])

    def _in_order(self, users: dict[int, Statement]) -> list[Statement]:
        if len(users) < 2:
            return list(users.values())
        return sorted(users.values(), key=lambda s: self._rank_of[id(s)])

    def _add(self, statement: Statement, rank: float) -> None:
        assert id(statement) not in self._rank_of, f"stands here already: {statement}"
        self._rank_of[id(statement)] = rank
        for name in reads(statement):
            self._readers.setdefault(name, {})[id(statement)] = statement
        for name in writes(statement):
            self._writers.setdefault(name, {})[id(statement)] = statement

    def _drop(self, statement: Statement) -> None:
        del self._rank_of[id(statement)]
        for name in reads(statement):
            del self._readers[name][id(statement)]
        for name in writes(statement):
            del self._writers[name][id(statement)]

    # -- a list ------------------------------------------------------------------------------------------
    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Statement]:
        return iter(self._items)

    def __contains__(self, statement: object) -> bool:
        return id(statement) in self._rank_of

    @overload
    def __getitem__(self, at: int) -> Statement: ...
    @overload
    def __getitem__(self, at: slice) -> list[Statement]: ...
    def __getitem__(self, at: int | slice) -> Statement | list[Statement]:
        return self._items[at]

    @overload
    def __setitem__(self, at: int, value: Statement) -> None: ...
    @overload
    def __setitem__(self, at: slice, value: Iterable[Statement]) -> None: ...
    def __setitem__(self, at: int | slice, value: Statement | Iterable[Statement]) -> None:
        if isinstance(at, int):
            first = range(len(self._items))[at]
            last, new = first + 1, [value]
        else:
            first, last, step = at.indices(len(self._items))
            assert step == 1, at
            last, new = max(first, last), list(value)  # type: ignore[arg-type]
        for statement in self._items[first:last]:
            self._drop(statement)
        ranks = self._ranks_between(first, last, len(new))
        self._items[first:last] = new  # type: ignore[assignment]
        self._ranks[first:last] = ranks
        for statement, rank in zip(self._items[first : first + len(new)], ranks, strict=True):
            self._add(statement, rank)

    def _ranks_between(self, first: int, last: int, count: int) -> list[float]:
        """Growing ranks for so many statements in the place of those from first to last."""
        if count == last - first:
            return self._ranks[first:last]
        low = self._ranks[first - 1] if first else 0.0
        high = self._ranks[last] if last < len(self._ranks) else low + count + 1
        step = (high - low) / (count + 1)
        if count and low + step * count + step / 2 >= high:  # no room is left between the two
            for rank, statement in enumerate(self._items):
                self._ranks[rank] = self._rank_of[id(statement)] = float(rank + 1)
            return self._ranks_between(first, last, count)
        return [low + step * (k + 1) for k in range(count)]

    def __delitem__(self, at: int | slice) -> None:
        self[slice(at, at + 1 or None) if isinstance(at, int) else at] = ()

    def insert(self, at: int, value: Statement) -> None:
        """Puts a statement before the one that stands at this place."""
        self[at:at] = (value,)
