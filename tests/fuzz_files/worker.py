"""A process that tries mutations, with a limit of memory and of time for each.

Reads numbers from standard input, a line each, and answers each with a line of JSON. ``workers.py`` talks
to it, and notices when it hangs or dies.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import resource
import signal
import sys
import time
import traceback
import warnings
from pathlib import Path
from types import FrameType
from typing import Any


class OutOfTimeError(BaseException):
    """Is no Exception, so that nothing takes it for a damaged file."""


def _stop(_signal: int, _frame: FrameType | None) -> None:
    raise OutOfTimeError


def _memory_now() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


def main() -> None:
    """Answers until standard input ends."""
    options: dict[str, Any] = json.loads(sys.argv[1])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever is printed is no answer
    warnings.simplefilter("ignore")
    module, _, name = options["attempt"].partition(":")
    arguments = dict(options["arguments"])
    attempt = getattr(importlib.import_module(module), name)(**arguments)
    with contextlib.suppress(Exception):
        attempt(0)  # imports all there is to import
    signal.signal(signal.SIGPROF, _stop)
    limit = _memory_now() + options["memory"]
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    print("{}", file=answers, flush=True)  # is ready
    for line in sys.stdin:
        answer = _try(attempt, int(line), options["seconds"])
        print(json.dumps(answer), file=answers, flush=True)


def _try(attempt: Any, number: int, seconds: float) -> dict[str, Any]:
    began = time.process_time()
    answer: dict[str, Any] = {"number": number}
    try:
        signal.setitimer(signal.ITIMER_PROF, seconds)
        try:
            answer["outcome"] = attempt(number)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
    except OutOfTimeError as error:
        answer |= {"fault": f"takes more than {seconds} s", "trace": _trace(error)}
    except BaseException as error:
        answer |= {"fault": f"{type(error).__name__}: {error}"[:300], "trace": _trace(error)}
    answer["seconds"] = time.process_time() - began
    return answer


def _trace(error: BaseException) -> list[str]:
    """Where it happened, innermost last; of a chain of errors the first one's place."""
    while error.__context__ is not None and not isinstance(error, (OutOfTimeError, AssertionError)):
        error = error.__context__
    frames = traceback.extract_tb(error.__traceback__)
    return [f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in frames][-8:]


if __name__ == "__main__":
    main()
