"""What is known when generating becomes a constant: sizes first, then whole nodes."""

from __future__ import annotations

from sofie_root.budget import account
from sofie_root.build import UNCOMPUTABLE, evaluate_node, known_array
from sofie_root.errors import BudgetError
from sofie_root.ir import Graph, Node

from .rewrite import Array, PassResult, Sweep

SHARE = 10
"""A node may take one of so many parts of the work that is left; else it is left to the run time."""

SMALL = 1 << 20
"""Results up to this many bytes are folded whatever they are made from."""

GROWTH = 8
"""Larger results are folded if they are at most so many times larger than their inputs."""


def propagate_shapes(graph: Graph) -> PassResult:
    """Replaces integer tensors whose elements are known numbers by constants.

    Type inference has carried sizes through Shape, Gather, Concat and the like already; where
    symbols are left, the value is computed from the dims when the model runs.
    """
    sweep = Sweep(graph)
    for original in graph.nodes:
        node = sweep.resolve(original)
        arrays = {o: known_array(sweep.type(o)) for o in node.outputs if o and sweep.uses[o]}
        known = {o: array for o, array in arrays.items() if array is not None}
        for output, array in known.items():
            if len(known) == len(arrays):
                sweep.define(output, array)
            else:
                sweep.replace(output, sweep.constant(output, array))
            sweep.change(node, f"{output!r} is known to be {_short(array)}")
        if not known or len(known) < len(arrays):
            sweep.keep(node)
    return sweep.result()


def _short(array: Array) -> str:
    values = array.ravel()[:8].tolist()
    return f"{array.tolist()}" if array.size <= 8 else f"{values}... ({array.size} elements)"


def fold_constants(graph: Graph) -> PassResult:
    """Computes the nodes all of whose inputs are constants, with the NumPy interpreter."""
    sweep = Sweep(graph)
    for original in graph.nodes:
        node = sweep.resolve(original)
        inputs = [i for i in node.inputs if i is not None]
        wanted = [o for o in node.outputs if o is not None and sweep.uses[o]]
        if not wanted or any(i not in sweep.graph.constants for i in inputs):
            sweep.keep(node)
            continue
        reason = _too_large(sweep, node, inputs)
        if reason is None and node.name in account().given_up:
            reason = "takes more work or memory than a node may when it is computed in advance"
        if reason is None:
            try:
                with account().share(SHARE):
                    results = evaluate_node(node, sweep.graph.types, sweep.graph.constants)
                    account().keep(sum(results[o].nbytes for o in wanted))
            except BudgetError as error:
                account().given_up.add(node.name)
                reason = f"costs too much to be computed in advance: {error.message}"
            except UNCOMPUTABLE as error:
                reason = f"cannot be computed now: {error}"
        if reason is not None:
            sweep.refuse(node, reason)
            sweep.keep(node)
            continue
        for output in wanted:
            sweep.define(output, results[output])
        sweep.change(node, "is computed from constants when generating")
    return sweep.result()


def _too_large(sweep: Sweep, node: Node, inputs: list[str]) -> str | None:
    """Why the result would take too much space, None where it does not."""
    size = 0
    for output in node.outputs:
        if output is not None:
            type_ = sweep.type(output)
            if not isinstance(type_.numel, int):
                return "its size is only known at run time"
            size += type_.numel * type_.dtype.size
    source = sum(sweep.graph.constants[i].nbytes for i in inputs)
    growth = 1 if node.op.expands_data else GROWTH
    if size <= max(SMALL, growth * source):
        return None
    return f"the result would take {size} bytes, {source} bytes are enough to compute it"
