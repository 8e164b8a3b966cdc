"""The operators of ONNX, one class each; importing this package fills ``ir.OPERATORS``."""

from . import (
    activations,
    conv,
    create,
    elementwise,
    gather,
    gemm,
    normalization,
    recurrent,
    reduce,
    scatter,
    shape,
    slicing,
    sort,
)

__all__ = [
    "activations",
    "conv",
    "create",
    "elementwise",
    "gather",
    "gemm",
    "normalization",
    "recurrent",
    "reduce",
    "scatter",
    "shape",
    "slicing",
    "sort",
]
