"""The bytes of a tensor under another type (``core/bits.hxx``)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from sofie_root.ir.dim import Dim
from sofie_root.ir.dtype import DType
from sofie_root.ir.types import TensorType
from sofie_root.program.builder import Builder, Tensor
from sofie_root.program.program import In, Kernel, KernelSpec, Out

Array = npt.NDArray[Any]


def bit_cast(b: Builder, x: Tensor, dtype: DType) -> Tensor:
    """The elements of ``x`` read as another type of the same size."""
    out = (TensorType(dtype, x.shape),)
    traits = (("onnx_type", dtype.onnx),)
    (y,) = b.kernel(BIT_CAST, (x.type.numel, In(0), Out(0)), (x,), out, traits)
    return y


def _reference(kernel: Kernel, inputs: list[Array], resolve: Callable[[Dim], int]) -> list[Array]:
    dtype = DType.from_onnx(kernel.trait("onnx_type"))
    assert dtype is not None
    return [np.ascontiguousarray(inputs[0]).reshape(-1).view(dtype.numpy)]


BIT_CAST = KernelSpec("bit_cast", "core/bits.hxx", _reference)
