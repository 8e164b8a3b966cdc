"""Who takes part: sofie_root both ways, and the libraries that it is compared with."""

from __future__ import annotations

from . import emx, onnxruntime, openvino, pytorch
from .base import Contender, Job, NotMeasured, Opened
from .external import find_lwtnn, find_upstream_sofie, lwtnn, upstream_sofie
from .ours import EXACT, GENERATED, with_cling, with_compiler, with_compiler_exact

OURS: dict[str, Contender] = {
    "sofie-g++": Contender("sofie_root, compiled", with_compiler),
    "sofie-cling": Contender("sofie_root, cling", with_cling),
    "sofie-exact": Contender("sofie_root, exact", with_compiler_exact),
}
PEERS: dict[str, Contender] = {
    "onnxruntime": Contender("ONNX Runtime", onnxruntime.open_model, onnxruntime.find_library),
    "openvino": Contender("OpenVINO", openvino.open_model, openvino.find_library),
    "pytorch": Contender("PyTorch eager", pytorch.open_eager, pytorch.find_torch),
    "pytorch-compile": Contender("torch.compile", pytorch.open_compiled, pytorch.find_torch),
    "upstream-sofie": Contender("upstream SOFIE", upstream_sofie, find_upstream_sofie),
    "emx-onnx-cgen": Contender("emx-onnx-cgen", emx.open_model, emx.find_generator),
    "lwtnn": Contender("lwtnn", lwtnn, find_lwtnn),
}
CONTENDERS = OURS | PEERS


__all__ = [
    "CONTENDERS",
    "EXACT",
    "GENERATED",
    "OURS",
    "PEERS",
    "Contender",
    "Job",
    "NotMeasured",
    "Opened",
]
