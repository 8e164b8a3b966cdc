"""Puts the nodes of an ONNX graph into the order of their data."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence

from onnx import GraphProto, NodeProto, SparseTensorProto, TensorProto

from sofie_root.errors import ModelError


def topological(nodes: Sequence[NodeProto], known: Callable[[str], bool]) -> list[NodeProto]:
    """The nodes so that every value is written before it is read; else in the file's order.

    Args:
        nodes: in the file's order, which may be any.
        known: whether a name is an input, a constant or a value of an enclosing graph.

    Raises:
        ModelError: nodes depend on each other in a cycle, or read what nothing writes.
    """
    writer = {o: k for k, node in enumerate(nodes) for o in node.output if o}
    needs: list[set[int]] = []
    readers: list[list[int]] = [[] for _ in nodes]
    for k, node in enumerate(nodes):
        needs.append(set())
        for name in _reads(node):
            if name in writer:
                needs[k].add(writer[name])
            elif not known(name):
                raise ModelError(
                    f"reads {name!r}, which nothing writes; export the model again",
                    node=node.name or first_output(node),
                    operator=node.op_type,
                )
        for other in needs[k]:
            readers[other].append(k)
    waiting = [len(n) for n in needs]
    ready = [k for k, count in enumerate(waiting) if not count]
    heapq.heapify(ready)
    order: list[NodeProto] = []
    while ready:
        k = heapq.heappop(ready)
        order.append(nodes[k])
        for reader in readers[k]:
            waiting[reader] -= 1
            if not waiting[reader]:
                heapq.heappush(ready, reader)
    if len(order) < len(nodes):
        raise ModelError(
            f"the nodes {_cycle(nodes, needs, waiting)} read each other's results in a cycle; "
            "export the model again"
        )
    return order


def _cycle(nodes: Sequence[NodeProto], needs: list[set[int]], waiting: list[int]) -> str:
    """Names of the nodes of one cycle."""
    path = [next(k for k, count in enumerate(waiting) if count)]
    while True:
        ahead = next(k for k in sorted(needs[path[-1]]) if waiting[k])
        if ahead in path:
            cycle = path[path.index(ahead) :]
            return ", ".join(repr(nodes[k].name or first_output(nodes[k])) for k in sorted(cycle))
        path.append(ahead)


def _reads(node: NodeProto) -> Iterable[str]:
    yield from (i for i in node.input if i)
    for attribute in node.attribute:
        for graph in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
            yield from _free_names(graph)


def _free_names(graph: GraphProto) -> Iterable[str]:
    """Names that a subgraph takes from outside."""
    own = {i.name for i in graph.input} | set(initializers(graph))
    own.update(o for node in graph.node for o in node.output)
    for node in graph.node:
        yield from (name for name in _reads(node) if name not in own)
    yield from (o.name for o in graph.output if o.name and o.name not in own)


def initializers(graph: GraphProto) -> dict[str, TensorProto | SparseTensorProto]:
    """The initialisers of a graph by name, dense and sparse.

    Raises:
        ModelError: a name occurs twice.
    """
    found: dict[str, TensorProto | SparseTensorProto] = {}
    named = [(t.name, t) for t in graph.initializer]
    for name, tensor in [*named, *((t.values.name, t) for t in graph.sparse_initializer)]:
        if name in found:
            raise ModelError("is the name of two initialisers; export the model again", tensor=name)
        found[name] = tensor
    return found


def first_output(node: NodeProto) -> str:
    """What to call a node without a name: its first output, else its operator."""
    return next((o for o in node.output if o), node.op_type)
