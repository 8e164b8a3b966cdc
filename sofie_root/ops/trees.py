"""Ensembles of decision trees, which the frontend makes of the operators of ``ai.onnx.ml``."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from sofie_root.errors import ModelError, ShapeError
from sofie_root.ir import DType, Op, TensorType, operator, require_at_most
from sofie_root.program.builder import Builder, Tensor
from sofie_root.program.operations.trees import AGGREGATES, MISSING, Forest
from sofie_root.program.operations.trees import Trees as TreesOperation

from .checks import FLOATS, INTEGERS, require_dtype


@operator("Trees", since=1, domain="sofie_root")
@dataclass(frozen=True, slots=True)
class Trees(Op):
    """Scores of decision trees, from their nodes as constant inputs.

    The inputs after the first are the fields of :class:`~sofie_root.program.operations.trees.Forest`.
    Source: ONNX ai.onnx.ml TreeEnsemble-5, TreeEnsembleClassifier-3, TreeEnsembleRegressor-3.
    """

    targets: int
    features: int
    aggregate: str = "SUM"

    def infer(self, x: TensorType, *forest: TensorType) -> TensorType:
        """``[rows, targets]``."""
        require_dtype(x, frozenset({DType.FLOAT, DType.DOUBLE}))
        if len(forest) != 9:
            raise ShapeError(f"needs 9 arrays of nodes, not {len(forest)}")
        for k, array in enumerate(forest):
            require_dtype(array, FLOATS if k in (1, 7, 8) else INTEGERS)
        if self.targets < 1 or self.features < 0:
            raise ShapeError(f"{self.targets} targets and {self.features} features cannot be")
        if self.aggregate not in AGGREGATES:
            raise ShapeError(f"aggregate {self.aggregate!r} does not exist")
        if x.rank != 2:
            raise ShapeError(f"the input must have 2 axes, not {x.rank}")
        require_at_most(self.features, x.shape[1], "the trees read a feature that does not exist")
        return TensorType(x.dtype, (x.shape[0], self.targets))

    def lower(self, b: Builder, x: Tensor, *forest: Tensor) -> Tensor:
        """One operation."""
        arrays = [t.constant for t in forest if t.constant is not None]
        if len(arrays) != len(forest):
            raise ModelError("its nodes must be constants", node=", ".join(b.origin))
        trees = Forest(*arrays)
        try:
            trees.check()
        except ModelError as error:
            error.node = ", ".join(b.origin)
            raise
        if len(trees.base) != self.targets or np.any(trees.feature >= self.features):
            raise ModelError("has other targets or features than it says", node=", ".join(b.origin))
        constants = {}
        for f in fields(Forest):
            array = getattr(trees, f.name)
            number = f.name in ("split", "weight", "base")
            array = array.astype(x.dtype.numpy if number else np.int32)
            constants[f.name] = b.constant(array, f"{x.buffer}.trees")
        (y,) = b.operation(
            TreesOperation,
            (TensorType(x.dtype, (x.shape[0], self.targets)),),
            x=x,
            **constants,
            aggregate=self.aggregate,
            missing=bool(np.any(trees.mode & MISSING)),
        )
        return y
