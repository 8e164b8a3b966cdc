"""The CPU: forms of operations, loop order, nests, and printing with vectors."""
