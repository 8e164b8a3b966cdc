"""Indices, literals and scalar expressions as C++ text, in the scalar and in the SIMD dialect.

The SIMD dialect is the body of ``sofie::map(n, [&](auto j) {...})``: ``j`` stands for the lanes of one
vector, reads are ``sofie::load(p, j)``, and the same text serves full vectors and the partial tail.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from sofie_root.ir.dim import (
    Atom,
    Broadcast,
    Dim,
    FloorDiv,
    Max,
    Min,
    Symbol,
    as_poly,
    at_least,
    depends_on,
    linear,
)
from sofie_root.ir.dtype import DType
from sofie_root.program import expr as ex
from sofie_root.program import lanes
from sofie_root.program.expr import Acc, Call, Cell, Const, Expr, Index, Load, ResultSize
from sofie_root.program.scalar import FUNCTIONS

from .literals import literal, number

INDENT = "  "


@dataclass(slots=True)
class Scope:
    """What names mean at one place of the output.

    Attributes:
        variables: C++ text of each index and size symbol.
        pointers: C++ text of the pointer to each buffer; a register's name for a scalar local.
        registers: buffers that are registers, not memory.
        lanes: the vectorised index and its lane tag's name; None in the scalar dialect.
        cells: indices read earlier, and the variables that hold them.
        rows: temporaries with room for whole vectors.
        whole: those of them that have been written in whole vectors, the last one too.
    """

    variables: Mapping[Atom, str]
    pointers: Mapping[str, str]
    registers: frozenset[str] = frozenset()
    lanes: tuple[Symbol, str] | None = None
    hoisted: dict[Expr, str] = field(default_factory=dict)
    cells: Mapping[Cell, str] = field(default_factory=dict)
    rows: frozenset[str] = frozenset()
    whole: set[str] = field(default_factory=set)

    def scalar(self, name: str | None = None) -> Scope:
        """The same scope in the scalar dialect, the vectorised index being called ``name``."""
        if self.lanes is None:
            return self
        variables = {**self.variables, self.lanes[0]: name or f"{self.lanes[1]}.i"}
        return Scope(variables, self.pointers, self.registers, cells=self.cells)


def dim(d: Dim, scope: Scope) -> str:
    """An index or size as C++ (type ``std::ptrdiff_t``)."""
    if isinstance(d, int):
        return number(d)
    parts = []
    for mono, coeff in d.terms:
        factors = [_atom(a, scope) for a, power in mono for _ in range(power)]
        if abs(coeff) != 1 or not factors:
            factors.insert(0, number(abs(coeff)))
        parts.append(("-" if coeff < 0 else "+", " * ".join(factors)))
    if parts[0][0] == "-":  # start with a positive term where there is one
        parts.sort(key=lambda p: p[0] == "-")
    text = ("-" if parts[0][0] == "-" else "") + parts[0][1]
    return text + "".join(f" {sign} {term}" for sign, term in parts[1:])


def _atom(atom: Atom, scope: Scope) -> str:
    if isinstance(atom, Symbol):
        return scope.variables[atom]
    if isinstance(atom, FloorDiv):
        a, b = dim(atom.a, scope), dim(atom.b, scope)
        if isinstance(atom.b, int) and at_least(atom.a, 0):
            return f"({_paren(a)} / {b})"
        return f"sofie::floordiv({a}, {b})"
    if isinstance(atom, Min | Max):
        name = "min" if isinstance(atom, Min) else "max"
        return f"std::{name}<std::ptrdiff_t>({{{', '.join(dim(a, scope) for a in atom.args)}}})"
    if isinstance(atom, Broadcast):
        return f"sofie::broadcast_size({dim(atom.a, scope)}, {dim(atom.b, scope)})"
    assert isinstance(atom, Cell), atom
    if atom in scope.cells:
        return scope.cells[atom]
    value = expression(atom.expr, scope)
    if atom.extent is None:
        return f"static_cast<std::ptrdiff_t>({value})"
    return f"sofie::index({value}, {dim(atom.extent, scope)})"


def _paren(text: str) -> str:
    return (
        f"({text})"
        if (" " in text and not text.endswith(")")) or " + " in text or " - " in text
        else text
    )


def extent(d: Dim, scope: Scope) -> str:
    """A size as kernel argument: a compile-time constant where it is one."""
    if isinstance(d, int):
        return f"sofie::fixed<{number(d)}>{{}}"
    text = dim(d, scope)
    return f"static_cast<std::size_t>({text})"


def flat(load: Load) -> Dim:
    """The position a flattened read refers to."""
    assert len(load.index) == 1, load
    return load.index[0]


def pointer(base: str, offset: Dim, scope: Scope) -> str:
    """``base + offset``."""
    return base if offset == 0 else f"{base} + {dim(offset, scope)}"


def expression(e: Expr, scope: Scope) -> str:
    """A scalar expression in the scope's dialect."""
    if e in scope.hoisted:
        return scope.hoisted[e]
    if isinstance(e, Const):
        return literal(e.value, e.dtype)
    if isinstance(e, Acc):
        return "acc"
    if isinstance(e, ResultSize):
        return f"{scope.pointers[e.control]}_{number(e.k)}_.dims[{number(e.axis)}]"
    if isinstance(e, Index):
        return f"static_cast<std::int64_t>({dim(e.dim, scope)})"
    if isinstance(e, Load):
        return _load(e, scope)
    assert isinstance(e, Call), e
    if scope.lanes and _per_lane(e, scope.lanes[0]):
        var, tag = scope.lanes
        if not any(depends_on(d, var) for d in ex.dims_of(e)):
            return expression(e, scope.scalar())
        inner = expression(e, scope.scalar("lane"))
        return f"sofie::lanes({tag}, [&](std::ptrdiff_t lane) SOFIE_INLINE {{ return {inner}; }})"
    args = [expression(a, scope) for a in e.args]
    if e.function == "cast":
        return f"sofie::cast<{e.dtype.cpp}>({args[0]})"
    if e.function in ("select", "guard"):
        if scope.lanes and e.function == "select":
            return f"sofie::select({', '.join(args)})"
        return f"({args[0]} ? {args[1]} : {args[2]})"
    row = FUNCTIONS[e.function]
    if e.function == "div" and e.dtype.is_float:
        return f"sofie::divide({', '.join(args)})"  # as exact as IEEE 754 wants, whatever the flags
    # C++'s own arithmetic is undefined or wider for some integers, functions wrap around.
    if row.symbol is None or (row.result != "bool" and e.args[0].dtype.is_integer):
        return f"sofie::{e.function}({', '.join(args)})"
    return f"({f' {row.symbol} '.join(args)})" if len(args) > 1 else f"({row.symbol}{args[0]})"


def _per_lane(e: Call, var: Symbol) -> bool:
    """Whether this must be computed lane by lane: guarded reads, and conversions from integers."""
    if e.function == "guard":
        return True
    if e.function != "cast" or e.args[0].dtype in (DType.FLOAT, DType.BOOL):
        return False
    return not (e.dtype is not DType.BOOL and vectorises(e.args[0], var))


def read_per_lane(e: Expr, var: Symbol) -> list[Load]:
    """What the SIMD dialect reads lane by lane: a register, which holds all lanes, cannot be read so."""
    if isinstance(e, Call) and _per_lane(e, var):
        return ex.loads(e)
    return [load for child in e.children() for load in read_per_lane(child, var)]


def _load(e: Load, scope: Scope) -> str:
    name = scope.pointers[e.buffer]
    if e.buffer in scope.registers:
        return name
    at = flat(e)
    if scope.lanes is None:
        return f"{name}[{dim(at, scope)}]"
    var, tag = scope.lanes
    parts = linear(at, var)
    if parts is not None and not _depends(parts[1], var) and not _depends(parts[0], var):
        stride, rest = parts
        inner = scope.scalar()
        if stride == 0:
            return f"{name}[{dim(rest, inner)}]"
        if stride == 1 and rest == 0 and e.buffer in scope.whole:
            return f"sofie::load({name}, sofie::whole({tag}))"
        if stride == 1:
            return f"sofie::load({pointer(name, rest, inner)}, {tag})"
        if e.dtype is DType.FLOAT and at_least(stride, 0):
            size = f"static_cast<std::size_t>({dim(stride, inner)})"
            return f"sofie::gather({pointer(name, rest, inner)}, {size}, {tag})"
    gathered = _gather(name, e, at, var, scope)
    if gathered is not None:
        return gathered
    text = dim(at, scope.scalar("lane"))
    return (
        f"sofie::lanes({tag}, [&](std::ptrdiff_t lane) SOFIE_INLINE {{ return {name}[{text}]; }})"
    )


def _gather(name: str, e: Load, at: Dim, var: Symbol, scope: Scope) -> str | None:
    """A read at stored positions, ``x[rest + positions[j]]``, as one gather; None where it is none."""
    if e.dtype is not DType.FLOAT or isinstance(at, int):
        return None
    inside = [m for m, c in at.terms if any(depends_on(as_poly(a), var) for a, _ in m)]
    cell = inside[0][0][0] if len(inside) == 1 and len(inside[0]) == 1 else None
    if not isinstance(cell, Cell) or cell.extent is not None or not isinstance(cell.expr, Load):
        return None
    if cell.expr.dtype is not DType.INT64 or cell.expr.buffer in scope.registers:
        return None
    parts = linear(flat(cell.expr), var)
    if parts is None or parts[0] != 1 or at - as_poly(cell) == at:
        return None
    inner = scope.scalar()
    base = pointer(name, at - as_poly(cell), inner)
    positions = pointer(scope.pointers[cell.expr.buffer], parts[1], inner)
    return f"sofie::gather({base}, {positions}, {scope.lanes[1] if scope.lanes else ''})"


def _depends(d: Dim, var: Symbol) -> bool:
    return depends_on(d, var)


def vectorises(e: Expr, var: Symbol) -> bool:
    """Whether the SIMD dialect can express this."""
    if isinstance(e, Load) and e.dtype is not DType.FLOAT:
        parts = linear(flat(e), var)
        return lanes.fits(e) and parts is not None and parts[0] in (0, 1)
    if isinstance(e, Call) and _per_lane(e, var):
        return e.dtype is DType.FLOAT
    if isinstance(e, Index | ResultSize) or not lanes.fits(e):
        return False
    return all(vectorises(c, var) for c in e.children())


def named_epilogue(body: Expr, scope: Scope) -> str | None:
    """One of the epilogues of ``cpu/epilogue.hxx``; None where it is none of them."""
    name = "Bias"
    if isinstance(body, Call) and body.function == "relu":
        name, body = "BiasRelu", body.args[0]
    if not isinstance(body, Call) or body.function != "add":
        return None
    for acc, bias in (body.args, body.args[::-1]):
        if isinstance(acc, Acc) and isinstance(bias, Load) and bias.dtype is DType.FLOAT:
            assert scope.lanes is not None
            column = scope.lanes[0]
            parts = linear(flat(bias), column)
            if parts is not None and parts[0] == 1 and isinstance(parts[1], int):
                return f"sofie::{name}<float>{{{pointer(scope.pointers[bias.buffer], parts[1], scope)}}}"
    return None


def strides(e: Expr, var: Symbol) -> list[Dim | None]:
    """Stride along ``var`` of every read from memory (None: not linear)."""
    found: list[Dim | None] = []
    for load in ex.loads(e):
        parts = linear(flat(load), var)
        found.append(None if parts is None else parts[0])
    return found


def hoist(e: Expr, scope: Scope, fresh: str) -> tuple[list[str], Scope]:
    """Lines that compute sub-expressions used more than once, and the scope that knows them."""
    counts: Counter[Expr] = Counter()
    order: list[Expr] = []

    def visit(x: Expr) -> None:
        if isinstance(x, Call) and x not in scope.hoisted:
            counts[x] += 1
            if counts[x] > 1:
                return
        # What is computed lane by lane has scalars inside, which no variable that holds a vector replaces.
        if not (isinstance(x, Call) and (x.function == "guard" or per_lane(x))):
            for child in x.children():
                visit(child)
        if isinstance(x, Call):
            order.append(x)

    def per_lane(x: Call) -> bool:
        return scope.lanes is not None and _per_lane(x, scope.lanes[0])

    visit(e)
    lines = []
    inner = replace(scope, hoisted=dict(scope.hoisted))
    for x in order:
        if counts[x] > 1:
            name = f"{fresh}_{len(inner.hoisted)}"
            lines.append(f"const auto {name} = {expression(x, inner)};")
            inner.hoisted[x] = name
    return lines, inner
