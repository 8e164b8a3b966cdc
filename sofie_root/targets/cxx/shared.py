"""What all structs of one header share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt

from .names import KEYWORDS, Identifiers


@dataclass(slots=True)
class Shared:
    """What all structs of one header share.

    Attributes:
        headers: kernel headers that are used.
        traits: trait structs, text to name.
        structs: names of types at namespace scope.
        members: names of the members of Weights.
        constants: array and C++ element type by member of Weights.
        weights_key: C++ expression of what ``sofie::shared_weights`` is asked for.
        weights_default: the weights file that a Session opens if it is told none (None: embedded).
        profile: whether the Session takes the time of each step.
    """

    weights_key: str = ""
    weights_default: str | None = None
    profile: bool = False
    headers: set[str] = field(default_factory=set)
    traits: dict[str, str] = field(default_factory=dict)
    structs: Identifiers = field(default_factory=lambda: Identifiers(KEYWORDS))
    members: Identifiers = field(default_factory=lambda: Identifiers(KEYWORDS))
    constants: dict[str, tuple[npt.NDArray[Any], str]] = field(default_factory=dict)
