"""The command ``sofie-root``: inspect, convert, check and profile models, and find the C++ headers."""

from __future__ import annotations

import io
import os
import sys
import traceback
from collections.abc import Sequence

from sofie_root.errors import SofieError

from .arguments import make_parser
from .terminal import printable


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code.

    Args:
        arguments: the words after ``sofie-root``; those of the process if not given.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal may not know all of Unicode
    options = make_parser().parse_args(arguments)
    try:
        code = int(options.run(options))
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # The reader of a pipe (head, less) has gone; nobody wants the rest.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        if options.debug:
            traceback.print_exc()
        else:
            print(f"sofie-root: {_message(error)}", file=sys.stderr)
        return 1


def _message(error: Exception) -> str:
    if isinstance(error, SofieError):
        return printable(str(error))
    if isinstance(error, OSError) and error.strerror:
        return printable(
            f"{error.filename}: {error.strerror}" if error.filename else error.strerror
        )
    what = " ".join(f"{type(error).__name__}: {error}".split())
    return printable(
        f"internal error ({what}); this is a bug of sofie_root. "
        "Run again with --debug and report what it prints"
    )
