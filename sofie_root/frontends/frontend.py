"""What a frontend is, and the table of those that there are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sofie_root.errors import ModelError

if TYPE_CHECKING:
    from sofie_root.ir import Graph


@dataclass(frozen=True, slots=True)
class Frontend:
    """How the files of one format become graphs.

    Attributes:
        name: what people call the format.
        suffixes: of its files.
        read: gives the graph of a file, with sizes for some of its symbolic dims. It imports what it
            needs when it is called: a format that nobody reads costs nothing.
        reference: the framework that runs such files, a name of :data:`sofie_root.check.REFERENCES`;
            None where only our own interpreter can be compared with.
    """

    name: str
    suffixes: tuple[str, ...]
    read: Callable[[Path, Mapping[str, int]], Graph]
    reference: str | None = None


def _read_onnx(path: Path, dims: Mapping[str, int]) -> Graph:
    from .onnx import parse

    return parse(path, dims)


def _read_root(path: Path, dims: Mapping[str, int]) -> Graph:
    from sofie_root.build import fix_dims
    from sofie_root.storage import root_file  # uproot takes a while to import

    graph = root_file.load(path)
    return fix_dims(graph, dims) if dims else graph


FRONTENDS: tuple[Frontend, ...] = (
    Frontend("ONNX", (".onnx",), _read_onnx, reference="onnxruntime"),
    Frontend("sofie_root", (".root",), _read_root),
)
"""Every format that can be read. A new one is a row here and a folder beside this module."""

_KERAS = "Keras", "convert it to ONNX with tf2onnx (python -m tf2onnx.convert)"
_TORCH = "PyTorch", "export it with torch.onnx.export"
_TREES = "decision tree", "convert it to ONNX with onnxmltools or skl2onnx"

UNSUPPORTED: dict[str, tuple[str, str]] = {
    ".keras": _KERAS,
    ".h5": _KERAS,
    ".hdf5": _KERAS,
    ".pb": ("TensorFlow", "convert it to ONNX with tf2onnx (python -m tf2onnx.convert)"),
    ".tflite": ("TensorFlow Lite", "convert it to ONNX with tf2onnx (--tflite)"),
    ".pt": _TORCH,
    ".pt2": _TORCH,
    ".pth": _TORCH,
    ".ubj": _TREES,
}
"""Suffixes of formats that are known and cannot be read yet: their name, and what to do instead."""


def readable() -> str:
    """The suffixes of the files that can be read, as text: ``".onnx or .root"``."""
    suffixes = [suffix for frontend in FRONTENDS for suffix in frontend.suffixes]
    return " or ".join(filter(None, (", ".join(suffixes[:-1]), suffixes[-1])))


def frontend_of(path: Path) -> Frontend:
    """The frontend that reads a file of this name.

    Raises:
        ModelError: there is none; the message says which files can be read.
    """
    for frontend in FRONTENDS:
        if path.suffix in frontend.suffixes:
            return frontend
    if path.suffix in UNSUPPORTED:
        name, advice = UNSUPPORTED[path.suffix]
        raise ModelError(
            f"{name} files ({path.suffix}) are not supported yet: {advice}; "
            f"what can be read is {readable()}",
            file=str(path),
        )
    raise ModelError(
        f"files of type {path.suffix or '(none)'} cannot be read; give an {readable()} file",
        file=str(path),
    )
