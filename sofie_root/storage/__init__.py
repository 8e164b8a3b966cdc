"""Files: the IR in ``.root``, packed weights in ``.dat``."""
