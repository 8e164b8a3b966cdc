"""Runs random inputs through a model and a reference, and reports the largest differences."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from .errors import InputError, SofieError
from .ir import DType
from .samples import SIZES, Runner, find_sample

if TYPE_CHECKING:
    from .model import Model

Array = npt.NDArray[Any]

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

    def __str__(self) -> str:
        rows = [("output", "type", "max abs", "max rel", "tolerance", "")]
        for r in self.outputs:
            numbers = (f"{r.max_abs:.2e}", f"{r.max_rel:.2e}", f"{r.tolerance:.0e}")
            rows.append((r.name, r.type, *numbers, "ok" if r.ok else r.problem or "TOO FAR"))
        widths = [max(len(r[k]) for r in rows) for k in range(6)]
        table = ["  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)) for r in rows]
        head = f"{len(self.samples)} input sets against {self.reference}"
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
    on_sample: Callable[[int], None] | None = None,
) -> CheckReport:
    """Runs random inputs through the compiled model and through a reference.

    Floats are drawn from normal distributions of several widths, integers from a small range that
    the reference accepts, and symbolic dims anew for each input set.

    Args:
        model: what to check.
        reference: ``"onnxruntime"`` runs the ONNX file that the model came from; ``"interpreter"``
            evaluates our own IR with NumPy, before any pass; it is also what a model without an
            ONNX file is compared with.
        samples: how many input sets.
        seed: of the random numbers.
        jit: how the model is compiled, see :meth:`Model.session`.
        tolerance: largest ``max|a - b| / max|a|`` that is accepted.
        on_sample: called with the number of input sets done.

    Raises:
        SofieError: the reference is not available, or accepts none of the inputs that were tried.
    """
    if samples < 1:
        raise SofieError(f"samples must be at least 1, not {samples}")
    known = _reference(model, reference)
    session = model.session(jit=jit)
    rng = np.random.default_rng(seed)
    worst: dict[str, Difference] = {}
    finite: dict[str, bool] = {}
    sizes: list[dict[str, int]] = []
    for number in range(samples):
        # The first one has one of everything: loops that run once are a case of their own.
        largest = (1, *SIZES) if number == 0 else SIZES
        scale = SCALES[number % len(SCALES)]
        sample = find_sample(model.graph, known.run, rng, largest, known.refuses, scale)
        if sample is None:
            raise SofieError(
                f"{known.name} takes none of the random inputs that were tried; "
                "fix the symbolic dims to sizes that the model needs when loading it (dims=, --dim)"
            )
        try:
            found = session.run(sample.inputs)
        except InputError as error:
            chosen = ", ".join(f"{k}={v}" for k, v in sample.dims.items())
            error.message += f" ({known.name} accepts this input{f'; {chosen}' if chosen else ''})"
            raise
        for name, value in sample.outputs.items():
            finite[name] = finite.get(name, False) or bool(np.isfinite(value).any())
            difference = compare(value, found[name])
            if name not in worst or difference.max_rel > worst[name].max_rel:
                worst[name] = difference
        sizes.append(sample.dims)
        if on_sample is not None:
            on_sample(number + 1)
    rows = []
    for name, type_ in model.outputs.items():
        d = worst[name]
        limit = max(tolerance, _TOLERANCES.get(type_.dtype, 0.0))
        problem = d.problem or (None if finite[name] else f"{known.name} gave no finite number")
        rows.append(OutputCheck(name, str(type_), d.max_abs, d.max_rel, limit, problem))
    return CheckReport(tuple(rows), known.name, tuple(sizes), tuple(known.notes))


def _reference(model: Model, name: str) -> _Reference:
    if name == "interpreter":
        return _interpreter(model)
    if name != "onnxruntime":
        raise SofieError(f"unknown reference {name!r}; use 'onnxruntime' or 'interpreter'")
    if model.path is None or model.path.suffix != ".onnx":
        known = _interpreter(model)
        known.notes.append(
            "The model was not loaded from an ONNX file, so ONNX Runtime cannot run it: "
            "compared with our own interpreter instead."
        )
        return known
    return _onnxruntime(model)


def _interpreter(model: Model) -> _Reference:
    from .lowering.interpret import evaluate

    return _Reference(
        "the NumPy interpreter",
        lambda inputs: evaluate(model.graph, inputs),
        (InputError, IndexError),
    )


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
        raise SofieError(
            f"ONNX Runtime cannot load this model, use the reference 'interpreter': {error}",
            file=path,
        ) from error
    names = list(model.outputs)

    def run(inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        return dict(zip(names, session.run(names, dict(inputs)), strict=True))

    # Whatever it raises for an input that it does not take; there is no common base either.
    return _Reference(f"ONNX Runtime {onnxruntime.__version__}", run, (Exception,))


__all__ = ["CheckReport", "Difference", "OutputCheck", "check", "compare"]
