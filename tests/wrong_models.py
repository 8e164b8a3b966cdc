"""One-node models with one thing wrong, made from the table of operator cases."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from onnx import AttributeProto, ModelProto, TensorProto, ValueInfoProto, defs, helper, numpy_helper
from operator_case import Case

INTEGERS = (-(2**63), -7, -1, 0, 1, 2, 99, 2**31, 2**62, 2**63 - 1)
FLOATS = (0.0, -1.0, 1e-30, 1e38, float("nan"), float("inf"), float("-inf"))
SIZES = (0, 1, 5, 2**31, 2**40, 2**62, "n")
DTYPES = (
    TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16,
    TensorProto.INT64, TensorProto.INT8, TensorProto.UINT16, TensorProto.BOOL, TensorProto.STRING,
    TensorProto.COMPLEX64, TensorProto.FLOAT8E4M3FN, 99,
)  # fmt: skip
ARRAY_DTYPES = (np.float32, np.float64, np.int64, np.int32, np.int8, np.uint8, np.bool_)

Wrong = tuple[str, ModelProto]


def wrong_models(case: Case) -> Iterator[Wrong]:
    """What was changed, and the changed model; some of them are right by chance."""
    model = case.model()
    yield from _inputs(model)
    yield from _constants(model)
    yield from _connections(model)
    yield from _attributes(model, case.opset)


def _copy(model: ModelProto) -> ModelProto:
    copy = ModelProto()
    copy.CopyFrom(model)
    return copy


def _shapes(shape: tuple[int, ...]) -> Iterator[tuple[int | str, ...]]:
    """Another rank, and one size after the other replaced."""
    n = len(shape)
    yield from ((), (3,), (2,) * 9, (1,) * 33, (0,) * n, (1,) * n, (2**31,) * n)
    yield tuple(f"s{k}" for k in range(n))
    yield from ((1, *shape), (*shape, 1), (*shape, 3), ("n", *shape), shape[1:], shape[:-1])
    for k in range(n):
        yield from ((*shape[:k], size, *shape[k + 1 :]) for size in SIZES)


def _inputs(model: ModelProto) -> Iterator[Wrong]:
    """Shapes and dtypes of run-time inputs, and inputs that are constants."""
    for k, given in enumerate(model.graph.input):
        number = given.type.tensor_type.elem_type
        shape = tuple(d.dim_value for d in given.type.tensor_type.shape.dim)
        for other in dict.fromkeys(_shapes(shape)):
            changed = _copy(model)
            changed.graph.input[k].CopyFrom(
                helper.make_tensor_value_info(given.name, number, other)
            )
            yield f"{given.name} is {list(other)}", changed
        for other_number in DTYPES:
            changed = _copy(model)
            changed.graph.input[k].type.tensor_type.elem_type = other_number
            yield f"{given.name} has type {other_number}", changed
        dtype = helper.tensor_dtype_to_np_dtype(number)
        for what, array in (
            ("ones", np.ones(shape, dtype)),
            ("zeros", np.zeros(shape, dtype)),
            ("nothing", np.zeros((0,), dtype)),
        ):
            changed = _copy(model)
            del changed.graph.input[k]
            changed.graph.initializer.append(numpy_helper.from_array(array, given.name))
            yield f"{given.name} is constant {what}", changed


def _arrays(array: np.ndarray[Any, Any]) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    """Other content, rank, length and dtype."""
    yield "empty", np.zeros((0,), array.dtype)
    yield "a scalar", np.zeros((), array.dtype)
    yield "of one more axis", array[np.newaxis]
    yield "twice as long", np.concatenate([array.ravel(), array.ravel()])
    values: Sequence[Any] = INTEGERS if array.dtype.kind in "iub" else FLOATS
    for value in values:
        with np.errstate(all="ignore"):
            number = np.array([value]).astype(array.dtype)[0]
        yield f"all {value}", np.full(array.shape, number, array.dtype)
        if array.size > 1:
            for place in (0, -1):
                other = array.ravel().copy()
                other[place] = number
                yield f"{value} at {place}", other.reshape(array.shape)
    for dtype in ARRAY_DTYPES:
        with np.errstate(all="ignore"):
            yield f"{np.dtype(dtype)}", array.astype(dtype)


def _constants(model: ModelProto) -> Iterator[Wrong]:
    for k, proto in enumerate(model.graph.initializer):
        array = numpy_helper.to_array(proto)
        for what, other in _arrays(array):
            changed = _copy(model)
            changed.graph.initializer[k].CopyFrom(numpy_helper.from_array(other, proto.name))
            yield f"{proto.name} is {what}", changed
        for shape in (list(array.shape), [f"r{axis}" for axis in range(array.ndim)]):
            changed = _copy(model)
            del changed.graph.initializer[k]
            changed.graph.input.append(
                helper.make_tensor_value_info(proto.name, proto.data_type, shape)
            )
            yield f"{proto.name} is a run-time input {shape}", changed


def _connections(model: ModelProto) -> Iterator[Wrong]:
    """Inputs that are missing, swapped or too many; outputs that nobody knows."""
    node = model.graph.node[0]
    for k, name in enumerate(node.input):
        changed = _copy(model)
        changed.graph.node[0].input[k] = ""
        yield f"input {k} is left out", changed
        changed = _copy(model)
        del changed.graph.node[0].input[k]
        yield f"input {k} is removed", changed
        for other in range(k):
            changed = _copy(model)
            changed.graph.node[0].input[k] = node.input[other]
            changed.graph.node[0].input[other] = name
            yield f"inputs {other} and {k} are swapped", changed
    for more in (1, 3, 9):
        changed = _copy(model)
        changed.graph.node[0].input.extend([*node.input, ""][:1] * more)
        yield f"{more} inputs more", changed
        names = [f"more{k}" for k in range(more)]
        changed = _copy(model)
        changed.graph.node[0].output.extend(names)
        yield f"{more} outputs more", changed
        read = _copy(changed)
        read.graph.output.extend(ValueInfoProto(name=n) for n in names)
        yield f"{more} outputs more, which are read", read
    if len(node.output) > 1:
        changed = _copy(model)
        changed.graph.node[0].output[0] = ""
        del changed.graph.output[0]
        yield "the first output is left out", changed
        changed = _copy(model)
        del changed.graph.node[0].output[1:]
        del changed.graph.output[1:]
        yield "only one output", changed


def _values(kind: int, value: Any) -> list[Any]:
    """Other values of an attribute of this kind."""
    if kind == AttributeProto.INT:
        return list(INTEGERS)
    if kind == AttributeProto.FLOAT:
        return list(FLOATS)
    if kind == AttributeProto.STRING:
        return ["nonsense", "", "SAME_UPPER", "VALID"]
    if kind == AttributeProto.FLOATS:
        given = list(value or (1.0,))
        return [given * 2, *([number] * len(given) for number in FLOATS)]
    if kind == AttributeProto.INTS:
        given = list(value or (1, 1))
        found = [given * 2, [*given, 1], [0] * 40, given[:-1] or [0, 0]]
        for number in INTEGERS:
            found += [[number] * len(given), [number, *given[1:]], [*given[:-1], number]]
        return found
    return []


def _attributes(model: ModelProto, opset: int) -> Iterator[Wrong]:
    """Copies of the node with an attribute changed, removed, or added that the case does not set."""
    node = model.graph.node[0]
    for k, given in enumerate(node.attribute):
        changed = _copy(model)
        del changed.graph.node[0].attribute[k]
        yield f"without {given.name}", changed
        for other in _values(given.type, helper.get_attribute_value(given)):
            changed = _copy(model)
            changed.graph.node[0].attribute[k].CopyFrom(helper.make_attribute(given.name, other))
            yield f"{given.name}={str(other)[:60]}", changed
    present = {a.name for a in node.attribute}
    for name, declared in defs.get_schema(node.op_type, opset, node.domain).attributes.items():
        for other in _values(int(declared.type.value), None) if name not in present else ():
            changed = _copy(model)
            changed.graph.node[0].attribute.append(helper.make_attribute(name, other))
            yield f"with {name}={str(other)[:60]}", changed
