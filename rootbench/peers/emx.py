"""emx-onnx-cgen, which prints plain C from ONNX models of fixed shapes; the system's C compiler builds it."""

from __future__ import annotations

import ctypes
import os
import shlex
import shutil
import subprocess
import sys
from importlib.util import find_spec

import numpy as np

from rootbench.timing import Call, address

from .base import Job, NotMeasured, Opened

FLAGS = ("-std=gnu11", "-O3", "-march=native", "-ffast-math", "-fPIC", "-shared", "-w")
STACK_BYTES = 1 << 16
"""Temporaries up to this size are on the stack; the tool's own default, 1 kB, allocates far more often."""


def find_generator() -> None:
    """Raises :class:`NotMeasured` where the package or a C compiler is missing."""
    if find_spec("emx_onnx_cgen") is None:
        raise NotMeasured("not installed: pip install emx-onnx-cgen")
    if shutil.which(_compiler()[0]) is None:
        raise NotMeasured("no C compiler was found: set CC")


def _compiler() -> list[str]:
    return shlex.split(os.environ.get("CC", "")) or ["cc"]


def open_model(job: Job) -> Opened:
    """Generates, compiles and binds the model's inputs and outputs, which are arguments in graph order."""
    find_generator()
    folder = job.folder / "emx"
    folder.mkdir(exist_ok=True)
    source, library = folder / "model.c", folder / "model.so"
    options = ["--model-name", "model", "--restrict-arrays", "--large-temp-threshold", STACK_BYTES]
    generate = [sys.executable, "-m", "emx_onnx_cgen", "compile", job.model, source.name]
    generate = [str(word) for word in (*generate, *options)]
    done = subprocess.run(generate, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotMeasured(f"refused by emx-onnx-cgen: {(done.stdout + done.stderr).strip()[-300:]}")
    wrapper = folder / "wrapper.c"
    count = len(job.inputs) + len(job.expected)
    arguments = ", ".join(f"(void*)p[{k}]" for k in range(count))
    # The prototype is left open: the generated one has arrays of the model's shapes.
    wrapper.write_text(
        f'#include "{source.name}"\n'
        f"int run(void* const* p) {{ ((void (*)())model)({arguments}); return 0; }}\n"
    )
    command = [*_compiler(), *FLAGS, str(wrapper), "-o", str(library), "-lm"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotMeasured(f"the C of emx-onnx-cgen does not compile: {done.stderr[-300:]}")
    lib = ctypes.CDLL(str(library))
    lib.model_load.restype = ctypes.c_bool
    if not lib.model_load(str(folder / "model.bin").encode()):
        raise NotMeasured("emx-onnx-cgen does not load its weights")
    inputs = [np.ascontiguousarray(a) for a in job.inputs.values()]
    outputs = {name: np.zeros_like(a) for name, a in job.expected.items()}
    everything = [*inputs, *outputs.values()]
    pointers = (ctypes.c_void_p * count)(*(a.ctypes.data for a in everything))
    call = Call(address(lib.run), ctypes.addressof(pointers), (lib, everything, pointers))
    return Opened(call, lambda: outputs)
