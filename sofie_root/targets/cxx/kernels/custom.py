"""Calls of C++ functions that a user wrote (``sofie/span.hxx``)."""

from __future__ import annotations

from sofie_root.program.operations.custom import Custom
from sofie_root.targets.cxx.call import Arg, Call, CppKernel, In, Out, Plain, Spanned

from . import call


@call.register
def _(operation: Custom) -> Call:
    spans: list[Arg] = [
        Spanned(None if x is None else In(f"arguments[{k}]"))
        for k, x in enumerate(operation.arguments)
    ]
    spans += [Spanned(Out(k)) for k in range(len(operation.outputs))]
    name = f"::{operation.function.removeprefix('::')}"
    kernel = CppKernel(name=name, header=str(operation.header), writes_all=True)
    return Call(kernel, (*spans, *map(Plain, operation.attributes)))
