"""The graph: typed values in SSA form, nodes in topological order, constants as NumPy arrays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt

from sofie_root.errors import BudgetError, ModelError, Refusal, ShapeError, UnsupportedError

from .attributes import check_attributes
from .dim import Atom, Dim, Symbol, at_least, size_symbols, substitute
from .dtype import DType
from .op import Op, Refuse, inferring
from .types import MAX_KNOWN_VALUES, TensorType

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Node:
    """One operator applied to named values.

    Attributes:
        op: the operator with its attributes.
        inputs: value names; None for an omitted optional input.
        outputs: names of the values it writes; None for an output that nobody reads.
        name: name of the node in the model (or made from its operator and output).
        origin: names of the model's nodes that this node stands for, itself included.
    """

    op: Op
    inputs: tuple[str | None, ...]
    outputs: tuple[str | None, ...]
    name: str
    origin: tuple[str, ...] = ()

    def __str__(self) -> str:
        ins = ", ".join(i if i is not None else "_" for i in self.inputs)
        outs = ", ".join(o if o is not None else "_" for o in self.outputs)
        return f"{outs} = {self.op}({ins})"


@dataclass(frozen=True, slots=True)
class Equality:
    """Two dims that must be equal when the model runs, and the node that demands it."""

    a: Dim
    b: Dim
    why: str


@dataclass(slots=True, eq=False)
class Graph:
    """A model: inputs, nodes, outputs, and the type of every value.

    Attributes:
        name: the model's name (file stem unless the model says better).
        inputs: names of the run-time inputs in the model's order.
        outputs: public output name to the value it returns, in the model's order. A value may be
            returned twice and may be an input or a constant.
        nodes: in topological order.
        types: type of every value, constants included.
        constants: array of every constant value.
        equalities: dims that were proven equal only by assumption; checked at run time.
        metadata: provenance (producer, opset, sha256, ...), JSON-able.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: dict[str, str]
    nodes: list[Node] = field(default_factory=list)
    types: dict[str, TensorType] = field(default_factory=dict)
    constants: dict[str, Array] = field(default_factory=dict)
    equalities: list[Equality] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)

    def producers(self) -> dict[str, Node]:
        """The node that writes each value (inputs and constants have none)."""
        return {out: node for node in self.nodes for out in node.outputs if out is not None}

    def all_nodes(self) -> Iterator[Node]:
        """The nodes of this graph, each followed by those of the graphs among its attributes."""
        for node in self.nodes:
            yield node
            for value in node.op.attributes().values():
                if isinstance(value, Graph):
                    yield from value.all_nodes()

    def use_counts(self) -> Counter[str]:
        """How often each value is read, by nodes and as graph output."""
        uses: Counter[str] = Counter(i for node in self.nodes for i in node.inputs if i is not None)
        uses.update(self.outputs.values())
        return uses

    def symbols(self) -> list[Symbol]:
        """The size symbols of the inputs, in order of first use: the leading arguments of ``infer``."""
        types = [self.types[name] for name in self.inputs]
        return size_symbols(d for t in types for d in (*t.shape, *(t.value or ())))

    def copy(self) -> Graph:
        """A copy whose containers can be changed without changing this graph."""
        return Graph(
            self.name,
            self.inputs,
            dict(self.outputs),
            list(self.nodes),
            dict(self.types),
            dict(self.constants),
            list(self.equalities),
            dict(self.metadata),
        )

    def __str__(self) -> str:
        lines = [f"graph {self.name}"]
        lines += [f"  input  {n}: {self.types[n]}" for n in self.inputs]
        lines += [f"  const  {n}: {self.types[n]}" for n in self.constants]
        for node in self.nodes:
            types = ", ".join(str(self.types[o]) for o in node.outputs if o is not None)
            lines.append(f"  {node} : {types}")
        lines += [f"  output {n} = {v}: {self.types[v]}" for n, v in self.outputs.items()]
        return "\n".join(lines)


def constant_type(array: Array) -> TensorType:
    """The type of a constant array; small integer and bool arrays carry their value."""
    dtype = DType.from_numpy(array.dtype)
    if dtype is None:
        raise ModelError(f"element type {array.dtype} is not supported")
    value = None
    if not dtype.is_float and array.size <= MAX_KNOWN_VALUES:
        value = tuple(int(v) for v in array.ravel())
    return TensorType(dtype, tuple(int(d) for d in array.shape), value)


MALFORMED = (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError)
"""What an operator may stumble over when its attributes or inputs make no sense."""


def infer_node(
    node: Node, types: dict[str, TensorType]
) -> tuple[tuple[TensorType, ...], list[Equality]]:
    """Types of a node's outputs and the equalities its operator demands; checks its attributes first.

    Raises:
        ModelError: an attribute is not of the type that the operator declares; names the node.
        ShapeError: the inputs do not fit the operator; names the node.
        Refuse: valid, but not supported.
    """
    if not node.outputs:
        raise ShapeError("has no outputs", node=node.name, operator=node.op.name)
    args = [None if i is None else types[i] for i in node.inputs]
    with inferring(node.outputs) as state:
        try:
            check_attributes(node.op)
            result = node.op.infer(*args)
        except (ModelError, BudgetError) as error:
            if error.node is None:  # else it is of a node inside a body
                error.node, error.operator = node.name, node.op.name
            raise
        except RecursionError:
            raise BudgetError("depth", None, None, node=node.name, operator=node.op.name) from None
        except TypeError as error:
            raise ShapeError(
                f"got {len(args)} inputs, which is not a number this operator takes ({error})",
                node=node.name,
                operator=node.op.name,
            ) from error
        except MALFORMED as error:
            raise ShapeError(
                f"its attributes or inputs make no sense ({type(error).__name__}: {error})",
                node=node.name,
                operator=node.op.name,
            ) from error
    outs = result if isinstance(result, tuple) else (result,)
    if len(node.outputs) > len(outs):
        raise ShapeError(
            f"has {len(node.outputs)} outputs, the operator gives {len(outs)}",
            node=node.name,
            operator=node.op.name,
        )
    for name, type_ in zip(node.outputs, outs, strict=False):
        reason = (
            type_.impossible() if isinstance(type_, TensorType) else f"is no type: {type_!r:.80}"
        )
        if reason is not None:
            raise ShapeError(
                f"its result {reason}", tensor=name, node=node.name, operator=node.op.name
            )
    outs = tuple(t if _fits_64_bits(t.value) else t.with_value(None) for t in outs)
    return outs, [
        Equality(a, b, f"{node.op.name} {node.name!r}: {why}") for a, b, why in state.equalities
    ]


def _fits_64_bits(value: tuple[Dim, ...] | None) -> bool:
    """Whether integers are those that a tensor can hold: what is larger wraps around, by itself."""
    return value is None or all(-(2**63) <= v < 2**64 for v in value if isinstance(v, int))


def infer_types(graph: Graph, *, file: str | None = None) -> None:
    """Fills ``graph.types`` and ``graph.equalities`` by inferring every node in order.

    Raises:
        UnsupportedError: names every node that cannot be translated, at once.
        ShapeError: a node's inputs contradict its operator.
    """
    refusals: list[Refusal] = []
    unknown: set[str] = set()
    demanded: dict[Equality, None] = {}
    for node in graph.nodes:
        if any(i in unknown for i in node.inputs if i is not None):
            unknown.update(o for o in node.outputs if o is not None)
            continue
        try:
            outs, equalities = infer_node(node, graph.types)
        except Refuse as reason:
            refusals.append(Refusal(node.name, node.op.name, str(reason)))
            unknown.update(o for o in node.outputs if o is not None)
            continue
        except ShapeError as error:
            error.file = file
            raise
        demanded.update(dict.fromkeys(equalities))
        for name, type_ in zip(node.outputs, outs, strict=False):
            if name is not None:
                graph.types[name] = type_
    graph.equalities = list(demanded)
    if refusals:
        raise UnsupportedError(refusals, file=file)


def verify(graph: Graph) -> None:
    """Checks the invariants that every pass must keep, and that a graph from a file must have.

    Raises:
        ModelError: a value is read before it is written, written twice, or has no or a wrong type; an
            input has a size that may be negative; an attribute is not what its operator declares.
    """
    _verify_names(graph, "graph")
    for name in graph.inputs:
        for d in graph.types[name].shape:
            if not at_least(d, 0):
                raise ModelError(f"is an input with the impossible size {d}", tensor=name)
        for symbol in size_symbols(graph.types[name].shape):
            if type(symbol) is not Symbol:
                raise ModelError(
                    f"is an input with the size {symbol}, which only the run tells", tensor=name
                )
    for node in graph.nodes:
        outs, _ = infer_node(node, graph.types)
        for target, type_ in zip(node.outputs, outs, strict=False):
            if target is None:
                continue
            have = graph.types[target]
            if not _compatible(have, type_):
                raise ModelError(
                    f"writes {type_}, but the value is typed {have}", node=node.name, tensor=target
                )


def _verify_names(graph: Graph, what: str) -> None:
    """Every value is written once, before it is read, and has a type that can be; also in bodies."""
    known: set[str] = set()

    def write(name: str, by: str, node: str | None = None) -> None:
        if name in known:
            raise ModelError(f"is written twice, the second time as {by}", node=node, tensor=name)
        if name not in graph.types:
            raise ModelError(f"has no type as {by}", node=node, tensor=name)
        if (reason := graph.types[name].impossible()) is not None:
            raise ModelError(reason, node=node, tensor=name)
        known.add(name)

    for name in graph.inputs:
        write(name, f"input of the {what}")
    for name, array in graph.constants.items():
        write(name, f"constant of the {what}")
        type_ = graph.types[name]
        if tuple(array.shape) != type_.shape or array.dtype != type_.dtype.numpy:
            raise ModelError(f"constant is {array.dtype}{array.shape}, typed {type_}", tensor=name)
    for node in graph.nodes:
        for source in node.inputs:
            if source is not None and source not in known:
                raise ModelError(
                    "reads a value before it is written", node=node.name, tensor=source
                )
        for value in node.op.attributes().values():
            if isinstance(value, Graph):
                _verify_names(value, f"body of {node.name!r}")
        for target in node.outputs:
            if target is not None:
                write(target, f"output of {node.name!r}", node.name)
    for public, value in graph.outputs.items():
        if value not in known:
            raise ModelError(f"output returns {value!r}, which is never written", tensor=public)


def _compatible(a: TensorType, b: TensorType) -> bool:
    """Whether two types can be of one tensor: dtype, rank, and the sizes that both know as numbers."""
    return (
        a.dtype is b.dtype
        and a.rank == b.rank
        and all(
            x == y or not (isinstance(x, int) and isinstance(y, int))
            for x, y in zip(a.shape, b.shape, strict=True)
        )
    )


def substitute_symbols(types: Iterable[TensorType], dims: dict[str, int]) -> list[TensorType]:
    """The types with named size symbols fixed to numbers."""
    mapping: dict[Atom, Dim] = {Symbol(name): size for name, size in dims.items()}
    return [
        TensorType(
            t.dtype,
            tuple(substitute(d, mapping) for d in t.shape),
            None if t.value is None else tuple(substitute(d, mapping) for d in t.value),
        )
        for t in types
    ]


__all__ = [
    "Array",
    "Equality",
    "Graph",
    "Node",
    "constant_type",
    "infer_node",
    "infer_types",
    "substitute_symbols",
    "verify",
]
