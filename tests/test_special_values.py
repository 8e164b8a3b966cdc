"""Every function of numbers at the numbers that are special: zeros, infinities, NaN, denormals, limits.

What is expected is written down here in float64 (long double for double), with limits where a formula
would give ``inf * 0``, or in Python's integers. Rows are as long as an odd number of vectors, so that every
number meets a full vector, a partial one and a scalar.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compiled import WARNINGS, Compiled
from onnx import defs, helper
from onnx_models import model, node, tensor, value
from small_models import parsed

from sofie_root.model import Model
from sofie_root.program.interpret import evaluate

Array = np.ndarray[Any, Any]
ISAS = [(), ("-mavx2", "-mfma"), ("-march=native",)]
FLAGS = ("-std=c++17", "-O2", "-shared", "-fPIC", "-fvisibility=hidden", *WARNINGS)
W = np.longdouble

# -- floats ----------------------------------------------------------------------------------------


def numbers(dtype: Any) -> Array:
    """Zeros, infinities, NaN, both ends of the denormals, the limits, and what functions turn at."""
    info = np.finfo(dtype)
    positive = [
        0,
        info.smallest_subnormal,
        info.tiny * 0.75,
        info.tiny,
        1e-20,
        info.eps,
        0.1,
        0.5,
        1,
    ]
    positive += [
        1.5,
        2,
        2.5,
        3,
        4.5,
        6,
        9,
        12,
        16.6,
        20,
        40,
        87.5,
        88.5,
        89,
        103,
        106,
        700,
        709,
        746,
    ]
    positive += [1000, 1e4, 8388607.5, 8388609, 1e10, 1e18, 1e30, info.max, np.inf]
    with np.errstate(over="ignore"):
        half = np.array(positive).astype(dtype)
    return np.concatenate([half, -half, [dtype(np.nan)]])


def wide(f: Callable[..., Array]) -> Callable[..., Array]:
    """The function in long double, without warnings."""

    def apply(*x: Array) -> Array:
        with np.errstate(all="ignore"):
            return f(*(v.astype(W) for v in x))

    return apply


def _erf(x: Array) -> Array:
    return np.array([math.erf(v) if np.isfinite(v) else np.sign(v) for v in x.astype(float)], W)


def _gelu(x: Array) -> Array:
    """``x Phi(x)``, -0 where it is smaller than any number."""
    t = -x.astype(float) * math.sqrt(0.5)
    tails = np.array([math.erfc(v) for v in t], W)
    return np.where(np.isneginf(x), -0.0, x * tails / 2)


def _gelu_tanh(x: Array) -> Array:
    u = W(math.sqrt(8 / math.pi)) * (x + W(0.044715) * x * x * x)
    return np.where(np.isneginf(x), W(-0.0), x / (1 + np.exp(-u)))


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def _softplus(x: Array) -> Array:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _expm1_below(x: Array, alpha: float, scale: float = 1.0) -> Array:
    return np.where(x < 0, W(alpha) * np.expm1(x / W(scale)), x)


F = np.float32
UNARY: list[tuple[str, dict[str, Any], Callable[[Array], Array], float]] = [
    ("Abs", {}, np.abs, 0),
    ("Neg", {}, np.negative, 0),
    ("Sign", {}, np.sign, 0),
    ("Ceil", {}, np.ceil, 0),
    ("Floor", {}, np.floor, 0),
    ("Round", {}, np.rint, 0),
    ("Sqrt", {}, np.sqrt, 0.5),
    ("Reciprocal", {}, lambda x: 1 / x, 0.5),
    ("Exp", {}, np.exp, 1.5),
    ("Log", {}, np.log, 2),
    ("Sin", {}, np.sin, 2.5),
    ("Cos", {}, np.cos, 2.5),
    ("Tan", {}, np.tan, 2.5),
    ("Asin", {}, np.arcsin, 2.5),
    ("Acos", {}, np.arccos, 2.5),
    ("Atan", {}, np.arctan, 2.5),
    ("Sinh", {}, np.sinh, 3),
    ("Cosh", {}, np.cosh, 3),
    ("Asinh", {}, np.arcsinh, 3),
    ("Acosh", {}, np.arccosh, 3),
    ("Atanh", {}, np.arctanh, 3),
    ("Tanh", {}, np.tanh, 2.5),
    ("Sigmoid", {}, _sigmoid, 2.5),
    ("Erf", {}, _erf, 2),
    ("Softplus", {}, _softplus, 2.5),
    ("Softsign", {}, lambda x: x / (1 + np.abs(x)), 2),
    ("Relu", {}, lambda x: np.maximum(x, 0), 0),
    ("LeakyRelu", {"alpha": 0.125}, lambda x: np.where(x < 0, x / 8, x), 0.5),
    ("ThresholdedRelu", {"alpha": 1.0}, lambda x: np.where(x > 1, x, 0), 0),
    ("Elu", {"alpha": 1.5}, lambda x: _expm1_below(x, 1.5), 3),
    ("Celu", {"alpha": 2.0}, lambda x: _expm1_below(x, 2, 2), 3),
    ("Selu", {"alpha": 1.5, "gamma": 1.25}, lambda x: W(1.25) * _expm1_below(x, 1.5), 4),
    ("HardSigmoid", {"alpha": 0.25}, lambda x: np.clip(x / 4 + W(0.5), 0, 1), 1),
    ("Shrink", {"bias": 0.5, "lambd": 1.0}, lambda x: np.where(abs(x) > 1, x - np.sign(x) / 2, 0), 0.5),
    ("IsNaN", {}, np.isnan, 0),
    ("IsInf", {}, np.isinf, 0),
]  # fmt: skip
"""Operator, attributes, what it is, and how many units in the last place it may be off."""

ABSOLUTE: list[tuple[str, dict[str, Any], Callable[[Array], Array]]] = [
    ("Gelu", {}, _gelu),
    ("Gelu", {"approximate": "tanh"}, _gelu_tanh),
    ("HardSwish", {}, lambda x: x * np.clip(x / 6 + W(0.5), 0, 1)),
    ("Mish", {}, lambda x: x * np.tanh(_softplus(x))),
]
"""Products whose error is one of the number that is multiplied: right to 2e-7 of it."""


PAIRS: list[tuple[str, dict[str, Any], Callable[[Array, Array], Array], float]] = [
    ("Add", {}, np.add, 0.5),
    ("Sub", {}, np.subtract, 0.5),
    ("Mul", {}, np.multiply, 0.5),
    ("Div", {}, np.divide, 0.5),
    ("Max", {}, np.maximum, 0),
    ("Min", {}, np.minimum, 0),
    ("Pow", {}, np.power, 1),
    ("Mod", {"fmod": 1}, np.fmod, 0.5),
    ("PRelu", {}, lambda x, y: np.where(x < 0, x * y, x), 0.5),
    ("Less", {}, np.less, 0),
    ("LessOrEqual", {}, np.less_equal, 0),
    ("Equal", {}, np.equal, 0),
    ("Greater", {}, np.greater, 0),
    ("GreaterOrEqual", {}, np.greater_equal, 0),
]


def element_type(dtype: Any) -> int:
    return helper.np_dtype_to_tensor_dtype(np.dtype(dtype))


def accepted(functions: list[Any], dtype: Any) -> list[Any]:
    """Those of the functions that ONNX defines for the type."""
    name = f"tensor({np.dtype(dtype).name})"
    return [
        f
        for f in functions
        if name in defs.get_schema(f[0], 22).type_constraints[0].allowed_type_strs
    ]


def all_of(functions: list[Any], inputs: dict[str, Any], kinds: list[Any], name: str) -> Model:
    """One model in which each function of the inputs is an output, called after its number."""
    nodes = [
        node(op, [*inputs], [f"y{k}"], name=f"{op} {k}", **attributes)
        for k, (op, attributes, *_) in enumerate(functions)
    ]
    outputs = [value(f"y{k}", ["N"], kind) for k, kind in enumerate(kinds)]
    proto = model(nodes, [value(n, ["N"], d) for n, d in inputs.items()], outputs, opset=22)
    return parsed(proto, name)


def in_every_lane(*x: Array) -> list[Array]:
    """The numbers, three times over and one more, such that each comes into every part of a row."""
    return [np.concatenate([v, v, v, v[:1]]) for v in x]


def distance(found: Array, wanted: Array, dtype: Any) -> Array:
    """Units in the last place between them: 0 where both are NaN or the same infinity, else inf there."""
    if found.dtype == np.bool_:
        return (found != wanted).astype(float)
    info = np.finfo(dtype)
    with np.errstate(all="ignore"):
        rounded = wanted.astype(dtype)
        same = (found == rounded) | (np.isnan(found) & np.isnan(wanted))
        # Infinity is one step beyond the largest number.
        limit = W(info.max) + W(np.spacing(info.max))
        a = np.where(np.isinf(found), np.copysign(limit, found), found.astype(W))
        b = np.where(np.isinf(rounded), np.copysign(limit, wanted), wanted)
        unit = np.spacing(np.abs(np.clip(b.astype(dtype), -info.max, info.max))).astype(W)
        off = np.abs(a - b) / unit
    return np.where(same, 0, np.where(np.isnan(found) | np.isnan(wanted), np.inf, off)).astype(
        float
    )


@pytest.fixture(scope="module")
def models() -> dict[str, Model]:
    """One for each type and number of inputs, all compiled together."""
    made: dict[str, Model] = {}
    for dtype in (np.float32, np.float64):
        name = dtype.__name__
        kinds = [np.bool_ if op.startswith("Is") else dtype for op, *_ in UNARY]
        made[f"unary {name}"] = all_of(UNARY, {"x": dtype}, kinds, f"unary_{name}")
        made[f"absolute {name}"] = all_of(
            ABSOLUTE, {"x": dtype}, [dtype] * len(ABSOLUTE), f"absolute_{name}"
        )
        compares = {"Less", "LessOrEqual", "Equal", "Greater", "GreaterOrEqual"}
        kinds = [np.bool_ if op in compares else dtype for op, *_ in PAIRS]
        made[f"pairs {name}"] = all_of(PAIRS, {"x": dtype, "y": dtype}, kinds, f"pairs_{name}")
    for dtype in INTEGERS:
        name = dtype.__name__
        functions = accepted(ARITHMETIC, dtype)
        made[f"arithmetic {name}"] = all_of(
            functions, {"x": dtype, "y": dtype}, [dtype] * len(functions), f"arithmetic_{name}"
        )
        functions = accepted(INTEGER, dtype)
        made[f"integer {name}"] = all_of(
            functions, {"x": dtype}, [dtype] * len(functions), f"integer_{name}"
        )
    for dtype in (np.float32, np.float64):
        casts = [("Cast", {"to": element_type(t)}) for t in INTEGERS]
        made[f"casts {dtype.__name__}"] = all_of(
            casts, {"x": dtype}, INTEGERS, f"casts_{dtype.__name__}"
        )
    return made


@pytest.fixture(scope="module", params=ISAS, ids=["baseline", "avx2", "native"])
def library(
    request: pytest.FixtureRequest,
    models: dict[str, Model],
    tmp_path_factory: pytest.TempPathFactory,
) -> Compiled:
    folder = tmp_path_factory.mktemp("special")
    return Compiled(list(models.values()), folder, flags=[*FLAGS, *request.param])


Evaluate = Callable[[str, dict[str, Array]], dict[str, Array]]


@pytest.fixture
def compiled(models: dict[str, Model], library: Compiled) -> Evaluate:
    return lambda name, inputs: library.run(list(models).index(name), inputs)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_functions(compiled: Evaluate, dtype: Any) -> None:
    (x,) = in_every_lane(numbers(dtype))
    outputs = compiled(f"unary {dtype.__name__}", {"x": x})
    failures = []
    for (op, _, reference, limit), found in zip(UNARY, outputs.values(), strict=True):
        wanted = wide(reference)(x)
        off = distance(found, wanted, dtype)
        failures += report(op, off, limit, found, wanted, x)
    assert not failures, "\n".join(failures)


def report(op: str, off: Array, limit: float, found: Array, wanted: Array, *x: Array) -> list[str]:
    """The worst place, where it is worse than the limit."""
    k = int(np.argmax(off))
    if off[k] <= limit:
        return []
    given = ", ".join(repr(v[k]) for v in x)
    return [f"{op}({given}) = {found[k]!r}, not {wanted[k]!r}: {off[k]:.3g} units"]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_products_with_a_function(compiled: Evaluate, dtype: Any) -> None:
    (x,) = in_every_lane(numbers(dtype))
    outputs = compiled(f"absolute {dtype.__name__}", {"x": x})
    failures = []
    for (op, _, reference), found in zip(ABSOLUTE, outputs.values(), strict=True):
        wanted = wide(reference)(x)
        with np.errstate(all="ignore"):
            off = np.abs(found - wanted) / np.maximum(np.abs(x), np.finfo(dtype).tiny)
        same = (found == wanted.astype(dtype)) | (np.isnan(found) & np.isnan(wanted))
        off = np.where(same, 0, np.where(np.isnan(off), np.inf, off)).astype(float)
        failures += report(op, off / np.finfo(dtype).eps, 2, found, wanted, x)
    assert not failures, "\n".join(failures)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gelu_vanishes_far_below_zero(compiled: Evaluate, dtype: Any) -> None:
    outputs = compiled(f"absolute {dtype.__name__}", {"x": np.array([-1e3, -np.inf] * 20, dtype)})
    for name in ("y0", "y1"):
        assert np.all(outputs[name] == 0)
        assert np.all(np.signbit(outputs[name]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_functions_of_two(compiled: Evaluate, dtype: Any) -> None:
    one = numbers(dtype)
    x, y = (a.ravel() for a in np.meshgrid(one, one))
    outputs = compiled(f"pairs {dtype.__name__}", {"x": x, "y": y})
    failures = []
    for (op, _, reference, limit), found in zip(PAIRS, outputs.values(), strict=True):
        wanted = wide(reference)(x, y)
        off = distance(found, wanted, dtype)
        failures += report(op, off, limit, found, wanted, x, y)
    assert not failures, "\n".join(failures)


# -- integers --------------------------------------------------------------------------------------

INTEGERS: list[Any] = [
    np.int8,
    np.uint8,
    np.int16,
    np.uint16,
    np.int32,
    np.uint32,
    np.int64,
    np.uint64,
]


def _div(a: int, b: int) -> int:
    return 0 if b == 0 else abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def _pow(a: int, b: int) -> int:
    if b >= 0:
        return pow(a, b, 1 << 64)
    return 1 if a == 1 else (-1 if b % 2 else 1) if a == -1 else 0


ARITHMETIC: list[tuple[str, dict[str, Any], Callable[[int, int, int], int]]] = [
    ("Add", {}, lambda a, b, bits: a + b),
    ("Sub", {}, lambda a, b, bits: a - b),
    ("Mul", {}, lambda a, b, bits: a * b),
    ("Div", {}, lambda a, b, bits: _div(a, b)),
    ("Mod", {}, lambda a, b, bits: 0 if b == 0 else a % b),
    ("Mod", {"fmod": 1}, lambda a, b, bits: 0 if b == 0 else a - b * _div(a, b)),
    ("Pow", {}, lambda a, b, bits: _pow(a, b)),
    ("Max", {}, lambda a, b, bits: max(a, b)),
    ("Min", {}, lambda a, b, bits: min(a, b)),
    ("BitShift", {"direction": "LEFT"}, lambda a, b, bits: a << b if b < bits else 0),
    ("BitShift", {"direction": "RIGHT"}, lambda a, b, bits: a >> min(b, bits)),
]
"""What wraps around to the width of the type. Dividing by zero gives zero."""


def wrapped(number: int, dtype: Any) -> int:
    """The number that its lowest bits are."""
    info = np.iinfo(dtype)
    return (number - info.min) % (1 << info.bits) + info.min


def _shrink(a: int, dtype: Any) -> int:
    """Computed in double, truncated, cut to the type's limits."""
    moved = math.trunc(a + 1.5) if a < -2.5 else math.trunc(a - 1.5) if a > 2.5 else 0
    return min(max(moved, np.iinfo(dtype).min), np.iinfo(dtype).max)


INTEGER: list[tuple[str, dict[str, Any], Callable[[int, Any], int]]] = [
    ("Abs", {}, lambda a, dtype: wrapped(abs(a), dtype)),
    ("Neg", {}, lambda a, dtype: wrapped(-a, dtype)),
    ("Sign", {}, lambda a, dtype: (a > 0) - (a < 0)),
    ("Relu", {}, lambda a, dtype: max(a, 0)),
    ("Shrink", {"bias": 1.5, "lambd": 2.5}, _shrink),
]


def integers(dtype: Any) -> Array:
    info = np.iinfo(dtype)
    some = [0, 1, 2, 3, 5, 7, 8, 31, 33, 63, 64, 65, 100, info.max - 1, info.max]
    some += [-1, -2, -3, -7, -100, info.min + 1, info.min] if info.min else []
    return np.array(some, dtype)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integer_arithmetic(compiled: Evaluate, dtype: Any) -> None:
    one = integers(dtype)
    x, y = (a.ravel() for a in np.meshgrid(one, one))
    functions = accepted(ARITHMETIC, dtype)
    outputs = compiled(f"arithmetic {dtype.__name__}", {"x": x, "y": y})
    bits = np.iinfo(dtype).bits
    for (op, attributes, reference), found in zip(functions, outputs.values(), strict=True):
        pairs = zip(x.tolist(), y.tolist(), strict=True)
        wanted = [wrapped(reference(a, b, bits), dtype) for a, b in pairs]
        where = [k for k, w in enumerate(wanted) if w != found[k]]
        shown = [(x[k], y[k], found[k], wanted[k]) for k in where[:4]]
        assert not where, f"{op} {attributes}: {shown}"


@pytest.mark.parametrize("dtype", INTEGERS)
def test_functions_of_integers(compiled: Evaluate, dtype: Any) -> None:
    (x,) = in_every_lane(integers(dtype))
    outputs = compiled(f"integer {dtype.__name__}", {"x": x})
    for (op, _, reference), found in zip(accepted(INTEGER, dtype), outputs.values(), strict=True):
        wanted = [reference(a, dtype) for a in x.tolist()]
        assert found.tolist() == wanted, op


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_casts_saturate(compiled: Evaluate, dtype: Any) -> None:
    limits = [
        float(v) + d
        for t in INTEGERS
        for v in (np.iinfo(t).min, np.iinfo(t).max)
        for d in (-1, 0, 1)
    ]
    x = np.concatenate([numbers(dtype), np.array(limits, dtype)])
    outputs = compiled(f"casts {dtype.__name__}", {"x": x})
    for kind, found in zip(INTEGERS, outputs.values(), strict=True):
        info = np.iinfo(kind)
        wanted = [
            0
            if math.isnan(v)
            else info.max
            if v >= info.max
            else info.min
            if v <= info.min
            else int(v)
            for v in x.tolist()
        ]
        assert found.tolist() == wanted, kind.__name__


def test_the_interpreter_agrees(models: dict[str, Model]) -> None:
    """NumPy gives what the tables say, so that folded constants are what code computes."""
    for dtype in INTEGERS:
        one = integers(dtype)
        x, y = (a.ravel() for a in np.meshgrid(one, one))
        name = dtype.__name__
        outputs = evaluate(models[f"arithmetic {name}"].graph, {"x": x, "y": y})
        functions = accepted(ARITHMETIC, dtype)
        for (op, _, reference), found in zip(functions, outputs.values(), strict=True):
            pairs = zip(x.tolist(), y.tolist(), strict=True)
            wanted = [wrapped(reference(a, b, np.iinfo(dtype).bits), dtype) for a, b in pairs]
            assert found.tolist() == wanted, (op, name)
        outputs = evaluate(models[f"integer {name}"].graph, {"x": one})
        for (op, _, integer), found in zip(accepted(INTEGER, dtype), outputs.values(), strict=True):
            assert found.tolist() == [integer(a, dtype) for a in one.tolist()], (op, name)
    for dtype in (np.float32, np.float64):
        x = numbers(dtype)
        outputs = evaluate(models[f"unary {dtype.__name__}"].graph, {"x": x})
        for (op, _, unary, _), found in zip(UNARY, outputs.values(), strict=True):
            if found.dtype != np.bool_:
                assert np.all(distance(found, wide(unary)(x), dtype) <= 8), op


# -- along rows ------------------------------------------------------------------------------------


def _softmax(x: Array) -> Array:
    e = np.exp(x - np.max(x, axis=1, keepdims=True))
    return e / np.sum(e, axis=1, keepdims=True)


def _log_sum_exp(x: Array) -> Array:
    top = np.max(x, axis=1, keepdims=True)
    top = np.where(np.isinf(top), 0, top)
    return np.log(np.sum(np.exp(x - top), axis=1, keepdims=True)) + top


def _log_softmax(x: Array) -> Array:
    shifted = x - np.max(x, axis=1, keepdims=True)
    return shifted - np.log(np.sum(np.exp(shifted), axis=1, keepdims=True))


ALONG: list[tuple[str, dict[str, Any], Callable[[Array], Array]]] = [
    ("ReduceMax", {}, lambda x: np.max(x, axis=1, keepdims=True)),
    ("ReduceMin", {}, lambda x: np.min(x, axis=1, keepdims=True)),
    ("ReduceSum", {}, lambda x: np.sum(x, axis=1, keepdims=True)),
    ("ReduceProd", {}, lambda x: np.prod(x, axis=1, keepdims=True)),
    ("ReduceL2", {}, lambda x: np.sqrt(np.sum(x * x, axis=1, keepdims=True))),
    ("ReduceLogSumExp", {}, _log_sum_exp),
    ("Softmax", {"axis": 1}, _softmax),
    ("LogSoftmax", {"axis": 1}, _log_softmax),
]


def rows(length: int) -> Array:
    """Rows of numbers in which some are special: at the beginning, in the middle, at the end, all."""
    made = []
    for special in (np.inf, -np.inf, np.nan, 1e15, -1e15, 0.0):
        for where in ([0], [length // 2], [length - 1], range(length)):
            row = np.sin(np.arange(length, dtype=np.float32))
            row[list(where)] = special
            made.append(row)
    made.append(np.where(np.arange(length) % 2, np.inf, -np.inf).astype(np.float32))
    return np.array(made)


@pytest.mark.parametrize("flags", ISAS, ids=["baseline", "avx2", "native"])
def test_rows(flags: tuple[str, ...], tmp_path: Path) -> None:
    nodes, tensors = [], [tensor("axes", np.array([1], np.int64))]
    for k, (op, attributes, _) in enumerate(ALONG):
        given = ["x", "axes"] if op.startswith("Reduce") else ["x"]
        nodes.append(node(op, given, [f"y{k}"], name=op, **attributes))
    networks, inputs = [], []
    for length in (1, 5, 37):
        outputs = [
            value(f"y{k}", ["N", 1 if op.startswith("Reduce") else length])
            for k, (op, *_) in enumerate(ALONG)
        ]
        proto = model(nodes, [value("x", ["N", length])], outputs, tensors)
        networks.append(parsed(proto, f"rows_{length}"))
        inputs.append(rows(length))
    library = Compiled(networks, tmp_path, flags=[*FLAGS, *flags])
    failures = []
    for k, x in enumerate(inputs):
        for (op, _, reference), found in zip(ALONG, library.run(k, {"x": x}).values(), strict=True):
            with np.errstate(all="ignore"):
                wanted = reference(x.astype(W)).astype(np.float32)
                np.testing.assert_array_equal(np.isnan(found), np.isnan(wanted), f"{op} {x.shape}")
                close = (found == wanted) | (np.abs(found - wanted) <= 1e-5 * (1 + np.abs(wanted)))
            failures += [
                f"{op}({x[row]}) = {found[row]}, not {wanted[row]}"
                for row in np.flatnonzero(~(close | np.isnan(wanted)).all(axis=1))
            ]
    assert not failures, "\n".join(failures)
