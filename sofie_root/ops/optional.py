"""Optional inputs that hold a tensor or nothing; which of the two is known while parsing."""

from __future__ import annotations

from dataclasses import dataclass

from sofie_root.ir import DType, Op, TensorType, operator
from sofie_root.program import expr
from sofie_root.program.builder import Builder, Tensor


@operator("OptionalHasElement", since=28)
@dataclass(frozen=True, slots=True)
class OptionalHasElement(Op):
    """Whether there is an input. Source: ONNX OptionalHasElement-28."""

    def infer(self, x: TensorType | None = None) -> TensorType:
        """A BOOL scalar."""
        return TensorType(DType.BOOL, (), (int(x is not None),))

    def lower(self, b: Builder, x: Tensor | None = None) -> Tensor:
        """A literal."""
        return b.loop((), lambda: expr.constant(x is not None, DType.BOOL))


@operator("OptionalGetElement", since=28)
@dataclass(frozen=True, slots=True)
class OptionalGetElement(Op):
    """The input, which is a tensor. Source: ONNX OptionalGetElement-28."""

    def infer(self, x: TensorType) -> TensorType:
        """The type of ``x``."""
        return x

    def lower(self, b: Builder, x: Tensor) -> Tensor:
        """Nothing to do."""
        return x
