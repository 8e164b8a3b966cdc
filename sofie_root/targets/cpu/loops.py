"""Loops as they are printed: flat positions, joined indices, which of them run over vectors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from sofie_root.ir.dim import (
    Atom,
    Dim,
    FloorDiv,
    Poly,
    Symbol,
    as_poly,
    at_least,
    depends_on,
    linear,
    substitute,
    walk,
)
from sofie_root.ir.dtype import DType
from sofie_root.program import expr as ex
from sofie_root.program.expr import Cell, Expr, Load
from sofie_root.program.nest import For, Nest
from sofie_root.program.program import Buffer
from sofie_root.program.statement import Loop
from sofie_root.program.uses import dim_reads
from sofie_root.targets.cxx import text
from sofie_root.targets.cxx.text import Scope

VECTOR_KINDS = ("sum", "prod", "max", "min")


def _accesses(node: For | Loop) -> list[Dim]:
    if isinstance(node, For):
        return [d for child in node.body for d in _accesses(child)]
    return [*node.index, *ex.dims_of(node.body)]


def all_leaves(node: For | Loop) -> list[Loop]:
    """The loops that a tree of For nodes is made of, in order."""
    return [node] if isinstance(node, Loop) else [x for c in node.body for x in all_leaves(c)]


def certain_cells(body: Sequence[For | Loop], nested: bool) -> list[Cell]:
    """Cells that each run of this body reads, again and again in loops inside it."""
    found: list[Cell] = []
    for node in body:
        if isinstance(node, For):
            if isinstance(node.extent, int) and node.extent > 1:
                found += certain_cells(node.body, True)
        elif nested:
            dims = list(node.index)
            over = node.reduction.vars if node.reduction else ()
            if all(isinstance(v.extent, int) and v.extent > 0 for v in over):
                dims += _unguarded_dims(node.body)
            found += [a for d in dims for a in walk(d) if isinstance(a, Cell)]
    return found


def _unguarded_dims(e: Expr) -> list[Dim]:
    """Index expressions that are evaluated whatever the data are."""
    if isinstance(e, ex.Call) and e.function == "guard":
        return _unguarded_dims(e.args[0])
    if isinstance(e, Load):
        return list(e.index)
    if isinstance(e, ex.Index):
        return [e.dim]
    return [d for child in e.children() for d in _unguarded_dims(child)]


def collapse(node: For, nest: Nest) -> For:
    """Two perfectly nested loops as one where every access allows it."""
    while len(node.body) == 1 and isinstance(node.body[0], For):
        child = node.body[0]
        if any(
            home is not None and home.var in (node.var, child.var)
            for home in nest.declared.values()
        ):
            return node
        joined = _joined(node.var, child.var, _accesses(child))
        if joined is None:
            return node
        var, mapping = joined
        node = For(var, [_substituted(c, mapping) for c in child.body])
    return node


def _joined(
    outer: Symbol, inner: Symbol, dims: Iterable[Dim]
) -> tuple[Symbol, dict[Atom, Dim]] | None:
    """One variable for two nested ones, if no division survives in any of the indices."""
    assert outer.extent is not None
    assert inner.extent is not None
    if depends_on(inner.extent, outer):
        return None
    var = Symbol(f"{outer.name}*{inner.name}", outer.extent * inner.extent)
    whole = as_poly(var)
    quotient = as_poly(FloorDiv(whole, inner.extent))
    mapping: dict[Atom, Dim] = {outer: quotient, inner: whole - quotient * inner.extent}
    for d in dims:
        if isinstance(d, Poly):
            new = substitute(d, mapping)
            if any(isinstance(a, FloorDiv) and depends_on(as_poly(a), var) for a in walk(new)):
                return None
    return var, mapping


def _substituted(node: For | Loop, mapping: dict[Atom, Dim]) -> For | Loop:
    if isinstance(node, For):
        return For(node.var, [_substituted(c, mapping) for c in node.body])
    return replace(
        node,
        index=tuple(substitute(d, mapping) for d in node.index),
        body=ex.substitute_dims(node.body, mapping),
    )


def collapse_reduction(
    variables: tuple[Symbol, ...], body: Expr
) -> tuple[tuple[Symbol, ...], Expr]:
    """Reduced axes joined where they are contiguous; axes of extent 1 were never made."""
    done = list(variables)
    k = len(done) - 2
    while k >= 0:
        joined = _joined(done[k], done[k + 1], ex.dims_of(body))
        if joined is not None:
            body = ex.substitute_dims(body, joined[1])
            done[k : k + 2] = [joined[0]]
        k -= 1
    return tuple(done), body


def vector_over(node: For, scope: Scope, buffers: Mapping[str, Buffer]) -> bool:
    """Whether the loops of this innermost For run over vectors of its variable."""
    profit = False
    vectors: set[str] = set()  # registers that are filled here
    for loop in node.body:
        assert isinstance(loop, Loop)
        if any(e.buffer in vectors for e in text.read_per_lane(loop.body, node.var)):
            return False
        if dim_reads((*loop.index, *ex.dims_of(loop.body))) & vectors:
            return False  # an index is one number, not one for each lane
        if loop.output in scope.registers:
            vectors.add(loop.output)
        if buffers[loop.output].dtype is not loop.body.dtype:
            return False  # a sum is rounded to 16 bits when it is stored
        if not text.vectorises(loop.body, node.var):
            return False
        # The compiler vectorises loops of integers alone as well, and without widening them.
        if all(e.dtype is not DType.FLOAT for e in ex.walk(loop.body)):
            return False
        combines = loop.reduction is not None or loop.update not in (None, "replace")
        if loop.body.dtype is DType.BOOL or (combines and loop.body.dtype is not DType.FLOAT):
            return False
        if loop.reduction is not None:
            if loop.reduction.kind not in VECTOR_KINDS:
                return False
            along = text.strides(loop.body, node.var)
            if any(s not in (0, 1) for s in along) or 1 not in along:
                return False
        if loop.output not in scope.registers:
            parts = linear(loop.index[0], node.var)
            if parts is None or depends_on(parts[1], node.var):
                return False
            if parts[0] != 1 and (loop.reduction is None or not at_least(parts[0], 1)):
                return False
            profit = True
    return profit
