"""ONNX's backend tests by the NumPy interpreter (``make conformance`` runs them through C++)."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest
from conformance.batch import WIDER, interpret_case, run_batch
from conformance.cases import Case, load_cases
from conformance.outcome import Outcome
from conformance.pool import run_all
from conformance.table import write_table

SMALL = ("node", "simple", "pytorch-operator", "pytorch-converted")
AT_LEAST = {"node": 1600, "simple": 7, "pytorch-operator": 35, "pytorch-converted": 82}
"""Cases of each set that passed when this was written."""


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return load_cases(SMALL)


def test_all_pass_or_are_refused(cases: list[Case]) -> None:
    outcomes = [interpret_case(case) for case in cases]
    wrong = [f"{o.case}: {o.reason}" for o in outcomes if o.verdict == "wrong"]
    assert not wrong, "\n".join(wrong)
    passed = Counter(o.case.split("/")[0] for o in outcomes if o.verdict == "passed")
    assert {name: min(passed[name], n) for name, n in AT_LEAST.items()} == AT_LEAST


def test_cases_with_a_tolerance_of_their_own_exist(cases: list[Case]) -> None:
    assert WIDER.keys() <= {case.id for case in cases}


def test_refusals_have_reasons(cases: list[Case]) -> None:
    """No refusal is a Python error in disguise."""
    outcomes = [interpret_case(c) for c in cases if "string" in c.name or "sequence" in c.name]
    refused = [o for o in outcomes if o.verdict == "refused"]
    assert len(refused) > 40
    for outcome in refused:
        assert outcome.refused, outcome.case
        assert all(reason.strip() for _, reason in outcome.refused), outcome.case


def test_compiled_batch_and_table(cases: list[Case], tmp_path: Path) -> None:
    names = ("test_relu", "test_upsample_nearest", "test_softmax_axis_1", "test_string_concat")
    chosen = [c for c in cases if c.name in names]
    outcomes: list[Outcome] = []
    run_batch(chosen, outcomes.append, lambda case: None)
    verdicts = {o.case: o.verdict for o in outcomes}
    assert verdicts == {
        "node/test_relu": "passed",
        "node/test_upsample_nearest": "passed",
        "node/test_softmax_axis_1": "passed",
        "node/test_string_concat": "refused",
    }
    write_table(tmp_path / "operators.md", cases, outcomes)
    text = (tmp_path / "operators.md").read_text()
    assert (
        "| **Softmax** Exponentials normalised to sum to one along ``axis`` | 13 | floats | yes"
        in text
    )
    assert "| **Upsample** | Resize | 1 |" in text
    assert "| StringConcat | this operator is not supported | 1 |" in text


def test_a_crash_costs_one_case(cases: list[Case], monkeypatch: pytest.MonkeyPatch) -> None:
    three = [c for c in cases if c.name in ("test_relu", "test_abs", "test_neg")]

    def crash(batch: list[Case], report: object, started: object) -> None:
        for case in batch:
            started(case)  # type: ignore[operator]
            if case.name == "test_neg":
                os._exit(3)
            report(Outcome(case.id, "passed"))  # type: ignore[operator]

    monkeypatch.setattr("conformance.pool.run_batch", crash)
    outcomes: list[Outcome] = []
    run_all([three], 1, outcomes.append)
    assert {o.case: o.verdict for o in outcomes} == {
        "node/test_abs": "passed",
        "node/test_neg": "wrong",
        "node/test_relu": "passed",
    }
