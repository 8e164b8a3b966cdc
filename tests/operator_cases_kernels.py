"""Rows of the operator table for the operators that run through C++ kernels, and for gathers.

Like those of ``operator_cases``, they are run through the NumPy interpreter and through compiled
C++.
"""

from __future__ import annotations

from itertools import product

import numpy as np
from operator_case import FLOATS, Case, Table, boolean, byte, numbers, real, whole

SPECIAL = np.array([0.0, -0.0, 1.25, -1.25, 1e30, -1e30, np.inf, -np.inf], np.float32)
AUTO_PADS = ("SAME_UPPER", "SAME_LOWER", "VALID")
ACTIVATIONS = (
    "Sigmoid", "Tanh", "Relu", "LeakyRelu", "HardSigmoid", "Elu", "Softsign", "Softplus",
)  # fmt: skip
NUMBERED_ACTIVATIONS = ("Affine", "ThresholdedRelu", "ScaledTanh")
"""ONNX Runtime takes 0 for their alpha where it is not given, against the standard."""


def _products(t: Table) -> None:
    for a, b, constants in product((0, 1), (0, 1), ((), (1, 2))):
        left, right = real(*((3, 4) if a else (4, 3))), real(*((5, 3) if b else (3, 5)))
        t.row("Gemm", left, right, real(5), constants=constants, transA=a, transB=b)
        t.row(
            "Gemm", left, right, real(4, 1), constants=constants, transA=a, transB=b,
            alpha=0.5, beta=-2.0,
        )  # fmt: skip
    for bias in (real(), real(1), real(1, 5), real(4, 5)):
        t.row("Gemm", real(4, 3), real(3, 5), bias, constants=(1, 2))
    t.row("Gemm", real(4, 3), real(3, 5), constants=(1,), alpha=0.25)
    t.row("Gemm", real(1, 33), real(33, 50), real(50), constants=(1, 2))
    t.row("Gemm", real(70, 20), real(20, 40), real(40), constants=(1, 2))
    for m, k, n in ((19, 7, 6), (9, 13, 20), (5, 3, 67), (33, 10, 50), (3, 18, 100)):
        t.row("Gemm", real(m, k), real(k, n), real(n), constants=(1, 2))
        t.row("Gemm", real(k, m), real(n, k), transA=1, transB=1)
    t.row("Gemm", real(2, 0), real(0, 3), real(3), constants=(1, 2))
    t.row("Gemm", real(0, 3), real(3, 5), real(5), constants=(1, 2))
    t.row("Gemm", real(4, 3, dtype=np.float64), real(3, 5, dtype=np.float64), constants=(1,))
    t.row("Gemm", real(4, 3, dtype=np.float16), real(3, 5, dtype=np.float16), tolerance=1e-2)
    shapes = [
        ((4, 3), (3, 5)), ((3,), (3, 5)), ((4, 3), (3,)), ((3,), (3,)), ((2, 4, 3), (3, 5)),
        ((2, 4, 3), (2, 3, 5)), ((2, 6, 4, 3), (6, 3, 5)), ((4, 3), (2, 6, 3, 5)),
        ((2, 2, 6, 4, 3), (2, 1, 6, 3, 5)), ((2, 1, 4, 3), (1, 5, 3, 2)), ((3,), (2, 3, 4)),
        ((2, 4, 3), (3,)), ((2, 2, 2, 4, 3), (1, 1, 1, 3, 2)), ((0, 4, 3), (3, 2)),
        ((9, 30), (30, 37)), ((2, 17, 40), (2, 40, 33)),
    ]  # fmt: skip
    for left_shape, right_shape in shapes:
        for constants in ((), (1,)):
            t.row("MatMul", real(*left_shape), real(*right_shape), constants=constants)
    t.row("MatMul", real(4, 3), real(2, 3, 5), constants=(0,))
    for dtype in (np.float64, np.int32, np.int64, np.uint32):
        left, right = whole(2, 4, 3, dtype=dtype), whole(3, 5, dtype=dtype)
        t.row("MatMul", left, right)
        t.row("MatMul", left, right, constants=(1,))
    t.row("MatMul", real(4, 3, dtype=np.float16), real(3, 5, dtype=np.float16), tolerance=1e-2)
    for constants in ((), (1,), (1, 2, 3)):
        x, w = whole(4, 3, high=99, dtype=np.uint8), whole(3, 5, dtype=np.int8)
        zeros = np.array(3, np.uint8), np.array(-4, np.int8)
        t.row("MatMulInteger", x, w, *zeros, constants=constants)
        t.row("MatMulInteger", x, w, zeros[0], whole(5, dtype=np.int8), constants=constants)
    t.row("MatMulInteger", whole(4, 3, dtype=np.uint8), whole(3, 5, dtype=np.int8), constants=(1,))
    for left, right in product((np.uint8, np.int8), repeat=2):
        _integer_products(t, left, right)


def _integer_products(t: Table, left: type, right: type) -> None:
    """Products of bytes: zero points of each kind, odd sizes, batches, the largest sums."""
    one, low = np.array(7, left), np.array(np.iinfo(right).min, right)
    for m, k, n in ((1, 33, 50), (5, 7, 17), (70, 20, 37), (1, 512, 1), (0, 3, 4)):
        t.row("MatMulInteger", byte(m, k, dtype=left), byte(k, n, dtype=right), constants=(1,))
        t.row(
            "MatMulInteger", byte(m, k, dtype=left), byte(k, n, dtype=right), one,
            byte(n, dtype=right), constants=(1, 3),
        )  # fmt: skip
    x, w = byte(3, 5, 9, dtype=left), byte(9, 20, dtype=right)
    for constants in ((1,), (1, 3), (1, 2, 3), ()):
        t.row("MatMulInteger", x, w, one, low, constants=constants)
    t.row("MatMulInteger", x, byte(3, 9, 20, dtype=right), one, low, constants=(1, 2, 3))
    t.row("MatMulInteger", x, byte(1, 9, 20, dtype=right), one, low, constants=(1, 2, 3))
    t.row("MatMulInteger", x, byte(9, dtype=right), one, constants=(1, 2))
    t.row("MatMulInteger", x[0, 0], w, one, constants=(1, 2))
    for constants in ((1,), (1, 2)):
        t.row("MatMulInteger", x[0], w, byte(5, 1, dtype=left), low, constants=constants)
    for top in (np.iinfo(right).max, np.iinfo(right).min):
        for zero in (np.iinfo(left).min, np.iinfo(left).max):
            t.row(
                "MatMulInteger", np.full((2, 301), np.iinfo(left).max, left),
                np.full((301, 3), top, right), np.array(zero, left), constants=(1, 2),
            )  # fmt: skip


def _convolutions(t: Table) -> None:
    spatial, kernel = (11, 8, 7), (3, 2, 3)
    for rank, group, stride, dilation in product((1, 2, 3), (1, 2), (1, 2), (1, 2)):
        sizes, taps = spatial[:rank], kernel[:rank]
        shared = {"group": group, "strides": [stride] * rank, "dilations": [dilation] * rank}
        pads = [0, 2, 1][:rank] + [1, 0, 2][:rank]
        x, w, bias = real(2, 4, *sizes), real(6, 4 // group, *taps), real(6)
        t.row("Conv", x, w, bias, constants=(1, 2), pads=pads, tolerance=2e-5, **shared)
        t.row("Conv", x, w, constants=(1,), tolerance=2e-5, **shared)
        w = real(4, 6 // group, *taps)
        t.row("ConvTranspose", x, w, bias, constants=(1, 2), pads=pads, tolerance=5e-5, **shared)
    x = real(1, 3, 7, 9)
    for auto_pad, strides in product(AUTO_PADS, ([1, 1], [2, 3])):
        shared = {"auto_pad": auto_pad, "strides": strides}
        static = auto_pad != "VALID" and strides != [1, 1]
        t.row("Conv", x, real(4, 3, 3, 2), constants=(1,), static=static, **shared)
        t.row("ConvTranspose", x, real(3, 4, 3, 2), constants=(1,), **shared)
    t.row("Conv", x, real(4, 3, 3, 2), real(4), static=True)
    t.row("Conv", real(2, 4, 7, 9), real(4, 2, 3, 2), real(4), static=True, group=2, pads=[1] * 4)
    t.row("Conv", x, real(3, 1, 3, 3), constants=(1,), group=3)
    t.row("Conv", x, real(20, 3, 1, 1), real(20), constants=(1, 2))
    t.row("Conv", real(0, 3, 5, 5), real(4, 3, 3, 3), constants=(1,))
    # Enough output channels for vectors of them, or not quite; all tiles of positions and their rests.
    for outputs, channels, (h, w) in (
        (16, 3, (5, 17)), (17, 5, (2, 7)), (32, 1, (7, 7)), (48, 16, (1, 30)), (40, 2, (14, 3)),
    ):  # fmt: skip
        wide, bias = real(2, channels, h, w), real(outputs)
        weights = real(outputs, channels, 3, 3) / np.float32(5)
        for stride, dilation in ((1, 1), (2, 1), (1, 2)):
            t.row(
                "Conv", wide, weights, bias, constants=(1, 2), pads=[1, 2, 3, 2],
                strides=[1, stride], dilations=[1, dilation], tolerance=2e-5,
            )  # fmt: skip
        t.row("Conv", wide, real(outputs, channels, 1, 1), bias, constants=(1, 2), strides=[2, 1])
        t.row("Conv", wide, real(outputs, channels, 1, 1), constants=(1,))
    t.row("Conv", real(2, 4, 9, 9), real(32, 4, 3, 3), constants=(1,), tolerance=2e-5)
    # One filter for each channel.
    for channels, sizes, taps in (
        (16, (5, 19), (3, 3)), (5, (9,), (4,)), (19, (3, 4, 9), (2, 3, 3)),
    ):  # fmt: skip
        wide, weights = real(2, channels, *sizes), real(channels, 1, *taps)
        for stride, dilation in ((1, 1), (2, 1), (1, 2)):
            t.row(
                "Conv", wide, weights, real(channels), constants=(1, 2), group=channels,
                pads=[1] * len(sizes) + [2] * len(sizes), strides=[1] * (len(sizes) - 1) + [stride],
                dilations=[dilation] * len(sizes), tolerance=2e-5,
            )  # fmt: skip
    x64 = real(1, 3, 6, 5, dtype=np.float64)
    t.row("Conv", x64, real(4, 3, 3, 3, dtype=np.float64), constants=(1,), pads=[1] * 4)
    x16 = real(1, 3, 6, 5, dtype=np.float16)
    t.row("Conv", x16, real(4, 3, 3, 3, dtype=np.float16), constants=(1,), tolerance=5e-2)
    for taps in ((3,), (5,), (3, 3), (5, 5), (1, 3)):  # what Winograd's algorithm computes
        x20 = real(2, 20, *(12, 9)[: len(taps)], low=-1, high=1)
        w18, pads = real(18, 20, *taps, low=-1, high=1), [k // 2 for k in taps] * 2
        t.row("Conv", x20, w18, real(18), constants=(1, 2), pads=pads, tolerance=2e-4)
    t.row("ConvTranspose", x, real(3, 4, 3, 3), static=True)
    t.row(
        "ConvTranspose", x, real(3, 2, 3, 3), constants=(1,), strides=[2, 3], output_padding=[1, 2]
    )
    for auto_pad in ("NOTSET", "SAME_UPPER", "SAME_LOWER"):
        t.row(
            "ConvTranspose", x, real(3, 2, 3, 3), constants=(1,), static=True, strides=[2, 3],
            output_shape=[14, 26], auto_pad=auto_pad,
        )  # fmt: skip
    x8, w8 = whole(1, 3, 5, 5, high=99, dtype=np.uint8), whole(4, 3, 3, 3, high=99, dtype=np.uint8)
    zeros = np.array(3, np.uint8), np.array(2, np.uint8)
    t.row("ConvInteger", x8, w8, *zeros, constants=(1, 2, 3), pads=[1] * 4)
    t.row("ConvInteger", x8, w8, zeros[0], static=True, pads=[1] * 4)
    t.row("ConvInteger", x8, w8, constants=(1,), strides=[2, 2])
    for left, right in product((np.uint8, np.int8), repeat=2):
        _integer_convolutions(t, left, right)


def _integer_convolutions(t: Table, left: type, right: type) -> None:
    """Convolutions of bytes: zero points, padding, groups, strides, one to three axes."""
    zeros = byte(dtype=left), byte(dtype=right)
    for sizes, kernel, group, strides, dilations in (
        ((30,), (3,), 1, (1,), (1,)),
        ((11, 9), (1, 1), 1, (1, 1), (1, 1)),
        ((11, 9), (3, 3), 1, (1, 1), (1, 1)),
        ((11, 9), (3, 2), 2, (2, 3), (1, 2)),
        ((11, 9), (3, 3), 10, (1, 1), (2, 1)),
        ((5, 6, 7), (2, 3, 2), 1, (1, 2, 1), (1, 1, 1)),
    ):
        rank = len(sizes)
        pads = [0] * 2 * rank if max(kernel) == 1 else [2, 1, 0][:rank] + [1, 0, 2][:rank]
        x, w = byte(2, 10, *sizes, dtype=left), byte(20, 10 // group, *kernel, dtype=right)
        shared = {"group": group, "strides": strides, "dilations": dilations, "pads": pads}
        t.row("ConvInteger", x, w, *zeros, constants=(1, 3), **shared)
        t.row("ConvInteger", x, w, constants=(1,), **shared)
        if rank != 2 and left is np.int8:
            continue  # neither ONNX Runtime nor the reference can do it
        one, scales = np.float32(0.01), real(20, low=0.01, high=0.02)
        parameters = [one, zeros[0], w, scales, byte(20, dtype=right), np.float32(0.2)]
        t.row(
            "QLinearConv", x, *parameters, zeros[0], whole(20, low=-99, high=99, dtype=np.int32),
            constants=(1, 2, 3, 4, 5, 6, 7, 8), **shared,
        )  # fmt: skip
    t.row(
        "ConvInteger", byte(1, 3, 5, 5, dtype=left), byte(2, 3, 5, 5, dtype=right), constants=(1,)
    )
    t.row(
        "ConvInteger", byte(0, 3, 5, 5, dtype=left), byte(2, 3, 3, 3, dtype=right), constants=(1,)
    )


def _pools(t: Table) -> None:
    spatial, kernel = (9, 8, 7), (3, 2, 3)
    extra = {
        "MaxPool": ({}, {"storage_order": 1}),
        "AveragePool": ({}, {"count_include_pad": 1}),
        "LpPool": ({}, {"p": 1}, {"p": 3}),
    }
    steps = ((1, 0), (2, 0), (2, 1), (3, 1))
    for name, rank, (stride, ceil_mode) in product(extra, (1, 2, 3), steps):
        x, outputs = real(2, 3, *spatial[:rank]), 2 if name == "MaxPool" else 1
        shared = {"kernel_shape": kernel[:rank], "strides": [stride] * rank, "ceil_mode": ceil_mode}
        pads = [0, 1, 1][:rank] + [1, 0, 2][:rank]
        for attributes in extra[name][: None if rank == 2 else 1]:
            t.row(name, x, outputs=outputs, pads=pads, **shared, **attributes)
        if stride == 2:
            t.row(name, x, dilations=[2] * rank, **shared)
    for name, auto_pad in product(extra, AUTO_PADS):
        shared = {"kernel_shape": [3, 2], "auto_pad": auto_pad}
        t.row(name, real(1, 2, 7, 9), **shared)
        t.row(name, real(1, 2, 7, 9), static=True, strides=[2, 2], **shared)
    t.row("MaxPool", whole(1, 2, 6, 6, dtype=np.int8), kernel_shape=[2, 2])
    t.row("MaxPool", real(1, 2, 6, 6, dtype=np.float64), kernel_shape=[2, 2], outputs=2)
    t.row("MaxPool", real(1, 2, 6, 6, dtype=np.float16), kernel_shape=[2, 2])
    t.row("MaxPool", real(1, 1, 40, 40), kernel_shape=[2, 2], strides=[2, 2])
    for name, shape in product(
        ("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"), ((2, 3, 4), (2, 3, 4, 5))
    ):
        t.row(name, real(*shape), opset=21)
    for p in (1, 3):
        t.row("GlobalLpPool", real(2, 3, 4, 5), p=p, tolerance=1e-4, opset=21)
    places = np.array([[[[5, 7], [13, 15]]]])
    shared = {"kernel_shape": [2, 2], "strides": [2, 2]}
    t.row("MaxUnpool", real(1, 1, 2, 2), places, **shared)
    # With an output_shape ONNX Runtime goes against ONNX's own test, which the conformance suite runs.


def _recurrent(t: Table) -> None:
    gates = {"RNN": 1, "GRU": 3, "LSTM": 4}
    seq, batch, inputs, hidden = 4, 3, 5, 18
    lengths = np.array([4, 1, 3], np.int32)
    for name, direction in product(gates, ("forward", "reverse", "bidirectional")):
        count, directions = gates[name], 2 if direction == "bidirectional" else 1
        outputs = 3 if name == "LSTM" else 2
        x = real(seq, batch, inputs)
        w, r = real(directions, count * hidden, inputs), real(directions, count * hidden, hidden)
        bias, state = real(directions, 2 * count * hidden), real(directions, batch, hidden)
        rest = [state, real(directions, 3 * hidden)] if name == "LSTM" else []
        shared = {"direction": direction, "hidden_size": hidden}
        weights, tolerance = (1, 2), 1e-4
        t.row(name, x, w, r, constants=weights, outputs=outputs, tolerance=tolerance, **shared)
        t.row(
            name, x, w, r, bias, lengths, state, *rest, constants=(1, 2, 3), outputs=outputs,
            tolerance=tolerance, **shared,
        )  # fmt: skip
        t.row(
            name, x, w, r, bias, None, state, *rest, outputs=outputs, tolerance=tolerance,
            static=True, clip=0.7, **shared,
        )  # fmt: skip
        if name == "GRU":
            t.row(
                name, x, w, r, bias, lengths, state, constants=(1, 2, 3), outputs=outputs,
                tolerance=tolerance, linear_before_reset=1, **shared,
            )  # fmt: skip
        if name == "LSTM":
            t.row(
                name, x, w, r, bias, constants=(1, 2, 3), outputs=outputs, tolerance=tolerance,
                input_forget=1, **shared,
            )  # fmt: skip
    # Units that do not fill a panel, and weights of several strips.
    for hidden, constants in product((1, 17, 50, 100), ((1, 2, 3), (3,))):
        for name, count in gates.items():
            w, r = (real(1, count * hidden, n, low=-0.2, high=0.2) for n in (3, hidden))
            t.row(
                name, real(3, 2, 3), w, r, real(1, 2 * count * hidden), constants=constants,
                outputs=2, tolerance=1e-4, hidden_size=hidden, direction="reverse",
                static=constants == (3,),
            )  # fmt: skip
    w, r = real(1, 6, 5, low=-0.6, high=0.6), real(1, 6, 6, low=-0.4, high=0.4)
    x = real(4, 3, 5, low=-1, high=1)
    for activation in (*ACTIVATIONS, *NUMBERED_ACTIVATIONS):
        numbers = {"activation_alpha": [0.3], "activation_beta": [0.2]}
        shared = {"hidden_size": 6, "activations": [activation], **numbers}
        t.row("RNN", x, w, r, constants=(1, 2), outputs=2, tolerance=1e-4, **shared)
        if activation in ACTIVATIONS:
            shared = {"hidden_size": 6, "activations": [activation]}
            t.row("RNN", x, w, r, constants=(1, 2), outputs=2, tolerance=1e-4, **shared)
    t.row(
        "LSTM", x, real(2, 24, 5), real(2, 24, 6), constants=(1, 2), outputs=3, tolerance=1e-4,
        hidden_size=6, direction="bidirectional", activation_alpha=[0.3, 0.1, 0.2],
        activation_beta=[0.2],
        activations=["Elu", "LeakyRelu", "Tanh", "Sigmoid", "HardSigmoid", "Softsign"],
    )  # fmt: skip
    for name, count in gates.items():  # ONNX Runtime refuses layout 1, ONNX's reference has it
        weights = [real(1, count * 6, 5), real(1, count * 6, 6), real(1, 2 * count * 6)]
        t.row(
            name, real(3, 4, 5), *weights, constants=(1, 2, 3), hidden_size=6, layout=1,
            outputs=2, tolerance=1e-4,
        )  # fmt: skip
    double = [real(*s, dtype=np.float64) for s in ((4, 3, 5), (1, 24, 5), (1, 24, 6))]
    t.row("LSTM", *double, constants=(1, 2), hidden_size=6, outputs=3, tolerance=1e-4)


def _gathers(t: Table) -> None:
    for indices, axis in product(
        (whole(low=-4, high=4), whole(3, low=-4, high=4), whole(2, 3, low=-4, high=4)), (0, 1, -1)
    ):
        t.row("Gather", real(4, 5, 6), indices, axis=axis)
        t.row("Gather", real(4, 5, 6), indices, axis=axis, constants=(1,))
    t.row("Gather", real(4, 5), whole(3, low=0, high=4, dtype=np.int32))
    t.row("Gather", real(4, 9), np.array([1, 3, 5, 7]), constants=(1,), axis=1)
    t.row("Gather", real(4, 5), np.array([-1, -2]), constants=(1,), axis=1)
    t.row("Gather", real(4, 5), np.zeros(0, np.int64), axis=1)
    for dtype in (*FLOATS, np.int8, np.uint16, np.int64):
        t.row("Gather", whole(4, 5, dtype=dtype), np.array([[2, 0]]))
    t.row("Gather", boolean(4, 5), np.array([3, -1]))
    for axis in (0, 1, -1):
        t.row("GatherElements", real(4, 5, 6), whole(3, 4, 2, low=-4, high=4), axis=axis)
    t.row("GatherElements", whole(4, 5), whole(2, 5, low=-4, high=4, dtype=np.int32))
    lists = {"constants": (1,)}
    t.row("GatherND", real(4, 5, 6), whole(3, 2, low=-4, high=4), **lists)
    t.row("GatherND", real(4, 5, 6), whole(3, 2, low=-4, high=4), static=True)
    t.row("GatherND", real(4, 5, 6), whole(3, 1, 3, low=-4, high=4), **lists)
    t.row("GatherND", real(4, 5, 6), whole(4, 2, 2, low=-4, high=4), batch_dims=1, **lists)
    t.row("GatherND", real(4, 5, 6), whole(4, 5, 1, low=-4, high=4), batch_dims=2)
    t.row("Compress", real(4, 5, 6), np.array([True, False, True]), axis=1)
    t.row("Compress", real(4, 5, 6), np.array([False, False, False]), axis=-1)
    t.row("Compress", whole(3, 4), boolean(9))


def _scatters(t: Table) -> None:
    for axis, reduction in product((0, 1, -1), ("none", "add", "mul", "max", "min")):
        indices = whole(3, 4, 2, low=-4, high=4)
        shared = {"axis": axis, "reduction": reduction}
        t.row("ScatterElements", real(4, 5, 6), indices, real(3, 4, 2), **shared)
        t.row("ScatterElements", whole(4, 5, 6), indices, whole(3, 4, 2), constants=(1,), **shared)
    for reduction in ("none", "add", "mul", "max", "min"):
        for index, update in (((3, 2), (3, 6)), ((2, 3, 3), (2, 3)), ((2, 1), (2, 5, 6))):
            indices = whole(*index, low=-4, high=4)
            t.row(
                "ScatterND", real(4, 5, 6), indices, real(*update), constants=(1,),
                reduction=reduction,
            )  # fmt: skip
    t.row("ScatterND", whole(4, 5), whole(3, 1, low=0, high=4), whole(3, 5), static=True)
    t.row("Scatter", real(3, 4), whole(2, 2, low=0, high=3), real(2, 2), opset=10, axis=1)


def _caches(t: Table) -> None:
    for mode in ("linear", "circular"):
        last = 5 if mode == "linear" else 7
        for dtype in (np.float32, np.int32):
            cache, update = numbers(2, 3, 8, 4, dtype=dtype), numbers(2, 3, 3, 4, dtype=dtype)
            t.row("TensorScatter", cache, update, np.array([1, last]), mode=mode, opset=24)
        t.row("TensorScatter", real(1, 6, 5), real(1, 2, 5), mode=mode, axis=1, opset=24)
        start = np.array([0, 3, 1])
        t.row("TensorScatter", real(3, 4), real(3, 1), start, mode=mode, axis=-1, opset=24)


def _orders(t: Table) -> None:
    for axis, largest in product((0, 1, -1), (0, 1)):
        shared = {"axis": axis, "largest": largest, "outputs": 2}
        t.row("TopK", real(4, 5, 6), [3], constants=(1,), **shared)
        t.row("TopK", whole(4, 5, 6, low=0, high=3), [4], constants=(1,), **shared)
        t.row("TopK", real(4, 5, 6), [2], **shared)
    t.row("TopK", real(4, 5), [0], constants=(1,), outputs=2)
    t.row("TopK", real(50), [50], constants=(1,), outputs=2)
    t.row("TopK", real(4, 9, dtype=np.float64), [5], outputs=2)
    t.row("TopK", real(4, 9, dtype=np.float16), [5], outputs=2)
    for x in (
        boolean(4, 5),
        whole(3, 4, low=-1, high=2),
        whole(2, 3, 4, low=0, high=2),
        real(0, 4),
    ):
        t.row("NonZero", x)
    t.row("NonZero", whole(7, low=0, high=2).astype(np.float32))
    for axis, ordered in product((None, 0, 1), (0, 1)):
        shared = {"sorted": ordered} if axis is None else {"sorted": ordered, "axis": axis}
        t.row("Unique", whole(5, 4, low=0, high=3), outputs=4, **shared)
        t.row("Unique", whole(2, 6, low=0, high=2).astype(np.float32), outputs=4, **shared)
    for axis, exclusive, reverse in product((0, 1, -1), (0, 1), (0, 1)):
        shared = {"constants": (1,), "exclusive": exclusive, "reverse": reverse}
        t.row("CumSum", real(4, 5, 6), axis, **shared)
    for dtype in (np.float64, np.int32, np.int64):
        t.row("CumSum", whole(4, 5, dtype=dtype), 1, constants=(1,))
    t.row("CumSum", real(4, 0, 6), 1, constants=(1,), exclusive=1)
    for axis, exclusive, reverse in product((0, -1), (0, 1), (0, 1)):
        shared = {"exclusive": exclusive, "reverse": reverse}
        t.row("CumSum", real(4, 5), axis, **shared)
        t.row("CumProd", real(4, 5), axis, opset=26, **shared)
        t.row("CumProd", whole(4, 5, dtype=np.int32), axis, constants=(1,), opset=26, **shared)


def _einsums(t: Table) -> None:
    sizes = {"b": 2, "h": 3, "i": 2, "j": 3, "k": 4, "l": 5, "q": 3}
    for equation in (
        "ij->ji", "ij,jk->ik", "ij,jk", "bij,bjk->bik", "bhij,bhjk->bhik", "ij,ij->", "ij,ij->ij",
        "i,j->ij", "ii->i", "ii->", "ij->", "ij->i", "bij,bkj->bik", "bhqk,bkhl->bqhl",
        "ij,jk,kl->il", "ijk,jil->kl", "ij,j->i", "j,ij->i", "bij,kj->bik", "ij,kl->ijkl",
        "ij,ik,il->jkl",
    ):  # fmt: skip
        terms = equation.split("->")[0].split(",")
        operands = [real(*(sizes[c] for c in term)) for term in terms]
        t.row("Einsum", *operands, equation=equation, tolerance=1e-4)
        if len(terms) > 1:
            last = len(terms) - 1
            t.row("Einsum", *operands, equation=equation, constants=(last,), tolerance=1e-4)
            t.row("Einsum", *operands, equation=equation, constants=(0,), tolerance=1e-4)
    t.row("Einsum", real(2, 5, 3, 4), real(4, 6), equation="...ij,jk->...ik", tolerance=1e-4)
    t.row("Einsum", real(2, 5, 3), equation="...i->...")
    t.row("Einsum", whole(3, 4), whole(4, 2), equation="ij,jk->ik")
    double = real(3, 4, dtype=np.float64), real(4, 2, dtype=np.float64)
    t.row("Einsum", *double, equation="ij,jk->ik", constants=(1,))


def _quantised(t: Table) -> None:
    x = real(3, 4, 6, low=-9, high=9)
    for dtype in (np.uint8, np.int8, np.int16, np.uint16):
        q = whole(3, 4, 6, low=0, high=100, dtype=dtype)
        one = np.float32(0.03), np.array(3, dtype)
        row = real(4, low=0.1), whole(4, low=0, dtype=dtype)
        block = real(3, 4, 3, low=0.1), whole(3, 4, 3, low=0, dtype=dtype)
        for name, operand in (("QuantizeLinear", x), ("DequantizeLinear", q)):
            t.row(name, operand, *one)
            t.row(name, operand, *row, constants=(1, 2), axis=1)
            t.row(name, operand, *block, axis=2, block_size=2)
    t.row("QuantizeLinear", x, np.float32(0.1), constants=(1,))
    t.row("QuantizeLinear", real(4, 6, low=-60, high=60), np.float32(0.4), output_dtype=3)
    t.row("QuantizeLinear", SPECIAL, np.float32(0.5), np.array(-3, np.int8))
    t.row("DequantizeLinear", whole(3, 4, low=-900, high=900, dtype=np.int32), np.float32(0.03))
    for dtype, constants in product((np.uint8, np.int8), ((), (1, 2, 3, 4, 5, 6, 7))):
        one, two, three = (np.array(v, dtype) for v in (3, 0, 11))
        scales = np.float32(0.1), np.float32(0.05), np.float32(0.9)
        a, b = whole(2, 4, 3, low=0, high=99, dtype=dtype), whole(3, 5, low=0, high=99, dtype=dtype)
        parameters = [scales[0], one, b, scales[1], two, scales[2], three]
        t.row("QLinearMatMul", a, *parameters, constants=constants)
        b, columns = byte(3, 5, dtype=np.int8), real(5, low=0.01, high=0.1)
        parameters = [scales[0], one, b, columns, byte(5, dtype=np.int8), scales[2], three]
        t.row("QLinearMatMul", a, *parameters, constants=constants)
        x = whole(1, 3, 6, 6, low=0, high=99, dtype=dtype)
        w = whole(4, 3, 3, 3, low=0, high=99, dtype=dtype)
        parameters = [scales[0], one, w, scales[1], two, np.float32(9.0), three]
        t.row("QLinearConv", x, *parameters, constants=constants, static=not constants)
        w, factors = whole(4, 3, 3, 3, dtype=np.int8), real(4, low=0.01, high=0.1)
        parameters = [scales[0], one, w, factors, np.zeros(4, np.int8), scales[2], three]
        t.row(
            "QLinearConv", x, *parameters, whole(4, low=-99, high=99, dtype=np.int32),
            constants=(3, 4, 5, 8), pads=[1] * 4,
        )  # fmt: skip


def _build() -> list[Case]:
    table = Table()
    for family in (
        _products, _convolutions, _pools, _recurrent, _gathers, _scatters, _caches, _orders, _einsums,
        _quantised,
    ):  # fmt: skip
        family(table)
    return table.cases


CASES = _build()
