"""Attributes of operators against the types that their fields are declared with.

This is where an attribute's value is checked, whichever way a graph was made (ONNX, ``.root``, Python):
:func:`~sofie_root.ir.graph.infer_node` asks for it before it asks the operator for types. Whatever follows,
``infer``, ``lower`` and the printing of C++, meets values of the declared types only.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from typing import Any, Union

import numpy as np

from sofie_root.errors import ModelError

from .dtype import DType
from .op import Op

PLAIN = (bool, int, float, str)
"""Types of attributes that are written as they are."""


def check_attributes(op: Op) -> None:
    """Checks every attribute of an operator against the annotation of its field.

    Raises:
        ModelError: a value is not of the declared type; names the attribute.
    """
    for name, declared in _declared(type(op)).items():  # type: ignore[arg-type]  # classes do have a hash
        value = getattr(op, name)
        if not _fits(value, declared):
            shown = repr(value) if isinstance(value, PLAIN) else type(value).__name__
            if len(shown) > 60:
                shown = shown[:60] + "..."
            raise ModelError(f"attribute {name!r} must be {_words(declared)}, it is {shown}")


@functools.cache
def _declared(cls: type[Op]) -> dict[str, Any]:
    """The types that an operator's fields are annotated with."""
    try:
        hints = typing.get_type_hints(cls)
    except NameError as error:
        raise ModelError(
            f"the types of the attributes of {cls.__name__} cannot be found ({error}); use types that "
            "its module knows",
            operator=cls.name,
        ) from error
    return {f.name: hints[f.name] for f in dataclasses.fields(cls)}  # type: ignore[arg-type]


def _fits(value: Any, declared: Any) -> bool:
    if declared is int:
        return type(value) is int and -(2**63) <= value < 2**63
    if declared in PLAIN:
        return type(value) is declared
    if declared is None or declared is type(None):
        return value is None
    if declared is np.generic:
        return isinstance(value, np.generic) and DType.from_numpy(value.dtype) is not None
    if declared is Any:
        return _is_storable(value)
    origin, arguments = typing.get_origin(declared), typing.get_args(declared)
    if origin in (Union, types.UnionType):
        return any(_fits(value, a) for a in arguments)
    if origin is typing.Literal:
        return any(type(value) is type(a) and value == a for a in arguments)
    if origin is tuple and type(value) is tuple:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return all(_fits(v, arguments[0]) for v in value)
        return len(value) == len(arguments) and all(map(_fits, value, arguments))
    return isinstance(declared, type) and origin is None and isinstance(value, declared)


def _is_storable(value: Any) -> bool:
    """Whether it is a value of some type that attributes may have (the field does not say which)."""
    if type(value) is tuple:
        return all(map(_is_storable, value))
    return any(_fits(value, d) for d in (*PLAIN, None, np.generic))


def _words(declared: Any) -> str:
    if isinstance(declared, type) and typing.get_origin(declared) is None:
        return "None" if declared is type(None) else declared.__name__
    return str(declared).replace("typing.", "")
