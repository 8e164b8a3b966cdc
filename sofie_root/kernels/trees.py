"""Ensembles of decision trees (``core/trees.hxx``)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sofie_root.budget import spend
from sofie_root.errors import ModelError
from sofie_root.ir.dim import Dim
from sofie_root.ir.types import TensorType
from sofie_root.program.builder import Builder, Tensor
from sofie_root.program.program import In, Kernel, KernelSpec, Out

Array = npt.NDArray[Any]

GROUP = 8
"""Trees that are walked together."""

MAX_DEPTH = 10_000

MAX_FEATURES = 1 << 24

MIXED = 6
"""Mode of an ensemble whose nodes compare in different ways."""


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
        if np.any(self.mode < 0) or np.any(self.mode > 15) or np.any(self.mode & 7 >= MIXED):
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


def trees(b: Builder, x: Tensor, forest: Forest, aggregate: int) -> Tensor:
    """Scores ``[rows, targets]`` of ``x[rows, features]``.

    Args:
        b: the builder.
        x: FLOAT or DOUBLE.
        forest: the trees, split and weight and base of the dtype of ``x``.
        aggregate: 0 sum, 1 mean, 2 smallest, 3 largest.
    """
    count, targets = len(forest.roots), len(forest.base)
    packed, depths, mode, missing = _packed(forest)
    nodes = len(forest.feature)
    arrays = (
        packed,
        _numbered(forest.roots, nodes),
        depths,
        forest.start.astype(np.int32),
        forest.target.astype(np.int32),
        forest.weight,
        forest.base,
    )
    inputs = [b.constant(a, f"{x.buffer}.trees") for a in arrays]
    traits = (
        ("targets", targets),
        ("aggregate", aggregate),
        ("mode", mode),
        ("missing", missing),
        ("nodes", nodes),
    )
    (y,) = b.kernel(
        TREES,
        (*x.shape, count, *(In(k) for k in range(1 + len(inputs))), Out(0)),
        (x, *inputs),
        (TensorType(x.dtype, (x.shape[0], targets)),),
        traits,
    )
    return y


def _numbered(places: Array, nodes: int) -> Array:
    """Children or roots with the leaves numbered after the nodes."""
    return np.where(places >= 0, places, nodes - 1 - places).astype(np.int32)


def _packed(forest: Forest) -> tuple[Array, Array, int, bool]:
    """The nodes as the kernel reads them, steps per group, the common mode, and whether NaN passes."""
    nodes, leaves = len(forest.feature), len(forest.start) - 1
    modes = np.unique(forest.mode & 7)
    mode = int(modes[0]) if len(modes) == 1 else MIXED if len(modes) else 0
    missing = bool(np.any(forest.mode & 8))
    feature = forest.feature.astype(np.int64)
    if mode == MIXED or missing:
        feature = feature | (forest.mode.astype(np.int64) << 24)
    head = forest.split.dtype.itemsize // 4
    packed = np.zeros((nodes + leaves, 4 if head == 1 else 6), np.int32)
    packed[:nodes, :head] = forest.split.reshape(-1, 1).view(np.int32)
    packed[:nodes, head] = feature.astype(np.int32)
    packed[:nodes, head + 1 : head + 3] = _numbered(forest.children, nodes)
    packed[nodes:, head + 1 : head + 3] = np.arange(nodes, nodes + leaves).reshape(-1, 1)
    height = heights(forest.children)
    assert height is not None, "the frontend has checked that there is no circle"
    depth = np.append(height, 0)[np.where(forest.roots >= 0, forest.roots, nodes)]
    groups = [depth[k : k + GROUP].max() for k in range(0, len(depth), GROUP)]
    return packed, np.array(groups, np.int32), mode, missing


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


def _reference(kernel: Kernel, inputs: list[Array], resolve: Callable[[Dim], int]) -> list[Array]:
    x, packed, roots, depths, start, target, weight, base = inputs
    t = dict(kernel.traits)
    head = 1 if packed.shape[1] == 4 else 2
    split = np.ascontiguousarray(packed[:, :head]).view(np.float32 if head == 1 else np.float64)
    split = split[:, 0]
    feature, mode = packed[:, head], np.full(len(packed), t["mode"])
    passes = np.zeros(len(packed), bool)
    if t["mode"] == MIXED or t["missing"]:
        passes = (feature >> 27 & 1).astype(bool)
        mode = feature >> 24 & 7 if t["mode"] == MIXED else mode
        feature = feature & 0xFFFFFF
    at = np.broadcast_to(roots, (len(x), len(roots)))
    rows = np.arange(len(x))[:, None]
    for _ in range(depths.max(initial=0)):
        spend(50 * at.size)
        v, s = x[rows, feature[at]], split[at]
        tests = [v <= s, v < s, v >= s, v > s, v == s, v != s]
        holds = np.choose(mode[at], tests) | (passes[at] & np.isnan(v))
        at = np.where(holds, packed[at, head + 1], packed[at, head + 2])
    neutral = [0, 0, np.inf, -np.inf][t["aggregate"]]
    y = np.full((len(x), t["targets"]), neutral, x.dtype)
    meet = [np.add, np.add, np.minimum, np.maximum][t["aggregate"]]
    for row, leaves in enumerate(at - t["nodes"]):
        for leaf in leaves:
            spend(1000 * int(start[leaf + 1] - start[leaf]))
            for w in range(start[leaf], start[leaf + 1]):
                y[row, target[w]] = meet(y[row, target[w]], weight[w])
    if t["aggregate"] == 1:
        y = y / x.dtype.type(len(roots))
    return [np.where(np.isinf(y) & (t["aggregate"] > 1), 0, y).astype(x.dtype) + base]


TREES = KernelSpec("trees", "core/trees.hxx", _reference)
