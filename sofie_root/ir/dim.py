"""Integer expressions for dimensions and indices: polynomials over symbols, in one canonical form.

A :data:`Dim` is a Python ``int`` or a :class:`Poly`. Equal expressions compare equal because there is
one normal form: an integer polynomial whose atoms are symbols, floor divisions, minima and maxima.
``a % b`` is kept as ``a - b * (a // b)``, so that splitting an index and joining it again cancels.

The same algebra serves sizes (``4*N*n_pf``) and loop indices (``i*C + j``); an index symbol carries its
extent, which is what proves that ``(i*C + j) // C`` is ``i``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property, lru_cache, reduce
from math import gcd
from typing import Any, TypeAlias, Union

import numpy as np

from sofie_root.budget import spend
from sofie_root.errors import BudgetError, ShapeError

Dim: TypeAlias = Union[int, "Poly"]
Monomial: TypeAlias = tuple[tuple["Atom", int], ...]
Lookup: TypeAlias = Callable[["Atom"], Any]

MAX_SIZE, MAX_DEGREE, LARGEST = 1000, 64, 1 << 256
"""Largest expressions: atoms and terms when written out, powers in a term, and a coefficient.

Those of real models stay below 100. A crafted one could double an expression with every node.
"""


class Atom:
    """What a polynomial is made of; subclasses are immutable and hashable by ``key``.

    ``size`` tells how large it is when it is written out.
    """

    __slots__ = ("_hash", "_order", "key", "size")

    def __init__(self, *key: Any) -> None:
        self.key: tuple[Any, ...] = (type(self).__name__, *key)
        self.size: int = 1 + sum(d.size for d in key if isinstance(d, Poly))
        self._hash = hash(self.key)
        self._order: tuple[int, str, str] | None = None

    @property
    def order(self) -> tuple[int, str, str]:
        """Where this atom stands in the canonical form: symbols first, then by text and kind."""
        if self._order is None:
            rank = {FloorDiv: 1, Min: 2, Max: 2}.get(type(self), 3)
            rank = 0 if isinstance(self, Symbol) else rank
            self._order = rank, str(self), self.key[0]
        return self._order

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Atom) and self.key == other.key)

    def __repr__(self) -> str:
        return str(self)

    def dims(self) -> tuple[Dim, ...]:
        """The expressions inside this atom."""
        return ()

    def rebuild(self, dims: tuple[Dim, ...]) -> Dim:
        """The same operation on other operands."""
        return as_poly(self)

    def evaluate(self, dims: tuple[Any, ...], lookup: Lookup) -> Any:
        """The value for these operand values; ``lookup`` gives the leaves."""
        return lookup(self)

    def bounds(self) -> tuple[Dim | None, Dim | None]:
        """Inclusive lower and upper bounds that hold for every run (None: not known)."""
        return 0, None


class Symbol(Atom):
    """A named non-negative integer: a size (``extent`` None) or a loop index below ``extent``."""

    __slots__ = ("extent", "name")

    def __init__(self, name: str, extent: Dim | None = None) -> None:
        super().__init__(name, extent is not None)
        self.name = name
        self.extent = extent

    @property
    def is_index(self) -> bool:
        """Whether this is a loop index (else a size)."""
        return self.extent is not None

    def bounds(self) -> tuple[Dim | None, Dim | None]:
        """``[0, extent)`` for an index, ``[0, inf)`` for a size."""
        return 0, None if self.extent is None else self.extent - 1

    def __str__(self) -> str:
        return self.name


class RuntimeSize(Symbol):
    """The size of an axis of an output of a node, where only the run tells it.

    Attributes:
        node: name of an output of the node, which is the name of no other node's.
        output: which output.
        axis: which axis.
    """

    __slots__ = ("axis", "node", "output")

    def __init__(self, node: str, output: int, axis: int) -> None:
        Atom.__init__(self, node, output, axis)
        self.name, self.extent = f"{node}:{output}:{axis}", None
        self.node, self.output, self.axis = node, output, axis


class ComputedSize(Symbol):
    """A size that a node computes for itself when the model runs, such as where a slice begins.

    Attributes:
        node: name of an output of the node.
        what: which of its sizes, in words.
    """

    __slots__ = ("node", "what")

    def __init__(self, node: str, what: str) -> None:
        Atom.__init__(self, node, what)
        self.name, self.extent = f"{node}:{what}", None
        self.node, self.what = node, what


class StateSize(Symbol):
    """The size of an axis of a loop's state that changes from one iteration to the next.

    Attributes:
        state: name of the state, which is that of no other.
        axis: which axis.
    """

    __slots__ = ("axis", "state")

    def __init__(self, state: str, axis: int) -> None:
        Atom.__init__(self, state, axis)
        self.name, self.extent = f"{state}:state:{axis}", None
        self.state, self.axis = state, axis


class FloorDiv(Atom):
    """``floor(a / b)``."""

    __slots__ = ("a", "b")

    def __init__(self, a: Dim, b: Dim) -> None:
        super().__init__(a, b)
        self.a, self.b = a, b

    def dims(self) -> tuple[Dim, ...]:
        """The operands."""
        return self.a, self.b

    def rebuild(self, dims: tuple[Dim, ...]) -> Dim:
        """The same operation, simplified again."""
        return floordiv(*dims)

    def evaluate(self, dims: tuple[Any, ...], lookup: Lookup) -> Any:
        """The value for these operand values."""
        if isinstance(dims[1], int) and dims[1] == 0:
            return 0  # the size of an empty tensor; generated code does the same
        if isinstance(dims[1], np.ndarray):
            return np.where(dims[1] == 0, 0, dims[0] // np.maximum(dims[1], 1))
        return dims[0] // dims[1]

    def bounds(self) -> tuple[Dim | None, Dim | None]:
        """Inclusive bounds from those of the operands."""
        low, high = bounds(self.a)
        least = _least(low)
        natural = least is not None and least >= 0
        positive = isinstance(self.b, int) and self.b > 0
        return (
            least // self.b if positive and least is not None else (0 if natural else None),
            high // self.b if positive and isinstance(high, int) else (high if natural else None),
        )

    def __str__(self) -> str:
        return f"({_group(self.a)} // {_group(self.b)})"


class _Extremum(Atom):
    __slots__ = ("args",)

    def __init__(self, *args: Dim) -> None:
        super().__init__(*args)
        self.args = args

    def dims(self) -> tuple[Dim, ...]:
        """The operands."""
        return self.args

    def __str__(self) -> str:
        return f"{type(self).__name__.lower()}({', '.join(map(str, self.args))})"


def _are_ints(a: Any, b: Any) -> bool:
    return isinstance(a, int) and isinstance(b, int)


class Min(_Extremum):
    """The smallest of its operands."""

    def rebuild(self, dims: tuple[Dim, ...]) -> Dim:
        """The same operation, simplified again."""
        return minimum(*dims)

    def evaluate(self, dims: tuple[Any, ...], lookup: Lookup) -> Any:
        """The value for these operand values."""
        return reduce(lambda a, b: min(a, b) if _are_ints(a, b) else np.minimum(a, b), dims)

    def bounds(self) -> tuple[Dim | None, Dim | None]:
        """Inclusive bounds from those of the operands."""
        pairs = [bounds(a) for a in self.args]
        lows = [least for least in (_least(low) for low, _ in pairs) if least is not None]
        highs = [high for _, high in pairs if high is not None]
        return (min(lows) if len(lows) == len(pairs) else None), (highs[0] if highs else None)


class Max(_Extremum):
    """The largest of its operands."""

    def rebuild(self, dims: tuple[Dim, ...]) -> Dim:
        """The same operation, simplified again."""
        return maximum(*dims)

    def evaluate(self, dims: tuple[Any, ...], lookup: Lookup) -> Any:
        """The value for these operand values."""
        return reduce(lambda a, b: max(a, b) if _are_ints(a, b) else np.maximum(a, b), dims)

    def bounds(self) -> tuple[Dim | None, Dim | None]:
        """Inclusive bounds from those of the operands."""
        pairs = [bounds(a) for a in self.args]
        lows = [least for least in (_least(low) for low, _ in pairs) if least is not None]
        highs = [high for _, high in pairs]
        ints = [high for high in highs if isinstance(high, int)]
        return (max(lows) if lows else None), (max(ints) if len(ints) == len(highs) else None)


class Broadcast(Atom):
    """The size that two sizes broadcast to: the other one where one of them is 1, else both are equal."""

    __slots__ = ("a", "b")

    def __init__(self, a: Dim, b: Dim) -> None:
        super().__init__(a, b)
        self.a, self.b = a, b

    def dims(self) -> tuple[Dim, ...]:
        """The operands."""
        return self.a, self.b

    def rebuild(self, dims: tuple[Dim, ...]) -> Dim:
        """The same operation, simplified again."""
        return broadcast(*dims)

    def evaluate(self, dims: tuple[Any, ...], lookup: Lookup) -> Any:
        """The value for these operand values."""
        a, b = dims
        if a != b and 1 not in (a, b):
            raise ShapeError(f"sizes {a} and {b} do not broadcast ({self.a} and {self.b})")
        return b if a == 1 else a

    def __str__(self) -> str:
        return f"broadcast({self.a}, {self.b})"


class Poly:
    """A non-constant polynomial in canonical form; made by arithmetic, never by hand."""

    __slots__ = ("__dict__", "terms")

    def __init__(self, terms: tuple[tuple[Monomial, int], ...]) -> None:
        self.terms = terms

    @cached_property
    def size(self) -> int:
        """How large the expression is when it is written out."""
        return sum(1 + sum(atom.size for atom, _ in mono) for mono, _ in self.terms)

    @cached_property
    def _hash(self) -> int:
        return hash(self.terms)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Poly) and self.terms == other.terms)

    def __add__(self, other: Dim) -> Dim:
        total = dict(self.terms)
        for mono, coeff in _terms(other):
            total[mono] = total.get(mono, 0) + coeff
        return _make(total)

    __radd__ = __add__

    def __neg__(self) -> Dim:
        return self * -1

    def __sub__(self, other: Dim) -> Dim:
        return self + other * -1

    def __rsub__(self, other: Dim) -> Dim:
        return self * -1 + other

    def __mul__(self, other: Dim) -> Dim:
        total: dict[Monomial, int] = {}
        if isinstance(other, Poly) and len(self.terms) * len(other.terms) > 16:
            spend(1000 * len(self.terms) * len(other.terms))
        for m1, c1 in self.terms:
            for m2, c2 in _terms(other):
                mono = _multiply(m1, m2)
                total[mono] = total.get(mono, 0) + c1 * c2
        return _make(total)

    __rmul__ = __mul__

    def __floordiv__(self, other: Dim) -> Dim:
        return floordiv(self, other)

    def __rfloordiv__(self, other: Dim) -> Dim:
        return floordiv(other, self)

    def __mod__(self, other: Dim) -> Dim:
        return mod(self, other)

    def __rmod__(self, other: Dim) -> Dim:
        return mod(other, self)

    @cached_property
    def bounds(self) -> tuple[Dim | None, Dim | None]:
        """See :func:`bounds`."""
        return _bounds(self)

    @cached_property
    def atoms(self) -> frozenset[Atom]:
        """The atoms of this polynomial, not those inside its floor divisions."""
        return frozenset(atom for mono, _ in self.terms for atom, _ in mono)

    @cached_property
    def all_atoms(self) -> tuple[Atom, ...]:
        """Every atom, each followed by those inside it; see :func:`walk`."""
        atoms: list[Atom] = []
        for atom in sorted(self.atoms, key=lambda a: a.order):
            atoms.append(atom)
            for inner in atom.dims():
                if isinstance(inner, Poly):
                    atoms += inner.all_atoms
        return tuple(atoms)

    def __str__(self) -> str:
        return _text(self)

    def __repr__(self) -> str:
        return _text(self)


def _group(d: Dim) -> str:
    return f"({d})" if isinstance(d, Poly) and len(d.terms) > 1 else str(d)


def _text(d: Poly) -> str:
    parts = []
    for mono, coeff in d.terms:
        factors = [str(a) if p == 1 else f"{a}^{p}" for a, p in mono]
        if coeff != 1 or not factors:
            factors.insert(0, str(abs(coeff)) if abs(coeff) != 1 or not factors else "")
        text = "*".join(f for f in factors if f)
        parts.append(("-" if coeff < 0 else "+", text))
    first_sign, first = parts[0]
    head = ("-" if first_sign == "-" else "") + first
    return head + "".join(f" {s} {t}" for s, t in parts[1:])


def _terms(d: Dim) -> Iterable[tuple[Monomial, int]]:
    if isinstance(d, Poly):
        return d.terms
    return (((), int(d)),) if d else ()


@lru_cache(maxsize=1 << 16)
def _order(mono: Monomial) -> tuple[Any, ...]:
    return (-sum(p for _, p in mono), tuple((a.order, -p) for a, p in mono))


def _make(total: Mapping[Monomial, int]) -> Dim:
    terms = [(m, c) for m, c in total.items() if c]
    if not terms:
        return 0
    if len(terms) == 1 and terms[0][0] == ():
        return terms[0][1]
    terms.sort(key=lambda t: _order(t[0]))
    return _limited(Poly(tuple(terms)))


def _limited(d: Poly) -> Poly:
    """The expression, unless it is one that no model needs and that only grows from here.

    Raises:
        BudgetError: it has too many terms, too high powers or too large coefficients.
    """
    size = 0
    for mono, coefficient in d.terms:
        size += 1
        degree = 0
        for atom, power in mono:
            size += atom.size
            degree += power
        if degree > MAX_DEGREE:
            raise BudgetError("powers", degree, MAX_DEGREE)
        if not -LARGEST < coefficient < LARGEST:
            raise BudgetError("bits", coefficient.bit_length(), LARGEST.bit_length() - 1)
    if size > MAX_SIZE:
        raise BudgetError("terms", size, MAX_SIZE)
    return d


def _multiply(a: Monomial, b: Monomial) -> Monomial:
    if not a:
        return b
    if not b:
        return a
    powers = dict(a)
    for atom, power in b:
        powers[atom] = powers.get(atom, 0) + power
    return tuple(sorted(powers.items(), key=lambda t: t[0].order))


def _divide_monomial(a: Monomial, b: Monomial) -> Monomial | None:
    powers = dict(a)
    for atom, power in b:
        left = powers.get(atom, 0) - power
        if left < 0:
            return None
        powers[atom] = left
    return tuple((m, p) for m, p in powers.items() if p)


def as_poly(atom: Atom) -> Poly:
    """The polynomial that is just this atom."""
    return _limited(Poly(((((atom, 1),), 1),)))


def symbol(name: str) -> Poly:
    """A size symbol: an integer >= 0 known at run time."""
    return as_poly(Symbol(name))


def single_atom(d: Dim) -> Atom | None:
    """The atom that this expression is, or None where it is anything else."""
    if isinstance(d, Poly) and len(d.terms) == 1:
        mono, coeff = d.terms[0]
        if coeff == 1 and len(mono) == 1 and mono[0][1] == 1:
            return mono[0][0]
    return None


def _divide(a: Dim, b: Dim) -> tuple[Dim, Dim]:
    """Polynomial division: ``a == q * b + r`` with whatever is not divisible left in r."""
    lead_mono, lead_coeff = next(iter(_terms(b)))
    quotient: Dim = 0
    remainder: Dim = 0
    rest = a
    while rest != 0:
        mono, coeff = next(iter(_terms(rest)))
        m = _divide_monomial(mono, lead_mono)
        if (
            m is not None
            and coeff // lead_coeff != 0
            and (m != () or mono != () or coeff >= lead_coeff)
        ):
            step = _make({m: coeff // lead_coeff})
            quotient = quotient + step
            rest = rest - step * b
            if coeff % lead_coeff:
                left = _make({mono: coeff % lead_coeff})
                remainder, rest = remainder + left, rest - left
        else:
            term = _make({mono: coeff})
            remainder, rest = remainder + term, rest - term
    return quotient, remainder


def floordiv(a: Dim, b: Dim) -> Dim:
    """``floor(a / b)`` for ``b`` > 0, simplified where the ranges of the symbols prove it."""
    if isinstance(a, int) and isinstance(b, int):
        return a // b if b else 0
    if b == 1 or a == 0:
        return a
    if a == b:
        return 1
    if b == 0:
        return 0
    q, r = _divide(a, b)
    if r == 0:
        return q
    if at_least(r, 0) and at_least(b - 1, r):
        return q
    inner = single_atom(a)
    if isinstance(inner, FloorDiv):  # floor(floor(x / c) / b) == floor(x / (c*b))
        return floordiv(inner.a, inner.b * b)
    if not isinstance(b, Poly):
        if q != 0:
            return q + floordiv(r, b)
        # With g dividing b and all but the terms below g: floor((g*x + y) / b) == floor(x / (b/g)).
        for g in sorted({gcd(c, b) for _, c in _terms(a)}, reverse=True):
            x, y = _divide(a, g)
            if g > 1 and x != 0 and at_least(y, 0) and at_least(g - 1, y):
                return floordiv(x, b // g)
    return as_poly(FloorDiv(a, b))


def mod(a: Dim, b: Dim) -> Dim:
    """``a - b * floor(a / b)``."""
    return a - b * floordiv(a, b)


def ceildiv(a: Dim, b: Dim) -> Dim:
    """``ceil(a / b)`` for ``b`` > 0."""
    return floordiv(a + b - 1, b)


def _extremum(cls: type[_Extremum], args: tuple[Dim, ...]) -> Dim:
    flat: list[Dim] = []
    for arg in args:
        atom = single_atom(arg)
        flat.extend(atom.args if isinstance(atom, cls) else (arg,))
    kept: list[Dim] = []
    for i, arg in enumerate(flat):
        beaten = False
        for j, other in enumerate(flat):
            if i == j or (arg == other and i < j):
                continue
            wins = at_least(other, arg) if cls is Max else at_least(arg, other)
            if wins and not (arg != other and _ties(cls, arg, other) and i < j):
                beaten = True
                break
        if not beaten:
            kept.append(arg)
    kept = sorted(set(kept), key=_text_and_kinds)
    return kept[0] if len(kept) == 1 else as_poly(cls(*kept))


def _text_and_kinds(d: Dim) -> tuple[str, tuple[str, ...]]:
    """What operands are sorted by: the text, and what its atoms are where two have the same text."""
    return str(d), tuple(atom.key[0] for atom in walk(d))


def _ties(cls: type[_Extremum], a: Dim, b: Dim) -> bool:
    return at_least(a, b) and at_least(b, a)


def minimum(*args: Dim) -> Dim:
    """The smallest operand; operands that can never win are dropped."""
    return _extremum(Min, args)


def maximum(*args: Dim) -> Dim:
    """The largest operand; operands that can never win are dropped."""
    return _extremum(Max, args)


def broadcast(a: Dim, b: Dim) -> Dim:
    """The size that two sizes broadcast to.

    Raises:
        ShapeError: both are known, differ, and none is 1.
    """
    if a == b or b == 1:
        return a
    if a == 1:
        return b
    if isinstance(a, int) and isinstance(b, int):
        raise ShapeError(f"sizes {a} and {b} do not broadcast")
    return as_poly(Broadcast(*sorted((a, b), key=_text_and_kinds)))


def product(dims: Iterable[Dim]) -> Dim:
    """Product of all dims (1 for none): the number of elements of a shape."""
    total: Dim = 1
    for d in dims:
        total = total * d
    return total


def bounds(d: Dim) -> tuple[Dim | None, Dim | None]:
    """Inclusive bounds of an expression over the ranges of its index symbols.

    Index symbols are replaced by the end of their range that makes each term smallest or largest; sizes
    stay in the result as symbols, with lower bound 0.
    """
    return (d, d) if isinstance(d, int) else d.bounds


def _bounds(d: Poly) -> tuple[Dim | None, Dim | None]:
    low: Dim | None = 0
    high: Dim | None = 0
    for mono, coeff in d.terms:
        lo: Dim | None = coeff
        hi: Dim | None = coeff
        for atom, power in mono:
            a_low, a_high = atom.bounds()
            if a_low is None or not isinstance(a_low, int) or a_low < 0:
                lo = hi = None
                break
            if isinstance(atom, Symbol) and not atom.is_index:
                # a size stays symbolic at both ends
                lo = None if lo is None else lo * product([as_poly(atom)] * power)
                hi = None if hi is None else hi * product([as_poly(atom)] * power)
                continue
            near, far = (a_low, a_high) if coeff > 0 else (a_high, a_low)
            lo = None if lo is None or near is None else lo * product([near] * power)
            hi = None if hi is None or far is None else hi * product([far] * power)
        low = None if low is None or lo is None else low + lo
        high = None if high is None or hi is None else high + hi
    return low, high


def _least(low: Dim | None) -> int | None:
    """The smallest value of a lower bound made of sizes, none of which is negative."""
    if low is None or isinstance(low, int):
        return low
    if any(coeff < 0 for mono, coeff in low.terms if mono):
        return None
    return next((coeff for mono, coeff in low.terms if not mono), 0)


def at_least(a: Dim, b: Dim) -> bool:
    """Whether ``a >= b`` is proven for every value of the symbols (False: not proven)."""
    larger, smaller = single_atom(a), single_atom(b)
    if isinstance(larger, Max) and b in larger.args:
        return True
    if isinstance(smaller, Min) and a in smaller.args:
        return True
    low, _ = bounds(a - b)
    if low is None:
        return False
    return all(coeff >= 0 for _, coeff in _terms(low))


def substitute(d: Dim, mapping: Mapping[Atom, Dim]) -> Dim:
    """The expression with atoms replaced, simplified again."""
    if isinstance(d, int) or not mapping:
        return d
    new: dict[Atom, Dim] = {}
    changed = False
    for atom in d.atoms:
        if atom in mapping:
            new[atom] = mapping[atom]
            changed = True
        else:
            inner = atom.dims()
            replaced = tuple(substitute(x, mapping) for x in inner)
            if replaced != inner:
                new[atom] = atom.rebuild(replaced)
                changed = True
    if not changed:
        return d
    total: Dim = 0
    for mono, coeff in d.terms:
        term: Dim = coeff
        for atom, power in mono:
            factor = new.get(atom)
            term = term * product([as_poly(atom) if factor is None else factor] * power)
        total = total + term
    return total


def value_of(d: Dim, lookup: Lookup) -> Any:
    """The value of an expression; ``lookup`` maps leaf atoms to ints (or integer arrays)."""
    if isinstance(d, int):
        return d
    total: Any = 0
    for mono, coeff in d.terms:
        term: Any = coeff
        for atom, power in mono:
            value = atom.evaluate(tuple(value_of(x, lookup) for x in atom.dims()), lookup)
            term = term * value**power
        total = total + term
    return total


def walk(d: Dim) -> Iterator[Atom]:
    """Every atom of an expression, those inside other atoms included."""
    return iter(d.all_atoms if isinstance(d, Poly) else ())


def size_symbols(dims: Iterable[Dim]) -> list[Symbol]:
    """The size symbols of these expressions in order of first use."""
    seen: dict[Symbol, None] = {}
    for d in dims:
        for atom in walk(d):
            if isinstance(atom, Symbol) and not atom.is_index:
                seen.setdefault(atom)
    return list(seen)


def depends_on(d: Dim, atom: Atom) -> bool:
    """Whether ``atom`` occurs anywhere in the expression."""
    return isinstance(d, Poly) and atom in d.all_atoms


def linear(d: Dim, atom: Atom) -> tuple[Dim, Dim] | None:
    """``(coefficient, rest)`` with ``d == coefficient * atom + rest``; None where not linear in it."""
    coefficient: dict[Monomial, int] = {}
    rest: dict[Monomial, int] = {}
    for mono, coeff in _terms(d):
        power = 0
        for a, p in mono:
            if a == atom:
                power = p
            elif any(depends_on(inner, atom) for inner in a.dims()):
                return None
        if power == 0:
            rest[mono] = coeff
        elif power == 1:
            coefficient[tuple((a, p) for a, p in mono if a != atom)] = coeff
        else:
            return None
    return _make(coefficient), _make(rest)
