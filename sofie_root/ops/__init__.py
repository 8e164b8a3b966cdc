"""The operators of ONNX, one class each; importing this package fills ``ir.OPERATORS``."""

from . import activations, elementwise, gemm

__all__ = ["activations", "elementwise", "gemm"]
