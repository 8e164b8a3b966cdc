"""What has to be generated before a model runs, kept from one process to the next.

The key is the model itself (its graph and its constants) and the sources of sofie_root, so nothing that
could change the result is missed; what is found is as if it had just been generated.
"""

from __future__ import annotations

import functools
import hashlib
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sofie_root.codegen.header import Header
from sofie_root.config import include_dir
from sofie_root.program.choice import Choice, default_choice
from sofie_root.samples import Sample
from sofie_root.storage.atomic import replacing
from sofie_root.storage.description import encode_graph
from sofie_root.storage.weights import write_dat

from .cache import process_folder, touch, trim, writable_cache

if TYPE_CHECKING:
    from sofie_root.ir import Graph
    from sofie_root.model import Model

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Generated:
    """A header, its weights, and an example of what it computes.

    Attributes:
        text: the header.
        weights: path of the weights file; None where there are none.
        inputs: of the example, by name (empty: none was found).
        outputs: of the example, by name.
    """

    text: str
    weights: str | None
    inputs: dict[str, Array]
    outputs: dict[str, Array]


def generated(model: Model, exact: bool = False) -> Generated:
    """The header of a model, from the cache where it is known already."""
    if any(node.op.is_custom for node in model.graph.all_nodes()):
        # A user's operator may depend on anything, so nothing is kept.
        return _make(Path(tempfile.mkdtemp(dir=process_folder())), model, exact)
    cache = writable_cache()
    folder = cache / "generated" / _key(model.graph, default_choice(exact))
    if (found := _read(folder, model)) is not None:
        touch(folder)
        return found
    made = _make(folder, model, exact)
    trim(cache)
    return made


def _make(folder: Path, model: Model, exact: bool) -> Generated:
    header = model.header(weights="dat", standalone=False, inline_user_code=True, exact=exact)
    _write(folder, header, model.example)
    made = _read(folder, model)
    assert made is not None, folder
    return made


def _key(graph: Graph, choice: Choice) -> str:
    """SHA-256 of all that the generated code depends on."""
    digest = hashlib.sha256(_sources())
    digest.update(repr(choice).encode())
    digest.update(json.dumps(encode_graph(graph), sort_keys=True).encode())
    for name, array in graph.constants.items():
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(array).view(np.uint8).data if array.size else b"")
    return digest.hexdigest()


@functools.cache
def _sources() -> bytes:
    """Digest of the sources of sofie_root, C++ included."""
    digest = hashlib.sha256()
    package = Path(__file__).parent.parent
    for folder, pattern in ((package, "*.py"), (include_dir(), "*.hxx")):
        for path in sorted(folder.rglob(pattern)):
            digest.update(path.read_bytes())
    return digest.digest()


def _read(folder: Path, model: Model) -> Generated | None:
    """What is kept in a folder; None where it is not there or not whole."""
    try:
        text = (folder / "model.hxx").read_text(encoding="utf-8")
        with np.load(folder / "example.npz", allow_pickle=False) as arrays:
            inputs, outputs = (
                {
                    name: arrays[f"{kind}{k}"].view(t.dtype.numpy)
                    for k, (name, t) in enumerate(types.items())
                    if f"{kind}{k}" in arrays
                }
                for kind, types in (("in", model.inputs), ("out", model.outputs))
            )
    except (OSError, ValueError):
        return None
    weights = folder / "model.dat"
    return Generated(text, str(weights) if weights.exists() else None, inputs, outputs)


def _write(folder: Path, header: Header, example: Sample | None) -> None:
    """Keeps a header; the text comes last, so that what is found is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    if header.constants:
        write_dat(folder / "model.dat", header.constants, header.model_hash)
    arrays = {}
    if example is not None:
        arrays = {f"in{k}": _raw(v) for k, v in enumerate(example.inputs.values())}
        arrays |= {f"out{k}": _raw(v) for k, v in enumerate(example.outputs.values())}
    with replacing(folder / "example.npz") as path, path.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
    with replacing(folder / "model.hxx") as path:
        path.write_text(header.text, encoding="utf-8")


def _raw(array: Array) -> Array:
    """The array in a dtype that a .npz file knows; bfloat16 is none."""
    return array if array.dtype.isbuiltin else array.view(np.uint16)
