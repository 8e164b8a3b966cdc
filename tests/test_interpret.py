"""What statements and expressions of a Program mean."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import ml_dtypes
import numpy as np
import onnx
import onnx_models
import pytest
from onnx import helper

from sofie_root.errors import InputError
from sofie_root.frontends.onnx import from_proto
from sofie_root.ir import DType, TensorType, symbol
from sofie_root.ir.dim import Dim, Symbol
from sofie_root.program import expr
from sofie_root.program import interpret as interpreter
from sofie_root.program.builder import Builder, Tensor
from sofie_root.program.expr import Acc, call
from sofie_root.program.interpret import evaluate, interpret
from sofie_root.program.operation import Epilogue, Operand, Operation, Resolve
from sofie_root.program.program import Buffer, Program
from sofie_root.program.statement import Check

N, M = symbol("N"), symbol("M")
GRID = np.arange(12, dtype=np.float32).reshape(3, 4)


def build(
    make: Callable[..., Tensor], *types: TensorType, outputs: tuple[TensorType, ...] = ()
) -> Program:
    """A program of inputs a, b, ... and the tensor that ``make(builder, a, b, ...)`` returns."""
    program = Program("test", tuple("abc"[: len(types)]), {})
    tensors = []
    for name, type_ in zip(program.inputs, types, strict=True):
        program.buffers[name] = Buffer(name, type_.dtype, type_.shape, "input")
        tensors.append(Tensor(type_, name, program))
    builder = Builder(program)
    builder.outputs = outputs
    program.outputs["y"] = make(builder, *tensors).buffer
    return program


def run(program: Program, *arrays: Any, double: bool = False) -> np.ndarray:
    inputs = dict(zip("abc", map(np.asarray, arrays), strict=False))
    return interpret(program, inputs, double=double)["y"]


def real(*shape: Dim) -> TensorType:
    return TensorType(DType.FLOAT, shape)


def whole(*shape: Dim) -> TensorType:
    return TensorType(DType.INT64, shape)


def test_loop_reads_through_linear_indices() -> None:
    program = build(lambda b, x: b.loop((2, 3), lambda i, j: x[2 - j, 1 + 2 * i]), real(3, 4))
    assert np.array_equal(run(program, GRID), GRID[::-1, 1::2].T)


def test_loop_reads_through_divisions() -> None:
    program = build(lambda b, x: b.reshape(x, (2, 6)), real(3, 4))
    assert np.array_equal(run(program, GRID), GRID.reshape(2, 6))


def test_sizes_are_bound_from_the_inputs() -> None:
    program = build(
        lambda b, x, y: b.loop((M, N), lambda i, j: x[j, i] * expr.index(N, DType.FLOAT) + y[i]),
        real(N, M),
        real(M),
    )
    for n, m in ((3, 4), (4, 3), (1, 5), (0, 2)):
        x, y = np.random.default_rng(n).random((2, n * m + m), np.float32)
        x, y = x[: n * m].reshape(n, m), y[:m]
        assert np.array_equal(run(program, x, y), x.T * np.float32(n) + y[:, None])


def test_guarded_reads_may_leave_the_tensor() -> None:
    def body(x: Tensor, i: Dim) -> expr.Expr:
        inside = call("logical_and", expr.index(i) >= 2, expr.index(i) < 6)
        return expr.guard(inside, x[i - 2], -1.0)

    program = build(lambda b, x: b.loop((8,), lambda i: body(x, i)), real(4))
    assert run(program, GRID[0]).tolist() == [-1, -1, 0, 1, 2, 3, -1, -1]


def test_guard_around_an_empty_tensor() -> None:
    program = build(
        lambda b, x: b.loop((2,), lambda i: expr.guard(expr.index(N) > 0, x[i], 5.0)), real(N)
    )
    assert run(program, GRID[0, :0]).tolist() == [5, 5]


@pytest.mark.parametrize("shift", [-1, 1])
def test_unguarded_reads_may_not(shift: int) -> None:
    program = build(lambda b, x: b.loop((4,), lambda i: x[i + shift]), real(4))
    with pytest.raises(IndexError, match="outside axis 0 of a, 4"):
        run(program, GRID[0])


def test_a_guard_does_not_hide_a_wrong_read() -> None:
    program = build(
        lambda b, x: b.loop((6,), lambda i: expr.guard(expr.index(i) < 5, x[i], 0.0)), real(4)
    )
    with pytest.raises(IndexError, match="outside axis 0"):
        run(program, GRID[0])


def gather(b: Builder, x: Tensor, k: Tensor) -> Tensor:
    return b.loop((3,), lambda i: x[expr.as_index(k[i], x.shape[0])])


def test_indices_read_at_run_time_wrap_once() -> None:
    program = build(gather, real(N), whole(3))
    assert run(program, GRID[0], [-1, 0, -4]).tolist() == [3, 0, 0]


@pytest.mark.parametrize("index", [4, -5, 2**40])
def test_indices_read_at_run_time_are_checked(index: int) -> None:
    with pytest.raises(IndexError, match="not below N"):
        run(build(gather, real(N), whole(3)), GRID[0], [0, index, 0])


@pytest.mark.parametrize(
    ("kind", "expected"), [("sum", 0), ("prod", 1), ("max", -np.inf), ("min", np.inf)]
)
def test_empty_reductions_give_the_identity(kind: Any, expected: float) -> None:
    program = build(lambda b, x: b.reduce(kind, (2,), (N,), lambda i, r: x[(*i, *r)]), real(2, N))
    assert run(program, np.zeros((2, 0), np.float32)).tolist() == [expected, expected]


@pytest.mark.parametrize(
    ("kind", "expected"), [("argmax", 1), ("argmax_last", 3), ("argmin", 0), ("argmin_last", 2)]
)
def test_positions_of_extremes(kind: Any, expected: int) -> None:
    program = build(lambda b, x: b.reduce(kind, (), (4,), lambda _, r: x[r]), real(4))
    result = run(program, np.array([1, 5, 1, 5], np.float32))
    assert result.dtype == np.int64
    assert result == expected


def test_reduction_of_a_value_that_does_not_depend_on_all_indices() -> None:
    program = build(
        lambda b, x: b.reduce("sum", (3,), (4, 5), lambda i, r: x[i[0], r[0]]), real(3, 4)
    )
    assert run(program, GRID).tolist() == (5 * GRID.sum(1)).tolist()


@pytest.mark.parametrize("limit", [1, 7, 30])
def test_large_loops_are_cut_without_a_trace(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def make(b: Builder, x: Tensor) -> Tensor:
        moved = b.loop((4, 3), lambda i, j: x[j, 3 - i] + expr.index(i, DType.FLOAT))
        joined = b.pieces(
            (5, 3),
            DType.FLOAT,
            [((0, 0), (4, 3), lambda i, j: moved[i, j]), ((4, 0), (1, 3), lambda i, j: x[j, 0])],
        )
        return b.reduce("sum", (5,), (3,), lambda i, r: joined[(*i, *r)])

    program = build(make, real(3, 4))
    whole_result = run(program, GRID)
    monkeypatch.setattr(interpreter, "GRID_LIMIT", limit)
    assert np.array_equal(run(program, GRID), whole_result)
    assert whole_result.tolist() == [21, 21, 21, 21, 12]


def test_integers_wrap_and_truncate() -> None:
    int8 = TensorType(DType.INT8, (4,))
    program = build(lambda b, x, y: b.loop((4,), lambda i: call("add", x[i], y[i])), int8, int8)
    x, y = np.array([127, -128, 5, 0], np.int8), np.array([1, -1, 3, 0], np.int8)
    assert run(program, x, y).tolist() == [-128, 127, 8, 0]
    program = build(lambda b, x, y: b.loop((4,), lambda i: call("div", x[i], y[i])), int8, int8)
    x, y = np.array([-7, 7, -7, 7], np.int8), np.array([2, -2, -2, 0], np.int8)
    assert run(program, x, y).tolist() == [-3, -3, 3, 0]


@pytest.mark.parametrize("dtype", [DType.INT8, DType.UINT8, DType.INT32, DType.INT64, DType.UINT64])
def test_conversion_to_integers_saturates(dtype: DType) -> None:
    program = build(lambda b, x: b.loop((6,), lambda i: x[i], dtype), real(6))
    x = np.array([1e30, -1e30, np.nan, 2.9, -0.9, np.inf], np.float32)
    top, bottom = np.iinfo(dtype.numpy).max, np.iinfo(dtype.numpy).min
    assert run(program, x).tolist() == [top, bottom, 0, 2, 0, top]


@pytest.mark.parametrize("dtype", [DType.FLOAT16, DType.BFLOAT16])
def test_16_bit_floats_are_computed_in_float(dtype: DType) -> None:
    type_ = TensorType(dtype, (3,))
    program = build(lambda b, x: b.loop((3,), lambda i: x[i] * 3.0 - x[i] * 2.0, dtype), type_)
    x = np.array([40000, 0.1, 1e-7]).astype(dtype.numpy)
    assert run(program, x).tolist() == x.tolist()


def test_float_is_computed_in_float() -> None:
    program = build(lambda b, x: b.loop((1,), lambda i: x[i] * 0.1), real(1))
    assert run(program, np.float32([0.7])) == np.float32(0.7) * np.float32(0.1)


def test_float_in_double() -> None:
    program = build(lambda b, x: b.loop((1,), lambda i: x[i] * 0.1), real(1))
    assert run(program, np.float32([0.7]), double=True) == np.float64(np.float32(0.7)) * 0.1
    assert run(program, [0.7], double=True) == 0.7 * 0.1


@pytest.mark.parametrize("dtype", [DType.FLOAT, DType.FLOAT16, DType.BFLOAT16])
def test_what_overflows_is_infinite_in_double_too(dtype: DType) -> None:
    program = build(lambda b, x: b.loop((4,), lambda i: x[i] * 4.0, dtype), TensorType(dtype, (4,)))
    top = float(ml_dtypes.finfo(dtype.numpy).max)
    x = np.array([top / 2, -top / 2, 1.0, np.nan]).astype(dtype.numpy)
    np.testing.assert_array_equal(run(program, x, double=True), [np.inf, -np.inf, 4, np.nan])


def test_sizes_and_indices_from_floats_keep_their_precision_in_double() -> None:
    """Ten times 0.7 is 7 in float and less in double: the model has 7 elements."""
    count = symbol("y:0:0")

    def make(b: Builder, x: Tensor) -> Tensor:
        b.bind(count, expr.cast(call("floor", x[0] * 10.0), DType.INT64))
        at = expr.as_index(expr.cast(call("floor", x[0] * 10.0), DType.INT64), 9)
        return b.loop((count,), lambda i: x[at] + expr.index(i, DType.FLOAT))

    program = build(make, real(9))
    x = np.arange(9, dtype=np.float32)
    x[0] = 0.7
    assert run(program, x, double=True).tolist() == [7, 8, 9, 10, 11, 12, 13]


def test_bodies_of_control_flow_are_in_double_too() -> None:
    """Ten times a tenth of x, added up in a Loop of an If, is x to the last bits of a double."""
    x, name = np.float32([0.1, -3.7]), onnx.TensorProto.FLOAT
    step = helper.make_graph(
        [
            helper.make_node("Identity", ["c"], ["c_out"]),
            helper.make_node("Div", ["x", "ten"], ["part"]),
            helper.make_node("Add", ["s", "part"], ["s_out"]),
        ],
        "step",
        [
            helper.make_tensor_value_info("i", onnx.TensorProto.INT64, ()),
            helper.make_tensor_value_info("c", onnx.TensorProto.BOOL, ()),
            helper.make_tensor_value_info("s", name, (2,)),
        ],
        [
            helper.make_tensor_value_info("c_out", onnx.TensorProto.BOOL, ()),
            helper.make_tensor_value_info("s_out", name, (2,)),
        ],
    )
    loop = helper.make_node("Loop", ["trips", "", "zero"], ["sum"], body=step)
    result = [helper.make_tensor_value_info("sum", name, (2,))]
    other = [helper.make_tensor_value_info("x_same", name, (2,))]
    copy = helper.make_node("Identity", ["x"], ["x_same"])
    branch = helper.make_node(
        "If",
        ["positive"],
        ["y"],
        then_branch=helper.make_graph([loop], "then", [], result),
        else_branch=helper.make_graph([copy], "else", [], other),
    )
    constants = {
        "ten": np.float32(10),
        "trips": np.int64(10),
        "zero": np.zeros(2, np.float32),
        "half": np.float32(0.5),
    }
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["largest"], keepdims=0),
        helper.make_node("Less", ["largest", "half"], ["positive"]),
        branch,
    ]
    proto = onnx_models.model(
        nodes,
        [onnx_models.value("x", (2,))],
        ["y"],
        [onnx_models.tensor(n, a) for n, a in constants.items()],
    )
    graph = from_proto(proto)
    expected = x.astype(np.float64)
    assert np.max(np.abs(evaluate(graph, {"x": x}, double=True)["y"] - expected)) < 1e-15
    assert np.max(np.abs(evaluate(graph, {"x": x})["y"] - expected)) > 1e-9


def test_run_time_sizes() -> None:
    count = symbol("y:0:0")

    def make(b: Builder, x: Tensor) -> Tensor:
        b.bind(count, x[0] + 1)
        return b.loop((count,), expr.index)

    program = build(make, whole(2))
    assert run(program, [4, 9]).tolist() == [0, 1, 2, 3, 4]


def test_checks_name_both_sizes() -> None:
    program = build(lambda b, x, y: b.loop((N,), lambda i: x[i] + y[i]), real(N), real(M))
    program.statements.insert(0, Check(N, M, "Add 'sum': broadcast dimensions must be equal"))
    with pytest.raises(InputError, match=r"Add 'sum': .*N == M .*3 and 2"):
        run(program, GRID[0, :3], GRID[0, :2])


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 4)), "dtype float64, expected float32"),
        (np.zeros(4, np.float32), r"shape \(4,\), expected a: float\[N, 4\]"),
        (np.zeros((2, 5), np.float32), "dimension 1 is 5, expected 4"),
    ],
)
def test_wrong_inputs_are_named(array: np.ndarray, message: str) -> None:
    program = build(lambda b, x: b.loop((N,), lambda i: x[i, 0]), real(N, 4))
    with pytest.raises(InputError, match=f"tensor 'a': .*{message}"):
        run(program, array)


def test_missing_inputs_are_named() -> None:
    program = build(lambda b, x: b.loop((N,), lambda i: x[i, 0]), real(N, 4))
    with pytest.raises(InputError, match="tensor 'a': is missing"):
        run(program)


def test_one_symbol_has_one_value() -> None:
    program = build(lambda b, x, y: b.loop((N,), lambda i: x[i] + y[i]), real(N), real(N))
    with pytest.raises(InputError, match="tensor 'b': dimension 0 is 2, expected N = 3"):
        run(program, GRID[0, :3], GRID[0, :2])


@dataclass(frozen=True, slots=True, kw_only=True)
class Double(Operation):
    x: Operand
    n: Dim
    fused: Epilogue | None = None

    SLOT: ClassVar[str] = "fused"

    def evaluate(self, resolve: Resolve, **operands: Any) -> list[Any]:
        assert resolve(self.n) == 3
        return [operands["x"] * 2]


def test_operation_reads_strided_operands_and_applies_the_epilogue() -> None:
    program = build(lambda b, x: b.loop((4, N), lambda i, j: x[j, i]), real(N, 4))
    i, j = Symbol("i", 4), Symbol("j", N)
    program.buffers["k"] = Buffer("k", DType.FLOAT, (4, N))
    body = Acc(DType.FLOAT) + expr.index(expr.as_poly(i) * 100, DType.FLOAT)
    program.statements.append(
        Double(
            x=Operand("a", DType.FLOAT, (4, N), 0, (1, 4)),
            n=N,
            outputs=("k",),
            fused=Epilogue((i, j), body),
        )
    )
    program.outputs["y"] = "k"
    assert np.array_equal(run(program, GRID), 2 * GRID.T + 100 * np.arange(4)[:, None])


def test_outputs_do_not_change_with_the_inputs_shape_of_memory() -> None:
    program = build(lambda b, x: b.loop((3, N), lambda i, j: x[i, j] + 1), real(3, N))
    transposed = np.ascontiguousarray(GRID.T).T
    assert np.array_equal(run(program, transposed), GRID + 1)
