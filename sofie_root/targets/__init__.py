"""What each kind of device needs: facts, forms of operations, and printing."""

from __future__ import annotations

from sofie_root.errors import InputError

from .base import Target
from .cpu.target import CPU
from .reference.target import REFERENCE

TARGETS: dict[str, Target] = {t.name: t for t in (CPU, REFERENCE)}
"""The targets by the names that users give."""


def find_target(name: str) -> Target:
    """The target of this name.

    Raises:
        InputError: there is none.
    """
    if name not in TARGETS:
        raise InputError(f"there is no target {name!r}; there are: {', '.join(TARGETS)}")
    return TARGETS[name]
