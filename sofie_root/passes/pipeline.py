"""The passes in their order, and the loop that runs them until nothing changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sofie_root.budget import stage
from sofie_root.errors import Refusal
from sofie_root.ir import Graph, verify

from .fold import fold_constants, propagate_shapes
from .layout import pointwise_conv_to_matmul
from .linear import fold_affine, matmul_add_to_gemm
from .prune import merge_common, remove_dead
from .quantized import dequantized_products_to_integers
from .rewrite import Change, PassResult
from .simplify import merge_pairs, remove_no_ops
from .sparse import sparse_product_to_gather

PASSES: tuple[Callable[[Graph], PassResult], ...] = (
    propagate_shapes,
    dequantized_products_to_integers,
    fold_constants,
    remove_no_ops,
    merge_pairs,
    merge_common,
    fold_affine,
    sparse_product_to_gather,
    pointwise_conv_to_matmul,
    matmul_add_to_gemm,
    remove_dead,
)
"""What :func:`optimise` runs in this order, again while one of them changes something."""

MAX_ROUNDS = 10


@dataclass(frozen=True, slots=True)
class PassReport:
    """What one pass changed and refused over all rounds."""

    name: str
    changes: tuple[Change, ...] = ()
    refusals: tuple[Refusal, ...] = ()


def optimise(graph: Graph) -> tuple[Graph, list[PassReport]]:
    """Runs all passes.

    Args:
        graph: any graph that ``verify`` accepts; it is left as it is.

    Returns:
        An equivalent graph with the same inputs and outputs, and one report per pass.
    """
    with stage():
        return _optimise(graph)


def _optimise(graph: Graph) -> tuple[Graph, list[PassReport]]:
    changes: dict[str, list[Change]] = {run.__name__: [] for run in PASSES}
    refusals: dict[str, tuple[Refusal, ...]] = {}
    for _ in range(MAX_ROUNDS):
        before = sum(len(c) for c in changes.values())
        for run in PASSES:
            result = run(graph)
            graph = result.graph
            changes[run.__name__].extend(result.changes)
            refusals[run.__name__] = result.refusals
        if sum(len(c) for c in changes.values()) == before:
            break
    verify(graph)
    return graph, [PassReport(n, tuple(c), refusals[n]) for n, c in changes.items()]
