"""How far apart arrays are, and what a check of a model found."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .accuracy import ROUNDING


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
    """The worst of all samples for one output.

    Attributes:
        name: of the output.
        type: its dtype and shape.
        max_abs: see :class:`Difference`.
        max_rel: see :class:`Difference`.
        tolerance: largest ``max_rel`` that is accepted as it is.
        problem: why numbers could not be compared, or None.
        changes: whether it was not the same for all inputs.
        constant: whether the model proves that it does not depend on the inputs' values.
        ours: where it differs: how many units the generated code is away from an evaluation in double
            (see :mod:`sofie_root.accuracy`); None where that was not needed or not possible.
        theirs: the same of the reference.
    """

    name: str
    type: str
    max_abs: float
    max_rel: float
    tolerance: float
    problem: str | None = None
    changes: bool = True
    constant: bool = False
    ours: float | None = None
    theirs: float | None = None

    @property
    def agrees(self) -> bool:
        """Whether the difference is within the tolerance."""
        return self.problem is None and self.max_rel <= self.tolerance

    @property
    def is_rounding(self) -> bool:
        """Whether both results are right but for rounding, which the model amplifies."""
        units = (self.ours, self.theirs)
        return all(u is not None and u <= ROUNDING for u in units)

    @property
    def ok(self) -> bool:
        """Whether the results are right, and are such that they could have been wrong."""
        return (self.agrees or self.is_rounding) and (self.changes or self.constant)

    @property
    def verdict(self) -> str:
        """What was found, in a few words."""
        if not (self.agrees or self.is_rounding):
            return self.problem or "TOO FAR"
        if self.constant:
            return "ok (constant by construction)"
        if not self.changes:
            return "NEVER CHANGES"
        return "ok" if self.agrees else "ok (rounding)"


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What :func:`sofie_root.check.check` found.

    Attributes:
        outputs: one row per output, in the model's order.
        reference: what the model was compared with.
        samples: sizes of the symbolic dims of each input set that was run.
        notes: what the reader should know, such as another reference than the one asked for.
        source: what the inputs were: ``"input set"`` or ``"event"``.
    """

    outputs: tuple[OutputCheck, ...]
    reference: str
    samples: tuple[dict[str, int], ...]
    notes: tuple[str, ...] = ()
    source: str = "input set"

    @property
    def ok(self) -> bool:
        """Whether every output is right."""
        return all(row.ok for row in self.outputs)

    @property
    def sets(self) -> str:
        """How many input sets, in words."""
        count = len(self.samples)
        return f"{count} {self.source}" + ("" if count == 1 else "s")

    @property
    def remarks(self) -> tuple[str, ...]:
        """The notes, and what the verdicts mean."""
        return (*(text for row in self.outputs for text in _explain(row, self)), *self.notes)

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """A line of a table for each output; see ``COLUMNS``."""
        return [
            (
                r.name,
                r.type,
                f"{r.max_abs:.2e}",
                f"{r.max_rel:.2e}",
                f"{r.tolerance:.0e}",
                r.verdict,
            )
            for r in self.outputs
        ]

    def __str__(self) -> str:
        rows = [COLUMNS, *self.rows]
        widths = [max(len(r[k]) for r in rows) for k in range(len(COLUMNS))]
        table = ["  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)) for r in rows]
        head = f"{self.sets} against {self.reference}"
        return "\n".join([head, *(line.rstrip() for line in table), *self.remarks])


COLUMNS = ("output", "type", "max abs", "max rel", "tolerance", "")


def _explain(row: OutputCheck, report: CheckReport) -> list[str]:
    texts = []
    if row.ours is not None and row.theirs is not None:
        ours, theirs = row.ours <= ROUNDING, row.theirs <= ROUNDING
        if ours and theirs:
            who = "both are right but for rounding, which the model amplifies"
        elif ours:
            who = f"the generated code is right for the model as it was read, {report.reference} is not"
        else:
            who = "the generated code is off" if theirs else "both are off"
        texts.append(
            f"{row.name}: {who}. Compared with an evaluation in double, the generated code is off by "
            f"{row.ours:.3g} and {report.reference} by {row.theirs:.3g} times what the last bit of "
            "inputs and weights changes."
        )
    if not row.changes and not row.constant:
        texts.append(
            f"{row.name}: has the same values for all inputs, which proves nothing; give inputs as the "
            "model was trained on (events=, inputs=; --events, --inputs)"
        )
    return texts


__all__ = ["COLUMNS", "CheckReport", "Difference", "OutputCheck", "compare"]
