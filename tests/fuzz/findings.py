"""What went wrong, told apart by kind, and kept as small reproducers in a folder."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx

from . import batch
from .batch import Job, Run
from .judge import Fault, Judge
from .modes import Mode
from .reference import NotEvaluated
from .sessions import run_in_sessions
from .shrink import Case, shrink
from .stages import first_wrong, run_in_stages


@dataclass(frozen=True)
class Finding:
    """A fault of a seed.

    Attributes:
        seed: of the graph.
        mode: in which it shows.
        fault: what it is.
        case: the graph.
    """

    seed: int
    mode: Mode
    fault: Fault
    case: Case

    @property
    def words(self) -> str:
        """What the fault says of itself, without names and numbers."""
        lines = self.fault.message.strip().splitlines()
        if self.fault.kind in ("load", "generate"):
            lines = lines[-1:]
        elif self.fault.kind in ("compile", "warning"):
            lines = [x for x in lines if "error:" in x or "warning:" in x][:1]
        elif self.fault.kind not in ("error", "crash"):
            lines = []
        plain = re.sub(r"\S+/|'[^']*'|\b[gv]_?\d+\b|\d+", "#", " ".join(lines[:1]))
        return plain[:200]

    @property
    def key(self) -> str:
        """The same for what is probably the same fault: kind, words, and operators."""
        nodes = self.case.model.graph.node
        if self.fault.kind == "reference":  # it is not made small
            last = next((n for n in nodes if self.fault.output in n.output), None)
            return f"reference: {last.op_type if last else self.fault.message}"
        return f"{self.fault.kind}: {' '.join(sorted(n.op_type for n in nodes))[:200]} {self.words}"

    @property
    def rough_key(self) -> str:
        """Likewise, before the graph is small; empty where only its operators tell."""
        if self.fault.kind == "reference":
            return self.key
        return f"{self.fault.kind} {self.words}" if self.words else ""


def run_jobs(jobs: Sequence[Job], folder: Path, only_check: bool = False) -> list[Run]:
    """Runs jobs in the way that their mode says; it is the same for all but for the kernels."""
    if jobs and jobs[0].mode.engine == "stages":
        return run_in_stages(jobs)
    if jobs and jobs[0].mode.engine != "batch":
        return run_in_sessions(jobs, folder)
    return batch.run_jobs(jobs, folder, only_check)


def fault_of(job: Job, run: Run) -> Fault | None:
    """What is wrong with a run, or None."""
    if run.verdict == "refused":
        return None
    if run.verdict != "ran":
        return Fault(run.verdict, "", run.message)
    try:
        judge = Judge(job.model, job.feeds)
        fault = judge.judge(run.sets)
        if fault is not None and job.mode.engine == "stages" and fault.kind != "reference":
            fault = replace(fault, message=f"after {first_wrong(job, judge)}: {fault.message}")
        return fault or judge.interpreter(0)
    except NotEvaluated:
        return None


def made_small(finding: Finding, folder: Path, seconds: float) -> Finding:
    """The finding with the smallest graph that still shows it."""
    kind, text = finding.fault.kind, _essence(finding.fault)
    quick = finding.mode.engine == "batch" and kind in ("load", "generate", "compile")
    faults: dict[int, Fault] = {}

    def test(cases: Sequence[Case]) -> list[bool]:
        jobs = [Job(c.model, c.feeds, finding.mode) for c in cases]
        bad = []
        for case, job, run in zip(cases, jobs, run_jobs(jobs, folder, quick), strict=True):
            fault = None if quick and run.verdict == "ran" else fault_of(job, run)
            same = (
                fault is not None
                and fault.kind == kind
                and (kind == "value" or _essence(fault) == text)
            )
            if same and fault is not None:
                faults[id(case)] = fault
                kept.append(case)
            bad.append(same)
        return bad

    kept: list[Case] = []
    case = shrink(finding.case, finding.fault.output, test, seconds)
    return Finding(finding.seed, finding.mode, faults.get(id(case), finding.fault), case)


def _essence(fault: Fault) -> str:
    """Words that stay the same while the graph shrinks."""
    if fault.kind in ("load", "generate"):
        last = fault.message.strip().splitlines()[-1]
        return re.sub(r"'[^']*'|\bv\d+\b|\d+", "#", last)[:60]
    if fault.kind in ("compile", "warning"):
        lines = [x for x in fault.message.splitlines() if "error:" in x or "warning:" in x][:1]
        return (
            re.sub(
                r"\u2018[^\u2019]*\u2019|'[^']*'|\bv\d+\b|\d+", "#", lines[0].split("error:")[-1]
            )[:50]
            if lines
            else ""
        )
    return ""


def write(finding: Finding, folder: Path) -> Path:
    """A folder with ``model.onnx``, ``inputs.npz`` and ``fault.txt``."""
    place = folder / f"seed_{finding.seed}"
    place.mkdir(parents=True, exist_ok=True)
    onnx.save(finding.case.model, place / "model.onnx")
    arrays = {f"{k}.{n}": a for k, f in enumerate(finding.case.feeds) for n, a in f.items()}
    np.savez(
        place / "inputs.npz",
        **{
            n: a if a.dtype.isbuiltin else a.view(f"u{a.dtype.itemsize}") for n, a in arrays.items()
        },
    )
    (place / "fault.txt").write_text(
        f"seed {finding.seed}\nmode {finding.mode}\n{finding.fault}\n\n{finding.key}\n\n"
        f"{onnx.printer.to_text(finding.case.model)}\n"
    )
    return place


__all__ = ["Finding", "fault_of", "made_small", "run_jobs", "write"]
