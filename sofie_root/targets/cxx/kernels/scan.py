"""Running sums and products (``core/scan.hxx``)."""

from __future__ import annotations

from sofie_root.program.operations.scan import Cumulative
from sofie_root.program.operations.sort import around
from sofie_root.targets.cxx.call import Call, CppKernel, Extents, In, Out, Traits

from . import call

FUNCTORS = {"add": "sofie::reduction::Add", "mul": "sofie::reduction::Mul"}
"""C++ functors of ``core/reduction.hxx`` by how elements join."""


@call.register
def _(operation: Cumulative) -> Call:
    traits: Traits = (("exclusive", operation.exclusive), ("reverse", operation.reverse))
    types = (FUNCTORS[operation.kind],)
    shape = operation.x.shape
    if operation.axis is not None:
        kernel = CppKernel(name="scan", header="core/scan.hxx")
        args = (*around(shape, operation.axis), In("x"), Out())
        return Call(kernel, args, traits, types)
    kernel = CppKernel(name="scan_along", header="core/scan.hxx")
    along = (Extents(shape), In("axis_operand"), In("x"), Out())
    return Call(kernel, along, (*traits, ("rank", len(shape))), types)
