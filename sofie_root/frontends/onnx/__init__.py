"""ONNX files to the IR."""

from .model import from_proto, parse

__all__ = ["from_proto", "parse"]
