"""Small files that ask for much: what they may cost before the model runs, and what is said then."""

from __future__ import annotations

import gc
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, helper, numpy_helper
from onnx_models import model, node, random, tensor, value

import sofie_root
from sofie_root.budget import NODE, VARIABLE, Account, Budget, stage
from sofie_root.errors import BudgetError, InputError, SofieError
from sofie_root.frontends.onnx import from_proto, parse
from sofie_root.model import Model
from sofie_root.passes import optimise
from sofie_root.program import interpret as interpreter
from sofie_root.program import use_def, uses
from sofie_root.program.interpret import evaluate
from sofie_root.schedule import epilogue, inline
from sofie_root.schedule import schedule as schedule_module
from sofie_root.schedule.schedule import schedule
from sofie_root.targets.cpu import nest, order
from sofie_root.targets.cpu.target import CPU

SMALL = Budget(work=200_000_000, memory=16 << 20)
"""A tenth of a second, so that the tests are fast; what they ask for is beyond any budget."""

X = value("x", ("N",))
ONE = np.ones(1, np.float32)


def repeated(
    nodes: list[Any], state: Any, trips: int, then: list[Any], more: list[Any] | None = None
) -> ModelProto:
    """A Loop over a constant state ``s``, which the nodes turn into ``t``; then ``z`` is made of it."""
    body = helper.make_graph(
        [*nodes, node("Identity", ["go"], ["again"])],
        "body",
        [value("i", (), np.int64), value("go", (), np.bool_), value("s", state)],
        [value("again", (), np.bool_), value("t", state), *(more or [])],
    )
    outputs = ["y", *(f"stack{k}" for k in range(len(more or [])))]
    loop = node("Loop", ["trips", "true", "start"], outputs, name="hostile", body=body)
    tensors = [
        tensor("trips", np.array(trips)),
        tensor("true", np.array(True)),
        tensor("start", ONE),
    ]
    return model([loop, *then], [X], ["z"], tensors)


def reduced(op_type: str, *inputs: Any, **attributes: Any) -> ModelProto:
    """One operator on constants, and its sum added to the input."""
    names = [f"i{k}" for k in range(len(inputs))]
    nodes = [
        node(op_type, names, ["y"], name="hostile", **attributes),
        node("Cast", ["y"], ["float"], to=1),
        node("ReduceSum", ["float"], ["sum"], keepdims=0),
        node("Add", ["sum", "x"], ["z"]),
    ]
    return model(nodes, [X], ["z"], [tensor(n, i) for n, i in zip(names, inputs, strict=True)])


SUM = [node("ReduceSum", ["y"], ["sum"]), node("Add", ["sum", "x"], ["z"])]
TOO_MUCH: dict[str, ModelProto] = {
    "Loop of 10^9 iterations": repeated([node("Add", ["s", "s"], ["t"])], (1,), 10**9, SUM),
    "Loop that doubles": repeated([node("Concat", ["s", "s"], ["t"], axis=0)], ("k",), 40, SUM),
    "Loop that stacks": repeated(
        [node("Identity", ["s"], ["t"]), node("Expand", ["s", "wide"], ["o"])],
        (1,),
        10**9,
        [node("ReduceSum", ["stack0"], ["sum"]), node("Add", ["sum", "x"], ["z"])],
        [value("o", (1000,))],
    ),
    "float Range": reduced("Range", np.float32(0), np.float32(1e30), np.float32(1e-30)),
    "double Range": reduced("Range", np.float64(0), np.float64(1e12), np.float64(1)),
    "long Range": reduced("Range", np.array(0), np.array(10**12), np.array(1)),
    "Tile": reduced("Tile", ONE, np.array([10**12])),
    "Expand": reduced("Expand", ONE, np.array([10**6, 10**6])),
    "ConstantOfShape": reduced("ConstantOfShape", np.array([10**12])),
    "Pad": reduced("Pad", ONE, np.array([10**12, 0])),
    "OneHot": reduced(
        "OneHot", np.zeros(9, np.int64), np.array(10**12), np.array([0, 1], np.float32)
    ),
    "Resize": reduced(
        "Resize", np.ones((1, 1, 2, 2), np.float32), np.zeros(0, np.float32),
        np.array([1, 1, 1e6, 1e6], np.float32),
    ),
    "MaxPool of a huge window": reduced(
        "MaxPool", np.ones((1, 1, 4), np.float32), kernel_shape=[10**9], pads=[5 * 10**8] * 2
    ),
    "Conv with huge pads": reduced(
        "Conv", np.ones((1, 1, 4), np.float32), np.ones((1, 1, 1), np.float32),
        pads=[10**12] * 2, strides=[10**12],
    ),
    "HannWindow": reduced("HannWindow", np.array(10**12)),
    "Einsum": reduced(
        "Einsum", *[np.ones((200, 200), np.float32)] * 6, equation="ab,ac,ad,bc,bd,cd->"
    ),
    "RoiAlign": reduced(
        "RoiAlign", random((1, 1, 4, 4)), random((1, 4)), np.array([0]),
        output_height=1000, output_width=1000, sampling_ratio=1000,
    ),
    "NonMaxSuppression": reduced(
        "NonMaxSuppression", random((1, 9000, 4)), random((1, 1, 9000)), np.array([9000])
    ),
    "LSTM": reduced(
        "LSTM", random((50000, 1, 1)), random((1, 256, 1)), random((1, 256, 64)), hidden_size=64
    ),
    "Gather": reduced("Gather", random((1, 30000)), np.zeros(30000, np.int64)),
}  # fmt: skip
TOO_MUCH["Loop that stacks"].graph.initializer.append(tensor("wide", np.array([1000])))


@pytest.mark.parametrize("proto", TOO_MUCH.values(), ids=TOO_MUCH)
def test_what_costs_too_much_is_left_to_the_run_time(proto: ModelProto) -> None:
    """Nothing is computed in advance, the self-test gives up, and the C++ can still be written."""
    hostile = Model(from_proto(proto), budget=SMALL)
    assert any("hostile" in n.name for n in hostile._optimised[0].nodes)
    assert hostile.example is None
    assert "Session" in hostile.header().text
    # A size that does not even fit into 64 bits is no size.
    with stage(SMALL), pytest.raises((BudgetError, InputError)) as caught:
        evaluate(hostile.graph, {"x": np.ones(3, np.float32)})
    assert caught.match("SOFIE_ROOT_BUDGET|hostile.*is no size")


@pytest.mark.parametrize(("size", "dtype"), [(2**40, np.float32), (2**60, np.bool_)])
def test_no_examples_of_huge_inputs(size: int, dtype: Any) -> None:
    huge = Model(
        from_proto(model([node("Identity", ["x"], ["y"])], [value("x", (size,), dtype)], ["y"]))
    )
    assert huge.example is None


def test_a_large_identity_is_not_made_to_learn_its_content() -> None:
    """Only what may be a shape is carried along: a matrix of 1,500 rows is none."""
    proto = model([node("EyeLike", ["x"], ["y"])], [value("x", (1500, 1500), np.int64)], ["y"])
    tracemalloc.start()
    try:
        graph = from_proto(proto)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 5e6
    assert graph.types[graph.outputs["y"]].value is None


def test_a_loop_that_can_be_afforded_is_folded() -> None:
    graph = from_proto(repeated([node("Add", ["s", "s"], ["t"])], (1,), 20, SUM))
    optimised, _ = optimise(graph)
    assert [n.op.name for n in optimised.nodes] == ["Add"]
    assert [a.tolist() for a in optimised.constants.values()] == [[2**20]]


def test_many_small_results_are_not_folded_together_beyond_the_budget() -> None:
    """Each result is small enough; what counts is their sum."""
    nodes, source = [], "x"
    for k in range(200):
        fill = numpy_helper.from_array(np.array([k], np.float32))
        nodes += [
            node("ConstantOfShape", ["shape"], [f"c{k}"], value=fill),
            node("Mul", [f"c{k}", source], [f"a{k}"]),
        ]
        source = f"a{k}"
    proto = model(nodes, [value("x", (1,))], [source], [tensor("shape", np.array([200_000]))])
    graph = from_proto(proto)
    with stage(SMALL):
        optimised, _ = optimise(graph)
    assert sum(a.nbytes for a in optimised.constants.values()) < SMALL.memory
    assert any(n.op.name == "ConstantOfShape" for n in optimised.nodes)


def doubling(depth: int, leaf: list[Any]) -> list[Any]:
    """Functions each of which calls the next one twice."""

    def nodes(k: int) -> list[Any]:
        if k == 0:
            return leaf
        call = [("x", "h"), ("h", "y")]
        return [helper.make_node(f"F{k - 1}", [a], [b], domain="mine") for a, b in call]

    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("mine", 1)]
    return [
        helper.make_function("mine", f"F{k}", ["x"], ["y"], nodes(k), opsets) for k in range(depth)
    ]


def test_functions_that_call_two_of_the_next() -> None:
    functions = doubling(40, [helper.make_node("Neg", ["x"], ["y"])])
    call = node("F39", ["x"], ["y"], domain="mine")
    proto = model([call], [X], ["y"], functions=functions, domains={"mine": 1})
    with (
        stage(Budget(work=2000 * NODE)),
        pytest.raises(BudgetError, match="budget of work") as caught,
    ):
        from_proto(proto)
    assert caught.value.resource == "work"
    assert caught.value.limit == 2000 * NODE
    assert str(caught.value.node).startswith("F39")


def test_functions_that_copy_a_large_constant() -> None:
    """The file holds it once; what its copies take is on the budget."""
    constant = numpy_helper.from_array(np.ones(100_000, np.float32))
    leaf = [node("Constant", [], ["k"], value=constant), node("Add", ["x", "k"], ["y"])]
    call = node("F9", ["x"], ["y"], domain="mine")
    proto = model(
        [call], [value("x", (1,))], ["y"], functions=doubling(10, leaf), domains={"mine": 1}
    )
    with stage(SMALL), pytest.raises(BudgetError, match="budget of memory"):
        from_proto(proto)


def test_long_names_of_nested_calls() -> None:
    name = "n" * 100_000
    functions = [
        helper.make_function(
            "mine",
            f"F{k}",
            ["x"],
            ["y"],
            [
                helper.make_node(
                    f"F{k - 1}" if k else "Neg", ["x"], ["y"], name, domain="mine" if k else ""
                )
            ],
            [helper.make_opsetid("", 21), helper.make_opsetid("mine", 1)],
        )
        for k in range(40)
    ]
    call = node("F39", ["x"], ["y"], domain="mine", name=name)
    proto = model([call], [X], ["y"], functions=functions, domains={"mine": 1})
    with stage(SMALL), pytest.raises(BudgetError, match="budget of memory"):
        from_proto(proto)


def test_sparse_tensors_that_are_mostly_zeros() -> None:
    values = tensor("w", ONE)
    sparse = helper.make_sparse_tensor(values, tensor("i", np.array([5])), [30000, 30000])
    proto = model([node("Add", ["w", "x"], ["z"])], [X], ["z"], sparse_initializer=[sparse])
    with pytest.raises(BudgetError, match=r"tensor 'w'.*needs 35999999\d\d bytes") as caught:
        from_proto(proto)
    assert caught.value.tensor == "w"
    assert caught.value.resource == "memory"


def test_external_data_with_holes(tmp_path: Path) -> None:
    """A file that says it has 300 MB, and takes none on the disk."""
    with (tmp_path / "w.bin").open("wb") as stream:
        stream.truncate(300_000_000)
    proto = tensor("w", ONE)
    proto.ClearField("raw_data")
    proto.dims[:] = [75_000_000]
    proto.data_location = proto.EXTERNAL
    proto.external_data.add(key="location", value="w.bin")
    path = tmp_path / "m.onnx"
    path.write_bytes(
        model(
            [node("Add", ["w", "x"], ["z"])], [value("x", (1,))], ["z"], [proto]
        ).SerializeToString()
    )
    with stage(SMALL), pytest.raises(BudgetError, match="tensor 'w'"):
        parse(path)


def test_external_data_that_is_read_many_times(tmp_path: Path) -> None:
    """Its bytes on the disk are not on the budget, copies of them are."""
    np.ones(1_000_000, np.float32).tofile(tmp_path / "w.bin")

    def weights(k: int) -> Any:
        proto = tensor(f"w{k}", ONE)
        proto.ClearField("raw_data")
        proto.dims[:] = [1_000_000]
        proto.data_location = proto.EXTERNAL
        proto.external_data.add(key="location", value="w.bin")
        return proto

    def total(count: int) -> Path:
        names = [f"w{k}" for k in range(count)]
        path = tmp_path / f"{count}.onnx"
        proto = model(
            [node("Sum", ["x", *names], ["z"])],
            [value("x", (1,))],
            ["z"],
            [weights(k) for k in range(count)],
        )
        path.write_bytes(proto.SerializeToString())
        return path

    with stage(Budget(memory=7_000_000)):
        parse(total(2))
    with stage(Budget(memory=7_000_000)), pytest.raises(BudgetError, match="tensor 'w2'"):
        parse(total(3))


# -- sizes that are expressions --------------------------------------------------------------------


def steps(count: int, start: list[Any], make: Any) -> ModelProto:
    """A chain of integer arithmetic on the sizes of the input, whose end is added to it."""
    nodes = list(start)
    for k in range(count):
        nodes += make(f"v{k}", f"v{k + 1}", f"t{k}")
    nodes += [node("Cast", [f"v{count}"], ["float"], to=1), node("Add", ["float", "x"], ["z"])]
    tensors = [tensor("two", np.array([2])), tensor("three", np.array([3]))]
    return model(nodes, [value("x", ("A", "B", "C", "D"))], ["z"], tensors)


SHAPE = [node("Shape", ["x"], ["v0"])]
TOTAL = [node("Shape", ["x"], ["s"]), node("ReduceSum", ["s"], ["v0"], keepdims=0)]
EXPLOSIONS: dict[str, ModelProto] = {
    "squares of a sum": steps(40, TOTAL, lambda a, b, t: [node("Mul", [a, a], [b])]),
    "squares": steps(62, SHAPE, lambda a, b, t: [node("Mul", [a, a], [b])]),
    "sums of quotients": steps(
        60,
        SHAPE,
        lambda a, b, t: [
            node("Div", [a, "two"], [t]),
            node("Div", [a, "three"], [t + "/3"]),
            node("Add", [t, t + "/3"], [b]),
        ],
    ),
    "quotients of quotients": steps(
        3000, SHAPE, lambda a, b, t: [node("Div", [a, "three"], [t]), node("Add", [t, "two"], [b])]
    ),
    "products of quotients": steps(
        40, SHAPE, lambda a, b, t: [node("Div", [a, "three"], [t]), node("Mul", [t, a], [b])]
    ),
}


@pytest.mark.parametrize("proto", EXPLOSIONS.values(), ids=EXPLOSIONS)
def test_sizes_that_are_ever_larger_expressions(proto: ModelProto) -> None:
    with pytest.raises(
        BudgetError, match=r"its sizes are expressions of \d+ |nested too deeply"
    ) as caught:
        from_proto(proto)
    assert caught.value.node is not None


def test_squares_of_numbers_wrap_around_as_int64_does() -> None:
    nodes = [node("Mul", [f"v{k}", f"v{k}"], [f"v{k + 1}"]) for k in range(100)]
    proto = model(nodes, [], ["v100"], [tensor("v0", np.array([3]))])
    expected = np.array([3])
    for _ in range(100):
        expected = expected * expected
    assert evaluate(from_proto(proto), {})["v100"].tolist() == expected.tolist()


# -- the budget itself -----------------------------------------------------------------------------


def test_budgets_in_text() -> None:
    assert Budget.parse("") == Budget()
    assert Budget.parse("memory=8G, work=1e12") == Budget(work=10**12, memory=8 << 30)
    assert Budget.parse("work=5T") == Budget(work=5 * 10**12)
    assert Budget.parse("memory=1.5k").memory == 1536


@pytest.mark.parametrize(
    "text", ["8G", "memory", "memory=much", "time=3", "work=-1", "work=inf", "work=nan"]
)
def test_texts_that_are_no_budgets(text: str) -> None:
    with pytest.raises(InputError):
        Budget.parse(text)


def test_the_budget_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    proto = model([node("Neg", ["x"], ["y"])], [X], ["y"])
    monkeypatch.setenv(VARIABLE, "work=10")
    with pytest.raises(BudgetError):
        from_proto(proto)
    monkeypatch.setenv(VARIABLE, "plenty")
    with pytest.raises(InputError, match="SOFIE_ROOT_BUDGET"):
        from_proto(proto)


def test_the_budget_of_a_model(tmp_path: Path) -> None:
    """``load`` spends it, and the model keeps it for what comes later."""
    path = tmp_path / "m.onnx"
    path.write_bytes(TOO_MUCH["Loop of 10^9 iterations"].SerializeToString())
    with pytest.raises(BudgetError) as caught:
        sofie_root.load(path, budget=Budget(work=10))
    assert caught.value.file == str(path)
    assert sofie_root.load(path, budget=SMALL).budget == SMALL


def test_a_stage_inside_another_spends_from_the_same_budget() -> None:
    with stage(Budget(work=100)) as outer:
        with stage() as inner:
            inner.spend(60)
        assert outer.work == 60
        with pytest.raises(BudgetError) as caught, stage(node="n"):
            outer.spend(50)
        assert (caught.value.node, caught.value.wanted, caught.value.limit) == ("n", 110, 100)
        with stage(Budget(work=10)) as other:
            other.spend(10)
    assert outer.work == 60


def test_memory_counts_as_long_as_the_array_lives() -> None:
    account = Account(Budget(memory=1000))
    array = np.zeros(100)
    account.hold(array)
    with pytest.raises(BudgetError, match="1001 bytes"):
        account.reserve(201)
    del array
    gc.collect()
    account.reserve(1000)


def test_what_python_runs_out_of_is_a_budget_error() -> None:
    def endless(n: int) -> int:
        return endless(n + 1) + 1

    with pytest.raises(BudgetError, match="nested too deeply"), stage():
        endless(0)
    with pytest.raises(BudgetError, match="more memory than there is"), stage():
        raise MemoryError


def test_the_interpreter_takes_no_more_memory_than_it_may() -> None:
    """A long loop runs in parts: it holds its result and some blocks, not a grid per operation."""
    n = 3_000_000
    nodes = [
        node("Add", ["x", "x"], ["a"]),
        node("Mul", ["a", "x"], ["b"]),
        node("Sqrt", ["b"], ["y"]),
    ]
    graph = from_proto(model(nodes, [value("x", (n,))], ["y"]))
    with stage(Budget(memory=5 * 4 * n)):
        evaluate(graph, {"x": np.ones(n, np.float32)})
    with stage(Budget(memory=2 * 4 * n)), pytest.raises(BudgetError, match="memory"):
        evaluate(graph, {"x": np.ones(n, np.float32)})


def test_writes_of_a_loop_that_runs_in_parts_keep_their_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where iterations write to one place the last one wins, whatever the parts."""
    scatter = node("ScatterElements", ["x", "i", "u"], ["y"], axis=1)
    inputs = [value("x", (3, 4)), value("i", (3, 9), np.int64), value("u", (3, 9))]
    graph = from_proto(model([scatter], inputs, ["y"]))
    generator = np.random.default_rng(0)
    feeds = {
        "x": np.zeros((3, 4), np.float32),
        "i": generator.integers(0, 4, (3, 9)),
        "u": generator.standard_normal((3, 9)).astype(np.float32),
    }
    whole = evaluate(graph, feeds)["y"]
    for limit in (1, 4, 20):
        monkeypatch.setattr(interpreter, "GRID_LIMIT", limit)
        assert np.array_equal(evaluate(graph, feeds)["y"], whole)


def test_the_command_has_the_option(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from sofie_root.cli import main

    path = tmp_path / "m.onnx"
    path.write_bytes(model([node("Neg", ["x"], ["y"])], [X], ["y"]).SerializeToString())
    assert main(["inspect", str(path), "--budget", "work=10"]) == 1
    assert "--budget work=..." in capsys.readouterr().err
    assert main(["inspect", str(path), "--budget", "work=1G,memory=1G"]) == 0
    assert main(["inspect", str(path), "--budget", "some"]) == 1
    assert issubclass(BudgetError, SofieError)


def chain(count: int) -> ModelProto:
    """Products of constants, each with an activation."""
    nodes, source = [], "x"
    for k in range(count):
        nodes += [node("MatMul", [source, "w"], [f"m{k}"]), node("Relu", [f"m{k}"], [f"a{k}"])]
        source = f"a{k}"
    return model(nodes, [value("x", ("N", 4))], [source], [tensor("w", random((4, 4)))])


def test_twice_the_nodes_are_twice_the_work_of_the_scheduler(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Counted in how often the reads of a statement are asked for; it once was the square."""
    calls = 0
    original = uses.reads

    def counted(statement: Any) -> set[str]:
        nonlocal calls
        calls += 1
        return original(statement)

    for module in (inline, epilogue, nest, order, schedule_module, use_def):
        monkeypatch.setattr(module, "reads", counted)
    counts = []
    for n in (20, 40):
        calls = 0
        assert len(schedule(from_proto(chain(n)), CPU).decisions.fused) >= n
        counts.append(calls)
    assert counts[1] < 2.5 * counts[0]
