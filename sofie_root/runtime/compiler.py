"""Compiles generated headers into shared libraries with the C++ compiler of the machine."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

from sofie_root.config import include_dir
from sofie_root.errors import ToolchainError

from .cache import entry
from .trial import failure_in_child

COMPILER_FLAGS = (
    "-std=c++17",
    "-O3",
    "-mcpu=native" if platform.machine() in ("arm64", "aarch64") else "-march=native",
    "-fopenmp-simd",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fvisibility=hidden",  # two models in one process must not share symbols
    "-fPIC",
    "-shared",
)


def find_compiler() -> tuple[str, ...] | None:
    """The command of the C++ compiler: ``$CXX``, which may have flags, else c++, g++ or clang++.

    None if there is none.

    Raises:
        ToolchainError: ``$CXX`` names no program.
    """
    chosen = os.environ.get("CXX", "").strip()
    if not chosen:
        found = map(shutil.which, ("c++", "g++", "clang++"))
        return next(((path,) for path in found if path), None)
    try:
        # A path with a space in it may stand there as it is.
        command = [chosen] if shutil.which(chosen) else shlex.split(chosen)
    except ValueError as error:
        raise ToolchainError(f"CXX={chosen!r} is no command: {error}") from error
    path = shutil.which(command[0]) if command else None
    if path is None:
        raise ToolchainError(
            f"CXX={chosen!r}: there is no program {command[0] if command else ''!r}; set CXX to a C++ "
            "compiler, or unset it to use the one of the system"
        )
    return str(Path(*_current_folder(), path)), *command[1:]


def has_compiler() -> bool:
    """Whether there is a C++ compiler."""
    with contextlib.suppress(ToolchainError):  # CXX is wrong
        return find_compiler() is not None
    return False


def library_path(source: str, digest: str, name: str, is_generated: bool) -> Path:
    """The shared library of a C++ text, from the cache or compiled now.

    Args:
        source: the text; it may include ``<sofie/...>``.
        digest: hash of the text and of all that it includes of ours.
        name: what to call the library.
        is_generated: whether all of it was generated, so that loading it cannot fail in ways that end
            the process.

    Raises:
        ToolchainError: there is no compiler, it fails, or what it makes cannot be loaded.
    """
    compiler = find_compiler()
    if compiler is None:
        raise ToolchainError("there is no C++ compiler")
    parts = [digest, *compiler, _compiler_version(compiler), *COMPILER_FLAGS, _cpu()]
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()
    file = f"{name[:80]}.so"
    folder = entry(
        f"compiled-{name[:80]}-{key[:32]}",
        lambda made: _compile(compiler, source, made / file, is_generated),
        f"compiles {name}",
    )
    return folder / file


def _compile(compiler: tuple[str, ...], source: str, file: Path, is_generated: bool) -> None:
    """Compiles a shared library that can be loaded.

    Raises:
        ToolchainError: with the compiler's messages.
        OSError: the folder is full, or programs in it cannot be run.
    """
    folder = file.parent
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        done = _run_compiler(compiler, source, Path(scratch), file)
        if done.returncode != 0:
            if _runs_out_of_space(done.stderr):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
            # Is it the header? If not, nothing can be compiled.
            probe = "#if __cplusplus < 201703L\n#error C++17 is needed\n#endif\nint probe() { return 1; }\n"
            plain = _run_compiler(compiler, probe, Path(scratch), Path(scratch, "probe.so"))
            what = (
                "make a shared library of any C++17 program"
                if plain.returncode
                else "compile the header"
            )
            messages = (plain if plain.returncode else done).stderr
            raise ToolchainError(f"{shlex.join(compiler)} cannot {what}:\n{excerpt(messages)}")
    problem = None
    if not is_generated:  # what it initialises may throw, which ends a process
        problem = failure_in_child(lambda: ctypes.CDLL(str(file)))
    try:
        if problem is None:
            ctypes.CDLL(str(file))
    except OSError as error:
        problem = str(error)
    if problem is not None:  # it is not kept
        if os.statvfs(folder).f_flag & os.ST_NOEXEC:
            reason = "nothing can be run from there (it is mounted with noexec)"
            raise OSError(errno.EACCES, reason, str(folder))
        raise ToolchainError(
            f"what {shlex.join(compiler)} made of the header cannot be loaded: {excerpt(problem)}"
        )


def _run_compiler(
    compiler: tuple[str, ...], source: str, scratch: Path, result: Path
) -> subprocess.CompletedProcess[str]:
    """Runs the compiler; if it says that all went well, the result is there.

    Raises:
        ToolchainError: it cannot be run, or is no compiler.
    """
    file = scratch / "model.cxx"
    file.write_text(source, encoding="utf-8")
    command = [*compiler, *COMPILER_FLAGS, f"-I{include_dir()}", str(file), "-o", str(result)]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            cwd=None if _current_folder() else scratch,
            env=os.environ | {"TMPDIR": str(scratch), "LC_ALL": "C"},
        )
    except OSError as error:
        raise ToolchainError(f"{shlex.join(compiler)} cannot be run: {error.strerror}") from error
    if done.returncode == 0 and not result.is_file():
        raise ToolchainError(
            f"{shlex.join(compiler)} ended without an error and without a result: is it a C++ compiler?"
        )
    return done


def _runs_out_of_space(messages: str) -> bool:
    reasons = errno.ENOSPC, errno.EDQUOT, errno.EROFS
    return any(os.strerror(reason) in messages for reason in reasons)


def _current_folder() -> tuple[str, ...]:
    """The current folder, unless it was removed."""
    with contextlib.suppress(OSError):
        return (str(Path.cwd()),)
    return ()


@functools.cache
def _compiler_version(compiler: tuple[str, ...]) -> str:
    """What the compiler says of itself; nothing if it cannot be run, which compiling will tell."""
    with contextlib.suppress(OSError):
        return subprocess.run(
            [*compiler, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            cwd=None if _current_folder() else "/",
        ).stdout
    return ""


@functools.cache
def _cpu() -> str:
    """What -march=native depends on: a cache may be shared by machines of several kinds."""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        facts = [
            line
            for line in lines
            if line.startswith(("model name", "flags", "Features", "CPU part"))
        ]
        return "\n".join(sorted(set(facts)))
    return f"{platform.machine()} {platform.processor()} {platform.node()}"


def excerpt(messages: str, lines: int = 30) -> str:
    """The first lines of a compiler's output, which are the ones that matter."""
    all_lines = messages.strip().splitlines()
    more = len(all_lines) - lines
    return "\n".join(all_lines[:lines] + ([f"... and {more} more lines"] if more > 0 else []))
