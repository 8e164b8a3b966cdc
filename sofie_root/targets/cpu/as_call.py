"""Kernels that have no class of their own yet, as calls."""

from __future__ import annotations

from typing import Any

from sofie_root.program import program as old
from sofie_root.targets.cxx import call as new


def as_call(kernel: old.Kernel) -> new.Call:
    """The call with operands named by position."""
    spec, form = kernel.spec, kernel.form
    cpp = new.CppKernel(
        form.layouts,
        form.layout_of_others,
        form.epilogue_axes,
        form.writes_all,
        form.converts,
        spec.name,
        spec.header,
        spec.named_epilogues,
    )
    traits = tuple((k, _functor(v)) for k, v in kernel.traits)
    return new.Call(cpp, tuple(map(_arg, kernel.args)), traits, kernel.types)


def _functor(value: Any) -> Any:
    return new.Functor(value.name, value.args) if isinstance(value, old.Functor) else value


def _arg(arg: Any) -> Any:
    name = f"reads[{getattr(arg, 'i', 0)}]"
    match arg:
        case old.In():
            return new.In(name)
        case old.Stride():
            return new.Stride(name, arg.axis)
        case old.Strides():
            return new.Strides(name)
        case old.Out():
            return new.Out(arg.i)
        case old.Extents():
            return new.Extents(arg.dims)
        case old.Scratch():
            return new.Scratch(arg.size, arg.dtype)
        case old.Null():
            return new.Null()
        case old.Spanned():
            return new.Spanned(None if arg.of is None else _arg(arg.of))
        case old.Plain():
            return new.Plain(arg.value)
        case old.Fused():
            return new.Fused()
    return arg
