"""Translation validation: whether what will be printed computes what the model does, for one set of inputs.

The inputs run through the meaning of the operators (the graph as it was read, interpreted) and through the
steps of the schedule inside the planned arena. Where the results differ by more than rounding, the passes and
the stages of scheduling run again one by one to find the first that changes the numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from sofie_root.accuracy import ROUNDING, Exact, agree, evaluate_exactly
from sofie_root.budget import stage
from sofie_root.errors import BudgetError, SofieError, ValidationError
from sofie_root.ir import Graph
from sofie_root.passes.pipeline import PASSES
from sofie_root.program.grid import Array, Memory
from sofie_root.program.interpret import evaluate, read_inputs, run_statement
from sofie_root.program.lower import lower
from sofie_root.program.nest import Nest
from sofie_root.program.program import Program
from sofie_root.program.uses import writes

from .inline import Decisions
from .run import run, title, used_by
from .schedule import Schedule

TOLERANCE, NARROW_TOLERANCE = 1e-4, 2e-2
"""Largest differences that nobody looks at twice, in units of the largest element; of 16-bit floats."""

FAILURES = (SofieError, IndexError, KeyError, ValueError, AssertionError)
"""What a wrong program may raise when it runs."""


@dataclass
class Expected:
    """What a model makes of inputs, and whether something else is the same but for rounding.

    Attributes:
        graph: the model as it was read.
        inputs: arrays by name.
        outputs: what the graph makes of them.
    """

    graph: Graph
    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]

    @cached_property
    def exact(self) -> dict[str, Exact]:
        """The outputs in double, with what rounding may change."""
        return evaluate_exactly(self.graph, self.inputs)

    def differing(self, outputs: Mapping[str, Array]) -> str | None:
        """The first output that differs by more than rounding."""
        for name, expected in self.outputs.items():
            found = np.asarray(outputs[name])
            if agree(found, np.asarray(expected), _tolerance(found)):
                continue
            if found.shape != np.shape(expected) or found.dtype != expected.dtype:
                return name
            # It may still be right: the model may amplify the last bits of its inputs.
            try:
                units = self.exact[name].distance(found)
            except BudgetError:
                units = 0.0 if agree(found, np.asarray(expected)) else np.inf
            if units > ROUNDING:
                return name
        return None


def _tolerance(array: Array) -> float:
    return NARROW_TOLERANCE if array.dtype.itemsize == 2 else TOLERANCE


def validate(schedule: Schedule, graph: Graph, expected: Expected) -> None:
    """Compares what the steps of a schedule compute with what the model does.

    Args:
        schedule: what will be printed.
        graph: the optimised graph of which it was made.
        expected: what it should compute.

    Raises:
        ValidationError: they differ by more than rounding. Names the pass or stage after which the numbers
            are other ones, the node and the tensor, as far as they can be told.
        BudgetError: the run takes more work or memory than its budget.
    """
    with stage(), np.errstate(all="ignore"):
        tensor, reason = None, ""
        try:
            tensor = expected.differing(run(schedule, expected.inputs))
        except BudgetError:
            raise
        except ValidationError as error:
            raise _error("the plan of the arena", str(error), error.tensor, error.node) from error
        except FAILURES as error:
            reason = str(error)
        if tensor is not None or reason:
            raise _blame(schedule, graph, expected, tensor, reason)


def _error(
    where: str, reason: str = "", tensor: str | None = None, node: str | None = None
) -> ValidationError:
    text = f": {reason}" if reason else ""
    error = ValidationError(
        f"after {where} the program computes something else than the model does{text}. This is a bug of "
        "sofie_root: please report it. Without validation (verify=False, --no-verify) the header is written "
        "all the same, and wrong",
        tensor=tensor,
        node=node,
    )
    error.stage = where
    return error


def _blame(
    schedule: Schedule, graph: Graph, expected: Expected, tensor: str | None, reason: str
) -> ValidationError:
    """The error that names the first pass, stage or step after which the numbers differ."""
    try:
        tensor_of_graph = expected.differing(evaluate(graph, expected.inputs))
    except FAILURES as error:
        tensor_of_graph, reason = next(iter(graph.outputs)), str(error)
    if tensor_of_graph is not None:
        return _blame_passes(expected, tensor_of_graph, reason)
    program = lower(graph, schedule.program.choice, schedule.target)
    before: Memory | None = None
    for name, change in [("lower", None), *((s.__name__, s) for s in schedule.target.stages)]:
        try:
            if change is not None:
                change(program, Decisions())
            after = _interpreted(program, expected.inputs)
        except FAILURES as error:
            return _error(name, str(error), tensor)
        outputs = {public: after.array(b) for public, b in program.outputs.items()}
        wrong = expected.differing(outputs)
        if wrong is not None:
            return _error(name, "", _first_change(program, before, after) or wrong)
        before = after
    assert before is not None
    return _blame_steps(schedule, expected, before, tensor, reason)


def _blame_passes(expected: Expected, tensor: str, reason: str) -> ValidationError:
    graph = expected.graph
    for change in PASSES:
        graph = change(graph).graph
        try:
            wrong = expected.differing(evaluate(graph, expected.inputs))
        except FAILURES as error:
            return _error(f"the pass {change.__name__}", str(error), tensor)
        if wrong is not None:
            return _error(f"the pass {change.__name__}", "", wrong)
    return _error("the passes", reason, tensor)


def _interpreted(program: Program, inputs: Mapping[str, Array]) -> Memory:
    """All that the statements of a program compute."""
    memory = Memory(program, dict(program.constants), {})
    read_inputs(memory, inputs)
    for statement in program.statements:
        run_statement(memory, statement)
    return memory


def _first_change(program: Program, before: Memory | None, after: Memory) -> str | None:
    """The first buffer whose content a stage has changed."""
    for statement in program.statements if before is not None else ():
        assert before is not None
        for name in sorted(writes(statement)):
            if _differs(before.arrays.get(name), after.arrays.get(name)):
                return name
    return None


def _differs(a: Array | None, b: Array | None) -> bool:
    """Whether two buffers of one form hold other numbers."""
    if a is None or b is None or a.shape != b.shape or a.dtype != b.dtype:
        return False
    return not agree(a, b, 10 * _tolerance(a))


def _blame_steps(
    schedule: Schedule, expected: Expected, right: Memory, tensor: str | None, reason: str
) -> ValidationError:
    """The error that names the first step that is wrong, by comparing what each one reads and writes."""
    written = [_written(schedule, k) for k in range(len(schedule.steps))]
    last = {name: k for k, names in enumerate(written) for name in names}
    found: list[ValidationError] = []
    done = -1

    def observe(k: int, memory: Memory) -> None:
        nonlocal done
        done = k
        if found:
            return
        step = title(schedule, k)
        for name in sorted(used_by(schedule, k)):
            final = last.get(name, -1)
            if final <= k and _differs(right.arrays.get(name), memory.arrays.get(name)):
                what = "reads it after something else was written there" if final < k else ""
                found.append(_error(_step(schedule, k), what, name, step))
                return

    try:
        run(schedule, expected.inputs, observe)
    except FAILURES as error:
        k = done + 1
        at = _error(
            _step(schedule, k), str(error), next(iter(written[k]), tensor), title(schedule, k)
        )
        found.append(at)
    return found[0] if found else _error("the last step in the arena", reason, tensor)


def _step(schedule: Schedule, k: int) -> str:
    return f"step {k + 1} of {len(schedule.steps)} in the arena"


def _written(schedule: Schedule, k: int) -> Sequence[str]:
    step: Any = schedule.steps[k]
    if isinstance(step, Nest):
        return [loop.output for loop in step.loops() if loop.output not in step.locals]
    return sorted(writes(step))


__all__ = ["Expected", "validate"]
