"""Indices and sizes that only show at run time and are wrong: refused, never read or written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from compiled import Compiled
from operator_case import Case

from sofie_root.errors import InputError
from sofie_root.frontends.onnx import from_proto
from sofie_root.model import Model
from sofie_root.program.interpret import evaluate

X = np.arange(20, dtype=np.float32).reshape(4, 5)


def case(op_type: str, *inputs: object, **attrs: object) -> Case:
    arrays = tuple(np.asarray(x) for x in inputs)
    outputs = 2 if op_type == "TopK" else 1
    lists = frozenset({1}) if op_type in ("TopK", "GatherND", "ScatterND") else frozenset()
    return Case(op_type, op_type, arrays, attrs, outputs=outputs, lists=lists)


def updates(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


WRONG = [
    case("Gather", X, [0, 4]),
    case("Gather", X, [-5]),
    case("Gather", X, [2**40], axis=1),
    case("GatherElements", X, [[0, 4], [1, 1]]),
    case("GatherND", X, [[0, 5]]),
    case("GatherND", X, [[-5, 0]]),
    case("ScatterElements", X, [[4]], updates(1, 1)),
    case("ScatterElements", X, [[-6]], updates(1, 1), axis=1),
    case("ScatterElements", X, [[-(2**40)]], updates(1, 1), reduction="add"),
    case("ScatterND", X, [[0, 5]], updates(1)),
    case("ScatterND", X, [[4]], updates(1, 5), reduction="max"),
    case("CumSum", X, 2),
    case("CumSum", X, -3),
    case("TopK", X, [6]),
    case("TopK", X, [-1]),
    case("TopK", X, [2**40]),
]
"""Wrong content."""

WRONG_SIZES = [
    (case("GatherElements", X, [[0] * 5] * 3, axis=0), {"x1": np.zeros((3, 6), np.int64)}),
    (case("ScatterElements", X, [[0] * 3] * 3, updates(3, 3)), {"x2": updates(3, 2)}),
    (case("ScatterElements", X, [[0] * 3] * 3, updates(3, 3)), {"x1": np.zeros((3, 6), np.int64)}),
    (case("ScatterND", X, [[0, 1]] * 3, updates(3)), {"x2": updates(2)}),
    (case("Compress", X, [True] * 3, axis=1), {"x1": np.ones(6, bool)}),
    (case("MatMul", X, updates(5, 3)), {"x1": updates(6, 3)}),
    (case("Gemm", X, updates(5, 3), updates(3)), {"x2": updates(2)}),
    (case("Einsum", X, updates(5, 3), equation="ij,jk->ik"), {"x1": updates(4, 3)}),
    (case("MaxPool", updates(1, 1, 4, 5), kernel_shape=[3, 3]), {"x0": updates(1, 1, 2, 5)}),
]
"""Sizes that contradict each other: the case, and the inputs that make it wrong."""


@pytest.mark.parametrize("wrong", WRONG, ids=lambda c: f"{c.op_type}_{c.inputs[1].ravel()[0]}")
@pytest.mark.parametrize("symbolic", [False, True])
def test_interpreter_refuses_content(wrong: Case, symbolic: bool) -> None:
    with pytest.raises(IndexError):
        evaluate(from_proto(wrong.model(symbolic)), wrong.feeds)


@pytest.mark.parametrize(("given", "change"), WRONG_SIZES, ids=lambda x: str(x)[:20])
def test_interpreter_refuses_sizes(given: Case, change: dict[str, np.ndarray]) -> None:
    graph = from_proto(_separate(given))
    evaluate(graph, given.feeds)
    with pytest.raises((InputError, IndexError)):
        evaluate(graph, {**given.feeds, **change})


def test_generated_code_throws(tmp_path: Path) -> None:
    models = [Model(from_proto(w.model(symbolic=True))) for w in WRONG]
    models += [Model(from_proto(_separate(given))) for given, _ in WRONG_SIZES]
    library = Compiled(models, tmp_path)
    for k, wrong in enumerate(WRONG):
        with pytest.raises(RuntimeError, match=r"index|Index|axis|elements"):
            library.run(k, wrong.feeds)
    for k, (given, change) in enumerate(WRONG_SIZES, len(WRONG)):
        library.run(k, given.feeds)
        with pytest.raises(RuntimeError):
            library.run(k, {**given.feeds, **change})


def _separate(given: Case) -> object:
    """The case's model with a size symbol of its own for every axis of every input."""
    model = given.model(symbolic=True)
    for value in model.graph.input:
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if dim.dim_param:
                dim.dim_param = f"{value.name}_{axis}"
    return model
