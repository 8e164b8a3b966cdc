"""The reference target: scalar loops and naive kernels, the version to read and to compare with."""
