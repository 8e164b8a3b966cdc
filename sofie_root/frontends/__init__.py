"""Model files to the IR: one module per format, each with ``parse(path) -> Graph``."""
