"""Operators of your own: as loops written in Python, and as a C++ function in a header.

A model that was trained with an operator which ONNX does not have keeps it as a node of a domain of
your own, here ``my.experiment``. Register a class for it before loading the model.
"""

import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

import sofie_root
from sofie_root.program.expr import call


# As loops: `infer` gives the type of the result, `lower` what each element of it is. Such an
# operator is fused with its neighbours, like those of ONNX.
@sofie_root.operator("SignedLog", domain="my.experiment")
class SignedLog(sofie_root.Op):
    """sign(x) * log(1 + scale * |x|)."""

    scale: float = 1.0  # an attribute of the node

    def infer(self, x):
        """Dtype and shape stay."""
        return x

    def lower(self, b, x):
        """One loop."""

        def element(*index):
            value = x[index]
            return call("sign", value) * call("log1p", call("abs", value) * self.scale)

        return b.loop(x.shape, element, x.dtype)


# As C++: `infer`, and a function in a header beside this file. The function gets a span per input
# and output, then the attributes. `reference` is optional: the self-test and `check` use it.
@sofie_root.operator("Nearest", domain="my.experiment")
class Nearest(sofie_root.CppOp):
    """Distance of each particle to its nearest neighbour in (eta, phi)."""

    header = "nearest.hxx"
    function = "tutorial::nearest"
    limit: float = 10.0

    def infer(self, directions):
        """One distance per particle."""
        return sofie_root.TensorType(directions.dtype, directions.shape[:-1])

    def reference(self, directions):
        """The same in NumPy."""
        delta = directions[:, :, None] - directions[:, None]
        eta, phi = delta[..., 0], np.abs(delta[..., 1])
        phi = np.where(phi > np.pi, 2 * np.pi - phi, phi)
        distance = np.sqrt(eta**2 + phi**2) + 1e9 * np.eye(directions.shape[1])
        return np.minimum(distance.min(axis=2, initial=self.limit), self.limit)


def write_model(path: Path) -> None:
    """A model with both: mean over the particles of log(distance to the neighbour)."""
    float_, domain = TensorProto.FLOAT, "my.experiment"
    nodes = [
        helper.make_node("Nearest", ["directions"], ["distance"], domain=domain, limit=2.0),
        helper.make_node("SignedLog", ["distance"], ["log"], domain=domain, scale=100.0),
        helper.make_node("ReduceMean", ["log", "axes"], ["isolation"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "isolation",
        [helper.make_tensor_value_info("directions", float_, ["jets", "particles", 2])],
        [helper.make_tensor_value_info("isolation", float_, ["jets"])],
        [helper.make_tensor("axes", TensorProto.INT64, [1], [1])],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid(domain, 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder, "isolation.onnx"))
        model = sofie_root.load(Path(folder, "isolation.onnx"))
        print(model)
        print(
            model.check()
        )  # against the references above: ONNX Runtime does not know the operators

        session = model.session()
        print(session(np.array([[[0, 3.1], [0, -3.1], [1, 0]]], np.float32)))  # one jet
        print(session(np.zeros((2, 5, 2), np.float32)))  # two jets of five particles

        # A .root file names the operators; whoever loads it registers them first, too.
        again = sofie_root.load(model.save(Path(folder, "isolation.root")))
        print(again.outputs)

        # nearest.hxx is part of a standalone header; with standalone=False it is included.
        header = model.generate(Path(folder, "isolation.hxx"))
        print("nearest.hxx is in it:", "tutorial::nearest(" in header.read_text())
