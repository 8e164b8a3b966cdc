"""Graph to Graph: a pass is a function that returns the graph, its changes and its refusals."""

from .pipeline import PASSES, PassReport, optimise
from .rewrite import Change, PassResult

__all__ = ["PASSES", "Change", "PassReport", "PassResult", "optimise"]
