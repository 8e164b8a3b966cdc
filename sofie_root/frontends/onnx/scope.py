"""Names while a model is imported: what they stand for in each scope."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from onnx import SparseTensorProto, TensorProto

FunctionKey: TypeAlias = tuple[str, str, str]
"""Domain, name and overload of a function."""


@dataclass(slots=True)
class Scope:
    """The names that are visible inside a graph, a function body or a branch.

    Attributes:
        values: ONNX name to graph value; None for an omitted input of a function.
        tensors: initialisers that nothing has read yet.
        names: graph value that an ONNX name shall get when it is written.
        opsets: opset version per domain.
        attributes: values of the attributes of the function that is being expanded.
        prefix: put before the names of nodes and values inside functions and branches; empty in the
            model's own graph.
        calls: functions being expanded, to find recursion.
        parent: the enclosing scope of a branch.
        captures: whether the parent belongs to the graph around this one, so that what is read from
            there becomes an input.
    """

    opsets: Mapping[str, int]
    values: dict[str, str | None] = field(default_factory=dict)
    tensors: dict[str, TensorProto | SparseTensorProto] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    prefix: str = ""
    calls: tuple[FunctionKey, ...] = ()
    parent: Scope | None = None
    captures: bool = False

    def has(self, name: str) -> bool:
        """Whether the name is known here or in an enclosing scope."""
        here = name in self.values or name in self.tensors
        return here or (self.parent is not None and self.parent.has(name))

    def inside(
        self,
        node: str,
        tensors: dict[str, TensorProto | SparseTensorProto],
        prefix: str = "",
        **own: Any,
    ) -> Scope:
        """The scope of a subgraph of a node, which sees the names around it.

        Args:
            node: name of the node.
            tensors: the subgraph's initialisers.
            prefix: put before names; the node's if not given.
            own: further fields.
        """
        return Scope(
            opsets=self.opsets,
            tensors=tensors,
            attributes=self.attributes,
            prefix=prefix or f"{node}/",
            calls=self.calls,
            parent=self,
            **own,
        )
