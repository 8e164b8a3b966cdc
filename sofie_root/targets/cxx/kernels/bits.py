"""The bytes of a tensor under another type (``core/bits.hxx``)."""

from __future__ import annotations

from sofie_root.ir.dim import product
from sofie_root.program.operations.bits import BitCast
from sofie_root.targets.cxx.call import Call, CppKernel, In, Out

from . import call


@call.register
def _(operation: BitCast) -> Call:
    return Call(
        CppKernel(name="bit_cast", header="core/bits.hxx"),
        (product(operation.x.shape), In("x"), Out()),
        (("onnx_type", operation.dtype.onnx),),
    )
