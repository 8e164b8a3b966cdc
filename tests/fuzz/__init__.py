"""Random graphs through generated, compiled C++, held against ONNX Runtime: ``python -m fuzz --help``."""
