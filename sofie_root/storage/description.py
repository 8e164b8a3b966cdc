"""A graph as JSON and back: nodes, types and symbolic dims, all but the arrays of its constants.

A dim is an int or a sum of products, each a list of its coefficient and its factors: ``4*N*M + 2``
is ``[[4, "N", "M"], [2]]``. A factor is a symbol or ``["//", a, b]``, ``["min", ...]``, ``["max", ...]``
of dims. Decoding rebuilds it by arithmetic; nothing is evaluated. A symbol is its name, a size that only the
run tells is ``"node:output:axis"``, that of a loop's state ``"state:state:axis"``; a symbol whose name reads
like one of these two is ``["symbol", name]``.

An attribute is JSON's own where JSON has it (a list is a tuple); a float that JSON cannot write is
``{"float": "nan"}``, and a NumPy scalar ``{"dtype": "float", "bytes": "0000803f"}``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

import sofie_root.ops  # noqa: F401  (registers the operators)
from sofie_root.errors import Refusal, StorageError, UnsupportedError
from sofie_root.ir import OPERATORS, DType, Equality, Graph, Node, Op, TensorType, symbol
from sofie_root.ir.dim import (
    Broadcast,
    Dim,
    FloorDiv,
    Max,
    Min,
    RuntimeSize,
    StateSize,
    Symbol,
    as_poly,
    broadcast,
    floordiv,
    maximum,
    minimum,
)

_DTYPES = {str(d): d for d in DType}
_CALLS: dict[str, Callable[..., Dim]] = {
    "//": floordiv,
    "min": minimum,
    "max": maximum,
    "broadcast": broadcast,
}


def encode_graph(graph: Graph) -> dict[str, Any]:
    """The graph without the arrays of its constants, as JSON-able data."""
    return {
        "name": graph.name,
        "inputs": list(graph.inputs),
        "outputs": [[public, value] for public, value in graph.outputs.items()],
        "nodes": [_encode_node(node) for node in graph.nodes],
        "types": [[name, *_encode_type(type_)] for name, type_ in graph.types.items()],
        "equalities": [[encode_dim(e.a), encode_dim(e.b), e.why] for e in graph.equalities],
        "metadata": graph.metadata,
    }


def decode_graph(document: Any) -> Graph:
    """The graph of :func:`encode_graph`, with no constants yet.

    Only the form is checked here: everything has the JSON type that it must have, names are text,
    numbers are in range. ``verify`` checks that the graph makes sense, attributes included.

    Raises:
        UnsupportedError: some operators are not registered; names all of them.
        StorageError: the description is not of that form.
    """
    nodes = _list(_member(document, "nodes"), "nodes")
    kinds = [(_name(_member(n, "domain"), "domain"), _name(_member(n, "op"), "op")) for n in nodes]
    missing = [
        Refusal(_name(_member(n, "name"), "name"), op, _missing(op, domain, n.get("module")))
        for n, (domain, op) in zip(nodes, kinds, strict=True)
        if (domain, op) not in OPERATORS
    ]
    if missing:
        raise UnsupportedError(missing)
    outputs = [_names(pair, "outputs") for pair in _list(_member(document, "outputs"), "outputs")]
    types = [_list(t, "types") for t in _list(_member(document, "types"), "types")]
    equalities = [
        _list(e, "equalities") for e in _list(_member(document, "equalities"), "equalities")
    ]
    if any(len(pair) != 2 for pair in outputs) or any(len(e) != 3 for e in equalities):
        raise StorageError("holds an output or an equality of another form")
    metadata = _member(document, "metadata")
    if not isinstance(metadata, dict):
        raise _wrong("metadata", "an object", metadata)
    return Graph(
        _name(_member(document, "name"), "name"),
        tuple(_names(_member(document, "inputs"), "inputs")),
        _unique([(public, value) for public, value in outputs], "output"),
        [_decode_node(n) for n in nodes],
        _unique([(_name(t[0], "types"), _decode_type(t)) for t in types if t], "type of value"),
        {},
        [
            Equality(decode_dim(a), decode_dim(b), _name(why, "equalities"))
            for a, b, why in equalities
        ],
        metadata,
    )


def decode_constants(document: Any) -> list[tuple[str, str]]:
    """Name and checksum of each constant of a graph, in the order of their trees."""
    return [
        (_name(_member(c, "name"), "name"), _name(_member(c, "checksum"), "checksum"))
        for c in _list(_member(document, "constants"), "constants")
    ]


def _wrong(key: str, expected: str, found: Any) -> StorageError:
    shown = repr(found)
    shown = shown if len(shown) < 60 else shown[:60] + "..."
    return StorageError(f"its description is damaged: {key!r} must be {expected}, it is {shown}")


def _member(data: Any, key: str) -> Any:
    if not isinstance(data, dict):
        raise _wrong("nodes", "a list of objects", data)
    if key not in data:
        raise StorageError(f"its description is damaged: it lacks {key!r}")
    return data[key]


def _list(data: Any, key: str) -> list[Any]:
    if not isinstance(data, list):
        raise _wrong(key, "a list", data)
    return data


def _name(data: Any, key: str) -> str:
    """A text that can be a name: UTF-8 can write it."""
    if not isinstance(data, str) or any("\ud800" <= c <= "\udfff" for c in data):
        raise _wrong(key, "text without surrogates", data)
    return data


def _names(data: Any, key: str) -> list[str]:
    return [_name(n, key) for n in _list(data, key)]


def _optional_names(data: Any, key: str) -> tuple[str | None, ...]:
    return tuple(None if n is None else _name(n, key) for n in _list(data, key))


def _integer(data: Any, key: str) -> int:
    if type(data) is not int or not -(2**63) <= data < 2**64:
        raise _wrong(key, "an integer of 64 bits", data)
    return data


Value = TypeVar("Value")


def _unique(pairs: Sequence[tuple[str, Value]], what: str) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for name, value in pairs:
        if name in found:
            raise StorageError(f"its description is damaged: {what} {name!r} stands there twice")
        found[name] = value
    return found


def _missing(operator: str, domain: str, module: str | None) -> str:
    if not domain:
        return f"this version of sofie_root has no operator {operator!r}; install a newer one"
    where = f"module {module!r}" if module else "module"
    return (
        f"operator {operator!r} of domain {domain!r} is not registered; import the {where} that "
        "defines it (with @sofie_root.operator) before loading the model"
    )


def encode_dim(dim: Dim) -> Any:
    """A dim as JSON-able data."""
    if isinstance(dim, int):
        return int(dim)
    return [
        [coefficient, *(_encode_atom(atom) for atom, power in monomial for _ in range(power))]
        for monomial, coefficient in dim.terms
    ]


def _encode_atom(atom: Any) -> Any:
    match atom:
        case RuntimeSize() | StateSize():
            return atom.name
        case Symbol() if type(atom) is Symbol and not atom.is_index:
            plain = type(_decode_symbol(atom.name)) is Symbol
            return atom.name if plain else ["symbol", atom.name]
        case FloorDiv():
            return ["//", encode_dim(atom.a), encode_dim(atom.b)]
        case Min() | Max() | Broadcast():
            return [type(atom).__name__.lower(), *map(encode_dim, atom.dims())]
    raise StorageError(f"a shape depends on {atom}, which cannot be stored")


def decode_dim(data: Any) -> Dim:
    """The dim of :func:`encode_dim`.

    Raises:
        StorageError: it is none.
        BudgetError: it is larger than any that a model needs.
    """
    if not isinstance(data, list):
        return _integer(data, "dim")
    total: Dim = 0
    for entry in data:
        coefficient, *factors = _list(entry, "dim") or [None]
        term: Dim = _integer(coefficient, "dim")
        for factor in factors:
            term = term * _decode_factor(factor)
        total = total + term
    return total


def _decode_factor(data: Any) -> Dim:
    if isinstance(data, str):
        return as_poly(_decode_symbol(_name(data, "dim")))
    operation, *operands = _list(data, "dim") or [None]
    if operation == "symbol" and len(operands) == 1:
        return symbol(_name(operands[0], "dim"))
    function = _CALLS.get(operation) if isinstance(operation, str) else None
    if function is None or not operands:
        raise _wrong("dim", "a product, //, min, max or broadcast", data)
    if operation in ("//", "broadcast") and len(operands) != 2:
        raise _wrong("dim", "an operation on two dims", data)
    return function(*map(decode_dim, operands))


_RUNTIME_SIZE = re.compile(r"(.*):(0|[1-9][0-9]{0,8}):(0|[1-9][0-9]{0,8})", re.DOTALL)
_STATE_SIZE = re.compile(r"(.*):state:(0|[1-9][0-9]{0,8})", re.DOTALL)


def _decode_symbol(text: str) -> Symbol:
    """The symbol that a text stands for."""
    if match := _STATE_SIZE.fullmatch(text):
        return StateSize(match[1], int(match[2]))
    if match := _RUNTIME_SIZE.fullmatch(text):
        return RuntimeSize(match[1], int(match[2]), int(match[3]))
    return Symbol(text)


def _encode_type(type_: TensorType) -> list[Any]:
    encoded: list[Any] = [str(type_.dtype), [encode_dim(d) for d in type_.shape]]
    if type_.value is not None:
        encoded.append([encode_dim(d) for d in type_.value])
    return encoded


def _decode_dtype(data: Any) -> DType:
    if not isinstance(data, str) or (dtype := _DTYPES.get(data)) is None:
        raise _wrong("dtype", f"one of {', '.join(_DTYPES)}", data)
    return dtype


def _decode_type(data: Sequence[Any]) -> TensorType:
    if not 3 <= len(data) <= 4:
        raise _wrong("types", "a name, a dtype, a shape and possibly a value", data)
    _, dtype, shape, *value = data
    return TensorType(
        _decode_dtype(dtype),
        tuple(decode_dim(d) for d in _list(shape, "types")),
        tuple(decode_dim(d) for d in _list(value[0], "types")) if value else None,
    )


def _encode_node(node: Node) -> dict[str, Any]:
    module = type(node.op).__module__
    known = node.op.is_custom and module != "__main__"
    return {
        **({"module": module} if known else {}),
        "op": node.op.name,
        "domain": node.op.domain,
        "attributes": {k: _encode_attribute(v) for k, v in node.op.attributes().items()},
        "inputs": list(node.inputs),
        "outputs": list(node.outputs),
        "name": node.name,
        "origin": list(node.origin),
    }


def _decode_node(data: dict[str, Any]) -> Node:
    cls = OPERATORS[data["domain"], data["op"]]
    stored = _member(data, "attributes")
    if not isinstance(stored, dict):
        raise _wrong("attributes", "an object", stored)
    attributes = {k: decode_attribute(v) for k, v in stored.items()}
    name = _name(_member(data, "name"), "name")
    try:
        op: Op = cls(**attributes)
    except TypeError as error:
        raise StorageError(
            f"has attributes that this version of {data['op']} does not take: {error}",
            node=name,
            operator=data["op"],
        ) from error
    inputs, outputs = (_optional_names(_member(data, key), key) for key in ("inputs", "outputs"))
    return Node(op, inputs, outputs, name, tuple(_names(_member(data, "origin"), "origin")))


def _encode_attribute(value: Any) -> Any:
    match value:
        case np.generic():
            dtype = DType.from_numpy(value.dtype)
            if dtype is not None:
                return {"dtype": str(dtype), "bytes": value.tobytes().hex()}
        case float() if not math.isfinite(value):
            return {"float": str(value)}
        case None | bool() | int() | float() | str():
            return value
        case Graph():
            return {"graph": _encode_body(value)}
        case tuple():
            return [_encode_attribute(v) for v in value]
    raise StorageError(f"an attribute of type {type(value).__name__} cannot be stored")


def _encode_body(graph: Graph) -> dict[str, Any]:
    """A body of control flow; its constants are few and small, and stand in the description."""
    constants = {name: array.tobytes().hex() for name, array in graph.constants.items()}
    return {**encode_graph(graph), "elements": constants}


def _decode_body(data: Any) -> Graph:
    graph = decode_graph(data)
    elements = _member(data, "elements")
    if not isinstance(elements, dict):
        raise _wrong("elements", "an object", elements)
    for name, text in elements.items():
        if name not in graph.types:
            raise StorageError("is a constant without a type", tensor=name)
        type_ = graph.types[name]
        flat = _elements(text, type_.dtype)
        shape = tuple(d for d in type_.shape if isinstance(d, int))
        if math.prod(shape) != flat.size or len(shape) != type_.rank or min(shape, default=0) < 0:
            raise StorageError(f"holds {flat.size} elements of {type_}", tensor=name)
        graph.constants[name] = flat.reshape(shape)
    return graph


def _elements(data: Any, dtype: DType) -> npt.NDArray[Any]:
    if not isinstance(data, str) or not re.fullmatch(f"([0-9a-f]{{{2 * dtype.size}}})*", data):
        raise _wrong("bytes", f"elements of {dtype} in hexadecimal digits", data)
    raw = np.frombuffer(bytes.fromhex(data), np.uint8)
    if dtype is DType.BOOL and np.any(raw > 1):
        raise _wrong("bytes", "bools that are 0 or 1", data)
    return raw.view(dtype.numpy)


_FLOATS = {text: float(text) for text in ("nan", "inf", "-inf")}


def decode_attribute(data: Any) -> Any:
    """The value of an attribute.

    Raises:
        StorageError: it is none.
    """
    match data:
        case {"dtype": dtype, "bytes": text}:
            elements = _elements(text, _decode_dtype(dtype))
            if elements.size != 1:
                raise _wrong("bytes", "one element", text)
            return elements[0]
        case {"float": str(text)} if text in _FLOATS:
            return _FLOATS[text]
        case {"graph": body}:
            return _decode_body(body)
        case list():
            return tuple(decode_attribute(v) for v in data)
        case None | bool() | int() | float() | str():
            return data
    raise _wrong("attributes", "a value", data)


__all__ = [
    "decode_attribute",
    "decode_constants",
    "decode_dim",
    "decode_graph",
    "encode_dim",
    "encode_graph",
]
