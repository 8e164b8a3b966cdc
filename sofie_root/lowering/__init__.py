"""Graph to Program: lowering, fusion, the memory plan, and the NumPy interpreter."""
