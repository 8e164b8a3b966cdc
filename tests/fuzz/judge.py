"""Says whether outputs are right: within what rounding can do, as the reference with noise tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import ModelProto

from sofie_root.frontends.onnx import from_proto
from sofie_root.ir import Graph
from sofie_root.program.interpret import evaluate

from .reference import BFLOAT16, ULP, Array, Reference

QUICK, THOROUGH = 2, 24
"""Evaluations with noise: for all outputs, and again for those that look wrong."""
SPREADS, ULPS = 12.0, 8.0
"""What is tolerated: so many times the spread under noise, and so many roundings of the value itself."""


@dataclass(frozen=True)
class Fault:
    """An output that is wrong.

    Attributes:
        kind: ``"value"``, ``"shape"``, ``"dtype"``, ``"error"``, ``"unstable"`` or a verdict of a run;
            ``"reference"`` where our float64 evaluation says that ONNX Runtime rounds badly, ``"meaning"``
            where it differs from ONNX Runtime by more, ``"interpreter"`` where that evaluation is off.
        output: its name.
        message: what was found and expected.
    """

    kind: str
    output: str
    message: str

    def __str__(self) -> str:
        return f"{self.kind} {self.output}: {self.message}"


class Judge:
    """Knows what a model's outputs may be for each set of inputs.

    Args:
        model: the model.
        feeds: its sets of inputs.
    """

    def __init__(self, model: ModelProto, feeds: Sequence[Mapping[str, Array]]) -> None:
        self.reference = Reference(model)
        self.feeds = feeds
        self.expected = [self.reference.outputs(f) for f in feeds]
        self._graph: Graph | None = None
        self._double: dict[int, dict[str, Array]] = {}
        self._failed = ""
        self._noisy: list[list[dict[str, Array]]] = [[] for _ in feeds]

    def noisy(self, k: int, count: int) -> list[dict[str, Array]]:
        """So many evaluations of a set with noise."""
        found = self._noisy[k]
        while len(found) < count:
            found.append(
                self.reference.outputs(self.feeds[k], np.random.default_rng([23, len(found)]))
            )
        return found

    def judge(self, sets: Sequence[Mapping[str, Array] | str]) -> Fault | None:
        """The first fault of outputs, one mapping for each set of inputs and one for the first again."""
        count = len(self.feeds)
        if len(sets) != count + 1:
            return Fault("error", "", f"{len(sets)} of {count + 1} runs gave outputs")
        for k, outputs in enumerate(sets):
            if isinstance(outputs, str):
                return Fault("error", "", f"set {k % count}: {outputs}")
            for name, array in outputs.items():
                fault = self.check(k % count, name, array)
                if fault is not None:
                    again = " (when run again)" if k == count else ""
                    return Fault(fault.kind, name, f"set {k % count}{again}: {fault.message}")
        first, last = sets[0], sets[-1]
        assert not isinstance(first, str)
        assert not isinstance(last, str)
        for name in first:
            if first[name].tobytes() != last[name].tobytes():
                return Fault("unstable", name, "the same inputs gave other bits when run again")
        return None

    def check(self, k: int, name: str, found: Array) -> Fault | None:
        """Compares one output of one set."""
        want = self.expected[k][name]
        if found.dtype == np.uint8 and want.dtype.kind == "b":
            if found.size and found.max() > 1:
                return Fault("value", name, f"a bool is {found.max()}")
            found = found.astype(bool)
        if found.dtype != want.dtype:
            return Fault("dtype", name, f"{found.dtype}, expected {want.dtype}")
        wrong = self._compare(k, name, found, want)
        if wrong is None:
            return None
        exact = self.double(k).get(name)
        if exact is not None and exact.shape == found.shape:
            exact = exact.astype(want.dtype)
            if exact.shape != want.shape:
                return Fault("meaning", name, f"{wrong}; float64 agrees with us")
            if self._compare(k, name, found, exact) is None:
                kind = "reference" if _is_rounding(exact, want) else "meaning"
                return Fault(kind, name, f"{wrong}; float64 agrees with us")
        return Fault("shape" if found.shape != want.shape else "value", name, wrong)

    def _compare(self, k: int, name: str, found: Array, want: Array) -> str | None:
        wrong = None
        for passes in (QUICK, THOROUGH):
            noisy = [n[name] for n in self.noisy(k, passes)]
            wrong = _wrong(found, want, self.expected[k][name], noisy)
            if wrong is None:
                return None
        return wrong

    def double(self, k: int) -> dict[str, Array]:
        """The outputs of a set by our interpreter in float64; empty where it cannot."""
        if k not in self._double:
            try:
                if self._graph is None:
                    self._graph = from_proto(self.reference.model)
                self._double[k] = dict(evaluate(self._graph, self.feeds[k], double=True))
            except Exception as error:  # it is a fault of its own, see :meth:`interpreter`
                self._double[k] = {}
                self._failed = f"{type(error).__name__}: {error}"
        return self._double[k]

    def interpreter(self, k: int) -> Fault | None:
        """What is wrong with the interpreter's own outputs of a set."""
        found = self.double(k)
        if not found:
            return Fault("interpreter", "", f"set {k}: {self._failed}")
        for name, want in self.expected[k].items():
            if found[name].shape != want.shape:
                wrong: str | None = f"shape {list(found[name].shape)}, expected {list(want.shape)}"
                if any(n[name].shape != want.shape for n in self.noisy(k, THOROUGH)):
                    wrong = None
            else:
                wrong = self._compare(k, name, found[name].astype(want.dtype), want)
            if wrong is not None:
                return Fault("interpreter", name, f"set {k}: {wrong}")
        return None


def _is_rounding(exact: Array, want: Array) -> bool:
    """Whether arrays are so near that precision, not meaning, makes the difference."""
    if exact.shape != want.shape or want.dtype.kind != "f":
        return False
    x, y = exact.astype(np.float64), want.astype(np.float64)
    near = 1e-4 if want.dtype.itemsize > 2 else 3e-2
    return bool(
        np.allclose(x, y, near, near * float(np.nanmax(np.abs(y), initial=0)), equal_nan=True)
    )


def _wrong(found: Array, want: Array, quiet: Array, noisy: Sequence[Array]) -> str | None:
    """What is wrong with an output, or None.

    Args:
        found: the output.
        want: what it should be.
        quiet: what the reference gives without noise.
        noisy: with noise.
    """
    if any(n.shape != quiet.shape for n in noisy):
        return None  # the size itself depends on rounding
    if found.shape != want.shape:
        return f"shape {list(found.shape)}, expected {list(want.shape)}"
    if not want.size:
        return None
    same, x, y = _wide(found, want)
    centre = _wide(quiet, quiet)[1]
    others = np.stack([_wide(n, quiet)[1] for n in noisy])
    with np.errstate(all="ignore"):
        spread = np.abs(others - centre).max(axis=0)
        spread = np.where((others == centre).all(axis=0), 0.0, spread)  # infinities too
    if want.dtype.kind in "biu":
        bad = ~same & (spread == 0)
        moved = ~same & (spread > 0)
        bad |= moved & (np.abs(x - y) > 2 * spread)
    else:
        unit = ULP[np.dtype(want.dtype)]
        tiny = float(np.finfo(want.dtype).tiny) if want.dtype != BFLOAT16 else 1e-37
        rms = float(np.sqrt(np.mean(np.where(np.isfinite(spread), spread, 0) ** 2)))
        tolerance = SPREADS * spread + ULPS * unit * np.abs(y) + 0.5 * rms + 4 * tiny
        with np.errstate(all="ignore"):
            bad = ~(np.abs(x - y) <= tolerance) & ~same
        bad &= ~(~np.isfinite(spread) & ~np.isfinite(others).all(axis=0))
    if not bad.any():
        return None
    where = tuple(int(i) for i in np.argwhere(bad)[0])
    off = np.where(bad, np.abs(x - y), 0)
    return (
        f"{int(bad.sum())} of {want.size} elements, first {list(where)} of {list(want.shape)} "
        f"{want.dtype}: {found[where]!r}, expected {want[where]!r} +- {float(spread[where]):.2g}; "
        f"largest difference {float(np.nanmax(off)) if np.isfinite(off).any() else np.inf:.3g}"
    )


def _wide(a: Array, b: Array) -> tuple[Any, Any, Any]:
    """Where two arrays are the same (NaN is NaN), and both as float64 or int."""
    if a.dtype.kind in "iu":
        return a == b, a.astype(np.float64), b.astype(np.float64)
    x, y = a.astype(np.float64), b.astype(np.float64)
    return (x == y) | (np.isnan(x) & np.isnan(y)), x, y


__all__ = ["Fault", "Judge"]
