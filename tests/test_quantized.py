"""Quantised models: products of dequantised operands, and what their epilogues take in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compiled import Compiled
from onnx import ModelProto
from onnx_models import assert_same, by_runtime, imported, model, node, random, tensor, value

from sofie_root.model import Model
from sofie_root.passes import optimise
from sofie_root.passes.quantized import dequantized_products_to_integers
from sofie_root.program.interpret import evaluate
from sofie_root.program.operation import Operation
from sofie_root.schedule.schedule import schedule
from sofie_root.targets.cpu.target import CPU

RNG = np.random.default_rng(5)
IMAGE = (2, 6, 9, 11)


SCALE = np.float32(0.02)
STEP = 0.05


def byte(*shape: int, dtype: Any = np.int8) -> Any:
    return RNG.integers(0, 256, shape).astype(np.uint8).view(dtype)


def quantised(
    operator: str,
    x: tuple[int, ...],
    w: Any,
    scales: Any = SCALE,
    zeros: Any = None,
    axis: int = 1,
    bias: bool = False,
    activation: Any = np.uint8,
    **attributes: Any,
) -> ModelProto:
    """x quantised and dequantised, times dequantised weights, plus a bias, Relu, quantised again."""
    parameters = [tensor("w", w), tensor("sw", scales), tensor("sx", np.float32(0.03))]
    parameters += [tensor("zx", np.array(7, activation)), tensor("sy", np.float32(STEP))]
    weights = ["w", "sw"]
    if zeros is not None:
        parameters.append(tensor("zw", zeros))
        weights.append("zw")
    if bias:
        channels = w.shape[0] if operator == "Conv" or attributes.get("transB") else w.shape[1]
        parameters.append(tensor("b", random((channels,))))
    nodes = [
        node("QuantizeLinear", ["x", "sx", "zx"], ["q"]),
        node("DequantizeLinear", ["q", "sx", "zx"], ["d"]),
        node("DequantizeLinear", weights, ["dw"], axis=axis),
        node(operator, ["d", "dw", *(["b"] if bias else [])], ["p"], **attributes),
        node("Relu", ["p"], ["r"]),
        node("QuantizeLinear", ["r", "sy", "zx"], ["qy"]),
        node("DequantizeLinear", ["qy", "sy", "zx"], ["y"]),
    ]
    return model(nodes, [value("x", x)], ["p", "y"], parameters)


def columns(n: int) -> Any:
    return RNG.uniform(0.01, 0.03, n).astype(np.float32)


def assert_alike(got: dict[str, Any], expected: dict[str, Any]) -> None:
    """The product agrees; what is quantised of it may fall to the other side of a rounding."""
    assert_same({"p": got["p"]}, {"p": expected["p"]})
    assert np.max(np.abs(got["y"] - expected["y"])) < 1.01 * STEP
    assert np.mean(got["y"] != expected["y"]) < 0.01


PRODUCTS = {
    "matmul": quantised("MatMul", (5, 33), byte(33, 70)),
    "matmul_columns": quantised("MatMul", (1, 12), byte(12, 20), columns(20), byte(20)),
    "matmul_unsigned": quantised(
        "MatMul", (2, 3, 8), byte(8, 5, dtype=np.uint8), zeros=np.array(120, np.uint8)
    ),
    "matmul_signed": quantised("MatMul", (7, 8), byte(8, 5), activation=np.int8),
    "gemm": quantised("Gemm", (5, 33), byte(33, 17), bias=True),
    "gemm_transposed": quantised(
        "Gemm", (5, 33), byte(17, 33), columns(17), byte(17), axis=0, bias=True, transB=1
    ),
    "conv": quantised("Conv", IMAGE, byte(8, 6, 3, 3), bias=True, pads=[1] * 4),
    "conv_channels": quantised(
        "Conv", IMAGE, byte(8, 6, 3, 3), columns(8), byte(8), axis=0, bias=True, strides=[2, 1]
    ),
}
UNCHANGED = {
    "along_the_inner_axis": quantised("MatMul", (5, 33), byte(33, 7), columns(33), axis=0),
    "depthwise": quantised("Conv", IMAGE, byte(6, 1, 3, 3), group=6),
    "scaled": quantised("Gemm", (5, 33), byte(33, 17), alpha=0.5),
    "transposed": quantised("Gemm", (33, 5), byte(33, 17), transA=1),
    "wide": quantised("MatMul", (5, 9), RNG.integers(-999, 999, (9, 7)).astype(np.int32)),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_bytes_are_multiplied(name: str) -> None:
    proto = PRODUCTS[name]
    graph = imported(proto)
    result = dequantized_products_to_integers(graph)
    assert len(result.changes) == 1
    shape = [int(str(d)) for d in graph.types["x"].shape]
    inputs = {"x": random(shape) * 4}
    expected = by_runtime(proto, inputs)
    assert_alike(evaluate(result.graph, inputs), expected)
    assert_alike(evaluate(optimise(graph)[0], inputs), expected)


@pytest.mark.parametrize("name", UNCHANGED)
def test_other_products_are_left(name: str) -> None:
    graph = imported(UNCHANGED[name])
    assert not dequantized_products_to_integers(graph).changes


def test_generated_code(tmp_path: Path) -> None:
    protos = [*PRODUCTS.values(), *UNCHANGED.values()]
    models = [Model(imported(p)) for p in protos]
    library = Compiled(models, tmp_path)
    for k, (proto, one) in enumerate(zip(protos, models, strict=True)):
        shape = [int(str(d)) for d in one.inputs["x"].shape]
        inputs = {"x": random(shape, seed=k) * 4}
        assert_alike(library.run(k, inputs), by_runtime(proto, inputs))


@pytest.mark.parametrize("name", ["matmul", "conv_channels"])
def test_the_epilogue_gives_bytes(name: str) -> None:
    """Scaling, bias, Relu and quantisation join the product, whose result is stored as bytes."""
    proto = ModelProto.FromString(PRODUCTS[name].SerializeToString())
    del proto.graph.output[0]
    proto.graph.output[0].name = "qy"
    program = schedule(optimise(imported(proto))[0], CPU).program
    kernels = [s for s in program.statements if isinstance(s, Operation)]
    assert [k.outputs[0] for k in kernels] == [program.outputs["qy"]]
    assert len(program.statements) == 2  # the input is quantised before it
