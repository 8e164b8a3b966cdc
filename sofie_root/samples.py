"""Random inputs that a model takes, for checks against a reference and for the self-test."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from .budget import reserve
from .ir import DType, Graph, Symbol
from .ir.dim import Atom, Dim, evaluate, single_atom, size_symbols

Array = npt.NDArray[Any]
Runner: TypeAlias = Callable[[Mapping[str, Array]], Mapping[str, Array]]

SIZES = (7, 7, 20, 40, 80, 160)
"""Largest sizes of symbolic dims to try in turn, until the model takes the input."""


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
    """
    integers = any(graph.types[name].dtype.is_integer for name in graph.inputs)
    for largest in sizes if graph.symbols() else sizes[:1]:
        for top in (7, 3, 1, 0) if integers else (0,):
            dims = draw_dims(graph, rng, largest, fixed)
            if dims is None:
                continue
            try:
                inputs = draw_inputs(graph, rng, dims, top, scale)
                return Sample(dims, inputs, run(inputs))
            except refuses:
                continue
    return None


def draw_dims(
    graph: Graph, rng: np.random.Generator, largest: int, fixed: Mapping[str, int] | None = None
) -> dict[str, int] | None:
    """Random sizes of the symbols, or None where these contradict what the graph demands."""
    given: dict[Atom, int] = {Symbol(name): size for name, size in (fixed or {}).items()}
    sizes: dict[Atom, int] = {
        s: int(rng.integers(largest // 4, largest, endpoint=True)) or 1 for s in graph.symbols()
    }
    sizes |= given
    demanded = [
        (e.a, e.b) for e in graph.equalities if all(s in sizes for s in size_symbols((e.a, e.b)))
    ]
    for a, b in demanded * 2:  # twice: one may follow from a later one
        for one, other in ((a, b), (b, a)):
            atom = single_atom(one)
            if (
                isinstance(atom, Symbol)
                and atom not in given
                and _value(a, sizes) != _value(b, sizes)
            ):
                sizes[atom] = _value(other, sizes)
    if any(_value(a, sizes) != _value(b, sizes) for a, b in demanded):
        return None
    shapes = [d for name in graph.inputs for d in graph.types[name].shape]
    if any(_value(d, sizes) < 0 for d in shapes):
        return None
    return {s.name: sizes[s] for s in graph.symbols()}


def draw_inputs(
    graph: Graph,
    rng: np.random.Generator,
    dims: Mapping[str, int],
    top: int,
    scale: float = 1.0,
) -> dict[str, Array]:
    """Random arrays for all inputs: normally distributed floats, integers in ``[0, top]``.

    Raises:
        BudgetError: they take more memory than they may (see :mod:`sofie_root.budget`).
    """
    sizes: dict[Atom, int] = {Symbol(name): size for name, size in dims.items()}
    inputs: dict[str, Array] = {}
    for name in graph.inputs:
        type_ = graph.types[name]
        shape = tuple(_value(d, sizes) for d in type_.shape)
        reserve(shape, np.dtype(np.float64).itemsize)
        array: Any
        if type_.dtype.is_float:
            array = rng.standard_normal(shape) * scale
        else:
            high = 1 if type_.dtype is DType.BOOL else top
            array = rng.integers(0, high, shape, endpoint=True)
        inputs[name] = np.asarray(array, type_.dtype.numpy)
    return inputs


def _value(dim: Dim, sizes: Mapping[Atom, int]) -> int:
    return int(evaluate(dim, sizes.__getitem__))
