"""The fuzzer: that it draws what it should, sees what is wrong, and makes it small; and some graphs."""

from __future__ import annotations

import argparse
import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from fuzz.__main__ import Outcome, run_apart
from fuzz.apart import Died, apart
from fuzz.batch import Job, Run, run_jobs
from fuzz.builder import Builder
from fuzz.cases import AS_THEY_ARE
from fuzz.findings import Finding, fault_of, write
from fuzz.generate import FAMILIES, Graph, draw
from fuzz.judge import Fault, Judge
from fuzz.modes import Mode, mode_of
from fuzz.reference import EXACT, KEPT, ROUNDS_MORE, NotEvaluated, Reference
from fuzz.shrink import Case, shrink
from onnx import helper
from onnx_models import model, node, tensor, value
from operator_cases import CASES
from operator_cases_image import CASES as IMAGE_CASES
from operator_cases_kernels import CASES as KERNEL_CASES

from sofie_root.frontends.onnx import from_proto
from sofie_root.program.interpret import evaluate

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


def test_operators_that_are_treated_apart_have_cases() -> None:
    cases = {case.op_type for case in (*CASES, *IMAGE_CASES, *KERNEL_CASES)}
    assert EXACT - cases == {"Constant"}  # which no graph of a case keeps
    assert ROUNDS_MORE | KEPT.keys() | AS_THEY_ARE.keys() <= cases


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


GELU = [node("Gelu", ["x"], ["y"])]
STFT = [node("STFT", ["x", "step", "window"], ["f"]), node("ArgMax", ["f"], ["y"])]
NORMALIZATION = [node("InstanceNormalization", ["x", "scale", "bias"], ["y"])]
CANCELLING = {
    "Gelu": (GELU, np.float32([[-5.4, -3.0, 0.5]]), {}),
    "STFT": (
        STFT,  # the imaginary part of the largest frequency is zero but for rounding
        np.random.default_rng(0).standard_normal((2, 40, 1)).astype(np.float32),
        {"step": np.int64(5), "window": np.linspace(0.2, 1, 8, dtype=np.float32)},
    ),
    "InstanceNormalization": (
        NORMALIZATION,  # of one element, which is its own mean
        np.float32([0.7, 1.9, -3.3]).reshape(1, 3, 1),
        {"scale": np.float32([0.9, 1.7, 0.6]), "bias": np.float32([0.3, 0.2, 0.1])},
    ),
}


@pytest.mark.parametrize("operator", CANCELLING)
def test_judge_knows_what_cancels(operator: str) -> None:
    """Results in float64 are right, and what is wrong by more than rounding of the terms is not."""
    nodes, x, constants = CANCELLING[operator]
    outputs = [value("y", None, np.int64 if operator == "STFT" else np.float32)]
    tensors = [tensor(n, a) for n, a in constants.items()]
    proto = model(nodes, [value("x", list(x.shape))], outputs, tensors)
    judge = Judge(proto, [{"x": x}])
    exact = evaluate(from_proto(proto), {"x": x}, double=True)["y"]
    right = exact.astype(judge.expected[0]["y"].dtype)
    assert judge.judge([{"y": right}] * 2) is None
    wrong = right.copy()
    wrong[0, 0] += 1 if operator == "STFT" else 3e-3
    assert "y" in str(judge.judge([{"y": wrong}] * 2))


def test_reference_refuses_what_others_compute_wrongly() -> None:
    """ONNX Runtime and ONNX's own implementation have faults that are not to be held against us."""
    body = helper.make_graph(
        [node("Identity", ["go"], ["more"]), node("Softsign", ["s"], ["t"])],
        "body",
        [value("k", [], np.int64), value("go", [], np.bool_), value("s", [3], np.float64)],
        [value("more", [], np.bool_), value("t", [3], np.float64)],
    )
    loop = node("Loop", ["three", "", "x"], ["y"], body=body)
    hardmax, top = node("Hardmax", ["x"], ["y"]), node("ArgMax", ["x"], ["y"], axis=-1, keepdims=0)
    lstm = node("LSTM", ["x", "w", "r"], ["y"], hidden_size=2)
    weights = [tensor("w", np.ones((1, 8, 5), "f4")), tensor("r", np.ones((1, 8, 2), "f4"))]
    three = [tensor("three", np.int64(3))]
    for nodes, shape, dtype, tensors, opset in (
        ([loop], [3], np.float64, three, 20),
        ([hardmax], [2, 3, 4], np.float64, [], 11),
        ([top], [0, 3, 1], np.float32, [], 22),
        ([lstm], [0, 0, 5], np.float32, weights, 22),
    ):
        proto = model(nodes, [value("x", shape, dtype)], [value("y", None)], tensors, opset)
        with pytest.raises(NotEvaluated):
            Reference(proto).outputs({"x": np.ones(shape, dtype)})


def test_a_process_that_dies_is_reported() -> None:
    assert apart(lambda: np.arange(3)).tolist() == [0, 1, 2]
    for death, name in ((os.abort, "SIGABRT"), (lambda: os._exit(3), "exit code 3")):
        with pytest.raises(Died, match=name):
            apart(death)


def test_a_seed_that_ends_the_process_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other seeds of its batch are run all the same."""
    names = ("only", "engine", "compiler", "level", "target", "kernels", "guard")
    small, options = draw(42), argparse.Namespace(**dict.fromkeys(names))

    def run(seeds: Sequence[int], *_: Any) -> list[Outcome]:
        if 7 in seeds:
            os.abort()
        return [Outcome(small, mode_of(s), Run("ran"), None) for s in seeds]

    def drawn(seed: int) -> Graph:
        return small

    monkeypatch.setattr("fuzz.__main__.run_batch", run)
    monkeypatch.setattr("fuzz.__main__.draw", drawn)
    outcomes = run_apart(range(5, 9), options, tmp_path)
    assert [o.run.verdict for o in outcomes] == ["ran", "ran", "crash", "ran"]
    finding = outcomes[2].finding
    assert finding is not None
    assert (finding.seed, finding.fault.kind) == (7, "crash")
    assert "SIGABRT" in finding.fault.message
    monkeypatch.setattr("fuzz.__main__.draw", lambda seed: os.abort())
    finding = run_apart([7], options, tmp_path)[0].finding
    assert finding is not None
    assert (finding.fault.kind, finding.case.feeds) == ("reference", [])
    assert (write(finding, tmp_path) / "fault.txt").exists()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float8_e4m3fn", "bool"])
def test_findings_keep_inputs_of_every_dtype(dtype: str, tmp_path: Path) -> None:
    kind = np.dtype(getattr(ml_dtypes, dtype, dtype))
    case = Case(onnx.ModelProto(), [{"x": np.array([0, 1], kind)}])
    fault = Fault("value", "y", "wrong")
    with np.load(write(Finding(1, Mode(), fault, case), tmp_path) / "inputs.npz") as stored:
        assert stored["0.x"].tobytes() == case.feeds[0]["x"].tobytes()


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
