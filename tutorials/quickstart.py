"""Load a model, check it, run it on numpy arrays."""

from pathlib import Path

import numpy as np

import sofie_root

model = sofie_root.load(Path(__file__).parent / "tagger.onnx")  # N, the number of jets, is symbolic
print(model)
print(model.check(reference="onnxruntime"))  # needs onnxruntime

higgs = [822, -0.83, 138, 138, 0.165, 0.185, 0.895, 0.211]
higgs += [0.38, 0.313, 0.0439, 0.384, 0.107, 1.41, 0.197, 28]
qcd = [411, -1.58, 46.7, 34.4, 0.0659, 0.814, 0.852, 0.014]
qcd += [0.657, 0.299, 0.0205, 0.201, 0.205, 4.72, 0.21, 32]

session = model.session()
print(session(np.array([higgs, qcd], np.float32)))
print(session.run({"jet": np.array([higgs], np.float32)})["score"])
