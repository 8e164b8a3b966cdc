"""Takes apart indices that a reshape has joined.

A network over pairs flattens ``[batch, pairs, features]`` to rows; a loop over the rows ``r`` then reads at
``r // pairs`` and ``r % pairs``. As two loops, over batch and pairs, its reads are linear in each index:
the order of loops can be chosen, and a linear map can be moved before what picks the pairs. The buffer that
the loop fills gets the axes apart too, where all who read it can follow; its memory stays the same.
"""

from __future__ import annotations

from dataclasses import replace

from sofie_root.ir.dim import (
    Atom,
    Dim,
    FloorDiv,
    Symbol,
    as_poly,
    depends_on,
    floordiv,
    mod,
    single_atom,
    substitute,
    walk,
)
from sofie_root.program import expr as ex
from sofie_root.program.expr import Expr, Load
from sofie_root.program.operation import Operation
from sofie_root.program.program import Program
from sofie_root.program.statement import Loop
from sofie_root.program.uses import reads_elements, writes

from .inline import Decisions


def split_indices(program: Program, decisions: Decisions) -> None:
    """Splits the indices of all loops, and axes of the buffers that they fill; see the module's text.

    Needs: views composed into the loops that read them. Leaves: reads that are linear in each index
    wherever a reshape had joined two of them.
    """
    for k in range(len(program.statements)):
        while isinstance(loop := program.statements[k], Loop):
            joined = _joined(loop)
            if joined is None:
                break
            v, inner = joined
            program.statements[k] = _split(loop, v, inner)
            _split_axis(program, loop, v, inner)


def _joined(loop: Loop) -> tuple[Symbol, Dim] | None:
    """An index that reads take apart, and the extent of its inner part."""
    if loop.scatters:
        return None
    dims = (*loop.index, *ex.dims_of(loop.body))
    for v in loop.vars:
        assert v.extent is not None
        for atom in dict.fromkeys(a for d in dims for a in walk(d)):
            if not isinstance(atom, FloorDiv) or atom.a != as_poly(v) or atom.b == v.extent:
                continue
            if floordiv(v.extent, atom.b) * atom.b != v.extent:
                continue
            parts = _parts(v, atom.b)
            mapping: dict[Atom, Dim] = {v: parts[0] * atom.b + parts[1]}
            after = [substitute(d, mapping) for d in dims]
            if _divisions(after) < _divisions(dims):
                return v, atom.b
    return None


def _parts(v: Symbol, inner: Dim) -> tuple[Dim, Dim]:
    """The outer and the inner part of an index as new indices."""
    assert v.extent is not None
    outer = floordiv(v.extent, inner)
    first = 0 if outer == 1 else as_poly(Symbol(f"{v.name}.outer", outer))
    return first, as_poly(Symbol(f"{v.name}.inner", inner))


def _divisions(dims: tuple[Dim, ...] | list[Dim]) -> int:
    """How many different divisions of indices there are."""
    divisions = {a for d in dims for a in walk(d) if isinstance(a, FloorDiv)}
    return sum(
        any(isinstance(i, Symbol) and i.is_index for i in walk(as_poly(a))) for a in divisions
    )


def _split(loop: Loop, v: Symbol, inner: Dim) -> Loop:
    outer, rest = _parts(v, inner)
    mapping: dict[Atom, Dim] = {v: outer * inner + rest}
    new = [a for d in (outer, rest) if isinstance(a := single_atom(d), Symbol)]
    at = loop.vars.index(v)
    return replace(
        loop,
        vars=(*loop.vars[:at], *new, *loop.vars[at + 1 :]),
        index=tuple(substitute(d, mapping) for d in loop.index),
        body=ex.substitute_dims(loop.body, mapping),
    )


def _split_axis(program: Program, loop: Loop, v: Symbol, inner: Dim) -> None:
    """Gives the buffer two axes for the one that ``v`` went along, if that makes nothing harder."""
    name = loop.output
    buffer = program.buffers[name]
    axes = [axis for axis, d in enumerate(loop.index) if d == as_poly(v)]
    if buffer.kind != "arena" or len(axes) != 1 or buffer.shape[axes[0]] != v.extent:
        return
    axis = axes[0]
    touching = {id(s): s for s in (*program.readers(name), *program.writers(name))}.values()
    for s in touching:
        if isinstance(s, Loop):
            if s.scatters or not all(_divides(d, s, inner) for d in _at_axis(s, name, axis)):
                return
        elif not isinstance(s, Operation) or name in writes(s) | reads_elements(s):
            return
    outer = floordiv(buffer.shape[axis], inner)
    shape = (*buffer.shape[:axis], outer, inner, *buffer.shape[axis + 1 :])
    program.buffers[name] = replace(buffer, shape=shape)

    def apart(index: tuple[Dim, ...]) -> tuple[Dim, ...]:
        d = index[axis]
        return (*index[:axis], floordiv(d, inner), mod(d, inner), *index[axis + 1 :])

    def read(load: Load) -> Expr:
        return replace(load, index=apart(load.index)) if load.buffer == name else load

    for s in touching:
        if isinstance(s, Loop):
            moved = s.map_loads(read)
            index = apart(moved.index) if s.output == name else moved.index
            program.replace(s, replace(moved, index=index))


def _at_axis(loop: Loop, name: str, axis: int) -> list[Dim]:
    """Where a loop reads or writes a buffer along an axis."""
    inside = [e for d in loop.index for e in ex.loads(ex.index(d))]
    positions = [e.index[axis] for e in (*ex.loads(loop.body), *inside) if e.buffer == name]
    return [*positions, loop.index[axis]] if loop.output == name else positions


def _divides(d: Dim, loop: Loop, inner: Dim) -> bool:
    """Whether a position divides without remainder symbols, or is an index that can be split."""
    quotient = floordiv(d, inner)
    if not any(isinstance(a, FloorDiv) and _has_index(a) for a in walk(quotient)):
        return True
    atom = single_atom(d)
    if not isinstance(atom, Symbol) or atom not in loop.vars or atom.extent is None:
        return False
    return depends_on(d, atom) and floordiv(atom.extent, inner) * inner == atom.extent


def _has_index(atom: Atom) -> bool:
    return any(isinstance(a, Symbol) and a.is_index for a in walk(as_poly(atom)))
