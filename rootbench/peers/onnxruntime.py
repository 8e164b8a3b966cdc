"""ONNX Runtime through its C API: one thread, all optimisations, inputs and outputs bound once.

The wheel carries the shared library but no header, so functions are taken from ``OrtApi`` by position.
The positions never change: the table only grows ("the order of the APIs in this struct should match",
says ONNX Runtime's own C# binding, which lists them).
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from rootbench.timing import Call, address, library

from .base import Job, NotMeasured, Opened

POSITIONS = {
    "GetErrorMessage": 2,
    "CreateEnv": 3,
    "CreateSession": 7,
    "CreateSessionOptions": 10,
    "SetSessionGraphOptimizationLevel": 23,
    "SetIntraOpNumThreads": 24,
    "SetInterOpNumThreads": 25,
    "CreateRunOptions": 39,
    "CreateTensorWithDataAsOrtValue": 49,
    "GetDimensionsCount": 61,
    "GetDimensions": 62,
    "GetTensorTypeAndShape": 65,
    "CreateCpuMemoryInfo": 69,
    "Run": 9,
    "RunWithBinding": 133,
    "CreateIoBinding": 134,
    "BindInput": 136,
    "BindOutput": 137,
}
_API_VERSION = 12  # the oldest that has them all
_LOG_ERRORS, _ENABLE_ALL, _DEVICE_ALLOCATOR, _DEFAULT_MEMORY = 3, 99, 0, 0


class _Base(ctypes.Structure):
    _fields_ = (
        ("get_api", ctypes.CFUNCTYPE(ctypes.POINTER(ctypes.c_void_p), ctypes.c_uint32)),
        ("version", ctypes.CFUNCTYPE(ctypes.c_char_p)),
    )


class _Context(ctypes.Structure):
    _fields_ = (
        ("run_with_binding", ctypes.c_void_p),
        ("session", ctypes.c_void_p),
        ("run_options", ctypes.c_void_p),
        ("binding", ctypes.c_void_p),
    )


class Api:
    """The C functions that are needed, with their errors as exceptions."""

    def __init__(self, path: Path) -> None:
        self._library = ctypes.CDLL(str(path))
        get_base = self._library.OrtGetApiBase
        get_base.restype = ctypes.POINTER(_Base)
        base = get_base().contents
        self.version = base.version().decode()
        self._table = base.get_api(_API_VERSION)
        if not self._table:
            raise NotMeasured(
                f"ONNX Runtime {self.version} lacks version {_API_VERSION} of its API"
            )

    def position(self, name: str) -> int:
        """Address of a function."""
        return int(self._table[POSITIONS[name]])

    def __call__(self, name: str, *arguments: Any) -> None:
        """Calls a function that returns a status.

        Raises:
            NotMeasured: with ONNX Runtime's message.
        """
        kinds = [type(a) for a in arguments]
        status = ctypes.CFUNCTYPE(ctypes.c_void_p, *kinds)(self.position(name))(*arguments)
        if status:
            message = ctypes.CFUNCTYPE(ctypes.c_char_p, ctypes.c_void_p)
            text = message(self.position("GetErrorMessage"))(status)
            raise NotMeasured(f"{name}: {text.decode(errors='replace')}")

    def create(self, name: str, *arguments: Any) -> ctypes.c_void_p:
        """Calls a function whose last argument is where it writes a pointer."""
        made = ctypes.c_void_p()
        self(name, *arguments, ctypes.c_void_p(ctypes.addressof(made)))
        return made


def find_library() -> Path:
    """``libonnxruntime.so``: that of ``$ROOTBENCH_ONNXRUNTIME``, or of the wheel."""
    if chosen := os.environ.get("ROOTBENCH_ONNXRUNTIME"):
        return Path(chosen)
    package = importlib.util.find_spec("onnxruntime")
    for folder in (package.submodule_search_locations or []) if package else []:
        for found in sorted(Path(folder, "capi").glob("libonnxruntime.*")):
            return found
    raise NotMeasured("no libonnxruntime: pip install onnxruntime, or set ROOTBENCH_ONNXRUNTIME")


def open_model(job: Job) -> Opened:
    """Opens a model."""
    api = Api(find_library())
    env = api.create("CreateEnv", ctypes.c_int(_LOG_ERRORS), ctypes.c_char_p(b"rootbench"))
    options = api.create("CreateSessionOptions")
    api("SetIntraOpNumThreads", options, ctypes.c_int(1))
    api("SetInterOpNumThreads", options, ctypes.c_int(1))
    api("SetSessionGraphOptimizationLevel", options, ctypes.c_int(_ENABLE_ALL))
    path = ctypes.c_char_p(os.fsencode(job.model))
    session = api.create("CreateSession", env, path, options)
    run_options = api.create("CreateRunOptions")
    cpu = ctypes.c_int(_DEVICE_ALLOCATOR), ctypes.c_int(_DEFAULT_MEMORY)
    memory = api.create("CreateCpuMemoryInfo", *cpu)

    def value(array: np.ndarray) -> ctypes.c_void_p:
        shape = (ctypes.c_int64 * (array.ndim + 1))(*array.shape)
        kind = int(onnx.helper.np_dtype_to_tensor_dtype(array.dtype))
        return api.create(
            "CreateTensorWithDataAsOrtValue",
            memory,
            ctypes.c_void_p(array.ctypes.data),
            ctypes.c_size_t(array.nbytes),
            ctypes.c_void_p(ctypes.addressof(shape)),
            ctypes.c_size_t(array.ndim),
            ctypes.c_int(kind),
        )

    inputs = {n: np.ascontiguousarray(a) for n, a in job.inputs.items()}
    in_values = {n: value(a) for n, a in inputs.items()}
    # The first run allocates its outputs; their shapes are those of all runs on these inputs.
    first = _run(api, session, run_options, in_values, list(job.expected))
    outputs = {
        n: np.empty(_shape(api, v), job.expected[n].dtype)
        for n, v in zip(job.expected, first, strict=True)
    }
    binding = api.create("CreateIoBinding", session)
    for name, v in in_values.items():
        api("BindInput", binding, ctypes.c_char_p(name.encode()), v)
    for name, array in outputs.items():
        api("BindOutput", binding, ctypes.c_char_p(name.encode()), value(array))
    context = _Context(api.position("RunWithBinding"), session, run_options, binding)
    keep = (api, inputs, outputs, context)
    call = Call(address(library().call_onnxruntime), ctypes.addressof(context), keep)
    return Opened(call, lambda: outputs)


def _run(
    api: Api,
    session: ctypes.c_void_p,
    run_options: ctypes.c_void_p,
    inputs: dict[str, ctypes.c_void_p],
    outputs: Sequence[str],
) -> list[ctypes.c_void_p]:
    """One run with outputs that ONNX Runtime allocates."""
    results = (ctypes.c_void_p * len(outputs))()
    in_names = (ctypes.c_char_p * (len(inputs) + 1))(*(n.encode() for n in inputs))
    in_values = (ctypes.c_void_p * (len(inputs) + 1))(*(v.value for v in inputs.values()))
    out_names = (ctypes.c_char_p * len(outputs))(*(n.encode() for n in outputs))
    api(
        "Run",
        session,
        run_options,
        ctypes.c_void_p(ctypes.addressof(in_names)),
        ctypes.c_void_p(ctypes.addressof(in_values)),
        ctypes.c_size_t(len(inputs)),
        ctypes.c_void_p(ctypes.addressof(out_names)),
        ctypes.c_size_t(len(outputs)),
        ctypes.c_void_p(ctypes.addressof(results)),
    )
    return [ctypes.c_void_p(r) for r in results]


def _shape(api: Api, value: ctypes.c_void_p) -> tuple[int, ...]:
    info = api.create("GetTensorTypeAndShape", value)
    rank = ctypes.c_size_t()
    api("GetDimensionsCount", info, ctypes.c_void_p(ctypes.addressof(rank)))
    dims = (ctypes.c_int64 * (rank.value + 1))()
    api("GetDimensions", info, ctypes.c_void_p(ctypes.addressof(dims)), rank)
    return tuple(dims[: rank.value])
