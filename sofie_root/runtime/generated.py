"""What has to be generated before a model runs, kept from one process to the next.

The key is the model itself (its graph and its constants) and the sources of sofie_root, so nothing that
could change the result is missed; what is found is as if it had just been generated.
"""

from __future__ import annotations

import functools
import hashlib
import json
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sofie_root.config import include_dir
from sofie_root.program.choice import Choice, default_choice
from sofie_root.samples import Sample
from sofie_root.storage.description import encode_graph
from sofie_root.storage.weights import dat_bytes, model_hash, read_dat
from sofie_root.targets.cxx.header import Header

from .cache import entry, process_folder

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
        inputs: of the example, by name.
        outputs: of the example, by name (empty: no example was found).
        untested: why no example was found (empty: there is one, or there can be none).
        has_user_code: whether the header has code of custom operators in it.
    """

    text: str
    weights: str | None
    inputs: dict[str, Array]
    outputs: dict[str, Array]
    untested: str = ""
    has_user_code: bool = False


def generated(model: Model, exact: bool = False, target: str = "cpu") -> Generated:
    """The header of a model, from the cache where it is known already.

    Raises:
        StorageError: nothing can be written, not even to a temporary folder.
    """

    def make(folder: Path) -> None:
        header = model.header(
            weights="dat", standalone=False, inline_user_code=True, exact=exact, target=target
        )
        _write(folder, header, model.example, model.untested)

    has_user_code = any(node.op.is_custom for node in model.graph.all_nodes())
    if has_user_code:
        # A user's operator may depend on anything, so nothing is kept.
        folder = Path(tempfile.mkdtemp(dir=process_folder()))
        make(folder)
    else:
        key = _key(model.graph, default_choice(exact), target)
        folder = entry(f"generated-{key}", make, f"generates {model.name!r}")
    return replace(_read(folder, model), has_user_code=has_user_code)


def _key(graph: Graph, choice: Choice, target: str) -> str:
    """SHA-256 of all that the generated code depends on."""
    digest = hashlib.sha256(_sources())
    digest.update(repr((choice, target)).encode())
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


def _read(folder: Path, model: Model) -> Generated:
    text = (folder / "model.hxx").read_text(encoding="utf-8")
    example = folder / "example.dat"
    inputs, outputs = {}, {}
    if example.exists():
        arrays = read_dat(example).constants
        inputs = {name: arrays[f"in{k}"] for k, name in enumerate(model.inputs)}
        outputs = {name: arrays[f"out{k}"] for k, name in enumerate(model.outputs)}
    weights = folder / "model.dat"
    untested = folder / "untested.txt"
    why = untested.read_text(encoding="utf-8") if untested.exists() else ""
    return Generated(text, str(weights) if weights.exists() else None, inputs, outputs, why)


def _write(folder: Path, header: Header, example: Sample | None, untested: str) -> None:
    (folder / "model.hxx").write_text(header.text, encoding="utf-8")
    if header.constants:
        (folder / "model.dat").write_bytes(dat_bytes(header.constants, header.model_hash))
    if example is not None:
        arrays = {f"in{k}": v for k, v in enumerate(example.inputs.values())}
        arrays |= {f"out{k}": v for k, v in enumerate(example.outputs.values())}
        (folder / "example.dat").write_bytes(dat_bytes(arrays, model_hash(arrays, "")))
    elif untested:
        (folder / "untested.txt").write_text(untested, encoding="utf-8")
