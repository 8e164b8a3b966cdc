"""Every operator with one thing wrong: it works, or one readable error names the node."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import ModelProto
from operator_case import Case
from operator_cases import CASES
from operator_cases_image import CASES as IMAGE_CASES
from operator_cases_kernels import CASES as KERNEL_CASES
from wrong_models import wrong_models

from sofie_root.budget import Budget, stage
from sofie_root.errors import SofieError
from sofie_root.frontends.onnx import from_proto
from sofie_root.passes import optimise
from sofie_root.program.lower import lower

ALL = [*CASES, *IMAGE_CASES, *KERNEL_CASES]
FIRST = list({case.op_type: case for case in reversed(ALL)}.values())
"""One case of each operator."""


def form(case: Case) -> tuple[object, ...]:
    """What tells cases apart here; numbers, dtypes and sizes do not, as these are what is changed."""
    ranks = tuple(None if a is None else a.ndim for a in case.inputs)
    return case.op_type, *sorted(case.attrs), ranks, case.constants, case.outputs


OTHERS = list({form(case): case for case in (*reversed(ALL), *FIRST)}.values())
OTHERS = [case for case in OTHERS if case not in FIRST]
"""One case of each form but for the first ones."""


def attempt(proto: ModelProto, what: str) -> None:
    """Reads, optimises and lowers a model; anything but a SofieError fails the test."""
    names = [proto.graph.node[0].op_type, *(i.name for i in proto.graph.input)]
    try:
        with stage(Budget(work=2_000_000_000, memory=256 << 20)), np.errstate(all="ignore"):
            graph = from_proto(proto)
            lower(optimise(graph)[0])
    except SofieError as error:
        text = str(error)
    except Exception as error:
        raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error
    else:
        return
    assert any(repr(name) in text for name in names), f"{what}: {text!r} names nothing"
    assert len(text) < 2000, f"{what}: {text!r} is too long"


@pytest.mark.parametrize("case", FIRST, ids=str)
def test_operators_with_one_thing_wrong(case: Case) -> None:
    for what, proto in wrong_models(case):
        attempt(proto, f"{case.id}, {what}")


@pytest.mark.slow
@pytest.mark.parametrize("case", OTHERS, ids=str)
def test_other_cases_with_one_thing_wrong(case: Case) -> None:
    for what, proto in wrong_models(case):
        attempt(proto, f"{case.id}, {what}")
