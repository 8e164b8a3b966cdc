"""Declarations of the C++ kernels: calls for the operators, packers, and NumPy references."""
