"""A random model and its sets of inputs from a seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import ml_dtypes
import numpy as np
from onnx import AttributeProto, GraphProto, ModelProto

from . import blocks, cases, control, motifs, rows, sequences, views
from .builder import DOUBLE, FLOAT, HALF, Builder, Value
from .reference import Array, sources

FAMILIES = (
    ("rows", rows.ROWS, 5.0),
    ("views", views.ROWS, 4.0),
    ("cases", cases.ROWS, 3.0),
    ("sequences", sequences.ROWS, 1.5),
    ("motifs", motifs.ROWS, 1.5),
    ("blocks", blocks.ROWS, 1.2),
    ("control", control.ROWS, 0.35),
)
"""Name, rows, and how often a row of it is drawn; a graph prefers one or two of them."""

DTYPES = ((FLOAT,), (FLOAT,), (FLOAT,), (FLOAT,), (FLOAT, FLOAT, DOUBLE), (FLOAT, DOUBLE, HALF), (DOUBLE,),
          (HALF, FLOAT), (FLOAT, np.dtype(ml_dtypes.bfloat16)))  # fmt: skip
OPSETS = (22,) * 9 + (24, 24, 21, 20, 19, 18, 18, 17, 13, 26, 10, 9)
SPANS = (
    (1, 2, 3),
    (1, 5, 9),
    (2, 7, 16),
    (3, 8, 17),
    (4, 33, 20),
    (1, 1, 6),
    (5, 2, 31),
    (0, 3, 5),
    (16, 1, 40),
    (7, 64, 13),
)
"""Sizes that a symbol takes in the three sets of inputs."""


@dataclass(frozen=True)
class Graph:
    """What was drawn.

    Attributes:
        seed: gives the same again.
        model: the model.
        feeds: sets of inputs.
        expected: all values by name, for each set.
        drawn: how often each row was taken.
    """

    seed: int
    model: ModelProto
    feeds: list[dict[str, Array]]
    drawn: Counter[str] = field(default_factory=Counter)

    @property
    def operators(self) -> Counter[str]:
        """How often each operator occurs, in bodies too."""
        return Counter(all_operators(self.model.graph))


def all_operators(graph: GraphProto) -> Iterator[str]:
    """The operator of each node, those in bodies included."""
    for node in graph.node:
        yield f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                yield from all_operators(attribute.g)


def draw(seed: int) -> Graph:
    """The graph of a seed: 5 to 60 nodes, up to ten outputs."""
    rng = np.random.default_rng([20, seed])
    symbolic = rng.random() < 0.55
    symbols: dict[str, tuple[int, ...]] = {}
    if symbolic:
        spans = [SPANS[int(k)] for k in rng.permutation(len(SPANS))]
        for name, span in zip(("N", "T"), spans[: int(rng.integers(1, 3))], strict=False):
            if 0 in span and rng.random() < 0.5:
                span = (2, 3, 5)
            if span not in symbols.values():
                symbols[name] = span
    b = Builder(rng, symbols, 3 if symbolic else 2, OPSETS[int(rng.integers(len(OPSETS)))])
    b.kinds = DTYPES[int(rng.integers(len(DTYPES)))]
    emphasis = rng.dirichlet(np.full(len(FAMILIES), 0.8)) * len(FAMILIES) + 0.3
    weights = np.array([w for _, _, w in FAMILIES]) * emphasis
    wanted = int(rng.integers(5, 61)) if rng.random() < 0.5 else int(rng.integers(5, 25))
    drawn: Counter[str] = Counter()
    for _ in range(wanted * 3):
        if len(b.nodes) >= wanted:
            break
        _, table, _ = FAMILIES[int(b.choice(range(len(FAMILIES)), list(weights)))]
        name = b.choice(list(table), [w for w, _ in table.values()])
        if b.attempt(table[name][1]):
            drawn[name] += 1
    model = b.model(_outputs(b))
    used = {i.name for i in model.graph.input}
    feeds = [{n: a for n, a in f.items() if n in used} for f in b.feeds]
    return Graph(seed, model, feeds, drawn)


def _outputs(b: Builder) -> list[Value]:
    """What nobody reads, and some of what others read too."""
    read = {n for node in b.nodes for n in sources(node)}
    computed = {o for node in b.nodes for o in node.output}
    values = [v for v in b.values if v.name in computed]
    leaves = [v for v in values if v.name not in read]
    inner = [v for v in values if v.name in read]
    if len(leaves) > 10:
        leaves = [leaves[int(k)] for k in sorted(b.rng.permutation(len(leaves))[:10])]
    extra = [v for v in inner if b.chance(0.1)][:4]
    return sorted({v.name: v for v in (*leaves, *extra)}.values(), key=values.index)
