"""The table of operator cases itself: every operator has a row, and a row is the same wherever it is read."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import test_trees
from operator_case import Case
from operator_cases import CASES
from operator_cases_image import CASES as IMAGE_CASES
from operator_cases_kernels import CASES as KERNEL_CASES
from small_models import control
from test_algebra import EXAMPLES

from sofie_root.frontends.onnx import from_proto
from sofie_root.ir import Graph
from sofie_root.ir.op import OPERATORS

EVERY = (*CASES, *KERNEL_CASES, *IMAGE_CASES)

ELSEWHERE = {
    "If": lambda: control().graph,
    "Loop": lambda: control().graph,
    "Scan": lambda: from_proto(next(e.proto for e in EXAMPLES if e.name == "scan")),
    "Trees": lambda: from_proto(test_trees.CASES[0].model()),
}
"""Operators with bodies, and those that only the frontend makes: the model that they are tested in."""


def operators(graph: Graph) -> Iterator[str]:
    for node in graph.nodes:
        yield node.op.name
        for value in node.op.attributes().values():
            if isinstance(value, Graph):
                yield from operators(value)


def test_every_operator_has_a_case() -> None:
    own = {name for (_, name), op in OPERATORS.items() if op.__module__.startswith("sofie_root.")}
    covered = {op for case in EVERY for op in operators(from_proto(case.model()))}
    assert own - covered == set(ELSEWHERE)


@pytest.mark.parametrize("name", ELSEWHERE)
def test_operators_that_have_their_cases_elsewhere(name: str) -> None:
    assert name in set(operators(ELSEWHERE[name]()))


def test_ids_are_unique() -> None:
    ids = [case.id for case in EVERY]
    assert len(set(ids)) == len(ids)


def digest(cases: list[Case]) -> str:
    numbers = hashlib.sha256()
    for case in cases:
        numbers.update(case.id.encode())
        for array in case.inputs:
            numbers.update(b"-" if array is None else array.tobytes())
    return numbers.hexdigest()


def test_cases_do_not_depend_on_the_order_of_imports() -> None:
    """A test that starts another process finds the same numbers there."""
    modules = ("operator_cases_image", "operator_cases_kernels", "operator_cases")
    script = "\n".join(
        [
            "from test_operator_table import digest",
            *(f"import {m}\nprint(digest({m}.CASES))" for m in modules),
        ]
    )
    backwards = "\n".join([*(f"import {m}" for m in modules), script])
    done = subprocess.run(
        [sys.executable, "-c", backwards],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [digest(c) for c in (IMAGE_CASES, KERNEL_CASES, CASES)]
