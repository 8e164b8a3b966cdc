"""Sizes for the symbolic dims of a graph that is there already."""

from __future__ import annotations

from collections.abc import Mapping

from sofie_root.errors import ModelError
from sofie_root.ir import Dim, Equality, Graph, Symbol, constant_type, infer_types
from sofie_root.ir.dim import Atom, Broadcast, single_atom, substitute
from sofie_root.ir.graph import substitute_symbols


def fix_dims(graph: Graph, dims: Mapping[str, int]) -> Graph:
    """The graph with size symbols replaced by numbers.

    Raises:
        ModelError: a name is not a symbol of the graph, a size is negative, or sizes contradict what
            the graph demands of them.
    """
    known = {s.name for s in graph.symbols()}
    for name, size in dims.items():
        if name not in known:
            listed = ", ".join(sorted(known)) or "none"
            raise ModelError(f"has no symbolic dim {name!r}; its symbols are: {listed}")
        if size < 0:
            raise ModelError(f"dim {name!r} cannot be {size}")
    fixed = graph.copy()
    types = {n: graph.types[n] for n in graph.inputs}
    fixed.types = dict(zip(types, substitute_symbols(types.values(), dict(dims)), strict=True))
    fixed.types |= {n: constant_type(a) for n, a in graph.constants.items()}
    infer_types(fixed)
    sizes: dict[Atom, Dim] = {Symbol(name): size for name, size in dims.items()}
    for e in graph.equalities:  # a node that demanded one may be gone
        a, b = substitute(e.a, sizes), substitute(e.b, sizes)
        if isinstance(a, int) and isinstance(b, int) and a != b:
            raise ModelError(f"{e.why}: {e.a} is {a} and {e.b} is {b}, they must be equal")
        joined = single_atom(a)
        if isinstance(joined, Broadcast):  # a known size is what the other one broadcasts to
            b = next((d for d in joined.dims() if isinstance(d, int)), b)
        holds = a == b and not isinstance(joined, Broadcast)
        if not holds and not any({a, b} == {o.a, o.b} for o in fixed.equalities):
            fixed.equalities.append(Equality(a, b, e.why))
    return fixed
