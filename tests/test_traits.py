"""What passes ask about operators: which operators have which trait, and that they mean what they say."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
from operator_case import Case
from operator_cases import CASES
from operator_cases_kernels import CASES as KERNEL_CASES

import sofie_root.ops  # noqa: F401  (registers the operators)
from sofie_root.frontends.onnx import from_proto
from sofie_root.ir import OPERATORS, Op
from sofie_root.program.interpret import evaluate

TRAITS = {
    "channels_first": "ConvTranspose GridSample LRN LpPool MaxUnpool Resize",
    "expands_data": "ConstantOfShape Expand EyeLike OneHot Range Tile",
    "layout_wall": "Einsum GRU Gemm If LSTM Loop MatMul RNN Scan TopK",
    "moves_data": "Cast CastLike Compress DepthToSpace Dropout Expand Flatten Gather GatherElements "
    "GatherND Identity Reshape ReverseSequence Slice SpaceToDepth Split Squeeze Tile Transpose Unsqueeze",
    "reads_sizes_only": "Shape Size",
    "reshapes": "Flatten Reshape Squeeze Unsqueeze",
}


def own() -> Iterable[tuple[str, type[Op]]]:
    """The operators of sofie_root: other tests register more."""
    for (_, name), op in OPERATORS.items():
        if op.__module__.startswith("sofie_root."):
            yield name, op


@pytest.mark.parametrize("trait", TRAITS)
def test_which_operators_have_it(trait: str) -> None:
    assert sorted(name for name, op in own() if getattr(op, trait)) == TRAITS[trait].split()
    assert getattr(Op, trait) is False


def test_every_trait_is_listed() -> None:
    traits = {name for name, value in vars(Op).items() if value is False}
    assert traits == set(TRAITS)


def cases(trait: str) -> list[Case]:
    names = set(TRAITS[trait].split())
    chosen = [c for c in (*CASES, *KERNEL_CASES) if c.op_type in names and c.inputs[0] is not None]
    assert {c.op_type for c in chosen} == names
    return chosen


def first(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """The first input, converted as the operator does, and the first output."""
    x, y = case.inputs[0], case.expected[0]
    assert x is not None
    with np.errstate(all="ignore"):
        return x.astype(y.dtype), y


def test_what_moves_data_gives_what_it_got() -> None:
    for case in cases("moves_data"):
        if case.op_type in ("Cast", "CastLike"):  # a conversion saturates where NumPy's does not
            continue
        x, y = first(case)
        wide = np.float64 if y.dtype.kind not in "biu" else y.dtype
        got, given = y.astype(wide).ravel(), x.astype(wide)
        assert np.isin(got[got == got], given).all(), case  # NaN is in nothing


def test_what_reshapes_keeps_the_order() -> None:
    for case in cases("reshapes"):
        x, y = first(case)
        assert x.ravel().tolist() == y.ravel().tolist(), case


def test_what_reads_sizes_only_reads_no_values() -> None:
    for case in cases("reads_sizes_only"):
        graph = from_proto(case.model(symbolic=True))
        zeros = {name: np.zeros_like(x) for name, x in case.feeds.items()}
        (got,) = evaluate(graph, zeros).values()
        np.testing.assert_array_equal(got, case.expected[0], err_msg=case.id)
