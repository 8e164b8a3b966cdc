"""Operators with kernels on random shapes and attributes, against NumPy or ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from operator_case import Case, interpreted
from shape_strategies import array_of, axes_of, shapes
from test_ops_properties import SIZES, apply, same

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
NUMBERS = ("float32", "float64", "int32", "int64")


@given(
    hnp.mutually_broadcastable_shapes(signature=np.matmul.signature, max_dims=3, max_side=4),
    st.sampled_from(NUMBERS),
    st.sampled_from([(), (0,), (1,)]),
    SIZES,
)
def test_matmul(
    found: hnp.BroadcastableShapes, dtype: str, constants: tuple[int, ...], sizes: str
) -> None:
    a, b = (array_of(s, dtype, k) for k, s in enumerate(found.input_shapes))
    result = apply("MatMul", a, b, constants=constants, sizes=sizes)[0]
    same(result, np.asarray(np.matmul(a, b)))


@given(
    st.tuples(*[st.integers(0, 20)] * 3),
    st.sampled_from([None, (), (1,), "n", "1n", "m1", "mn"]),
    st.tuples(st.booleans(), st.booleans()),
    st.sampled_from([(1.0, 1.0), (0.5, 2.0), (2.0, 0.0)]),
    st.booleans(),
    SIZES,
)
def test_gemm(
    extents: tuple[int, int, int],
    bias: Any,
    transposed: tuple[bool, bool],
    factors: tuple[float, float],
    constant: bool,
    sizes: str,
) -> None:
    m, n, k = extents
    a, b = array_of((m, k), "float32", 0), array_of((k, n), "float32", 1)
    shape = tuple({"m": m, "n": n, "1": 1}[d] if isinstance(d, str) else d for d in bias or ())
    c = None if bias is None else array_of(shape, "float32", 2)
    expected = factors[0] * (a @ b) + (0 if c is None else np.float32(factors[1]) * c)
    stored = [v.T.copy() if t else v for v, t in zip((a, b), transposed, strict=True)]
    inputs = [*stored, *([] if c is None else [c])]
    constants = (1, 2)[: len(inputs) - 1] if constant else ()
    attrs = {"alpha": factors[0], "beta": factors[1]}
    attrs |= {name: int(t) for name, t in zip(("transA", "transB"), transposed, strict=True)}
    same(apply("Gemm", *inputs, constants=constants, sizes=sizes, **attrs)[0], expected)


@st.composite
def windows(draw: st.DrawFn, rank: int) -> dict[str, Any]:
    """Attributes of a sliding window."""
    per_axis = st.lists(st.integers(1, 3), min_size=rank, max_size=rank)
    attrs = {name: draw(per_axis) for name in ("kernel_shape", "strides", "dilations")}
    pads = [draw(st.integers(0, k - 1)) for _ in range(2) for k in attrs["kernel_shape"]]
    return {**attrs, "pads": pads}


def reaches(attrs: dict[str, Any], spatial: list[int]) -> bool:
    """Whether at least one window fits."""
    rank = len(spatial)
    totals = [p + q for p, q in zip(attrs["pads"][:rank], attrs["pads"][rank:], strict=True)]
    taps = zip(attrs["kernel_shape"], attrs["dilations"], strict=True)
    reach = [(k - 1) * d + 1 for k, d in taps]
    return all(n + p >= r for n, p, r in zip(spatial, totals, reach, strict=True))


def check(case: Case, sizes: str) -> None:
    case.check(interpreted(case, sizes == "symbolic"), sizes)


@given(st.data(), st.integers(1, 3), st.integers(1, 3), SIZES)
def test_convolutions(data: st.DataObject, rank: int, group: int, sizes: str) -> None:
    attrs = data.draw(windows(rank))
    spatial = data.draw(st.lists(st.integers(1, 7), min_size=rank, max_size=rank))
    assume(reaches(attrs, spatial))
    batch, inputs, outputs = (data.draw(st.integers(1, 3)) for _ in range(3))
    x = array_of((batch, inputs * group, *spatial), "float32", 0)
    bias = array_of((outputs * group,), "float32", 2)
    attrs["group"] = group
    w = array_of((outputs * group, inputs, *attrs["kernel_shape"]), "float32", 1)
    check(Case("Conv", "Conv", (x, w, bias), attrs, frozenset({1, 2})), sizes)
    w = array_of((inputs * group, outputs, *attrs["kernel_shape"]), "float32", 1)
    steps = zip(spatial, attrs["strides"], attrs["kernel_shape"], attrs["dilations"], strict=True)
    whole = [(n - 1) * s + (k - 1) * d + 1 for n, s, k, d in steps]
    pads = zip(attrs["pads"][:rank], attrs["pads"][rank:], strict=True)
    if all(size > p + q for size, (p, q) in zip(whole, pads, strict=True)):
        check(Case("T", "ConvTranspose", (x, w, bias), attrs, frozenset({1, 2})), sizes)


@given(st.data(), st.integers(1, 3), st.booleans(), SIZES)
def test_pools(data: st.DataObject, rank: int, ceil_mode: bool, sizes: str) -> None:
    attrs = data.draw(windows(rank))
    spatial = data.draw(st.lists(st.integers(1, 8), min_size=rank, max_size=rank))
    assume(reaches(attrs, spatial))
    # A window whose taps jump over the whole input has no maximum.
    assume(all(n >= d for n, d in zip(spatial, attrs["dilations"], strict=True)))
    attrs["ceil_mode"] = int(ceil_mode)
    x = np.random.default_rng(0).permutation(2 * int(np.prod(spatial))).astype(np.float32)
    x = x.reshape(1, 2, *spatial)
    check(Case("M", "MaxPool", (x,), attrs, outputs=2), sizes)
    attrs["count_include_pad"] = data.draw(st.integers(0, 1))
    check(Case("A", "AveragePool", (x,), attrs, tolerance=1e-4), sizes)


@given(st.data(), shapes(1, max_side=5), shapes(0, 2, 3), st.booleans(), SIZES)
def test_gather(
    data: st.DataObject,
    shape: tuple[int, ...],
    inner: tuple[int, ...],
    constant: bool,
    sizes: str,
) -> None:
    (axis, *_) = data.draw(axes_of(len(shape), 1))
    extent = shape[axis]
    assume(extent > 0)
    x = array_of(shape, "float32")
    indices = np.random.default_rng(1).integers(-extent, extent, inner)
    constants = (1,) if constant else ()
    result = apply("Gather", x, np.asarray(indices), constants=constants, sizes=sizes, axis=axis)
    same(result[0], np.take(x, indices, axis))


@given(st.data(), shapes(1, 3, 5), SIZES)
def test_gather_and_scatter_elements(
    data: st.DataObject, shape: tuple[int, ...], sizes: str
) -> None:
    (axis, *_) = data.draw(axes_of(len(shape), 1))
    extent = shape[axis]
    assume(0 not in shape)
    count = data.draw(st.integers(1, 6))
    inner = tuple(count if a == axis % len(shape) else n for a, n in enumerate(shape))
    x = array_of(shape, "int64")
    indices = np.random.default_rng(1).integers(-extent, extent, inner)
    same(
        apply("GatherElements", x, indices, sizes=sizes, axis=axis)[0],
        np.take_along_axis(x, indices % extent, axis),
    )
    updates = array_of(inner, "int64", 3)
    expected = x.copy()
    for at in np.ndindex(*inner):
        target = list(at)
        target[axis] = indices[at]
        expected[tuple(target)] += updates[at]
    result = apply("ScatterElements", x, indices, updates, sizes=sizes, axis=axis, reduction="add")
    same(result[0], expected)


@given(st.data(), shapes(1, 3, 6), st.booleans(), st.booleans(), SIZES)
def test_top_k(
    data: st.DataObject, shape: tuple[int, ...], largest: bool, constant: bool, sizes: str
) -> None:
    (axis, *_) = data.draw(axes_of(len(shape), 1))
    k = data.draw(st.integers(0, shape[axis]))
    x = array_of(shape, "float32")
    order = np.argsort(-x if largest else x, axis=axis, kind="stable").take(range(k), axis)
    attrs = {"axis": axis, "largest": int(largest), "outputs": 2}
    values, positions = apply(
        "TopK", x, [k], constants=(1,) if constant else (), sizes=sizes, **attrs
    )
    same(values, np.take_along_axis(x, order, axis))
    same(positions, order)


@given(shapes(1, 4, 4), SIZES)
def test_selections(shape: tuple[int, ...], sizes: str) -> None:
    x = array_of(shape, "int32")
    same(apply("NonZero", x, sizes=sizes)[0], np.array(np.nonzero(x), np.int64))
    chosen = x.ravel() > 0
    same(apply("Compress", x, chosen, sizes=sizes)[0], x.ravel()[chosen])
    distinct = np.unique(x, return_index=True, return_inverse=True, return_counts=True)
    found = apply("Unique", x, sizes=sizes, outputs=4)
    for actual, expected in zip(found, distinct, strict=True):
        same(actual, expected.ravel())


@given(st.data(), shapes(1), st.booleans(), st.booleans(), st.booleans(), SIZES)
def test_running_sums(
    data: st.DataObject,
    shape: tuple[int, ...],
    exclusive: bool,
    reverse: bool,
    constant: bool,
    sizes: str,
) -> None:
    (axis, *_) = data.draw(axes_of(len(shape), 1))
    x = array_of(shape, "int64")
    flipped = np.flip(x, axis) if reverse else x
    sums = np.cumsum(flipped, axis) - (flipped if exclusive else 0)
    expected = np.flip(sums, axis) if reverse else sums
    result = apply(
        "CumSum",
        x,
        np.array(axis),
        constants=(1,) if constant else (),
        sizes=sizes,
        exclusive=int(exclusive),
        reverse=int(reverse),
    )
    same(result[0], expected)


@st.composite
def equations(draw: st.DrawFn) -> tuple[str, list[tuple[int, ...]]]:
    """An Einsum equation of up to three operands, and their shapes."""
    sizes = {label: draw(st.integers(0, 3)) for label in "abcd"}
    terms = draw(st.lists(st.text("abcd", min_size=0, max_size=3), min_size=1, max_size=3))
    used = sorted(set("".join(terms)))
    result = draw(st.permutations(used))[: draw(st.integers(0, len(used)))]
    text = ",".join(terms) + ("->" + "".join(result) if draw(st.booleans()) else "")
    return text, [tuple(sizes[c] for c in term) for term in terms]


@given(equations(), st.sampled_from(["float32", "int64"]), st.integers(-1, 2), SIZES)
def test_einsum(
    found: tuple[str, list[tuple[int, ...]]], dtype: str, constant: int, sizes: str
) -> None:
    text, operand_shapes = found
    operands = [array_of(s, dtype, k) for k, s in enumerate(operand_shapes)]
    constants = (constant,) if 0 <= constant < len(operands) and len(operands) > 1 else ()
    result = apply("Einsum", *operands, constants=constants, sizes=sizes, equation=text)
    same(result[0], np.asarray(np.einsum(text, *operands)))


@given(
    st.sampled_from([("RNN", 1), ("GRU", 3), ("LSTM", 4)]),
    st.sampled_from(["forward", "reverse", "bidirectional"]),
    st.lists(st.integers(1, 5), min_size=1, max_size=4),
    st.booleans(),
)
def test_batch_entries_are_independent(
    cell: tuple[str, int], direction: str, lengths: list[int], before: bool
) -> None:
    """A batch of sequences of different lengths gives what each sequence gives alone."""
    op_type, gates = cell
    directions, seq, batch = 1 + (direction == "bidirectional"), max(lengths), len(lengths)
    rng = np.random.default_rng(0)
    shapes_of = [(seq, batch, 3), (directions, gates * 4, 3), (directions, gates * 4, 4)]
    x, w, r = (rng.normal(size=s).astype(np.float32) for s in shapes_of)
    attrs: dict[str, Any] = {"hidden_size": 4, "direction": direction, "constants": (1, 2)}
    if op_type == "GRU":
        attrs["linear_before_reset"] = int(before)
    y, last = apply(op_type, x, w, r, None, np.array(lengths, np.int32), outputs=2, **attrs)
    for entry, length in enumerate(lengths):
        alone = apply(op_type, x[:length, entry : entry + 1], w, r, outputs=2, **attrs)
        np.testing.assert_allclose(y[:length, :, entry], alone[0][:, :, 0], 1e-5, 1e-6)
        np.testing.assert_allclose(last[:, entry], alone[1][:, 0], 1e-5, 1e-6)
        assert not y[length:, :, entry].any()
