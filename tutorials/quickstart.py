"""Load a model, check it, run it on numpy arrays."""

from pathlib import Path

import numpy as np

import sofie_root

model = sofie_root.load(Path(__file__).parent / "tagger.onnx")
print(model)
print(model.check(reference="onnxruntime"))  # needs onnxruntime

session = model.session()
jets = np.random.default_rng(0).normal(size=(5, 16)).astype(np.float32)
print(session(jets))  # any number of jets: N is symbolic
print(session.run({"jet": jets[:2]})["score"])
