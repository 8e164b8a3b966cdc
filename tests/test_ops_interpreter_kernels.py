"""Lowerings to kernels, run by the NumPy interpreter, against ONNX Runtime."""

from __future__ import annotations

import pytest
from operator_case import Case
from operator_cases_image import CASES as IMAGE_CASES
from operator_cases_kernels import CASES as KERNEL_CASES

from sofie_root.frontends.onnx import from_proto
from sofie_root.program.interpret import evaluate

CASES = [*KERNEL_CASES, *IMAGE_CASES]


def run(case: Case, symbolic: bool) -> None:
    """Checks one case against what is expected of it."""
    outputs = evaluate(from_proto(case.model(symbolic)), case.feeds)
    case.check([outputs[name] for name in case.output_names], "symbolic" if symbolic else "static")


@pytest.mark.parametrize("case", CASES, ids=str)
def test_static_sizes(case: Case) -> None:
    run(case, symbolic=False)


@pytest.mark.parametrize("case", [c for c in CASES if not c.static], ids=str)
def test_symbolic_sizes(case: Case) -> None:
    run(case, symbolic=True)
