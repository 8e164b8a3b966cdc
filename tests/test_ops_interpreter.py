"""Every operator's lowering, run by the NumPy interpreter, against ONNX Runtime."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from operator_case import Case, interpreted
from operator_cases import CASES


@pytest.mark.parametrize("case", CASES, ids=str)
def test_static_sizes(case: Case) -> None:
    case.check(interpreted(case), "static")


@pytest.mark.parametrize("case", [c for c in CASES if not c.static], ids=str)
def test_symbolic_sizes(case: Case) -> None:
    case.check(interpreted(case, symbolic=True), "symbolic")


def is_float(array: np.ndarray | None) -> bool:
    return array is not None and array.dtype == np.float32


ROUNDED = [c for c in CASES if any(map(is_float, c.inputs)) and c.op_type != "BitCast"]
"""BitCast is left out: there is no double of the same bits."""
OF_THEIR_OWN = ("LayerNormalization", "MelWeightMatrix")
"""Operators of which an attribute says the dtype of a result."""


@pytest.mark.parametrize("case", CASES, ids=str)
def test_in_double(case: Case) -> None:
    """What is computed in double is what ONNX Runtime gives, but for rounding."""
    outputs = interpreted(case, double=True)
    for found, expected in zip(outputs, case.expected, strict=True):
        kind = expected.dtype if expected.dtype.kind in "biu" else np.float64
        assert found.dtype == kind, case.id
    with np.errstate(over="ignore"):
        cast = [y.astype(e.dtype) for y, e in zip(outputs, case.expected, strict=True)]
    case.check(cast, "in double")


@pytest.mark.parametrize("case", ROUNDED, ids=str)
def test_in_double_nothing_is_rounded_to_float(case: Case) -> None:
    """It is what a model gives whose floats are doubles, on the same numbers."""
    inputs = tuple(
        x.astype(np.float64) if x is not None and is_float(x) else x for x in case.inputs
    )
    wide = interpreted(replace(case, inputs=inputs))
    # The lowering folds the constants of a BatchNormalization into two of the model's own type.
    tolerance = 1e-6 if case.op_type == "BatchNormalization" else 1e-11
    for found, expected in zip(interpreted(case, double=True), wide, strict=True):
        if expected.dtype == found.dtype:
            np.testing.assert_allclose(found, expected, tolerance, tolerance)
        else:  # an attribute says another, or its default does
            assert case.op_type in OF_THEIR_OWN or {"to", "dtype"} & case.attrs.keys(), case.id
