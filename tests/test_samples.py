"""Random inputs respect what a model does with them; where none are found, the model opens nevertheless."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from onnx import helper
from onnx_models import model, node, tensor, value

from sofie_root.errors import SelfTestWarning
from sofie_root.frontends.onnx import from_proto
from sofie_root.model import Model

IMAGE = value("x", ["N", 3, "H", "W"])
ROWS = value("x", ["N", 5])
INT = np.int64


def of(op_type: str, *inputs: Any, outputs: int = 1, opset: int = 21, **attributes: Any) -> Model:
    """A model of one node; its inputs are those that are declarations."""
    names = ["" if i is None else i.name for i in inputs]
    declared = [i for i in inputs if isinstance(i, type(ROWS))]
    tensors = [i for i in inputs if i is not None and i not in declared]
    made = node(op_type, names, [f"y{k}" for k in range(outputs)], **attributes)
    proto = model([made], declared, ["y0"], tensors, opset)
    return Model(from_proto(proto, op_type))


def vector(name: str, size: int, dtype: Any = INT) -> Any:
    return value(name, [size], dtype)


MODELS = [
    of("Resize", IMAGE, None, vector("scales", 4, np.float32)),
    of("Resize", IMAGE, None, None, vector("sizes", 4), mode="linear"),
    of("Gather", ROWS, value("i", ["M"], INT), axis=1),
    of("GatherElements", ROWS, value("i", ["N", 3], INT), axis=1),
    of("GatherND", ROWS, value("i", ["M", 2], INT)),
    of("ScatterElements", ROWS, value("i", ["N", 2], INT), value("u", ["N", 2]), axis=1),
    of("ScatterND", ROWS, value("i", ["M", 1], INT), value("u", ["M", 5])),
    of("Reshape", ROWS, vector("shape", 3)),
    of("Reshape", ROWS, vector("shape", 2)),
    of("Expand", ROWS, vector("shape", 3)),
    of("Tile", ROWS, vector("repeats", 2)),
    of("Pad", ROWS, vector("pads", 4), mode="reflect"),
    of("Slice", ROWS, vector("starts", 2), vector("ends", 2), vector("axes", 2), vector("steps", 2)),
    of("Split", ROWS, vector("sizes", 3), outputs=3, axis=1),
    of("TopK", ROWS, vector("k", 1), outputs=2),
    of("Range", value("start", [], INT), value("limit", [], INT), value("delta", [], INT)),
    of("Range", value("start", []), value("limit", []), value("delta", [])),
    of("ConstantOfShape", vector("shape", 3)),
    of("OneHot", value("i", ["N"], INT), value("depth", [], INT), vector("values", 2, np.float32)),
    of("CumSum", ROWS, value("axis", [], INT)),
    of("ReduceSum", ROWS, vector("axes", 2)),
    of("Squeeze", value("x", [1, "N"]), vector("axes", 1)),
    of("Unsqueeze", ROWS, vector("axes", 2)),
    of("ReverseSequence", ROWS, value("lengths", ["N"], INT), batch_axis=0, time_axis=1),
    of("RoiAlign", IMAGE, value("rois", ["R", 4]), value("images", ["R"], INT), opset=16),
    of("DFT", value("x", ["N", 8, 1]), value("length", [], INT), opset=17, axis=1),
    of("GRU", value("x", ["T", "N", 4]), tensor("W", np.ones((1, 6, 4), np.float32)),
       tensor("R", np.ones((1, 6, 2), np.float32)), None, value("lengths", ["N"], np.int32),
       hidden_size=2),
    of("MatMul", value("a", ["N", "K"]), value("b", ["L", 4])),
    of("Add", value("a", ["N", 4]), value("b", ["M", "F"])),
    of("HannWindow", value("size", [], INT)),
]  # fmt: skip


@pytest.mark.parametrize("given", MODELS, ids=lambda m: m.name)
def test_an_example_is_found(given: Model) -> None:
    found = given.example
    assert found is not None, given.untested
    assert all(np.size(array) for array in found.outputs.values())


def test_shapes_that_are_joined_of_numbers() -> None:
    nodes = [
        node("Concat", ["batch", "rest"], ["shape"], axis=0),
        node("Reshape", ["x", "shape"], ["y"]),
    ]
    inputs = [ROWS, vector("batch", 1)]
    proto = model(nodes, inputs, ["y"], [tensor("rest", np.array([-1]))])
    assert Model(from_proto(proto)).example is not None


def test_sizes_that_must_add_up() -> None:
    """A sum of sizes that is to be another sum of sizes."""
    nodes = [
        node("Concat", ["a", "b"], ["ab"], axis=0),
        node("Concat", ["c", "d"], ["cd"], axis=0),
        node("Reshape", ["ab", "row"], ["abrow"]),
        node("Shape", ["cd"], ["shape"]),
        node("Reshape", ["ab", "shape"], ["y"]),
    ]
    inputs = [value(n, [n.upper(), 4]) for n in "abcd"]
    proto = model(nodes, inputs, ["y", "abrow"], [tensor("row", np.array([-1]))])
    found = Model(from_proto(proto)).example
    assert found is not None
    assert found.dims["A"] + found.dims["B"] == found.dims["C"] + found.dims["D"]


@pytest.mark.parametrize(
    ("nodes", "what"),
    [
        ([node("Log", ["x"], ["l"]), node("ReduceSum", ["l"], ["y"])], "positive"),
        ([node("Mul", ["x", "large"], ["l"]), node("Softmax", ["l"], ["y"])], "small"),
    ],
)
def test_an_example_tells_something(nodes: list[Any], what: str) -> None:
    """Outputs that are NaN whatever the weights are, or exactly 0 and 1, hide faults."""
    large = tensor("large", np.array(3000, np.float32))
    given = Model(from_proto(model(nodes, [value("x", ["N", 6])], ["y"], [large])))
    found = given.example
    assert found is not None
    assert found.dims["N"] > 1
    y = found.outputs["y"]
    assert np.isfinite(y).any()
    assert not np.isin(y, (0, 1)).all()
    assert (found.inputs["x"] > 0).all() == (what == "positive")


def _unlucky() -> Model:
    """No random index is 1000."""
    nodes = [node("Sub", ["i", "offset"], ["at"]), node("Gather", ["x", "at"], ["y"])]
    inputs = [value("x", [4]), value("i", ["N"], INT)]
    return Model(
        from_proto(model(nodes, inputs, ["y"], [tensor("offset", np.array(1000))]), "unlucky")
    )


@pytest.mark.parametrize("jit", ["cling", "compiler"])
def test_a_model_opens_without_an_example_and_says_so(jit: Any) -> None:
    for _ in range(2):  # the second one is known to the cache
        with pytest.warns(
            SelfTestWarning, match=r"'unlucky' opens without a self-test.*index.*check\(inputs"
        ):
            session = _unlucky().session(jit)
        x = np.arange(4, dtype=np.float32)
        assert session(x, np.array([1003, 1000])).tolist() == [3, 0]


def test_nothing_is_said_where_there_is_an_example() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        of("Gather", ROWS, value("i", ["M"], INT), axis=1).session("cling")


def test_trips_of_a_loop() -> None:
    body = helper.make_graph(
        [node("Identity", ["go"], ["again"]), node("Add", ["s", "s"], ["t"])],
        "body",
        [value("i", [], INT), value("go", [], np.bool_), value("s", [2])],
        [helper.make_empty_tensor_value_info("again"), helper.make_empty_tensor_value_info("t")],
    )
    nodes = [node("Loop", ["trips", "", "x"], ["y"], body=body)]
    proto = model(nodes, [value("trips", [], INT), value("x", [2])], ["y"])
    found = Model(from_proto(proto)).example
    assert found is not None
    assert found.inputs["trips"] > 0
