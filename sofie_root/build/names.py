"""Names that nothing has yet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from sofie_root.budget import account


class Names:
    """Names that are taken, and new ones that are not.

    Args:
        taken: names that are taken from the start.

    Attributes:
        taken: all names so far; more may be added to it.
    """

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self.taken: set[str] = set(taken)
        self._serials: Counter[str] = Counter()

    def fresh(self, name: str) -> str:
        """The name, or the name with a number behind it: ``name_1``, ``name_2``, ..."""
        return self._take(name) if name not in self.taken else self.numbered(name, 1)

    def numbered(self, stem: str, first: int = 0) -> str:
        """The stem with the next free number behind it.

        The last number of each stem is remembered, so that many equal stems cost no search.
        """
        serial = max(self._serials[stem], first)
        while f"{stem}_{serial}" in self.taken:
            serial += 1
        self._serials[stem] = serial + 1
        return self._take(f"{stem}_{serial}")

    def _take(self, name: str) -> str:
        account().keep(len(name))  # names of nested calls grow with every level
        self.taken.add(name)
        return name
