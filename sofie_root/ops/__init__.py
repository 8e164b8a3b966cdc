"""The operators of ONNX, one class each; importing this package fills ``ir.OPERATORS``."""

from . import (
    activations,
    conv,
    create,
    einsum,
    elementwise,
    gather,
    gemm,
    normalization,
    pool,
    quantize,
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
    "einsum",
    "elementwise",
    "gather",
    "gemm",
    "normalization",
    "pool",
    "quantize",
    "recurrent",
    "reduce",
    "scatter",
    "shape",
    "slicing",
    "sort",
]
