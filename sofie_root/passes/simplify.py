"""Nodes that do nothing go away; pairs that undo or repeat each other become one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from sofie_root.ir import OPERATORS, DType, Graph, Node, Op

from .rewrite import PassResult, Sweep, same_form


def remove_no_ops(graph: Graph) -> PassResult:
    """Lets the readers of a node that changes nothing read the node's input instead."""
    sweep = Sweep(graph)
    for original in graph.nodes:
        node = sweep.resolve(original)
        source = _unchanged_input(node, sweep)
        if source is not None and node.outputs[0] is not None:
            sweep.replace(node.outputs[0], source)
            sweep.change(node, "does nothing and is removed")
        else:
            sweep.keep(node)
    return sweep.result()


def merge_pairs(graph: Graph) -> PassResult:
    """Reads through views: Transpose of Transpose, and back and forth between shapes or dtypes."""
    sweep = Sweep(graph)
    for original in graph.nodes:
        node = sweep.resolve(original)
        source = _undone(node, sweep)
        if source is not None and node.outputs[0] is not None:
            sweep.replace(node.outputs[0], source)
            sweep.change(node, "undoes what was done before it; both are removed")
            continue
        merged = _composed_transpose(node, sweep)
        if merged is not None:
            sweep.change(node, "is merged with the Transpose before it")
        sweep.keep(merged or node)
    return sweep.result()


# -- nodes that change nothing ---------------------------------------------------------------------


def _unchanged_input(node: Node, sweep: Sweep) -> str | None:
    """The input that output 0 equals, None where the node does something."""
    rule = NO_OPS.get(node.op.name) if not node.op.domain else None
    if rule is None or any(o is not None and sweep.uses[o] for o in node.outputs[1:]):
        return None
    source = rule(node, sweep)
    if source is None or node.outputs[0] is None:
        return None
    same = same_form(sweep.type(source), sweep.type(node.outputs[0]))
    return source if same else None


def _first(node: Node, sweep: Sweep) -> str | None:
    """Same dtype and shape is all it takes."""
    return node.inputs[0]


def _single(node: Node, sweep: Sweep) -> str | None:
    return node.inputs[0] if len(node.inputs) == 1 else None


def _no_bounds(node: Node, sweep: Sweep) -> str | None:
    return node.inputs[0] if not any(node.inputs[1:]) else None


def _inference(node: Node, sweep: Sweep) -> str | None:
    training = node.inputs[2] if len(node.inputs) > 2 else None
    array = sweep.array(training)
    return node.inputs[0] if training is None or (array is not None and not array.any()) else None


def _forward(node: Node, sweep: Sweep) -> str | None:
    """A Slice that keeps the shape is whole, unless it runs backwards."""
    steps = node.inputs[4] if len(node.inputs) > 4 else None
    array = sweep.array(steps)
    return (
        node.inputs[0] if steps is None or (array is not None and bool(np.all(array > 0))) else None
    )


def _no_padding(node: Node, sweep: Sweep) -> str | None:
    pads = sweep.array(node.inputs[1] if len(node.inputs) > 1 else None)
    return node.inputs[0] if pads is not None and not pads.any() else None


def _in_order(node: Node, sweep: Sweep) -> str | None:
    order = _order(node.op, sweep.type(node.inputs[0]).rank)
    return node.inputs[0] if order == tuple(range(len(order))) else None


def _neutral(element: float, both_sides: bool) -> Callable[[Node, Sweep], str | None]:
    """For ``x + 0``, ``x * 1`` and the like; -0.0 + 0 is left as -0.0."""

    def rule(node: Node, sweep: Sweep) -> str | None:
        if len(node.inputs) != 2:
            return None
        for kept, other in ((0, 1), (1, 0)) if both_sides else ((0, 1),):
            array = sweep.array(node.inputs[other])
            if array is not None and array.size and bool(np.all(array == element)):
                return node.inputs[kept]
        return None

    return rule


def _ones(node: Node, sweep: Sweep) -> str | None:
    """A Tile that repeats nothing."""
    repeats = sweep.array(node.inputs[1])
    return node.inputs[0] if repeats is not None and bool(np.all(repeats == 1)) else None


NO_OPS: dict[str, Callable[[Node, Sweep], str | None]] = {
    "Add": _neutral(0, both_sides=True),
    "Cast": _first,
    "CastLike": _first,
    "Clip": _no_bounds,
    "Concat": _single,
    "Div": _neutral(1, both_sides=False),
    "Dropout": _inference,
    "Expand": _first,
    "Flatten": _first,
    "Identity": _first,
    "Max": _single,
    "Mean": _single,
    "Min": _single,
    "Mul": _neutral(1, both_sides=True),
    "Pad": _no_padding,
    "Pow": _neutral(1, both_sides=False),
    "Reshape": _first,
    "Slice": _forward,
    "Split": _single,
    "Squeeze": _first,
    "Sub": _neutral(0, both_sides=False),
    "Sum": _single,
    "Tile": _ones,
    "Transpose": _in_order,
    "Unsqueeze": _first,
}
"""Which input a node returns unchanged, provided that dtype and shape agree."""


# -- pairs -----------------------------------------------------------------------------------------


def _undone(node: Node, sweep: Sweep) -> str | None:
    """The value before a chain of reshapes or of widening casts that ends where it began."""
    if not (node.op.reshapes or _is_cast(node)):
        return None
    target = sweep.type(node.outputs[0])
    value = node.inputs[0]
    while value is not None:
        before = sweep.producers.get(value)
        if before is None or not (before.op.reshapes if node.op.reshapes else _is_cast(before)):
            return None
        inner = before.inputs[0]
        if not node.op.reshapes and not _widens(sweep.type(inner).dtype, sweep.type(value).dtype):
            return None
        value = inner
        if same_form(sweep.type(value), target):
            return value
    return None


def _is_cast(node: Node) -> bool:
    return node.op.name == "Cast" and not node.op.domain


def _widens(a: DType, b: DType) -> bool:
    """Whether every value of ``a`` is exactly a value of ``b``."""
    if a is DType.BOOL or a is b:
        return True
    if a.is_integer and b.is_integer:
        return np.can_cast(a.numpy, b.numpy)
    if a.is_float and b.is_float:
        return b is DType.DOUBLE or (b is DType.FLOAT and a is not DType.DOUBLE)
    return False


def _order(op: Op, rank: int) -> tuple[int, ...]:
    """The permutation of a Transpose; axes reversed where it has none."""
    perm: tuple[int, ...] = getattr(op, "perm", None) or ()
    return tuple(perm) or tuple(reversed(range(rank)))


def _composed_transpose(node: Node, sweep: Sweep) -> Node | None:
    if node.op.name != "Transpose" or node.op.domain:
        return None
    before = sweep.producers.get(node.inputs[0] or "")
    if before is None or before.op.name != "Transpose" or before.op.domain:
        return None
    rank = sweep.type(node.inputs[0]).rank
    first, second = _order(before.op, rank), _order(node.op, rank)
    perm = tuple(first[axis] for axis in second)
    op = OPERATORS["", "Transpose"](perm=perm)  # type: ignore[call-arg]
    merged = replace(node, op=op, inputs=before.inputs, origin=before.origin + node.origin)
    return merged if sweep.fits(merged) else None
