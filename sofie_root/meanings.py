"""What the inputs of a model mean, read off the operators that take them: indices, sizes, scales, lengths.

Random inputs that ignore it are refused (an index of -3, sizes that do not add up) or test nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from .ir import Graph, Node, TensorType
from .ir.dim import Dim, product

Array = npt.NDArray[Any]
Size: TypeAlias = Callable[[Dim], int | None]
"""The number that a dim stands for; None where only the run tells."""

SMALL = 4
"""What a size or a count may be that could be anything."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """What the elements of an input are.

    Attributes:
        low: the smallest value.
        high: the largest value: a number, or a size.
        fill: instead of both, makes the content from its shape and the sizes.
    """

    low: float = 0
    high: Dim | float = SMALL
    fill: Callable[[tuple[int, ...], Size], Any] | None = None

    def draw(
        self, rng: np.random.Generator, type_: TensorType, shape: tuple[int, ...], size: Size
    ) -> Any:
        """Random content of this shape; None where it depends on what only the run tells."""
        if self.fill is not None:
            return self.fill(shape, size)
        high = self.high if isinstance(self.high, int | float) else size(self.high)
        if high is None:
            return None
        if type_.dtype.is_float:
            return rng.uniform(self.low, high, shape)
        return rng.integers(int(self.low), max(int(self.low), int(high)), shape, endpoint=True)


def meanings(graph: Graph) -> dict[str, list[Meaning]]:
    """What the inputs of a graph mean, as far as their readers say; one that is read twice means both."""
    found: dict[str, list[Meaning]] = {}
    for node in reversed(graph.nodes):
        for position, name in enumerate(node.inputs):
            if name is None:
                continue
            own = _meaning(node, position, graph.types)
            if own is not None:
                found.setdefault(name, []).append(own)
            elif (position == 0 and node.op.moves_data) or node.op.name == "Concat":
                for moved in found.get(node.outputs[0] or "", []):
                    whole = node.op.name != "Concat" or moved.fill is None
                    found.setdefault(name, []).append(moved if whole else ONE)
    return {name: found[name] for name in graph.inputs if name in found}


ONE = Meaning(1, 1)
TWO = Meaning(1, 2)
POSITIVE = Meaning(0.1, 3)
RANGES: Mapping[tuple[str, int], Meaning] = {
    ("Acos", 0): Meaning(-0.9, 0.9), ("Asin", 0): Meaning(-0.9, 0.9), ("Atanh", 0): Meaning(-0.9, 0.9),
    ("Acosh", 0): Meaning(1, 4), ("Log", 0): POSITIVE, ("Sqrt", 0): POSITIVE, ("Pow", 0): POSITIVE,
    ("Pow", 1): Meaning(0, 2), ("Reciprocal", 0): POSITIVE, ("Div", 1): Meaning(1, 5),
    ("Mod", 1): Meaning(1, 5),
    ("BatchNormalization", 4): POSITIVE, ("QuantizeLinear", 1): POSITIVE, ("DequantizeLinear", 1): POSITIVE,
    ("BitShift", 1): Meaning(0, 3), ("Dropout", 1): Meaning(0, 0.5), ("Clip", 1): Meaning(-2, -1),
    ("Clip", 2): Meaning(1, 2), ("GridSample", 1): Meaning(-1, 1),
    ("Expand", 1): ONE, ("Tile", 1): TWO, ("Pad", 1): Meaning(0, 1),
    ("ConstantOfShape", 0): Meaning(1, SMALL),
    ("Range", 0): Meaning(0, 0), ("Range", 1): Meaning(1, 6), ("Range", 2): ONE,
    ("OneHot", 0): Meaning(0, SMALL - 1), ("OneHot", 1): Meaning(SMALL, SMALL), ("Trilu", 1): Meaning(-1, 1),
    ("Loop", 0): Meaning(1, 3), ("RoiAlign", 1): Meaning(0, SMALL), ("NonMaxSuppression", 2): Meaning(1, 5),
    ("NonMaxSuppression", 3): Meaning(0.3, 0.7), ("NonMaxSuppression", 4): Meaning(0, 0.2),
    ("DFT", 1): Meaning(4, 8), ("DFT", 2): ONE, ("STFT", 1): Meaning(1, 3), ("STFT", 3): Meaning(2, 3),
    ("MelWeightMatrix", 0): Meaning(2, SMALL), ("MelWeightMatrix", 1): Meaning(8, 16),
    ("MelWeightMatrix", 2): Meaning(8000, 8000), ("MelWeightMatrix", 3): Meaning(0, 100),
    ("MelWeightMatrix", 4): Meaning(2000, 4000), ("Slice", 1): Meaning(0, 0), ("Slice", 4): ONE,
    ("Squeeze", 1): Meaning(0, 0),
}  # fmt: skip
"""Values that an operator takes at an input (by position), whatever its other inputs are."""


def _meaning(node: Node, position: int, types: Mapping[str, TensorType]) -> Meaning | None:
    """What an operator takes at an input."""
    name = node.op.name
    if (name, position) in RANGES:
        return RANGES[name, position]
    given = [None if i is None else types[i] for i in node.inputs]
    x = given[0]
    if x is None or position == 0:
        return None
    axis = node.op.attributes().get("axis")
    if not isinstance(axis, int) or not x.rank:
        axis = 0
    axis %= max(x.rank, 1)
    if name in ("Gather", "GatherElements", "ScatterElements") and position == 1:
        return Meaning(0, x.shape[axis] - 1)
    if name in ("GatherND", "ScatterND") and position == 1:
        return Meaning(fill=lambda shape, size: _vectors(x, node, shape, size))
    if name == "TopK":
        return Meaning(1, x.shape[axis])
    if name == "CumSum" or name == "CumProd":
        return Meaning(0, x.rank - 1)
    if name == "Reshape":
        return Meaning(fill=lambda shape, size: _same_elements(x, shape, size))
    if name == "Split":
        return Meaning(fill=lambda shape, size: _parts(x.shape[axis], shape, size))
    if name == "Resize":
        return Meaning(fill=lambda shape, size: _resized(x, node, position, shape, size))
    if (name == "Slice" and position in (2, 3)) or name == "Unsqueeze" or name.startswith("Reduce"):
        far = name == "Slice" and position == 2
        return Meaning(
            fill=lambda shape, _: (
                np.full(shape, 2**31) if far else np.arange(shape[0] if shape else 1)
            )
        )
    if name == "ReverseSequence":
        return Meaning(1, x.shape[node.op.attributes()["time_axis"]])
    if name in ("RNN", "GRU", "LSTM") and position == 4:
        return Meaning(1, x.shape[1 if node.op.attributes()["layout"] else 0])
    if name == "RoiAlign":
        return Meaning(0, x.shape[0] - 1)
    if name == "MaxUnpool" and position == 1:
        return Meaning(0, product(x.shape) - 1)
    return None


def _vectors(x: TensorType, node: Node, shape: tuple[int, ...], size: Size) -> Any:
    """Index vectors that differ from each other as far as there are elements."""
    skip = node.op.attributes().get("batch_dims", 0)
    extents = [size(d) for d in x.shape[skip : skip + shape[-1]]]
    if None in extents or 0 in extents:
        return np.zeros(shape)
    count = int(np.prod(shape[:-1]))
    total = int(np.prod([n or 1 for n in extents]))
    flat = np.unravel_index(np.arange(count) % total, [n or 1 for n in extents])
    return np.stack(flat, axis=-1).reshape(shape)


def _same_elements(x: TensorType, shape: tuple[int, ...], size: Size) -> Any:
    """The shape of ``x`` if it has as many axes, else all elements along the first axis."""
    own = [size(d) for d in x.shape]
    if len(own) == shape[0] and None not in own:
        return np.asarray(own)
    return np.asarray([-1, *[1] * (shape[0] - 1)])[: shape[0]]


def _parts(extent: Dim, shape: tuple[int, ...], size: Size) -> Any:
    """Sizes that add up to an axis."""
    total = size(extent)
    if total is None or not shape[0]:
        return None
    parts = np.full(shape, total // shape[0])
    parts[-1] += total - parts.sum()
    return parts


def _resized(x: TensorType, node: Node, position: int, shape: tuple[int, ...], size: Size) -> Any:
    """Sizes or scales that keep batch and channels as they are, or a region that covers the whole tensor."""
    if position == 1:
        return np.repeat([0, 1], shape[0] // 2)
    chosen = node.op.attributes().get("axes")
    axes = range(x.rank) if chosen is None else [a % x.rank for a in chosen]
    scales = [1 if a < 2 and x.rank > 2 else 2 for a in axes]
    if position == 2:
        return np.asarray(scales)
    sizes = [size(x.shape[a]) for a in axes]
    if None in sizes:
        return None
    return np.asarray(sizes) * scales


__all__ = ["Meaning", "meanings"]
