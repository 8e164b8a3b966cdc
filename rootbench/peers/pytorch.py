"""PyTorch, eager and torch.compile, where torch is installed.

Calls go through Python, as they do for its users; what an empty call costs is reported beside it.
"""

from __future__ import annotations

import importlib.util
from functools import partial
from typing import Any

import numpy as np

from rootbench.timing import Call, PythonCall, address, warm

from .base import Arrays, Job, NotMeasured, Opened


def find_torch() -> None:
    """Says what to do where PyTorch is missing."""
    if importlib.util.find_spec("torch") is None:
        raise NotMeasured("not installed: pip install torch")


def _open(job: Job, compiled: bool) -> Opened:
    import onnx
    import torch  # type: ignore[import-not-found]

    from .torch_graph import torch_module

    torch.set_num_threads(1)
    try:
        module: Any = torch_module(onnx.load(job.model), job.inputs)
        if compiled:
            module = torch.compile(module, dynamic=False)
        tensors = [torch.from_numpy(np.ascontiguousarray(a)) for a in job.inputs.values()]
        with torch.inference_mode():
            module(*tensors)
    except NotMeasured:
        raise
    except Exception as error:
        raise NotMeasured(f"{type(error).__name__}: {str(error)[:200]}") from error
    last: list[Any] = [None]

    def run(_: object) -> int:
        with torch.inference_mode():
            last[0] = module(*tensors)
        return 0

    def outputs() -> Arrays:
        run(None)
        results = last[0] if isinstance(last[0], list | tuple) else [last[0]]
        return {n: r.numpy() for n, r in zip(job.expected, results, strict=True)}

    empty = _python_call(lambda _: 0)
    note = f"about {max(round(warm(empty, 1000) / 1000), 1)} us of Python per call included"
    return Opened(_python_call(run), outputs, note)


def _python_call(function: Any) -> Call:
    callback = PythonCall(function)
    return Call(address(callback), 0, (callback,))


open_eager = partial(_open, compiled=False)
open_compiled = partial(_open, compiled=True)
