"""The k best elements along an axis (``cpu/top_k.hxx``)."""

from __future__ import annotations

from sofie_root.ir.dtype import DType
from sofie_root.program.operations.sort import TopK, around
from sofie_root.targets.cxx.call import Call, CppKernel, In, Out, Scratch

from . import call


@call.register
def _(operation: TopK) -> Call:
    outer, n, inner = around(operation.x.shape, operation.axis)
    workspace = Scratch(3 * n + 80, DType.INT64)
    return Call(
        CppKernel(name="top_k", header="cpu/top_k.hxx"),
        (outer, n, inner, operation.k, In("x"), Out(0), Out(1), workspace),
        (("largest", operation.largest),),
    )
