"""What ``infer`` knows: sizes that nodes compute from sizes, and refusals of what does not fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import parser

import sofie_root.ops  # noqa: F401  (fills the table of operators)
from sofie_root.errors import ShapeError
from sofie_root.frontends.onnx import from_proto
from sofie_root.ir import OPERATORS, DType, Refuse, TensorType, symbol
from sofie_root.ir.dim import (
    Dim,
    RuntimeSize,
    as_poly,
    broadcast,
    ceildiv,
    floordiv,
    maximum,
    minimum,
)
from sofie_root.ir.op import inferring
from sofie_root.program.interpret import evaluate

N, M = symbol("N"), symbol("M")
X = TensorType(DType.FLOAT, (N, 4, M))


def infer(op_type: str, *inputs: TensorType | None, count: int = 1, **attrs: Any) -> TensorType:
    """Type of the first output."""
    with inferring(tuple(f"y{k}" for k in range(count))):
        result = OPERATORS["", op_type](**attrs).infer(*inputs)
    return result[0] if isinstance(result, tuple) else result


def sizes(*values: Dim) -> TensorType:
    """An INT64 vector of known content."""
    return TensorType(DType.INT64, (len(values),), values)


def scalar(value: Dim) -> TensorType:
    return TensorType(DType.INT64, (), (value,))


@pytest.mark.parametrize(
    ("op_type", "inputs", "attrs", "expected"),
    [
        ("Shape", [X], {}, (N, 4, M)),
        ("Shape", [X], {"start": -2}, (4, M)),
        ("Size", [X], {}, (4 * N * M,)),
        ("Identity", [sizes(N, 2)], {}, (N, 2)),
        ("Add", [sizes(N, 4), scalar(1)], {}, (N + 1, 5)),
        ("Sub", [scalar(N), sizes(1, 2)], {}, (N - 1, N - 2)),
        ("Mul", [sizes(N, 4), sizes(M)], {}, (N * M, 4 * M)),
        ("Div", [sizes(N * 6, 7), scalar(3)], {}, (2 * N, 2)),
        ("Div", [scalar(-7), scalar(2)], {}, (-3,)),
        ("Div", [scalar(N), scalar(2)], {}, (floordiv(N, 2),)),
        ("Mod", [sizes(7, N), scalar(4)], {}, (3, N - 4 * floordiv(N, 4))),
        ("Neg", [sizes(N)], {}, (N * -1,)),
        ("Abs", [sizes(N, -3)], {}, (N, 3)),
        ("Pow", [sizes(N, 3), scalar(2)], {}, (N * N, 9)),
        ("Min", [sizes(N, 3), sizes(7, 7)], {}, (minimum(N, 7), 3)),
        ("Max", [sizes(N, 3), scalar(0)], {}, (N, 3)),
        ("Clip", [sizes(N, 3), scalar(0), scalar(2)], {}, (minimum(N, 2), 2)),
        ("Equal", [sizes(N, 3, N + 1), sizes(N, 4, N)], {}, (1, 0, 0)),
        ("Greater", [sizes(N + 1), sizes(N)], {}, (1,)),
        ("Less", [sizes(N + 1), sizes(0)], {}, (0,)),
        ("GreaterOrEqual", [sizes(N), sizes(0)], {}, (1,)),
        ("Where", [TensorType(DType.BOOL, (2,), (1, 0)), sizes(N, 5), sizes(7, M)], {}, (N, M)),
        ("Cast", [sizes(N, 300)], {"to": 6}, (N, 300)),
        ("Cast", [sizes(300)], {"to": 2}, (44,)),
        ("Cast", [sizes(N + 1, 0)], {"to": 9}, (1, 0)),
        ("Reshape", [sizes(N, 4), sizes(2, 1)], {}, (N, 4)),
        ("Squeeze", [sizes(N)], {}, (N,)),
        ("Unsqueeze", [scalar(N), sizes(0)], {}, (N,)),
        ("Concat", [sizes(N), sizes(-1, 4)], {"axis": 0}, (N, -1, 4)),
        ("Slice", [sizes(N, 4, M), sizes(1), sizes(9)], {}, (4, M)),
        ("Slice", [sizes(N, 4, M), sizes(-1), sizes(-9), sizes(0), sizes(-1)], {}, (M, 4, N)),
        ("Tile", [sizes(N), sizes(3)], {}, (N, N, N)),
        ("Expand", [sizes(N), sizes(2)], {}, (N, N)),
        ("Transpose", [TensorType(DType.INT64, (2, 2), (N, 1, 2, M))], {}, (N, 2, 1, M)),
        ("ReduceSum", [sizes(N, 4, M), None], {}, (N + M + 4,)),
        ("ReduceProd", [sizes(N, 4, M), sizes(0)], {"keepdims": 0}, (4 * N * M,)),
        ("ReduceMax", [sizes(N, N + 2), None], {}, (N + 2,)),
        ("Range", [scalar(2), scalar(9), scalar(3)], {}, (2, 5, 8)),
        ("Range", [scalar(N), scalar(N + 2), scalar(1)], {}, (N, N + 1)),
        ("ConstantOfShape", [sizes(2)], {"value": np.int64(7)}, (7, 7)),
        ("Split", [sizes(N, 4, M), sizes(2, 1)], {"count": 2}, (N, 4)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_content_is_known(
    op_type: str, inputs: list[Any], attrs: dict[str, Any], expected: tuple[Dim, ...]
) -> None:
    assert infer(op_type, *inputs, **attrs).value == expected


@pytest.mark.parametrize(
    ("op_type", "inputs", "attrs"),
    [
        ("Equal", [sizes(N), sizes(4)], {}),
        ("Greater", [sizes(N), sizes(M)], {}),
        ("Abs", [sizes(N - 4)], {}),
        ("Cast", [sizes(N)], {"to": 9}),
        ("Cast", [sizes(N)], {"to": 3}),
        ("Div", [scalar(N), scalar(0)], {}),
        ("Where", [TensorType(DType.BOOL, (1,), (N,)), sizes(1), sizes(2)], {}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_content_is_not_guessed(op_type: str, inputs: list[Any], attrs: dict[str, Any]) -> None:
    assert infer(op_type, *inputs, **attrs).value is None


@pytest.mark.parametrize(
    ("op_type", "inputs", "attrs", "expected"),
    [
        ("Reshape", [X, sizes(0, -1)], {}, (N, 4 * M)),
        ("Reshape", [X, sizes(-1, 2)], {}, (2 * N * M, 2)),
        ("Reshape", [X, sizes(N * M, 4)], {}, (N * M, 4)),
        ("Flatten", [X], {}, (N, 4 * M)),
        ("Slice", [X, sizes(1), sizes(2**63 - 1), sizes(2)], {}, (N, 4, maximum(0, M - 1))),
        ("Slice", [X, sizes(0), sizes(-1), sizes(2)], {}, (N, 4, maximum(0, M - 1))),
        ("Slice", [X, sizes(0), sizes(M), sizes(0)], {}, (minimum(N, M), 4, M)),
        ("Slice", [X, sizes(0), sizes(99), sizes(2), sizes(2)], {}, (N, 4, None)),
        ("Pad", [X, sizes(0, 0, 1, 0, 0, 2)], {}, (N, 4, M + 3)),
        ("Expand", [TensorType(DType.FLOAT, (1, 4)), sizes(N, 1)], {}, (N, 4)),
        ("Tile", [X, sizes(1, 2, 3)], {}, (N, 8, 3 * M)),
        ("Concat", [X, X], {"axis": 0}, (2 * N, 4, M)),
        ("Range", [scalar(0), scalar(N), scalar(2)], {}, (ceildiv(N, 2),)),
        ("ConstantOfShape", [sizes(N, 3)], {}, (N, 3)),
        ("Transpose", [X], {}, (M, 4, N)),
        ("ReduceSum", [X, sizes(1)], {"keepdims": 0}, (N, M)),
        ("OneHot", [sizes(1, 2), scalar(5), TensorType(DType.FLOAT, (2,))], {}, (2, 5)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_shapes_stay_symbolic(
    op_type: str, inputs: list[Any], attrs: dict[str, Any], expected: tuple[Any, ...]
) -> None:
    shape = infer(op_type, *inputs, **attrs).shape
    assert all(e is None or d == e for d, e in zip(shape, expected, strict=True))


FLOATS = TensorType(DType.FLOAT, (3, 4))


@pytest.mark.parametrize(
    ("op_type", "inputs", "attrs", "message"),
    [
        ("Add", [FLOATS, TensorType(DType.FLOAT, (3,))], {}, "do not broadcast: 4 against 3"),
        ("Add", [FLOATS, TensorType(DType.DOUBLE, (3, 4))], {}, "different element types"),
        ("Exp", [sizes(1)], {}, "elements may not be int64"),
        ("And", [FLOATS, FLOATS], {}, "elements may not be float"),
        ("Softmax", [FLOATS], {"axis": 2}, "axis 2 is outside a tensor of 2 axes"),
        ("Reshape", [FLOATS, sizes(5, -1)], {}, "12 elements do not divide into rows of 5"),
        ("Reshape", [FLOATS, sizes(5, 2)], {}, "12 against 10"),
        ("Reshape", [FLOATS, sizes(-1, -1)], {}, "more than one -1"),
        ("Squeeze", [FLOATS, sizes(0)], {}, "3 against 1"),
        ("Unsqueeze", [FLOATS, sizes(1, 1)], {}, "twice"),
        ("Transpose", [FLOATS], {"perm": (0, 0)}, "does not order 2 axes"),
        ("Concat", [FLOATS, TensorType(DType.FLOAT, (2, 5))], {"axis": 0}, "4 against 5"),
        ("Split", [FLOATS, sizes(2, 2)], {"count": 2}, "4 against 3"),
        ("Slice", [FLOATS, sizes(0), sizes(1), sizes(0), sizes(0)], {}, "step is 0"),
        ("Pad", [FLOATS, sizes(1, 1)], {}, "2 elements for 2 axes"),
        ("Clip", [FLOATS, TensorType(DType.FLOAT, (2,)), None], {}, "must be scalars"),
        ("PRelu", [TensorType(DType.FLOAT, (4,)), FLOATS], {}, "at most 1 fit"),
        ("DepthToSpace", [TensorType(DType.FLOAT, (1, 6, 2, 2))], {"blocksize": 2}, "6 channels"),
        ("Trilu", [TensorType(DType.FLOAT, (3,))], {}, "at least 2 axes"),
        ("LpNormalization", [FLOATS], {"p": 3}, "p is 3"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_does_not_fit_is_an_error(
    op_type: str, inputs: list[Any], attrs: dict[str, Any], message: str
) -> None:
    with pytest.raises(ShapeError, match=message):
        infer(op_type, *inputs, **attrs)


@pytest.mark.parametrize(
    ("op_type", "inputs", "attrs", "reason"),
    [
        ("Cast", [FLOATS], {"to": 8}, "element type string is not supported"),
        ("Dropout", [FLOATS, None, TensorType(DType.BOOL, ())], {}, "training_mode"),
        ("BatchNormalization", [FLOATS] * 5, {"training_mode": 1}, "not inference"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_not_supported_is_refused(
    op_type: str, inputs: list[Any], attrs: dict[str, Any], reason: str
) -> None:
    with pytest.raises(Refuse, match=reason):
        infer(op_type, *inputs, **attrs)


HEADS = """<ir_version: 9, opset_import: ["" : 21]>
heads (float[N, n, 12] x) => (float[N, 3, n, 4] y, float[N, n, 12] z)
<int64[1] zero = {0}, int64[1] one = {1}, int64[2] rest = {3, 4}, int64[1] last = {-1}>
{
    s = Shape(x)
    N1 = Gather(s, zero)
    n1 = Gather(s, one)
    shape = Concat<axis = 0>(N1, n1, rest)
    split = Reshape(x, shape)
    y = Transpose<perm = [0, 2, 1, 3]>(split)
    back = Transpose<perm = [0, 2, 1, 3]>(y)
    flat = Concat<axis = 0>(N1, n1, last)
    z = Reshape(back, flat)
}
"""


def test_shape_arithmetic_vanishes() -> None:
    graph = from_proto(parser.parse_model(HEADS))
    n, m = (symbol(s.name) for s in graph.symbols())
    assert graph.types[graph.outputs["y"]].shape == (n, 3, m, 4)
    assert graph.types[graph.outputs["z"]].shape == (n, m, 12)
    assert not graph.equalities
    for batch, count in ((2, 5), (1, 1), (0, 3)):
        x = np.random.default_rng(0).random((batch, count, 12), np.float32)
        result = evaluate(graph, {"x": x})
        expected = x.reshape(batch, count, 3, 4).transpose(0, 2, 1, 3)
        assert np.array_equal(result["y"], expected)
        assert np.array_equal(result["z"], x)


def test_sizes_of_one_text_are_not_one_size() -> None:
    """A caller may call a dim as the size of a result is shown; the canonical form tells them apart."""
    named, of_result = symbol("y:0:1"), as_poly(RuntimeSize("y", 0, 1))
    assert str(named) == str(of_result)
    assert named != of_result
    assert named - of_result != 0
    assert named + of_result == of_result + named
    assert named * of_result == of_result * named
    for function in (minimum, maximum, broadcast):
        assert function(named, of_result) == function(of_result, named)
