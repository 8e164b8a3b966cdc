"""Ensembles of decision trees (``cpu/trees.hxx``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sofie_root.budget import spend
from sofie_root.program.builder import Builder
from sofie_root.program.operation import Array, Operand, Operation, Resolve
from sofie_root.program.operations.trees import (
    AGGREGATES,
    Aggregate,
    Trees,
    add_scores,
    heights,
)
from sofie_root.targets.cxx.call import Call, CppKernel, In, Out

from . import call, choose

GROUP = 8
"""Trees that are walked together."""

MIXED = 6
"""Mode of an ensemble whose nodes compare in different ways."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedTrees(Operation):
    """Decision trees whose nodes are packed, the leaves numbered behind them.

    Attributes:
        x: ``[rows, features]`` of FLOAT or DOUBLE.
        packed: ``[nodes + leaves, 4 or 6]`` of INT32: the bits of the number to compare with; the feature,
            with the mode above its 24 bits where nodes differ in it; both children. A leaf leads to itself.
        roots: where each tree begins.
        depths: steps after which all rows have come to leaves, for each group of eight trees.
        start, target, weight, base: as in :class:`Trees`.
        aggregate: as in :class:`Trees`.
        mode: the mode of all nodes, or ``MIXED``.
        missing: whether the test of some node holds for NaN.
        nodes: how many are no leaves.
    """

    x: Operand
    packed: Operand
    roots: Operand
    depths: Operand
    start: Operand
    target: Operand
    weight: Operand
    base: Operand
    aggregate: Aggregate
    mode: int
    missing: bool
    nodes: int

    CONSTANTS = ("packed", "roots", "depths", "start", "target", "weight", "base")

    @property
    def needs_infinity(self) -> str:
        """NaN stands for a missing value where some test holds for it."""
        return "takes NaN for missing values" if self.missing else ""

    def evaluate(self, resolve: Resolve, **operands: Any) -> list[Array]:
        """The scores, all rows walking together."""
        x, packed, roots = operands["x"], operands["packed"], operands["roots"]
        head = 1 if packed.shape[1] == 4 else 2
        split = np.ascontiguousarray(packed[:, :head]).view(np.float32 if head == 1 else np.float64)
        split = split[:, 0]
        feature, mode = packed[:, head], np.full(len(packed), self.mode)
        passes = np.zeros(len(packed), bool)
        if self.mode == MIXED or self.missing:
            passes = (feature >> 27 & 1).astype(bool)
            mode = feature >> 24 & 7 if self.mode == MIXED else mode
            feature = feature & 0xFFFFFF
        at = np.broadcast_to(roots, (len(x), len(roots)))
        rows = np.arange(len(x))[:, None]
        for _ in range(operands["depths"].max(initial=0)):
            spend(50 * at.size)
            v, s = x[rows, feature[at]], split[at]
            tests = [v <= s, v < s, v >= s, v > s, v == s, v != s]
            holds = np.choose(mode[at], tests) | (passes[at] & np.isnan(v))
            at = np.where(holds, packed[at, head + 1], packed[at, head + 2])
        return [add_scores(at - self.nodes, self.aggregate, operands)]


@choose.register
def _(operation: Trees, b: Builder) -> Operation:
    name = f"{operation.x.buffer}.trees"

    def constant(field: str) -> Array:
        array = b.program.constant(getattr(operation, field).buffer)
        assert array is not None, operation
        return array

    def kept(array: Array) -> Operand:
        return b.constant(array, name).operand

    mode, feature, roots = (constant(field) for field in ("mode", "feature", "roots"))
    children, split = constant("children"), constant("split")
    nodes, leaves = len(feature), len(constant("start")) - 1
    modes = np.unique(mode & 7)
    common = int(modes[0]) if len(modes) == 1 else MIXED if len(modes) else 0
    if common == MIXED or operation.missing:
        feature = feature | (mode << 24)
    head = split.dtype.itemsize // 4
    packed = np.zeros((nodes + leaves, 4 if head == 1 else 6), np.int32)
    packed[:nodes, :head] = np.ascontiguousarray(split).reshape(-1, 1).view(np.int32)
    packed[:nodes, head] = feature
    packed[:nodes, head + 1 : head + 3] = _numbered(children, nodes)
    packed[nodes:, head + 1 : head + 3] = np.arange(nodes, nodes + leaves).reshape(-1, 1)
    height = heights(children)
    assert height is not None, "lowering has checked that there is no circle"
    depth = np.append(height, 0)[np.where(roots >= 0, roots, nodes)]
    depths = [depth[k : k + GROUP].max() for k in range(0, len(depth), GROUP)]
    return PackedTrees(
        x=operation.x,
        packed=kept(packed),
        roots=kept(_numbered(roots, nodes)),
        depths=kept(np.array(depths, np.int32)),
        start=operation.start,
        target=operation.target,
        weight=operation.weight,
        base=operation.base,
        aggregate=operation.aggregate,
        mode=common,
        missing=operation.missing,
        nodes=nodes,
        outputs=operation.outputs,
        origin=operation.origin,
    )


def _numbered(places: Array, nodes: int) -> Array:
    """Children or roots with the leaves numbered after the nodes."""
    return np.where(places >= 0, places, nodes - 1 - places).astype(np.int32)


@call.register
def _(operation: PackedTrees) -> Call:
    trees, targets = operation.roots.shape[0], operation.base.shape[0]
    operands = (In("x"), *map(In, operation.CONSTANTS))
    return Call(
        CppKernel(name="trees", header="cpu/trees.hxx"),
        (*operation.x.shape, trees, *operands, Out()),
        (
            ("targets", targets),
            ("aggregate", AGGREGATES.index(operation.aggregate)),
            ("mode", operation.mode),
            ("missing", operation.missing),
            ("nodes", operation.nodes),
        ),
    )
