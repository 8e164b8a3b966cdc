"""Products and convolutions of dequantised operands are done on the integers themselves.

A model in the QDQ form (quantise, dequantise, compute in float) keeps its weights and activations as
bytes: ``(x - zx) sx @ (w - zw) sw`` is ``((x - zx) @ (w - zw)) sx sw``, where the inner product is exact.
That rounds less than a sum of products of floats, reads a quarter of the bytes, and the scaling joins
what follows in the product's epilogue. See B. Jacob et al., "Quantization and Training of Neural Networks
for Efficient Integer-Arithmetic-Only Inference", CVPR 2018.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sofie_root.ir import DType, Graph, Node

from .rewrite import Array, PassResult, Sweep

BYTES = (DType.INT8, DType.UINT8)


@dataclass(frozen=True, slots=True)
class Quantized:
    """What a DequantizeLinear reads: bytes, their scale (constant), and their zero point.

    Scales and zero points that are vectors go along ``axis``.
    """

    values: str
    scale: Array
    zero: str | None
    axis: int


def dequantized_products_to_integers(graph: Graph) -> PassResult:
    """Makes a product of bytes and a scaling of MatMul, Gemm and Conv of dequantised operands."""
    sweep = Sweep(graph)
    for original in graph.nodes:
        node = sweep.resolve(original)
        product = _integer_product(node, sweep)
        if product is None:
            sweep.keep(node)
            continue
        _add_product(node, sweep, product)
        sweep.change(node, "multiplies the bytes that its operands were dequantised from")
    return sweep.result()


@dataclass(frozen=True, slots=True)
class IntegerProduct:
    """The product of bytes that takes the place of one of floats.

    Attributes:
        op: name of its operator.
        attributes: of that operator.
        x: the left operand.
        weights: the right operand, and its zero point.
        scale: what the sums are multiplied by.
        window: how many axes a convolution has, 0 of a product of matrices.
    """

    op: str
    attributes: dict[str, Any]
    x: Quantized
    weights: tuple[Array, Array | None]
    scale: Array
    window: int


def _integer_product(node: Node, sweep: Sweep) -> IntegerProduct | None:
    """The product that takes the node's place; None where the node does not multiply dequantised operands."""
    form = FORMS.get(node.op.name) if not node.op.domain else None
    if form is None:
        return None
    x, w = (_quantized(i, sweep) for i in node.inputs[:2])
    if x is None or w is None or x.scale.size != 1:
        return None
    attributes = dict(node.op.attributes())
    values, zero = sweep.array(w.values), sweep.array(w.zero)
    if values is None or (w.zero is not None and zero is None):
        return None
    if node.op.name == "Conv":
        if attributes["group"] > 1 and values.shape[1] < 4:
            return None  # the kernel multiplies four channels at a time
        axis, rank = 0, values.ndim - 2
    else:
        if values.ndim != 2 or sweep.type(node.inputs[0]).rank < 2:
            return None
        if attributes.get("transA") or any(
            attributes.get(k, 1.0) != 1.0 for k in ("alpha", "beta")
        ):
            return None
        axis, rank = (0 if attributes.get("transB") else 1), 0
    if w.scale.size > 1 and (w.scale.ndim != 1 or w.axis != axis):
        return None
    if attributes.get("transB"):
        values = np.ascontiguousarray(values.T)
    scale = (x.scale.reshape(()) * w.scale).astype(np.float32)
    if scale.size > 1 or rank:
        scale = scale.reshape(-1, *(1,) * rank)
    kept = attributes if node.op.name == "Conv" else {}
    return IntegerProduct(form, kept, x, (values, zero), scale, rank)


FORMS = {"MatMul": "MatMulInteger", "Gemm": "MatMulInteger", "Conv": "ConvInteger"}
"""The product of bytes that goes with each operator."""


def _add_product(node: Node, sweep: Sweep, product: IntegerProduct) -> None:
    """The product of bytes, and what scales it and adds the bias."""
    out, (values, zero) = node.outputs[0], product.weights
    assert out is not None
    weights = sweep.constant(f"{node.inputs[1]}.bytes", values)
    w_zero = None if zero is None else sweep.constant(f"{node.inputs[1]}.zero", zero)
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    operands = (product.x.values, weights, product.x.zero, w_zero)
    total = sweep.add(node, product.op, *operands, **product.attributes)
    real = sweep.add(node, "Cast", total, to=DType.FLOAT.onnx)
    factor = sweep.constant(f"{node.inputs[1]}.scale", product.scale)
    scaled = sweep.add(node, "Mul", real, factor, output=out if bias is None else None)
    if bias is not None and product.window:
        shape = sweep.constant(f"{bias}.shape", np.array([-1] + [1] * product.window, np.int64))
        bias = sweep.add(node, "Reshape", bias, shape)
    if bias is not None:
        sweep.add(node, "Add", scaled, bias, output=out)


def _quantized(value: str | None, sweep: Sweep) -> Quantized | None:
    """What a value was dequantised from, None where it is not, or not from bytes to floats."""
    node = None if value is None else sweep.producers.get(value)
    if node is None or node.op.domain or node.op.name != "DequantizeLinear":
        return None
    values, scale = node.inputs[0], sweep.array(node.inputs[1])
    zero = node.inputs[2] if len(node.inputs) > 2 else None
    assert values is not None
    bytes_ = sweep.type(values)
    if bytes_.dtype not in BYTES or sweep.type(value).dtype is not DType.FLOAT:
        return None
    attributes = node.op.attributes()
    if scale is None or scale.dtype != np.float32 or attributes["block_size"]:
        return None
    if scale.size == 1 and zero is not None and sweep.type(zero).numel != 1:
        return None
    return Quantized(values, scale, zero, attributes["axis"] % max(bytes_.rank, 1))
