"""The fuzzer: that it draws what it should, sees what is wrong, and makes it small; and some graphs."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from fuzz.batch import Job, run_jobs
from fuzz.builder import Builder
from fuzz.findings import fault_of
from fuzz.generate import FAMILIES, draw
from fuzz.judge import Judge
from fuzz.modes import Mode, mode_of
from fuzz.reference import NotEvaluated, Reference
from fuzz.shrink import Case, shrink
from onnx_models import model, node, tensor, value

OPSETS_WITH_CASES = (22, 24, 19, 17, 26, 10, 9)
SEEDS = range(3000, 3020)
"""Seeds that are compiled here; `make fuzz` runs others."""


def test_graphs_of_some_seeds_are_right(tmp_path: Path) -> None:
    graphs = [draw(seed) for seed in SEEDS]
    modes = [Mode(level="-O0", kernels=m.kernels, exact=m.exact) for m in map(mode_of, SEEDS)]
    jobs = [Job(g.model, g.feeds, m) for g, m in zip(graphs, modes, strict=True)]
    runs = run_jobs(jobs, tmp_path)
    faults = [(job, fault_of(job, run)) for job, run in zip(jobs, runs, strict=True)]
    wrong = [
        f"seed {seed} ({job.mode}): {fault}"
        for seed, (job, fault) in zip(SEEDS, faults, strict=True)
        if fault is not None and fault.kind != "reference"
    ]
    assert not wrong, "\n".join(wrong)
    assert sum(run.verdict == "ran" for run in runs) > 15


def test_seeds_give_the_same_valid_models_again() -> None:
    for seed in range(40, 60):
        graph, again = draw(seed), draw(seed)
        assert graph.model.SerializeToString() == again.model.SerializeToString()
        assert 1 <= len(graph.model.graph.output) <= 14
        onnx.checker.check_model(graph.model)
        for feeds, other in zip(graph.feeds, again.feeds, strict=True):
            assert all(np.array_equal(feeds[n], other[n]) for n in feeds)


def test_every_row_can_be_drawn() -> None:
    """Rows of all operators with a case among them."""
    rows = {name: row for _, table, _ in FAMILIES for name, (_, row) in table.items()}
    builders = []
    for seed, opset in itertools.product(range(5), OPSETS_WITH_CASES):
        b = Builder(np.random.default_rng(seed), {"N": (2, 4, 6)}, 3, opset)
        for shape in (["N", 6], [4, 8], ["N", 4, 8, 8], [2, "N", 8], [3, 5]):
            b.input(shape)
        builders.append(b)
    missing = [
        name
        for name, row in rows.items()
        if not any(b.attempt(row) for b in builders for _ in range(6))
    ]
    assert not missing


def _subject() -> tuple[onnx.ModelProto, list[dict[str, np.ndarray]]]:
    nodes = [
        node("Exp", ["x"], ["e"]),
        node("Sub", ["e", "c"], ["d"]),
        node("Greater", ["d", "zero"], ["up"]),
        node("ArgMax", ["d"], ["top"], axis=1, keepdims=0),
    ]
    tensors = [tensor("c", np.float32(1)), tensor("zero", np.float32(0))]
    outputs = [value("d", None), value("up", None, bool), value("top", None, np.int64)]
    proto = model(nodes, [value("x", ["N", 3])], outputs, tensors)
    x = np.array([[0.5, -1, 2], [1e-4, 1, -3], [0, 0.25, 0.125]], np.float32)
    return proto, [{"x": x}, {"x": x[:2]}]


def test_judge_knows_rounding_from_faults() -> None:
    proto, feeds = _subject()
    judge = Judge(proto, feeds)
    right = [dict(s) for s in judge.expected]
    right.append(dict(right[0]))
    assert judge.judge(right) is None
    assert judge.interpreter(0) is None

    def changed(output: str, position: tuple[int, ...], number: float) -> str:
        sets = [{n: a.copy() for n, a in s.items()} for s in right]
        sets[0][output][position] = number
        sets[-1] = sets[0]
        return str(judge.judge(sets))

    exact = float(right[0]["d"][0, 0])
    assert changed("d", (0, 0), exact * (1 + 2e-7)) == "None"
    assert "value d" in changed("d", (0, 0), exact * (1 + 1e-5))
    # exp(1e-4) - 1 keeps three digits, whoever computes it
    cancelled = float(right[0]["d"][1, 0])
    assert changed("d", (1, 0), cancelled * (1 + 5e-4)) == "None"
    assert "value d" in changed("d", (1, 0), cancelled * 1.05)
    assert "value d" in changed("d", (2, 1), np.nan)
    assert "value up" in changed("up", (0, 0), not right[0]["up"][0, 0])
    assert changed("up", (2, 0), not right[0]["up"][2, 0]) == "None"  # 1 > 1 decides by rounding
    assert "value top" in changed("top", (0,), 1)


def test_judge_sees_shapes_crashes_and_results_that_change() -> None:
    proto, feeds = _subject()
    judge = Judge(proto, feeds)
    right = [dict(s) for s in judge.expected]
    assert "shape d" in str(judge.judge([{**right[0], "d": right[0]["d"][:1]}, right[1], right[0]]))
    assert "dtype d" in str(judge.judge([{**right[0], "d": right[0]["d"].astype(float)}] * 3))
    assert "error" in str(judge.judge(["run: no", right[1], right[0]]))
    assert "2 of 3 runs" in str(judge.judge(right))
    other = {**right[0], "d": np.nextafter(right[0]["d"], np.float32(9))}
    assert "unstable" in str(judge.judge([*right, other]))


def test_noise_leaves_exact_operators_alone() -> None:
    nodes = [
        node("Transpose", ["x"], ["t"]),
        node("Tanh", ["x"], ["h"]),
        node("Relu", ["x"], ["r"]),
    ]
    outputs = [value("t", None), value("h", None), value("r", None)]
    reference = Reference(model(nodes, [value("x", [2, 3])], outputs))
    x = np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3) + np.float32(0.3)
    quiet, noisy = (
        reference.outputs({"x": x}),
        reference.outputs({"x": x}, np.random.default_rng(1)),
    )
    assert np.array_equal(quiet["t"], noisy["t"])
    assert np.array_equal(quiet["r"], noisy["r"])
    assert not np.array_equal(quiet["h"], noisy["h"])
    np.testing.assert_allclose(quiet["h"], noisy["h"], rtol=1e-6)


@pytest.mark.parametrize("operator", ["Softmax", "Split", "Conv"])
def test_shrinking_keeps_what_fails(operator: str) -> None:
    seed = next(s for s in range(500, 900) if draw(s).operators[operator])
    graph = draw(seed)

    def fails(cases: Sequence[Case]) -> list[bool]:
        return [_is_valid(c) and operator in {n.op_type for n in c.model.graph.node} for c in cases]

    small = shrink(Case(graph.model, graph.feeds), "", fails)
    assert len(small.model.graph.node) == 1
    assert len(small.feeds) == 1
    onnx.checker.check_model(small.model)


def _is_valid(case: Case) -> bool:
    try:
        Judge(case.model, case.feeds)
    except NotEvaluated:
        return False
    return True
