"""Checks of axes and element types that many operators share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sofie_root.errors import ShapeError
from sofie_root.ir import DType, Refuse, TensorType

FLOATS = frozenset(d for d in DType if d.is_float)
INTEGERS = frozenset(d for d in DType if d.is_integer)
NUMERIC = FLOATS | INTEGERS
BOOLS = frozenset({DType.BOOL})
ANY = NUMERIC | BOOLS


def require_dtype(x: TensorType, accepted: frozenset[DType]) -> None:
    """Raises ShapeError where the element type is not one of these."""
    if x.dtype not in accepted:
        raise ShapeError(f"elements may not be {x.dtype}")


def require_one_dtype(types: Iterable[TensorType]) -> DType:
    """The element type that all of these have."""
    dtypes = list(dict.fromkeys(t.dtype for t in types))
    if len(dtypes) != 1:
        raise ShapeError(f"inputs have different element types: {', '.join(map(str, dtypes))}")
    return dtypes[0]


OTHER_TYPES = {
    8: "string", 14: "complex64", 15: "complex128", 17: "float8e4m3fn", 18: "float8e4m3fnuz",
    19: "float8e5m2", 20: "float8e5m2fnuz", 21: "uint4", 22: "int4", 23: "float4e2m1",
    24: "float8e8m0", 25: "uint2", 26: "int2",
}  # fmt: skip
"""What ONNX calls the element types that are not supported."""


def as_dtype(number: int) -> DType:
    """The element type with this ONNX number."""
    dtype = DType.from_onnx(number)
    if dtype is None:
        name = OTHER_TYPES.get(number, f"number {number}")
        raise Refuse(f"element type {name} is not supported")
    return dtype


def as_axis(axis: int, rank: int) -> int:
    """``axis`` counted from the front."""
    if not -rank <= axis < rank:
        raise ShapeError(f"axis {axis} is outside a tensor of {rank} axes")
    return axis % rank


def as_axes(axes: Sequence[int], rank: int) -> tuple[int, ...]:
    """Axes counted from the front, sorted; each may be given once."""
    found = sorted(as_axis(a, rank) for a in axes)
    if len(set(found)) != len(found):
        raise ShapeError(f"axes {tuple(axes)} name an axis twice")
    return tuple(found)


def constant_ints(x: TensorType, what: str) -> tuple[int, ...]:
    """The content of a tensor that must be known when the model is generated (axes, steps, ...)."""
    if x.value is None or not all(isinstance(v, int) for v in x.value):
        raise Refuse(f"{what} must be a constant")
    return tuple(v for v in x.value if isinstance(v, int))
