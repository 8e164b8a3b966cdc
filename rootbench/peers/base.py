"""What a contender is: something that opens a model and hands out a C function that runs it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from rootbench.timing import BenchError, Call

Arrays = dict[str, np.ndarray]


class NotMeasured(BenchError):  # noqa: N818 - it is an answer, not an error
    """The contender is not installed here, or does not take this model; the message says which."""


@dataclass(frozen=True)
class Job:
    """A model that was written to the work folder, with inputs and the outputs they should give.

    Attributes:
        folder: holds ``model.onnx``, ``inputs.npz``, ``expected.npz`` and ``job.json``.
    """

    folder: Path

    @property
    def model(self) -> Path:
        """The ONNX file that every contender opens."""
        return self.folder / "model.onnx"

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What is known of the model: the order of its inputs and outputs, perhaps its MACs."""
        return dict(json.loads((self.folder / "job.json").read_text()))

    def arrays(self, file: str, names: str) -> Arrays:
        """Arrays of a file by name; the file numbers them, since names may be anything."""
        with np.load(self.folder / file) as stored:
            return {n: stored[f"a{k}"] for k, n in enumerate(self.facts[names])}

    @cached_property
    def inputs(self) -> Arrays:
        """The inputs by name."""
        return self.arrays("inputs.npz", "inputs")

    @cached_property
    def expected(self) -> Arrays:
        """What ONNX Runtime without optimisation makes of them."""
        return self.arrays("expected.npz", "outputs")

    def load(self) -> tuple[Arrays, Arrays]:
        """Reads all arrays now, not when they are first used."""
        return self.inputs, self.expected


def write_arrays(path: Path, arrays: Arrays) -> None:
    """Writes arrays so that :meth:`Job.arrays` finds them."""
    np.savez(path, **{f"a{k}": a for k, a in enumerate(arrays.values())})  # type: ignore[arg-type]


@dataclass(frozen=True)
class Opened:
    """A model that is ready to be timed.

    Attributes:
        call: runs it once on the job's inputs.
        outputs: what the last call gave, by name.
        overhead: what of a call's time is not the library's own work, in words; mostly nothing.
    """

    call: Call
    outputs: Callable[[], Arrays]
    overhead: str = ""


@dataclass(frozen=True)
class Contender:
    """One way to run a model.

    Attributes:
        title: for tables and plots.
        open: opens a job, or raises :class:`NotMeasured`.
        check: raises :class:`NotMeasured` where it is not installed.
    """

    title: str
    open: Callable[[Job], Opened]
    check: Callable[[], object] = lambda: None
