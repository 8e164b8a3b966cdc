"""Rows of the table that every operator is tested on, by family.

The rows are run through the NumPy interpreter and through compiled C++.
"""

from __future__ import annotations

import numpy as np
from ml_dtypes import bfloat16 as BFLOAT16  # noqa: N812
from onnx import TensorProto, helper, numpy_helper
from operator_case import FLOATS, INTEGERS, Case, Table, boolean, numbers, real, whole

FAR = 2**63 - 1
SPECIAL = np.array(
    [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 0.5, 2.5, -2.5, 1e-30, 3e38], np.float32
)


def _elementwise(t: Table) -> None:
    ranges = {
        "Acos": (-1, 1), "Acosh": (1, 6), "Asin": (-1, 1), "Atanh": (-0.9, 0.9), "Log": (0.01, 9),
        "Sqrt": (0, 9), "Reciprocal": (0.3, 4),
    }  # fmt: skip
    for name in [
        "Acos",
        "Acosh",
        "Asin",
        "Asinh",
        "Atan",
        "Atanh",
        "Ceil",
        "Celu",
        "Cos",
        "Cosh",
        "Elu",
        "Erf",
        "Exp",
        "Floor",
        "Gelu",
        "HardSigmoid",
        "HardSwish",
        "LeakyRelu",
        "Log",
        "Mish",
        "Reciprocal",
        "Relu",
        "Round",
        "Selu",
        "Shrink",
        "Sigmoid",
        "Sin",
        "Sinh",
        "Softplus",
        "Softsign",
        "Sqrt",
        "Tan",
        "Tanh",
        "ThresholdedRelu",
        "Abs",
        "Neg",
        "Sign",
    ]:
        low, high = ranges.get(name, (-3, 3))
        for dtype in FLOATS:
            t.row(name, real(3, 5, low=low, high=high, dtype=dtype))
    for name in ("Abs", "Neg", "Sign", "Relu"):
        for dtype in (np.int8, np.int32, np.int64):
            t.row(name, whole(4, 3, dtype=dtype))
    t.row("Abs", whole(5, dtype=np.uint8))
    for name in (
        "Relu",
        "Sigmoid",
        "Tanh",
        "Exp",
        "Abs",
        "Neg",
        "Floor",
        "Ceil",
        "Round",
        "Sqrt",
        "Log",
        "Erf",
    ):
        t.row(name, SPECIAL)
    t.row("Relu", real())
    t.row("Relu", real(0, 3))
    t.row("Tanh", real(2, 1, 3, 1))
    t.row("Exp", real(100, low=-90, high=80))
    t.row("Sin", real(50, low=-200, high=200))
    t.row("Swish", real(4, 5), opset=24)
    t.row("Swish", real(4, 5), opset=24, alpha=1.7)
    t.row("Gelu", real(4, 9), approximate="tanh")
    t.row("LeakyRelu", real(4, 5), alpha=0.3)
    t.row("Elu", real(4, 5), alpha=1.5)
    t.row("Celu", real(4, 5), alpha=0.7)
    t.row("Selu", real(4, 5), alpha=2.0, gamma=0.5)
    t.row("HardSigmoid", real(4, 5), alpha=0.4, beta=0.1)
    t.row("Shrink", real(4, 5), bias=0.5, lambd=1.0)
    for dtype in (np.int8, np.uint8, np.int16, np.uint16, np.int32, np.int64, np.uint64):
        t.row("Shrink", whole(4, 5, dtype=dtype), bias=1.5, lambd=2.5)
    t.row("ThresholdedRelu", real(4, 5), alpha=0.5)
    t.row("PRelu", real(2, 3, 4), real(3, 1))
    t.row("PRelu", real(2, 3, 4), real(1), constants=(1,))
    t.row("IsNaN", SPECIAL)
    t.row("IsInf", SPECIAL)
    t.row("IsInf", SPECIAL, detect_negative=0)
    t.row("IsInf", SPECIAL, detect_positive=0)
    t.row("Not", boolean(3, 4))
    for dtype in (np.int8, np.uint16, np.int64):
        t.row("BitwiseNot", whole(3, 4, dtype=dtype))
    t.row("Identity", real(2, 3))
    t.row("Identity", boolean(4))
    t.row("Dropout", real(3, 4), outputs=2)
    t.row("Dropout", real(3, 4), np.float32(0.3), np.array(False), constants=(1, 2))
    for dtype in (*FLOATS, np.int8, np.int64, np.uint32):
        t.row("Clip", numbers(4, 5, dtype=dtype), np.array(1, dtype), np.array(4, dtype))
    t.row("Clip", real(4, 5), None, np.float32(0.5), constants=(2,))
    t.row("Clip", real(4, 5), np.float32(-0.5), constants=(1,))
    t.row("Clip", real(4, 5))
    t.row("Clip", SPECIAL, np.float32(-1), np.float32(2), constants=(1, 2))


def _broadcast(t: Table) -> None:
    for name in ("Add", "Sub", "Mul", "Div"):
        for dtype in (*FLOATS, *INTEGERS):
            t.row(name, numbers(2, 3, dtype=dtype), numbers(2, 3, dtype=dtype))
        t.row(name, real(2, 1, 4), numbers(3, 1))
        t.row(name, real(), numbers(3, 2))
        t.row(name, real(1, 3), numbers(5, 4, 1, 3))
        t.row(name, real(3, 4), numbers(1), constants=(1,))
        t.row(name, real(3, 4), numbers(4), constants=(1,))
        t.row(name, real(0, 4), real(4))
    for name in ("Max", "Min", "Sum", "Mean"):
        dtypes = (*FLOATS, *INTEGERS) if name in ("Max", "Min") else FLOATS
        for dtype in dtypes:
            t.row(name, numbers(2, 3, dtype=dtype), numbers(3, dtype=dtype))
        t.row(name, real(2, 3))
        t.row(name, real(2, 1, 4), real(3, 1), real(4), real())
    t.row("Max", SPECIAL, SPECIAL[::-1].copy())
    t.row("Min", SPECIAL, SPECIAL[::-1].copy())
    for name in ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"):
        for dtype in (np.float32, np.float64, np.int32, np.int64):
            t.row(
                name, whole(3, 4, low=0, high=3, dtype=dtype), whole(4, low=0, high=3, dtype=dtype)
            )
        t.row(name, SPECIAL, SPECIAL[::-1].copy())
        t.row(name, whole(2, 3, dtype=np.uint8), whole(3, 2, 1, dtype=np.uint8))
    t.row("Equal", boolean(3, 4), boolean(4))
    for name in ("And", "Or", "Xor"):
        t.row(name, boolean(3, 4), boolean(3, 1))
    for name in ("BitwiseAnd", "BitwiseOr", "BitwiseXor"):
        for dtype in (np.int8, np.int64, np.uint16):
            t.row(name, whole(3, 4, dtype=dtype), whole(4, dtype=dtype))
    for dtype in (np.uint8, np.uint32, np.uint64):
        for direction in ("LEFT", "RIGHT"):
            t.row(
                "BitShift",
                whole(3, 4, dtype=dtype),
                whole(4, high=5, dtype=dtype),
                direction=direction,
            )
    for dtype in (np.int8, np.int32, np.int64, np.uint8):
        t.row("Mod", whole(4, 5, dtype=dtype), numbers(4, 5, dtype=dtype))
        t.row("Mod", whole(4, 5, dtype=dtype), numbers(5, dtype=dtype), fmod=1)
    t.row("Mod", real(4, 5), numbers(4, 5), fmod=1)
    t.row("Mod", real(4, 5, dtype=np.float64), numbers(4, 5, dtype=np.float64), fmod=1)
    for base in (np.float32, np.float64, np.int32, np.int64):
        for exponent in (np.float32, np.int32, np.int64):
            x = np.abs(numbers(3, 4, dtype=base))
            t.row("Pow", x, whole(4, low=0, high=4, dtype=exponent))
    for value in (-1.0, 0.5, 1.0, 2.0, 3.0, 2.5):
        t.row("Pow", real(3, 4, low=0.1), np.float32(value), constants=(1,))
    t.row("Pow", whole(5, dtype=np.int32), np.int32(3), constants=(1,))
    t.row("Where", boolean(3, 4), real(3, 4), real(3, 4))
    t.row("Where", boolean(3, 1), real(4), real(2, 1, 1))
    t.row("Where", boolean(3, 4), whole(3, 4), whole())
    t.row("Where", boolean(3, 4), whole(3, 4, dtype=np.uint8), whole(4, dtype=np.uint8))
    t.row("Where", boolean(3, 4), boolean(3, 4), boolean(4))


def _casts(t: Table) -> None:
    types = (*FLOATS, np.int8, np.int32, np.int64, np.uint8, np.uint64, np.bool_)
    for source in types:
        for target in types:
            x = whole(3, 4, low=0, dtype=np.int8).astype(source)
            t.row("Cast", x, to=helper.np_dtype_to_tensor_dtype(np.dtype(target)))
    t.row("Cast", real(40, low=-100, high=100), to=TensorProto.INT32)
    t.row("Cast", real(40, low=-100, high=100), to=TensorProto.INT8)
    t.row("Cast", real(40), to=TensorProto.BOOL)
    t.row("Cast", np.array([300, -200, 65], np.int32), to=TensorProto.INT8)
    t.row("Cast", np.array([300, -200, 65], np.int32), to=TensorProto.UINT8)
    t.row("Cast", real(8), to=TensorProto.BFLOAT16)
    for target in (np.float32, np.float64, np.float16, np.int32, np.bool_):
        x = real(3, 4, dtype=BFLOAT16)
        t.row("Cast", x, to=helper.np_dtype_to_tensor_dtype(np.dtype(target)))
    for name in ("Add", "Mul", "Max"):
        t.row(name, real(3, 4, dtype=BFLOAT16), real(4, dtype=BFLOAT16))
    for name in ("Neg", "Relu", "Exp", "Sigmoid"):
        t.row(name, real(3, 4, dtype=BFLOAT16))
    t.row("Transpose", real(3, 4, dtype=BFLOAT16))
    t.row("CastLike", real(3, 4), whole(2))
    t.row("CastLike", whole(3, 4), real())


def _same_bits(t: Table) -> None:
    for dtype, to in ((np.float32, np.int32), (np.float32, np.uint32), (np.float64, np.uint64)):
        number = helper.np_dtype_to_tensor_dtype(np.dtype(to))
        t.row("BitCast", numbers(2, 3, dtype=dtype), to=number, opset=26)
    for dtype, to in ((np.uint8, np.int8), (np.int16, np.float16), (np.int64, np.float64)):
        number = helper.np_dtype_to_tensor_dtype(np.dtype(to))
        t.row("BitCast", whole(5, low=0, high=99, dtype=dtype), to=number, opset=26)
    t.row("BitCast", real(0, 3), to=helper.np_dtype_to_tensor_dtype(np.dtype(np.int32)), opset=26)
    for x in (real(2, 3), whole(4), boolean(2, 1)):
        t.row("OptionalHasElement", x, opset=18)
        t.row("OptionalGetElement", x, opset=18)


def _reductions(t: Table) -> None:
    names = [
        "ReduceSum",
        "ReduceMean",
        "ReduceMax",
        "ReduceMin",
        "ReduceProd",
        "ReduceL1",
        "ReduceL2",
        "ReduceLogSum",
        "ReduceLogSumExp",
        "ReduceSumSquare",
    ]
    for name in names:
        low = 0.2 if name == "ReduceLogSum" else -2.0
        t.row(name, real(3, 4, 5, low=low))
        t.row(name, real(3, 4, 5, low=low), keepdims=0)
        for axes in ([0], [1], [-1], [0, 2], [1, -1], [0, 1, 2]):
            t.row(name, real(3, 4, 5, low=low), axes, constants=(1,))
            t.row(name, real(3, 4, 5, low=low), axes, constants=(1,), keepdims=0)
        t.row(name, real(3, 4, 5, low=low, dtype=np.float64), [1], constants=(1,))
        t.row(
            name,
            real(3, 4, low=max(low, 0.1), dtype=np.float16),
            [1],
            constants=(1,),
            tolerance=4e-3,
        )
        t.row(name, real(3, 1, 5, low=low), [1], constants=(1,))
        if name not in ("ReduceLogSum", "ReduceLogSumExp"):
            for dtype in (np.int32, np.int64):
                t.row(name, whole(3, 4, low=-3, high=4, dtype=dtype), [1], constants=(1,))
    for name in ("ReduceMax", "ReduceMin"):
        for dtype in (np.int8, np.uint8):
            t.row(name, whole(3, 4, dtype=dtype), [1], constants=(1,))
        t.row(name, boolean(3, 4), [1], constants=(1,))
    t.row("ReduceSum", real(3, 4), np.zeros(0, np.int64), constants=(1,), noop_with_empty_axes=1)
    t.row("ReduceSum", real(3, 4), np.zeros(0, np.int64), constants=(1,))
    t.row("ReduceSum", real(3, 0), [1], constants=(1,))
    t.row("ReduceProd", real(3, 0), [1], constants=(1,))
    t.row("ReduceSum", real())
    for axes in ([0], [-1], [1, -1], [2, 0, 1]):
        t.row("ReduceSum", real(3, 4, 5), axes)
        t.row("ReduceMax", real(3, 4, 5), axes, keepdims=0)
        t.row("ReduceMean", real(3, 4, 5), axes, keepdims=0)
    t.row("ReduceLogSumExp", real(3, 4, low=90, high=110), [1], constants=(1,))
    for name in ("ReduceLogSum", "ReduceLogSumExp"):
        for dtype in (np.int32, np.int64):
            numbers = np.array([[1, 2, 3], [5, 60, 200], [0, 0, 0]], dtype)
            t.row(name, numbers, [1], constants=(1,), keepdims=0)
            t.row(name, numbers, [1])
    for name in ("ArgMax", "ArgMin"):
        for dtype in (np.float32, np.float64, np.int32):
            for axis in (0, 1, -1):
                x = whole(4, 5, 6, low=0, high=4, dtype=dtype)
                t.row(name, x, axis=axis)
                t.row(name, x, axis=axis, keepdims=0, select_last_index=1)
        t.row(name, whole(4, 1, 3, dtype=np.float32), axis=1)
    for name in ("Softmax", "LogSoftmax", "Hardmax"):
        for dtype in (np.float32, np.float64, np.float16) if name != "Hardmax" else (np.float32,):
            t.row(name, real(3, 4, dtype=dtype))
        for axis in (0, 1, -2):
            t.row(name, real(3, 4, 5, low=-9, high=9), axis=axis)
        t.row(name, real(6))
        t.row(name, real(2, 1))
        t.row(name, real(2, 3, low=900, high=1000))
    for p in (1, 2):
        for axis in (0, -1):
            t.row("LpNormalization", real(3, 4), p=p, axis=axis)


def _normalizations(t: Table) -> None:
    for shape in ((2, 3), (2, 3, 4), (2, 3, 4, 5), (2, 3, 2, 3, 2)):
        parameters = [real(3), real(3), real(3), real(3, low=0.2)]
        t.row("BatchNormalization", real(*shape), *parameters, constants=(1, 2, 3, 4), epsilon=1e-3)
        t.row("BatchNormalization", real(*shape), *parameters)
    double = [real(3, low=0.2, dtype=np.float64) for _ in range(4)]
    t.row("BatchNormalization", real(2, 3, 4, dtype=np.float64), *double)
    for shape in ((2, 3, 4), (2, 3, 4, 5), (1, 3, 2, 2, 2)):
        t.row("InstanceNormalization", real(*shape), real(3), real(3))
        t.row(
            "InstanceNormalization", real(*shape), real(3), real(3), constants=(1, 2), epsilon=0.01
        )
    for groups in (1, 2, 3, 6):
        t.row(
            "GroupNormalization", real(2, 6, 3, 4), real(6), real(6), num_groups=groups, static=True
        )
    t.row(
        "GroupNormalization",
        real(2, 4, 5),
        real(4),
        real(4),
        num_groups=2,
        epsilon=0.1,
        static=True,
    )
    t.row("LayerNormalization", real(2, 3, 4), real(4), real(4))
    t.row("LayerNormalization", real(2, 3, 4), real(4))
    t.row("LayerNormalization", real(2, 3, 4), real(3, 4), real(3, 4), axis=1, outputs=3)
    t.row("LayerNormalization", real(2, 3, 4), real(2, 3, 4), real(2, 3, 4), axis=0, epsilon=0.1)
    t.row(
        "LayerNormalization", *(real(*s, dtype=np.float64) for s in ((2, 8), (8,), (8,))),
    )  # fmt: skip
    t.row("RMSNormalization", real(2, 3, 4), real(4), opset=23)
    t.row("RMSNormalization", real(2, 3, 4), real(3, 4), axis=1, opset=23, epsilon=0.1)
    t.row("MeanVarianceNormalization", real(2, 3, 4, 5))
    t.row("MeanVarianceNormalization", real(2, 3, 4), axes=[0, 2])
    # For an even size the reference implementation takes the batch for the number of channels.
    for size, batch in ((1, 2), (2, 5), (3, 2), (5, 2)):
        t.row("LRN", real(batch, 5, 3, 4), size=size, alpha=0.05, beta=0.6, bias=1.5)


def _shapes(t: Table) -> None:
    x = real(2, 3, 4)
    for shape in (
        [4, 6],
        [-1],
        [2, -1],
        [0, 0, -1],
        [1, 2, 1, 12],
        [3, 2, 4],
        [4, 3, 2],
        [24, 1, 1],
    ):
        t.row("Reshape", x, shape, constants=(1,), static=True)
        t.row("Reshape", x, shape, static=True)
    t.row("Reshape", x, [0, -1], constants=(1,))
    t.row("Reshape", x, [0, 0, -1])
    t.row("Reshape", real(0, 3), [3, 0], constants=(1,), allowzero=1, static=True)
    t.row("Reshape", real(1), np.zeros(0, np.int64), constants=(1,))
    t.row("Reshape", boolean(2, 6), [3, 4], constants=(1,), static=True)
    for axis in (0, 1, 2, 3, -1):
        t.row("Flatten", x, axis=axis)
    t.row("Squeeze", real(1, 3, 1, 4))
    t.row("Squeeze", real(1, 3, 1, 4), [0], constants=(1,))
    t.row("Squeeze", real(1, 3, 1, 4), [-2, 0], constants=(1,))
    t.row("Unsqueeze", real(3, 4), [0], constants=(1,))
    t.row("Unsqueeze", real(3, 4), [3, 0, -3], constants=(1,))
    t.row("Unsqueeze", real(), [0], constants=(1,))
    t.row("Squeeze", real(1, 3, 1, 4), [-2, 0])
    t.row("Unsqueeze", real(3, 4), [3, 0, -3])
    t.row("Transpose", x)
    for perm in ([0, 2, 1], [1, 0, 2], [2, 0, 1], [1, 2, 0]):
        t.row("Transpose", x, perm=perm)
    t.row("Transpose", whole(2, 3, dtype=np.uint8))
    _slices(t)
    for axis in (0, 1, 2, -1):
        shapes = [[2, 3, 4] for _ in range(3)]
        for k, s in enumerate(shapes):
            s[axis] += k
        t.row("Concat", *(real(*s) for s in shapes), axis=axis)
    t.row("Concat", real(2, 3), axis=0)
    t.row("Concat", real(0, 3), real(2, 3), axis=0)
    t.row("Concat", whole(2), whole(3), whole(1), axis=0)
    t.row("Concat", boolean(2, 2), boolean(2, 3), axis=1)
    t.row("Split", real(6, 4), outputs=3, num_outputs=3, static=True)
    t.row("Split", real(7, 4), outputs=3, num_outputs=3, static=True)
    t.row("Split", real(4, 7), [2, 4, 1], constants=(1,), outputs=3, axis=1, static=True)
    t.row("Split", real(4, 7), [7, 0], constants=(1,), outputs=2, axis=-1, static=True)
    t.row("Split", real(4, 7), [2, 4, 1], outputs=3, axis=1)
    for shape in ([2, 3, 4], [1], [5, 1, 1, 1], [3, 1]):
        t.row("Expand", real(2, 3, 4), shape, constants=(1,), static=True)
    t.row("Expand", real(3, 1), [2, 1, 4], constants=(1,))
    t.row("Expand", real(3, 1), [2, 1, 4])
    t.row("Expand", real(1), [3], constants=(1,))
    t.row("Expand", real(), [2, 2], constants=(1,))
    t.row("Tile", real(2, 3), [2, 2], constants=(1,))
    t.row("Tile", real(2, 3), [1, 3])
    t.row("Tile", real(1, 3, 1), [2, 1, 3], constants=(1,))
    t.row("Tile", whole(4), [0], constants=(1,))
    for mode in ("DCR", "CRD"):
        t.row("DepthToSpace", real(2, 8, 2, 3), blocksize=2, mode=mode, static=True)
    t.row("SpaceToDepth", real(2, 3, 4, 6), blocksize=2, static=True)
    t.row("ReverseSequence", real(4, 3, 2), [1, 4, 2], batch_axis=1, time_axis=0)
    t.row("ReverseSequence", real(3, 4), [4, 1, 3], batch_axis=0, time_axis=1)
    _pads(t)


def _slices(t: Table) -> None:
    x = real(5, 6, 7)
    windows: list[tuple[list[int], ...]] = [
        ([1], [4]),
        ([0, 1], [3, 5], [0, 2]),
        ([-3], [-1], [1]),
        ([0], [FAR], [0]),
        ([4], [0], [0], [-1]),
        ([-1], [-FAR - 1], [1], [-1]),
        ([10], [-10], [2], [-2]),
        ([1], [100], [1], [2]),
        ([3], [2], [0]),
        ([-100], [100], [2], [3]),
        ([0, -2, 1], [FAR, FAR, -1], [0, 1, 2], [1, 1, 2]),
        ([2], [3], [-1]),
        ([-2], [1], [1], [-3]),
    ]
    for arguments in windows:
        t.row("Slice", x, *arguments, constants=range(1, 1 + len(arguments)))
        t.row("Slice", x, *arguments)
        if len(arguments) > 2:
            t.row("Slice", x, *arguments, constants=range(3, 1 + len(arguments)))
    t.row(
        "Slice",
        whole(6, dtype=np.int32),
        *(np.array([k], np.int32) for k in (1, 4, 0)),
        constants=(1, 2, 3),
    )


def _pads(t: Table) -> None:
    for pads in ([0, 1, 2, 0], [1, 2, 3, 1], [0, -1, 0, 2], [2, 0, 0, 0], [0, 0, 0, 0]):
        t.row("Pad", real(4, 5), pads, constants=(1,))
        t.row("Pad", real(4, 5), pads, np.float32(1.5), constants=(1, 2), mode="constant")
        t.row("Pad", real(4, 5), pads)
        if min(pads) >= 0:
            for mode in ("reflect", "edge", "wrap"):
                t.row("Pad", real(4, 5), pads, constants=(1,), mode=mode)
                t.row("Pad", real(4, 5), pads, mode=mode)
    t.row("Pad", real(3, 4, 5), [1, 2], np.float32(0), [1], constants=(1, 2, 3))
    t.row("Pad", whole(3, 4), [1, 0, 0, 2], np.int64(7), constants=(1, 2))
    t.row("Pad", boolean(3, 4), [1, 0, 0, 2], constants=(1,))
    t.row("Pad", real(2, 3), [0, 5, 0, 4], constants=(1,), mode="wrap")


def _creations(t: Table) -> None:
    t.row("Shape", real(2, 3, 4))
    t.row("Shape", real(2, 3, 4), start=1)
    t.row("Shape", real(2, 3, 4), start=-2, end=-1)
    t.row("Shape", real())
    t.row("Size", real(2, 3, 4))
    for dtype in (np.int16, np.int32, np.int64, np.float32, np.float64):
        for start, limit, delta in ((0, 5, 1), (3, 20, 4), (10, -3, -3), (4, 2, 1)):
            arguments = [np.array(v, dtype) for v in (start, limit, delta)]
            t.row("Range", *arguments)
            t.row("Range", *arguments, constants=(0, 1, 2))
    t.row("Range", np.float32(0), np.float32(1), np.float32(0.3))
    t.row("ConstantOfShape", [2, 3])
    t.row(
        "ConstantOfShape",
        [2, 3],
        constants=(0,),
        value=numpy_helper.from_array(np.array([7], np.int64)),
    )
    t.row("ConstantOfShape", [4], constants=(0,), value=numpy_helper.from_array(np.array([True])))
    t.row("ConstantOfShape", np.zeros(0, np.int64), constants=(0,))
    t.row("EyeLike", real(3, 4))
    t.row("EyeLike", whole(4, 4, dtype=np.int32), k=1)
    t.row("EyeLike", real(4, 3), k=-1, dtype=TensorProto.INT64)
    t.row("EyeLike", real(4, 3), dtype=TensorProto.DOUBLE)
    for axis in (0, 1, -1):
        t.row("OneHot", whole(2, 3, low=-5, high=8), 5, real(2), constants=(1,), axis=axis)
    t.row("OneHot", whole(3, low=0, high=4), 4, whole(2))
    t.row("OneHot", whole(3, low=0, high=4, dtype=np.float32), np.float32(4), real(2))
    for k in (0, 1, 2, 3, 4):  # which of the five numbers are known when the model is generated
        numbers_of = (8, 64, 16000, np.float32(20), np.float32(7000))
        t.row("MelWeightMatrix", *numbers_of, constants=range(k), opset=17)
    edges = np.float64(0), np.float64(50)
    t.row("MelWeightMatrix", 3, 9, 100, *edges, constants=range(5), opset=17, output_datatype=11)
    for upper in (0, 1):
        t.row("Trilu", real(4, 5), upper=upper)
        for k in (-2, -1, 1, 2, 9):
            t.row("Trilu", real(2, 4, 3), k, upper=upper, constants=(1,))
            t.row("Trilu", whole(4, 4), k, upper=upper)


def _build() -> list[Case]:
    table = Table()
    for family in (
        _elementwise, _broadcast, _casts, _same_bits, _reductions, _normalizations, _shapes, _creations,
    ):  # fmt: skip
        family(table)
    return table.cases


CASES = _build()
