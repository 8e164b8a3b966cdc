"""What an operator is: a frozen dataclass of ONNX attributes with ``infer`` and ``lower``."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

from sofie_root.errors import ShapeError

from .dim import Dim, Poly, RuntimeSize, as_poly, broadcast, minimum
from .types import TensorType

if TYPE_CHECKING:
    from sofie_root.program.builder import Builder, Tensor

Inferred = TensorType | tuple[TensorType, ...]


class Op:
    """Base of all operators; subclasses are frozen dataclasses whose fields are the ONNX attributes.

    ``infer`` gets one :class:`TensorType` per input (None for an omitted optional input) and returns the
    type of each output, or raises :class:`~sofie_root.errors.ShapeError` for inputs that do not fit and
    :class:`Refuse` for what is valid ONNX but not supported. ``lower`` gets a Builder and the same inputs
    as tensors and returns the outputs.

    What passes ask about an operator, they ask its traits, which are False unless its class says otherwise:

    Attributes:
        moves_data: output 0 has elements of input 0, chosen by their position, at most converted.
        reshapes: output 0 has the elements of input 0 in the same row-major order.
        expands_data: the results are made of fewer elements than they have, so that storing a large one
            gains nothing.
        reads_sizes_only: the values of the inputs are of no account.
        layout_wall: another order of the axes may begin behind it at no cost.
        channels_first: its code wants the channels before the axes of space.
    """

    __slots__ = ()
    name: ClassVar[str] = ""
    domain: ClassVar[str] = ""
    since: ClassVar[int] = 1

    moves_data: ClassVar[bool] = False
    reshapes: ClassVar[bool] = False
    expands_data: ClassVar[bool] = False
    reads_sizes_only: ClassVar[bool] = False
    layout_wall: ClassVar[bool] = False
    channels_first: ClassVar[bool] = False

    def infer(self, *inputs: Any) -> Inferred:
        """Types of the outputs."""
        raise NotImplementedError(type(self).__name__)

    def lower(self, b: Builder, *inputs: Any) -> Tensor | tuple[Tensor, ...]:
        """The outputs as loops, views and kernels."""
        raise NotImplementedError(type(self).__name__)

    @property
    def is_custom(self) -> bool:
        """Whether a user registered it: it is not part of sofie_root."""
        return not type(self).__module__.startswith("sofie_root.")

    def attributes(self) -> dict[str, Any]:
        """Attribute names and values, in declaration order."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}  # type: ignore[arg-type]

    def __str__(self) -> str:
        shown = {k: v for k, v in self.attributes().items() if not hasattr(v, "nodes")}
        defaults = {f.name: f.default for f in dataclasses.fields(self)}  # type: ignore[arg-type]
        shown = {k: v for k, v in shown.items() if v != defaults[k]}
        return f"{self.name}({', '.join(f'{k}={v}' for k, v in shown.items())})"


class Refuse(Exception):  # noqa: N818 - it is an answer, not an error
    """Raised by ``infer`` for what ONNX allows but sofie_root cannot run; the message is the reason."""


OPERATORS: dict[tuple[str, str], type[Op]] = {}
"""Operators by (domain, name); the ONNX domain is the empty string."""

OpClass = TypeVar("OpClass", bound=type[Op])


def operator(name: str, since: int = 1, domain: str = "") -> Callable[[OpClass], OpClass]:
    """Class decorator that makes an :class:`Op` known under its ONNX name.

    A class that is no dataclass yet becomes a frozen one: its annotated fields are the attributes.

    Args:
        name: ``op_type`` of the node.
        since: opset version whose semantics the class implements.
        domain: node domain; empty for ONNX's own.
    """

    def register(cls: OpClass) -> OpClass:
        if "__dataclass_params__" not in vars(cls):
            cls = cast(OpClass, dataclass(frozen=True)(cls))
        cls.name, cls.since, cls.domain = name, since, domain
        OPERATORS[domain, name] = cls
        return cls

    return register


@dataclass(slots=True)
class Inference:
    """What ``infer`` may say beside its result: equal dims, and sizes known only at run time."""

    outputs: tuple[str | None, ...] = ()
    output_count: int = 1
    equalities: list[tuple[Dim, Dim, str]] = field(default_factory=list)


_current: ContextVar[Inference | None] = ContextVar("inference", default=None)


@contextmanager
def inferring(outputs: tuple[str | None, ...]) -> Iterator[Inference]:
    """Collects what ``infer`` of the node with these output names says, and names its run-time sizes."""
    state = Inference(outputs, len(outputs))
    token = _current.set(state)
    try:
        yield state
    finally:
        _current.reset(token)


def require_equal(a: Dim, b: Dim, why: str) -> Dim:
    """States in ``infer`` that two dims are the same size, to be checked at run time if not provable.

    Returns the simpler of the two (an int before a symbol before an expression).

    Raises:
        ShapeError: both are known and differ.
    """
    if a == b:
        return a
    if isinstance(a, int) and isinstance(b, int):
        raise ShapeError(f"{why}: {a} against {b}")
    state = _current.get()
    if state is not None:
        state.equalities.append((a, b, why))
    return min((a, b), key=lambda d: (isinstance(d, Poly), len(str(d)), str(d)))


def require_broadcast(a: Dim, b: Dim, why: str) -> Dim:
    """The size that two sizes broadcast to; states in ``infer`` that they do.

    Raises:
        ShapeError: both are known and do not.
    """
    result = broadcast(a, b)
    for known in (a, b):  # a known size is the result, whether the other one is 1 or the same
        if isinstance(known, int) and known != 1 and result != known:
            return require_equal(result, known, why)
    state = _current.get()
    if state is not None and result not in (a, b):
        state.equalities.append((result, result, why))
    return result


def require_at_most(small: Dim, large: Dim, why: str) -> None:
    """States in ``infer`` that a size is at most another, to be checked at run time if not provable."""
    require_equal(minimum(small, large), small, why)


def runtime_size(output: int, axis: int = 0) -> Poly:
    """In ``infer`` and ``lower``: the symbol for a size that this node only knows at run time.

    It is the same one whenever the node asks for it.
    ``lower`` binds it with ``Builder.bind``.
    """
    state = _current.get()
    names = () if state is None else state.outputs
    name = names[output] if output < len(names) else None
    if name is None:  # nobody reads that output; any other name of the node is as unique
        name = next((n for n in names if n is not None), "output")
    return as_poly(RuntimeSize(name, output, axis))


def output_count() -> int:
    """In ``infer``: how many outputs the node has (for operators with a variable number)."""
    state = _current.get()
    return state.output_count if state is not None else 1
