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


class _Context(ctypes.Structure):
    _fields_ = (("function", ctypes.c_void_p), ("argument", ctypes.c_void_p))


def find_library() -> Path:
    """``libopenvino_c.so``: that of ``$ROOTBENCH_OPENVINO``, or of the wheel."""
    if chosen := os.environ.get("ROOTBENCH_OPENVINO"):
        return Path(chosen)
    package = importlib.util.find_spec("openvino")
    for folder in (package.submodule_search_locations or []) if package else []:
        for found in sorted(Path(folder, "libs").glob("libopenvino_c.*")):
            return found
    raise NotMeasured("not installed: pip install openvino")


def openvino(job: Job) -> Opened:
    """Opens a model."""
    lib = ctypes.CDLL(str(find_library()))
    lib.ov_get_last_err_msg.restype = ctypes.c_char_p

    def call(name: str, *arguments: Any) -> None:
        if getattr(lib, name)(*arguments):
            text = (lib.ov_get_last_err_msg() or b"failed").decode(errors="replace")
            raise NotMeasured(f"{name}: {text.strip()[:300]}")

    def create(name: str, *arguments: Any, options: tuple[ctypes.c_char_p, ...] = ()) -> Any:
        made = ctypes.c_void_p()
        call(name, *arguments, ctypes.byref(made), *options)
        return made

    core = create("ov_core_create")
    model = create("ov_core_read_model", core, ctypes.c_char_p(os.fsencode(job.model)), None)
    words = tuple(ctypes.c_char_p(w.encode()) for pair in PROPERTIES.items() for w in pair)
    count = ctypes.c_size_t(len(words))
    device = ctypes.c_char_p(b"CPU")
    compiled = create("ov_core_compile_model", core, model, device, count, options=words)
    request = create("ov_compiled_model_create_infer_request", compiled)

    def tensor(kind: str, index: int, array: np.ndarray) -> int:
        """Address of the request's own tensor, which must be as large as the array."""
        name = f"ov_infer_request_get_{kind}_tensor_by_index"
        found = create(name, request, ctypes.c_size_t(index))
        size, data = ctypes.c_size_t(), ctypes.c_void_p()
        call("ov_tensor_get_byte_size", found, ctypes.byref(size))
        if size.value != array.nbytes:
            raise NotMeasured(f"{kind} {index} has {size.value} bytes instead of {array.nbytes}")
        call("ov_tensor_data", found, ctypes.byref(data))
        return data.value or 0

    for k, array in enumerate(job.inputs.values()):
        source = np.ascontiguousarray(array)
        ctypes.memmove(tensor("input", k, source), source.ctypes.data, source.nbytes)
    call("ov_infer_request_infer", request)

    def outputs() -> Arrays:
        results: Arrays = {}
        for k, (name, like) in enumerate(job.expected.items()):
            results[name] = np.empty_like(like)
            ctypes.memmove(results[name].ctypes.data, tensor("output", k, like), like.nbytes)
        return results

    outputs()  # refuses what does not fit before anything is timed
    context = _Context(address(lib.ov_infer_request_infer), request)
    keep = (lib, context)
    return Opened(Call(address(library().call_pointer), ctypes.addressof(context), keep), outputs)
