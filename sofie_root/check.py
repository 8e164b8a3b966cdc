"""Runs inputs through a model and a reference, and reports the largest differences."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from .accuracy import constant_outputs, evaluate_exactly
from .budget import stage
from .check_report import CheckReport, Difference, OutputCheck, compare
from .errors import InputError, SofieError
from .frontends import frontend_of
from .ir import DType, TensorType
from .ops.custom import without_reference
from .program.interpret import evaluate
from .samples import SIZES, Runner, Sample, find_sample

if TYPE_CHECKING:
    from .model import Model
    from .runtime.dataframe import Columns, Layout
    from .runtime.session import Session

Array = npt.NDArray[Any]
Arrays: TypeAlias = str | os.PathLike[str] | Mapping[str, npt.ArrayLike]
"""Arrays by name, or the path of an .npz file of them."""

TOLERANCE = 1e-4
SCALES = (1.0, 0.1, 0.01)
"""Widths of the random inputs: those far from what a network was trained on saturate its output."""
MORE_SCALES = (10.0, 100.0, 1.0)
"""Widths of further inputs, which are drawn while an output has not changed yet."""
MORE_SAMPLES = 12
EVENTS = 1000
_TOLERANCES = {DType.FLOAT16: 2e-3, DType.BFLOAT16: 2e-2}
"""Wider where neighbouring numbers of the output's type are further apart than ``TOLERANCE``."""


@dataclass(slots=True)
class _Reference:
    name: str
    run: Runner
    refuses: tuple[type[Exception], ...]
    notes: list[str] = field(default_factory=list)


def check(
    model: Model,
    *,
    reference: str = "auto",
    samples: int = 3,
    seed: int = 0,
    jit: Literal["auto", "cling", "compiler"] = "auto",
    tolerance: float = TOLERANCE,
    dims: Mapping[str, int] | None = None,
    inputs: Arrays | None = None,
    outputs: Arrays | None = None,
    events: Any = None,
    columns: Columns | None = None,
    layout: Layout = None,
    max_events: int = EVENTS,
    on_sample: Callable[[int], None] | None = None,
) -> CheckReport:
    """Runs inputs through the compiled model, and compares with a reference or with stored results.

    Without ``inputs`` and ``events``, floats are drawn from normal distributions of several widths,
    integers from a small range that the reference accepts, and symbolic dims anew for each input set;
    more are drawn while an output has been the same for all of them. One that never changes is no
    success, unless the graph proves that it depends on no value of an input.

    Where results differ by more than the tolerance, both are compared with an evaluation in double
    (see :mod:`sofie_root.accuracy`): the verdict says which of them is off. If neither is by more than
    rounding, the model amplifies the last bits of its inputs, and both are right.

    Args:
        model: what to check.
        reference: ``"onnxruntime"`` runs the ONNX file that the model came from; ``"interpreter"``
            evaluates our own IR with NumPy, before any pass; it is also what a model without an
            ONNX file, or with operators that ONNX Runtime does not know, is compared with. ``"auto"``
            is what the model's frontend names (see :class:`~sofie_root.frontends.Frontend`).
        samples: how many input sets are drawn.
        seed: of the random numbers.
        jit: how the model is compiled, see :meth:`Model.session`.
        tolerance: largest ``max|a - b| / max|a|`` that is accepted.
        dims: sizes of symbolic dims in the inputs that are drawn; the others are drawn, too.
        inputs: one input set instead: arrays, or an .npz file of them, by the names of the inputs or
            by position (``in0``, ``in1``, ...).
        outputs: what the model should make of ``inputs``, likewise (``out0``, ...); outputs that are not
            there are not compared. No reference is needed then.
        events: a data frame whose events are the inputs.
        columns: its columns, as :func:`sofie_root.define` takes them.
        layout: see :func:`sofie_root.define`.
        max_events: how many events are read.
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
    if (events is None) != (columns is None) or (events is not None and inputs is not None):
        raise SofieError("events= needs columns=, and both take the place of inputs=")
    stored = None if outputs is None else read_arrays(outputs, tuple(model.outputs), "out", False)
    known = _reference(model, reference) if stored is None else _stored(outputs, stored)
    session = model.session(jit=jit)
    if lacking := without_reference(model.graph):
        known.notes.append(
            f"The session did not test itself: {', '.join(lacking)} has no reference() in NumPy."
        )
    constant = constant_outputs(model.graph)
    rows = {name: _Row(name in constant) for name in stored or model.outputs}
    given = None
    if inputs is not None:
        given = [Sample({}, read_arrays(inputs, tuple(model.inputs), "in"), {})]
    elif events is not None:
        from .runtime.events import read_events  # ROOT takes a while to start

        given = read_events(session, events, columns, layout, max_events)
    sizes: list[dict[str, int]] = []
    for sample in _drawn(model, known, samples, seed, dict(dims or {})) if given is None else given:
        if given is None and len(sizes) >= samples:
            done = all(row.changes or row.constant for row in rows.values())
            if done or len(sizes) >= samples + MORE_SAMPLES:
                break
        where = f" (event {len(sizes)} of those read)" if events is not None else ""
        try:
            found = session.run(sample.inputs)
        except InputError as error:
            if given is None:
                chosen = ", ".join(f"{k}={v}" for k, v in sample.dims.items())
                chosen = f"; {chosen}" if chosen else ""
                where = f" ({known.name} accepts this input{chosen})"
            error.message += where
            raise
        expected = sample.outputs if given is None else _expected(known, sample.inputs, where)
        for name, row in rows.items():
            row.add(sample.inputs, expected[name], found[name])
        sizes.append(sample.dims)
        if on_sample is not None:
            on_sample(min(len(sizes), samples) if given is None else len(sizes))
    if (more := len(sizes) - samples) > 0 and given is None:
        drawn = "1 more input set was" if more == 1 else f"{more} more input sets were"
        known.notes.append(f"{drawn} drawn, because an output had not changed before.")
    if given is not None and len(given) == 1:
        _look_for_changes(session, given[0].inputs, rows, np.random.default_rng(seed))
    types = model.outputs
    checks = tuple(row.check(model, n, types[n], tolerance, known) for n, row in rows.items())
    source = "input set" if events is None else "event"
    return CheckReport(checks, known.name, tuple(sizes), tuple(known.notes), source)


@dataclass(slots=True)
class _Row:
    """The worst of all samples for one output, so far, and whether it has changed between them."""

    constant: bool
    worst: Difference | None = None
    inputs: Mapping[str, Array] = field(default_factory=dict)
    expected: Array | None = None
    found: Array | None = None
    finite: bool = False
    first: Array | None = None
    changes: bool = False

    def add(self, inputs: Mapping[str, Array], expected: Array, found: Array) -> None:
        self.finite |= not np.size(expected) or bool(np.isfinite(expected).any())
        self.see(expected)
        difference = compare(expected, found)
        if self.worst is None or difference.max_rel > self.worst.max_rel:
            self.worst = difference
            self.inputs, self.expected, self.found = inputs, expected, found

    def see(self, array: Array) -> None:
        """Notices whether an output differs from the first one, where both have elements."""
        array = np.asarray(array)
        if self.first is None:
            self.first = array
        elif not self.changes and array.ndim == self.first.ndim:
            both = tuple(map(slice, np.minimum(array.shape, self.first.shape)))
            a, b = array[both], self.first[both]
            self.changes = not bool(np.all((a == b) | ((a != a) & (b != b))))

    def check(
        self, model: Model, name: str, type_: TensorType, tolerance: float, known: _Reference
    ) -> OutputCheck:
        d = self.worst
        assert d is not None, name
        limit = max(tolerance, _TOLERANCES.get(type_.dtype, 0.0))
        problem = d.problem or (None if self.finite else f"{known.name} gave no finite number")
        row = OutputCheck(
            name, str(type_), d.max_abs, d.max_rel, limit, problem, self.changes, self.constant
        )
        return row if row.agrees or not self.finite else self._judge(row, model, known)

    def _judge(self, row: OutputCheck, model: Model, known: _Reference) -> OutputCheck:
        """The row with what an evaluation in double says."""
        expected, found = np.asarray(self.expected), np.asarray(self.found)
        if without_reference(model.graph) or not _is_like(expected, found):
            return row
        try:
            with stage(model.budget):
                exact = evaluate_exactly(model.graph, self.inputs)[row.name]
        except (SofieError, IndexError) as error:
            known.notes.append(f"{row.name}: could not be evaluated in double: {error}")
            return row
        return replace(row, ours=exact.distance(found), theirs=exact.distance(expected))


def _is_like(a: Array, b: Array) -> bool:
    """Whether two arrays can be compared by number."""
    return a.shape == b.shape and a.dtype == b.dtype


def _look_for_changes(
    session: Session,
    inputs: Mapping[str, Array],
    rows: Mapping[str, _Row],
    rng: np.random.Generator,
) -> None:
    """Runs other inputs of the same shapes, to see whether the outputs depend on them."""
    for number in range(MORE_SAMPLES):
        if all(row.changes or row.constant for row in rows.values()):
            return
        scale = MORE_SCALES[number % len(MORE_SCALES)]
        other: dict[str, Array] = {}
        drawn: Any
        for name, array in inputs.items():
            if array.dtype.kind in "iu":
                drawn = rng.integers(
                    array.min(initial=0), array.max(initial=0), array.shape, endpoint=True
                )
            elif array.dtype.kind == "b":
                drawn = rng.random(array.shape) < 0.5
            else:
                drawn = scale * rng.standard_normal(array.shape)
            other[name] = np.asarray(drawn).astype(array.dtype)
        with contextlib.suppress(InputError):
            found = session.run(other)
            for name, row in rows.items():
                row.see(found[name])


def _drawn(
    model: Model, known: _Reference, samples: int, seed: int, dims: dict[str, int]
) -> Iterator[Sample]:
    """Random inputs and what the reference makes of them; ends where none is found after ``samples``."""
    symbols = [s.name for s in model.graph.symbols()]
    for name, size in dims.items():
        if name not in symbols:
            listed = ", ".join(symbols) or "none"
            raise InputError(f"there is no symbolic dim {name!r}; the model's are: {listed}")
        if size < 0:
            raise InputError(f"dim {name!r} cannot be {size}")
    rng = np.random.default_rng(seed)
    for number in itertools.count():
        # The first one has one of everything: loops that run once are a case of their own.
        largest = (1, *SIZES) if number == 0 else SIZES
        scale = SCALES[number] if number < len(SCALES) else MORE_SCALES[number % len(MORE_SCALES)]
        sample = find_sample(model.graph, known.run, rng, largest, known.refuses, scale, dims)
        if sample is None:
            if number >= samples:
                return
            raise SofieError(
                f"{known.name} takes none of the random inputs that were tried; set symbolic dims "
                "to sizes that the model takes (dims=, --dims), or give inputs (inputs=, --inputs)"
            )
        yield sample


def _expected(known: _Reference, inputs: Mapping[str, Array], where: str) -> Mapping[str, Array]:
    try:
        return known.run(inputs)
    except known.refuses as error:
        raise SofieError(f"{known.name} does not take these inputs{where}: {error}") from error


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
    """What to compare with; our own interpreter where the model's format has nothing else."""
    frontend = None if model.path is None else frontend_of(model.path)
    theirs = None if frontend is None else frontend.reference
    if name == "interpreter":
        return _interpreter(model)
    if name not in REFERENCES and name != "auto":
        listed = ", ".join(repr(n) for n in (*REFERENCES, "interpreter"))
        raise SofieError(f"unknown reference {name!r}; use {listed} or 'auto'")
    if theirs is None or name not in (theirs, "auto"):
        return _interpreter(model, "The model was not loaded from an ONNX file")
    return REFERENCES[theirs](model)


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


REFERENCES: dict[str, Callable[[Model], _Reference]] = {"onnxruntime": _onnxruntime}
"""The frameworks that can run a model's own file, by the name that a frontend gives."""


__all__ = ["Arrays", "CheckReport", "Difference", "OutputCheck", "check", "compare", "read_arrays"]
