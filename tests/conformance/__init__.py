"""ONNX's own backend tests, run through the whole of sofie_root; ``python -m conformance --help``."""
