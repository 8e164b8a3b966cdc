"""Places in a JSON document, to change one of them at a time."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

Place = tuple[str | int, ...]


def places(document: Any, at: Place = ()) -> Iterator[Place]:
    """Every value of a document, the document itself first."""
    yield at
    if isinstance(document, dict):
        for key, inner in document.items():
            yield from places(inner, (*at, key))
    elif isinstance(document, list):
        for k, inner in enumerate(document):
            yield from places(inner, (*at, k))


def get(document: Any, place: Place) -> Any:
    """The value at a place."""
    for step in place:
        document = document[step]
    return document


def replaced(document: Any, place: Place, value: Any) -> Any:
    """A copy of a document with another value at one place."""
    if not place:
        return value
    copied = copy.deepcopy(document)
    get(copied, place[:-1])[place[-1]] = value
    return copied


def without(document: Any, place: Place) -> Any:
    """A copy of a document that lacks a value."""
    copied = copy.deepcopy(document)
    del get(copied, place[:-1])[place[-1]]
    return copied


def renamed_key(document: Any, place: Place, key: str) -> Any:
    """A copy of a document with the last key of a place called otherwise."""
    copied = copy.deepcopy(document)
    around = get(copied, place[:-1])
    around[key] = around.pop(place[-1])
    return copied
