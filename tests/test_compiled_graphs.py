"""Fused neighbours: the graphs of ``graph_cases`` by the interpreter and through compiled C++."""

from __future__ import annotations

from pathlib import Path

import pytest
from compiled import Compiled
from graph_cases import CASES, GraphCase

from sofie_root.model import Model
from sofie_root.program.interpret import evaluate

GROUP = 40
"""Graphs in one translation unit."""

EVERY = [(case, False) for case in CASES]
EVERY += [(case, True) for case in CASES if not case.static]
QUICK = [pair for pair in EVERY if not pair[0].slow]
LONG = [(case, symbolic) for case, symbolic in EVERY if case.slow and symbolic != case.static]
GROUPS = [QUICK[k : k + GROUP] for k in range(0, len(QUICK), GROUP)]
GROUPS += [
    pytest.param(LONG[k : k + GROUP], marks=pytest.mark.slow, id=f"long_{k}")
    for k in range(0, len(LONG), GROUP)
]


def _mode(symbolic: bool) -> str:
    return "symbolic" if symbolic else "static"


@pytest.mark.parametrize(("case", "symbolic"), EVERY, ids=lambda x: str(x))
def test_interpreted(case: GraphCase, symbolic: bool) -> None:
    case.check(evaluate(case.graph(symbolic), case.inputs), _mode(symbolic))


@pytest.mark.parametrize("group", GROUPS, ids=lambda g: f"{g[0][0]}..{g[-1][0]}")
def test_compiled(group: list[tuple[GraphCase, bool]], tmp_path: Path) -> None:
    models = [Model(case.graph(symbolic)) for case, symbolic in group]
    library = Compiled(models, tmp_path)
    failures = []
    for k, (case, symbolic) in enumerate(group):
        try:
            case.check(library.run(k, case.inputs), f"compiled, {_mode(symbolic)}")
        except (AssertionError, RuntimeError) as error:
            failures.append(f"{case} ({_mode(symbolic)}): {error}")
    assert not failures, f"{len(failures)} of {len(group)}:\n" + "\n".join(failures)
