"""Graph networks compiled: edges that pick nodes, and scatter to them in the order in which they come."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from compiled import Compiled
from onnx import ModelProto
from onnx_models import assert_same, by_runtime, imported, model, node, random, tensor, value

from sofie_root.model import Model
from sofie_root.program.interpret import evaluate

WIDTH = 19


def _messages(nodes: int | str, edges: int | str, reduction: str, onto: str) -> ModelProto:
    """Weighted messages to the nodes at the edges' ends; onto zeros, the input, or a product."""
    return model(
        [
            node("MatMul", ["x", "w"], ["h"]),
            node("Add", ["h", "x"], ["sum"]),
            node("Gather", ["sum", "sender"], ["g"], axis=0),
            node("Mul", ["g", "weight"], ["message"]),
            node("Shape", ["message"], ["size"]),
            node("Unsqueeze", ["receiver", "one"], ["column"]),
            node("Expand", ["column", "size"], ["place"]),
            node("Mul", ["x", "zero"], ["zeros"]),
            node("Identity", ["x"], ["input"]),
            node("MatMul", ["x", "w"], ["product"]),
            node("ScatterElements", [onto, "place", "message"], ["s"], reduction=reduction),
            node("Add", ["s", "sum"], ["y"]),
            node("Add", ["x", "one_more"], ["z"]),
        ],
        [
            value("x", [nodes, WIDTH]),
            value("weight", [edges, 1]),
            value("sender", [edges], np.int64),
            value("receiver", [edges], np.int64),
        ],
        ["y", "z"],
        [
            tensor("w", random((WIDTH, WIDTH))),
            tensor("one", np.array([1])),
            tensor("zero", np.float32(0)),
            tensor("one_more", np.float32(1)),
        ],
    )


def _columns(rows: int | str, columns: int | str) -> ModelProto:
    """Scattered along the last axis, row by row, into a result that is read again row by row."""
    return model(
        [
            node("Relu", ["x"], ["r"]),
            node("ScatterElements", ["r", "i", "u"], ["s"], axis=1, reduction="add"),
            node("ReduceMax", ["s", "one"], ["m"]),
            node("Sub", ["s", "m"], ["y"]),
        ],
        [value("x", [rows, columns]), value("i", [rows, 4], np.int64), value("u", [rows, 4])],
        ["y"],
        [tensor("one", np.array([1]))],
    )


def _slices(reduction: str) -> ModelProto:
    """Slices of an inner product scattered by constant pairs of positions, one of them twice."""
    pairs = np.array([[0, 1], [2, 0], [-1, -1], [2, 0], [1, 1]])
    return model(
        [
            node("Mul", ["u", "u"], ["square"]),
            node("ScatterND", ["x", "pairs", "square"], ["y"], reduction=reduction),
        ],
        [value("x", [3, 2, "N"]), value("u", [5, "N"])],
        ["y"],
        [tensor("pairs", pairs)],
    )


def _graph(nodes: int, edges: int) -> dict[str, Any]:
    generator = np.random.default_rng(edges)
    return {
        "x": random((nodes, WIDTH)),
        "weight": random((edges, 1)),
        "sender": generator.integers(-nodes, nodes, edges),
        "receiver": generator.integers(0, nodes, edges),
    }


def _matrix(rows: int, columns: int) -> dict[str, Any]:
    i = np.random.default_rng(rows).integers(-columns, columns, (rows, 4))
    return {"x": random((rows, columns)), "i": i, "u": random((rows, 4), seed=3)}


REDUCTIONS = ("none", "add", "mul", "max", "min")
CASES: list[tuple[str, ModelProto, tuple[dict[str, Any], ...]]] = [
    *(
        (f"messages_{r}", _messages("N", "E", r, "zeros"), (_graph(4, 30), _graph(9, 0)))
        for r in REDUCTIONS
    ),
    *(
        (f"onto_{onto}", _messages("N", "E", "none", onto), (_graph(5, 20), _graph(8, 3)))
        for onto in ("input", "product")
    ),
    # As many nodes as edges as features: no loop may be taken for another.
    ("static", _messages(WIDTH, WIDTH, "none", "zeros"), (_graph(WIDTH, WIDTH),)),
    ("static_onto_input", _messages(7, 7, "add", "input"), (_graph(7, 7),)),
    ("one_node", _messages(1, 6, "add", "zeros"), (_graph(1, 6),)),
    ("columns", _columns("N", "M"), (_matrix(3, 7), _matrix(40, 2))),
    ("columns_static", _columns(4, 4), (_matrix(4, 4),)),
    *(
        (f"slices_{r}", _slices(r), ({"x": random((3, 2, 18)), "u": random((5, 18))},))
        for r in REDUCTIONS
    ),
]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    models = [Model(imported(proto)) for _, proto, _ in CASES]
    return Compiled(models, tmp_path_factory.mktemp("messages"))


@pytest.mark.parametrize("k", range(len(CASES)), ids=[name for name, *_ in CASES])
def test_like_onnxruntime(k: int, library: Compiled) -> None:
    _, proto, sets = CASES[k]
    for inputs in sets:
        expected = by_runtime(proto, inputs)
        before = {name: np.array(x) for name, x in inputs.items()}
        assert_same(library.run(k, inputs), expected, 1e-5)
        assert_same(evaluate(imported(proto), inputs), expected, 1e-5)
        assert all(np.array_equal(inputs[name], x) for name, x in before.items())


def test_a_sum_is_computed_before_it_is_picked(library: Compiled) -> None:
    """Once per node, not once per edge; and what is read of an edge is read once."""
    text = library.models[0].header(standalone=False).text
    loops = [part for part in text.split("\n    // ") if "ScatterElements" in part.split("\n")[0]]
    assert any("const std::ptrdiff_t at = sofie::index(" in part for part in loops)
    assert all(part.count("sofie::load(") <= 2 for part in loops)
