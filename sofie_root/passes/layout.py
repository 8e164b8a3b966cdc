"""Channels last where that is free: a 1x1 convolution is a matrix product over the channels.

Written as one, its result has the channels innermost, and the loops around it (activations, gathers,
concatenations, means over neighbours) follow: reads are contiguous along the channels, whatever picks
the points. Beside operators that keep the channels first, such as convolutions that give few channels, the
transposition would cost more than it gains.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from sofie_root.ir import DType, Graph, Node

from .rewrite import PassResult, Sweep

FEW_CHANNELS = 16
"""A convolution with a window that gives fewer channels than fill a vector keeps them first."""


def pointwise_conv_to_matmul(graph: Graph) -> PassResult:
    """Makes matrix products of 1x1 convolutions that have no neighbour which wants channels first."""
    sweep = Sweep(graph)
    readers: dict[str, list[Node]] = {}
    for node in graph.nodes:
        for name in node.inputs:
            if name is not None:
                readers.setdefault(name, []).append(node)
    producers = graph.producers()
    for original in graph.nodes:
        node = sweep.resolve(original)
        if not _is_pointwise(node, sweep):
            sweep.keep(node)
            continue
        wall = _channels_first_neighbour(original, sweep, readers, producers)
        if wall is not None:
            sweep.refuse(node, f"channels stay first: {wall.op.name} {wall.name!r} is near")
            sweep.keep(node)
            continue
        _add_matmul(node, sweep)
        sweep.change(node, "is a matrix product over the channels")
    return sweep.result()


def _is_pointwise(node: Node, sweep: Sweep) -> bool:
    """Whether this is a convolution with constant weights that looks at one point at a time."""
    if node.op.name != "Conv" or node.op.domain or node.inputs[0] is None:
        return False
    weights = sweep.array(node.inputs[1])
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if weights is None or weights.dtype != np.float32 or (bias and sweep.array(bias) is None):
        return False
    values = node.op.attributes()
    return (
        sweep.type(node.inputs[0]).dtype is DType.FLOAT
        and all(d == 1 for d in weights.shape[2:])
        and values["group"] == 1
        and all(s == 1 for s in values["strides"] or ())
        and not any(values["pads"] or ())
    )


def _channels_first_neighbour(
    start: Node, sweep: Sweep, readers: dict[str, list[Node]], producers: dict[str, Node]
) -> Node | None:
    """An operator that wants channels first, reached through operators that do not care."""
    seen = {start.outputs}
    waiting = list(_around(start, readers, producers))
    while waiting:
        node = waiting.pop()
        if node.outputs in seen:
            continue
        seen.add(node.outputs)
        if node.op.channels_first or _keeps_channels_first(node, sweep):
            return node
        if not node.op.layout_wall:
            waiting += _around(node, readers, producers)
    return None


def _keeps_channels_first(node: Node, sweep: Sweep) -> bool:
    """Whether a convolution that reads more than one point, or channels in groups, keeps them first."""
    if node.op.name != "Conv":
        return False
    weights = sweep.type(str(node.inputs[1])).shape
    outputs, groups = weights[0], node.op.attributes()["group"]
    if groups != 1:
        return not outputs == groups == weights[1] * groups
    few = not isinstance(outputs, int) or outputs < FEW_CHANNELS
    return any(k != 1 for k in weights[2:]) and (few or sweep.array(node.inputs[1]) is None)


def _around(
    node: Node, readers: dict[str, list[Node]], producers: dict[str, Node]
) -> Iterable[Node]:
    for name in node.inputs:
        if name in producers:
            yield producers[name]
    for name in node.outputs:
        if name is not None:
            yield from readers.get(name, ())


def _add_matmul(node: Node, sweep: Sweep) -> None:
    """Transpose, MatMul, Add and Transpose instead of the convolution."""
    x, out = node.inputs[0], node.outputs[0]
    weights = sweep.array(node.inputs[1])
    assert x is not None
    assert out is not None
    assert weights is not None
    rank = sweep.type(x).rank
    last, first = (0, *range(2, rank), 1), (0, rank - 1, *range(1, rank - 1))
    matrix = np.ascontiguousarray(weights.reshape(weights.shape[:2]).T)
    constant = sweep.constant(f"{node.inputs[1]}.matrix", matrix)
    rows = sweep.add(node, "Transpose", x, perm=last)
    product = sweep.add(node, "MatMul", rows, constant)
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        product = sweep.add(node, "Add", product, node.inputs[2])
    sweep.add(node, "Transpose", product, output=out, perm=first)
