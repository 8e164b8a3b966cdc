"""Changes of the fields of a protocol buffer message, whatever it is."""

from __future__ import annotations

import random
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from .values import FLOATS, TEXTS, damaged, integer


def messages(message: Message) -> list[Message]:
    """A message and all inside it."""
    found = [message]
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for inner in value if _repeats(field) else [value]:
                found += messages(inner)
    return found


def change(message: Message, rng: random.Random, other: Message, texts: list[str]) -> str:
    """Changes one field of one message inside; says which.

    Args:
        message: what is changed.
        rng: random numbers.
        other: a message from which parts may be taken.
        texts: strings that make sense somewhere, such as names of values.
    """
    by_type: dict[str, list[Message]] = {}
    for found in messages(message):
        by_type.setdefault(found.DESCRIPTOR.name, []).append(found)
    # Rare kinds of messages come up as often as frequent ones.
    kinds = sorted(by_type)
    weights = [
        4 if k in ("NodeProto", "AttributeProto", "GraphProto", "TensorProto") else 1 for k in kinds
    ]
    target = rng.choice(by_type[rng.choices(kinds, weights)[0]])
    fields = list(target.DESCRIPTOR.fields)
    present = [f for f, _ in target.ListFields()]
    field = rng.choice(present) if present and rng.random() < 0.75 else rng.choice(fields)
    what = f"{target.DESCRIPTOR.name}.{field.name}"
    try:
        if _repeats(field):
            _change_list(target, field, rng, other, texts)
        elif rng.random() < 0.1:
            target.ClearField(field.name)
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            getattr(target, field.name).CopyFrom(_taken(message, other, field, rng))
        else:
            setattr(target, field.name, _value(field, rng, texts, getattr(target, field.name)))
    except (ValueError, TypeError, OverflowError):  # a number that the field cannot hold
        target.ClearField(field.name)
    return what


def _repeats(field: Any) -> bool:
    return bool(field.is_repeated)


def _taken(message: Message, other: Message, field: Any, rng: random.Random) -> Message:
    """A message of the field's type, from here or elsewhere."""
    name = field.message_type.full_name
    found = [m for m in messages(message) + messages(other) if m.DESCRIPTOR.full_name == name]
    copied = field.message_type._concrete_class()
    if found and rng.random() < 0.9:
        copied.CopyFrom(rng.choice(found))
    return copied


def _change_list(
    target: Message, field: Any, rng: random.Random, other: Message, texts: list[str]
) -> None:
    values = getattr(target, field.name)
    is_message = field.type == FieldDescriptor.TYPE_MESSAGE
    kind = rng.randrange(8)
    at = rng.randrange(len(values)) if values else 0
    if kind == 0:
        target.ClearField(field.name)
    elif kind == 1 and values:
        del values[at]
    elif kind in (2, 3) and values:  # twice, possibly somewhere else
        copied = _copied(values[at]) if is_message else values[at]
        values.append(copied)
        if rng.random() < 0.5:
            _rotate(values, rng.randrange(len(values)), is_message)
    elif kind == 4 and len(values) > 1:
        _rotate(values, 1 + rng.randrange(len(values) - 1), is_message)
    elif is_message:
        values.append(_taken(target, other, field, rng))
    elif kind == 5 and values:
        values.extend([values[at]] * rng.choice([1, 8, 100, 2000]))
    elif values and rng.random() < 0.7:
        values[at] = _value(field, rng, texts, values[at])
    else:
        values.append(_value(field, rng, texts, None))


def _copied(message: Message) -> Message:
    copied = type(message)()
    copied.CopyFrom(message)
    return copied


def _rotate(values: Any, by: int, is_message: bool) -> None:
    rest = [_copied(v) if is_message else v for v in values]
    del values[:]
    values.extend(rest[by:] + rest[:by])


def _value(field: Any, rng: random.Random, texts: list[str], old: Any) -> Any:
    if field.type == FieldDescriptor.TYPE_STRING:
        return rng.choice(texts if texts and rng.random() < 0.6 else TEXTS)
    if field.type == FieldDescriptor.TYPE_BYTES:
        if old and len(old) % 8 == 0 and rng.random() < 0.5:  # sizes, axes, indices
            at = rng.randrange(0, len(old), 8)
            number = integer(rng, int.from_bytes(old[at : at + 8], "little", signed=True))
            return bytes(old[:at] + (number % 2**64).to_bytes(8, "little") + old[at + 8 :])
        if old and rng.random() < 0.6:
            return damaged(rng, old)
        return (
            rng.choice(TEXTS).encode() if rng.random() < 0.6 else rng.randbytes(rng.randrange(40))
        )
    if field.cpp_type in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE):
        return rng.choice(FLOATS)
    if field.type == FieldDescriptor.TYPE_ENUM:
        return rng.choice([v.number for v in field.enum_type.values])
    if field.name == "data_type" or field.name == "elem_type":
        return rng.choice([*range(27), -1, 1000])
    return integer(rng, old if isinstance(old, int) else None)
