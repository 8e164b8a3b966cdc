"""What became of a case, and what it shows about the operators in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Verdict = Literal["passed", "refused", "wrong"]
"""``wrong`` is everything that is neither: a wrong number, a crash, a refusal after parsing."""


@dataclass(frozen=True)
class Use:
    """One operator in one model.

    Attributes:
        operator: ``(domain, name)``.
        dtypes: element types of its inputs (of its outputs where it has none).
        forms: what it was lowered to: ``loop``, ``view``, ``kernel NAME``.
    """

    operator: tuple[str, str]
    dtypes: frozenset[str]
    forms: frozenset[str]


@dataclass(frozen=True)
class Outcome:
    """Result of one case.

    Attributes:
        case: its id.
        verdict: see :data:`Verdict`.
        reason: why it was refused or is wrong.
        refused: operators (name) that refused, with their reasons.
        source: the operators of its model as they stand in the file.
        uses: the operators that they became.
        dynamic: whether it also gives the right numbers with its sizes as symbols.
    """

    case: str
    verdict: Verdict
    reason: str = ""
    refused: tuple[tuple[str, str], ...] = ()
    source: tuple[tuple[str, str], ...] = ()
    uses: tuple[Use, ...] = field(default=(), repr=False)
    dynamic: bool = False
