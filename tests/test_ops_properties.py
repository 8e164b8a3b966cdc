"""Operators on random shapes against NumPy, their sizes known or not when the model is made."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from operator_case import Case, interpreted
from shape_strategies import (
    DTYPES,
    array_of,
    axes_of,
    broadcastable,
    shapes,
    sliced,
    slices_of,
)

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
settings.register_profile("operators", max_examples=60, deadline=None, derandomize=True)
settings.load_profile("operators")
SIZES = st.sampled_from(["static", "symbolic"])


def apply(
    op_type: str,
    *inputs: Any,
    constants: tuple[int, ...] = (),
    sizes: str = "static",
    outputs: int = 1,
    **attrs: Any,
) -> list[np.ndarray]:
    """The operator's outputs; lists are INT64 arrays whose own length is a number."""
    arrays = tuple(np.array(x, np.int64) if isinstance(x, list) else x for x in inputs)
    lists = frozenset(k for k, x in enumerate(inputs) if isinstance(x, list))
    case = Case(op_type, op_type, arrays, attrs, frozenset(constants), outputs, lists=lists)
    return interpreted(case, sizes == "symbolic")


def same(actual: np.ndarray, expected: Any) -> None:
    expected = np.asarray(expected)
    assert actual.shape == expected.shape
    assert actual.dtype == expected.dtype
    assert np.array_equal(actual, expected)


@given(broadcastable(2), st.sampled_from(DTYPES), SIZES)
def test_binary(found: tuple[tuple[int, ...], ...], dtype: str, sizes: str) -> None:
    a, b = (array_of(s, dtype, k) for k, s in enumerate(found))
    same(apply("Add", a, b, sizes=sizes)[0], a + b)
    same(apply("Less", a, b, sizes=sizes)[0], a < b)


@given(broadcastable(3), SIZES)
def test_where(found: tuple[tuple[int, ...], ...], sizes: str) -> None:
    c, a, b = (array_of(s, "float32", k) for k, s in enumerate(found))
    same(apply("Where", c > 0, a, b, sizes=sizes)[0], np.where(c > 0, a, b))


@given(broadcastable(4), SIZES)
def test_variadic(found: tuple[tuple[int, ...], ...], sizes: str) -> None:
    arrays = [array_of(s, "float32", k) for k, s in enumerate(found)]
    same(apply("Max", *arrays, sizes=sizes)[0], np.maximum.reduce(np.broadcast_arrays(*arrays)))


@given(st.data(), shapes(1), SIZES, st.booleans())
def test_reductions(
    data: st.DataObject, shape: tuple[int, ...], sizes: str, keepdims: bool
) -> None:
    axes = data.draw(axes_of(len(shape), 1))
    x = array_of(shape, "float32")
    over = tuple(axes)
    for op_type, function in (
        ("ReduceSum", np.sum),
        ("ReduceL1", lambda v, **k: np.sum(np.abs(v), **k)),
        ("ReduceProd", np.prod),
    ):
        y = apply(op_type, x, axes, constants=(1,), sizes=sizes, keepdims=int(keepdims))[0]
        same(y, function(x, axis=over, keepdims=keepdims))


@given(st.data(), shapes(1), SIZES)
def test_transpose(data: st.DataObject, shape: tuple[int, ...], sizes: str) -> None:
    perm = data.draw(st.permutations(range(len(shape))))
    x = array_of(shape, "int32")
    same(apply("Transpose", x, sizes=sizes, perm=list(perm))[0], x.transpose(perm))


@given(st.data(), shapes(1), SIZES, st.booleans())
def test_slice(data: st.DataObject, shape: tuple[int, ...], sizes: str, at_run_time: bool) -> None:
    window = data.draw(slices_of(len(shape)))
    x = array_of(shape, "float32")
    constants = (3, 4) if at_run_time else (1, 2, 3, 4)
    y = apply("Slice", x, *window.values(), constants=constants, sizes=sizes)[0]
    same(y, sliced(x, window))


@given(st.data(), shapes(1, 4, 6), SIZES)
def test_reshape(data: st.DataObject, shape: tuple[int, ...], sizes: str) -> None:
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    factors = [d for d in shape if d > 1] or [1]
    order = data.draw(st.permutations(factors))
    cut = data.draw(st.integers(0, len(order)))
    wanted = [int(np.prod(order[:cut])), *order[cut:]]
    if x.size == 0:
        wanted = [0, 3]
    same(
        apply("Reshape", x, wanted, constants=(1,), sizes=sizes, allowzero=1)[0], x.reshape(wanted)
    )
    same(apply("Reshape", x, wanted, sizes=sizes, allowzero=1)[0], x.reshape(wanted))


@given(st.data(), shapes(1), SIZES)
def test_concat_then_split(data: st.DataObject, shape: tuple[int, ...], sizes: str) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    lengths = data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=3))
    parts = []
    for k, length in enumerate(lengths):
        part = list(shape)
        part[axis] = length
        parts.append(array_of(tuple(part), "int64", k))
    joined = apply("Concat", *parts, axis=axis, sizes=sizes)[0]
    same(joined, np.concatenate(parts, axis))
    split = apply(
        "Split", joined, lengths, constants=(1,), sizes=sizes, outputs=len(parts), axis=axis
    )
    for part, y in zip(parts, split, strict=True):
        same(y, part)


@given(st.data(), shapes(1).filter(lambda s: 0 not in s), SIZES, st.booleans())
def test_pad(data: st.DataObject, shape: tuple[int, ...], sizes: str, at_run_time: bool) -> None:
    mode = data.draw(st.sampled_from(["constant", "edge", "reflect", "wrap"]))
    limit = {"reflect": lambda n: n - 1, "wrap": lambda n: n}.get(mode, lambda _: 3)
    pads = [data.draw(st.integers(0, limit(n))) for n in (*shape, *shape)]
    x = array_of(shape, "float32")
    widths = list(zip(pads[: len(shape)], pads[len(shape) :], strict=True))
    constants = () if at_run_time else (1,)
    y = apply("Pad", x, pads, constants=constants, sizes=sizes, mode=mode)[0]
    same(y, np.pad(x, widths, mode=mode))


@given(st.data(), broadcastable(2), SIZES, st.booleans())
def test_expand(
    data: st.DataObject, found: tuple[tuple[int, ...], ...], sizes: str, at_run_time: bool
) -> None:
    x, shape = array_of(found[0], "float32"), list(found[1])
    expected = x * np.ones(shape, np.float32)
    y = apply("Expand", x, shape, constants=() if at_run_time else (1,), sizes=sizes)[0]
    same(y, expected)


@given(st.data(), shapes(1, 3), SIZES, st.booleans())
def test_tile(data: st.DataObject, shape: tuple[int, ...], sizes: str, at_run_time: bool) -> None:
    repeats = [data.draw(st.integers(0, 3)) for _ in shape]
    x = array_of(shape, "float32")
    y = apply("Tile", x, repeats, constants=() if at_run_time else (1,), sizes=sizes)[0]
    same(y, np.tile(x, repeats))


@given(shapes(1).filter(lambda s: 0 not in s), st.data(), SIZES)
def test_softmax_sums_to_one(shape: tuple[int, ...], data: st.DataObject, sizes: str) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    x = array_of(shape, "float32") * 30
    y = apply("Softmax", x, axis=axis, sizes=sizes)[0]
    np.testing.assert_allclose(y.sum(axis), 1, rtol=1e-6)
    expected = np.log(y.astype(np.float64))
    logs = apply("LogSoftmax", x, axis=axis, sizes=sizes)[0]
    np.testing.assert_allclose(np.where(y > 1e-30, logs - expected, 0), 0, atol=2e-5)
