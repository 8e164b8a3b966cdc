"""Work in a process of its own: ONNX Runtime ends the process at some of the nodes that are drawn."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


class Died(Exception):  # noqa: N818
    """The process ended without a result; what it said stands in the log."""


def apart(work: Callable[[], Result]) -> Result:
    """What ``work`` returns in a fork of this process; it can be pickled.

    Raises:
        Died: that process ended before, by a signal or an exception.
    """
    context = multiprocessing.get_context("fork")
    receive, send = context.Pipe(duplex=False)

    def run() -> None:
        for fatal in (signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL):
            signal.signal(
                fatal, signal.SIG_DFL
            )  # ROOT, where it is loaded, has handlers of its own
        send.send(work())

    process = context.Process(target=run, daemon=True)
    process.start()
    send.close()  # the child has the only one, so that its end is the end of the pipe
    try:
        result: Result = receive.recv()
    except EOFError:
        process.join()
        raise Died(f"the process ended with {_name(process.exitcode or 0)}") from None
    finally:
        receive.close()
    process.join()
    return result


def _name(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


__all__ = ["Died", "apart"]
