"""The intermediate representation: a typed operator graph that follows the ONNX standard."""

from .dim import Dim, Poly, Symbol, symbol
from .dtype import DType
from .graph import Equality, Graph, Node, constant_type, infer_node, infer_types, verify
from .op import (
    OPERATORS,
    Op,
    Refuse,
    inferring,
    operator,
    output_count,
    require_at_most,
    require_broadcast,
    require_equal,
    runtime_size,
)
from .types import Shape, TensorType

__all__ = [
    "OPERATORS",
    "DType",
    "Dim",
    "Equality",
    "Graph",
    "Node",
    "Op",
    "Poly",
    "Refuse",
    "Shape",
    "Symbol",
    "TensorType",
    "constant_type",
    "infer_node",
    "infer_types",
    "inferring",
    "operator",
    "output_count",
    "require_at_most",
    "require_broadcast",
    "require_equal",
    "runtime_size",
    "symbol",
    "verify",
]
