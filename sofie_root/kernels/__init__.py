"""Declarations of the C++ kernels: NumPy references, packers of constants, and calls for the operators."""
