"""Selecting and ordering elements (``core/sort.hxx``)."""

from __future__ import annotations

from sofie_root.ir.dim import product
from sofie_root.ir.dtype import DType
from sofie_root.program.operations.sort import TruePositions, Unique, around
from sofie_root.targets.cxx.call import Call, CppKernel, In, Out, Scratch

from . import call


@call.register
def _(operation: TruePositions) -> Call:
    kernel = CppKernel(name="true_positions", header="core/sort.hxx")
    return Call(kernel, (product(operation.x.shape), In("x"), Out()))


@call.register
def _(operation: Unique) -> Call:
    outer, n, inner = around(operation.x.shape, operation.axis)
    results = (Out(0), Out(1), Out(2), Out(3), Scratch(2 * n, DType.INT64))
    return Call(
        CppKernel(name="unique", header="core/sort.hxx"),
        (outer, n, inner, In("x"), *results),
        (("sorted", operation.sorted),),
    )
