"""What an operator lowers to: scalar expressions, loops and views over buffers, and operations."""
