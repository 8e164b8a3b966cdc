"""Every error that sofie_root raises on purpose: one readable message, and the facts as fields."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class SofieError(Exception):
    """Base of all errors of sofie_root.

    Attributes:
        message: what is wrong and what to do next.
        node: name of the graph node, if one is to blame.
        operator: ONNX operator of that node.
        tensor: name of the tensor, if one is to blame.
        file: path of the file, if one is to blame.
    """

    def __init__(
        self,
        message: str,
        *,
        node: str | None = None,
        operator: str | None = None,
        tensor: str | None = None,
        file: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.node = node
        self.operator = operator
        self.tensor = tensor
        self.file = file

    def __str__(self) -> str:
        where = []
        if self.operator is not None or self.node is not None:
            where.append(
                f"{self.operator or 'node'} {self.node!r}" if self.node else f"{self.operator}"
            )
        if self.tensor is not None:
            where.append(f"tensor {self.tensor!r}")
        if self.file is not None:
            where.append(str(self.file))
        return f"{', '.join(where)}: {self.message}" if where else self.message


class ModelError(SofieError):
    """The model file is damaged, is not valid ONNX, or contradicts itself."""


class ShapeError(ModelError):
    """Shapes or dtypes of a node's inputs do not fit its operator."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """One node that cannot be translated, and why."""

    node: str
    operator: str
    reason: str


class UnsupportedError(SofieError):
    """The model is valid but uses what sofie_root cannot run; ``refusals`` names every such node."""

    def __init__(self, refusals: Sequence[Refusal], *, file: str | None = None) -> None:
        lines = [f"  {r.operator} {r.node!r}: {r.reason}" for r in refusals]
        count = f"{len(refusals)} node{'s' if len(refusals) != 1 else ''}"
        super().__init__(f"{count} cannot be translated:\n" + "\n".join(lines), file=file)
        self.refusals = tuple(refusals)


class BudgetError(SofieError):
    """A model would take more work or memory, before it even runs, than it may.

    Attributes:
        resource: ``"work"``, ``"memory"``, ``"depth"`` (of calls), or ``"terms"``, ``"powers"`` and
            ``"bits"`` (of symbolic sizes).
        wanted: operations or bytes that would have been needed up to here, where they are known.
        limit: the budget's, where there is one.
    """

    def __init__(
        self,
        resource: str,
        wanted: int | None,
        limit: int | None,
        *,
        node: str | None = None,
        operator: str | None = None,
        file: str | None = None,
    ) -> None:
        if resource == "depth":
            message = "is nested too deeply to be processed; export a simpler model"
        elif resource in ("terms", "powers", "bits"):
            message = (
                f"its sizes are expressions of {_short(wanted or 0)} {resource}, at most {limit} are "
                "supported; give numbers to symbolic dims when loading: dims={...}"
            )
        else:
            unit = "bytes" if resource == "memory" else "operations"
            need = "more memory than there is" if wanted is None else f"{_short(wanted)} {unit}"
            message = (
                f"needs {need} before the model runs, its budget of {resource} is {limit} {unit}. "
                f"If you trust the model, raise it: load(..., budget=Budget({resource}=...)), "
                f"--budget {resource}=... or SOFIE_ROOT_BUDGET={resource}=..."
            )
        super().__init__(message, node=node, operator=operator, file=file)
        self.resource = resource
        self.wanted = wanted
        self.limit = limit


def _short(number: int) -> str:
    """The number, or how large it is at least where nobody would read its digits."""
    return (
        str(number)
        if number < 10**15
        else f"more than 10^{min(int(number.bit_length() * 0.301), 10**6)}"
    )


class StorageError(SofieError):
    """A ``.root`` or ``.dat`` file is damaged, cut off, of another model or of a newer format."""


class InputError(SofieError):
    """A call passed a wrong tensor: name, dtype, rank or dimension."""


class ValidationError(SofieError):
    """The program that would be printed does not compute what the model does: a bug of sofie_root.

    Attributes:
        stage: after which stage of scheduling the numbers are other ones, where that is known.
    """

    stage: str | None = None


class ToolchainError(SofieError):
    """The generated header could not be compiled, loaded, or failed its self-test."""


class SelfTestWarning(UserWarning):
    """A session opened, or a header was written, untested: no inputs were found that the model takes.

    Its code was compared with nothing; ``model.check(inputs=...)`` does that with inputs of yours.
    """


class DataFrameError(SofieError):
    """An RDataFrame column does not fit the model; raised when booking, not in the event loop."""
