"""Scales and shifts per channel are folded into the weights of the linear operator before them.

Only what follows a linear operator is folded. Folding what precedes one would turn
``(x - mean) * w`` into ``x * w - mean * w``, which loses the digits that the subtraction saves.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from sofie_root.ir import OPERATORS, DType, Graph, Node

from .rewrite import Array, PassResult, Sweep, same_form


@dataclass(frozen=True, slots=True)
class Affine:
    """``scale * x + shift`` with one float64 per channel."""

    scale: Array
    shift: Array


@dataclass(frozen=True, slots=True)
class Linear:
    """A linear operator with constant weights and bias.

    Attributes:
        axis: axis of the result along which the channels lie.
        weights: as stored.
        bias: float64, one per channel.
        layout: shape in which the weights, once reshaped to ``split``, are multiplied by the scale.
        split: weights with the channels on axes of their own.
    """

    axis: int
    weights: Array
    bias: Array
    layout: tuple[int, ...]
    split: tuple[int, ...]

    @property
    def channels(self) -> int:
        """Number of output channels."""
        return int(self.bias.size)

    def scaled(self, scale: Array) -> Array:
        """The weights with every channel multiplied."""
        wide = self.weights.astype(np.float64).reshape(self.split) * scale.reshape(self.layout)
        return wide.astype(self.weights.dtype).reshape(self.weights.shape)


def fold_affine(graph: Graph) -> PassResult:
    """Folds BatchNormalization, and Mul, Div, Add, Sub by constants per channel, into weights."""
    sweep = Sweep(graph)
    for original in graph.nodes:
        node = sweep.resolve(original)
        before, reason = _fold(node, sweep)
        if reason is not None:
            sweep.refuse(node, reason)
        sweep.keep(before or node)
    return sweep.result()


def matmul_add_to_gemm(graph: Graph) -> PassResult:
    """Makes one Gemm of a product of matrices, the right one constant, and the bias added to it.

    Products of more than two axes stay: their addition is fused when they are lowered.
    """
    sweep = Sweep(graph)
    for original in graph.nodes:
        node = sweep.resolve(original)
        product, bias = _biased_product(node, sweep)
        if product is None or bias is None:
            sweep.keep(node)
            continue
        merged = replace(
            node,
            op=OPERATORS["", "Gemm"](),
            inputs=(*product.inputs, bias),
            name=product.name,
            origin=product.origin + node.origin,
        )
        if not sweep.fits(merged):
            sweep.keep(node)
            continue
        sweep.drop(product)
        sweep.change(node, f"is merged with MatMul {product.name!r} into a Gemm")
        sweep.keep(merged)
    return sweep.result()


# -- folding ---------------------------------------------------------------------------------------


def _fold(node: Node, sweep: Sweep) -> tuple[Node | None, str | None]:
    """The linear node that also does what ``node`` does, or why there is none to be made."""
    source = _data_input(node, sweep)
    producer = sweep.producers.get(source) if source is not None else None
    if source is None or producer is None:
        return None, None
    linear = _linear(producer, sweep)
    if linear is None or not same_form(sweep.type(source), sweep.type(node.outputs[0])):
        return None, None
    if sweep.type(source).dtype not in (DType.FLOAT, DType.DOUBLE):
        return None, "weights of 16-bit floats are not folded: rounding them again costs digits"
    if sweep.only_reader(source) is None:
        return None, f"the result of {producer.name!r} is also read elsewhere"
    affine = _affine(node, linear, sweep)
    if affine is None:
        return None, "its constants do not go along the channels"
    if not (np.isfinite(affine.scale).all() and np.isfinite(affine.shift).all()):
        return None, "its constants are not finite"
    folded = _apply(producer, linear, affine, node, sweep)
    if folded is None:
        return None, "a MatMul of more than two axes takes no bias"
    sweep.drop(producer)
    sweep.change(node, f"is folded into the weights of {producer.op.name} {producer.name!r}")
    return folded, None


def _data_input(node: Node, sweep: Sweep) -> str | None:
    """The input that is scaled or shifted by constants; None where the node is of another kind."""
    if node.op.domain or node.outputs[0] is None:
        return None
    constant = [sweep.array(i) is not None for i in node.inputs]
    if node.op.name == "BatchNormalization":
        return node.inputs[0] if all(constant[1:]) and not constant[0] else None
    if node.op.name in ("Add", "Sub", "Mul", "Div") and len(node.inputs) == 2 and any(constant):
        data = 0 if constant[1] else 1
        return None if all(constant) or (node.op.name == "Div" and data) else node.inputs[data]
    return None


def _affine(node: Node, linear: Linear, sweep: Sweep) -> Affine | None:
    """What the node does to each channel; None where it differs within a channel."""
    one, zero = np.ones(linear.channels), np.zeros(linear.channels)
    if node.op.name == "BatchNormalization":
        if linear.axis != 1:
            return None
        scale, bias, mean, var = (
            sweep.graph.constants[i].astype(np.float64) for i in node.inputs[1:] if i
        )
        with np.errstate(all="ignore"):
            scale = scale / np.sqrt(var + node.op.epsilon)  # type: ignore[attr-defined]
        return Affine(scale, bias - mean * scale)
    data_first = sweep.array(node.inputs[1]) is not None
    array = sweep.array(node.inputs[1 if data_first else 0])
    assert array is not None
    values = _per_channel(array, linear.axis - sweep.type(node.outputs[0]).rank, linear.channels)
    if values is None:
        return None
    if node.op.name == "Mul":
        return Affine(values, zero)
    if node.op.name == "Div":
        with np.errstate(all="ignore"):
            return Affine(1 / values, zero)
    if node.op.name == "Add":
        return Affine(one, values)
    return Affine(one, -values) if data_first else Affine(-one, values)


def _per_channel(array: Array, axis: int, channels: int) -> Array | None:
    """A constant that only varies along ``axis`` (negative), as one value per channel."""
    others = (
        array.shape
        if -axis > array.ndim
        else array.shape[:axis] + array.shape[array.ndim + axis + 1 :]
    )
    if any(d != 1 for d in others):
        return None
    return np.broadcast_to(array.astype(np.float64).reshape(-1), (channels,))


def _linear(node: Node, sweep: Sweep) -> Linear | None:
    """A linear operator whose weights and bias are constants, else None."""
    if node.op.domain or node.op.name not in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
        return None
    weights = sweep.array(node.inputs[1])
    bias_name = node.inputs[2] if len(node.inputs) > 2 else None
    bias = sweep.array(bias_name)
    if weights is None or (bias_name is not None and bias is None):
        return None
    shape, axis, channels = weights.shape, 1, weights.shape[0]
    layout, split = (-1,) + (1,) * (weights.ndim - 1), shape
    if node.op.name == "ConvTranspose":
        groups: int = node.op.group  # type: ignore[attr-defined]
        channels = groups * shape[1]
        split = (groups, shape[0] // groups, *shape[1:])
        layout = (groups, 1, shape[1]) + (1,) * (weights.ndim - 2)
    elif node.op.name in ("Gemm", "MatMul"):
        rank = sweep.type(node.outputs[0]).rank
        if weights.ndim != 2 or rank < 2:
            return None
        axis = rank - 1
        if not getattr(node.op, "transB", 0):
            channels, layout = shape[1], (1, -1)
    values = np.zeros(channels)
    if bias is not None:
        beta: float = getattr(node.op, "beta", 1.0)
        per_channel = _per_channel(bias, -1, channels) if node.op.name == "Gemm" else bias
        if per_channel is None:
            return None
        values = beta * per_channel.astype(np.float64)
    return Linear(axis, weights, values, layout, split)


def _apply(producer: Node, linear: Linear, affine: Affine, node: Node, sweep: Sweep) -> Node | None:
    op, inputs = producer.op, list(producer.inputs[:2])
    bias = linear.bias * affine.scale + affine.shift
    if producer.op.name == "MatMul" and bias.any():
        if linear.axis != 1 or sweep.type(producer.inputs[0]).rank != 2:
            return None
        op = OPERATORS["", "Gemm"]()
    elif producer.op.name == "Gemm":
        op = replace(producer.op, beta=1.0)  # type: ignore[type-var]
    if np.any(affine.scale != 1.0):
        inputs[1] = sweep.constant(str(inputs[1]), linear.scaled(affine.scale))
    if producer.op.name != "MatMul" or bias.any():
        name = producer.inputs[2] if len(producer.inputs) > 2 else None
        inputs.append(
            sweep.constant(name or f"{producer.name}.bias", bias.astype(linear.weights.dtype))
        )
    return replace(
        producer,
        op=op,
        inputs=tuple(inputs),
        outputs=node.outputs[:1],
        origin=producer.origin + node.origin,
    )


def _biased_product(node: Node, sweep: Sweep) -> tuple[Node | None, str | None]:
    """The MatMul that an Add adds a bias to, and the bias."""
    if node.op.name != "Add" or node.op.domain:
        return None, None
    for position in (0, 1):
        product = sweep.only_reader(node.inputs[position])
        bias = node.inputs[1 - position]
        if product is None or product.op.name != "MatMul" or product.op.domain:
            continue
        ranks = [sweep.type(i).rank for i in product.inputs]
        shape = sweep.type(bias).shape
        along_last = all(d == 1 for d in shape[:-1]) and len(shape) <= 2
        if ranks == [2, 2] and sweep.array(product.inputs[1]) is not None and along_last:
            return product, bias
    return None, None
