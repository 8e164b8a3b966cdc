"""Graphs through passes, lowering and every stage of scheduling, and then the interpreter: no compiler."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from sofie_root.errors import SofieError, UnsupportedError
from sofie_root.frontends.onnx import from_proto
from sofie_root.passes.pipeline import optimise
from sofie_root.program.choice import default_choice
from sofie_root.program.interpret import interpret
from sofie_root.program.lower import lower
from sofie_root.program.program import Program
from sofie_root.program.verify import ProgramError, verify
from sofie_root.schedule.inline import Decisions
from sofie_root.targets.cpu.target import CPU

from .batch import Job, Run
from .judge import Judge
from .reference import Array


def run_in_stages(jobs: Sequence[Job]) -> list[Run]:
    """Interprets the scheduled programs of these jobs."""
    return [_run(job) for job in jobs]


def programs(job: Job) -> Iterator[tuple[str, Program]]:
    """The program of a job after it is lowered and after each stage, with the name of the stage.

    Raises:
        SofieError: the model is refused.
        Exception: a stage fails, or leaves a program that is not well formed.
    """
    graph = from_proto(job.model, name="model")
    with job.mode.chosen():
        choice = default_choice(job.mode.exact)
    program = lower(optimise(graph)[0], choice, CPU)
    verify(program)
    yield "lower", program
    for stage in CPU.stages:
        stage(program, Decisions())
        verify(program)
        yield stage.__name__, program


def _run(job: Job) -> Run:
    last: tuple[str, Program | None] = ("load", None)
    try:
        for step in programs(job):
            last = step
    except UnsupportedError as error:
        return Run(
            "refused", "; ".join(sorted({f"{r.operator}: {r.reason}" for r in error.refusals}))
        )
    except ProgramError as error:
        return Run("generate", f"after {last[0]}: {error}")
    except SofieError as error:
        return Run("load", f"{type(error).__name__}: {error}")
    except Exception:  # whatever it is, it is a fault
        return Run("generate", f"after {last[0]}: {traceback.format_exc(limit=-6)}")
    program = last[1]
    assert program is not None
    run = Run("ran")
    for feeds in (*job.feeds, job.feeds[0]):
        try:
            run.sets.append(_outputs(program, feeds))
        except Exception as error:
            run.sets.append(f"{type(error).__name__}: {error}")
    return run


def _outputs(program: Program, feeds: Mapping[str, Array]) -> dict[str, Array]:
    return {n: np.array(a) for n, a in interpret(program, feeds).items()}


def first_wrong(job: Job, judge: Judge) -> str:
    """The stage after which the numbers are wrong for the first time."""
    try:
        for name, program in programs(job):
            sets = [_outputs(program, f) for f in (*job.feeds, job.feeds[0])]
            if judge.judge(sets) is not None:
                return name
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "none"


__all__ = ["first_wrong", "run_in_stages"]
