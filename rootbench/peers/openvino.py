"""OpenVINO through its C API: float32, one thread, latency mode, static shapes, one bound request."""

from __future__ import annotations

import ctypes
import importlib.util
import os
from pathlib import Path
from typing import Any

import numpy as np

from rootbench.timing import Call, address, library

from .base import Arrays, Job, NotMeasured, Opened

PROPERTIES = {
    "INFERENCE_PRECISION_HINT": "f32",
    "INFERENCE_NUM_THREADS": "1",
    "NUM_STREAMS": "1",
    "PERFORMANCE_HINT": "LATENCY",
    "ENABLE_CPU_PINNING": "NO",
}
_WITHOUT_SNIPPETS = {"SNIPPETS_MODE": "DISABLE"}
"""2026.4 runs out of registers in the code it generates for some quantised networks on one thread."""


class _Context(ctypes.Structure):
    _fields_ = (("function", ctypes.c_void_p), ("argument", ctypes.c_void_p))


class _Dim(ctypes.Structure):
    _fields_ = (("least", ctypes.c_int64), ("most", ctypes.c_int64))


class _Shape(ctypes.Structure):
    _fields_ = (("rank", _Dim), ("dims", ctypes.POINTER(_Dim)))


def find_library() -> Path:
    """``libopenvino_c.so``: that of ``$ROOTBENCH_OPENVINO``, or of the wheel."""
    if chosen := os.environ.get("ROOTBENCH_OPENVINO"):
        return Path(chosen)
    package = importlib.util.find_spec("openvino")
    for folder in (package.submodule_search_locations or []) if package else []:
        for found in sorted(Path(folder, "libs").glob("libopenvino_c.*")):
            return found
    raise NotMeasured("not installed: pip install openvino")


class _Api:
    """The C functions, with their errors as exceptions."""

    def __init__(self, path: Path) -> None:
        self._library = ctypes.CDLL(str(path))
        self._library.ov_get_last_err_msg.restype = ctypes.c_char_p

    def position(self, name: str) -> int:
        """Address of a function."""
        return address(getattr(self._library, name))

    def __call__(self, name: str, *arguments: Any) -> None:
        """Calls a function.

        Raises:
            NotMeasured: with what is the reason in OpenVINO's message, which starts with a stack.
        """
        if getattr(self._library, name)(*arguments):
            text = (self._library.ov_get_last_err_msg() or b"failed").decode(errors="replace")
            lines = [line for line in map(str.strip, text.splitlines()) if line]
            raise NotMeasured(f"{name}: {' '.join(lines[-2:])[-300:]}")

    def create(self, name: str, *arguments: Any, tail: tuple[Any, ...] = ()) -> ctypes.c_void_p:
        """Calls a function that writes a pointer."""
        made = ctypes.c_void_p()
        self(name, *arguments, ctypes.byref(made), *tail)
        return made


def open_model(job: Job) -> Opened:
    """Opens a model."""
    api = _Api(find_library())
    core = api.create("ov_core_create")
    model = api.create("ov_core_read_model", core, ctypes.c_char_p(os.fsencode(job.model)), None)
    _set_shapes(api, model, list(job.inputs.values()))
    note = ""
    try:
        compiled = _compile(api, core, model, PROPERTIES)
    except NotMeasured as refusal:
        try:
            compiled = _compile(api, core, model, PROPERTIES | _WITHOUT_SNIPPETS)
        except NotMeasured:
            raise refusal from None
        note = f"{job.folder.name} is run with SNIPPETS_MODE=DISABLE, since otherwise: {refusal}"
    request = api.create("ov_compiled_model_create_infer_request", compiled)

    def tensor(kind: str, index: int, array: np.ndarray) -> int:
        """Address of the request's own tensor, which must be as large as the array."""
        name = f"ov_infer_request_get_{kind}_tensor_by_index"
        found = api.create(name, request, ctypes.c_size_t(index))
        size, data = ctypes.c_size_t(), ctypes.c_void_p()
        api("ov_tensor_get_byte_size", found, ctypes.byref(size))
        if size.value != array.nbytes:
            raise NotMeasured(f"{kind} {index} has {size.value} bytes instead of {array.nbytes}")
        api("ov_tensor_data", found, ctypes.byref(data))
        return data.value or 0

    for k, array in enumerate(job.inputs.values()):
        source = np.ascontiguousarray(array)
        ctypes.memmove(tensor("input", k, source), source.ctypes.data, source.nbytes)
    api("ov_infer_request_infer", request)

    def outputs() -> Arrays:
        results: Arrays = {}
        for k, (name, like) in enumerate(job.expected.items()):
            results[name] = np.empty_like(like)
            ctypes.memmove(results[name].ctypes.data, tensor("output", k, like), like.nbytes)
        return results

    outputs()  # refuses what does not fit before anything is timed
    context = _Context(api.position("ov_infer_request_infer"), request)
    call = Call(address(library().call_pointer), ctypes.addressof(context), (api, context))
    return Opened(call, outputs, note)


def _set_shapes(api: _Api, model: ctypes.c_void_p, arrays: list[np.ndarray]) -> None:
    """Makes the inputs' shapes static, where the file leaves them open."""
    dims = [(_Dim * (a.ndim + 1))(*(_Dim(n, n) for n in a.shape)) for a in arrays]
    shapes = [_Shape(_Dim(a.ndim, a.ndim), d) for a, d in zip(arrays, dims, strict=True)]
    count = len(arrays)
    ports = (ctypes.c_size_t * count)(*range(count))
    sizes = (_Shape * count)(*shapes)
    api("ov_model_reshape_by_port_indexes", model, ports, sizes, ctypes.c_size_t(count))


def _compile(
    api: _Api, core: ctypes.c_void_p, model: ctypes.c_void_p, properties: dict[str, str]
) -> ctypes.c_void_p:
    words = tuple(ctypes.c_char_p(w.encode()) for pair in properties.items() for w in pair)
    count = ctypes.c_size_t(len(words))
    device = ctypes.c_char_p(b"CPU")
    return api.create("ov_core_compile_model", core, model, device, count, tail=words)
