"""Tries code that is not ours in a child process, before cling gets it.

Cling forgets nothing, failures included. After a symbol that nobody defines it cannot link anything that
shares an inline function with the failed code, which is everything that throws; a header with
``#pragma once`` that was read by code with an error is not read again; and it never returns from a text
that ends inside a brace or a comment. The code that sofie_root generates has no such faults, but the code of
custom operators may: a fork of this process declares and links it first, and dies of it if need be.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable

PATIENCE = 900.0
"""Seconds that code may take to be compiled, linked and initialised."""

_TOKEN = re.compile(
    r"""
      //(?:[^\\\n]|\\.|\\\n)*                     # comments
    | /\*.*?\*/
    | (?P<open>/\*)                               # one that does not end
    | R"(?P<mark>[^()\s\\]{0,16})\(.*?\)(?P=mark)"
    | "(?:[^"\\\n]|\\.)*"
    | \.?\d(?:[eEpP][+-]|'?[\w.])*                # numbers; they may have ' in them
    | '(?:[^'\\\n]|\\.)*'
    | ^[ \t]*\#(?P<directive>(?:[^\\\n/]|\\.|/(?!\*))*)
    | \w+
    | [{}]
    """,
    re.VERBOSE | re.MULTILINE | re.DOTALL,
)


def why_incomplete(text: str) -> str | None:
    """Why C++ text ends before it should: inside a comment or a brace; None where it does not."""
    depth = 0
    branches: list[tuple[int, int | None]] = []
    """Of open conditionals: the depth before them, and after a branch. A single one is taken."""
    for token in _TOKEN.finditer(text):
        word = token[0]
        if token["open"]:
            return "it ends inside a comment"
        directive = (token["directive"] or "").strip()
        if directive:
            name = directive.split(None, 1)[0]
            if name.startswith("if"):
                branches.append((depth, depth if directive.split() == ["if", "0"] else None))
            elif name in ("else", "elif", "endif") and branches:
                start, end = branches.pop()
                if end not in (None, depth):
                    return None  # branches that differ: only the preprocessor can tell
                if name != "endif":
                    branches.append((start, depth))
                    depth = start
            elif name == "define" and directive.count("{") != directive.count("}"):
                return None
        elif word in "{}":
            depth += 1 if word == "{" else -1
    return "it ends inside a brace" if depth > 0 else None


def failure_in_child(work: Callable[[], object], symptom: str | None = None) -> str | None:
    """Does something in a fork of this process that ends afterwards.

    Args:
        work: what to do; an exception is a failure.
        symptom: what is in the messages of work that failed without an exception.

    Returns:
        What went wrong: its messages, or how the process ended; None where all went well.
    """
    with tempfile.TemporaryFile() as output:
        sys.stdout.flush()
        sys.stderr.flush()
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", DeprecationWarning
            )  # of forking where there are threads
            child = os.fork()
        if child == 0:
            _work_and_end(work, output.fileno())
        status = _wait(child)
        output.seek(0)
        messages = output.read().decode(errors="replace").strip()
    if status is None:
        return f"it did not end within {PATIENCE:.0f} s\n{messages}"
    if os.WIFSIGNALED(status):
        name = signal.Signals(os.WTERMSIG(status)).name
        return f"it ends the process with {name}\n{messages}"
    code = os.WEXITSTATUS(status)
    if code == _FAILED:
        return messages
    if code == _WORKED:
        return messages if symptom is not None and symptom in messages else None
    how = "exit()" if code == _EXITED else f"exit code {code}"
    return f"it ends the process with {how}\n{messages}"


_WORKED, _FAILED, _EXITED = 107, 108, 109
"""Exit codes of the child."""

_AT_EXIT = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_end_at_once = _AT_EXIT(lambda _: os._exit(_EXITED))


def _work_and_end(work: Callable[[], object], output: int) -> None:
    """In the child: never returns."""
    code = _FAILED
    try:
        for number in (signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT):
            with contextlib.suppress(ValueError):
                signal.signal(number, signal.SIG_DFL)  # ROOT would start a debugger
        with contextlib.suppress(AttributeError):
            # exit() would wait for threads of the parent, which do not exist here.
            ctypes.CDLL(None).__cxa_atexit(_end_at_once, None, None)
        os.dup2(output, 1)
        os.dup2(output, 2)
        work()
        code = _WORKED
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.write(output, str(error).encode(errors="replace"))
    finally:
        os._exit(code)


def _wait(child: int) -> int | None:
    """How the child ended; None where it had to be stopped."""
    deadline, pause = time.monotonic() + PATIENCE, 0.002
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status
        time.sleep(pause)
        pause = min(2 * pause, 0.1)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None
