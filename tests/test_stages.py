"""Every stage of scheduling leaves a program that is well formed and computes what it computed before."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from onnx_models import model as onnx_model
from onnx_models import node, tensor, value
from operator_case import Case
from operator_cases import CASES
from operator_cases_image import CASES as IMAGE_CASES
from operator_cases_kernels import CASES as KERNEL_CASES
from small_models import SMALL, attention, parsed
from test_attention import CASES as ATTENTIONS
from test_zoo import EACH_NETWORK, Entry

from sofie_root.frontends.onnx import from_proto
from sofie_root.ir import Graph
from sofie_root.ir.dim import Symbol, as_poly
from sofie_root.ir.dtype import DType
from sofie_root.model import Model, load
from sofie_root.program import expr as ex
from sofie_root.program.choice import Choice
from sofie_root.program.interpret import interpret
from sofie_root.program.lower import lower
from sofie_root.program.operation import Operand, Operation
from sofie_root.program.program import Buffer, Program
from sofie_root.program.statement import Loop
from sofie_root.program.verify import ProgramError, verify
from sofie_root.schedule.inline import Decisions
from sofie_root.schedule.run import run
from sofie_root.schedule.schedule import schedule
from sofie_root.targets import TARGETS
from sofie_root.targets.base import Target
from sofie_root.targets.cpu.target import CPU
from sofie_root.targets.reference.target import REFERENCE

Arrays = Mapping[str, np.ndarray]
EVERY = [(case, False) for case in (*CASES, *KERNEL_CASES, *IMAGE_CASES)]
EVERY += [(case, True) for case, _ in EVERY if not case.static]
MODES = ("auto", "always", "never")
BATCH = 60
"""Operator cases in one test."""


def follow(
    graph: Graph,
    inputs: Arrays,
    choice: Choice,
    tolerance: float = 1e-4,
    target: Target = CPU,
) -> None:
    """Runs the stages one by one; fails at the first that breaks the program or changes its numbers."""
    program = lower(graph, choice, target)
    verify(program)
    before = interpret(program, inputs)
    for k, stage in enumerate(target.stages):
        stage(program, Decisions())
        where = f"{graph.name}, after stage {k}, {stage.__name__}"
        try:
            verify(program)
            after = interpret(program, inputs)
        except Exception as error:
            raise AssertionError(f"{where}: {error}") from error
        for name, expected in before.items():
            assert_close(after[name], expected, tolerance, f"{where}: {name}")
        before = after
    where = f"{graph.name}, the steps in the arena"
    try:
        after = run(schedule(graph, target, choice), inputs)
    except Exception as error:
        raise AssertionError(f"{where}: {error}") from error
    for name, expected in before.items():
        assert_close(after[name], expected, tolerance, f"{where}: {name}")


def assert_close(actual: np.ndarray, expected: np.ndarray, tolerance: float, what: str) -> None:
    assert actual.shape == expected.shape, what
    assert actual.dtype == expected.dtype, what
    if expected.dtype.kind in "biu" or not expected.size:
        np.testing.assert_array_equal(actual, expected, what)
        return
    a, b = (x.astype(np.float64) for x in (actual, expected))
    if expected.dtype.itemsize == 2:
        tolerance = max(tolerance, 2e-2)
    scale = float(np.max(np.abs(b), where=np.isfinite(b), initial=0.0))
    np.testing.assert_allclose(a, b, tolerance, tolerance * scale, err_msg=what)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", [*SMALL, "attention"])
def test_small_models(name: str, mode: Any) -> None:
    model = attention() if name == "attention" else SMALL[name]()
    example = model.example
    assert example is not None
    follow(model.graph, example.inputs, Choice(mode))


@pytest.mark.parametrize("name", [*SMALL, "attention"])
def test_small_models_for_the_reference_target(name: str) -> None:
    model = attention() if name == "attention" else SMALL[name]()
    example = model.example
    assert example is not None
    follow(model.graph, example.inputs, Choice(), target=REFERENCE)


@pytest.mark.parametrize("mode", MODES)
def test_attentions(mode: Any) -> None:
    for case in ATTENTIONS:
        follow(Model(from_proto(case.model())).graph, case.feeds(), Choice(mode))


def _follow_cases(cases: list[tuple[Case, bool]], mode: Any, target: Target = CPU) -> None:
    failures = []
    for case, symbolic in cases:
        try:
            graph = Model(from_proto(case.model(symbolic))).graph
            follow(graph, case.feeds, Choice(mode), target=target)
        except AssertionError as error:
            failures.append(f"{case.id}: {error}")
    assert not failures, "\n".join(failures)


@pytest.mark.parametrize("start", range(0, len(EVERY), 8 * BATCH))
def test_operator_cases(start: int) -> None:
    """Every eighth case, with another choice of kernels for each; the slow test has them all."""
    for k, mode in enumerate(MODES):
        _follow_cases(EVERY[start + k : start + 8 * BATCH : 8], mode)
    _follow_cases(EVERY[start + len(MODES) : start + 8 * BATCH : 8], "auto", REFERENCE)


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("start", range(0, len(EVERY), BATCH))
def test_all_operator_cases(start: int, mode: Any) -> None:
    _follow_cases(EVERY[start : start + BATCH], mode)


@pytest.mark.slow
@pytest.mark.parametrize("entry", EACH_NETWORK)
def test_zoo(entry: Entry) -> None:
    inputs, _ = next(entry.sets())
    follow(load(entry.path).graph, inputs, Choice(), entry.tolerance)


# -- what the verifier finds ---------------------------------------------------------------------------


def program() -> Program:
    """``y[i, j] = x[i, j] + 1`` and ``z = y``, for 3 rows of 4."""
    shape = (3, 4)
    buffers = {n: Buffer(n, DType.FLOAT, shape) for n in ("x", "y", "z")}
    buffers["x"] = replace(buffers["x"], kind="input")
    i, j = Symbol("i", 3), Symbol("j", 4)
    at = (as_poly(i), as_poly(j))
    read = ex.Load(DType.FLOAT, "x", at)
    loops = [
        Loop("y", (i, j), at, read + 1.0),
        Loop("z", (i, j), at, ex.Load(DType.FLOAT, "y", at)),
    ]
    result = Program("p", ("x",), {"out": "z"}, buffers)
    result.statements.extend(loops)
    return result


def change(k: int, **fields: Any) -> Program:
    """The program with some fields of a statement replaced."""
    result = program()
    result.statements[k] = replace(result.statements[k], **fields)  # type: ignore[type-var]
    return result


def test_good_program_is_well_formed() -> None:
    verify(program())


I, J = as_poly(Symbol("i", 3)), as_poly(Symbol("j", 4))
X = ex.Load(DType.FLOAT, "x", (I, J))


def backwards() -> Program:
    result = program()
    result.statements = result.statements[::-1]
    return result


def without_writer() -> Program:
    result = program()
    del result.statements[0]
    return result


def scattered_then_filled() -> Program:
    """``z`` is scattered into before the loop that fills it: what a copy out of order does."""
    result = program()
    at = (ex.as_index(ex.cast(X, DType.INT64), 3), J)
    scatter = Loop("z", (Symbol("i", 3), Symbol("j", 4)), at, X, update="replace")
    result.statements.insert(1, scatter)
    return result


FAULTS = {
    "reads y before statement 1 writes it": backwards,
    "reads y, which nothing writes": without_writer,
    "after statement 1 scattered into it": scattered_then_filled,
    "goes from 1 to 4 along axis 1 of 4": lambda: change(0, index=(I, J + 1)),
    "goes from -1 to 2 along axis 1 of 4": lambda: change(
        1, body=ex.Load(DType.FLOAT, "y", (0, J - 1)), vars=(Symbol("i", 3), Symbol("j", 4))
    ),
    "index k has no value": lambda: change(1, index=(I, as_poly(Symbol("k", 4)))),
    "1 indices for y": lambda: change(0, index=(I,)),
    "index j is not in the target": lambda: change(0, index=(I, 0)),
    "a value of int64 is stored as float": lambda: change(0, body=ex.cast(X, DType.INT64)),
    "there is no buffer w": lambda: change(0, output="w"),
    "'exp' takes 1 arguments, not 2": lambda: change(0, body=ex.Call(DType.FLOAT, "exp", (X, X))),
    "'logical_not' takes no float": lambda: change(
        0, body=ex.Call(DType.FLOAT, "logical_not", (X,))
    ),
    "outside an epilogue": lambda: change(0, body=ex.Acc(DType.FLOAT)),
    "which is an input or a constant": lambda: change(1, output="x"),
    "an index stands twice": lambda: change(0, vars=(Symbol("i", 3), Symbol("i", 3))),
}


@pytest.mark.parametrize("message", FAULTS)
def test_fault_is_named(message: str) -> None:
    with pytest.raises(ProgramError, match=re.escape(message)):
        verify(FAULTS[message]())


@pytest.mark.parametrize(
    ("operand", "message"),
    [
        (Operand("x", DType.FLOAT, (2, 12), 0, (12, 1)), "operand x reaches 0..23 of 12 elements"),
        (Operand("x", DType.FLOAT, (3, 4), 0, (1, 3)), "operand x is not contiguous"),
        (Operand("x", DType.FLOAT, (as_poly(Symbol("k")), 4), 0, (4, 1)), "size k has no value"),
    ],
)
def test_fault_of_an_operand_is_named(operand: Operand, message: str) -> None:
    model = parsed(
        onnx_model([node("TopK", ["x", "k"], ["v", "i"])], [value("x", (3, 4))], ["v"],
                   [tensor("k", np.array([2]))]), "top")  # fmt: skip
    lowered = lower(model.graph, None, CPU)
    (k,) = [k for k, s in enumerate(lowered.statements) if isinstance(s, Operation)]
    kernel = lowered.statements[k]
    assert isinstance(kernel, Operation)
    lowered.statements[k] = kernel.with_inputs((operand, *kernel.inputs[1:]))
    with pytest.raises(ProgramError, match=re.escape(message)):
        verify(lowered)


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_every_stage_says_what_it_needs_and_what_it_leaves(target: Target) -> None:
    for stage in target.stages:
        text = stage.__doc__ or ""
        assert "Needs:" in text, stage
        assert "Leaves:" in text, stage
