"""A small builder of ONNX models: He weights, names made up, one line per layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 20


class Net:
    """A graph that is being written. Calling it adds a node: ``y = net("Relu", x)``."""

    def __init__(self, name: str, seed: int = 0) -> None:
        self.name = name
        self.rng = np.random.default_rng(seed)
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, *shape: int | str, dtype: int = TensorProto.FLOAT) -> str:
        """Declares an input."""
        self._inputs.append(helper.make_tensor_value_info(name, dtype, shape))
        return name

    def __call__(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Adds a node and returns the name of its output."""
        return self.several(1, op, *inputs, **attributes)[0]

    def several(self, outputs: int, op: str, *inputs: str, **attributes: Any) -> list[str]:
        """Adds a node with that many outputs and returns their names."""
        names = [f"{op.lower()}{len(self._nodes)}_{k}" for k in range(outputs)]
        self._nodes.append(helper.make_node(op, inputs, names, **attributes))
        return names

    def const(self, values: Any, dtype: Any = np.float32) -> str:
        """A constant."""
        name = f"c{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def ints(self, *values: int) -> str:
        """A one-dimensional constant of integers: a shape, axes, a split."""
        return self.const(values, np.int64)

    def weight(self, *shape: int, fan_in: int, gain: float = 2.0) -> str:
        """Normally distributed weights that keep the variance through a ReLU (He et al. 2015)."""
        return self.const(self.rng.normal(0, np.sqrt(gain / fan_in), shape))

    def bias(self, size: int) -> str:
        """Small biases."""
        return self.const(self.rng.normal(0, 0.05, size))

    def linear(self, x: str, n_in: int, n_out: int, act: str | None = None) -> str:
        """A dense layer on the last axis of a tensor of any rank."""
        w = self.weight(n_in, n_out, fan_in=n_in, gain=2.0 if act else 1.0)
        y = self("Add", self("MatMul", x, w), self.bias(n_out))
        return self(act, y) if act else y

    def gemm(self, x: str, n_in: int, n_out: int, act: str | None = None) -> str:
        """A dense layer on a matrix, as PyTorch exports it."""
        w = self.weight(n_out, n_in, fan_in=n_in, gain=2.0 if act else 1.0)
        y = self("Gemm", x, w, self.bias(n_out), transB=1)
        return self(act, y) if act else y

    def conv(
        self,
        x: str,
        c_in: int,
        c_out: int,
        kernel: Sequence[int],
        offset: float = 0.0,
        **attributes: Any,
    ) -> str:
        """A convolution that keeps the size unless strides say otherwise; its biases are about offset."""
        w = self.weight(c_out, c_in, *kernel, fan_in=c_in * int(np.prod(kernel)))
        b = self.const(self.rng.normal(offset, 0.05, c_out))
        attributes.setdefault("pads", [k // 2 for k in kernel] * 2)
        return self("Conv", x, w, b, kernel_shape=list(kernel), **attributes)

    def batch_norm(self, x: str, channels: int) -> str:
        """BatchNormalization with statistics as after a training."""
        values = [
            self.rng.uniform(0.8, 1.2, channels),
            self.rng.normal(0, 0.1, channels),
            self.rng.normal(0, 0.1, channels),
            self.rng.uniform(0.8, 1.2, channels),
        ]
        return self("BatchNormalization", x, *map(self.const, values))

    def layer_norm(self, x: str, width: int) -> str:
        """LayerNormalization over the last axis."""
        scale = self.const(self.rng.uniform(0.8, 1.2, width))
        return self("LayerNormalization", x, scale, self.bias(width), axis=-1)

    def model(self, outputs: dict[str, Sequence[int | str | None]]) -> onnx.ModelProto:
        """The model. ``outputs`` maps values to shapes; each is renamed ``y``, ``y1``, ..."""
        values = []
        for k, (value, shape) in enumerate(outputs.items()):
            name = "y" if k == 0 else f"y{k}"
            self._nodes.append(helper.make_node("Identity", [value], [name]))
            values.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        graph = helper.make_graph(
            self._nodes, self.name, self._inputs, values, initializer=self._constants
        )
        opset = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opset, producer_name="rootbench")
        model.ir_version = 9
        onnx.checker.check_model(model)
        return model
