"""Ensembles of decision trees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from sofie_root.budget import spend
from sofie_root.errors import ModelError

from ..operation import Array, Operand, Operation, Resolve

MAX_DEPTH = 10_000

MAX_FEATURES = 1 << 24

TESTS = 6
"""Number of ways in which a node compares: <=, <, >=, >, ==, != in the order of their modes."""

MISSING = 8
"""Added to the mode of a node whose test holds for NaN."""


@dataclass(frozen=True, slots=True)
class Forest:
    """The trees as arrays; a child that is not negative is a node, ``-1 - k`` is leaf ``k``.

    Attributes:
        feature, split, mode: what each node compares, with what, and how (ONNX's numbers; plus 8 where
            NaN passes).
        children: ``[nodes, 2]``, where it goes if the test holds and if not.
        roots: first node (or only leaf) of each tree.
        start: ``[leaves + 1]``, which of the weights belong to a leaf.
        target, weight: scores that a leaf gives.
        base: ``[targets]``, added at the end.
    """

    feature: Array
    split: Array
    mode: Array
    children: Array
    roots: Array
    start: Array
    target: Array
    weight: Array
    base: Array

    def check(self) -> None:
        """Checks what the C++ kernel relies on: places exist, and no path runs in a circle.

        Raises:
            ModelError: the arrays do not describe trees.
        """
        nodes, leaves, targets = len(self.feature), len(self.start) - 1, len(self.base)
        forms = (
            (self.feature, (nodes,)), (self.split, (nodes,)), (self.mode, (nodes,)),
            (self.children, (nodes, 2)), (self.roots, (len(self.roots),)),
            (self.start, (leaves + 1,)), (self.target, self.weight.shape),
            (self.weight, (len(self.weight),)), (self.base, (targets,)),
        )  # fmt: skip
        if any(array.shape != shape for array, shape in forms) or leaves < 0:
            raise ModelError("its arrays are not as long as each other; export the model again")
        if np.any(self.mode < 0) or np.any(self.mode > 15) or np.any(self.mode & 7 >= TESTS):
            raise ModelError("a node mode does not exist; export the model again")
        places = np.concatenate([self.children.reshape(-1), self.roots])
        if np.any(places >= nodes) or np.any(places < -leaves):
            raise ModelError("a node leads to one that does not exist; export the model again")
        if np.any(self.feature < 0) or np.any(self.feature >= MAX_FEATURES):
            raise ModelError("a feature is negative, or beyond 2^24; export the model again")
        starts = self.start.astype(np.int64)
        if starts[0] != 0 or starts[-1] != len(self.weight) or np.any(np.diff(starts) < 0):
            raise ModelError("the weights of the leaves do not follow each other")
        if np.any(self.target < 0) or np.any(self.target >= targets):
            raise ModelError(f"a leaf gives to a score outside {targets}; export the model again")
        if heights(self.children) is None:
            raise ModelError(
                f"nodes lead to each other in a circle, or a tree is deeper than {MAX_DEPTH}; "
                "export the model again"
            )


def heights(children: Array) -> Array | None:
    """Steps from each node to its deepest leaf; None where there are more than ``MAX_DEPTH``."""
    height = np.zeros(len(children) + 1, np.int64)  # the last stands for all leaves
    places = np.where(children >= 0, children, len(children))
    for _ in range(MAX_DEPTH):
        higher = 1 + height[places].max(axis=1, initial=0)
        if np.array_equal(higher, height[:-1]):
            return height[:-1]
        height[:-1] = higher
    return None


Aggregate = Literal["SUM", "AVERAGE", "MIN", "MAX"]

AGGREGATES: tuple[Aggregate, ...] = ("SUM", "AVERAGE", "MIN", "MAX")
"""How scores of several leaves are joined."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trees(Operation):
    """Scores ``[rows, targets]`` of decision trees.

    A row walks each tree from its root: to the first child of a node where its test of a feature holds, else
    to the second, until it comes to a leaf. Everything but ``x`` is constant, and has been checked by
    :meth:`Forest.check`.

    Attributes:
        x: ``[rows, features]`` of FLOAT or DOUBLE.
        feature: ``[nodes]`` of INT32, which feature a node tests.
        split: ``[nodes]``, with which number it is compared; of the dtype of ``x``.
        mode: ``[nodes]`` of INT32, how: 0 to 5 for <=, <, >=, >, == and !=, plus 8 where the test holds for
            NaN, too.
        children: ``[nodes, 2]`` of INT32, where a row goes if the test holds and if not: a number that is
            not negative is a node, ``-1 - k`` is leaf ``k``.
        roots: ``[trees]`` of INT32, where each tree begins, numbered as children are.
        start: ``[leaves + 1]`` of INT32; leaf ``k`` gives scores ``start[k]`` to ``start[k + 1] - 1``.
        target: ``[scores]`` of INT32, to which target a leaf gives.
        weight: ``[scores]`` of the dtype of ``x``, what it gives.
        base: ``[targets]`` of the dtype of ``x``, added at the end.
        aggregate: how the scores that a target gets are joined; a target of MIN or MAX that gets none is 0.
        missing: whether the test of some node holds for NaN.
    """

    x: Operand
    feature: Operand
    split: Operand
    mode: Operand
    children: Operand
    roots: Operand
    start: Operand
    target: Operand
    weight: Operand
    base: Operand
    aggregate: Aggregate
    missing: bool

    @property
    def needs_infinity(self) -> str:
        """NaN stands for a missing value where some test holds for it."""
        return "takes NaN for missing values" if self.missing else ""

    def evaluate(self, resolve: Resolve, **operands: Any) -> list[Array]:
        """The scores, all rows walking together."""
        x, feature, split, mode, children, roots = (
            operands[name] for name in ("x", "feature", "split", "mode", "children", "roots")
        )
        at = np.broadcast_to(roots, (len(x), len(roots)))
        rows = np.arange(len(x))[:, None]
        while np.any(at >= 0):
            spend(50 * at.size)
            node = np.maximum(at, 0)
            v, s, how = x[rows, feature[node]], split[node], mode[node]
            tests = [v <= s, v < s, v >= s, v > s, v == s, v != s]
            holds = np.choose(how & 7, tests) | ((how & MISSING > 0) & np.isnan(v))
            onward = np.where(holds, children[node, 0], children[node, 1])
            at = np.where(at >= 0, onward, at)
        return [add_scores(-1 - at, self.aggregate, operands)]


def add_scores(leaves: Array, aggregate: Aggregate, operands: dict[str, Any]) -> Array:
    """Scores ``[rows, targets]`` of rows that have come to leaves.

    Args:
        leaves: ``[rows, trees]``, the number of each leaf.
        aggregate: how the scores are joined.
        operands: arrays ``start``, ``target``, ``weight`` and ``base`` of :class:`Trees`.
    """
    start, target, weight, base = (operands[name] for name in ("start", "target", "weight", "base"))
    neutral = {"MIN": np.inf, "MAX": -np.inf}.get(aggregate, 0)
    y = np.full((len(leaves), len(base)), neutral, base.dtype)
    meet = {"MIN": np.minimum, "MAX": np.maximum}.get(aggregate, np.add)
    for row, reached in enumerate(leaves):
        for leaf in reached:
            spend(1000 * int(start[leaf + 1] - start[leaf]))
            for w in range(start[leaf], start[leaf + 1]):
                y[row, target[w]] = meet(y[row, target[w]], weight[w])
    if aggregate == "AVERAGE":
        y = y / base.dtype.type(leaves.shape[1])
    extreme = aggregate in ("MIN", "MAX")
    return np.asarray(np.where(np.isinf(y) & extreme, 0, y).astype(base.dtype) + base)
