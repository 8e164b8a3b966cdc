"""Runs many models through generated, compiled C++ in one translation unit (a helper of the tests)."""

from __future__ import annotations

import ctypes
import hashlib
import itertools
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from sofie_root.config import include_dir
from sofie_root.ir.dim import Symbol
from sofie_root.model import Model

Array = npt.NDArray[Any]
WARNINGS = ("-Wall", "-Wextra", "-Werror")
FLAGS = ("-std=c++17", "-O1", "-march=native", "-shared", "-fPIC", "-fvisibility=hidden", *WARNINGS)
_SERIAL = itertools.count()
"""Each library has namespaces of its own: ROOT opens all libraries of the process again for all to see,
and the loader would merge what has one name, ``std::make_shared`` of two Weights for example."""


class Compiled:
    """A shared library with one function per model.

    Args:
        models: what to compile.
        folder: where source and library go.
        compiler: C++ compiler.
        flags: its flags.
        weights: ``"embedded"`` compiles small weights in; large ones are read from ``"dat"`` files.
        exact: whether algorithms that round more than direct sums are forbidden.
        target: what the code is generated for.
    """

    def __init__(
        self,
        models: Sequence[Model],
        folder: Path,
        compiler: str = "g++",
        flags: Sequence[str] = FLAGS,
        weights: Literal["dat", "embedded"] = "embedded",
        exact: bool = False,
        target: str = "cpu",
    ) -> None:
        self.models = list(models)
        self.prefix = f"case_{next(_SERIAL)}"
        source = self._source(folder, weights, exact, target)
        digest = hashlib.sha256((source + compiler + " ".join(flags)).encode()).hexdigest()[:16]
        path, library = folder / f"cases_{digest}.cpp", folder / f"cases_{digest}.so"
        path.write_text(source)
        command = [compiler, *flags, f"-I{include_dir()}", str(path), "-o", str(library)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise AssertionError(f"{' '.join(command)}\n{done.stderr[:8000]}")
        self.library = ctypes.CDLL(os.fspath(library), mode=os.RTLD_LOCAL | os.RTLD_NOW)

    def _source(
        self, folder: Path, weights: Literal["dat", "embedded"], exact: bool, target: str
    ) -> str:
        parts = ['#define VISIBLE __attribute__((visibility("default")))']
        for k, model in enumerate(self.models):
            path = folder / f"case_{k}.hxx"
            namespace = f"{self.prefix}_{k}"
            model.generate(
                path,
                weights,
                standalone=False,
                namespace=namespace,
                exact=exact,
                target=target,
                verify=False,  # the callers compare what is compiled
            )
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            parts += [f'#include "{path}"  // {digest}', self._entry(k, model)]
        return "\n".join([*parts, ""])

    def _entry(self, k: int, model: Model) -> str:
        buffers = model.schedule.program.buffers
        sizes = [f"dims[{n}]" for n in range(len(model.symbols))]
        ins = [
            f"static_cast<const {buffers[name].dtype.cpp}*>(in[{n}])"
            for n, name in enumerate(model.schedule.program.inputs)
        ]
        count = len(model.outputs)
        call = f"session.infer({', '.join(sizes + ins)})"
        items = ["result"] if count == 1 else [f"std::get<{n}>(result)" for n in range(count)]
        keep = "\n".join(
            f"    {{ auto& o = {item}; out[{n}].assign(reinterpret_cast<const char*>(o.data()), "
            f"reinterpret_cast<const char*>(o.data() + o.size())); "
            f"shape[{n}] = session.output_shape({n}); }}"
            for n, item in enumerate(items)
        )
        return f"""
namespace entry_{k} {{
static std::vector<char> out[{count}];
static std::vector<std::size_t> shape[{count}];
static std::string error;
}}
extern "C" VISIBLE const char* run_{k}(const std::size_t* dims, const void* const* in) {{
  using namespace entry_{k};
  static_cast<void>(dims);
  static_cast<void>(in);
  try {{
    static {self.prefix}_{k}::Session session;
    auto result = {call};
{keep}
  }} catch (const std::exception& e) {{
    error = e.what();
    return error.c_str();
  }}
  return nullptr;
}}
extern "C" VISIBLE const char* data_{k}(std::size_t n) {{ return entry_{k}::out[n].data(); }}
extern "C" VISIBLE std::size_t rank_{k}(std::size_t n) {{ return entry_{k}::shape[n].size(); }}
extern "C" VISIBLE std::size_t dim_{k}(std::size_t n, std::size_t a) {{ return entry_{k}::shape[n][a]; }}
"""

    def run(self, k: int, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs of model ``k`` for these inputs.

        Raises:
            RuntimeError: the Session threw; the message is its own.
        """
        model = self.models[k]
        sizes: dict[str, int] = {}
        arrays = []
        for name, type_ in model.inputs.items():
            array = np.asarray(inputs[name], type_.dtype.numpy, order="C")
            arrays.append(array)
            for d, size in zip(type_.shape, array.shape, strict=True):
                atom = next(iter(d.atoms)) if not isinstance(d, int) and len(d.terms) == 1 else None
                if isinstance(atom, Symbol):
                    sizes.setdefault(atom.name, size)
        dims = (ctypes.c_size_t * max(1, len(sizes)))(*(sizes[s] for s in model.symbols))
        pointers = (ctypes.c_void_p * max(1, len(arrays)))(*(a.ctypes.data for a in arrays))
        run = self.library[f"run_{k}"]
        run.restype = ctypes.c_char_p
        message = run(dims, pointers)
        if message is not None:
            raise RuntimeError(message.decode())
        rank, dim, data = (self.library[f"{f}_{k}"] for f in ("rank", "dim", "data"))
        rank.restype = dim.restype = ctypes.c_size_t
        data.restype = ctypes.c_void_p
        results: dict[str, Array] = {}
        for n, (name, type_) in enumerate(model.outputs.items()):
            shape = tuple(dim(n, axis) for axis in range(rank(n)))
            count = int(np.prod(shape, dtype=np.int64)) * type_.dtype.size
            raw = ctypes.string_at(data(n), count) if count else b""
            results[name] = np.frombuffer(raw, type_.dtype.numpy).reshape(shape).copy()
        return results
