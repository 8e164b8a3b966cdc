"""Packed weights of a generated header: the ``.dat`` file, which ``sofie/core/weights.hxx`` reads.

The layout is described there; one read and no parsing of text in C++. The same bytes are stored
inside a ``.root`` file, or in the program itself.
"""

from __future__ import annotations

import hashlib
import math
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from sofie_root.errors import StorageError
from sofie_root.ir.dtype import DType

from .atomic import replacing

Array = npt.NDArray[Any]

MAGIC = b"SOFIEDAT"
FORMAT_VERSION = 1
ALIGNMENT = 64

_HEADER = struct.Struct("<8sII32sQQ")
_ENTRY = struct.Struct("<IIIIQQ")
_CHECKSUM = struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class Weights:
    """What a ``.dat`` file holds.

    Attributes:
        model_hash: SHA-256 of the model whose header reads this file.
        constants: arrays by name, in the file's order.
    """

    model_hash: bytes
    constants: dict[str, Array]


def model_hash(constants: Mapping[str, Array], text: str) -> bytes:
    """The SHA-256 that ties a header to its weights; the same network trained again has another.

    Args:
        constants: what the header reads; names, dtypes, shapes and elements count.
        text: anything else that must not differ, such as the program in its text form.
    """
    digest = hashlib.sha256(text.encode())
    for name, array in constants.items():
        digest.update(f"\0{name}\0{array.dtype}\0{array.shape}\0".encode())
        digest.update(np.ravel(array, order="C").view(np.uint8).data)
    return digest.digest()


def dat_bytes(constants: Mapping[str, Array], model_hash: bytes) -> bytes:
    """The bytes of a ``.dat`` file.

    Args:
        constants: arrays by name; their elements are stored in row-major order.
        model_hash: 32 bytes, see :func:`model_hash`.
    """
    names = [name.encode() for name in constants]
    table_bytes = sum(
        _ENTRY.size + 8 * array.ndim + _padded(len(name), 8)
        for name, array in zip(names, constants.values(), strict=True)
    )
    table = bytearray()
    offsets = []
    offset = _padded(_HEADER.size + table_bytes, ALIGNMENT)
    for name, array in zip(names, constants.values(), strict=True):
        dtype = DType.from_numpy(array.dtype)
        if dtype is None:
            raise StorageError(f"element type {array.dtype} cannot be stored", tensor=name.decode())
        table += _ENTRY.pack(len(name), dtype.onnx, array.ndim, 0, offset, array.nbytes)
        table += struct.pack(f"<{array.ndim}Q", *array.shape) + name + bytes(-len(name) % 8)
        offsets.append(offset)
        offset = _padded(offset + array.nbytes, ALIGNMENT)
    size = offset + _CHECKSUM.size

    image = bytearray(size)
    _HEADER.pack_into(image, 0, MAGIC, FORMAT_VERSION, len(names), model_hash, table_bytes, size)
    image[_HEADER.size : _HEADER.size + table_bytes] = table
    for start, array in zip(offsets, constants.values(), strict=True):
        np.frombuffer(image, array.dtype, array.size, start).reshape(array.shape)[...] = array
    checksum = xxhash.xxh64_intdigest(memoryview(image)[:offset])
    _CHECKSUM.pack_into(image, offset, checksum)
    return bytes(image)


def write_dat(
    path: str | os.PathLike[str], constants: Mapping[str, Array], model_hash: bytes
) -> None:
    """Writes a ``.dat`` file; arguments as for :func:`dat_bytes`."""
    image = dat_bytes(constants, model_hash)
    with replacing(path) as temporary:
        temporary.write_bytes(image)


def read_dat(path: str | os.PathLike[str]) -> Weights:
    """Reads and checks a ``.dat`` file.

    Raises:
        StorageError: the file is missing, cut off, damaged, or of another format version.
    """
    try:
        image = Path(path).read_bytes()
    except OSError as error:
        raise StorageError(f"cannot be read: {error.strerror}", file=str(path)) from error
    return parse_dat(image, file=str(path))


def parse_dat(image: bytes, *, file: str | None = None) -> Weights:
    """Checks the bytes of a ``.dat`` file and gives its tensors as read-only views of them.

    Raises:
        StorageError: the bytes are cut off, damaged, or of another format version.
    """
    if image[: len(MAGIC)] != MAGIC[: len(image)] or not image:
        raise StorageError("is not a weights file: it does not start with SOFIEDAT", file=file)
    if len(image) < _HEADER.size:
        raise StorageError(f"is cut off after {len(image)} bytes", file=file)
    _, version, count, found_hash, table_bytes, size = _HEADER.unpack_from(image)
    if version != FORMAT_VERSION:
        raise StorageError(
            f"has format version {version}, this sofie_root reads {FORMAT_VERSION}; "
            "write the weights again with generate()",
            file=file,
        )
    if size != len(image) or size < _HEADER.size + _CHECKSUM.size:
        raise StorageError(
            f"is cut off or damaged: expected {size} bytes, found {len(image)}", file=file
        )
    end = size - _CHECKSUM.size
    (stated,) = _CHECKSUM.unpack_from(image, end)
    if xxhash.xxh64_intdigest(memoryview(image)[:end]) != stated:
        raise StorageError("is damaged: its checksum does not match", file=file)
    constants: dict[str, Array] = {}
    try:
        at, stop = _HEADER.size, _HEADER.size + table_bytes
        if stop > end:
            raise StorageError("is damaged: its table is larger than the file", file=file)
        for _ in range(count):
            if at >= stop:
                raise StorageError("is damaged: its table is too short", file=file)
            name_bytes, number, rank, _, offset, nbytes = _ENTRY.unpack_from(image, at)
            dims = struct.unpack_from(f"<{rank}Q", image, at + _ENTRY.size)
            at += _ENTRY.size + 8 * rank
            name = image[at : at + name_bytes].decode()
            at += name_bytes + -name_bytes % 8
            dtype = DType.from_onnx(number)
            expected = math.prod(dims) * (dtype.size if dtype else 0)
            if dtype is None or nbytes != expected or offset % ALIGNMENT or offset + nbytes > end:
                raise StorageError(
                    f"is damaged: expected element type {number} known and {expected} bytes inside "
                    f"the file, found {nbytes} bytes at {offset}",
                    tensor=name,
                    file=file,
                )
            flat = np.frombuffer(image, dtype.numpy, math.prod(dims), offset)
            constants[name] = flat.reshape(dims)
    except (struct.error, ValueError) as error:
        raise StorageError(f"is damaged: its table cannot be read ({error})", file=file) from error
    return Weights(found_hash, constants)


def _padded(size: int, unit: int) -> int:
    """``size`` rounded up to a multiple of ``unit``."""
    return -(-size // unit) * unit
