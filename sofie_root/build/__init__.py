"""Making graphs: the builder that every frontend and every pass uses."""

from .builder import DependsOnRefused, GraphBuilder, find_operator
from .dims import fix_dims
from .fold import UNCOMPUTABLE, evaluate_node, known_array
from .names import Names

__all__ = [
    "UNCOMPUTABLE",
    "DependsOnRefused",
    "GraphBuilder",
    "Names",
    "evaluate_node",
    "find_operator",
    "fix_dims",
    "known_array",
]
