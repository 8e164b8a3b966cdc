"""Motifs of image networks: convolutions, pooling and normalisation in one to three dimensions, resizing."""

from __future__ import annotations

from typing import Any

import numpy as np

from .builder import FLOAT, Builder, Rejected, Value
from .rows import Row
from .shaping import cast, tame

CHANNELS = (1, 2, 3, 4, 5, 6, 8, 8, 12, 15, 16, 16, 17, 24, 31, 32, 32, 33, 48, 64)


def image(b: Builder, rank: int | None = None, smallest: int = 3) -> Value:
    """A value ``[N, C, ...]``: of the graph, or a new input with sizes of which some are symbols."""
    rank = rank or b.choice((1, 2, 2, 2, 3))
    found = [v for v in b.values if v.kind == "f" and v.rank == rank + 2 and v.dtype in b.kinds
             and len(set(v.dims[1])) == 1 and min(min(d) for d in v.dims[2:]) >= smallest]  # fmt: skip
    if found and b.chance(0.7):
        return b.choice(found[-4:])
    shape: list[int | str] = []
    for axis in range(rank + 2):
        names = [n for n, s in b.symbols.items() if axis < 2 or min(s) >= smallest]
        if axis != 1 and names and b.chance(0.4):
            shape.append(b.choice(names))
        elif axis == 0:
            shape.append(b.choice((1, 1, 2, 3)))
        elif axis == 1:
            shape.append(b.choice(CHANNELS))
        else:
            shape.append(b.integer(smallest, 20 if rank < 3 else 8))
    return b.input(shape, FLOAT)


def window(b: Builder, v: Value, dilated: bool = True) -> dict[str, Any]:
    """Attributes of a window that fits: kernel_shape, strides, pads or auto_pad, dilations."""
    rank = v.rank - 2
    kernel = [
        b.integer(1, min(5, *v.dims[2 + k])) if b.chance(0.5) else min(3, *v.dims[2 + k])
        for k in range(rank)
    ]
    attributes: dict[str, Any] = {"kernel_shape": kernel}
    if b.chance(0.4):
        attributes["strides"] = [b.integer(1, 3) for _ in range(rank)]
    if dilated and b.chance(0.2):
        attributes["dilations"] = [
            2 if (k - 1) * 2 < min(v.dims[2 + n]) else 1 for n, k in enumerate(kernel)
        ]
    how = b.integer(0, 3)
    if how == 0:
        attributes["auto_pad"] = b.choice(("SAME_UPPER", "SAME_LOWER", "VALID"))
        if "strides" in attributes and "dilations" in attributes:
            del attributes["dilations"]
    elif how == 1:
        attributes["pads"] = [k // 2 for k in kernel] * 2
    elif how == 2:
        attributes["pads"] = [b.integer(0, max(0, k - 1)) for k in kernel * 2]
    return attributes


def conv(b: Builder, v: Value | None = None) -> Value:
    v = v or image(b)
    channels = v.dims[1][0]
    group = (
        1 if b.chance(0.65) else b.choice([g for g in range(1, channels + 1) if channels % g == 0])
    )
    outputs = b.choice(CHANNELS) if group == 1 else group * b.choice((1, 1, 2, 3))
    attributes = window(b, v)
    weight = b.weight(outputs, channels // group, *attributes["kernel_shape"], dtype=v.dtype)
    bias = (b.weight(outputs, dtype=v.dtype, scale=0.5),) if b.chance(0.6) else ()
    return tame(b, b.node("Conv", v, weight, *bias, group=group, **attributes))


def narrow_conv(b: Builder) -> Value:
    """Rows of some known, small width and any height; kernels as high or as wide as the image."""
    width = b.integer(3, 9)
    height: int | str = b.choice(
        [n for n, s in b.symbols.items() if min(s) > 1] or [b.integer(2, 20)]
    )
    v = b.input([b.choice((1, 2, *b.symbols)), b.choice(CHANNELS), height, width], FLOAT)
    shape = b.choice(((1, 3), (1, width), (1, 1), (2, 3), (1, 2)))
    outputs = b.choice((16, 24, 32, 32, 33, 48, 64))
    weight = b.weight(outputs, v.dims[1][0], *shape)
    padded = {"pads": [0, shape[1] // 2, 0, shape[1] // 2]} if b.chance(0.4) else {}
    strided = {"strides": [1, b.integer(1, 2)]} if b.chance(0.3) else {}
    return tame(b, b.node("Conv", v, weight, **padded, **strided))


def conv_block(b: Builder) -> Value:
    """Conv, BatchNormalization, activation, sometimes a residual and a pool."""
    v = image(b)
    x = conv(b, v)
    if b.chance(0.6):
        parameters = [
            b.constant(b.numbers((x.dims[1][0],), x.dtype, *r))
            for r in ((0.5, 1.5), (-1, 1), (-1, 1), (0.3, 2))
        ]
        x = b.node("BatchNormalization", x, *parameters)
    if b.chance(0.8):
        x = b.node(b.choice(("Relu", "LeakyRelu", "HardSwish", "Sigmoid", "Clip", "Elu")), x)
    if b.chance(0.2):
        x = b.node("Mul", x, b.node("Sigmoid", x))
    if x.dims == v.dims and x.dtype == v.dtype:
        x = b.node("Add", x, v)
    if b.chance(0.3):
        gate = b.node("Sigmoid", b.node("GlobalAveragePool", x))
        x = b.node("Mul", x, gate)
    return x if b.chance(0.6) or min(min(d) for d in x.dims[2:]) < 2 else pool(b, x)


def pool(b: Builder, v: Value | None = None) -> Value:
    v = v or image(b, smallest=2)
    op = b.choice(
        (
            "MaxPool",
            "MaxPool",
            "AveragePool",
            "AveragePool",
            "LpPool",
            "GlobalAveragePool",
            "GlobalMaxPool",
        )
    )
    if op.startswith("Global"):
        return b.node(op, v)
    attributes = window(b, v, dilated=op == "MaxPool")
    if b.chance(0.25) and "auto_pad" not in attributes:
        attributes["ceil_mode"] = 1
    if op == "AveragePool" and b.chance(0.5):
        attributes["count_include_pad"] = 1
    if op == "LpPool":
        attributes["p"] = b.integer(1, 2)
    if op == "MaxPool" and b.chance(0.2):
        values, where = b.node(op, v, outputs=2, **attributes)
        return values if b.chance(0.5) else cast(b, where, FLOAT)
    return b.node(op, v, **attributes)


def conv_transpose(b: Builder) -> Value:
    v = image(b, b.choice((1, 2, 2, 3)), smallest=2)
    channels = v.dims[1][0]
    group = (
        1 if b.chance(0.7) else b.choice([g for g in range(1, channels + 1) if channels % g == 0])
    )
    outputs = b.choice([c for c in CHANNELS if c <= 33]) if group == 1 else b.integer(1, 3)
    kernel = [b.integer(1, 3) for _ in range(v.rank - 2)]
    attributes: dict[str, Any] = {"strides": [b.integer(1, 2) for _ in kernel]}
    if b.chance(0.4):
        attributes["pads"] = [b.integer(0, k - 1) for k in kernel] * 2
    if b.chance(0.2):
        attributes["output_padding"] = [s - 1 for s in attributes["strides"]]
    weight = b.weight(channels, outputs, *kernel, dtype=v.dtype, scale=0.3)
    bias = (b.weight(outputs * group, dtype=v.dtype, scale=0.5),) if b.chance(0.5) else ()
    return tame(b, b.node("ConvTranspose", v, weight, *bias, group=group, **attributes))


def resize(b: Builder) -> Value:
    v = image(b, b.choice((1, 2, 2)), smallest=2)
    spatial = v.rank - 2
    mode = b.choice(("nearest", "linear", "cubic" if spatial == 2 else "linear"))
    attributes: dict[str, Any] = {
        "mode": mode,
        "coordinate_transformation_mode": b.choice(
            ("half_pixel", "asymmetric", "pytorch_half_pixel", "align_corners")
        ),
    }
    scales = [1.0, 1.0, *(b.choice((0.5, 1.0, 1.5, 2.0)) for _ in range(spatial))]
    if b.chance(0.5) or not v.fixed:
        if attributes["coordinate_transformation_mode"] == "align_corners":
            # ONNX and ONNX Runtime do not agree on the length where it has to be rounded.
            scales = [float(np.ceil(s)) for s in scales]
        return b.node("Resize", v, None, np.array(scales, np.float32), **attributes)
    targets = [d[0] for d in v.dims[:2]] + [b.integer(1, 12) for _ in range(spatial)]
    return b.node("Resize", v, None, None, targets, **attributes)


def head(b: Builder) -> Value:
    """From an image to numbers: a global pool or Flatten, and a dense layer."""
    v = image(b)
    pooled = b.node("GlobalAveragePool", v) if b.chance(0.6) or not v.fixed else v
    flat = b.node("Flatten", pooled)
    if len(set(flat.dims[1])) > 1:
        raise Rejected("the number of features must be known")
    width = b.size(33)
    weight = b.weight(width, flat.dims[1][0], dtype=v.dtype, scale=0.3)
    return b.node("Softmax", tame(b, b.node("Gemm", flat, weight, transB=1)), axis=-1)


ROWS: dict[str, tuple[float, Row]] = {
    "conv": (2, conv),
    "narrow conv": (1.2, narrow_conv),
    "conv block": (2.5, conv_block),
    "pool": (1.5, pool),
    "conv transpose": (1, conv_transpose),
    "resize": (0.7, resize),
    "head": (0.8, head),
}
"""Weight and function of each."""
