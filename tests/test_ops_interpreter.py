"""Every operator's lowering, run by the NumPy interpreter, against ONNX Runtime."""

from __future__ import annotations

import pytest
from operator_case import Case, interpreted
from operator_cases import CASES


@pytest.mark.parametrize("case", CASES, ids=str)
def test_static_sizes(case: Case) -> None:
    case.check(interpreted(case), "static")


@pytest.mark.parametrize("case", [c for c in CASES if not c.static], ids=str)
def test_symbolic_sizes(case: Case) -> None:
    case.check(interpreted(case, symbolic=True), "symbolic")
