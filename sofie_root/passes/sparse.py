"""Products by constant matrices of ones and zeros: they pick columns, or add a few of them.

Interaction networks send node features to edges with a matrix that has a single one in each column, and
collect them again with its transpose.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from sofie_root.ir import Graph, Node

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
        _add_gather(node, picked, sweep)
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


def _add_gather(node: Node, picked: npt.NDArray[np.int64], sweep: Sweep) -> None:
    """A Gather of the columns, and a ReduceSum over those that are added up."""
    x, out = node.inputs[0], node.outputs[0]
    assert x is not None
    axis = sweep.type(x).rank - 1
    single = picked.shape[1] == 1
    index = sweep.constant(f"{out}.picked", picked[:, 0] if single else picked)
    if single:
        sweep.add(node, "Gather", x, index, output=out, axis=axis)
        return
    rows = sweep.add(node, "Gather", x, index, axis=axis)
    axes = sweep.constant(f"{out}.axes", np.array([axis + 1], np.int64))
    sweep.add(node, "ReduceSum", rows, axes, output=out, keepdims=0)
