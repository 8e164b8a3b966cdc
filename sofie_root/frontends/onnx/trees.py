"""Attributes of ONNX's tree operators as the arrays that ``sofie_root.Trees`` reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from sofie_root.errors import ModelError
from sofie_root.program.operations.trees import Forest

Array = npt.NDArray[Any]
Attribute = Callable[[str], Any]
Values = Callable[[str, Any], "Array | None"]

MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ")
EQUAL = MODES.index("BRANCH_EQ")
MEMBER = 6
MISSING = 8
"""Added to the mode of a node that NaN passes."""


@dataclass(frozen=True, slots=True)
class TreeArrays:
    """The fields of :class:`~sofie_root.program.operations.trees.Forest`, but for ``base``."""

    feature: Array
    split: Array
    mode: Array
    children: Array
    roots: Array
    start: Array
    target: Array
    weight: Array

    def arrays(self) -> tuple[Array, ...]:
        """Them in order, integers of 32 bits."""
        small = (self.children, self.roots, self.start, self.target)
        children, roots, start, target = (a.astype(np.int32) for a in small)
        feature, mode = self.feature.astype(np.int32), self.mode.astype(np.uint8)
        return feature, self.split, mode, children, roots, start, target, self.weight

    @property
    def features(self) -> int:
        """How many columns the trees need."""
        return int(self.feature.max(initial=-1)) + 1

    def check(self, targets: int) -> None:
        """Checks that the arrays are trees which give ``targets`` scores.

        Raises:
            ModelError: they are not.
        """
        arrays = {f.name: getattr(self, f.name) for f in fields(self)}
        Forest(**arrays, base=np.zeros(targets)).check()


def trees_of_nodes(attribute: Attribute, values: Values, what: str, targets: int) -> TreeArrays:
    """The arrays of a TreeEnsembleRegressor (``what`` = "target") or Classifier ("class")."""
    tree, number = (np.array(attribute(f"nodes_{n}"), np.int64) for n in ("treeids", "nodeids"))
    names = attribute("nodes_modes")
    unknown = set(names) - {*MODES, "LEAF"}
    if unknown:
        raise ModelError(f"the node mode {sorted(unknown)[0]!r} does not exist")
    is_leaf = np.array([n == "LEAF" for n in names], bool)
    place = np.where(is_leaf, -np.cumsum(is_leaf), np.cumsum(~is_leaf) - 1)
    where = dict(zip(zip(tree.tolist(), number.tolist(), strict=True), place.tolist(), strict=True))
    if len(where) != len(names):
        raise ModelError("two nodes have the same number; export the model again")
    inner = np.flatnonzero(~is_leaf)
    children = [
        [
            where[tree[k], ids[k]]
            for ids in (attribute("nodes_truenodeids"), attribute("nodes_falsenodeids"))
        ]
        for k in inner.tolist()
    ]
    mode = np.array([MODES.index(names[k]) for k in inner], np.int64)
    missing = attribute("nodes_missing_value_tracks_true")
    if missing:
        mode = mode + MISSING * (np.array(missing)[inner] != 0)
    feature = np.array(attribute("nodes_featureids"), np.int64)
    split = values("nodes_values", np.float32)
    assert split is not None
    _require_length(len(names), tree, number, feature, split)
    _, first = np.unique(tree, return_index=True)
    start, target, weight = _leaves(attribute, values, what, where, int(is_leaf.sum()))
    arrays = TreeArrays(
        feature[inner],
        split[inner].astype(np.float64),
        mode,
        np.array(children, np.int64).reshape(-1, 2),
        place[np.sort(first)],
        start,
        target,
        weight,
    )
    arrays.check(targets)
    return arrays


def _require_length(length: int, *arrays: Array) -> None:
    if any(len(a) != length for a in arrays):
        raise ModelError("its lists are not as long as each other; export the model again")


def _leaves(
    attribute: Attribute, values: Values, what: str, where: dict[tuple[int, int], int], leaves: int
) -> tuple[Array, Array, Array]:
    """Which weights each leaf has, and what each adds to."""
    keys = zip(attribute(f"{what}_treeids"), attribute(f"{what}_nodeids"), strict=True)
    leaf = -1 - np.array([where[k] for k in keys], np.int64)
    if np.any(leaf < 0):
        raise ModelError("a node that is not a leaf has weights; export the model again")
    weight = values(f"{what}_weights", np.float32)
    assert weight is not None
    target = np.array(attribute(f"{what}_ids"), np.int64)
    _require_length(len(leaf), target, weight)
    order = np.argsort(leaf, kind="stable")
    start = np.concatenate([[0], np.cumsum(np.bincount(leaf, minlength=leaves))])
    return start, target[order], weight[order].astype(np.float64)


def ensemble(attribute: Attribute) -> TreeArrays:
    """The arrays of a TreeEnsemble; a test for members becomes a chain of tests for equality."""

    def ints(name: str) -> Array:
        return np.array(attribute(name), np.int64)

    split = np.asarray(attribute("nodes_splits")).astype(np.float64)
    mode = np.asarray(attribute("nodes_modes")).astype(np.int64)
    if np.any((mode < 0) | (mode > MEMBER)):
        raise ModelError("a node mode does not exist; export the model again")
    missing = attribute("nodes_missing_value_tracks_true")
    flags = MISSING * (np.array(missing) != 0) if missing else np.zeros(len(mode), np.int64)
    children = np.stack(
        [
            np.where(
                ints(f"nodes_{side}leafs") != 0,
                -1 - ints(f"nodes_{side}nodeids"),
                ints(f"nodes_{side}nodeids"),
            )
            for side in ("true", "false")
        ],
        axis=1,
    )
    feature = ints("nodes_featureids")
    members = np.flatnonzero(mode == MEMBER)
    rows: list[tuple[int, float, int, int, int]] = []  # what is appended to the arrays
    sets = _member_sets(attribute("membership_values"), len(members))
    for k, numbers in zip(members.tolist(), sets, strict=True):
        mode[k], split[k] = EQUAL, numbers[0] if len(numbers) else np.nan
        end = children[k, 1]
        for n, value in enumerate(numbers[1:]):
            last = n == len(numbers) - 2
            follows = end if last else len(mode) + len(rows) + 1
            rows.append((feature[k], value, EQUAL, children[k, 0], follows))
        if len(numbers) > 1:
            children[k, 1] = len(mode) + len(rows) - len(numbers) + 1
    if rows:
        extra = list(zip(*rows, strict=True))
        feature = np.concatenate([feature, extra[0]])
        split = np.concatenate([split, extra[1]])
        mode = np.concatenate([mode, extra[2]])
        flags = np.concatenate([flags, np.zeros(len(rows), np.int64)])
        children = np.concatenate([children, np.stack(extra[3:], axis=1)])
    weight = np.asarray(attribute("leaf_weights")).astype(np.float64)
    target = ints("leaf_targetids")
    _require_length(len(weight), target)
    _require_length(len(mode), feature, split, flags, children)
    return TreeArrays(
        feature,
        split,
        mode + flags,
        children,
        ints("tree_roots"),
        np.arange(len(weight) + 1),
        target,
        weight,
    )


def _member_sets(values: Any, count: int) -> Sequence[Array]:
    """The members of each node, which NaN separates."""
    if not count:
        return []
    flat = np.asarray(values if values is not None else []).astype(np.float64)
    ends = np.flatnonzero(np.isnan(flat))
    if len(ends) != count:
        raise ModelError(f"membership_values holds {len(ends)} sets, {count} are needed")
    return [part[~np.isnan(part)] for part in np.split(flat, ends)[:count]]
