"""sofie_root, both ways that a user runs it: compiled by g++ -O3 -march=native, and JITed by cling."""

from __future__ import annotations

import ctypes
from functools import partial
from typing import Literal

import numpy as np

from rootbench.timing import Call, address, library
from sofie_root.runtime.session import open_header

from .base import Arrays, Job, NotMeasured, Opened

GENERATED, EXACT = "generated", "exact"
"""Stems of the headers: that of ``generate()``, and of ``generate(exact=True)`` where it differs."""


class _Context(ctypes.Structure):
    _fields_ = (
        ("run", ctypes.c_void_p),
        ("session", ctypes.c_void_p),
        ("dims", ctypes.c_void_p),
        ("inputs", ctypes.c_void_p),
        ("outputs", ctypes.c_void_p),
    )


def _open(job: Job, jit: Literal["cling", "compiler"], stem: str = GENERATED) -> Opened:
    header = job.folder / f"{stem}.hxx"
    if not header.exists():
        raise NotMeasured("the header was not generated")
    weights = header.with_suffix(".dat")
    session = open_header(header, weights if weights.exists() else None, jit)
    # Once through numpy, which checks shapes and gives arrays of the right size to write to.
    outputs: Arrays = session.run(job.inputs)
    inputs = [np.ascontiguousarray(job.inputs[t.name]) for t in session.inputs]
    sizes = {
        name: size
        for array, tensor in zip(inputs, session.inputs, strict=True)
        for name, size in zip(tensor.shape, array.shape, strict=True)
    }
    dims = (ctypes.c_size_t * (len(session.symbols) + 1))(*(sizes[s] for s in session.symbols))
    ins = (ctypes.c_void_p * (len(inputs) + 1))(*(a.ctypes.data for a in inputs))
    outs = (ctypes.c_void_p * (len(outputs) + 1))(*(a.ctypes.data for a in outputs.values()))
    context = _Context(
        address(session.library.functions.run),
        session._handle,
        *(ctypes.addressof(a) for a in (dims, ins, outs)),
    )
    keep = (session, inputs, outputs, dims, ins, outs, context)
    call = Call(address(library().call_sofie), ctypes.addressof(context), keep)
    return Opened(call, lambda: outputs)


with_compiler = partial(_open, jit="compiler")
with_cling = partial(_open, jit="cling")
with_compiler_exact = partial(_open, jit="compiler", stem=EXACT)
