"""What a vector of 32-bit lanes can hold and compute: the SIMD dialect of a backend."""

from __future__ import annotations

from sofie_root.ir.dtype import DType

from .expr import Call, Expr
from .scalar import FLOAT_LANES, FUNCTIONS, LANE_INTEGERS, NUMBER_LANES

INTEGERS = LANE_INTEGERS
"""Integers that vectors hold, one in each lane (``sofie::Integers``)."""


def fits(e: Expr) -> bool:
    """Whether this node is a vector of numbers or a mask where those it is made of are vectors."""
    if not isinstance(e, Call):
        return e.dtype in NUMBER_LANES
    dtypes = {x.dtype for x in (e, *e.args)}
    if not dtypes <= FUNCTIONS[e.function].vectors:
        return False
    return dtypes <= FLOAT_LANES or DType.BOOL not in dtypes  # masks are of floats
