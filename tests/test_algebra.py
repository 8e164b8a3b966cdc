"""Layout, linear maps before gathers, selection matrices, shared positions; and control flow, compiled."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from compiled import Compiled
from kernel_names import kernel_name
from onnx import ModelProto, TensorProto, helper
from onnx_models import assert_same, by_runtime, imported, model, node, random, tensor, value

from sofie_root.model import Model
from sofie_root.passes import optimise
from sofie_root.program.choice import default_choice
from sofie_root.program.operation import Operation
from sofie_root.schedule.schedule import schedule
from sofie_root.targets.cpu.target import CPU


@dataclass(frozen=True)
class Example:
    """A model, sets of inputs of different sizes, and a word that its report must contain."""

    name: str
    proto: ModelProto
    inputs: tuple[dict[str, Any], ...]
    says: str = ""

    def __str__(self) -> str:
        return self.name


def _edge_network(points: int | str, batch: int | str = "N") -> ModelProto:
    """x_i and x_j - x_i of picked neighbours, through a 1x1 convolution, a mean over neighbours."""
    return model(
        [
            node("Transpose", ["x"], ["rows"], perm=[0, 2, 1]),
            node("Gather", ["rows", "neighbours"], ["near"], axis=1),
            node("Transpose", ["near"], ["picked"], perm=[0, 3, 1, 2]),
            node("Unsqueeze", ["x", "last"], ["own"]),
            node("Sub", ["picked", "own"], ["difference"]),
            node("Expand", ["own", "one"], ["again"]),
            node("Shape", ["picked"], ["size"]),
            node("Expand", ["again", "size"], ["tiled"]),
            node("Concat", ["tiled", "difference"], ["edges"], axis=1),
            node("Conv", ["edges", "w", "b"], ["c"], name="edge_conv"),
            node("Relu", ["c"], ["r"]),
            node("Conv", ["r", "w2"], ["d"]),
            node("ReduceMean", ["d", "last"], ["y"], keepdims=0),
        ],
        [value("x", [batch, 6, points]), value("neighbours", [points, 5], np.int64)],
        ["y"],
        [
            tensor("last", np.array([3])),
            tensor("one", np.array([1, 1, 1, 1])),
            tensor("w", random((32, 12, 1, 1))),
            tensor("b", random((32,))),
            tensor("w2", random((8, 32, 1, 1), seed=3)),
        ],
    )


def _edge_inputs(batch: int, points: int) -> dict[str, Any]:
    neighbours = np.random.default_rng(points).integers(0, points, (points, 5))
    return {"x": random((batch, 6, points)), "neighbours": neighbours}


def _interaction() -> ModelProto:
    receivers = np.repeat(np.eye(10, dtype=np.float32), 9, axis=1)
    return model(
        [
            node("MatMul", ["x", "r"], ["e"]),
            node("Relu", ["e"], ["p"]),
            node("MatMul", ["p", "s"], ["y"]),
        ],
        [value("x", ["N", 4, 10])],
        ["y"],
        [tensor("r", receivers), tensor("s", np.ascontiguousarray(receivers.T))],
    )


def _flattened_pairs(points: int) -> ModelProto:
    """Pairs of points as rows of one matrix over the whole batch, and sums over the rows of a point."""
    first, second = np.triu_indices(points, 1)
    pairs = len(first)
    return model(
        [
            node("Gather", ["x", "first"], ["a"], axis=2),
            node("Gather", ["x", "second"], ["b"], axis=2),
            node("Concat", ["a", "b"], ["both"], axis=1),
            node("Transpose", ["both"], ["pairs"], perm=[0, 2, 1]),
            node("Reshape", ["pairs", "rows"], ["flat"]),
            node("Gemm", ["flat", "w1", "b1"], ["g1"], name="pair_map"),
            node("Relu", ["g1"], ["r1"]),
            node("Gemm", ["r1", "w2", "b2"], ["g2"]),
            node("Reshape", ["g2", "apart"], ["split"]),
            node("Transpose", ["split"], ["channels"], perm=[0, 2, 1]),
            node("Reshape", ["channels", "wide"], ["lines"]),
            node("MatMul", ["lines", "sum"], ["sums"]),
            node("Reshape", ["sums", "points"], ["back"]),
            node("Concat", ["x", "back"], ["all"], axis=1),
            node("Transpose", ["all"], ["t"], perm=[0, 2, 1]),
            node("Reshape", ["t", "last"], ["m"]),
            node("MatMul", ["m", "w3"], ["y"]),
        ],
        [value("x", ["N", 6, points])],
        ["y"],
        [
            tensor("first", first),
            tensor("second", second),
            tensor("rows", np.array([-1, 12])),
            tensor("w1", random((12, 20))),
            tensor("b1", random((20,))),
            tensor("w2", random((20, 5), seed=2)),
            tensor("b2", random((5,), seed=3)),
            tensor("apart", np.array([-1, pairs, 5])),
            tensor("wide", np.array([-1, pairs])),
            tensor("sum", (first[:, None] == np.arange(points)).astype(np.float32)),
            tensor("points", np.array([-1, 5, points])),
            tensor("last", np.array([-1, 11])),
            tensor("w3", random((11, 3), seed=4)),
        ],
    )


def _two_uses_of_rows() -> ModelProto:
    """Rows of a flattened batch read by a product and, apart again, by a sum and an output."""
    return model(
        [
            node("Exp", ["x"], ["e"]),
            node("Transpose", ["e"], ["t"], perm=[0, 2, 1]),
            node("Reshape", ["t", "rows"], ["flat"]),
            node("MatMul", ["flat", "w"], ["y"]),
            node("Softmax", ["flat"], ["z"]),
            node("Reshape", ["z", "apart"], ["s"]),
            node("ReduceSum", ["s", "one"], ["u"], keepdims=0),
        ],
        [value("x", ["N", 4, "P"])],
        ["y", "u"],
        [
            tensor("rows", np.array([-1, 4])),
            tensor("w", random((4, 3))),
            tensor("apart", np.array([0, 2, 2])),
            tensor("one", np.array([1])),
        ],
    )


def _chain(width: int) -> ModelProto:
    """Linear maps in a row: a bias and a residual between them, and no other reader."""
    return model(
        [
            node("Gemm", ["x", "w1", "b1"], ["a"]),
            node("Relu", ["a"], ["r"]),
            node("Gemm", ["r", "w2", "b2"], ["b"]),
            node("Add", ["b", "x"], ["sum"]),
            node("Gemm", ["sum", "w3", "b3"], ["y"], name="last"),
        ],
        [value("x", ["N", 24])],
        ["y"],
        [
            tensor("w1", random((24, 40))),
            tensor("b1", random((40,))),
            tensor("w2", random((40, 24), seed=2)),
            tensor("b2", random((24,), seed=3)),
            tensor("w3", random((24, width), seed=4)),
            tensor("b3", random((width,), seed=5)),
        ],
    )


def _scores() -> ModelProto:
    """Products with one column: of normalised rows, read twice afterwards; and of short rows."""
    return model(
        [
            node("Softmax", ["x"], ["s"], axis=2),
            node("MatMul", ["s", "w"], ["m"]),
            node("Add", ["m", "b"], ["a"]),
            node("Sigmoid", ["a"], ["score"]),
            node("Mul", ["x", "score"], ["y"]),
            node("Squeeze", ["score", "two"], ["z"]),
            node("MatMul", ["score", "w1"], ["u"]),
        ],
        [value("x", ["N", "P", 19])],
        ["y", "z", "u"],
        [
            tensor("w", random((19, 1))),
            tensor("b", random((1,))),
            tensor("two", np.array([2])),
            tensor("w1", random((1, 1))),
        ],
    )


def _residual(channels: int = 4) -> ModelProto:
    """1x1 convolutions next to one with a window: few channels stay first."""
    return model(
        [
            node("Conv", ["x", "w1"], ["a"], name="pointwise"),
            node("Relu", ["a"], ["b"]),
            node("Conv", ["b", "w3"], ["c"], pads=[1, 1, 1, 1]),
            node("Add", ["c", "a"], ["y"]),
        ],
        [value("x", ["N", 3, 6, 7])],
        ["y"],
        [
            tensor("w1", random((channels, 3, 1, 1))),
            tensor("w3", random((channels, channels, 3, 3))),
        ],
    )


def _gather_of_channels() -> ModelProto:
    return model(
        [node("Gather", ["x", "i"], ["g"], axis=2), node("Sigmoid", ["g"], ["y"])],
        [value("x", ["N", 8, "P"]), value("i", ["P", 3], np.int64)],
        ["y"],
    )


def _square() -> ModelProto:
    """Channels, points and neighbours of one size: no index may be taken for another."""
    return model(
        [
            node("Gather", ["x", "i"], ["g"], axis=1),
            node("Unsqueeze", ["x", "two"], ["u"]),
            node("Sub", ["g", "u"], ["y"]),
        ],
        [value("x", [7, 7]), value("i", [7, 7], np.int64)],
        ["y"],
        [tensor("two", np.array([2]))],
    )


def _graph(name: str, nodes: Any, inputs: Any, outputs: Any, tensors: Any = ()) -> onnx.GraphProto:
    return helper.make_graph(nodes, name, inputs, outputs, list(tensors))


def _branch() -> ModelProto:
    info = helper.make_tensor_value_info
    then = _graph("then", [node("Relu", ["x"], ["t"])], [], [info("t", TensorProto.FLOAT, None)])
    other = _graph(
        "else",
        [node("Concat", ["x", "x"], ["t2"], axis=0), node("Neg", ["t2"], ["e"])],
        [],
        [info("e", TensorProto.FLOAT, None)],
    )
    return model(
        [
            node("ReduceSum", ["x"], ["s"], keepdims=0),
            node("Greater", ["s", "zero"], ["c"]),
            node("If", ["c"], ["y"], then_branch=then, else_branch=other),
        ],
        [value("x", ["N", 3])],
        ["y"],
        [tensor("zero", np.float32(0))],
    )


def _growing() -> ModelProto:
    """A state that is longer after each iteration, until it is long enough; a stacked output."""
    info = helper.make_tensor_value_info
    body = _graph(
        "body",
        [
            node("Concat", ["state", "x"], ["longer"], axis=0),
            node("ReduceMean", ["longer"], ["mean"], keepdims=0),
            node("Size", ["longer"], ["size"]),
            node("Less", ["size", "limit"], ["again"]),
        ],
        [
            info("i", TensorProto.INT64, []),
            info("go", TensorProto.BOOL, []),
            info("state", TensorProto.FLOAT, ["M"]),
        ],
        [
            info("again", TensorProto.BOOL, []),
            info("longer", TensorProto.FLOAT, None),
            info("mean", TensorProto.FLOAT, []),
        ],
    )
    return model(
        [node("Loop", ["trips", "", "x"], ["end", "means"], body=body)],
        [value("x", ["N"]), value("trips", [], np.int64)],
        ["end", "means"],
        [tensor("limit", np.int64(17))],
    )


def _backwards() -> ModelProto:
    """A Scan over the last axis from its end, whose body has an If."""
    info = helper.make_tensor_value_info
    one = _graph("one", [node("Exp", ["t"], ["o1"])], [], [info("o1", TensorProto.FLOAT, None)])
    two = _graph("two", [node("Neg", ["t"], ["o2"])], [], [info("o2", TensorProto.FLOAT, None)])
    body = _graph(
        "step",
        [
            node("Add", ["sum", "slice"], ["t"]),
            node("ReduceMax", ["t"], ["m"], keepdims=0),
            node("Less", ["m", "bound"], ["c"]),
            node("If", ["c"], ["out"], then_branch=one, else_branch=two),
            node("Identity", ["t"], ["next"]),
        ],
        [info("sum", TensorProto.FLOAT, ["N"]), info("slice", TensorProto.FLOAT, ["N"])],
        [info("next", TensorProto.FLOAT, ["N"]), info("out", TensorProto.FLOAT, None)],
    )
    return model(
        [
            node(
                "Scan", ["start", "x"], ["last", "y"], body=body, num_scan_inputs=1,
                scan_input_axes=[1], scan_input_directions=[1], scan_output_axes=[1],
                scan_output_directions=[1],
            )
        ],
        [value("start", ["N"]), value("x", ["N", "T"])],
        ["last", "y"],
        [tensor("bound", np.float32(1.5))],
    )  # fmt: skip


EXAMPLES = (
    Example(
        "edge_network", _edge_network("P"), (_edge_inputs(2, 9), _edge_inputs(1, 33)), "picked"
    ),
    Example("edge_network_static", _edge_network(12), (_edge_inputs(3, 12),), "picked"),
    Example("edge_network_of_one", _edge_network(12, 1), (_edge_inputs(1, 12),), "picked"),
    Example("interaction", _interaction(), ({"x": random((3, 4, 10))}, {"x": random((1, 4, 10))})),
    Example(
        "flattened_pairs",
        _flattened_pairs(9),
        ({"x": random((3, 6, 9))}, {"x": random((1, 6, 9))}),
        "pair_map is computed before",
    ),
    Example("pairs_of_two", _flattened_pairs(2), ({"x": random((4, 6, 2))},)),
    *(
        Example(
            f"chain_to_{n}",
            _chain(n),
            ({"x": random((9, 24))}, {"x": random((1, 24))}),
            "last is computed before",
        )
        for n in (1, 3)
    ),
    Example(
        "scores",
        _scores(),
        ({"x": random((2, 5, 19))}, {"x": random((1, 1, 19))}),
        "is a sum per row",
    ),
    Example("rows", _two_uses_of_rows(), ({"x": random((2, 4, 5))}, {"x": random((1, 4, 1))})),
    Example("residual", _residual(), ({"x": random((2, 3, 6, 7))},)),
    Example(
        "gather",
        _gather_of_channels(),
        ({"x": random((2, 8, 5)), "i": np.array([[0, 4, -1]] * 5)},),
        "stored once",
    ),
    Example(
        "square",
        _square(),
        ({"x": random((7, 7)), "i": np.random.default_rng(1).integers(0, 7, (7, 7))},),
        "stored once",
    ),
    Example("if", _branch(), ({"x": random((4, 3))}, {"x": -np.ones((2, 3), np.float32)})),
    Example(
        "loop",
        _growing(),
        tuple({"x": random((n,)), "trips": np.array(t)} for n, t in ((3, 2), (5, 9), (4, 0))),
    ),
    Example(
        "scan",
        _backwards(),
        tuple({"start": random((n,)), "x": random((n, t))} for n, t in ((3, 4), (1, 7))),
    ),
)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    models = [Model(imported(e.proto)) for e in EXAMPLES]
    return Compiled(models, tmp_path_factory.mktemp("algebra"))


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_compiled_like_onnxruntime(example: Example, library: Compiled) -> None:
    k = EXAMPLES.index(example)
    decisions = library.models[k].schedule.decisions
    if default_choice().kernels != "never":  # some are decisions for a specialised form
        assert not example.says or any(example.says in line for line in decisions.fused)
    for inputs in example.inputs:
        assert_same(library.run(k, inputs), by_runtime(example.proto, inputs), 1e-5)


def test_an_index_out_of_range_throws(library: Compiled) -> None:
    k = next(k for k, e in enumerate(EXAMPLES) if e.name == "gather")
    with pytest.raises(RuntimeError, match="outside an axis of 5"):
        library.run(k, {"x": random((1, 8, 5)), "i": np.full((5, 3), 5)})


def test_channels_stay_first_beside_a_window() -> None:
    graph, reports = optimise(imported(_residual()))
    refusals = {r.node: r.reason for report in reports for r in report.refusals}
    assert any("channels stay first" in reason for reason in refusals.values())
    assert [n.op.name for n in graph.nodes].count("Conv") == 2


def test_many_channels_are_last_beside_a_window() -> None:
    graph, _ = optimise(imported(_residual(16)))
    assert [n.op.name for n in graph.nodes].count("MatMul") == 1
    names = [kernel_name(s) for s in schedule(graph, CPU).steps if isinstance(s, Operation)]
    assert names[0] == "gemm"
    assert names[1] in ("conv_channels_last", "winograd")


def test_selection_matrices_become_gathers() -> None:
    graph, _ = optimise(imported(_interaction()))
    assert [n.op.name for n in graph.nodes] == ["Gather", "Relu", "Gather", "ReduceSum"]


def test_control_flow_through_root(tmp_path: Path) -> None:
    from sofie_root import load
    from sofie_root.program.interpret import evaluate

    for example in EXAMPLES[-3:]:
        path = Model(imported(example.proto)).save(tmp_path / f"{example.name}.root")
        again = load(path)
        for inputs in example.inputs:
            arrays = {k: np.asarray(v) for k, v in inputs.items()}
            assert_same(evaluate(again.graph, arrays), by_runtime(example.proto, arrays), 1e-5)
