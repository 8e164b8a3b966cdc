"""Nodes that compute the same are computed once; nodes that nobody reads are not computed."""

from __future__ import annotations

from hashlib import blake2b

from sofie_root.ir import Graph, Node
from sofie_root.ir.dim import size_symbols

from .rewrite import Change, PassResult, Sweep, same_form


def merge_common(graph: Graph) -> PassResult:
    """Lets readers of equal constants and of equal nodes (same operator, same inputs) share one."""
    sweep = Sweep(graph)
    first_constant: dict[tuple[str, tuple[int, ...], bytes], str] = {}
    for name, array in graph.constants.items():
        key = (str(array.dtype), array.shape, blake2b(array.tobytes()).digest())
        sweep.replace(name, first_constant.setdefault(key, name))
    first_node: dict[tuple[object, ...], Node] = {}
    for original in graph.nodes:
        node = sweep.resolve(original)
        shared = first_node.setdefault((node.op, node.inputs), node)
        if shared is not node and _same_outputs(shared, node, sweep):
            for output, other in zip(node.outputs, shared.outputs, strict=True):
                if output is not None and other is not None:
                    sweep.replace(output, other)
            sweep.change(node, f"computes the same as {shared.name!r}, whose result is used")
        else:
            sweep.keep(node)
    return sweep.result()


def _same_outputs(a: Node, b: Node, sweep: Sweep) -> bool:
    """Whether outputs pair up; sizes found at run time carry the name of their own node."""
    return len(a.outputs) == len(b.outputs) and all(
        y is None or (x is not None and same_form(sweep.type(x), sweep.type(y)))
        for x, y in zip(a.outputs, b.outputs, strict=True)
    )


def remove_dead(graph: Graph) -> PassResult:
    """Removes nodes, constants and types that no output depends on.

    What a removed node demanded of the sizes is still demanded, unless it is about a size that only
    a removed node would have found.
    """
    graph = graph.copy()
    needed = set(graph.outputs.values())
    kept: list[Node] = []
    changes: list[Change] = []
    for node in reversed(graph.nodes):
        if any(o in needed for o in node.outputs):
            kept.append(node)
            needed.update(i for i in node.inputs if i is not None)
        else:
            changes.append(Change(node.name, "is not needed for any output and is removed"))
    graph.nodes = kept[::-1]
    graph.constants = {name: a for name, a in graph.constants.items() if name in needed}
    alive = {*graph.inputs, *graph.constants, *(o for n in graph.nodes for o in n.outputs)}
    graph.types = {name: type_ for name, type_ in graph.types.items() if name in alive}
    sizes = set(size_symbols(d for type_ in graph.types.values() for d in type_.shape))
    graph.equalities = [e for e in graph.equalities if set(size_symbols((e.a, e.b))) <= sizes]
    return PassResult(graph, tuple(reversed(changes)))
