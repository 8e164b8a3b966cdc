"""Loops that run together: what a target prints as one piece."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from sofie_root.ir.dim import Dim, Symbol

from .operation import Operation
from .program import Buffer
from .statement import Bind, Branch, Check, Fetch, Loop, Repeat


@dataclass(slots=True)
class For:
    """``for var in [0, extent)`` around its body."""

    var: Symbol
    body: list[For | Loop]

    @property
    def extent(self) -> Dim:
        """Number of iterations."""
        assert self.var.extent is not None
        return self.var.extent


@dataclass(slots=True)
class Nest:
    """Loops that run together.

    Attributes:
        body: For nodes and, inside them, loops whose ``vars`` are bound by the For nodes around them.
        locals: temporaries of this nest, by buffer name: shape ``()`` is a register, the others are
            arrays on the stack.
        declared: for each local array, the For node in whose body it lives (None: the whole nest).
    """

    body: list[For | Loop]
    locals: dict[str, Buffer] = field(default_factory=dict)
    declared: dict[str, For | None] = field(default_factory=dict)

    def loops(self) -> list[Loop]:
        """Every loop of the nest in order."""
        return [leaf for node in self.body for leaf, _ in leaves(node)]

    @property
    def origin(self) -> tuple[str, ...]:
        """Names of the model's nodes, in order."""
        return tuple(dict.fromkeys(o for loop in self.loops() for o in loop.origin))


Step = Nest | Operation | Bind | Check | Branch | Repeat | Fetch


def leaves(node: For | Loop, path: tuple[For, ...] = ()) -> Iterator[tuple[Loop, tuple[For, ...]]]:
    """The loops of a tree of For nodes in order, each with the For nodes around it."""
    if isinstance(node, Loop):
        yield node, path
        return
    for child in node.body:
        yield from leaves(child, (*path, node))
