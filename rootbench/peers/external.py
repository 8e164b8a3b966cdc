"""Upstream SOFIE and lwtnn, where an installation is given; each is compiled into a small library.

* ``$ROOTBENCH_SOFIE``: prefix of a ROOT that was built with ``tmva-sofie`` (it has ``bin/root``).
* ``$ROOTBENCH_LWTNN``: prefix of lwtnn; ``$ROOTBENCH_EIGEN``: folder with Eigen (/usr/include/eigen3).
* ``$ROOTBENCH_BLAS``: how to link BLAS, which SOFIE's code calls (-lopenblas).
"""

from __future__ import annotations

import ctypes
import json
import os
import shlex
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from rootbench.timing import Call, address, compile_shared

from .base import Job, NotMeasured, Opened

_TYPES = {"float32": "float", "float64": "double", "int64": "int64_t", "int32": "int32_t"}


def _prefix(variable: str) -> Path:
    if not (chosen := os.environ.get(variable)):
        raise NotMeasured(f"no installation given: set {variable} to its prefix")
    return Path(chosen)


find_upstream_sofie = partial(_prefix, "ROOTBENCH_SOFIE")
find_lwtnn = partial(_prefix, "ROOTBENCH_LWTNN")


def _single_output(job: Job) -> np.ndarray:
    outputs = list(job.expected.values())
    if len(outputs) != 1 or outputs[0].dtype != np.float32:
        raise NotMeasured("only models with one float output are measured")
    return outputs[0]


def _opened(job: Job, library: Path) -> Opened:
    """A library that exports ``int run(void* const* inputs)`` and ``const float* result()``."""
    expected = _single_output(job)
    lib = ctypes.CDLL(str(library))
    lib.result.restype = ctypes.c_void_p
    inputs = [np.ascontiguousarray(a) for a in job.inputs.values()]
    pointers = (ctypes.c_void_p * len(inputs))(*(a.ctypes.data for a in inputs))

    def outputs() -> dict[str, np.ndarray]:
        found = np.empty_like(expected)
        ctypes.memmove(found.ctypes.data, lib.result(), found.nbytes)
        return dict.fromkeys(job.expected, found)

    lib.run(pointers)
    keep = (lib, inputs, pointers)
    return Opened(Call(address(lib.run), ctypes.addressof(pointers), keep), outputs)


def upstream_sofie(job: Job) -> Opened:
    """Generates code with ROOT's own SOFIE and compiles it with the flags that ours gets."""
    root = find_upstream_sofie() / "bin" / "root"
    _single_output(job)
    folder = job.folder / "upstream"
    folder.mkdir(exist_ok=True)
    header = folder / "model.hxx"
    macro = folder / "generate.C"
    macro.write_text(f"""void generate() {{
  using namespace TMVA::Experimental::SOFIE;
  RModelParser_ONNX parser;
  RModel model = parser.Parse("{job.model}");
  model.Generate();
  model.OutputGenerated("{header}");
}}
""")
    done = subprocess.run(
        [root, "-l", "-b", "-q", str(macro)],
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
    )
    if not header.exists():
        raise NotMeasured(f"refused by upstream SOFIE: {(done.stderr or done.stdout)[-300:]}")
    arguments = ", ".join(
        f"static_cast<{_TYPES.get(str(a.dtype), 'float')}*>(in[{k}])"
        for k, a in enumerate(job.inputs.values())
    )
    source = folder / "upstream.cpp"
    source.write_text(f"""#include "{header}"
static TMVA_SOFIE_model::Session session("{header.with_suffix(".dat")}");
static std::vector<float> last;
extern "C" int run(void* const* in) {{ last = session.infer({arguments}); return 0; }}
extern "C" const float* result() {{ return last.data(); }}
""")
    blas = shlex.split(os.environ.get("ROOTBENCH_BLAS", "-lopenblas"))
    include = f"-I{root.parent.parent / 'include'}"
    return _opened(job, compile_shared(source, ("-ffast-math", include), tuple(blas)))


def lwtnn(job: Job) -> Opened:
    """Chains of dense layers at batch 1, through ``lwt::Stack``."""
    prefix = find_lwtnn()
    expected = _single_output(job)
    layers = _dense_layers(onnx.load(job.model).graph)
    (x,) = job.inputs.values()
    if x.shape[0] != 1:
        raise NotMeasured("lwtnn takes one event at a time")
    config = job.folder / "lwtnn.json"
    names = [{"name": f"x{k}", "offset": 0.0, "scale": 1.0} for k in range(x.size)]
    labels = [f"y{k}" for k in range(expected.size)]
    config.write_text(json.dumps({"inputs": names, "layers": layers, "outputs": labels}))
    source = job.folder / "lwtnn.cpp"
    source.write_text(f"""#include <fstream>
#include <vector>
#include "lwtnn/Stack.hh"
#include "lwtnn/parse_json.hh"
static lwt::Stack make() {{
  std::ifstream file("{config}");
  return lwt::Stack({x.size}, lwt::parse_json(file).layers);
}}
static lwt::Stack stack = make();
static std::vector<float> last({expected.size});
extern "C" int run(void* const* in) {{
  const float* x = static_cast<const float*>(in[0]);
  Eigen::VectorXd v({x.size});
  for (int k = 0; k < {x.size}; ++k) v[k] = x[k];
  const Eigen::VectorXd y = stack.compute(v);
  for (int k = 0; k < {expected.size}; ++k) last[k] = static_cast<float>(y[k]);
  return 0;
}}
extern "C" const float* result() {{ return last.data(); }}
""")
    eigen = os.environ.get("ROOTBENCH_EIGEN", "/usr/include/eigen3")
    flags = (f"-I{prefix / 'include'}", f"-I{eigen}")
    where = f"-L{prefix / 'lib'}", f"-Wl,-rpath,{prefix / 'lib'}", "-llwtnn"
    return _opened(job, compile_shared(source, flags, where))


def _dense_layers(graph: onnx.GraphProto) -> list[dict[str, Any]]:
    constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    layers: list[dict[str, Any]] = []
    for node in graph.node:
        if node.op_type == "Gemm" and len(node.input) == 3 and node.input[1] in constants:
            weight, bias = constants[node.input[1]], constants[node.input[2]]
            transposed = any(a.name == "transB" and a.i for a in node.attribute)
            matrix = weight if transposed else weight.T
            layers.append(
                {
                    "architecture": "dense",
                    "weights": matrix.ravel().tolist(),
                    "bias": bias.ravel().tolist(),
                    "activation": "linear",
                }
            )
        elif node.op_type == "Relu" and layers:
            layers[-1]["activation"] = "rectified"
        else:
            raise NotMeasured(
                f"only chains of dense layers are measured with lwtnn: {node.op_type}"
            )
    return layers
