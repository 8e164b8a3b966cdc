"""Runs batches in a few processes, and survives those that crash."""

from __future__ import annotations

import multiprocessing as mp
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from .batch import run_batch
from .cases import Case
from .outcome import Outcome

TIME_LIMIT = 900.0
"""Seconds after which a batch counts as hanging."""


@dataclass
class _Worker:
    process: Any
    connection: Connection
    cases: dict[str, Case]
    deadline: float
    current: str = ""


def run_all(
    batches: Sequence[Sequence[Case]], processes: int, report: Callable[[Outcome], None]
) -> None:
    """Runs all batches; each in a process of its own, a few at a time.

    A case that ends its process is wrong; the rest of its batch is run again without it.
    """
    context = mp.get_context("fork")  # the cases hold functions, and are large
    waiting = deque(list(b) for b in batches)
    workers: list[_Worker] = []
    while waiting or workers:
        while waiting and len(workers) < processes:
            workers.append(_start(context, waiting.popleft()))
        for connection in wait([w.connection for w in workers], timeout=1.0):
            worker = next(w for w in workers if w.connection is connection)
            try:
                message = worker.connection.recv()
            except EOFError:
                workers.remove(worker)
                worker.process.join()
                rest = _left_over(worker, f"ended the process ({worker.process.exitcode})", report)
                waiting.extendleft([rest] if rest else [])
                continue
            if isinstance(message, Outcome):
                del worker.cases[message.case]
                report(message)
            else:
                worker.current = message
        for worker in [w for w in workers if time.monotonic() > w.deadline]:
            workers.remove(worker)
            worker.process.kill()
            worker.process.join()
            rest = _left_over(worker, "does not end", report)
            waiting.extendleft([rest] if rest else [])


def _start(context: Any, cases: list[Case]) -> _Worker:
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(cases, sender), daemon=True)
    process.start()
    sender.close()
    return _Worker(process, receiver, {c.id: c for c in cases}, time.monotonic() + TIME_LIMIT)


def _work(cases: list[Case], sender: Connection) -> None:
    run_batch(cases, sender.send, lambda case: sender.send(case.id))
    sender.close()


def _left_over(worker: _Worker, what: str, report: Callable[[Outcome], None]) -> list[Case]:
    if worker.cases and worker.current in worker.cases:
        report(Outcome(worker.current, "wrong", what))
        del worker.cases[worker.current]
    elif worker.cases:
        for name in worker.cases:
            report(Outcome(name, "wrong", f"its batch {what}"))
        worker.cases.clear()
    return list(worker.cases.values())
