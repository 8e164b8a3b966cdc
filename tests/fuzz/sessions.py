"""Graphs through ``Model.session``, as users run them: by cling or by its compiler, in other processes."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx

from sofie_root.errors import SofieError, ToolchainError, UnsupportedError

from .batch import Job, Run

LIMIT = 600
"""Seconds for all graphs of a process."""


def run_in_sessions(jobs: Sequence[Job], folder: Path) -> list[Run]:
    """Runs jobs of one engine; one that ends the process is a crash, and the others go on without it.

    Args:
        jobs: what is run.
        folder: for the files, and for a cache of its own.
    """
    place = folder / "sessions"
    place.mkdir(parents=True, exist_ok=True)
    for k, job in enumerate(jobs):
        onnx.save(job.model, place / f"{k}.onnx")
        (place / f"{k}.in").write_bytes(pickle.dumps((job.mode, list(job.feeds))))
        (place / f"{k}.out").unlink(missing_ok=True)
    environment = os.environ | {"SOFIE_ROOT_CACHE": str(place / "cache")}
    runs: list[Run] = []
    while len(runs) < len(jobs):
        numbers = [str(k) for k in range(len(runs), len(jobs))]
        command = [sys.executable, "-m", __spec__.name, str(place), *numbers]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, timeout=LIMIT, env=environment
            )
            end = f"the process ended with {done.returncode}\n{done.stderr[-3000:]}"
        except subprocess.TimeoutExpired:
            end = f"not done in {LIMIT} s"
        while len(runs) < len(jobs) and (place / f"{len(runs)}.out").exists():
            runs.append(pickle.loads((place / f"{len(runs)}.out").read_bytes()))
        if str(len(runs)) == numbers[0]:
            runs.append(Run("crash", end))
    return runs


def _run(path: Path, engine: Any, exact: bool, sets: Sequence[Any]) -> Run:
    from sofie_root import load

    try:
        session = load(path).session(jit=engine, exact=exact)
    except UnsupportedError as error:
        return Run(
            "refused", "; ".join(sorted({f"{r.operator}: {r.reason}" for r in error.refusals}))
        )
    except ToolchainError as error:
        return Run("compile", str(error))
    except SofieError as error:
        return Run("load", f"{type(error).__name__}: {error}")
    except Exception as error:  # whatever it is, it is a fault
        return Run("generate", f"{type(error).__name__}: {error}")
    run = Run("ran")
    for feeds in (*sets, sets[0]):
        try:
            run.sets.append(dict(session.run(feeds)))
        except Exception as error:
            run.sets.append(f"{type(error).__name__}: {error}")
    return run


def main(arguments: Sequence[str]) -> None:
    """Runs these numbers in a folder; each result is written when it is known."""
    place = Path(arguments[0])
    for k in arguments[1:]:
        mode, sets = pickle.loads((place / f"{k}.in").read_bytes())
        engine = "cling" if mode.engine == "cling" else "compiler"
        with mode.chosen():
            run = _run(place / f"{k}.onnx", engine, mode.exact, sets)
        (place / f"{k}.part").write_bytes(pickle.dumps(run))
        (place / f"{k}.part").rename(place / f"{k}.out")
        if run.verdict != "ran":
            return  # what cling could not compile may be in the way of the next ones


if __name__ == "__main__":
    main(sys.argv[1:])
