"""A graph as JSON and back: nodes, types and symbolic dims, all but the arrays of its constants.

A dim is an int or a sum of products, each a list of its coefficient and its factors: ``4*N*M + 2``
is ``[[4, "N", "M"], [2]]``. A factor is the name of a symbol or ``["//", a, b]``, ``["min", ...]``,
``["max", ...]`` of dims. Decoding rebuilds it by arithmetic; nothing is evaluated or parsed.

An attribute is JSON's own where JSON has it (a list is a tuple); a float that JSON cannot write is
``{"float": "nan"}``, and a NumPy scalar ``{"dtype": "float", "bytes": "0000803f"}``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import sofie_root.ops  # noqa: F401  (registers the operators)
from sofie_root.errors import Refusal, StorageError, UnsupportedError
from sofie_root.ir import OPERATORS, DType, Equality, Graph, Node, Op, TensorType, symbol
from sofie_root.ir.dim import Dim, FloorDiv, Max, Min, Symbol, floordiv, maximum, minimum

_CALLS: dict[str, Callable[..., Dim]] = {"//": floordiv, "min": minimum, "max": maximum}


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


def decode_graph(document: dict[str, Any]) -> Graph:
    """The graph of :func:`encode_graph`, with no constants yet.

    Raises:
        UnsupportedError: some operators are not registered; names all of them.
        StorageError: an operator has an attribute that is not known.
    """
    missing = [
        Refusal(n["name"], n["op"], _missing(n["op"], n["domain"], n.get("module")))
        for n in document["nodes"]
        if (n["domain"], n["op"]) not in OPERATORS
    ]
    if missing:
        raise UnsupportedError(missing)
    return Graph(
        document["name"],
        tuple(document["inputs"]),
        dict(document["outputs"]),
        [_decode_node(n) for n in document["nodes"]],
        {name: _decode_type(rest) for name, *rest in document["types"]},
        {},
        [Equality(decode_dim(a), decode_dim(b), why) for a, b, why in document["equalities"]],
        document["metadata"],
    )


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
        case Symbol() if not atom.is_index:
            return atom.name
        case FloorDiv():
            return ["//", encode_dim(atom.a), encode_dim(atom.b)]
        case Min() | Max():
            return [type(atom).__name__.lower(), *map(encode_dim, atom.args)]
    raise StorageError(f"a shape depends on {atom}, which cannot be stored")


def decode_dim(data: Any) -> Dim:
    """The dim of :func:`encode_dim`."""
    if isinstance(data, int):
        return int(data)
    total: Dim = 0
    for coefficient, *factors in data:
        term: Dim = int(coefficient)
        for factor in factors:
            term = term * _decode_factor(factor)
        total = total + term
    return total


def _decode_factor(data: Any) -> Dim:
    if isinstance(data, str):
        return symbol(data)
    operation, *operands = data
    return _CALLS[operation](*map(decode_dim, operands))


def _encode_type(type_: TensorType) -> list[Any]:
    encoded: list[Any] = [str(type_.dtype), [encode_dim(d) for d in type_.shape]]
    if type_.value is not None:
        encoded.append([encode_dim(d) for d in type_.value])
    return encoded


def _decode_type(data: Sequence[Any]) -> TensorType:
    dtype, shape, *value = data
    return TensorType(
        DType[dtype.upper()],
        tuple(decode_dim(d) for d in shape),
        tuple(decode_dim(d) for d in value[0]) if value else None,
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
    attributes = {k: _decode_attribute(v) for k, v in data["attributes"].items()}
    try:
        op: Op = cls(**attributes)
    except TypeError as error:
        raise StorageError(
            f"has attributes that this version of {data['op']} does not take: {error}",
            node=data["name"],
            operator=data["op"],
        ) from error
    inputs, outputs, origin = (tuple(data[key]) for key in ("inputs", "outputs", "origin"))
    return Node(op, inputs, outputs, data["name"], origin)


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


def _decode_body(data: dict[str, Any]) -> Graph:
    graph = decode_graph(data)
    for name, text in data["elements"].items():
        type_ = graph.types[name]
        flat = np.frombuffer(bytes.fromhex(text), type_.dtype.numpy)
        shape = tuple(d for d in type_.shape if isinstance(d, int))
        if math.prod(shape) != flat.size or len(shape) != type_.rank:
            raise StorageError(f"holds {flat.size} elements of {type_}", tensor=name)
        graph.constants[name] = flat.reshape(shape)
    return graph


def _decode_attribute(data: Any) -> Any:
    match data:
        case {"dtype": dtype, "bytes": text}:
            return np.frombuffer(bytes.fromhex(text), DType[dtype.upper()].numpy)[0]
        case {"float": text}:
            return float(text)
        case {"graph": body}:
            return _decode_body(body)
        case list():
            return tuple(_decode_attribute(v) for v in data)
    return data


__all__ = ["decode_dim", "decode_graph", "encode_dim", "encode_graph"]
