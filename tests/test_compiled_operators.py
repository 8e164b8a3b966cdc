"""Every operator through generated, compiled C++ against ONNX Runtime: many cases to a library."""

from __future__ import annotations

from pathlib import Path

import pytest
from compiled import Compiled
from operator_case import Case
from operator_cases import CASES
from operator_cases_image import CASES as IMAGE_CASES
from operator_cases_kernels import CASES as KERNEL_CASES

from sofie_root.frontends.onnx import from_proto
from sofie_root.model import Model

GROUP = 48
"""Cases in one translation unit."""

EVERY = [(case, False) for case in (*CASES, *KERNEL_CASES, *IMAGE_CASES)]
EVERY += [(case, True) for case, _ in EVERY if not case.static]
GROUPS = [EVERY[k : k + GROUP] for k in range(0, len(EVERY), GROUP)]


def _group_id(group: list[tuple[Case, bool]]) -> str:
    (first, symbolic), (last, _) = group[0], group[-1]
    return f"{first.id}..{last.id}{'-symbolic' if symbolic else ''}"


@pytest.mark.parametrize("group", GROUPS, ids=_group_id)
def test_group(group: list[tuple[Case, bool]], tmp_path: Path) -> None:
    models = [Model(from_proto(case.model(symbolic))) for case, symbolic in group]
    library = Compiled(models, tmp_path)
    failures = []
    for k, (case, symbolic) in enumerate(group):
        try:
            outputs = library.run(k, case.feeds)
            case.check([outputs[name] for name in case.output_names], "compiled")
        except (AssertionError, RuntimeError) as error:
            mode = "symbolic" if symbolic else "static"
            failures.append(f"{case.id} ({mode}): {error}")
    assert not failures, f"{len(failures)} of {len(group)}:\n" + "\n".join(failures)
