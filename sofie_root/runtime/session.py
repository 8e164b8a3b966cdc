"""Runs a loaded model on numpy arrays."""

from __future__ import annotations

import ctypes
import threading
import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

import numpy as np
import numpy.typing as npt

from sofie_root.accuracy import ROUNDING, Exact, agree, evaluate_exactly
from sofie_root.budget import stage
from sofie_root.errors import (
    InputError,
    SelfTestWarning,
    SofieError,
    StorageError,
    ToolchainError,
)

from .generated import generated
from .interpreter import Jit, Library, TensorInfo, load_library

if TYPE_CHECKING:
    from sofie_root.model import Model

Array: TypeAlias = npt.NDArray[Any]

_FAILED, _NO_MEMORY = 1, 2
_MAX_RANK = 64


def open_session(
    model: Model, jit: Jit = "auto", exact: bool = False, target: str = "cpu"
) -> Session:
    """Compiles a model, and runs its example to see that the compiled code computes what it should.

    Args:
        model: what to run.
        jit: see :func:`~sofie_root.runtime.interpreter.load_library`.
        exact: see :meth:`sofie_root.model.Model.generate`.
        target: likewise.

    Raises:
        ToolchainError: the header does not compile, or the self-test fails.

    Warns:
        SelfTestWarning: no inputs were found that the model takes, so that nothing was compared.
    """
    made = generated(model, exact, target)
    library = load_library(made.text, jit=jit, is_generated=not made.has_user_code)
    session = Session(library, made.weights)

    def exactly() -> Mapping[str, Exact]:
        with stage(model.budget):
            return evaluate_exactly(model.graph, made.inputs)

    if made.outputs:
        session.self_test(made.inputs, made.outputs, exactly)
    elif made.untested:
        warnings.warn(
            f"{model.name!r} opens without a self-test, as it took none of the random inputs that were "
            f"tried ({made.untested}); compare it with model.check(inputs=...)",
            SelfTestWarning,
            stacklevel=3,
        )
    return session


def open_header(
    header: str | Path, weights: str | Path | None = None, jit: Jit = "auto"
) -> Session:
    """Compiles a header that was generated earlier.

    Args:
        header: path or text of the header.
        weights: its weights file; None: the one beside the header, or embedded weights.
        jit: see :func:`~sofie_root.runtime.interpreter.load_library`.

    Raises:
        ToolchainError: the header does not compile.
        StorageError: the weights file is missing, damaged, or of another model.
    """
    if weights is None and isinstance(header, Path):
        beside = [header.with_suffix(suffix) for suffix in (".dat", ".root")]
        weights = next((path for path in beside if path.is_file()), None)
    return Session(load_library(header, jit=jit), None if weights is None else str(weights))


class Session:
    """A model that is ready to run.

    ``session(x, ...)`` takes inputs in the model's order, ``session.run({"x": x})`` by name. Arrays
    must have the model's dtypes; lists and numbers are converted. Contiguous arrays are read in
    place. The GIL is released while the model runs. One Session runs one call at a time; for
    threads, give each its own ``clone()``.

    Attributes:
        library: the code.
        weights: path of the weights file, if one was named.
        inputs: what the model takes.
        outputs: what it returns.
        symbols: names of the sizes that may differ from call to call.
    """

    def __init__(self, library: Library, weights: str | None = None) -> None:
        self.library = library
        self.weights = weights
        self.inputs = library.inputs
        self.outputs = library.outputs
        self.symbols = library.symbols
        message = ctypes.create_string_buffer(4096)
        path = None if weights is None else weights.encode()
        self._handle: int = library.functions.create(path, ctypes.addressof(message), len(message))
        if not self._handle:
            raise StorageError(message.value.decode(errors="replace"))
        # Not at exit, when cling may have unloaded the code.
        weakref.finalize(self, library.functions.destroy, self._handle).atexit = False
        self._lock = threading.Lock()
        self._run = library.functions.run
        self._dims = (ctypes.c_size_t * max(len(self.symbols), 1))()
        self._in = (ctypes.c_void_p * max(len(self.inputs), 1))()
        self._out = (ctypes.c_void_p * max(len(self.outputs), 1))()
        self._arguments = tuple(ctypes.addressof(a) for a in (self._dims, self._in, self._out))
        self._input_dtypes = [t.dtype.numpy for t in self.inputs]
        self._output_dtypes = [t.dtype.numpy for t in self.outputs]
        self._shapes: list[tuple[int, ...]] | None = None  # of the inputs in the last call
        self._output_shapes: list[tuple[int, ...] | None] = []
        for tensor in self.inputs:
            if "?" in tensor.shape:
                raise InputError(
                    "has a size that is an expression; fix the dims when loading",
                    tensor=tensor.name,
                )

    def __call__(self, *inputs: npt.ArrayLike) -> Any:
        """Runs the model.

        Args:
            inputs: one array per input, in the model's order.

        Returns:
            The output array; a tuple of arrays where the model has several outputs.

        Raises:
            InputError: an input has a wrong dtype or shape, or the model refused its values.
        """
        if len(inputs) != len(self.inputs):
            names = ", ".join(t.name for t in self.inputs)
            raise InputError(
                f"the model takes {len(self.inputs)} inputs ({names}), not {len(inputs)}"
            )
        results = self._call(inputs, {})
        return results[0] if len(results) == 1 else tuple(results)

    def run(
        self, inputs: Mapping[str, npt.ArrayLike], out: Mapping[str, Array] | None = None
    ) -> dict[str, Array]:
        """Runs the model on inputs by name.

        Args:
            inputs: one array per input.
            out: arrays to write outputs into, by name; the other outputs are allocated.

        Returns:
            Every output by name; those in ``out`` are the same objects.

        Raises:
            InputError: an input or an array of ``out`` does not fit, or the model refused values.
        """
        names = [t.name for t in self.inputs]
        if missing := [n for n in names if n not in inputs]:
            raise InputError(f"is missing; the model takes {', '.join(names)}", tensor=missing[0])
        if unknown := [n for n in inputs if n not in names]:
            raise InputError(f"is no input; the model takes {', '.join(names)}", tensor=unknown[0])
        outputs = [t.name for t in self.outputs]
        if unknown := [n for n in out or {} if n not in outputs]:
            raise InputError(
                f"is no output; the model returns {', '.join(outputs)}", tensor=unknown[0]
            )
        return dict(zip(outputs, self._call([inputs[n] for n in names], out or {}), strict=True))

    def clone(self) -> Session:
        """Another Session of the same model, for another thread. The weights are shared."""
        return Session(self.library, self.weights)

    def self_test(
        self,
        inputs: Mapping[str, Array],
        expected: Mapping[str, Array],
        exactly: Callable[[], Mapping[str, Exact]] | None = None,
    ) -> None:
        """Runs inputs whose outputs are known.

        Args:
            inputs: arrays by name.
            expected: the outputs by name.
            exactly: evaluates the model in double; asked where the outputs differ, as a model whose terms
                cancel gives nothing but rounding.

        Raises:
            ToolchainError: the outputs differ.
        """
        try:
            results = self.run(inputs)
        except InputError as error:
            raise ToolchainError(f"the self-test failed: {error}") from error
        for name, found in results.items():
            want = np.asarray(expected[name])
            if not agree(found, want) and not _differ_by_rounding(name, found, want, exactly):
                raise ToolchainError(
                    f"the self-test failed: what {self.library.engine} compiled computes something "
                    "else than the model does. Please report this; another jit= may work",
                    tensor=name,
                )

    def __repr__(self) -> str:
        inputs = ", ".join(f"{t.name}: {t}" for t in self.inputs)
        outputs = ", ".join(f"{t.name}: {t}" for t in self.outputs)
        return f"<Session ({inputs}) -> ({outputs}), {self.library.engine}>"

    def _call(self, inputs: Sequence[npt.ArrayLike], out: Mapping[str, Array]) -> list[Array]:
        arrays = list(map(_as_input, inputs, self.inputs, self._input_dtypes))
        shapes = [array.shape for array in arrays]
        with self._lock:
            if shapes != self._shapes:  # the same as in the last call, mostly
                self._bind(shapes)
            for k, array in enumerate(arrays):
                self._in[k] = _address(array)
            results: list[Any] = []
            for k, (shape, dtype) in enumerate(
                zip(self._output_shapes, self._output_dtypes, strict=True)
            ):
                if out and (name := self.outputs[k].name) in out:
                    results.append(out[name])
                    _check_output(out[name], self.outputs[k], shape, arrays)
                else:
                    results.append(None if shape is None else np.empty(shape, dtype))
                self._out[k] = None if shape is None else _address(results[k])
            status = self._run(self._handle, *self._arguments)
            if status:
                self._raise(status)
            for k, shape in enumerate(self._output_shapes):
                if shape is None:
                    results[k] = self._dynamic_output(k)
        return results

    def _bind(self, shapes: Sequence[tuple[int, ...]]) -> None:
        """Checks the inputs' shapes, and sets the symbols and the outputs' shapes that follow."""
        sizes: dict[str, int] = {}
        for shape, tensor in zip(shapes, self.inputs, strict=True):
            if len(shape) != len(tensor.shape):
                raise InputError(
                    f"expected {tensor}, found shape {_text(shape)}: {len(shape)} axes, "
                    f"not {len(tensor.shape)}",
                    tensor=tensor.name,
                )
            for axis, (size, dim) in enumerate(zip(shape, tensor.shape, strict=True)):
                expected = sizes.setdefault(dim, size) if isinstance(dim, str) else dim
                if size == expected:
                    continue
                what = f"axis {axis} is {size}, not {expected}"
                if isinstance(dim, str):
                    what = f"{dim} is {size} on axis {axis}, but {self._first_use(dim, shapes)}"
                raise InputError(
                    f"expected {tensor}, found shape {_text(shape)}: {what}", tensor=tensor.name
                )
        self._shapes = None  # until all is set
        for k, name in enumerate(self.symbols):
            self._dims[k] = sizes[name]
        self._output_shapes = [self._output_shape(k, sizes) for k in range(len(self.outputs))]
        self._shapes = list(shapes)

    def _first_use(self, symbol: str, shapes: Sequence[tuple[int, ...]]) -> str:
        for shape, tensor in zip(shapes, self.inputs, strict=True):
            if symbol in tensor.shape:
                axis = tensor.shape.index(symbol)
                return f"{shape[axis]} on axis {axis} of {tensor.name!r}"
        raise AssertionError(symbol)

    def _output_shape(self, output: int, sizes: Mapping[str, int]) -> tuple[int, ...] | None:
        """The shape that an output will have; None where only the run tells."""
        tensor = self.outputs[output]
        if tensor.dynamic:
            return None
        if "?" not in tensor.shape:
            return tuple(sizes[d] if isinstance(d, str) else d for d in tensor.shape)
        found = (ctypes.c_size_t * _MAX_RANK)()
        status = self.library.functions.output_shape(
            self._handle, output, self._arguments[0], ctypes.addressof(found)
        )
        if status:
            self._raise(status)
        return tuple(found[: len(tensor.shape)])

    def _dynamic_output(self, output: int) -> Array:
        tensor = self.outputs[output]
        shape = (ctypes.c_size_t * _MAX_RANK)()
        data = self.library.functions.dynamic_output(self._handle, output, ctypes.addressof(shape))
        result = np.empty(tuple(shape[: len(tensor.shape)]), tensor.dtype.numpy)
        ctypes.memmove(result.ctypes.data, data, result.nbytes)
        return result

    def _raise(self, status: int) -> NoReturn:
        if status == _NO_MEMORY:
            raise MemoryError("out of memory while the model ran")
        raise InputError(self.library.functions.error(self._handle).decode(errors="replace"))


def _as_input(value: npt.ArrayLike, tensor: TensorInfo, dtype: np.dtype[Any]) -> Array:
    """The value as an array that C++ can read; a copy only where it must be one."""
    if not isinstance(value, np.ndarray):
        try:
            array = np.asarray(value)
        except ValueError as error:
            raise InputError(
                f"expected {tensor}, found no array: {error}", tensor=tensor.name
            ) from error
        # Lists and numbers have no dtype of their own, as a tensor of another library has.
        is_typed = hasattr(value, "dtype") or hasattr(value, "__array__")
        can_convert = not is_typed and np.can_cast(array.dtype, dtype, "same_kind")
        value = array.astype(dtype) if can_convert else array
    if value.dtype != dtype:
        if value.dtype.newbyteorder("=") != dtype:
            raise InputError(
                f"expected {tensor}, found dtype {value.dtype}; convert it with "
                f".astype({str(dtype)!r})",
                tensor=tensor.name,
            )
        return value.astype(dtype)  # big-endian, as files have it
    flags = value.flags
    if flags.c_contiguous and flags.aligned:
        return value
    return np.array(value, order="C")


def _check_output(
    array: object, tensor: TensorInfo, shape: tuple[int, ...] | None, inputs: Sequence[Array]
) -> None:
    """Checks that C++ can and may write an output into an array that the caller gave.

    Raises:
        InputError: says why not.
    """
    if shape is None:
        raise InputError(
            "has a size known only after the run: leave it out of out=", tensor=tensor.name
        )
    problem = None
    if not isinstance(array, np.ndarray):
        problem = f"is a {type(array).__name__}"
    elif array.dtype != tensor.dtype.numpy:
        problem = f"has dtype {array.dtype}"
    elif array.shape != shape:
        problem = f"has shape {_text(array.shape)}"
    elif not array.flags.writeable:
        problem = "is read-only"
    elif not (array.flags.c_contiguous and array.flags.aligned):
        problem = "is not contiguous"
    elif any(np.may_share_memory(array, x) for x in inputs):
        problem = "shares memory with an input"
    if problem is not None:
        raise InputError(
            f"out= needs a contiguous, writable {tensor.dtype} array of shape {_text(shape)}; "
            f"this one {problem}",
            tensor=tensor.name,
        )


def _address(array: Array) -> int | None:
    """Where an array's data is; ``array.ctypes.data`` does the same ten times slower."""
    # The data pointer is the first field after the object header, which is part of NumPy's ABI.
    return ctypes.c_void_p.from_address(id(array) + object.__basicsize__).value


def _text(shape: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, shape))}]"


def _differ_by_rounding(
    name: str, found: Array, expected: Array, exactly: Callable[[], Mapping[str, Exact]] | None
) -> bool:
    """Whether an evaluation in double says that two outputs differ by no more than rounding does."""
    if exactly is None or found.shape != expected.shape or found.dtype != expected.dtype:
        return False
    try:
        return exactly()[name].distance(found) <= ROUNDING
    except (SofieError, IndexError):
        return False
