"""The values of nodes whose inputs are known when the graph is made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from sofie_root.budget import account
from sofie_root.errors import SofieError
from sofie_root.ir import Graph, Node, TensorType
from sofie_root.ir.types import MAX_KNOWN_VALUES
from sofie_root.program.interpret import evaluate

Array = npt.NDArray[Any]

UNCOMPUTABLE = (SofieError, ArithmeticError, LookupError, NotImplementedError, ValueError)
"""What NumPy raises for constants that make no sense: the node fails when it runs, if it runs."""

SHARE = 100
"""One node may take one of so many parts of the work that is left when a graph is made."""


def known_array(type_: TensorType) -> Array | None:
    """The content of a tensor all of whose elements are numbers; None for any other."""
    shape = tuple(d for d in type_.shape if isinstance(d, int))
    values = [d for d in type_.value or () if isinstance(d, int)]
    if type_.value is None or len(shape) < type_.rank or len(values) < len(type_.value):
        return None
    if type_.dtype.is_float:
        return np.array(values, dtype=np.float64).astype(type_.dtype.numpy).reshape(shape)
    wrapped = np.array([v % 2**64 for v in values], dtype=np.uint64)  # as integers do in C++
    return wrapped.astype(type_.dtype.numpy).reshape(shape)


def evaluate_node(
    node: Node, types: Mapping[str, TensorType], constants: Mapping[str, Array]
) -> dict[str, Array]:
    """The outputs of a node all of whose inputs are among ``constants``."""
    inputs = {i for i in node.inputs if i is not None}
    outputs = [o for o in node.outputs if o is not None]
    single = Graph(
        node.name,
        (),
        {o: o for o in outputs},
        [node],
        {name: types[name] for name in (*inputs, *outputs)},
        {name: constants[name] for name in inputs},
    )
    return evaluate(single, {})


def small_results(
    node: Node, types: Mapping[str, TensorType], constants: Mapping[str, Array]
) -> dict[str, Array] | None:
    """The outputs of a node of few known inputs and few outputs, None for any other node.

    Type inference computes integers by itself; this is for the rest, such as a size that is scaled in
    floats before a shape is made from it. A node whose outputs inference knows already is left as it is.
    """
    written = [types[o] for o in node.outputs if o is not None]
    if all(t.value is not None for t in written) or _dequantises_weights(node, types):
        return None
    known: dict[str, Array] = {}
    for name in (i for i in node.inputs if i is not None):
        array = constants.get(name)
        array = known_array(types[name]) if array is None else array
        if array is None or array.size > MAX_KNOWN_VALUES:
            return None
        known[name] = array
    if any(not isinstance(t.numel, int) or t.numel > MAX_KNOWN_VALUES for t in written):
        return None
    try:
        with account().share(SHARE):
            return evaluate_node(node, types, known)
    except UNCOMPUTABLE:
        return None


def _dequantises_weights(node: Node, types: Mapping[str, TensorType]) -> bool:
    """Whether the result are weights, which a pass may rather multiply as the bytes they are."""
    return node.op.name == "DequantizeLinear" and types[str(node.outputs[0])].rank > 1
