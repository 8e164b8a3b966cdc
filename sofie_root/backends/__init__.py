"""Printers: a scheduled program to C++; one file per backend, none knows an ONNX operator."""
