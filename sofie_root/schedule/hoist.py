"""Computes expensive indices once: the position that a gather reads, outside the loops it ignores.

``y[n, c, p, k] = x[n, c, index[n, p, k] % P]`` asks for the same position for every channel ``c``. The
part of the position that needs a checked read or a division is stored in a loop of its own over
``n, p, k``, and the gather reads it from there.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from sofie_root.ir.dim import (
    Atom,
    Dim,
    FloorDiv,
    Poly,
    Symbol,
    as_poly,
    depends_on,
    substitute,
    walk,
)
from sofie_root.ir.dtype import DType
from sofie_root.program import expr as ex
from sofie_root.program.builder import flat_index
from sofie_root.program.expr import Cell, Expr, Index, Load
from sofie_root.program.program import Buffer, Program
from sofie_root.program.statement import Loop, Statement

from .inline import Decisions

WORTH = 4
"""Iterations or reads that must share a position for it to be stored."""

Key = tuple[object, ...]
"""A position in indices that have no names, and their extents."""


def hoist_indices(program: Program, decisions: Decisions) -> None:
    """Stores positions that outer loops share; see the module's text.

    Needs: reads composed as far as they will be. Leaves: loops that store positions before the loops
    that gather with them.
    """
    statements: list[Statement] = []
    stored: dict[Key, str] = {}
    counts = Counter(
        _key(hard, _used(hard, _variables(s)))
        for s in program.statements
        if isinstance(s, Loop)
        for load in ex.loads(s.body)
        if (hard := _parts(program, load, _variables(s))[0]) != 0
    )
    for statement in program.statements:
        if isinstance(statement, Loop):
            position_loops: list[Loop] = []
            body = _hoist(program, statement, counts, stored, position_loops)
            if position_loops:
                decisions.fused.append(
                    f"positions of the gather in {' + '.join(statement.origin)} are stored once"
                )
            statements += position_loops
            statement = replace(statement, body=body)
        statements.append(statement)
    program.statements = statements


def _hoist(
    program: Program,
    loop: Loop,
    counts: Counter[Key],
    stored: dict[Key, str],
    position_loops: list[Loop],
) -> Expr:
    def visit(e: Expr, guarded: bool) -> Expr:
        if isinstance(e, Load) and not guarded:
            return _split(program, loop, e, counts, stored, position_loops)
        if isinstance(e, ex.Call):
            inside = guarded or e.function == "guard"
            return replace(e, args=tuple(visit(a, inside) for a in e.args))
        return e

    return visit(loop.body, False)


def _variables(loop: Loop) -> tuple[Symbol, ...]:
    return loop.vars + (loop.reduction.vars if loop.reduction else ())


def _used(d: Dim, variables: tuple[Symbol, ...]) -> tuple[Symbol, ...]:
    return tuple(v for v in variables if depends_on(d, v))


def _key(position: Dim, used: tuple[Symbol, ...]) -> Key:
    """The position in indices that have no names."""
    own: dict[Atom, Dim] = {
        v: as_poly(Symbol(f"position.i{k}", v.extent)) for k, v in enumerate(used)
    }
    return (substitute(position, own), *(v.extent for v in used))


def _parts(program: Program, load: Load, variables: tuple[Symbol, ...]) -> tuple[Dim, Dim]:
    """The flat position of a read: what is worth storing, and the rest."""
    flat = flat_index(load.index, program.buffers[load.buffer].shape)
    if isinstance(flat, int):
        return 0, flat
    hard: Dim = 0
    easy: Dim = 0
    for mono, coeff in flat.terms:
        term = Poly(((mono, coeff),)) if mono else coeff
        if any(_is_hard(atom, variables) for atom, _ in mono):
            hard = hard + term
        else:
            easy = easy + term
    return hard, easy


def _split(
    program: Program,
    loop: Loop,
    load: Load,
    counts: Counter[Key],
    stored: dict[Key, str],
    position_loops: list[Loop],
) -> Load:
    variables = _variables(loop)
    hard, easy = _parts(program, load, variables)
    used = _used(hard, variables)
    if not used or variables[-1] not in used:
        return load
    key = _key(hard, used)
    if counts[key] < WORTH and not _shared(variables, used):
        return load
    if key not in stored:
        stored[key] = _store(program, loop, used, hard, position_loops)
    at = Load(DType.INT64, stored[key], tuple(as_poly(v) for v in used))
    position = ex.as_index(at)
    return replace(load, index=(easy + position,))


def _is_hard(atom: object, variables: tuple[Symbol, ...]) -> bool:
    """Whether an atom is a checked read, or a division of an index (not one of sizes alone)."""
    if isinstance(atom, Cell):
        return True
    return isinstance(atom, FloorDiv) and any(isinstance(a, Cell) for a in walk(as_poly(atom)))


def _shared(variables: tuple[Symbol, ...], used: tuple[Symbol, ...]) -> bool:
    """Whether enough iterations ask for the same position."""
    return any(
        not isinstance(v.extent, int) or v.extent >= WORTH for v in variables if v not in used
    )


def _store(
    program: Program,
    loop: Loop,
    used: tuple[Symbol, ...],
    position: Dim,
    position_loops: list[Loop],
) -> str:
    """Adds a loop that stores the position; the name of its buffer."""
    name = program.fresh(f"{loop.output}.position")
    shape = tuple(v.extent if v.extent is not None else 1 for v in used)
    program.buffers[name] = Buffer(name, DType.INT64, shape)
    # Indices of its own: where two extents are equal, the loops may be joined either way.
    own = tuple(Symbol(f"{name}.i{k}", extent) for k, extent in enumerate(shape))
    mapping: dict[Atom, Dim] = {v: as_poly(o) for v, o in zip(used, own, strict=True)}
    value = Index(DType.INT64, substitute(position, mapping))
    position_loops.append(Loop(name, own, tuple(as_poly(v) for v in own), value, None, loop.origin))
    return name
