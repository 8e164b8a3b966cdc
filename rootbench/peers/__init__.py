"""Who takes part: sofie_root both ways, and the libraries that it is compared with."""

from __future__ import annotations

from .base import Contender, Job, NotMeasured, Opened
from .external import lwtnn, upstream_sofie
from .onnxruntime import onnxruntime
from .openvino import openvino
from .ours import EXACT, GENERATED, with_cling, with_compiler, with_compiler_exact
from .pytorch import pytorch_compiled, pytorch_eager

OURS: dict[str, Contender] = {
    "sofie-g++": Contender("sofie_root, compiled", with_compiler),
    "sofie-cling": Contender("sofie_root, cling", with_cling),
    "sofie-exact": Contender("sofie_root, exact", with_compiler_exact),
}
PEERS: dict[str, Contender] = {
    "onnxruntime": Contender("ONNX Runtime", onnxruntime),
    "openvino": Contender("OpenVINO", openvino),
    "pytorch": Contender("PyTorch eager", pytorch_eager),
    "pytorch-compile": Contender("torch.compile", pytorch_compiled),
    "upstream-sofie": Contender("upstream SOFIE", upstream_sofie),
    "lwtnn": Contender("lwtnn", lwtnn),
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
