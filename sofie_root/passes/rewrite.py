"""What a pass returns, and the sweep over the nodes that most passes are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy.typing as npt

from sofie_root.build import GraphBuilder, find_operator
from sofie_root.errors import Refusal
from sofie_root.ir import Graph, Node, TensorType, infer_node

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that a pass did: the node it was done to, and what, in words."""

    node: str
    text: str


@dataclass(frozen=True, slots=True)
class PassResult:
    """The changed graph, what was changed, and what was not, with the reason."""

    graph: Graph
    changes: tuple[Change, ...] = ()
    refusals: tuple[Refusal, ...] = ()


class Sweep:
    """One walk over the nodes of a graph in order, building a changed copy.

    Call :meth:`resolve` on each node, then :meth:`keep` it or one made from it, or :meth:`replace`
    its outputs; :meth:`result` puts the graph together. Equalities of nodes that go away are kept:
    what they demand was used when the types were inferred.

    Attributes:
        graph: the copy; its nodes are still the old ones.
        producers: node that writes a value, among those kept so far.
        uses: how often each value was read before the sweep, as graph output included.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph.copy()
        self._builder = GraphBuilder.extending(self.graph)
        self.producers: dict[str, Node] = {}
        self.uses = graph.use_counts()
        self._nodes: dict[tuple[str | None, ...], Node] = {}
        self._aliases: dict[str, str] = {}
        self._changes: list[Change] = []
        self._refusals: dict[Refusal, None] = {}

    def resolve(self, node: Node) -> Node:
        """The node reading what its inputs have been replaced by."""
        inputs = tuple(None if i is None else self._aliases.get(i, i) for i in node.inputs)
        return node if inputs == node.inputs else replace(node, inputs=inputs)

    def keep(self, node: Node) -> None:
        """Adds a node to the result."""
        self._nodes[node.outputs] = node
        for output in node.outputs:
            if output is not None:
                self.producers[output] = node

    def drop(self, node: Node) -> None:
        """Takes back a node that was kept: its only reader has taken its place."""
        del self._nodes[node.outputs]

    def replace(self, value: str, by: str) -> None:
        """Lets everything that reads ``value`` read ``by``, which is kept already or a constant."""
        if value != by:
            self._aliases[value] = by
            self.uses[by] += self.uses[value]

    def define(self, value: str, array: Array) -> None:
        """Makes a value a constant; the node that computes it must not be kept."""
        self._builder.define(value, array)

    def constant(self, name: str, array: Array) -> str:
        """Adds a constant under a fresh name."""
        return self._builder.constant(array, name)

    def add(
        self,
        node: Node,
        op: str,
        *inputs: str | None,
        output: str | None = None,
        **attributes: Any,
    ) -> str:
        """Adds one of the nodes that take the place of ``node``, and keeps it.

        Args:
            node: the first of its outputs lends its name to new values.
            op: name of the operator.
            inputs: values that are kept already, or constants.
            output: the value that is written, which keeps its type; a new one if not given. The node that
                writes it has the name of ``node``, the others one made from it.
            attributes: of the operator.

        Returns:
            The value that is written.
        """
        value = output or self._builder.values.fresh(f"{node.outputs[0]}.{op.lower()}")
        name = node.name if output else f"{node.name}/{op}"
        new = replace(
            node, op=find_operator(op)(**attributes), inputs=inputs, outputs=(value,), name=name
        )
        inferred, _ = infer_node(new, self.graph.types)
        self.graph.types.setdefault(value, inferred[0])
        self.keep(new)
        return value

    def array(self, value: str | None) -> Array | None:
        """The content of a constant, else None."""
        return None if value is None else self.graph.constants.get(value)

    def type(self, value: str | None) -> TensorType:
        """The type of a value."""
        assert value is not None
        return self.graph.types[value]

    def only_reader(self, value: str | None) -> Node | None:
        """The node that writes a value which one node reads and which is no output, else None."""
        if value is None or self.uses[value] != 1 or value in self.graph.outputs.values():
            return None
        return self.producers.get(value)

    def fits(self, node: Node) -> bool:
        """Whether a changed node gives its outputs the types they have, and demands nothing new."""
        inferred, equalities = infer_node(node, self.graph.types)
        known = {(e.a, e.b) for e in self.graph.equalities}
        return all((e.a, e.b) in known for e in equalities) and all(
            same_form(new, self.type(output))
            for output, new in zip(node.outputs, inferred, strict=False)
            if output is not None
        )

    def change(self, node: Node, text: str) -> None:
        """Notes a change."""
        self._changes.append(Change(node.name, text))

    def refuse(self, node: Node, reason: str) -> None:
        """Notes what could not be done, for ``inspect -v``."""
        self._refusals.setdefault(Refusal(node.name, node.op.name, reason))

    def result(self) -> PassResult:
        """The changed graph."""
        self.graph.nodes = [self.resolve(n) for n in self._nodes.values()]
        self.graph.outputs = {
            public: self._aliases.get(value, value) for public, value in self.graph.outputs.items()
        }
        return PassResult(self.graph, tuple(self._changes), tuple(self._refusals))


def same_form(a: TensorType, b: TensorType) -> bool:
    """Whether dtype and shape agree; the symbolic content may differ."""
    return a.dtype is b.dtype and a.shape == b.shape
