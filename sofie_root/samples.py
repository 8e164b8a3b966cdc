"""Random inputs that a model takes, for checks against a reference and for the self-test."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from .budget import reserve
from .errors import ShapeError
from .ir import DType, Graph, Symbol, TensorType
from .ir.dim import Atom, Dim, linear, single_atom, size_symbols, value_of
from .meanings import Meaning, meanings
from .program.statement import Check

Array = npt.NDArray[Any]
Runner: TypeAlias = Callable[[Mapping[str, Array]], Mapping[str, Array]]

SIZES = (7, 7, 20, 40, 80, 160)
"""Largest sizes of symbolic dims to try in turn, until the model takes the input."""


SMALL = (0.1, 0.01, 0.001)
"""By how much the inputs of an example are made smaller where its outputs are saturated."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Inputs of a model and what it makes of them.

    Attributes:
        dims: sizes of the symbolic dims.
        inputs: arrays by name.
        outputs: arrays by name.
    """

    dims: dict[str, int]
    inputs: dict[str, Array]
    outputs: Mapping[str, Array]


def find_sample(
    graph: Graph,
    run: Runner,
    rng: np.random.Generator,
    sizes: Sequence[int],
    refuses: tuple[type[Exception], ...],
    scale: float = 1.0,
    fixed: Mapping[str, int] | None = None,
    least: int = 0,
) -> Sample | None:
    """Random inputs that ``run`` takes, and what it gives; None if none was found.

    A model may need more of something than was drawn (16 neighbours), or a smaller integer (an
    index): other sizes and smaller integers are tried in turn.

    Args:
        graph: says what the inputs are.
        run: runs the model.
        rng: where the numbers come from.
        sizes: largest sizes of the symbolic dims, most wanted first.
        refuses: what ``run`` raises for an input that it does not take.
        scale: width of the distribution of the floats.
        fixed: sizes of symbolic dims that are not drawn.
        least: smallest size to draw, where the largest allows it.
    """
    integers = any(graph.types[name].dtype.is_integer for name in graph.inputs)
    for largest in sizes if graph.symbols() else sizes[:1]:
        for top in (7, 3, 1, 0) if integers else (0,):
            dims = draw_dims(graph, rng, largest, fixed, least)
            if dims is None:
                continue
            try:
                inputs = draw_inputs(graph, rng, dims, top, scale)
                return Sample(dims, inputs, run(inputs))
            except refuses:
                continue
    return None


def find_example(graph: Graph, run: Runner) -> Sample | None:
    """A small sample in which faults would show, always the same for one graph; None if there is none.

    Sizes of 2 and 3 tell axes apart, and a loop that runs once proves little; but some models take nothing
    else than 1. Where outputs are NaN, or all that they can be is 0 or 1, other inputs are tried:
    logarithms and square roots take positive ones, and a softmax tells more of small ones.

    Args:
        graph: says what the inputs are.
        run: runs the model; whatever it raises is taken as a refusal.
    """
    sizes, rng = (3, *SIZES, 1), np.random.default_rng(1)
    sample = find_sample(graph, run, rng, sizes, (Exception,), least=2)
    if sample is None or _is_telling(sample.outputs):
        return sample
    not_numbers = any(np.isnan(a).any() for a in sample.outputs.values() if a.dtype.kind == "f")
    signs = [(1.0, abs)] if not_numbers else [(s, np.positive) for s in SMALL]
    for scale, sign in signs:
        inputs = {n: _changed(a, scale, sign) for n, a in sample.inputs.items()}
        with contextlib.suppress(Exception):
            outputs = run(inputs)
            if _is_telling(outputs):
                return Sample(sample.dims, inputs, outputs)
    return sample


def _changed(array: Array, scale: float, sign: Callable[[Array], Array] = np.positive) -> Array:
    """Floats scaled, other arrays as they are."""
    dtype = DType.from_numpy(array.dtype)
    if dtype is None or not dtype.is_float:
        return array
    return np.asarray(sign(array.astype(np.float64)) * scale).astype(array.dtype)


def _is_telling(outputs: Mapping[str, Array]) -> bool:
    """Whether a fault would show in each output: one that is NaN or saturated tells little."""
    arrays = [np.asarray(a) for a in outputs.values()]
    sizes = [np.abs(a.astype(np.float64)) for a in arrays if a.size and a.dtype.kind not in "biu"]
    return all(bool(np.any(np.isfinite(s) & (s > 1e-3) & (np.abs(s - 1) > 1e-3))) for s in sizes)


def draw_dims(
    graph: Graph,
    rng: np.random.Generator,
    largest: int,
    fixed: Mapping[str, int] | None = None,
    least: int = 0,
) -> dict[str, int] | None:
    """Random sizes of the symbols, or None where these contradict what the graph demands."""
    smallest = min(max(largest // 4, least), largest)
    given: dict[Atom, int] = {Symbol(name): size for name, size in (fixed or {}).items()}
    sizes: dict[Atom, int] = {
        s: int(rng.integers(smallest, largest, endpoint=True)) or 1 for s in graph.symbols()
    }
    sizes |= given
    demanded = [
        Check(e.a, e.b, e.why)
        for e in graph.equalities
        if all(s in sizes for s in size_symbols((e.a, e.b)))
    ]
    for check in demanded * 3:  # one may follow from a later one
        _satisfy(check, sizes, given)
    shapes = [d for name in graph.inputs for d in graph.types[name].shape]
    try:
        if not all(_holds(check, sizes) for check in demanded):
            return None
        if any(_value(d, sizes) < 0 for d in shapes):
            return None
    except ShapeError:  # sizes that do not broadcast
        return None
    return {s.name: sizes[s] for s in graph.symbols()}


def _holds(check: Check, sizes: Mapping[Atom, int]) -> bool:
    kind, *dims = check.parts
    a, b = (_value(d, sizes) for d in dims)
    if kind == "at_most":
        return a <= b
    return a == b or (kind == "broadcast" and b == 1) or (kind.startswith("broadcast") and a == 1)


def _satisfy(check: Check, sizes: dict[Atom, int], given: Mapping[Atom, int]) -> None:
    """Changes a size that is not given, where one can be found that makes a check hold.

    Where both sides are sums or products of sizes, each size is tried in turn: how much the two sides move
    apart when it grows by one says how far it has to change.
    """
    try:
        if _holds(check, sizes):
            return
        kind, a, b = check.parts
        if kind == "at_most":
            missing = _value(a, sizes) - _value(b, sizes)
            for symbol in size_symbols([b]):
                grown = linear(b, symbol)
                step = 0 if grown is None else grown[0]
                if symbol not in given and isinstance(step, int) and step > 0:
                    sizes[symbol] += -(-missing // step)
                    return
        for one, other in ((a, b), (b, a)):
            atom = single_atom(one)
            if isinstance(atom, Symbol) and atom not in given:
                sizes[atom] = _value(other, sizes)
                return
        apart = _value(a, sizes) - _value(b, sizes)
        for symbol in size_symbols((a, b)):
            if not isinstance(symbol, Symbol) or symbol in given:
                continue
            larger = {**sizes, symbol: sizes[symbol] + 1}
            step = _value(a, larger) - _value(b, larger) - apart
            if step and apart % step == 0 and sizes[symbol] - apart // step > 0:
                sizes[symbol] -= apart // step
                return
    except ShapeError:  # sizes inside that do not broadcast: another demand says so, too
        return


def draw_inputs(
    graph: Graph,
    rng: np.random.Generator,
    dims: Mapping[str, int],
    top: int,
    scale: float = 1.0,
) -> dict[str, Array]:
    """Random arrays for all inputs that respect what they mean (see :mod:`sofie_root.meanings`).

    Else floats are normally distributed and integers are in ``[0, top]``.

    Raises:
        BudgetError: they take more memory than they may (see :mod:`sofie_root.budget`).
    """
    sizes: dict[Atom, int] = {Symbol(name): size for name, size in dims.items()}
    known = meanings(graph)

    def size(d: Dim) -> int | None:
        return _value(d, sizes) if all(s in sizes for s in size_symbols([d])) else None

    inputs: dict[str, Array] = {}
    for name in graph.inputs:
        type_ = graph.types[name]
        shape = tuple(_value(d, sizes) for d in type_.shape)
        reserve(shape, np.dtype(np.float64).itemsize)
        array: Any = _meant(known.get(name, ()), rng, type_, shape, size)
        if array is not None:
            pass
        elif type_.dtype.is_float:
            array = rng.standard_normal(shape) * scale
        else:
            high = 1 if type_.dtype is DType.BOOL else top
            array = rng.integers(0, high, shape, endpoint=True)
        inputs[name] = np.asarray(array, type_.dtype.numpy)
    return inputs


def _meant(
    known: Sequence[Meaning],
    rng: np.random.Generator,
    type_: TensorType,
    shape: tuple[int, ...],
    size: Callable[[Dim], int | None],
) -> Any:
    """Content that means all of this, as far as one can be found: of integers the smaller ones."""
    drawn = [m.draw(rng, type_, shape, size) for m in known]
    arrays = [np.broadcast_to(a, shape) for a in drawn if a is not None]
    if not arrays:
        return None
    return arrays[0] if type_.dtype.is_float else np.minimum.reduce(arrays)


def _value(dim: Dim, sizes: Mapping[Atom, int]) -> int:
    return int(value_of(dim, sizes.__getitem__))
