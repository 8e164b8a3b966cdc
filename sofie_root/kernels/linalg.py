"""Determinants (``core/linalg.hxx``)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from sofie_root.budget import spend
from sofie_root.ir.dim import Dim, product
from sofie_root.ir.dtype import DType
from sofie_root.ir.types import TensorType
from sofie_root.program.builder import Builder, Tensor
from sofie_root.program.program import In, Kernel, KernelSpec, Out, Scratch

Array = npt.NDArray[Any]


def determinant(b: Builder, x: Tensor) -> Tensor:
    """The determinant of each ``x[..., n, n]``."""
    n, batch = x.shape[-1], x.shape[:-2]
    (y,) = b.kernel(
        DETERMINANT,
        (product(batch), n, In(0), Out(0), Scratch(n * n, DType.DOUBLE)),
        (x,),
        (TensorType(x.dtype, batch),),
    )
    return y


def _reference(kernel: Kernel, inputs: list[Array], resolve: Callable[[Dim], int]) -> list[Array]:
    spend(inputs[0].size * inputs[0].shape[-1])
    return [np.linalg.det(inputs[0].astype(np.float64)).astype(inputs[0].dtype)]


DETERMINANT = KernelSpec("determinant", "core/linalg.hxx", _reference)
