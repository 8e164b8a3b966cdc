"""NumPy's broadcasting of symbolic shapes, and reading the element that is broadcast."""

from __future__ import annotations

from collections.abc import Sequence

from sofie_root.errors import ShapeError
from sofie_root.ir import Dim, Shape, require_broadcast, require_equal
from sofie_root.ir.dim import broadcast
from sofie_root.program.builder import Tensor, broadcast_index
from sofie_root.program.expr import Expr, scalar


def element(x: Tensor, out: Sequence[Dim]) -> Expr:
    """The element of ``x`` that is broadcast to index ``out``, in the dtype it is computed in.

    A constant of one element becomes a literal: the compiler folds it, and nothing is read.
    """
    array = x.constant
    if array is not None and array.size == 1:
        return scalar(array.reshape(()), x.dtype.compute)
    return x[broadcast_index(out, x.shape)]


def broadcast_shapes(*shapes: Shape) -> Shape:
    """The shape that all of these broadcast to; sizes not known are checked at run time."""
    rank = max((len(s) for s in shapes), default=0)
    result: list[Dim] = []
    for axis in range(-rank, 0):
        size: Dim = 1
        for shape in shapes:
            if len(shape) < -axis or shape[axis] == 1:
                continue
            size = shape[axis] if size == 1 else _common(size, shape[axis], shapes)
        result.append(size)
    return tuple(result)


def _common(a: Dim, b: Dim, shapes: tuple[Shape, ...]) -> Dim:
    if isinstance(a, int) and isinstance(b, int) and a != b:
        shown = " and ".join("[" + ", ".join(map(str, s)) + "]" for s in shapes)
        raise ShapeError(f"shapes {shown} do not broadcast: {a} against {b}")
    return require_broadcast(a, b, "sizes must broadcast")


def require_broadcastable(shape: Shape, target: Shape, what: str) -> None:
    """States that ``shape`` broadcasts to ``target`` without making it larger."""
    if len(shape) > len(target):
        raise ShapeError(f"{what} has {len(shape)} axes, at most {len(target)} fit")
    for d, t in zip(shape, target[len(target) - len(shape) :], strict=True):
        if d != 1:
            joined = broadcast(d, t)
            require_equal(joined, t, f"{what} must broadcast")
