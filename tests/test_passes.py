"""Passes change how a model is computed, never what it computes or which outputs it has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from onnx_models import assert_same, by_runtime, imported, model, node, random, tensor, value

from sofie_root.ir import Graph, verify
from sofie_root.passes import PASSES, PassResult, optimise
from sofie_root.passes.fold import fold_constants, propagate_shapes
from sofie_root.passes.linear import fold_affine, matmul_add_to_gemm
from sofie_root.passes.prune import merge_common, remove_dead
from sofie_root.passes.simplify import merge_pairs, remove_no_ops
from sofie_root.program.interpret import evaluate

X = random((2, 3, 4))


def operators(graph: Graph) -> list[str]:
    return [n.op.name for n in graph.nodes]


def apply(run: Callable[[Graph], PassResult], proto: Any, tolerance: float = 2e-6) -> PassResult:
    """Runs one pass; the result is a valid graph that computes what ONNX Runtime computes."""
    graph = imported(proto)
    text = str(graph)
    result = run(graph)
    assert str(graph) == text, "the pass changed the graph it was given"
    verify(result.graph)
    sizes = {"N": 2, "n": 3}
    shapes = {
        name: [d if isinstance(d, int) else sizes[str(d)] for d in graph.types[name].shape]
        for name in graph.inputs
    }
    inputs = {
        name: random(shape, graph.types[name].dtype.numpy, seed=k)
        for k, (name, shape) in enumerate(shapes.items())
    }
    assert_same(evaluate(result.graph, inputs), by_runtime(proto, inputs), tolerance)
    assert list(result.graph.outputs) == list(graph.outputs)
    assert result.graph.inputs == graph.inputs
    return result


# -- folding ---------------------------------------------------------------------------------------


def test_constants_are_folded() -> None:
    proto = model(
        [node("Neg", ["c"], ["n"]), node("Exp", ["n"], ["e"]), node("Mul", ["x", "e"], ["y"])],
        [value("x", X.shape)],
        [value("y", X.shape)],
        [tensor("c", random((300, 3, 4))[:2])],
    )
    result = apply(fold_constants, proto)
    assert operators(result.graph) == ["Mul"]


def test_large_constants_are_folded_but_not_blown_up() -> None:
    row = random((1, 2000))
    proto = model(
        [
            node("Expand", ["row", "shape"], ["wide"], name="blow up"),
            node("Neg", ["row"], ["negative"], name="harmless"),
            node("Add", ["wide", "negative"], ["sum"], name="depends"),
            node("ReduceSum", ["sum"], ["y"], keepdims=0),
        ],
        [],
        [value("y", ())],
        [tensor("row", row), tensor("shape", np.array([2000, 2000]))],
    )
    result = apply(fold_constants, proto, 1e-4)
    assert [c.node for c in result.changes] == ["harmless"]
    assert [r.node for r in result.refusals] == ["blow up"]
    assert "16000000 bytes" in result.refusals[0].reason


def test_what_fails_is_left_for_the_run() -> None:
    proto = model(
        [node("GatherElements", ["c", "i"], ["g"], name="outside"), node("Add", ["x", "g"], ["y"])],
        [value("x", (1,))],
        ["y"],
        [tensor("c", random((2000,))), tensor("i", np.full(1500, 5000))],
    )
    result = fold_constants(imported(proto))
    assert [r.node for r in result.refusals] == ["outside"]
    assert operators(result.graph) == ["GatherElements", "Add"]


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.int32, np.uint8, np.bool_])
def test_known_numbers_may_be_negative(dtype: Any) -> None:
    proto = model(
        [
            node("Shape", ["x"], ["s"]),
            node("Sub", ["s", "three"], ["d"]),
            node("Cast", ["d"], ["y"], to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype))),
        ],
        [value("x", (2, 3, 4))],
        [value("y", (3,), dtype)],
        [tensor("three", np.array([3, 3, 3]))],
    )
    graph = imported(proto)
    changed = propagate_shapes(graph).graph
    assert_same(evaluate(changed, {"x": X}), by_runtime(proto, {"x": X}))


def test_known_sizes_become_constants() -> None:
    proto = model(
        [
            node("Shape", ["x"], ["s"]),
            node("Gather", ["s", "last"], ["channels"], axis=0),
            node("Gather", ["s", "first"], ["batch"], axis=0),
            node("Neg", ["x"], ["y"]),
        ],
        [value("x", ("N", "n", 4))],
        [value("y", ("N", "n", 4)), value("channels", (), np.int64), value("batch", (), np.int64)],
        [tensor("last", np.int64(2)), tensor("first", np.int64(0))],
    )
    graph = apply(propagate_shapes, proto).graph
    assert graph.outputs["channels"] in graph.constants
    assert graph.outputs["batch"] not in graph.constants
    assert operators(graph) == ["Shape", "Gather", "Neg"]


# -- nodes that do nothing -------------------------------------------------------------------------

# (id, operator, constant inputs, attributes); input 0 is x of shape (2, 3, 4)
NO_OPS: list[tuple[str, str, list[Any], dict[str, Any]]] = [
    ("identity", "Identity", [], {}),
    ("dropout", "Dropout", [np.float32(0.5)], {}),
    ("cast", "Cast", [], {"to": TensorProto.FLOAT}),
    ("reshape", "Reshape", [np.array([2, -1, 4])], {}),
    ("transpose", "Transpose", [], {"perm": [0, 1, 2]}),
    ("slice", "Slice", [np.array([0, -9]), np.array([2, 99]), np.array([0, 2])], {}),
    ("pad", "Pad", [np.zeros(6, np.int64)], {}),
    ("add", "Add", [np.zeros((1, 4), np.float32)], {}),
    ("sub", "Sub", [np.float32(0)], {}),
    ("mul", "Mul", [np.ones((3, 1), np.float32)], {}),
    ("div", "Div", [np.float32(1)], {}),
    ("pow", "Pow", [np.float32(1)], {}),
    ("expand", "Expand", [np.array([3, 1])], {}),
    ("tile", "Tile", [np.array([1, 1, 1])], {}),
    ("concat", "Concat", [], {"axis": 1}),
    ("sum", "Sum", [], {}),
    ("max", "Max", [], {}),
    ("clip", "Clip", [], {}),
]
SOMETHING: list[tuple[str, str, list[Any], dict[str, Any]]] = [
    ("cast", "Cast", [], {"to": TensorProto.DOUBLE}),
    ("reshape", "Reshape", [np.array([2, 4, 3])], {}),
    ("transpose", "Transpose", [], {}),
    ("reverse", "Slice", [np.array([-1]), np.array([-99]), np.array([2]), np.array([-1])], {}),
    ("shift", "Pad", [np.array([0, 0, 1, 0, 0, -1])], {}),
    ("add_wider", "Add", [np.zeros((5, 1, 1, 1), np.float32)], {}),
    ("sub_from", "Sub", [np.array([0, 1, 0, 0], np.float32)], {}),
    ("expand", "Expand", [np.array([2, 1, 1, 1])], {}),
    ("tile", "Tile", [np.array([1, 2, 1])], {}),
    ("clip", "Clip", [np.float32(0)], {}),
]


def around(operator: str, extra: list[Any], attributes: dict[str, Any]) -> Any:
    """``y = Neg(operator(x, ...))``."""
    names = [f"c{k}" for k in range(len(extra))]
    return model(
        [node(operator, ["x", *names], ["m"], **attributes), node("Neg", ["m"], ["y"])],
        [value("x", X.shape)],
        [
            value(
                "y", None, np.float64 if attributes.get("to") == TensorProto.DOUBLE else np.float32
            )
        ],
        [tensor(n, a) for n, a in zip(names, extra, strict=True)],
    )


@pytest.mark.parametrize(
    ("operator", "extra", "attributes"), [r[1:] for r in NO_OPS], ids=[r[0] for r in NO_OPS]
)
def test_no_ops_are_removed(operator: str, extra: list[Any], attributes: dict[str, Any]) -> None:
    result = apply(remove_no_ops, around(operator, extra, attributes))
    assert operators(result.graph) == ["Neg"]
    assert len(result.changes) == 1


@pytest.mark.parametrize(
    ("operator", "extra", "attributes"), [r[1:] for r in SOMETHING], ids=[r[0] for r in SOMETHING]
)
def test_what_does_something_stays(
    operator: str, extra: list[Any], attributes: dict[str, Any]
) -> None:
    result = apply(remove_no_ops, around(operator, extra, attributes))
    assert operators(result.graph) == [operator, "Neg"]


def test_one_from_x_is_not_x_from_one() -> None:
    proto = model(
        [node("Sub", ["zero", "x"], ["a"]), node("Div", ["one", "x"], ["b"])],
        [value("x", (3,))],
        [value("a", (3,)), value("b", (3,))],
        [tensor("zero", np.float32(0)), tensor("one", np.float32(1))],
    )
    assert operators(apply(remove_no_ops, proto).graph) == ["Sub", "Div"]


def test_an_output_can_turn_out_to_be_an_input() -> None:
    proto = model(
        [node("Identity", ["x"], ["y"]), node("Identity", ["y"], ["z"])],
        [value("x", (3,))],
        [value("y", (3,)), value("z", (3,))],
    )
    graph = apply(remove_no_ops, proto).graph
    assert graph.outputs == {"y": "x", "z": "x"}
    assert graph.nodes == []


# -- pairs -----------------------------------------------------------------------------------------


def chain(steps: list[tuple[str, list[Any], dict[str, Any]]], dtype: Any = np.float32) -> Any:
    """Operators one after the other, ended by Neg."""
    nodes, tensors, current = [], [], "x"
    for k, (operator, extra, attributes) in enumerate(steps):
        names = [f"c{k}_{j}" for j in range(len(extra))]
        tensors += [tensor(n, a) for n, a in zip(names, extra, strict=True)]
        nodes.append(node(operator, [current, *names], [f"v{k}"], **attributes))
        current = f"v{k}"
    nodes.append(node("Neg", [current], ["y"]))
    return model(nodes, [value("x", X.shape, dtype)], [value("y", None, dtype)], tensors)


def test_transposes_are_composed() -> None:
    steps = [("Transpose", [], {"perm": [2, 0, 1]}), ("Transpose", [], {})]
    graph = apply(merge_pairs, chain(steps)).graph
    assert operators(remove_dead(graph).graph) == ["Transpose", "Neg"]


def test_transposes_that_undo_each_other_vanish() -> None:
    steps = [("Transpose", [], {"perm": [2, 0, 1]}), ("Transpose", [], {"perm": [1, 2, 0]})]
    graph, _ = optimise(imported(chain(steps)))
    assert operators(graph) == ["Neg"]


@pytest.mark.parametrize(
    "steps",
    [
        [("Unsqueeze", [np.array([1])], {}), ("Squeeze", [np.array([1])], {})],
        [("Reshape", [np.array([6, 4])], {}), ("Reshape", [np.array([2, 3, 4])], {})],
        [
            ("Flatten", [], {}),
            ("Unsqueeze", [np.array([0])], {}),
            ("Reshape", [np.array([2, 3, 4])], {}),
        ],
        [("Cast", [], {"to": TensorProto.DOUBLE}), ("Cast", [], {"to": TensorProto.FLOAT})],
    ],
)
def test_there_and_back_is_nothing(steps: Any) -> None:
    graph = apply(merge_pairs, chain(steps)).graph
    assert operators(remove_dead(graph).graph) == ["Neg"]


def test_casts_that_lose_digits_stay() -> None:
    steps = [("Cast", [], {"to": TensorProto.INT32}), ("Cast", [], {"to": TensorProto.FLOAT})]
    assert operators(optimise(imported(chain(steps)))[0]) == ["Cast", "Cast", "Neg"]
    steps = [("Cast", [], {"to": TensorProto.INT8}), ("Cast", [], {"to": TensorProto.INT32})]
    assert operators(optimise(imported(chain(steps, np.int32)))[0]) == ["Cast", "Cast", "Neg"]


# -- common and dead code --------------------------------------------------------------------------


def test_equal_nodes_and_constants_are_shared() -> None:
    proto = model(
        [
            node("Add", ["x", "a"], ["p"]),
            node("Add", ["x", "b"], ["q"]),
            node("Exp", ["p"], ["r"]),
            node("Exp", ["q"], ["s"]),
            node("Add", ["x", "c"], ["t"]),
        ],
        [value("x", (3,))],
        [value("r", (3,)), value("s", (3,)), value("t", (3,))],
        [
            tensor("a", np.ones(3, np.float32)),
            tensor("b", np.ones(3, np.float32)),
            tensor("c", np.ones((1,), np.float32)),
        ],
    )
    result = apply(merge_common, proto)
    assert operators(result.graph) == ["Add", "Exp", "Add"]
    assert result.graph.outputs["r"] == result.graph.outputs["s"]


def test_sizes_found_at_run_time_are_not_mixed_up() -> None:
    proto = model(
        [
            node("NonZero", ["x"], ["p"]),
            node("NonZero", ["x"], ["q"]),
            node("Concat", ["p", "q"], ["y"], axis=0),
        ],
        [value("x", (3,))],
        [value("y", (2, None), np.int64)],
    )
    apply(merge_common, proto)


def test_operators_with_other_attributes_are_not_shared() -> None:
    proto = model(
        [node("Softmax", ["x"], ["a"], axis=0), node("Softmax", ["x"], ["b"], axis=1)],
        [value("x", X.shape)],
        [value("a", X.shape), value("b", X.shape)],
    )
    assert operators(apply(merge_common, proto).graph) == ["Softmax", "Softmax"]


def test_dead_code_goes_with_its_constants() -> None:
    proto = model(
        [
            node("MatMul", ["x", "w"], ["unused"]),
            node("Exp", ["unused"], ["also unused"]),
            node("Neg", ["x"], ["y"]),
        ],
        [value("x", X.shape)],
        [value("y", X.shape)],
        [tensor("w", random((4, 4)))],
    )
    graph = apply(remove_dead, proto).graph
    assert operators(graph) == ["Neg"]
    assert graph.constants == {}
    assert set(graph.types) == {"x", "y"}


def test_what_a_dead_node_demands_of_inputs_is_still_checked() -> None:
    proto = model(
        [node("Add", ["x", "z"], ["unused"]), node("Neg", ["x"], ["y"])],
        [value("x", ("N",)), value("z", ("M",))],
        ["y"],
    )
    graph = remove_dead(imported(proto)).graph
    assert {(str(e.a), str(e.b)) for e in graph.equalities} == {("broadcast(M, N)",) * 2}


# -- weights ---------------------------------------------------------------------------------------


def batch_normalization(channels: int, source: str, target: str) -> tuple[Any, list[Any]]:
    tensors = [
        tensor("s", random((channels,), seed=11)),
        tensor("b", random((channels,), seed=12)),
        tensor("m", random((channels,), seed=13)),
        tensor("v", np.abs(random((channels,), seed=14)) + 0.1),
    ]
    return node("BatchNormalization", [source, *"sbmv"], [target], epsilon=1e-3), tensors


# (id, operator, shape of x, shape of weights, has bias, attributes, channels, merged operator)
LINEAR: list[tuple[str, str, Any, Any, bool, dict[str, Any], int, str]] = [
    ("conv", "Conv", (2, 3, 5, 5), (6, 3, 3, 3), True, {"pads": [1, 1, 1, 1]}, 6, "Conv"),
    ("conv_plain", "Conv", (2, 3, 5), (6, 3, 3), False, {"strides": [2]}, 6, "Conv"),
    ("conv_groups", "Conv", (2, 4, 5, 5), (6, 2, 3, 3), True, {"group": 2}, 6, "Conv"),
    ("transposed", "ConvTranspose", (2, 3, 4, 4), (3, 5, 2, 2), True, {}, 5, "ConvTranspose"),
    (
        "transposed_groups",
        "ConvTranspose",
        (2, 4, 4),
        (4, 3, 2),
        True,
        {"group": 2},
        6,
        "ConvTranspose",
    ),
    ("gemm", "Gemm", (2, 4), (4, 5), True, {"alpha": 0.5, "beta": 2.0}, 5, "Gemm"),
    ("gemm_transposed", "Gemm", (2, 4), (5, 4), False, {"transB": 1}, 5, "Gemm"),
    ("matmul", "MatMul", (2, 4), (4, 5), False, {}, 5, "Gemm"),
]


@pytest.mark.parametrize(
    ("operator", "shape", "weights", "bias", "attributes", "channels", "merged"),
    [row[1:] for row in LINEAR],
    ids=[row[0] for row in LINEAR],
)
def test_normalisation_is_folded_into_weights(
    operator: str, shape: Any, weights: Any, bias: bool, attributes: Any, channels: int, merged: str
) -> None:
    rank = len(shape)
    normalise, tensors = batch_normalization(channels, "l", "n")
    column = random((channels,) + (1,) * (rank - 2), seed=20)
    tensors += [
        tensor("w", random(weights, seed=21)),
        tensor("scale", column),
        tensor("shift", -column),
    ]
    tensors += [tensor("bias", random((channels,), seed=22))] if bias else []
    proto = model(
        [
            node(
                operator,
                ["x", "w", "bias"] if bias else ["x", "w"],
                ["l"],
                name="linear",
                **attributes,
            ),
            normalise,
            node("Mul", ["scale", "n"], ["o"]),
            node("Sub", ["shift", "o"], ["p"]),
            node("Div", ["p", "scale"], ["q"]),
            node("Add", ["q", "shift"], ["y"]),
        ],
        [value("x", ("N", *shape[1:]))],
        [value("y", (None,) * rank)],
        tensors,
    )
    result = apply(fold_affine, proto, 5e-6)
    assert operators(result.graph) == [merged]
    assert len(result.changes) == 5
    assert result.graph.nodes[0].name == "linear"
    assert result.graph.nodes[0].origin[0] == "linear"
    assert len(result.graph.nodes[0].origin) == 6


@pytest.mark.parametrize("reader", ["output", "node"])
def test_a_result_that_is_read_elsewhere_is_not_changed(reader: str) -> None:
    normalise, tensors = batch_normalization(6, "c", "y")
    nodes = [node("Conv", ["x", "w"], ["c"]), normalise]
    outputs = [value("y", (2, 6, 3, 3)), value("c", (2, 6, 3, 3))]
    if reader == "node":
        nodes.append(node("Neg", ["c"], ["z"]))
        outputs[1] = value("z", (2, 6, 3, 3))
    tensors.append(tensor("w", random((6, 3, 3, 3))))
    proto = model(nodes, [value("x", (2, 3, 5, 5))], outputs, tensors)
    result = apply(fold_affine, proto)
    assert operators(result.graph)[:2] == ["Conv", "BatchNormalization"]
    assert "read elsewhere" in result.refusals[0].reason


@pytest.mark.parametrize(
    ("constant", "operator"),
    [
        (random((3, 3)), "Add"),  # along the image
        (random((2, 6, 1, 1)), "Mul"),  # along the batch
        (random((5, 1, 1, 1, 1)), "Mul"),  # more axes
        (np.zeros((6, 1, 1), np.float32), "Div"),  # infinite
    ],
)
def test_other_constants_are_not_folded(constant: Any, operator: str) -> None:
    proto = model(
        [node("Conv", ["x", "w"], ["c"]), node(operator, ["c", "k"], ["y"])],
        [value("x", (2, 3, 5, 5))],
        [value("y", (None,) * max(4, constant.ndim))],
        [tensor("w", random((6, 3, 3, 3))), tensor("k", constant)],
    )
    result = apply(fold_affine, proto)
    assert operators(result.graph) == ["Conv", operator]


def test_half_precision_weights_are_not_rounded_twice() -> None:
    proto = model(
        [node("MatMul", ["x", "w"], ["c"]), node("Mul", ["c", "k"], ["y"])],
        [value("x", (2, 4), np.float16)],
        [value("y", (2, 5), np.float16)],
        [tensor("w", random((4, 5), np.float16)), tensor("k", random((5,), np.float16))],
    )
    result = fold_affine(imported(proto))
    assert operators(result.graph) == ["MatMul", "Mul"]
    assert "16-bit" in result.refusals[0].reason


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
@pytest.mark.parametrize("swapped", [False, True])
def test_matmul_and_add_become_gemm(dtype: Any, swapped: bool) -> None:
    nodes = [
        node("MatMul", ["x", "w"], ["p"], name="product"),
        node("Add", ["bias", "p"] if swapped else ["p", "bias"], ["y"], name="addition"),
    ]
    proto = model(
        nodes,
        [value("x", ("N", 4), dtype), value("bias", (5,), dtype)],
        [value("y", ("N", 5), dtype)],
        [tensor("w", random((4, 5), dtype))],
    )
    graph = imported(proto)
    result = matmul_add_to_gemm(graph)
    verify(result.graph)
    assert operators(result.graph) == ["Gemm"]
    assert result.graph.nodes[0].origin == ("product", "addition")
    inputs = {"x": random((3, 4), dtype, seed=1), "bias": random((5,), dtype, seed=2)}
    assert_same(evaluate(result.graph, inputs), evaluate(graph, inputs))


@pytest.mark.parametrize(
    ("shape", "bias"), [((2, 3, 4), (5,)), ((2, 4), (2, 5)), ((2, 4), (3, 1, 5)), ((2, 4), (2, 1))]
)
def test_other_products_stay(shape: Any, bias: Any) -> None:
    proto = model(
        [node("MatMul", ["x", "w"], ["p"]), node("Add", ["p", "b"], ["y"])],
        [value("x", shape)],
        [value("y", (None,) * max(len(shape), len(bias)))],
        [tensor("w", random((4, 5))), tensor("b", random(bias))],
    )
    assert operators(apply(matmul_add_to_gemm, proto).graph) == ["MatMul", "Add"]


# -- all of them -----------------------------------------------------------------------------------


def test_reports_name_every_pass_and_every_change() -> None:
    steps = [("Identity", [], {}), ("Add", [np.float32(0)], {}), ("Exp", [], {})]
    graph, reports = optimise(imported(chain(steps)))
    assert [r.name for r in reports] == [run.__name__ for run in PASSES]
    changed = {c.node: c.text for r in reports for c in r.changes}
    assert set(changed) == {"Identity_0", "Add_0"}
    assert operators(graph) == ["Exp", "Neg"]


def test_optimise_twice_changes_nothing_more() -> None:
    steps = [("Transpose", [], {}), ("Reshape", [np.array([2, 12])], {}), ("Flatten", [], {})]
    graph, _ = optimise(imported(chain(steps)))
    again, reports = optimise(graph)
    assert str(again) == str(graph)
    assert not any(r.changes for r in reports)


STEPS: list[tuple[str, list[Any], dict[str, Any]]] = [
    ("Identity", [], {}),
    ("Relu", [], {}),
    ("Add", [np.float32(0)], {}),
    ("Add", [random((4, 1, 1), seed=31)], {}),
    ("Mul", [random((1, 4, 1, 1), seed=32)], {}),
    ("Sub", [random((1,), seed=33)], {}),
    ("Conv", [random((4, 4, 3, 3), seed=34) / 6, random((4,), seed=35)], {"pads": [1, 1, 1, 1]}),
    ("Conv", [random((4, 2, 1, 1), seed=36)], {"group": 2}),
    (
        "BatchNormalization",
        [random((4,), seed=s) for s in (37, 38, 39)] + [np.full(4, 0.5, np.float32)],
        {},
    ),
    ("MatMul", [random((4, 4), seed=40)], {}),
    ("Transpose", [], {"perm": [0, 2, 1, 3]}),
    ("Transpose", [], {"perm": [2, 3, 0, 1]}),
    ("Reshape", [np.array([4, 4, 4, 4])], {}),
    ("Cast", [], {"to": TensorProto.FLOAT}),
    ("Softmax", [], {"axis": 1}),
]


@settings(max_examples=60, deadline=None)
@given(
    picks=st.lists(
        st.tuples(st.integers(0, 99), st.integers(0, len(STEPS) - 1)), min_size=1, max_size=9
    ),
    wanted=st.sets(st.integers(0, 8), max_size=3),
)
def test_any_graph_keeps_its_outputs_and_results(
    picks: list[tuple[int, int]], wanted: set[int]
) -> None:
    """Each step reads some earlier value; some of the values on the way are outputs too."""
    values, nodes, tensors = ["x"], [], []
    for k, (source, step) in enumerate(picks):
        operator, extra, attributes = STEPS[step]
        names = [f"c{k}_{j}" for j in range(len(extra))]
        tensors += [tensor(n, a) for n, a in zip(names, extra, strict=True)]
        nodes.append(
            node(operator, [values[source % len(values)], *names], [f"v{k}"], **attributes)
        )
        values.append(f"v{k}")
    outputs = sorted({values[-1], *(v for k, v in enumerate(values[1:]) if k in wanted)})
    proto = model(nodes, [value("x", (4, 4, 4, 4))], outputs, tensors)
    graph = imported(proto)
    optimised, _ = optimise(graph)
    x = random((4, 4, 4, 4))
    assert_same(evaluate(optimised, {"x": x}), evaluate(graph, {"x": x}), 1e-4)
