"""The models of SOFIE's own benchmark: dense, convolutional and recurrent networks."""

from __future__ import annotations

from itertools import pairwise

import onnx

from .net import Net


def dense(layers: int, width: int, batch: int) -> onnx.ModelProto:
    """Chain of Linear + ReLU."""
    net = Net(f"linear{width}x{layers}")
    x = net.input("x", batch, width)
    for _ in range(layers):
        x = net.gemm(x, width, width, "Relu")
    return net.model({x: [batch, width]})


def one_conv() -> onnx.ModelProto:
    """One convolution 1 -> 2, 5x5, on 100x100."""
    net = Net("conv")
    x = net.input("x", 1, 1, 100, 100)
    return net.model({net.conv(x, 1, 2, (5, 5)): [1, 2, 100, 100]})


def conv_chain(batch: int) -> onnx.ModelProto:
    """14 convolutions 5x5 with channels 1, 2, 4, ... 128, ... 1, on 100x100."""
    net = Net("conv14")
    x = net.input("x", batch, 1, 100, 100)
    channels = [2**k for k in range(8)]
    channels += channels[-2::-1]
    for k, (c_in, c_out) in enumerate(pairwise(channels)):
        # With a small last bias the last ReLU returns mostly zeros, which wrong code computes as well.
        offset = 2.0 if k == len(channels) - 2 else 0.0
        x = net("Relu", net.conv(x, c_in, c_out, (5, 5), offset))
    return net.model({x: [batch, 1, 100, 100]})


def resnet18() -> onnx.ModelProto:
    """ResNet18 for 224x224 images (He et al. 2016)."""
    net = Net("resnet18")

    def block(x: str, c_in: int, c_out: int, stride: int) -> str:
        y = net.conv(x, c_in, c_out, (3, 3), strides=[stride, stride])
        y = net("Relu", net.batch_norm(y, c_out))
        y = net.batch_norm(net.conv(y, c_out, c_out, (3, 3)), c_out)
        if stride > 1:
            x = net.batch_norm(net.conv(x, c_in, c_out, (1, 1), strides=[stride] * 2), c_out)
        return net("Relu", net("Add", x, y))

    x = net.input("x", 1, 3, 224, 224)
    x = net("Relu", net.batch_norm(net.conv(x, 3, 64, (7, 7), strides=[2, 2]), 64))
    x = net("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    width = 64
    for c_out in (64, 128, 256, 512):
        x = block(x, width, c_out, 1 if c_out == 64 else 2)
        x = block(x, c_out, c_out, 1)
        width = c_out
    x = net("Flatten", net("GlobalAveragePool", x))
    return net.model({net.gemm(x, 512, 1000): [1, 1000]})


def recurrent(cell: str, steps: int = 40, features: int = 32, hidden: int = 64) -> onnx.ModelProto:
    """One recurrent layer over a sequence, and a classifier on its last state."""
    net = Net(cell.lower())
    gates = {"RNN": 1, "GRU": 3, "LSTM": 4}[cell]
    x = net.input("x", steps, 1, features)
    w = net.weight(1, gates * hidden, features, fan_in=features, gain=1.0)
    r = net.weight(1, gates * hidden, hidden, fan_in=hidden, gain=1.0)
    b = net.const(net.rng.normal(0, 0.05, (1, 2 * gates * hidden)))
    options = {"linear_before_reset": 1} if cell == "GRU" else {}
    last = net.several(2, cell, x, w, r, b, hidden_size=hidden, **options)[1]
    flat = net("Reshape", last, net.ints(1, hidden))
    return net.model({net.gemm(flat, hidden, 8): [1, 8]})


def conv_transpose() -> onnx.ModelProto:
    """One transposed convolution 16 -> 8, 4x4, stride 2, on 32x32."""
    net = Net("convtranspose")
    x = net.input("x", 1, 16, 32, 32)
    w = net.weight(16, 8, 4, 4, fan_in=16 * 4)
    y = net("ConvTranspose", x, w, net.bias(8), strides=[2, 2], pads=[1] * 4)
    return net.model({y: [1, 8, 64, 64]})


def conv_3d() -> onnx.ModelProto:
    """Two convolutions in three dimensions, 1 -> 8 -> 16, 3x3x3, on 16x16x16."""
    net = Net("conv3d")
    x = net.input("x", 1, 1, 16, 16, 16)
    x = net("Relu", net.conv(x, 1, 8, (3, 3, 3)))
    return net.model({net.conv(x, 8, 16, (3, 3, 3)): [1, 16, 16, 16, 16]})
