"""Computes expensive indices once: the position that a gather reads, outside the loops it ignores.

``y[n, c, p, k] = x[n, c, index[n, p, k] % P]`` asks for the same position for every channel ``c``. The
part of the position that needs a checked read or a division is stored in a loop of its own over
``n, p, k``, and the gather reads it from there.
"""

from __future__ import annotations

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
from sofie_root.program.program import Buffer, Loop, Program, Statement

from .inline import Decisions

WORTH = 4
"""Iterations that must share a position for it to be stored."""


def hoist_indices(program: Program, decisions: Decisions) -> None:
    """Stores positions that outer loops share; see the module's text."""
    statements: list[Statement] = []
    for statement in program.statements:
        if isinstance(statement, Loop):
            made: list[Loop] = []
            body = _hoist(program, statement, made, decisions)
            statements += made
            statement = replace(statement, body=body)
        statements.append(statement)
    program.statements = statements


def _hoist(program: Program, loop: Loop, made: list[Loop], decisions: Decisions) -> Expr:
    variables = loop.vars + (loop.reduction.vars if loop.reduction else ())
    stored: dict[Dim, Load] = {}

    def visit(e: Expr, guarded: bool) -> Expr:
        if isinstance(e, Load) and not guarded:
            return _split(program, loop, variables, e, stored, made)
        if isinstance(e, ex.Call):
            inside = guarded or e.function == "guard"
            return replace(e, args=tuple(visit(a, inside) for a in e.args))
        return e

    body = visit(loop.body, False)
    if made:
        decisions.fused.append(
            f"positions of the gather in {' + '.join(loop.origin)} are stored once"
        )
    return body


def _split(
    program: Program,
    loop: Loop,
    variables: tuple[Symbol, ...],
    load: Load,
    stored: dict[Dim, Load],
    made: list[Loop],
) -> Load:
    flat = flat_index(load.index, program.buffers[load.buffer].shape)
    if isinstance(flat, int):
        return load
    hard: Dim = 0
    easy: Dim = 0
    for mono, coeff in flat.terms:
        term = Poly(((mono, coeff),)) if mono else coeff
        if any(_is_hard(atom, variables) for atom, _ in mono):
            hard = hard + term
        else:
            easy = easy + term
    used = tuple(v for v in variables if depends_on(hard, v))
    if not used or not variables or variables[-1] not in used or not _shared(variables, used):
        return load
    if hard not in stored:
        stored[hard] = _store(program, loop, used, hard, made)
    position = ex.as_index(stored[hard])
    rank = len(load.index)
    return replace(load, index=(*[0] * (rank - 1), easy + position))


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
    program: Program, loop: Loop, used: tuple[Symbol, ...], position: Dim, made: list[Loop]
) -> Load:
    """A loop that stores the position, and the read of it at the same variables."""
    name = f"{loop.output}.position"
    while name in program.buffers:
        name += "'"
    shape = tuple(v.extent if v.extent is not None else 1 for v in used)
    program.buffers[name] = Buffer(name, DType.INT64, shape)
    # Indices of its own: where two extents are equal, the loops may be joined either way.
    own = tuple(Symbol(f"{name}.i{k}", extent) for k, extent in enumerate(shape))
    mapping: dict[Atom, Dim] = {v: as_poly(o) for v, o in zip(used, own, strict=True)}
    value = Index(DType.INT64, substitute(position, mapping))
    made.append(Loop(name, own, tuple(as_poly(v) for v in own), value, None, loop.origin))
    return Load(DType.INT64, name, tuple(as_poly(v) for v in used))
