"""Counts the multiplications of a model, as exported: what GFLOP/s refer to, whoever runs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sofie_root.ir import Graph, Node, Symbol, TensorType
from sofie_root.ir.dim import Atom, Dim, Poly, value_of

Shape = tuple[int, ...]


def count(graph: Graph, dims: Mapping[str, int]) -> int | None:
    """Multiply-adds of matrix products, convolutions and recurrent cells.

    Returns:
        None where a size depends on the data.
    """
    sizes: dict[Atom, int] = {Symbol(name): size for name, size in dims.items()}

    def value(dim: Dim) -> int:
        return int(value_of(dim, sizes.__getitem__)) if isinstance(dim, Poly) else int(dim)

    def shape(name: str | None) -> Shape:
        if name is None:
            return ()
        type_: TensorType = graph.types[name]
        return tuple(value(d) for d in type_.shape)

    total = 0
    for node in graph.nodes:
        rule = _RULES.get(node.op.name)
        if rule is None:
            continue
        try:
            total += rule(node, [shape(n) for n in node.inputs], shape(node.outputs[0]))
        except KeyError:  # a symbol that only the run binds
            return None
    return total


def _size(shape: Shape) -> int:
    size = 1
    for extent in shape:
        size *= extent
    return size


def _gemm(node: Node, inputs: list[Shape], output: Shape) -> int:
    transposed: Any = getattr(node.op, "transA", 0)
    return _size(output) * inputs[0][0 if transposed else 1]


def _matmul(node: Node, inputs: list[Shape], output: Shape) -> int:
    return _size(output) * inputs[0][-1]


def _conv(node: Node, inputs: list[Shape], output: Shape) -> int:
    weight = next(s for s in inputs[1:] if len(s) == len(inputs[0]))
    return _size(output) * _size(weight[1:])


def _conv_transpose(node: Node, inputs: list[Shape], output: Shape) -> int:
    return _size(inputs[0]) * _size(inputs[1][1:])


def _recurrent(node: Node, inputs: list[Shape], output: Shape) -> int:
    x, w, r = inputs[:3]
    return x[0] * x[1] * (_size(w) + _size(r))


def _einsum(node: Node, inputs: list[Shape], output: Shape) -> int:
    equation: Any = getattr(node.op, "equation", "")
    if len(inputs) < 2 or "." in equation:
        return 0
    terms = equation.replace(" ", "").partition("->")[0].split(",")
    extents = {
        c: n for term, s in zip(terms, inputs, strict=True) for c, n in zip(term, s, strict=True)
    }
    return _size(tuple(extents.values()))


_RULES: dict[str, Callable[[Node, list[Shape], Shape], int]] = {
    "Gemm": _gemm,
    "MatMul": _matmul,
    "MatMulInteger": _matmul,
    "QLinearMatMul": _matmul,
    "Conv": _conv,
    "ConvInteger": _conv,
    "ConvTranspose": _conv_transpose,
    "RNN": _recurrent,
    "GRU": _recurrent,
    "LSTM": _recurrent,
    "Einsum": _einsum,
}
