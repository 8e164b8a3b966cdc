"""Mutated files: only SofieError may come out of them, in bounded time and memory.

``cd tests; python -m fuzz_files --help``. A mutation is a function of a seed and a number alone, so what is
reported can be made again. Models in ONNX are changed field by field of their protocol buffers, ``.root``
files place by place of their description, with the container built anew around it, ``.dat`` files field by
field with a right checksum, cache entries file by file; and all of them byte by byte.
"""
