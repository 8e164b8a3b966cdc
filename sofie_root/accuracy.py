"""What results should be but for rounding, and how much rounding may change them.

Two correct programs give different numbers where a model amplifies the last bits of its inputs, and two
programs that agree may both be wrong. So results are held against an evaluation of the model in double, in
units of what the last bit of its inputs and weights changes there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from .errors import BudgetError, SofieError
from .ir import DType, Graph
from .program.interpret import evaluate

Array = npt.NDArray[Any]

ROUNDING = 100.0
"""Differences of up to so many units are rounding: sums of many terms collect more than one of them."""

ORDERS = 10.0
"""How much more than an evaluation in the model's own dtypes another order of its sums may round."""

SHAKES = 4
"""How many times the inputs and weights are changed at random."""


@dataclass(frozen=True, slots=True)
class Exact:
    """One output in double.

    Attributes:
        value: what it should be.
        unit: for each element, what one bit of the inputs and weights changes, or what rounding on the
            way to it does; infinite where a decision hangs on the last bits, so that any value may be
            right.
    """

    value: Array
    unit: Array

    def distance(self, found: Array) -> float:
        """How many units an array is away at most; infinite where it cannot be compared."""
        if found.shape != self.value.shape:
            return float(np.inf)
        with np.errstate(all="ignore"):
            error = np.abs(found.astype(np.float64) - self.value.astype(np.float64))
            equal = (found == self.value) | ((found != found) & (self.value != self.value))
            units = np.where(equal | np.isinf(self.unit), 0.0, error / self.unit)
        return float(np.max(np.where(np.isnan(units), np.inf, units), initial=0.0))


def evaluate_exactly(graph: Graph, inputs: Mapping[str, Array], seed: int = 0) -> dict[str, Exact]:
    """Every output in double, with the unit of its rounding.

    Args:
        graph: the model as it was parsed.
        inputs: arrays by name.
        seed: of the random changes of inputs and weights.

    Raises:
        SofieError: the interpreter does not take these inputs, or its budget does not allow it.
        IndexError: an index read from a tensor is out of range.
    """
    exact = evaluate(graph, inputs, double=True)
    rng = np.random.default_rng(seed)
    # A change by one bit shows how sensitive the output is; a change by as many as rounding may amount to
    # shows which decisions (a sort, a threshold, a rounding to integers) may fall either way.
    small = [_shaken(graph, inputs, 1, rng) for _ in range(SHAKES)]
    large = [_shaken(graph, inputs, ROUNDING, rng) for _ in range(SHAKES)]
    rounded = [_rounding(graph, inputs, rng) for _ in range(SHAKES)]
    types = {name: graph.types[value].dtype for name, value in graph.outputs.items()}
    results = {}
    for name, value in exact.items():
        one = _changes(value, [s[name] for s in small if s is not None])
        many = _changes(value, [s[name] for s in large if s is not None])
        # x * y - y * x is zero whatever the inputs are, and yet its terms are rounded.
        on_the_way = np.max([r[name] for r in rounded if r is not None] or [0 * one], axis=0)
        one = np.maximum(one, on_the_way * (ORDERS / ROUNDING))
        unit = np.maximum(one, many / ROUNDING)
        if types[name].is_float:
            # Not less than the last bit of the largest element, nor than what is usual for the output: a few
            # random changes may cancel in one element.
            finite = one[np.isfinite(one)]
            usual = float(np.quantile(finite, 0.75)) if finite.size else 0.0
            size = np.abs(value[np.isfinite(value)])
            bit = _epsilon(types[name]) * float(np.max(size, initial=0.0))
            unit = np.maximum(unit, max(usual, bit))
        else:
            unit = np.where(unit > 0, np.inf, 0.0)
        results[name] = Exact(value, unit)
    return results


def _changes(exact: Array, shaken: list[Array]) -> Array:
    """Largest change of each element; infinite where it becomes finite, infinite or NaN."""
    largest = np.zeros(exact.shape)
    with np.errstate(all="ignore"):
        for array in shaken:
            if array.shape != exact.shape:
                return np.full(exact.shape, np.inf)
            same = (array == exact) | ((array != array) & (exact != exact))
            change = np.abs(array.astype(np.float64) - exact.astype(np.float64))
            change = np.where(same, 0.0, np.where(np.isfinite(change), change, np.inf))
            largest = np.maximum(largest, change)
    return largest


def _shaken(
    graph: Graph, inputs: Mapping[str, Array], bits: float, rng: np.random.Generator
) -> dict[str, Array] | None:
    """The outputs in double where all float inputs and weights are changed by so many last bits.

    None where the model takes none of it: some weights are sizes, which may not change.
    """
    changed = {name: _change(array, bits, rng) for name, array in inputs.items()}
    weights = graph.copy()
    weights.constants = {n: _change(a, bits, rng) for n, a in graph.constants.items()}
    for model in (weights, graph):
        try:
            return evaluate(model, changed, double=True)
        except BudgetError:
            raise
        except (SofieError, IndexError, ValueError):
            continue
    return None


def _rounding(
    graph: Graph, inputs: Mapping[str, Array], rng: np.random.Generator
) -> dict[str, Array] | None:
    """How far an evaluation in the model's dtypes is from one in double, for inputs changed by a bit.

    None where the model does not take these inputs.
    """
    changed = {name: _change(array, 1, rng) for name, array in inputs.items()}
    try:
        exact, rounded = evaluate(graph, changed, double=True), evaluate(graph, changed)
    except BudgetError:
        raise
    except (SofieError, IndexError, ValueError):
        return None
    return {name: _changes(value, [rounded[name]]) for name, value in exact.items()}


def _change(array: Array, bits: float, rng: np.random.Generator) -> Array:
    """Each element larger or smaller by so many last bits; numbers that stand for infinity stay."""
    dtype = DType.from_numpy(array.dtype)
    if dtype is None or not dtype.is_float:
        return array
    wide = array.astype(np.float64)
    sign = rng.choice((-1.0, 1.0), array.shape)
    with np.errstate(all="ignore"):
        moved = (wide * (1 + sign * bits * _epsilon(dtype))).astype(array.dtype)
        is_large = ~(np.abs(wide) < 1e-3 * float(_info(dtype).max))
    return np.where(is_large, array, moved)


def _info(dtype: DType) -> Any:
    return ml_dtypes.finfo(dtype.numpy)  # type: ignore[no-untyped-call]


def _epsilon(dtype: DType) -> float:
    """Distance of 1 from the next number."""
    return float(_info(dtype).eps)


def agree(found: Array, expected: Array, tolerance: float = 1e-2) -> bool:
    """Whether two outputs are the same but for rounding.

    The default tolerance is to find code that computes nonsense: a value near a decision (a sort, a
    quantisation step) may fall on either side of it.

    Args:
        found: any array.
        expected: what it should be.
        tolerance: largest difference, in units of the largest element.
    """
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return False
    if found.dtype in (np.int8, np.uint8):
        return bool(np.all(np.abs(found.astype(np.int64) - expected.astype(np.int64)) <= 1))
    if found.dtype.kind in "biu":
        return bool(np.array_equal(found, expected))
    a, b = found.astype(np.float64), expected.astype(np.float64)
    finite = np.isfinite(b)
    if not np.array_equal(a[~finite], b[~finite], equal_nan=True):
        return False
    a, b = a[finite], b[finite]
    # The scale is the tensor's, not the element's: a sum that cancels rounds as its terms do.
    allowed = tolerance * np.max(np.abs(b), initial=0.0) + 1e-4 * tolerance
    return bool(np.all(np.abs(a - b) <= allowed))


def constant_outputs(graph: Graph) -> set[str]:
    """Outputs that do not depend on the values of the inputs, whatever these are (shapes, constants)."""
    dependent: set[str] = set(graph.inputs)
    for node in graph.nodes:
        if node.op.reads_sizes_only or dependent.isdisjoint(i for i in node.inputs if i):
            continue
        dependent |= {o for o in node.outputs if o is not None and graph.types[o].value is None}
    return {name for name, value in graph.outputs.items() if value not in dependent}


__all__ = ["ROUNDING", "Exact", "agree", "constant_outputs", "evaluate_exactly"]
