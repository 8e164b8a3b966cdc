"""The IR in a ``.root`` file, written and read by uproot alone: no ROOT is needed.

``sofie_ir`` is a TObjString with everything but the numbers, as JSON; TTree ``w/tN`` holds constant
``N`` in its branch ``data``, one element per entry (bool as uint8, the 16-bit floats as uint16).
ROOT C++ reads both with nothing but TFile. With ``generate(weights="root")`` the same file also
carries the packed weights that the generated header reads, in TTree ``header/dat``.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import uproot
import xxhash

from sofie_root.budget import stage
from sofie_root.config import VERSION
from sofie_root.errors import SofieError, StorageError
from sofie_root.ir import DType, Graph, Refuse, TensorType, constant_type, infer_types, verify

from .atomic import replacing
from .description import decode_constants, decode_graph, encode_graph

Array = npt.NDArray[Any]
Compression: TypeAlias = Literal["zstd", "lzma", "lz4", "zlib", "none"]

FORMAT_VERSION = 1
BASKET_BYTES = 16 << 20
"""Most bytes that go into one basket: ROOT writes no object of more than 1 GB in one piece."""

IMAGE_CHUNK = 4096
"""Bytes per entry of ``header/dat``; ``core/weights_root.hxx`` expects the same."""

_COMPRESSIONS: dict[str, uproot.compression.Compression | None] = {
    "zstd": uproot.ZSTD(5),
    "lzma": uproot.LZMA(5),
    "lz4": uproot.LZ4(4),
    "zlib": uproot.ZLIB(5),
    "none": None,
}


def save(
    graph: Graph,
    path: str | os.PathLike[str],
    compression: Compression = "zstd",
    weights: bytes | None = None,
) -> None:
    """Writes a graph to a ``.root`` file.

    Args:
        graph: what to write.
        path: the file; an existing one is replaced.
        compression: of the trees and of the description.
        weights: bytes of a ``.dat`` file to store beside the graph, for a header that reads its
            weights from this file.

    Raises:
        StorageError: the file cannot be written.
    """
    if compression not in _COMPRESSIONS:
        known = ", ".join(_COMPRESSIONS)
        raise StorageError(
            f"unknown compression {compression!r}; use one of {known}", file=str(path)
        )
    document: dict[str, Any] = {"format": FORMAT_VERSION, "producer": f"sofie_root {VERSION}"}
    document |= encode_graph(graph)
    document["constants"] = [
        {"name": name, "checksum": checksum(array)} for name, array in graph.constants.items()
    ]
    document["checksum"] = checksum(_text(document))
    with (
        replacing(path) as temporary,
        uproot.recreate(temporary, compression=_COMPRESSIONS[compression]) as file,
    ):
        file["sofie_ir"] = _text(document)
        for number, array in enumerate(graph.constants.values()):
            elements = raw(array)
            tree = file.mktree(f"w/t{number}", {"data": elements.dtype})
            for part in _parts(elements):
                tree.extend({"data": part})
        if weights is not None:
            padded = np.zeros((-(-len(weights) // IMAGE_CHUNK), IMAGE_CHUNK), np.uint8)
            padded.reshape(-1)[: len(weights)] = np.frombuffer(weights, np.uint8)
            tree = file.mktree("header/dat", {"data": np.dtype((np.uint8, (IMAGE_CHUNK,)))})
            for part in _parts(padded):
                tree.extend({"data": part})


def load(path: str | os.PathLike[str]) -> Graph:
    """Reads a graph from a ``.root`` file and verifies it.

    Raises:
        StorageError: the file is missing, cut off, damaged, no model, or of a newer format.
        UnsupportedError: the graph uses operators that are not registered; names all of them.
    """
    with _reading(path) as file, stage():
        document = _document(file)
        return graph_of(
            document, partial(_read_constant, file["w"] if document["constants"] else {})
        )


ReadConstant: TypeAlias = Callable[[int, str, TensorType], Array]
"""Gives a constant by its number; name and type are for messages and to know what is expected."""


def graph_of(document: Any, read_constant: ReadConstant) -> Graph:
    """The graph that a description stands for, verified.

    Args:
        document: the parsed JSON of ``sofie_ir``; nothing in it is trusted.
        read_constant: where its constants come from.

    Raises:
        StorageError: the description or a constant is damaged.
        ModelError: the graph makes no sense.
        UnsupportedError: the graph uses operators that are not registered; names all of them.
    """
    graph = decode_graph(document)
    for number, (name, stated) in enumerate(decode_constants(document)):
        if name not in graph.types or name in graph.constants:
            raise StorageError("is a constant without a type, or there twice", tensor=name)
        array = read_constant(number, name, graph.types[name])
        if checksum(array) != stated:
            raise StorageError("is damaged: its checksum does not match", tensor=name)
        graph.constants[name] = array
    try:
        verify(graph)
        _retype(graph)
    except Refuse as reason:
        raise StorageError(f"holds a graph that cannot be used: {reason}") from reason
    return graph


def _retype(graph: Graph) -> None:
    """Infers all types again: memory is laid out by them, so those of a file are not trusted."""
    stated = graph.equalities
    graph.types |= {name: constant_type(array) for name, array in graph.constants.items()}
    infer_types(graph)
    graph.equalities = [*stated, *(e for e in graph.equalities if e not in stated)]


def read_weights(path: str | os.PathLike[str]) -> bytes:
    """The ``.dat`` image stored in a ``.root`` file, as ``save(..., weights=image)`` got it.

    Raises:
        StorageError: the file is damaged or holds no packed weights.
    """
    with _reading(path) as file:
        if "header/dat" not in file:
            raise StorageError('has no packed weights; write it with generate(weights="root")')
        image = _elements(file["header/dat"], np.dtype(np.uint8)).tobytes()
        size = int.from_bytes(image[56:64], "little")  # of the .dat; the last entry is padded
        return image[:size]


def _text(document: Mapping[str, Any]) -> str:
    """The one JSON text of a document: sorted, without spaces, ASCII, no NaN."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)


def checksum(data: str | Array) -> str:
    """XXH64 in hexadecimal; ROOT's baskets carry no checksum that would show a flipped bit."""
    return xxhash.xxh64_hexdigest(data.encode() if isinstance(data, str) else raw(data).data)


def raw(array: Array) -> Array:
    """The elements in row-major order as a type that a TTree can hold."""
    flat = np.ravel(array, order="C")
    dtype = DType.from_numpy(flat.dtype)
    return flat if dtype is None else flat.view(_tree_dtype(dtype))


def _tree_dtype(dtype: DType) -> np.dtype[Any]:
    """What a branch holds for an element type."""
    if dtype is DType.BOOL:
        return np.dtype(np.uint8)
    if dtype in (DType.FLOAT16, DType.BFLOAT16):
        return np.dtype(np.uint16)
    return dtype.numpy


def _parts(array: Array) -> Iterator[Array]:
    """Pieces along the first axis of at most ``BASKET_BYTES``."""
    step = max(1, BASKET_BYTES // (array[:1].nbytes or 1))
    for start in range(0, len(array), step):
        yield array[start : start + step]


class _File(uproot.reading.ReadOnlyFile):  # type: ignore[misc]  # uproot has no types
    """A file whose own descriptions of its classes are not read.

    uproot makes Python code of them and runs it; the classes that it knows itself are enough.
    """

    @property
    def streamers(self) -> dict[str, Any]:
        return {}


@contextmanager
def _reading(path: str | os.PathLike[str]) -> Iterator[Any]:
    """An open file; whatever goes wrong inside becomes an error that names the file."""
    try:
        size = Path(path).stat().st_size
        # No cache: uproot knows files by an identifier that is written in the file.
        with _File(os.path.realpath(path), object_cache=None, array_cache=None) as file:
            if size < file.fEND:
                raise StorageError(f"is cut off: expected {file.fEND} bytes, found {size}")
            yield file.root_directory
    except SofieError as error:
        error.file = str(path)
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise StorageError(f"cannot be read: {reason}", file=str(path)) from error
    # uproot and the decoder meet arbitrary bytes here and raise whatever comes of them.
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise StorageError(
            f"is damaged, or is not a ROOT file of sofie_root ({reason})", file=str(path)
        ) from error


def _document(file: Any) -> dict[str, Any]:
    """The checked description."""
    if "sofie_ir" not in file:
        raise StorageError("holds no sofie_root model: it has no object 'sofie_ir'")
    document = json.loads(str(file["sofie_ir"]))
    if not isinstance(document, dict) or "format" not in document:
        raise StorageError("its description is damaged: it lacks 'format'")
    found = document["format"]
    if type(found) is not int or found != FORMAT_VERSION:
        writer = document.get("producer", "another program")
        raise StorageError(
            f"has format version {found!r}, written by {writer}; this sofie_root {VERSION} "
            f"reads up to version {FORMAT_VERSION}: install a newer one"
        )
    stated = document.pop("checksum")
    if stated != checksum(_text(document)):
        raise StorageError("is damaged: the checksum of its description does not match")
    return dict(document)


def _read_constant(trees: Any, number: int, name: str, type_: TensorType) -> Array:
    if f"t{number}" not in trees:
        raise StorageError(f"has no TTree 'w/t{number}'", tensor=name)
    tree = trees[f"t{number}"]
    shape = [d for d in type_.shape if isinstance(d, int) and d >= 0]
    if len(shape) != type_.rank:
        raise StorageError(f"is a constant of unknown size: {type_}", tensor=name)
    expected = math.prod(shape)
    if tree.num_entries != expected:
        raise StorageError(
            f"expected {expected} elements, found {tree.num_entries} in 'w/t{number}'", tensor=name
        )
    elements = _elements(tree, _tree_dtype(type_.dtype))
    if elements.size != expected:
        raise StorageError(f"expected {expected} elements, found {elements.size}", tensor=name)
    if type_.dtype is DType.BOOL and np.any(elements > 1):
        raise StorageError("holds bool elements that are neither 0 nor 1", tensor=name)
    return elements.view(type_.dtype.numpy).reshape(shape)


def _elements(tree: Any, dtype: np.dtype[Any]) -> Array:
    """All elements of branch ``data``.

    Basket by basket, so that memory is only taken for what the file really holds, whatever its
    header promises.
    """
    branch = tree["data"]
    found = branch.interpretation.numpy_dtype.base.newbyteorder("=")
    if found != dtype:
        raise StorageError(f"expected branch 'data' of {dtype} in {tree.name!r}, found {found}")
    parts = [
        branch.basket(k).array(branch.interpretation, library="np").reshape(-1)
        for k in range(branch.num_baskets)
    ]
    return np.concatenate(parts).astype(dtype) if parts else np.empty(0, dtype)


__all__ = ["FORMAT_VERSION", "Compression", "load", "read_weights", "save"]
