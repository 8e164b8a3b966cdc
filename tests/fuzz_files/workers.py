"""Processes that try mutations, and what is found when one of them fails, hangs or dies."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1]

WALL = 20
"""Times the limit of CPU seconds after which a worker that says nothing is ended: it may be in C code."""


START = 600
"""Seconds that a worker may take to import everything, on a machine that does much else."""


@dataclass
class Finding:
    """Mutations that failed in one place: the first of them, and how many there are."""

    number: int
    fault: str
    trace: list[str]
    count: int = 1


@dataclass
class Tally:
    """What came out."""

    outcomes: Counter[str] = field(default_factory=Counter)
    findings: dict[tuple[str, ...], Finding] = field(default_factory=dict)
    tried: int = 0
    slowest: tuple[float, int] = (0.0, -1)

    def add(self, answer: dict[str, Any]) -> Finding | None:
        """Counts an answer; returns a finding that is new."""
        self.tried += 1
        self.slowest = max(self.slowest, (answer.get("seconds", 0.0), answer["number"]))
        if "fault" not in answer:
            self.outcomes[answer["outcome"]] += 1
            return None
        self.outcomes["FAULT"] += 1
        kind = answer["fault"].partition(":")[0]
        place = (answer["fault"] if kind == "process" else kind, *answer["trace"][-1:])
        if place in self.findings:
            self.findings[place].count += 1
            return None
        self.findings[place] = Finding(answer["number"], answer["fault"], answer["trace"])
        return self.findings[place]


@dataclass
class Workers:
    """A few workers.

    Attributes:
        attempt: ``module:Class`` of what a worker calls with each number.
        arguments: of the class, JSON-able.
        count: how many workers.
        seconds: of CPU time for each mutation.
        memory: bytes that a mutation may take beyond those that its worker has when it starts.
    """

    attempt: str
    arguments: dict[str, Any]
    count: int = 2
    seconds: float = 20.0
    memory: int = 1 << 30

    def run(self, numbers: Iterator[int]) -> Iterator[dict[str, Any]]:
        """Tries these mutations; answers come as they are ready."""
        workers: list[_Worker] = [_Worker(self) for _ in range(self.count)]
        try:
            for worker in workers:
                worker.give(next(numbers, None))
            while any(w.number is not None for w in workers):
                busy = [w for w in workers if w.number is not None]
                ready, _, _ = select.select([w.output for w in busy], [], [], 1.0)
                for worker in busy:
                    answer = worker.answer() if worker.output in ready else None
                    if answer is None and worker.is_late():
                        answer = worker.ended("says nothing, not even that it takes too long")
                    if answer is not None:
                        yield answer
                        worker.give(next(numbers, None))
        finally:
            for worker in workers:
                worker.end()


class _Worker:
    def __init__(self, workers: Workers) -> None:
        self.workers = workers
        self.number: int | None = None
        self._start()

    def _start(self) -> None:
        options = {
            "attempt": self.workers.attempt,
            "arguments": self.workers.arguments,
            "seconds": self.workers.seconds,
            "memory": self.workers.memory,
        }
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)])}
        # One malloc arena, so that threads reserve no address space that the limit counts.
        environment |= {
            "MALLOC_ARENA_MAX": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "OMP_NUM_THREADS": "1",
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fuzz_files.worker", json.dumps(options)],
            cwd=TESTS,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            bufsize=0,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.input, self.output = self.process.stdin, self.process.stdout
        self.unread = b""
        self.is_ready = False
        self.since = time.monotonic()

    def give(self, number: int | None) -> None:
        """A mutation to try, or none."""
        self.number = number
        self.since = time.monotonic()
        if number is not None:
            with contextlib.suppress(BrokenPipeError):  # its end is noticed when it is asked
                self.input.write(f"{number}\n".encode())

    def answer(self) -> dict[str, Any] | None:
        """What it says; None where it is ready only now, or has not said all."""
        said = os.read(self.output.fileno(), 1 << 16)
        if not said:
            return self.ended(f"died with status {self.process.wait()}")
        *lines, self.unread = (self.unread + said).split(b"\n")
        for line in lines:
            found: dict[str, Any] = json.loads(line)
            if found:
                return found
            self.is_ready, self.since = True, time.monotonic()
        return None

    def is_late(self) -> bool:
        """Whether it must hang in code that no signal reaches."""
        limit = WALL * self.workers.seconds if self.is_ready else START
        return time.monotonic() - self.since > limit

    def ended(self, why: str) -> dict[str, Any]:
        """An answer in the place of one that did not come, and a new process."""
        answer = {"number": self.number, "fault": f"process: {why}", "trace": []}
        self.end()
        self._start()
        return answer

    def end(self) -> None:
        """Ends the process."""
        self.process.kill()
        self.process.communicate()
