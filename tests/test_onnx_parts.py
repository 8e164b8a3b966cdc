"""Functions, branches and external data of ONNX files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx_models import (
    assert_same,
    imported,
    model,
    node,
    random,
    tensor,
    value,
)

from sofie_root.errors import ModelError
from sofie_root.frontends.onnx import from_proto, parse
from sofie_root.ir import verify
from sofie_root.program.interpret import evaluate

X = random((2, 3, 4))


# -- functions and branches ------------------------------------------------------------------------


def scaled_function(domain: str = "mine") -> Any:
    """``y = Add(Mul(x, factor), x)``, ``unused`` may be omitted."""
    return helper.make_function(
        domain,
        "Scaled",
        ["x", "unused"],
        ["y", "z"],
        [
            helper.make_node("Constant", [], ["f"]),
            helper.make_node("Mul", ["x", "f"], ["m"], name="mul"),
            helper.make_node("Add", ["m", "x"], ["y"]),
            helper.make_node("Neg", ["m"], ["z"]),
        ],
        [helper.make_opsetid("", 21)],
        ["factor"],
    )


def with_reference(function: Any) -> Any:
    attribute = function.node[0].attribute.add()
    attribute.name, attribute.ref_attr_name = "value_float", "factor"
    attribute.type = onnx.AttributeProto.FLOAT
    return function


def test_local_functions_are_expanded() -> None:
    proto = model(
        [
            node("Scaled", ["x"], ["a"], domain="mine", factor=2.0, name="first"),
            node("Scaled", ["a"], ["m", "b"], domain="mine", factor=3.0, name="second"),
        ],
        [value("x", (3,))],
        ["m", "b"],
        functions=[with_reference(scaled_function())],
        domains={"mine": 1},
    )
    graph = imported(proto)
    x = random((3,))
    assert_same(evaluate(graph, {"x": x}), {"m": 12 * x, "b": -9 * x})
    assert {n.origin for n in graph.nodes} == {("first",), ("second",)}


def test_functions_of_functions_and_of_an_older_opset() -> None:
    inner = helper.make_function(
        "mine", "Inner", ["x"], ["y"], [helper.make_node("Softmax", ["x"], ["y"])],
        [helper.make_opsetid("", 11)],
    )  # fmt: skip
    outer = helper.make_function(
        "mine", "Outer", ["x"], ["y"], [helper.make_node("Inner", ["x"], ["y"], domain="mine")],
        [helper.make_opsetid("mine", 1)],
    )  # fmt: skip
    proto = model(
        [node("Outer", ["x"], ["y"], domain="mine")],
        [value("x", X.shape)],
        ["y"],
        functions=[inner, outer],
        domains={"mine": 1},
    )
    flat = np.exp(X.reshape(2, -1))
    expected = (flat / flat.sum(1, keepdims=True)).reshape(X.shape)
    assert_same(evaluate(imported(proto), {"x": X}), {"y": expected})


def test_functions_that_pass_an_input_through() -> None:
    function = helper.make_function(
        "mine", "Both", ["x"], ["x", "y"], [helper.make_node("Neg", ["x"], ["y"])],
        [helper.make_opsetid("", 21)],
    )  # fmt: skip
    proto = model(
        [node("Both", ["x"], ["a", "b"], domain="mine"), node("Abs", ["a"], ["c"])],
        [value("x", (3,))],
        ["a", "b", "c"],
        functions=[function],
        domains={"mine": 1},
    )
    x = random((3,))
    assert_same(evaluate(imported(proto), {"x": x}), {"a": x, "b": -x, "c": abs(x)})


def test_functions_that_call_each_other_are_an_error() -> None:
    functions = [
        helper.make_function(
            "mine", a, ["x"], ["y"], [helper.make_node(b, ["x"], ["y"], domain="mine")],
            [helper.make_opsetid("mine", 1)],
        )
        for a, b in (("A", "B"), ("B", "A"))
    ]  # fmt: skip
    proto = model(
        [node("A", ["x"], ["y"], domain="mine")], [value("x", (3,))], ["y"],
        functions=functions, domains={"mine": 1},
    )  # fmt: skip
    with pytest.raises(ModelError, match="A -> B -> A"):
        from_proto(proto)


def if_model(condition_nodes: list[Any], opset: int = 21) -> onnx.ModelProto:
    """If(condition): y = -x, w = 1, else y = x + x reshaped to rank 1, w = x."""
    then = helper.make_graph(
        [node("Neg", ["x"], ["out"])], "then", [], [value("out", None), value("w", None)],
        [tensor("w", np.float32(1))],
    )  # fmt: skip
    other = helper.make_graph(
        [node("Add", ["x", "x"], ["twice"]), node("Flatten", ["twice"], ["out"], axis=0)],
        "else", [], [value("out", None), value("x", None)],
    )  # fmt: skip
    return model(
        [
            *condition_nodes,
            node("If", ["c"], ["y", "w"], name="If", then_branch=then, else_branch=other),
        ],
        [value("x", ("N", 3))],
        ["y", "w"],
        [tensor("two", np.int64(2)), tensor("three", np.int64(3)), tensor("one", np.int64(1))],
        opset=opset,
    )


@pytest.mark.parametrize("against", ["two", "three"])
def test_if_with_a_known_condition_is_inlined(against: str) -> None:
    proto = if_model(
        [
            node("Shape", ["x"], ["s"]),
            node("Gather", ["s", "one"], ["n"]),
            node("Equal", ["n", against], ["c"]),
        ]
    )
    x = random((2, 3))
    graph = imported(proto)
    if against == "three":
        expected = {"y": -x, "w": np.array(1, np.float32)}
    else:
        expected = {"y": (x + x).reshape(1, 6), "w": x}
    assert_same(evaluate(graph, {"x": x}), expected)
    assert "If" not in {n.op.name for n in graph.nodes}


# -- external data ---------------------------------------------------------------------------------


def saved_with_external_data(folder: Path, weights: Any) -> Path:
    proto = model(
        [node("Add", ["x", "w"], ["y"])], [value("x", weights.shape)], ["y"], [tensor("w", weights)]
    )
    path = folder / "m.onnx"
    onnx.save_model(
        proto,
        path,
        save_as_external_data=True,
        location="w.bin",
        size_threshold=0,
        convert_attribute=True,
    )
    return path


def test_external_data_is_read(tmp_path: Path) -> None:
    weights = random((300, 7))
    path = saved_with_external_data(tmp_path, weights)
    assert path.stat().st_size < 1000
    graph = parse(path)
    verify(graph)
    np.testing.assert_array_equal(graph.constants["w"], weights)


def test_external_data_in_a_folder_below(tmp_path: Path) -> None:
    weights = random((300, 7))
    path = saved_with_external_data(tmp_path, weights)
    (tmp_path / "sub").mkdir()
    (tmp_path / "w.bin").rename(tmp_path / "sub" / "w.bin")
    proto = onnx.load(path, load_external_data=False)
    for entry in proto.graph.initializer[0].external_data:
        if entry.key == "location":
            entry.value = "sub/w.bin"
    path.write_bytes(proto.SerializeToString())
    np.testing.assert_array_equal(parse(path).constants["w"], weights)
