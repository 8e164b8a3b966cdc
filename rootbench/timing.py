"""The C++ timing loop: compiles ``timing.cpp`` and calls it."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sofie_root.config import include_dir
from sofie_root.runtime.compiler import find_compiler

PythonCall = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)
"""Makes a function that C++ can call from one of Python's."""

SOURCE = Path(__file__).with_name("timing.cpp")
FLAGS = ("-std=c++17", "-O3", "-march=native", "-fPIC", "-shared")


class BenchError(Exception):
    """Something that the user of the benchmark should read; no traceback."""


@dataclass(frozen=True)
class Call:
    """A function ``int f(void*)`` that runs a model once, and its argument.

    Attributes:
        function: its address.
        context: address of the argument.
        keep: Python objects that must live as long as calls are made.
    """

    function: int
    context: int
    keep: tuple[Any, ...] = ()


class CallError(BenchError):
    """A contender's call returned an error."""


def compile_shared(source: Path, flags: tuple[str, ...] = (), tail: tuple[str, ...] = ()) -> Path:
    """Compiles a C++ file into a shared library in the work folder, once per content and flags.

    Raises:
        BenchError: no compiler, or what the compiler said.
    """
    compiler = find_compiler()
    if compiler is None:
        raise BenchError("no C++ compiler was found: install g++ or set CXX")
    words = [*compiler, *FLAGS, *flags]
    key = hashlib.sha256("\0".join([*words, *tail]).encode() + source.read_bytes()).hexdigest()[:16]
    target = work_folder() / f"{source.stem}-{key}.so"
    if not target.exists():
        scratch = target.with_suffix(f".{os.getpid()}.tmp")
        command = [*words, str(source), "-o", str(scratch), *tail]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BenchError(f"{source.name} does not compile:\n{done.stderr[:3000]}")
        scratch.replace(target)
    return target


def work_folder() -> Path:
    """Where models, libraries and raw results of this run lie: ``$ROOTBENCH_WORK``."""
    folder = Path(os.environ.get("ROOTBENCH_WORK", Path(__file__).parent / "results" / "work"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@functools.cache
def library() -> ctypes.CDLL:
    """The compiled ``timing.cpp``."""
    lib = ctypes.CDLL(str(compile_shared(SOURCE, (f"-I{include_dir()}",), ("-ldl",))))
    size, pointer = ctypes.c_size_t, ctypes.c_void_p
    lib.time_warm.argtypes = (pointer, pointer, size, pointer)
    lib.time_flushed.argtypes = (pointer, pointer, pointer, size, size, pointer)
    lib.allocations_per_call.argtypes = (pointer, pointer, ctypes.c_longlong)
    lib.allocations_per_call.restype = ctypes.c_longlong
    lib.peak_gflops.argtypes = (ctypes.c_double,)
    lib.peak_gflops.restype = ctypes.c_double
    lib.read_gbytes.argtypes = (size, ctypes.c_double)
    lib.read_gbytes.restype = ctypes.c_double
    return lib


def address(function: Any) -> int:
    """Address of a ctypes function."""
    return ctypes.cast(function, ctypes.c_void_p).value or 0


def warm(call: Call, repeats: int) -> float:
    """Nanoseconds per call over that many calls in a row.

    Raises:
        CallError: a call returned an error.
    """
    result = ctypes.c_double()
    status = library().time_warm(call.function, call.context, repeats, ctypes.addressof(result))
    if status:
        raise CallError(f"a call returned status {status}")
    return result.value


def flushed(call: Call, memory: np.ndarray, repeats: int) -> np.ndarray:
    """Nanoseconds of single calls, each after ``memory`` has gone through the caches.

    Raises:
        CallError: a call returned an error.
    """
    times = np.empty(repeats)
    status = library().time_flushed(
        call.function, call.context, memory.ctypes.data, memory.nbytes, repeats, times.ctypes.data
    )
    if status:
        raise CallError(f"a call returned status {status}")
    return times


def allocations(call: Call, repeats: int = 2) -> int | None:
    """Allocations per call, or None where they are not counted (see :func:`counting_library`)."""
    found = library().allocations_per_call(call.function, call.context, repeats)
    return None if found < 0 else int(found)


def counting_library() -> Path | None:
    """What to load before the C library so that allocations are counted; None without glibc."""
    if platform.libc_ver()[0] != "glibc":
        return None
    return compile_shared(SOURCE.with_name("counting.cpp"))


def clock_overhead() -> float:
    """Nanoseconds that timing one empty call takes; to be subtracted from single calls."""
    nothing = Call(address(library().call_nothing), 0)
    return float(np.median(flushed(nothing, np.zeros(64, np.uint8), 1001)))


def last_level_cache() -> int:
    """Bytes of the largest cache of this core; 32 MiB where the system does not say."""
    sizes = [32 << 20]
    for file in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = file.read_text().strip()
        units = {"K": 10, "M": 20, "G": 30}
        sizes.append(int(text[:-1]) << units[text[-1]] if text[-1] in units else int(text))
    return max(sizes)
