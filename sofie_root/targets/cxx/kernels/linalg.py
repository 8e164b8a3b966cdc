"""Determinants (``core/linalg.hxx``)."""

from __future__ import annotations

from sofie_root.ir.dim import product
from sofie_root.ir.dtype import DType
from sofie_root.program.operations.linalg import Determinant
from sofie_root.targets.cxx.call import Call, CppKernel, In, Out, Scratch

from . import call


@call.register
def _(operation: Determinant) -> Call:
    *batch, _, n = operation.x.shape
    workspace = Scratch(n * n, DType.DOUBLE)
    kernel = CppKernel(name="determinant", header="core/linalg.hxx")
    return Call(kernel, (product(batch), n, In("x"), Out(), workspace))
