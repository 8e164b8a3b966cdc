"""What lowering makes of a graph: nests, epilogues, operands, outputs, and the memory plan."""

from __future__ import annotations

import random as python_random
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compiled import FLAGS, Compiled
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_names import kernel_name
from onnx_models import assert_same, model, node, random, tensor, value
from small_models import attention, cnn, evil, mlp, parsed, rnn, selection, weight

from sofie_root.ir.dim import Atom, Dim, Symbol, as_poly, ceildiv, maximum, symbol, value_of
from sofie_root.ir.dtype import DType
from sofie_root.model import Model
from sofie_root.program.interpret import evaluate as interpret
from sofie_root.program.nest import leaves
from sofie_root.program.operation import Operation
from sofie_root.program.program import Buffer
from sofie_root.schedule.inline import reads, writes
from sofie_root.schedule.memory import ALIGNMENT, Lifetime, Plan, offset_symbol, plan
from sofie_root.schedule.schedule import Schedule
from sofie_root.targets.cpu.nest import Nest, Step

GOLDEN = Path(__file__).parent / "golden"


def scheduled(
    nodes: list[Any], inputs: Mapping[str, Any], outputs: list[str], **tensors: Any
) -> Schedule:
    """The schedule of a graph; inputs are shapes of floats."""
    ins = [value(name, shape) for name, shape in inputs.items()]
    constants = [tensor(name, array) for name, array in tensors.items()]
    return parsed(model(nodes, ins, outputs, constants), "test").schedule


def kernels(schedule: Schedule) -> list[Operation]:
    return [step for step in schedule.steps if isinstance(step, Operation)]


def names(schedule: Schedule) -> list[str]:
    """Each step as one word: the kernel's name, or what else it is."""
    return [
        kernel_name(s) if isinstance(s, Operation) else type(s).__name__ for s in schedule.steps
    ]


# -- text ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [mlp, cnn, attention, selection], ids=lambda m: m.__name__)
def test_schedule_text(make: Any, update_golden: bool) -> None:
    """The text form is what it was. After a change that is meant: ``pytest --update-golden``."""
    path = GOLDEN / f"{make.__name__}.txt"
    text = f"{make().schedule}\n"
    if update_golden:
        path.write_text(text)
    assert text == path.read_text(), f"differs from {path}; pytest --update-golden if it should"


def test_the_example_of_the_design() -> None:
    schedule = mlp().schedule
    assert names(schedule) == ["gemm", "gemm", "Nest"]
    one, two = kernels(schedule)
    assert one.epilogue is not None
    assert two.epilogue is not None
    assert str(one.epilogue.body).startswith("relu((acc + b1[")
    assert str(two.epilogue.body).startswith("(acc + b2[")
    assert one.origin == ("/fc1/Gemm", "/act1/Relu")
    assert schedule.plan.arena_bytes({"N": 100}) == 100 * 32 * 4 + 2048  # 20 * 100, in blocks of 64
    assert [str(s) for s in schedule.symbols] == ["N"]


# -- nests -----------------------------------------------------------------------------------------

ROOT_TWO, ONE, HALF = np.float32(1.4142135), np.float32(1), np.float32(0.5)
CUBE, SLOPE = np.float32(0.044715), np.float32(0.7978846)
GAIN, BIAS = weight(12), weight(12, start=5)
AXIS = np.array([-1])

ONE_NEST: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "Softmax": ([node("Softmax", ["x"], ["y"])], {}),
    "Softmax, axis 1": ([node("Softmax", ["x"], ["y"], axis=1)], {}),
    "LogSoftmax": ([node("LogSoftmax", ["x"], ["y"])], {}),
    "LayerNormalization": (
        [node("LayerNormalization", ["x", "gain", "bias"], ["y"])],
        {"gain": GAIN, "bias": BIAS},
    ),
    "layer normalisation by parts": (
        [
            node("ReduceMean", ["x", "axis"], ["m"]),
            node("Sub", ["x", "m"], ["c"]),
            node("Mul", ["c", "c"], ["s"]),
            node("ReduceMean", ["s", "axis"], ["v"]),
            node("Add", ["v", "half"], ["e"]),
            node("Sqrt", ["e"], ["d"]),
            node("Div", ["c", "d"], ["n"]),
            node("Mul", ["n", "gain"], ["g"]),
            node("Add", ["g", "bias"], ["y"]),
        ],
        {"axis": AXIS, "half": HALF, "gain": GAIN, "bias": BIAS},
    ),
    "GELU by parts": (
        [
            node("Div", ["x", "root"], ["a"]),
            node("Erf", ["a"], ["e"]),
            node("Add", ["e", "one"], ["p"]),
            node("Mul", ["x", "p"], ["m"]),
            node("Mul", ["m", "half"], ["y"]),
        ],
        {"root": ROOT_TWO, "one": ONE, "half": HALF},
    ),
    "GELU by tanh": (
        [
            node("Mul", ["x", "x"], ["x2"]),
            node("Mul", ["x2", "x"], ["x3"]),
            node("Mul", ["x3", "cube"], ["c"]),
            node("Add", ["x", "c"], ["s"]),
            node("Mul", ["s", "slope"], ["u"]),
            node("Tanh", ["u"], ["t"]),
            node("Add", ["t", "one"], ["p"]),
            node("Mul", ["x", "p"], ["m"]),
            node("Mul", ["m", "half"], ["y"]),
        ],
        {"cube": CUBE, "slope": SLOPE, "one": ONE, "half": HALF},
    ),
    "views": (
        [
            node("Slice", ["x", "start", "end", "axis"], ["a"]),
            node("Unsqueeze", ["a", "two"], ["b"]),
            node("Expand", ["b", "shape"], ["c"]),
            node("Transpose", ["c"], ["d"], perm=[0, 3, 2, 1]),
            node("Identity", ["d"], ["e"]),
            node("Exp", ["e"], ["y"]),
        ],
        {
            "start": np.array([2]),
            "end": np.array([8]),
            "axis": AXIS,
            "two": np.array([2]),
            "shape": np.array([1, 5, 3, 6]),
        },
    ),
    "mask": (
        [
            node("Greater", ["x", "half"], ["m"]),
            node("Not", ["m"], ["n"]),
            node("Where", ["n", "x", "one"], ["w"]),
            node("Clip", ["w", "", "one"], ["y"]),
        ],
        {"half": HALF, "one": ONE},
    ),
}


@pytest.mark.parametrize("name", ONE_NEST)
@pytest.mark.parametrize("batch", [3, "N"], ids=["static", "symbolic"])
def test_one_nest(name: str, batch: Any) -> None:
    """All of these end as one nest whose temporaries never reach memory."""
    nodes, tensors = ONE_NEST[name]
    schedule = scheduled(nodes, {"x": [batch, 5, 12]}, ["y"], **tensors)
    assert names(schedule) == ["Nest"], str(schedule)
    assert schedule.plan.total == 0, str(schedule)


def test_a_row_that_is_too_long_for_the_stack_is_one_row_in_the_arena() -> None:
    schedule = scheduled([node("Softmax", ["x"], ["y"])], {"x": ["N", 5000]}, ["y"])
    assert names(schedule) == ["Nest"]
    assert schedule.plan.arena_bytes({"N": 1000}) <= 5000 * 4 + ALIGNMENT


# -- kernels ---------------------------------------------------------------------------------------

EPILOGUES: dict[str, tuple[list[Any], dict[str, Any], dict[str, Any], str]] = {
    "bias, activation, residual": (
        [
            node("Gemm", ["x", "w", "b"], ["h"]),
            node("Relu", ["h"], ["r"]),
            node("Add", ["r", "x"], ["y"]),
        ],
        {"x": ["N", 8]},
        {"w": weight(8, 8), "b": weight(8)},
        "(relu((acc + b[j])) + x[i, j])",
    ),
    "convolution, normalisation, residual, activation": (
        [
            node("Conv", ["x", "w"], ["h"], pads=[1] * 4),
            node("BatchNormalization", ["h", "s", "b", "m", "v"], ["n"]),
            node("Add", ["n", "x"], ["a"]),
            node("Relu", ["a"], ["y"]),
        ],
        {"x": ["N", 8, 5, 5]},
        {
            "w": weight(8, 8, 3, 3),
            **{n: weight(8, start=k) + (n == "v") for k, n in enumerate("sbmv")},
        },
        "relu(((acc + BIAS[c]) + x[i, c, j, k]))",
    ),
    "two operands, scale and mask": (
        [
            node("MatMul", ["x", "z"], ["h"]),
            node("Mul", ["h", "half"], ["a"]),
            node("Add", ["a", "m"], ["y"]),
        ],
        {"x": ["N", 7, 5], "z": ["N", 5, 7], "m": ["N", 1, 7]},
        {"half": HALF},
        "((acc * 0.5) + m[n, 0, j])",
    ),
    "a reshape on the way": (
        [
            node("MatMul", ["x", "w"], ["h"]),
            node("Reshape", ["h", "shape"], ["r"]),
            node("Sigmoid", ["r"], ["y"]),
        ],
        {"x": ["N", 6]},
        {"w": weight(6, 8), "shape": np.array([-1, 2, 4])},
        "sigmoid(acc)",
    ),
}


@pytest.mark.parametrize("name", EPILOGUES)
def test_pointwise_work_joins_the_kernel(name: str) -> None:
    nodes, inputs, tensors, expected = EPILOGUES[name]
    schedule = scheduled(nodes, inputs, ["y"], **tensors)
    (kernel,) = schedule.steps
    assert isinstance(kernel, Operation)
    assert kernel.epilogue is not None
    found, wanted = str(kernel.epilogue.body), expected
    assert _words(found) == _words(wanted), found


def _words(text: str) -> list[str]:
    """Functions and tensors of an expression without their indices; constants are called alike."""

    words = re.findall(r"[-+*/]|[\w.]+", re.sub(r"\[[^\]]*\]", "", text))
    return ["BIAS" if word.endswith(".bias") else word for word in words]


def test_what_two_read_joins_the_kernel_once() -> None:
    nodes = [
        node("Gemm", ["x", "w", "b"], ["h"]),
        node("Relu", ["h"], ["r"]),
        node("Gemm", ["r", "w"], ["g"]),
        node("Add", ["g", "r"], ["y"]),
    ]
    schedule = scheduled(nodes, {"x": ["N", 8]}, ["y"], w=weight(8, 8), b=weight(8))
    assert names(schedule) == ["gemm", "gemm"], str(schedule)
    assert [k.epilogue is not None for k in kernels(schedule)] == [True, True]


def test_a_kernel_result_that_is_an_output_is_stored_as_it_is() -> None:
    nodes = [node("MatMul", ["x", "w"], ["h"]), node("Relu", ["h"], ["y"])]
    schedule = scheduled(nodes, {"x": ["N", 8]}, ["h", "y"], w=weight(8, 8))
    (kernel,) = kernels(schedule)
    assert kernel.epilogue is None
    assert kernel.outputs == (schedule.program.outputs["h"],)
    assert names(schedule) == ["gemm", "Nest"]


def test_a_long_epilogue_is_refused_with_a_reason() -> None:
    nodes = [node("MatMul", ["x", "w"], ["v0"])]
    nodes += [node("Mul", [f"v{k}", f"v{k}"], [f"v{k + 1}"]) for k in range(8)]
    schedule = scheduled(nodes, {"x": ["N", 8]}, ["v8"], w=weight(8, 8))
    assert any("nodes" in r or "registers" in r for r in schedule.decisions.refused)


def test_transposes_are_strides_of_operands() -> None:
    nodes = [
        node("Transpose", ["a"], ["at"], perm=[0, 2, 1]),
        node("Transpose", ["b"], ["bt"], perm=[2, 0, 1]),
        node("MatMul", ["at", "bt"], ["y"]),
    ]
    schedule = scheduled(nodes, {"a": ["N", 4, 6], "b": [4, 3, "N"]}, ["y"])
    (kernel,) = schedule.steps
    assert isinstance(kernel, Operation)
    a, b = kernel.inputs
    assert (a.buffer, [str(s) for s in a.strides]) == ("a", ["24", "1", "6"])
    assert (b.buffer, [str(s) for s in b.strides]) == ("b", ["1", "3*N", "N"])


def test_split_heads_are_strides_of_operands() -> None:
    """Reshape and Transpose around attention's products copy nothing on the way in."""
    nodes = [
        node("Reshape", ["q", "heads"], ["q4"]),
        node("Reshape", ["k", "heads"], ["k4"]),
        node("Transpose", ["q4"], ["qh"], perm=[0, 2, 1, 3]),
        node("Transpose", ["k4"], ["kh"], perm=[0, 2, 3, 1]),
        node("MatMul", ["qh", "kh"], ["y"]),
    ]
    inputs = {"q": ["N", "T", 24], "k": ["N", "T", 24]}
    schedule = scheduled(nodes, inputs, ["y"], heads=np.array([0, 0, 4, 6]))
    (kernel,) = schedule.steps
    assert isinstance(kernel, Operation)
    assert [operand.buffer for operand in kernel.inputs] == ["q", "k"]
    assert [str(s) for s in kernel.inputs[0].strides][-3:] == ["6", "24", "1"]


def test_concat_is_written_in_place() -> None:
    nodes = [
        node("Exp", ["a"], ["e"]),
        node("Tanh", ["b"], ["t"]),
        node("Concat", ["e", "t"], ["y"], axis=1),
    ]
    schedule = scheduled(nodes, {"a": ["N", 4], "b": ["N", 3]}, ["y"])
    assert schedule.plan.total == 0, str(schedule)
    written = [s.loops() for s in schedule.steps if isinstance(s, Nest)]
    assert {loop.output for loops in written for loop in loops} == {schedule.program.outputs["y"]}


# -- outputs ---------------------------------------------------------------------------------------

SQUARE = 5


def random_model(seed: int) -> Model:
    """A random graph over ``[N, 5, 5]`` in which any value may be an output, an input or constant too."""
    pick = python_random.Random(seed)
    values, nodes = ["x", "z"], []
    tensors = {
        "w": weight(SQUARE, SQUARE, start=seed),
        "k": weight(SQUARE, SQUARE, 3, start=seed + 1),
        "b": weight(SQUARE, start=seed + 2),
        "shape": np.array([0, -1]),
        "back": np.array([0, SQUARE, SQUARE]),
        "last": np.array([2]),
        "from": np.array([2]),
        "to": np.array([2 + SQUARE]),
        "rows": np.array([4, 0, -1, 2, 2]),
    }
    for n in range(pick.randint(2, 9)):
        a, b, new = pick.choice(values[-4:]), pick.choice(values), f"v{n}"
        kind = pick.randrange(16)
        if kind < 5:
            operator = ("Tanh", "Relu", "Neg", "Sigmoid", "Identity")[kind]
            nodes.append(node(operator, [a], [new]))
        elif kind < 8:
            nodes.append(node(("Add", "Mul", "Sub")[kind - 5], [a, b], [new]))
        elif kind == 8:
            nodes.append(node("MatMul", [a, pick.choice(["w", b])], [new]))
        elif kind == 9:
            nodes.append(node("Conv", [a, "k", "b"], [new], pads=[1, 1]))
        elif kind == 10:
            nodes.append(node("Softmax", [a], [new], axis=pick.choice([1, 2])))
        elif kind == 11:
            nodes.append(node("Transpose", [a], [new], perm=[0, 2, 1]))
        elif kind == 12:
            nodes.append(node("ReduceMean", [a, "last"], [new + "m"]))
            nodes.append(node("Sub", [b, new + "m"], [new]))
        elif kind == 13:
            nodes.append(node("Concat", [a, b], [new + "c"], axis=2))
            nodes.append(node("Slice", [new + "c", "from", "to", "last"], [new]))
        elif kind == 14:
            nodes.append(node("Reshape", [a, "shape"], [new + "r"]))
            nodes.append(node("Add", [new + "r", new + "r"], [new + "s"]))
            nodes.append(node("Reshape", [new + "s", "back"], [new]))
        else:
            nodes.append(node("Gather", [a, "rows"], [new], axis=pick.choice([1, 2])))
        values.append(new)
    everything = [*values, *(o for n in nodes for o in n.output), "w", "b"]
    outputs = list(dict.fromkeys([values[-1], *pick.sample(everything, pick.randint(0, 4))]))
    shape = [pick.choice(["N", 3]), SQUARE, SQUARE]
    inputs = [value("x", shape), value("z", shape)]
    constants = [tensor(name, array) for name, array in tensors.items()]
    return parsed(model(nodes, inputs, outputs, constants), f"random_{seed}")


def check_random_models(seeds: range, folder: Path) -> None:
    models = [random_model(seed) for seed in seeds]
    flags = ["-O0" if flag == "-O1" else flag for flag in FLAGS]
    library = Compiled(models, folder, flags=flags)
    for k, network in enumerate(models):
        inputs = {"x": random((3, SQUARE, SQUARE)), "z": random((3, SQUARE, SQUARE), seed=8)}
        try:
            assert_same(library.run(k, inputs), interpret(network.graph, inputs), 1e-4)
        except AssertionError as error:
            raise AssertionError(f"{network.name}: {error}\n{network.schedule}") from error


def test_fusion_keeps_outputs_and_results(tmp_path: Path) -> None:
    check_random_models(range(40), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("start", range(40, 400, 60))
def test_fusion_keeps_outputs_and_results_of_many(start: int, tmp_path: Path) -> None:
    check_random_models(range(start, start + 60), tmp_path)


def test_every_kind_of_output(tmp_path: Path) -> None:
    """Read inside too, an input, a constant, the same value twice, a view of another output."""
    nodes = [
        node("Relu", ["x"], ["inner"]),
        node("Exp", ["inner"], ["last"]),
        node("Identity", ["inner"], ["inner again"]),
        node("Identity", ["x"], ["x again"]),
        node("Transpose", ["last"], ["view"], perm=[1, 0]),
        node("Identity", ["c"], ["c again"]),
        node("Shape", ["x"], ["size"]),
    ]
    outputs = ["inner", "last", "inner again", "x", "x again", "view", "c", "c again", "size"]
    network = parsed(model(nodes, [value("x", ["N", 4])], outputs, [tensor("c", weight(3))]), "o")
    assert list(network.schedule.program.outputs) == outputs
    assert len(set(network.schedule.program.outputs.values())) == len(outputs)
    x = random((3, 4))
    found = Compiled([network], tmp_path).run(0, {"x": x})
    inner = np.maximum(x, 0)
    for name, expected in {
        "inner": inner,
        "last": np.exp(inner),
        "inner again": inner,
        "x": x,
        "x again": x,
        "view": np.exp(inner).T,
        "c": weight(3),
        "c again": weight(3),
        "size": np.array([3, 4]),
    }.items():
        np.testing.assert_allclose(found[name], expected, rtol=1e-6)
        assert found[name].dtype == expected.dtype


# -- memory ----------------------------------------------------------------------------------------


def values_of(plan_: Plan, sizes: Mapping[str, int]) -> tuple[dict[str, int], int]:
    """Byte offsets of all temporaries for these sizes, and the bytes of the arena."""
    known: dict[Atom, int] = {}

    def lookup(atom: Atom) -> int:
        assert isinstance(atom, Symbol)
        return known[atom] if atom in known else sizes[atom.name]

    offsets = {}
    for name, offset in plan_.offsets.items():
        offsets[name] = known[offset_symbol(name)] = int(value_of(offset, lookup))
    return offsets, int(value_of(plan_.total, lookup))


def size_of(dim: Dim, sizes: Mapping[str, int]) -> int:
    return int(value_of(dim, lambda atom: sizes[atom.name]))


def assert_no_overlap(lifetimes: list[Lifetime], plan_: Plan, sizes: Mapping[str, int]) -> None:
    offsets, total = values_of(plan_, sizes)
    assert set(offsets) == {t.buffer.name for t in lifetimes}
    assert plan_.arena_bytes(sizes) == total
    ends = {}
    for t in lifetimes:
        count = size_of(t.buffer.numel, sizes) * t.buffer.dtype.size
        start = offsets[t.buffer.name]
        ends[t.buffer.name] = start + count
        assert start >= 0
        assert start % ALIGNMENT == 0
        assert ends[t.buffer.name] <= total
    for k, one in enumerate(lifetimes):
        for other in lifetimes[:k]:
            if one.first <= other.last and other.first <= one.last:
                a, b = one.buffer.name, other.buffer.name
                empty = ends[a] == offsets[a] or ends[b] == offsets[b]
                assert empty or ends[a] <= offsets[b] or ends[b] <= offsets[a], (a, b, sizes)
    aligned = [-(-(ends[n] - offsets[n]) // ALIGNMENT) * ALIGNMENT for n in offsets]
    assert total <= sum(aligned)


SYMBOLS = ("N", "n_pf", "T")


@st.composite
def extents(draw: st.DrawFn) -> Dim:
    """A number, or an expression of symbols, as sizes of temporaries are."""
    kind = draw(st.integers(0, 5))
    number = draw(st.integers(0, 40))
    if kind == 0:
        return number
    n, m = symbol(draw(st.sampled_from(SYMBOLS))), symbol(draw(st.sampled_from(SYMBOLS)))
    if kind == 1:
        return n
    if kind == 2:
        return n * (number + 1)
    if kind == 3:
        return n * m + number
    if kind == 4:
        return ceildiv(n, number + 1) * m
    return maximum(n, m) + number


@st.composite
def temporaries(draw: st.DrawFn) -> list[Lifetime]:
    found = []
    for k in range(draw(st.integers(0, 12))):
        first = draw(st.integers(0, 10))
        dtype = draw(st.sampled_from([DType.FLOAT, DType.DOUBLE, DType.BOOL, DType.INT64]))
        shape = tuple(draw(st.lists(extents(), max_size=2)))
        last = first + draw(st.integers(0, 4))
        found.append(Lifetime(Buffer(f"t{k}", dtype, shape), first, last))
    return found


@settings(max_examples=150, deadline=None)
@given(temporaries(), st.lists(st.tuples(*[st.integers(0, 70)] * 3), min_size=1, max_size=4))
def test_temporaries_never_overlap(
    lifetimes: list[Lifetime], sizes: list[tuple[int, int, int]]
) -> None:
    known = {next(iter(as_symbol(name))) for name in SYMBOLS}
    planned = plan(lifetimes, known)
    assert planned.growing == ()
    for numbers in sizes:
        assert_no_overlap(lifetimes, planned, dict(zip(SYMBOLS, numbers, strict=True)))


def as_symbol(name: str) -> list[Symbol]:
    return [atom for atom in as_poly(Symbol(name)).atoms if isinstance(atom, Symbol)]


def test_a_size_that_only_the_run_tells_has_memory_of_its_own() -> None:
    buffers = [Buffer("a", DType.FLOAT, (symbol("N"),)), Buffer("b", DType.FLOAT, (symbol("k"),))]
    planned = plan([Lifetime(b, 0, 1) for b in buffers], set(as_symbol("N")))
    assert planned.growing == ("b",)
    assert list(planned.offsets) == ["a"]


def used(schedule: Schedule, k: int, step: Step) -> set[str]:
    """Buffers that a step touches."""
    if isinstance(step, Nest):
        touched = set().union(*(reads(loop) | writes(loop) for loop in step.loops()))
        return touched - set(step.locals)
    return reads(step) | writes(step) | set(schedule.scratch.get(k, ()))


@pytest.mark.parametrize(
    ("make", "symbols"),
    [(mlp, 1), (cnn, 0), (rnn, 2), (attention, 2), (selection, 1), (evil, 1)],
    ids=lambda v: getattr(v, "__name__", ""),
)
@settings(max_examples=25, deadline=None)
@given(numbers=st.tuples(st.integers(0, 90), st.integers(0, 90)))
def test_plans_of_models(make: Any, symbols: int, numbers: tuple[int, int]) -> None:
    schedule = SCHEDULES.setdefault(make.__name__, make().schedule)
    assert len(schedule.symbols) == symbols
    sizes = {s.name: n for s, n in zip(schedule.symbols, numbers, strict=False)}
    touched = [used(schedule, k, step) for k, step in enumerate(schedule.steps)]
    lifetimes = []
    for name in schedule.plan.offsets:
        steps = [k for k, names_ in enumerate(touched) if name in names_]
        lifetimes.append(Lifetime(schedule.program.buffers[name], min(steps), max(steps)))
    assert_no_overlap(lifetimes, schedule.plan, sizes)
    alive = [[t for t in lifetimes if t.first <= k <= t.last] for k in range(len(touched))]
    in_use = [sum(size_of(t.bytes, sizes) for t in ts) for ts in alive]
    assert schedule.live_bytes(sizes) == in_use  # they do not overlap, so the bytes add up
    assert max(in_use) <= schedule.plan.arena_bytes(sizes)


SCHEDULES: dict[str, Schedule] = {}


def test_work_grows_no_faster_than_the_number_of_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Concat of many inputs has a loop for each, none of which may join another's nest."""

    def visits(inputs: int) -> int:
        names = [f"x{k}" for k in range(inputs)]
        given = [value(name, [k % 3 + 1]) for k, name in enumerate(names)]
        concat = model([node("Concat", names, ["y"], axis=0)], given, ["y"])
        count = 0

        def counted(*arguments: Any) -> Any:
            nonlocal count
            count += 1
            return leaves(*arguments)

        monkeypatch.setattr("sofie_root.targets.cpu.nest.leaves", counted)
        assert len(parsed(concat, "test").schedule.steps) == inputs
        return count

    assert 0 < visits(120) < 3 * visits(60)
