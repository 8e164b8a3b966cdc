"""Networks as particle physics uses them, written for the benchmark with untrained weights."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto

from .net import Net


def gn2(tracks: int = 40, width: int = 192, heads: int = 4, layers: int = 4) -> onnx.ModelProto:
    """A flavour tagger like ATLAS's GN2: a transformer over a jet's tracks, attention pooling."""
    net = Net("gn2")
    jet = net.input("jet", 1, 2)
    track = net.input("tracks", 1, tracks, 21)
    wide = net("Expand", net("Unsqueeze", jet, net.ints(1)), net.ints(1, tracks, 2))
    x = net("Concat", wide, track, axis=-1)
    x = net.linear(net.linear(x, 23, 256, "Relu"), 256, width)
    size = width // heads

    def split_heads(y: str, order: list[int]) -> str:
        y = net("Reshape", y, net.ints(1, tracks, heads, size))
        return net("Transpose", y, perm=order)

    for _ in range(layers):
        normal = net.layer_norm(x, width)
        projected = net.linear(normal, width, 3 * width)
        parts = net.several(3, "Split", projected, axis=-1, num_outputs=3)
        q = split_heads(parts[0], [0, 2, 1, 3])
        k = split_heads(parts[1], [0, 2, 3, 1])
        v = split_heads(parts[2], [0, 2, 1, 3])
        scores = net("Div", net("MatMul", q, k), net.const(np.sqrt(size)))
        y = net("MatMul", net("Softmax", scores, axis=-1), v)
        y = net("Reshape", net("Transpose", y, perm=[0, 2, 1, 3]), net.ints(1, tracks, width))
        x = net("Add", x, net.linear(y, width, width))
        y = net.linear(net.linear(net.layer_norm(x, width), width, 256, "Relu"), 256, width)
        x = net("Add", x, y)
    x = net.linear(net.layer_norm(x, width), width, 128)
    weights = net("Softmax", net.linear(x, 128, 1), axis=1)
    pooled = net("ReduceSum", net("Mul", weights, x), net.ints(1), keepdims=0)
    x = net("Concat", jet, pooled, axis=-1)
    for n_in, n_out in ((130, 128), (128, 64), (64, 32)):
        x = net.gemm(x, n_in, n_out, "Relu")
    return net.model({net("Softmax", net.gemm(x, 32, 3), axis=-1): [1, 3]})


def particlenet(points: int = 100, neighbours: int = 7) -> onnx.ModelProto:
    """ParticleNet-Lite (Qu and Gouskos 2020): edge convolutions over nearest neighbours."""
    net = Net("particlenet")
    coordinates = net.input("points", 1, 2, points)
    features = net.input("features", 1, 7, points)
    x, width = net.batch_norm(features, 7), 7
    for size in (32, 64):
        x = _edge_conv(net, coordinates, x, width, size, points, neighbours)
        coordinates, width = x, size
    x = net("ReduceMean", x, net.ints(2), keepdims=0)
    x = net.gemm(x, width, 128, "Relu")
    return net.model({net("Softmax", net.gemm(x, 128, 2), axis=-1): [1, 2]})


def _edge_conv(net: Net, where: str, x: str, n_in: int, n_out: int, points: int, k: int) -> str:
    """One block on ``x[1, n_in, points]``, with neighbours by the distance of ``where``."""
    inner = net("MatMul", net("Transpose", where, perm=[0, 2, 1]), where)
    square = net("ReduceSum", net("Mul", where, where), net.ints(1), keepdims=1)
    distance = net("Sub", net("Mul", inner, net.const(2.0)), square)
    distance = net("Sub", distance, net("Transpose", square, perm=[0, 2, 1]))
    nearest = net.several(2, "TopK", distance, net.ints(k + 1), axis=-1)[1]
    others = net("Slice", nearest, net.ints(1), net.ints(k + 1), net.ints(2))
    rows = net("Reshape", net("Transpose", x, perm=[0, 2, 1]), net.ints(points, n_in))
    flat = net("Reshape", others, net.ints(points * k))
    near = net("Reshape", net("Gather", rows, flat, axis=0), net.ints(1, points, k, n_in))
    near = net("Transpose", near, perm=[0, 3, 1, 2])
    own = net("Expand", net("Unsqueeze", x, net.ints(3)), net.ints(1, n_in, points, k))
    y = net("Concat", own, net("Sub", near, own), axis=1)
    width = 2 * n_in
    for _ in range(3):
        w = net.weight(n_out, width, 1, 1, fan_in=width)
        y = net("Relu", net.batch_norm(net("Conv", y, w), n_out))
        width = n_out
    y = net("ReduceMean", y, net.ints(3), keepdims=0)
    shortcut = net("Conv", x, net.weight(n_out, n_in, 1, fan_in=n_in))
    return net("Relu", net("Add", y, net.batch_norm(shortcut, n_out)))


def interaction_network(steps: int = 2, width: int = 64) -> onnx.ModelProto:
    """An interaction network (Battaglia et al. 2016) for tracking: any number of nodes and edges."""
    net = Net("interaction_network")
    nodes = net.input("nodes", "n_nodes", 4)
    edges = net.input("edges", "n_edges", 4)
    sender = net.input("senders", "n_edges", dtype=TensorProto.INT64)
    receiver = net.input("receivers", "n_edges", dtype=TensorProto.INT64)
    where = net("Unsqueeze", receiver, net.ints(1))

    def mlp(x: str, n_in: int) -> str:
        for _ in range(2):
            x, n_in = net.gemm(x, n_in, width, "Relu"), width
        return net.gemm(x, width, width)

    n, e = mlp(nodes, 4), mlp(edges, 4)
    count = net("Slice", net("Shape", n), net.ints(0), net.ints(1))
    empty = net("ConstantOfShape", net("Concat", count, net.ints(width), axis=0))
    for _ in range(steps):
        ends = (net("Gather", n, end, axis=0) for end in (sender, receiver))
        e = net("Add", e, mlp(net("Concat", e, *ends, axis=1), 3 * width))
        summed = net("ScatterND", empty, where, e, reduction="add")
        n = net("Add", n, mlp(net("Concat", n, summed, axis=1), 2 * width))
    return net.model({net.gemm(e, width, 1): ["n_edges", 1]})


def diffusion_step(channels: int = 16) -> onnx.ModelProto:
    """One denoising step of a calorimeter shower: a 3-D U-Net with attention, 16x16x8 cells."""
    net = Net("diffusion")
    shower = net.input("x", 1, 1, 16, 16, 8)
    time = net.input("t", 1, 1)
    energy = net.input("e", 1, 1)
    wave = net.const(np.exp(-np.arange(16) * np.log(1e4) / 16)[None])
    phase = net("Mul", time, wave)
    cond = net("Concat", net("Sin", phase), net("Cos", phase), energy, axis=1)
    cond = net.gemm(_silu(net, net.gemm(cond, 33, 64)), 64, 64)

    x = net.conv(shower, 1, channels, (3, 3, 3))
    skip1 = _res_block(net, x, cond, channels, channels)
    x = net.conv(skip1, channels, 2 * channels, (3, 3, 3), strides=[2, 2, 2])
    skip2 = _res_block(net, x, cond, 2 * channels, 2 * channels)
    x = _attention(net, skip2, 2 * channels, (8, 8, 4))
    x = _res_block(net, net("Concat", x, skip2, axis=1), cond, 4 * channels, 2 * channels)
    w = net.weight(2 * channels, channels, 2, 2, 2, fan_in=2 * channels)
    x = net("ConvTranspose", x, w, net.bias(channels), strides=[2, 2, 2])
    x = _res_block(net, net("Concat", x, skip1, axis=1), cond, 2 * channels, channels)
    noise = net.conv(_silu(net, _group_norm(net, x, channels)), channels, 1, (3, 3, 3))
    cleaner = net("Sub", shower, net("Mul", noise, net.const(0.12)))
    return net.model({net("Mul", cleaner, net.const(1.01)): [1, 1, 16, 16, 8]})


def _silu(net: Net, x: str) -> str:
    return net("Mul", x, net("Sigmoid", x))


def _group_norm(net: Net, x: str, channels: int, groups: int = 8) -> str:
    """Group normalisation as PyTorch exports it to opsets before 21."""
    y = net("Reshape", x, net.ints(1, groups, -1))
    ones, zeros = net.const(np.ones(groups)), net.const(np.zeros(groups))
    y = net("Reshape", net("InstanceNormalization", y, ones, zeros), net("Shape", x))
    scale = net.const(net.rng.uniform(0.8, 1.2, (channels, 1, 1, 1)))
    shift = net.const(net.rng.normal(0, 0.05, (channels, 1, 1, 1)))
    return net("Add", net("Mul", y, scale), shift)


def _res_block(net: Net, x: str, cond: str, n_in: int, n_out: int) -> str:
    y = net.conv(_silu(net, _group_norm(net, x, n_in)), n_in, n_out, (3, 3, 3))
    shift = net("Reshape", net.gemm(_silu(net, cond), 64, n_out), net.ints(1, n_out, 1, 1, 1))
    y = net("Add", y, shift)
    y = net.conv(_silu(net, _group_norm(net, y, n_out)), n_out, n_out, (3, 3, 3))
    return net("Add", y, x if n_in == n_out else net.conv(x, n_in, n_out, (1, 1, 1)))


def _attention(net: Net, x: str, channels: int, cells: tuple[int, int, int]) -> str:
    """Self-attention between all cells, one head."""
    flat = net.ints(1, channels, int(np.prod(cells)))
    normal = _group_norm(net, x, channels)
    q, k, v = (
        net("Reshape", net.conv(normal, channels, channels, (1, 1, 1)), flat) for _ in range(3)
    )
    scores = net("MatMul", net("Transpose", q, perm=[0, 2, 1]), k)
    weights = net("Softmax", net("Mul", scores, net.const(channels**-0.5)), axis=-1)
    y = net("MatMul", v, net("Transpose", weights, perm=[0, 2, 1]))
    y = net("Reshape", y, net.ints(1, channels, *cells))
    return net("Add", x, net.conv(y, channels, channels, (1, 1, 1)))
