"""Models compiled with ``-ffast-math``, in a process of its own (a helper of ``test_fast_math.py``).

A library that g++ links with that flag makes the whole thread flush denormals to zero; the tests that run
after it must not notice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import numpy as np
from compiled import WARNINGS, Compiled
from onnx_models import model, node, tensor, value
from operator_case import Case
from operator_cases import CASES
from operator_cases_kernels import CASES as KERNEL_CASES
from small_models import attention, cnn, control, mlp, parsed, rnn, selection

from sofie_root.frontends.onnx import from_proto
from sofie_root.model import Model, load

Array = np.ndarray[Any, Any]

TAGGER = Path(__file__).parent.parent / "tutorials" / "tagger.onnx"

_FUNCTIONS = """
Acosh Asin Asinh Atan Atanh AveragePool BatchNormalization Cast Ceil Celu Cos Div Elu Erf Exp Floor GRU Gelu
GlobalAveragePool GroupNormalization HardSigmoid HardSwish InstanceNormalization LRN LSTM LayerNormalization
Log LogSoftmax LpNormalization MaxPool MeanVarianceNormalization Mish Mod Pow QuantizeLinear RNN Reciprocal
ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin Round Selu Sigmoid Sin Softmax
Softplus Softsign Sqrt Swish Tan Tanh ThresholdedRelu
"""
FUNCTIONS = _FUNCTIONS.split()
"""Operators that round, divide, or call functions: for each the first case of float32."""


def cases() -> list[Case]:
    """One case of each operator of the list."""
    every = [*CASES, *KERNEL_CASES]
    found = {c.op_type: c for c in reversed(every) if f"_{np.float32.__name__}_" in c.id}
    half = next(c for c in every if c.op_type == "Exp" and "float16" in c.id)
    double = next(c for c in every if c.op_type == "Erf" and "float64" in c.id)
    return [*(found[op] for op in FUNCTIONS), half, double]


def networks() -> dict[str, tuple[Model, dict[str, Array]]]:
    """Small networks with what they are run on."""
    rng = np.random.default_rng(8)

    def draw(*shape: int) -> Array:
        return rng.standard_normal(shape, np.float32)

    tagger = load(TAGGER)
    shapes = {
        n: [d if isinstance(d, int) else 23 for d in t.shape] for n, t in tagger.inputs.items()
    }
    return {
        "mlp": (mlp(), {"x": draw(9, 16)}),
        "cnn": (cnn("N"), {"x": draw(3, 2, 8, 8)}),
        "rnn": (rnn(), {"x": draw(5, 2, 3)}),
        "attention": (attention(), {"x": draw(3, 21, 12)}),
        "selection": (selection(), {"x": draw(50)}),
        "control": (control(), {"x": draw(6, 4), "steps": np.array(5)}),
        "sigmoid by parts": (by_parts(), {"x": np.linspace(-200, 200, 37, dtype=np.float32)}),
        "tagger": (tagger, {n: draw(*shape) for n, shape in shapes.items()}),
    }


def by_parts() -> Model:
    """``1 / (1 + exp(-x))``: where the exponential overflows, the sigmoid is 0."""
    nodes = [
        node("Neg", ["x"], ["n"], name="negative"),
        node("Exp", ["n"], ["e"], name="exponential"),
        node("Add", ["e", "one"], ["s"], name="sum"),
        node("Div", ["one", "s"], ["y"], name="quotient"),
    ]
    proto = model(nodes, [value("x", ["N"])], [value("y", ["N"])], [tensor("one", np.float32(1))])
    return parsed(proto, "by_parts")


def mask(limit: float) -> Model:
    """Self-attention in which the negative scores are replaced by ``limit``."""
    nodes = [
        node("Transpose", ["x"], ["t"], name="transpose", perm=[0, 2, 1]),
        node("MatMul", ["x", "t"], ["s"], name="scores"),
        node("Greater", ["s", "zero"], ["keep"], name="keep"),
        node("Where", ["keep", "s", "limit"], ["m"], name="mask"),
        node("Softmax", ["m"], ["p"], name="softmax"),
        node("MatMul", ["p", "x"], ["y"], name="mix"),
    ]
    tensors = [tensor("zero", np.float32(0)), tensor("limit", np.float32(limit))]
    proto = model(nodes, [value("x", ["N", 6, 4])], [value("y", ["N", 6, 4])], tensors)
    return parsed(proto, "masked")


def added_mask() -> Model:
    """A softmax without its second score."""
    nodes = [
        node("Add", ["x", "m"], ["a"], name="add"),
        node("Softmax", ["a"], ["y"], name="softmax"),
    ]
    tensors = [tensor("m", np.array([0, -np.inf, 0], np.float32))]
    proto = model(nodes, [value("x", ["N", 3])], [value("y", ["N", 3])], tensors)
    return parsed(proto, "added_mask")


def one_node(kind: Any, op: str, *constants: float) -> Model:
    """A network of x[N] that gives y[N]."""
    tensors = [tensor(f"c{k}", np.float32(c)) for k, c in enumerate(constants)]
    nodes = [node(op, ["x", *(t.name for t in tensors)], ["y"], name=f"the {op}")]
    proto = model(nodes, [value("x", ["N"])], [value("y", ["N"], kind)], tensors)
    return parsed(proto, op.lower())


def with_infinity() -> dict[str, tuple[Model, dict[str, Array], str]]:
    """Networks that need NaN or infinity, what they are run on, and what is said of them."""
    numbers = {"x": np.array([1, -np.inf, np.nan, np.inf], np.float32)}
    rows = {"x": np.array([[1, 2, 3], [-1, 0, 1]], np.float32)}
    points = {"x": np.random.default_rng(1).standard_normal((2, 6, 4)).astype(np.float32)}
    return {
        "IsNaN": (one_node(np.bool_, "IsNaN"), numbers, "the IsNaN tests for NaN"),
        "IsInf": (one_node(np.bool_, "IsInf"), numbers, "the IsInf tests for infinity"),
        "mask": (mask(-np.inf), points, "mask has the constant -inf"),
        "added mask": (added_mask(), rows, "has constants that are NaN or infinite"),
    }


def without_infinity() -> dict[str, Model]:
    """Networks that look alike and do not."""
    return {
        "finite mask": mask(-1e9),
        "one limit": one_node(np.float32, "Clip", -1, np.inf),
        "logarithm of a sum": one_node(np.float32, "ReduceLogSumExp"),
    }


Job = tuple[Model, dict[str, Array]]


def ordinary() -> list[Job]:
    """The cases, then the networks."""
    jobs = [(Model(from_proto(case.model())), case.feeds) for case in cases()]
    return [*jobs, *networks().values()]


def refused() -> list[Job]:
    """Networks that only compile where infinity is allowed."""
    return [(network, inputs) for network, inputs, _ in with_infinity().values()]


def run(
    compiler: str,
    flags: Sequence[str],
    folder: Path,
    jobs: Callable[[], list[Job]],
    weights: Literal["dat", "embedded"] = "embedded",
) -> list[dict[str, Array] | str]:
    """What each job gives, or throws, compiled and linked with these flags."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(_run, compiler, flags, folder, jobs, weights).result()


def _run(
    compiler: str,
    flags: Sequence[str],
    folder: Path,
    jobs: Callable[[], list[Job]],
    weights: Literal["dat", "embedded"],
) -> list[dict[str, Array] | str]:
    chosen = jobs()
    fixed = ("-std=c++17", "-shared", "-fPIC", "-fvisibility=hidden", *WARNINGS)
    library = Compiled([m for m, _ in chosen], folder, compiler, [*fixed, *flags], weights)
    results: list[dict[str, Array] | str] = []
    for k, (_, inputs) in enumerate(chosen):
        try:
            results.append(library.run(k, inputs))
        except RuntimeError as error:
            results.append(str(error))
    return results
