"""Run by :mod:`rootbench.revisions` with the Python path of another revision: writes a model's header."""

import sys
import time
from pathlib import Path

import sofie_root

tree, model, header = map(Path, sys.argv[1:4])
if tree not in Path(sofie_root.__file__).resolve().parents:
    sys.exit(f"sofie_root came from {sofie_root.__file__}, not from {tree}")
start = time.perf_counter()
sofie_root.load(model).generate(header, weights="dat", standalone=True)
print(time.perf_counter() - start)
