"""What a vector of 32-bit lanes can hold and compute: the SIMD dialect of a backend."""

from __future__ import annotations

from sofie_root.ir.dtype import DType

from .expr import Call, Expr

INTEGERS = frozenset({DType.INT8, DType.UINT8, DType.INT16, DType.UINT16, DType.INT32})
"""Integers that vectors hold, one in each lane (``sofie::Integers``)."""
ARITHMETIC = frozenset({"add", "sub", "mul", "cast"})
"""Functions of vectors of integers."""


def fits(e: Expr) -> bool:
    """Whether this node is a vector of numbers or a mask where those it is made of are vectors."""
    if e.dtype not in INTEGERS and e.dtype not in (DType.FLOAT, DType.BOOL):
        return False
    if not isinstance(e, Call):
        return True
    integers = [x for x in (e, *e.args) if x.dtype in INTEGERS]
    return not integers or (
        e.function in ARITHMETIC and all(x.dtype is not DType.BOOL for x in (e, *e.args))
    )
