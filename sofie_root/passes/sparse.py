"""Products by constant matrices of ones and zeros: they pick columns, or add a few of them.

Interaction networks send node features to edges with a matrix that has a single one in each column, and
collect them again with its transpose.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from sofie_root.ir import Graph, Node
from sofie_root.ops.gather import Gather
from sofie_root.ops.reduce import ReduceSum

from .rewrite import PassResult, Sweep

SPARSE = 8
"""A matrix is sparse if this many times its ones are fewer than its elements."""


def sparse_product_to_gather(graph: Graph) -> PassResult:
    """Makes a Gather, and a ReduceSum where it takes one, of products by such matrices."""
    sweep = Sweep(graph)
    for original in graph.nodes:
        node = sweep.resolve(original)
        matrix = _matrix(node, sweep)
        picked = None if matrix is None else _picked(matrix)
        if picked is None:
            sweep.keep(node)
            continue
        for new in _as_gather(node, picked, sweep):
            sweep.keep(new)
        sweep.change(node, f"adds up {picked.shape[1]} columns that its matrix picks")
    return sweep.result()


def _matrix(node: Node, sweep: Sweep) -> npt.NDArray[Any] | None:
    """The constant ``[K, N]`` right side of a plain product, else None."""
    if node.op.domain or node.op.name not in ("MatMul", "Gemm") or node.inputs[0] is None:
        return None
    matrix = sweep.array(node.inputs[1])
    if matrix is None or matrix.ndim != 2 or sweep.type(node.inputs[0]).rank < 2:
        return None
    if node.op.name == "Gemm":
        values = node.op.attributes()
        bias = len(node.inputs) > 2 and node.inputs[2] is not None
        if bias or values["transA"] or values["alpha"] != 1:
            return None
        matrix = matrix.T if values["transB"] else matrix
    return matrix


def _picked(matrix: npt.NDArray[Any]) -> npt.NDArray[np.int64] | None:
    """``[N, d]``: the rows that have a one in each column; None where that is no gain, or not so."""
    rows, columns = matrix.shape
    if matrix.size == 0 or not ((matrix == 0) | (matrix == 1)).all():
        return None
    ones = np.count_nonzero(matrix, axis=0)
    if ones.min() != ones.max() or ones[0] == 0 or ones[0] * SPARSE > rows:
        return None
    return np.nonzero(matrix.T)[1].reshape(columns, ones[0]).astype(np.int64)


def _as_gather(node: Node, picked: npt.NDArray[np.int64], sweep: Sweep) -> list[Node]:
    x, out = node.inputs[0], node.outputs[0]
    assert x is not None
    assert out is not None
    axis = sweep.type(x).rank - 1
    single = picked.shape[1] == 1
    index = sweep.constant(f"{out}.picked", picked[:, 0] if single else picked)
    result = out if single else sweep.graph.fresh_name(f"{out}.rows")
    gather = replace(node, op=Gather(axis=axis), inputs=(x, index), outputs=(result,))
    if single:
        return [gather]
    gather = replace(gather, name=f"{node.name}/Gather")
    sweep.infer(gather)
    axes = sweep.constant(f"{out}.axes", np.array([axis + 1], np.int64))
    total = replace(node, op=ReduceSum(keepdims=0), inputs=(result, axes), outputs=(out,))
    return [gather, total]
