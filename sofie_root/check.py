"""Runs random inputs through a model and a reference, and reports the largest differences."""

from __future__ import annotations

import hashlib
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from .budget import stage
from .errors import InputError, SofieError
from .ir import DType, TensorType
from .lowering.interpret import evaluate
from .ops.custom import without_reference
from .samples import SIZES, Runner, Sample, find_sample

if TYPE_CHECKING:
    from .model import Model

Array = npt.NDArray[Any]
Arrays: TypeAlias = str | os.PathLike[str] | Mapping[str, npt.ArrayLike]
"""Arrays by name, or the path of an .npz file of them."""

TOLERANCE = 1e-4
SCALES = (1.0, 0.1, 0.01)
"""Widths of the random inputs: those far from what a network was trained on saturate its output."""
_TOLERANCES = {DType.FLOAT16: 2e-3, DType.BFLOAT16: 2e-2}
"""Wider where neighbouring numbers of the output's type are further apart than ``TOLERANCE``."""


@dataclass(frozen=True, slots=True)
class Difference:
    """How far two arrays are apart.

    Attributes:
        max_abs: largest absolute difference.
        max_rel: that, divided by the largest absolute value of the expected array.
        problem: why they cannot be compared by number (another shape, NaN on one side), or None.
    """

    max_abs: float
    max_rel: float
    problem: str | None = None


def compare(expected: npt.ArrayLike, found: npt.ArrayLike) -> Difference:
    """Compares two arrays as the model zoo does: ``max|a - b| / max|a|``.

    NaN equals NaN and infinities equal themselves; the rest is compared by value.
    """
    a, b = np.asarray(expected), np.asarray(found)
    if a.shape != b.shape or a.dtype != b.dtype:
        problem = f"expected {a.dtype}{list(a.shape)}, found {b.dtype}{list(b.shape)}"
        return Difference(np.inf, np.inf, problem)
    if a.dtype.kind in "iu" and not np.array_equal(a, b):
        # 64-bit integers are exact only as Python's
        pairs = list(zip(a.ravel().tolist(), b.ravel().tolist(), strict=True))
        return _difference(max(abs(p - q) for p, q in pairs), max(abs(p) for p, _ in pairs))
    x, y = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    finite = np.isfinite(x)
    if (
        not np.array_equal(x[~finite], y[~finite], equal_nan=True)
        or not np.isfinite(y[finite]).all()
    ):
        wrong = int(np.sum(~((x == y) | (np.isnan(x) & np.isnan(y)) | (finite & np.isfinite(y)))))
        return Difference(np.inf, np.inf, f"{wrong} elements are NaN or infinite on one side only")
    x, y = x[finite], y[finite]
    return _difference(np.max(np.abs(x - y), initial=0.0), np.max(np.abs(x), initial=0.0))


def _difference(max_abs: float, scale: float) -> Difference:
    # Where all that is expected is zero there is no scale: the absolute difference must do.
    return Difference(float(max_abs), float(max_abs) / (float(scale) or 1.0))


@dataclass(frozen=True, slots=True)
class OutputCheck:
    """The worst of all samples for one output."""

    name: str
    type: str
    max_abs: float
    max_rel: float
    tolerance: float
    problem: str | None = None

    @property
    def ok(self) -> bool:
        """Whether the difference is within the tolerance."""
        return self.problem is None and self.max_rel <= self.tolerance


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What :func:`check` found.

    Attributes:
        outputs: one row per output, in the model's order.
        reference: what the model was compared with.
        samples: sizes of the symbolic dims of each input set that was run.
        notes: what the reader should know, such as another reference than the one asked for.
    """

    outputs: tuple[OutputCheck, ...]
    reference: str
    samples: tuple[dict[str, int], ...]
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every output is within its tolerance."""
        return all(row.ok for row in self.outputs)

    @property
    def sets(self) -> str:
        """How many input sets, in words."""
        return "1 input set" if len(self.samples) == 1 else f"{len(self.samples)} input sets"

    def __str__(self) -> str:
        rows = [("output", "type", "max abs", "max rel", "tolerance", "")]
        for r in self.outputs:
            numbers = (f"{r.max_abs:.2e}", f"{r.max_rel:.2e}", f"{r.tolerance:.0e}")
            rows.append((r.name, r.type, *numbers, "ok" if r.ok else r.problem or "TOO FAR"))
        widths = [max(len(r[k]) for r in rows) for k in range(6)]
        table = ["  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)) for r in rows]
        head = f"{self.sets} against {self.reference}"
        return "\n".join([head, *(line.rstrip() for line in table), *self.notes])


@dataclass(slots=True)
class _Reference:
    name: str
    run: Runner
    refuses: tuple[type[Exception], ...]
    notes: list[str] = field(default_factory=list)


def check(
    model: Model,
    *,
    reference: str = "onnxruntime",
    samples: int = 3,
    seed: int = 0,
    jit: Literal["auto", "cling", "compiler"] = "auto",
    tolerance: float = TOLERANCE,
    dims: Mapping[str, int] | None = None,
    inputs: Arrays | None = None,
    outputs: Arrays | None = None,
    on_sample: Callable[[int], None] | None = None,
) -> CheckReport:
    """Runs inputs through the compiled model, and compares with a reference or with stored results.

    Without ``inputs``, floats are drawn from normal distributions of several widths, integers from a
    small range that the reference accepts, and symbolic dims anew for each input set.

    Args:
        model: what to check.
        reference: ``"onnxruntime"`` runs the ONNX file that the model came from; ``"interpreter"``
            evaluates our own IR with NumPy, before any pass; it is also what a model without an
            ONNX file, or with operators that ONNX Runtime does not know, is compared with.
        samples: how many input sets are drawn.
        seed: of the random numbers.
        jit: how the model is compiled, see :meth:`Model.session`.
        tolerance: largest ``max|a - b| / max|a|`` that is accepted.
        dims: sizes of symbolic dims in the inputs that are drawn; the others are drawn, too.
        inputs: one input set instead: arrays, or an .npz file of them, by the names of the inputs or
            by position (``in0``, ``in1``, ...).
        outputs: what the model should make of ``inputs``, likewise (``out0``, ...); outputs that are not
            there are not compared. No reference is needed then.
        on_sample: called with the number of input sets done.

    Raises:
        SofieError: the reference is not available, or accepts none of the inputs that were tried.
    """
    if samples < 1:
        raise SofieError(f"samples must be at least 1, not {samples}")
    if inputs is not None and dims:
        raise SofieError("dims are for inputs that are drawn; the given inputs have their own")
    if outputs is not None and inputs is None:
        raise SofieError("outputs can be compared only with the inputs that they belong to")
    given = None if inputs is None else read_arrays(inputs, tuple(model.inputs), "in")
    stored = None if outputs is None else read_arrays(outputs, tuple(model.outputs), "out", False)
    known = _reference(model, reference) if stored is None else _stored(outputs, stored)
    session = model.session(jit=jit)
    if lacking := without_reference(model.graph):
        known.notes.append(
            f"The session did not test itself: {', '.join(lacking)} has no reference() in NumPy."
        )
    if given is None:
        drawn = _drawn(model, known, samples, seed, dict(dims or {}))
    else:
        drawn = iter([Sample({}, given, {})])
    rows: dict[str, _Row] = {name: _Row() for name in stored or model.outputs}
    sizes: list[dict[str, int]] = []
    for number, sample in enumerate(drawn):
        try:
            found = session.run(sample.inputs)
        except InputError as error:
            if given is None:
                chosen = ", ".join(f"{k}={v}" for k, v in sample.dims.items())
                chosen = f"; {chosen}" if chosen else ""
                error.message += f" ({known.name} accepts this input{chosen})"
            raise
        expected = sample.outputs if given is None else _expected(known, given)
        for name, row in rows.items():
            row.add(expected[name], found[name])
        sizes.append(sample.dims)
        if on_sample is not None:
            on_sample(number + 1)
    types = model.outputs
    checks = tuple(row.check(n, types[n], tolerance, known.name) for n, row in rows.items())
    return CheckReport(checks, known.name, tuple(sizes), tuple(known.notes))


@dataclass(slots=True)
class _Row:
    """The worst of all samples for one output, so far."""

    worst: Difference | None = None
    finite: bool = False

    def add(self, expected: Array, found: Array) -> None:
        self.finite |= not np.size(expected) or bool(np.isfinite(expected).any())
        difference = compare(expected, found)
        if self.worst is None or difference.max_rel > self.worst.max_rel:
            self.worst = difference

    def check(self, name: str, type_: TensorType, tolerance: float, reference: str) -> OutputCheck:
        d = self.worst
        assert d is not None, name
        limit = max(tolerance, _TOLERANCES.get(type_.dtype, 0.0))
        problem = d.problem or (None if self.finite else f"{reference} gave no finite number")
        return OutputCheck(name, str(type_), d.max_abs, d.max_rel, limit, problem)


def _drawn(
    model: Model, known: _Reference, samples: int, seed: int, dims: dict[str, int]
) -> Iterator[Sample]:
    """Random inputs and what the reference makes of them."""
    symbols = [s.name for s in model.graph.symbols()]
    for name, size in dims.items():
        if name not in symbols:
            listed = ", ".join(symbols) or "none"
            raise InputError(f"there is no symbolic dim {name!r}; the model's are: {listed}")
        if size < 0:
            raise InputError(f"dim {name!r} cannot be {size}")
    rng = np.random.default_rng(seed)
    for number in range(samples):
        # The first one has one of everything: loops that run once are a case of their own.
        largest = (1, *SIZES) if number == 0 else SIZES
        scale = SCALES[number % len(SCALES)]
        sample = find_sample(model.graph, known.run, rng, largest, known.refuses, scale, dims)
        if sample is None:
            raise SofieError(
                f"{known.name} takes none of the random inputs that were tried; set symbolic dims "
                "to sizes that the model takes (dims=, --dims), or give inputs (inputs=, --inputs)"
            )
        yield sample


def _expected(known: _Reference, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
    try:
        return known.run(inputs)
    except known.refuses as error:
        raise SofieError(f"{known.name} does not take these inputs: {error}") from error


def read_arrays(
    source: Arrays, names: Sequence[str], prefix: str, complete: bool = True
) -> dict[str, Array]:
    """Arrays of a mapping or an .npz file, by name or by position (``in0``, ``in1``, ...).

    Args:
        source: the arrays, or the path of the file.
        names: what the arrays can be called, in order.
        prefix: of the positions.
        complete: whether all of them must be there.

    Raises:
        InputError: the file cannot be read; an array is missing, or is not one of those named.
    """
    file = None
    if isinstance(source, Mapping):
        arrays = {k: np.asarray(v) for k, v in source.items()}
    else:
        file = os.fspath(source)
        arrays = _read_npz(file)
    positions = {f"{prefix}{k}": name for k, name in enumerate(names)}
    found: dict[str, Array] = {}
    for key, array in arrays.items():
        name = key if key in names else positions.get(key)
        if name is None or name in found:
            listed = ", ".join(names)
            problem = "is given twice" if name else f"is none of: {listed} (or {prefix}0, ...)"
            raise InputError(f"array {key!r} {problem}", file=file)
        found[name] = array
    missing = [n for n in names if n not in found]
    if missing and (complete or not found):
        raise InputError(f"has no array {missing[0]!r} (or {prefix}0, ...)", file=file)
    return {name: found[name] for name in names if name in found}


def _read_npz(file: str) -> dict[str, Array]:
    try:
        with Path(file).open("rb") as stream:
            data = np.load(stream, allow_pickle=False)
            if isinstance(data, np.ndarray):
                raise ValueError("it holds one array without a name")
            return {key: data[key] for key in data}
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", file=file) from error
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"is not an .npz file of arrays: {error}", file=file) from error


def _stored(source: Arrays | None, stored: Mapping[str, Array]) -> _Reference:
    name = "the given outputs" if isinstance(source, Mapping) else Path(str(source)).name
    return _Reference(name, lambda _: stored, ())


def _reference(model: Model, name: str) -> _Reference:
    if name not in ("onnxruntime", "interpreter"):
        raise SofieError(f"unknown reference {name!r}; use 'onnxruntime' or 'interpreter'")
    if name == "interpreter":
        return _interpreter(model)
    if model.path is None or model.path.suffix != ".onnx":
        return _interpreter(model, "The model was not loaded from an ONNX file")
    return _onnxruntime(model)


def _interpreter(model: Model, why: str | None = None) -> _Reference:
    """Our own IR in NumPy; ``why`` it has to stand in for ONNX Runtime."""
    if lacking := without_reference(model.graph):
        raise SofieError(
            f"there is nothing to compare with: {', '.join(lacking)} has no reference() in NumPy; "
            "write one in its class, or give stored results (inputs= and outputs=)"
        )

    def run(inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        with stage(model.budget):
            return evaluate(model.graph, inputs)

    known = _Reference(
        "the NumPy interpreter",
        run,
        (InputError, IndexError),
    )
    if why is not None:
        known.notes.append(
            f"{why}, so ONNX Runtime cannot run it: compared with our own interpreter instead."
        )
    return known


def _onnxruntime(model: Model) -> _Reference:
    try:
        import onnxruntime
    except ImportError as error:
        raise SofieError(
            "ONNX Runtime is not installed: pip install onnxruntime, "
            "or use the reference 'interpreter'"
        ) from error
    path = str(model.path)
    try:
        digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError as error:
        raise SofieError(f"cannot be read: {error.strerror}", file=path) from error
    if digest != model.graph.metadata.get("sha256", digest):
        raise SofieError("has changed since it was loaded; load it again", file=path)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # nothing: it may refuse inputs that we try
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    # Its exceptions have no common base but Exception.
    except Exception as error:
        if custom := [n.op.name for n in model.graph.all_nodes() if n.op.is_custom]:
            named = ", ".join(dict.fromkeys(custom))
            return _interpreter(model, f"The model has operators of yours ({named})")
        raise SofieError(
            f"ONNX Runtime cannot load this model, use the reference 'interpreter': {error}",
            file=path,
        ) from error
    names = list(model.outputs)

    def run(inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        return dict(zip(names, session.run(names, dict(inputs)), strict=True))

    # Whatever it raises for an input that it does not take; there is no common base either.
    return _Reference(f"ONNX Runtime {onnxruntime.__version__}", run, (Exception,))


__all__ = ["Arrays", "CheckReport", "Difference", "OutputCheck", "check", "compare", "read_arrays"]
