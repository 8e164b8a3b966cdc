"""Rows made of the operator cases: each operator that has one, between other nodes of the graph."""

from __future__ import annotations

from functools import cache

import numpy as np
import onnx
from operator_case import Case
from operator_cases import CASES
from operator_cases_image import CASES as IMAGE_CASES
from operator_cases_kernels import CASES as KERNEL_CASES

from .builder import Builder, Rejected, Value
from .rows import Row
from .shaping import adapted, bounded, tame

LARGEST = 4000
"""Most elements of a case's input: others are for the kernels' own tests."""
AS_THEY_ARE = {
    "RoiAlign": (1, 2),
    "NonMaxSuppression": (0, 1),
    "Resize": (1, 2, 3),
    "STFT": (1, 2),
    "DFT": (1,),
    "Range": (0, 1, 2),
    "Upsample": (1,),
    "OneHot": (0, 1),
    "Pad": (1, 2, 3),
    "MaxUnpool": (0, 1, 2),
    "Trilu": (1,),
    "CumSum": (1,),
    "CumProd": (0, 1),
    "Dropout": (1, 2),
    "Col2Im": (1, 2),
}
"""Positions of inputs that only make sense with the numbers of the case; all integers are such, too."""


@cache
def usable() -> dict[str, list[Case]]:
    """The cases by operator, without those that are large, empty or made of special numbers."""
    found: dict[str, list[Case]] = {}
    for case in (*CASES, *IMAGE_CASES, *KERNEL_CASES):
        arrays = [a for a in case.inputs if a is not None]
        if all(a.size <= LARGEST for a in arrays) and all(
            np.isfinite(a.astype(float)).all() for a in arrays
        ):
            found.setdefault(case.op_type, []).append(case)
    return found


def row_of(op: str) -> Row:
    """A row that draws a case of this operator."""

    def row(b: Builder) -> Value:
        fits = [c for c in usable()[op] if _version(op, c.opset) == _version(op, b.opset)]
        case = b.choice(fits)
        inputs = [None if a is None else _input(b, case, k, a) for k, a in enumerate(case.inputs)]
        results = b.node(op, *inputs, outputs=case.outputs, **case.attrs)
        first = results[0] if isinstance(results, tuple) else results
        return tame(b, first) if b.chance(0.7) else first

    return row


def _version(op: str, opset: int) -> int:
    """Since when the operator means what it does in an opset; 0 where it is not in it."""
    known = onnx.defs.has(op, opset)
    return int(onnx.defs.get_schema(op, opset).since_version) if known else 0


def _input(b: Builder, case: Case, position: int, array: np.ndarray) -> Value:
    kept = position in AS_THEY_ARE.get(case.op_type, ())
    if position in case.constants:
        return b.constant(array)
    if (
        kept
        or array.dtype.kind in "iu"
        or array.size == 0
        or position in case.lists
        or b.chance(0.15)
    ):
        if b.chance(0.5):
            return b.constant(array)
        return b.input_of([array] * b.sets, list(array.shape))
    kinds = "b" if array.dtype.kind == "b" else "f"
    if kinds == "b":
        like = [v for v in b.values if v.kind == "b"]
        return adapted(b, b.choice(like), array.shape, array.dtype) if like else b.constant(array)
    if array.dtype.name == "bfloat16" and b.chance(0.5):
        raise Rejected("rare enough")
    value = adapted(b, b.pick("f", where=lambda v: not v.is_empty), array.shape, array.dtype)
    wide = array.astype(np.float64)
    low, high = float(wide.min()), float(wide.max())
    return (
        bounded(b, value, min(low, high - 0.1), high)
        if low >= 0 or high > 4
        else bounded(b, value, max(low, -3.0), min(high, 3.0))
        if low < high
        else value
    )


ROWS: dict[str, tuple[float, Row]] = {f"case {op}": (1.0, row_of(op)) for op in sorted(usable())}
"""Weight and function of each; the operators are equally likely."""
