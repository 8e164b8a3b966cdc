"""ONNX tensors to NumPy arrays; every size is checked before memory is taken or a file is read."""

from __future__ import annotations

import os
from collections.abc import Sequence
from math import prod
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import SparseTensorProto, TensorProto

from sofie_root.budget import account
from sofie_root.errors import BudgetError, ModelError
from sofie_root.ir import DType, Refuse

Array = npt.NDArray[Any]

_TYPED_FIELD = {
    DType.FLOAT: "float_data",
    DType.DOUBLE: "double_data",
    DType.INT64: "int64_data",
    DType.UINT32: "uint64_data",
    DType.UINT64: "uint64_data",
}
"""Field of TensorProto that holds elements of a dtype; ``int32_data`` for all others."""


class TensorReader:
    """Turns the tensors of one model into arrays.

    Args:
        base_dir: folder of the model, the only place external data may lie in; None where the model
            did not come from a file.
        file: path for error messages.
        stored: bytes of the model itself. What the arrays take beyond this and beyond what external
            data takes on disk counts against the budget of memory.
    """

    def __init__(self, base_dir: Path | None, file: str | None, stored: int = 0) -> None:
        self._base_dir = base_dir
        self._file = file
        self._stored = stored
        self._taken = 0
        self._external_files: set[Path] = set()

    def array(self, tensor: TensorProto) -> Array:
        """The tensor as a C-contiguous array.

        Raises:
            ModelError: sizes contradict each other, or the external data cannot be read.
            Refuse: the element type is not supported.
        """
        dtype = _dtype(tensor.data_type)
        shape = self._shape(tensor.dims, tensor.name)
        count = prod(shape)
        if tensor.HasField("segment"):
            raise Refuse(
                "tensors in segments are not supported; save the model again with onnx.save"
            )
        if tensor.data_location == TensorProto.EXTERNAL:
            data = self._external(tensor, count * dtype.size)
            return self._from_bytes(data, dtype, shape)
        if tensor.HasField("raw_data"):
            data = tensor.raw_data
            if len(data) != count * dtype.size:
                raise self._error(
                    tensor.name,
                    f"{dtype}{list(shape)} needs {count * dtype.size} bytes, "
                    f"the file holds {len(data)}; export the model again",
                )
            self._take(len(data), tensor.name)
            return self._from_bytes(data, dtype, shape)
        values = getattr(tensor, _TYPED_FIELD.get(dtype, "int32_data"))
        if len(values) != count:
            raise self._error(
                tensor.name,
                f"{dtype}{list(shape)} needs {count} elements, the file holds {len(values)}; "
                "export the model again",
            )
        self._take(count * dtype.size, tensor.name)
        if dtype in (DType.FLOAT16, DType.BFLOAT16):  # stored as bit patterns
            bits = np.array(values, dtype=np.int64).astype(np.uint16)
            return self._from_bytes(bits.tobytes(), dtype, shape)
        if dtype in (DType.FLOAT, DType.DOUBLE, DType.UINT64, DType.UINT32):
            return np.array(values, dtype=dtype.numpy).reshape(shape)
        return np.array(values, dtype=np.int64).astype(dtype.numpy).reshape(shape)

    def dense(self, sparse: SparseTensorProto) -> Array:
        """A sparse tensor as a dense array."""
        name = sparse.values.name
        shape = self._shape(sparse.dims, name)
        dtype = _dtype(sparse.values.data_type)
        self._take(prod(shape) * dtype.size, name)
        values = self.array(sparse.values)
        indices = self.array(sparse.indices)
        if values.ndim != 1 or indices.dtype != np.int64 or len(indices.shape) not in (1, 2):
            raise self._error(name, "a sparse tensor needs 1-D values and int64 indices")
        if indices.ndim == 1:
            indices = indices.reshape(-1, 1)
            extents: tuple[int, ...] = (prod(shape),)
        else:
            extents = shape
        if indices.shape != (len(values), len(extents)):
            raise self._error(
                name, f"{len(values)} sparse values have indices of shape {indices.shape}"
            )
        if np.any(indices < 0) or np.any(indices >= np.array(extents, dtype=np.int64)):
            raise self._error(name, f"a sparse index lies outside the shape {list(shape)}")
        result = np.zeros(extents, dtype=dtype.numpy)
        result[tuple(indices.T)] = values
        return result.reshape(shape)

    def _shape(self, dims: Sequence[int], name: str) -> tuple[int, ...]:
        shape = tuple(int(d) for d in dims)
        if any(d < 0 for d in shape):
            raise self._error(name, f"shape {list(shape)} has a negative dimension")
        if len(shape) > 64:
            raise self._error(name, f"has {len(shape)} axes; at most 64 are possible")
        return shape

    def _from_bytes(self, data: bytes, dtype: DType, shape: tuple[int, ...]) -> Array:
        """The array on these little-endian bytes; any byte but 0 is true."""
        if dtype is DType.BOOL:
            return np.not_equal(np.frombuffer(data, dtype=np.uint8), 0).reshape(shape)
        return np.frombuffer(data, dtype=dtype.numpy).reshape(shape)

    def _external(self, tensor: TensorProto, size: int) -> bytes:
        entries = {e.key: e.value for e in tensor.external_data}
        path = self._inside(entries.get("location", ""), tensor.name)
        try:
            offset = int(entries.get("offset") or 0)
            length = int(entries.get("length") or size)
        except ValueError:
            raise self._error(
                tensor.name, "offset or length of its external data is no number"
            ) from None
        if length != size:
            raise self._error(tensor.name, f"needs {size} bytes, its external data says {length}")
        try:
            available = path.stat().st_size
            if offset < 0 or offset + length > available:
                raise self._error(
                    tensor.name,
                    f"needs bytes {offset} to {offset + length} of {path.name!r}, "
                    f"which has {available}; is the file cut off?",
                )
            self._check_memory(length, tensor.name)
            if path not in self._external_files:  # of a file with holes only what it takes on disk
                self._external_files.add(path)
                self._stored += min(available, 512 * path.stat().st_blocks)
            self._take(length, tensor.name)
            with path.open("rb") as stream:
                stream.seek(offset)
                data = stream.read(length)
        except OSError as error:
            raise self._error(
                tensor.name, f"its external data {path.name!r} cannot be read ({error.strerror})"
            ) from None
        if len(data) != length:
            raise self._error(tensor.name, f"its external data {path.name!r} ended early")
        return data

    def _inside(self, location: str, name: str) -> Path:
        """The external data file, proven to lie inside the model's folder."""
        if self._base_dir is None:
            raise self._error(
                name, "has external data, but the model has no folder; parse it from a file"
            )
        posix, windows = PurePosixPath(location), PureWindowsPath(location)
        climbs = ".." in posix.parts or ".." in windows.parts
        if not location or "\0" in location or climbs or posix.is_absolute() or windows.anchor:
            raise self._error(
                name,
                f"its external data {_short(location)} is not inside the model's folder; "
                "only files beside the model are read",
            )
        base = self._base_dir.resolve()
        try:
            resolved = (base / location).resolve(strict=True)
            is_file = resolved.is_file()
        except FileNotFoundError:
            raise self._error(
                name, f"its external data {_short(location)} is missing from {base}"
            ) from None
        except (OSError, RuntimeError) as error:  # a loop of links is a RuntimeError
            reason = getattr(error, "strerror", None) or "it is a link to itself"
            raise self._error(
                name, f"its external data {_short(location)} cannot be read ({reason})"
            ) from None
        if not resolved.is_relative_to(base) or not is_file:
            raise self._error(
                name,
                f"its external data {_short(location)} is a link out of the model's folder or no "
                "file",
            )
        return resolved

    def _take(self, size: int, name: str) -> None:
        """Counts memory that is about to be allocated; what the files do not hold is on the budget."""
        before = max(self._taken - self._stored, 0)
        try:
            account().keep(max(self._taken + size - self._stored, 0) - before)
        except BudgetError as error:
            error.tensor, error.file = name or None, self._file
            raise
        self._taken += size

    def _check_memory(self, size: int, name: str) -> None:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        if size > memory:
            raise self._error(name, f"needs {size} bytes, this machine has {memory}")

    def _error(self, name: str, message: str) -> ModelError:
        return ModelError(message, tensor=name or None, file=self._file)


def _short(text: str) -> str:
    """The text in quotes, cut where it is longer than a line."""
    return repr(text if len(text) <= 80 else f"{text[:77]}...")


def _dtype(number: int) -> DType:
    dtype = DType.from_onnx(number)
    if dtype is None:
        raise Refuse(f"element type {type_name(number)} is not supported")
    return dtype


def type_name(number: int) -> str:
    """Name of an ONNX element type, for messages."""
    names: dict[int, str] = {v: k for k, v in TensorProto.DataType.items()}
    return names.get(number, f"number {number}").lower()
