"""Running sums (``scan.hxx``)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from sofie_root.ir.dim import Dim
from sofie_root.program.builder import Builder, Tensor
from sofie_root.program.program import In, Kernel, KernelSpec, Out

from .sort import around

Array = npt.NDArray[Any]


def cumulative_sum(b: Builder, x: Tensor, axis: int, exclusive: bool, reverse: bool) -> Tensor:
    """Sums of ``x`` up to each position along ``axis``."""
    (y,) = b.kernel(
        CUMULATIVE_SUM,
        (*around(x.shape, axis), In(0), Out(0)),
        (x,),
        (x.type.with_value(None),),
        (("exclusive", exclusive), ("reverse", reverse)),
    )
    return y


def _reference(kernel: Kernel, inputs: list[Array], resolve: Callable[[Dim], int]) -> list[Array]:
    outer, n, inner = (resolve(d) for d in kernel.args[:3])  # type: ignore[arg-type]
    x = inputs[0].reshape(outer, n, inner)
    x = x[:, ::-1] if kernel.trait("reverse") else x
    y = np.cumsum(x, axis=1, dtype=x.dtype)
    if kernel.trait("exclusive"):
        y = np.concatenate([np.zeros_like(y[:, :1]), y[:, :-1]], axis=1)
    return [y[:, ::-1] if kernel.trait("reverse") else y]


CUMULATIVE_SUM = KernelSpec("cumulative_sum", "scan.hxx", _reference)
