"""``GraphBuilder``: models made by hand, and what it says of those that cannot be."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np
import pytest
from onnx_models import assert_same, by_runtime, model, node, random, tensor, value

import sofie_root
from sofie_root import Budget, GraphBuilder, Model
from sofie_root.budget import NODE, stage
from sofie_root.build import Names
from sofie_root.errors import BudgetError, InputError, ModelError, ShapeError, UnsupportedError
from sofie_root.frontends.onnx import from_proto
from sofie_root.ir import OPERATORS, DType, Equality, Graph, TensorType, symbol
from sofie_root.ops.control import If
from sofie_root.program.interpret import evaluate

W = random((4, 8), seed=1)


def tagger(dims: dict[str, int] | None = None) -> Graph:
    """Two outputs of x[N, 4]: the class of each row, and its probabilities."""
    b = GraphBuilder("tagger", dims=dims)
    x = b.input("x", "float32", ("N", 4))
    hidden = b.add("Relu", b.add("MatMul", x, W), name="act")
    (scores, _) = b.add("Split", hidden, outputs=2, axis=1, num_outputs=2)
    b.output("p", b.add("Softmax", scores, axis=-1))
    b.output("class", b.add("ArgMax", scores, axis=1, keepdims=0))
    return b.graph()


def by_hand(x: np.ndarray) -> dict[str, np.ndarray]:
    scores = np.maximum(x @ W, 0)[:, :4]
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    return {"p": e / e.sum(axis=1, keepdims=True), "class": scores.argmax(axis=1)}


# -- models ----------------------------------------------------------------------------------------


def test_a_model_made_by_hand_runs() -> None:
    made = Model(tagger())
    assert made.symbols == ("N",)
    x = random((5, 4))
    expected = by_hand(x)
    for got in (evaluate(made.graph, {"x": x}), made.session().run({"x": x})):
        np.testing.assert_allclose(got["p"], expected["p"], rtol=2e-6, atol=1e-7)
        np.testing.assert_array_equal(got["class"], expected["class"])


def test_it_is_what_the_onnx_frontend_makes() -> None:
    proto = model(
        [
            node("MatMul", ["x", "W"], ["h"], name="fc"),
            node("Relu", ["h"], ["a"], name="act"),
            node("Gemm", ["a", "V", "c"], ["y"], name="out", transB=1),
        ],
        [value("x", ["N", 4])],
        ["y"],
        [tensor("W", W), tensor("V", W[:3]), tensor("c", W[0, :3])],
    )
    b = GraphBuilder("test")
    x = b.input("x", np.float32, ("N", 4))
    w = b.constant(W, "W")
    (h,) = b.add("MatMul", x, w, outputs=("h",), name="fc")
    (a,) = b.add("Relu", h, outputs=("a",), name="act")
    v, c = b.constant(W[:3], "V"), b.constant(W[0, :3], "c")
    b.add("Gemm", a, v, c, outputs=("y",), name="out", transB=1)
    b.output("y")
    made, read = b.graph(), from_proto(proto)
    assert str(made) == str(read)
    assert made.nodes == read.nodes
    x = random((3, 4))
    assert_same(evaluate(made, {"x": x}), by_runtime(proto, {"x": x}))


def test_operators_are_given_by_name_class_or_object() -> None:
    leaky = OPERATORS["", "LeakyRelu"]
    b = GraphBuilder()
    x = b.input("x", DType.FLOAT, (3,))
    for k, op in enumerate(("LeakyRelu", leaky)):
        b.output(f"y{k}", b.add(op, x, alpha=0.5))
    b.output("y2", b.add(leaky(alpha=0.5), x))
    b.add("of.mine.Own", x)
    with pytest.raises(UnsupportedError, match=r"Own.*of domain 'of.mine'"):
        b.graph()
    made = b.unverified()
    assert made.nodes[0].op == made.nodes[1].op == made.nodes[2].op
    assert [n.name for n in made.nodes] == ["LeakyRelu_0", "LeakyRelu_1", "LeakyRelu_2"]


def test_inputs_that_are_omitted_and_outputs_that_nobody_reads() -> None:
    b = GraphBuilder()
    x = b.input("x", "float32", (3,))
    b.output("y", b.add("Clip", x, None, np.float32(1), None))
    (top,) = b.add("TopK", x, [2], outputs=(None, "top"))
    b.output("top", top)
    graph = b.graph()
    assert [len(n.inputs) for n in graph.nodes] == [3, 2]
    assert graph.nodes[1].outputs == (None, "top")
    got = evaluate(graph, {"x": np.array([-5, 3, 0.5], np.float32)})
    assert got["y"].tolist() == [-5, 1, 0.5]
    assert got["top"].tolist() == [1, 2]


def test_shapes_are_known_on_the_way_and_small_nodes_are_computed() -> None:
    b = GraphBuilder()
    x = b.input("x", "float32", ("N", 6))
    scaled = b.add("Mul", b.add("Cast", np.array([2, 3]), to=DType.FLOAT.onnx), np.float32(1.5))
    np.testing.assert_array_equal(b.array(scaled), np.array([3, 4.5], np.float32))
    assert b.array(x) is None
    y = b.add("Reshape", x, b.add("Concat", b.add("Shape", x, end=1), np.array([2, 3]), axis=0))
    assert b.type(y) == TensorType(DType.FLOAT, (symbol("N"), 2, 3))
    b.output("y", y)
    b.output("x", x)
    assert "Mul" not in [n.op.name for n in b.graph().nodes]


def test_bodies_capture_what_is_around_them() -> None:
    b = GraphBuilder()
    x, flag = b.input("x", "float32", (2,)), b.input("flag", "bool", ())
    c = b.constant(np.float32(3))
    branches = []
    for op in ("Mul", "Add"):
        inner = b.body(op)
        inner.output("r", inner.add(op, inner.capture(x), inner.capture(c)))
        branches.append(inner.unverified())
    assert [g.inputs for g in branches] == [(x,), (x,)]
    b.output("y", b.add(If(*branches), flag, x))
    graph = b.graph()
    for chosen, expected in ((True, [3, 6]), (False, [4, 5])):
        inputs = {"x": np.array([1, 2], np.float32), "flag": np.array(chosen)}
        assert evaluate(graph, inputs)["y"].tolist() == expected


# -- dims ------------------------------------------------------------------------------------------


def test_dims_of_inputs() -> None:
    b = GraphBuilder(dims={"N": 3})
    b.dim_names.add("x_dim1")
    b.input("x", "float32", ("N", None, 2 * symbol("N") + symbol("M"), np.int64(4)))
    graph = b.graph()
    assert graph.types["x"].shape == (3, symbol("x_dim1_"), 6 + symbol("M"), 4)
    assert [s.name for s in graph.symbols()] == ["x_dim1_", "M"]


def test_dims_that_no_input_has() -> None:
    b = GraphBuilder(dims={"M": 3})
    b.input("x", "float32", ("N",))
    with pytest.raises(InputError, match="no symbol 'M'; the model's symbols are: N"):
        b.graph()
    for size in (-1, 2.5, True):
        with pytest.raises(InputError, match="a size is an integer >= 0"):
            GraphBuilder(dims={"N": size})  # type: ignore[dict-item]


def test_equalities_are_stated_or_checked() -> None:
    n, m = symbol("N"), symbol("M")
    b = GraphBuilder()
    x, y = b.input("x", "float32", ("N",)), b.input("y", "float32", ("M",))
    b.require_equal("N", n, "the same")
    b.require_equal(4, 4, "the same")
    b.require_equal("N", m, "as many particles as weights")
    b.require_equal(n, m, "as many particles as weights")
    with pytest.raises(ShapeError, match="as many: 3 against 4"):
        b.require_equal(3, 4, "as many")
    b.output("z", b.add("Add", x, y))
    graph = b.graph()
    assert graph.equalities[0] == Equality(n, m, "as many particles as weights")
    assert sum({e.a, e.b} == {n, m} for e in graph.equalities) == 1
    session = Model(graph).session()
    assert session(np.ones(3, np.float32), np.ones(3, np.float32)).tolist() == [2, 2, 2]
    with pytest.raises(InputError):
        session(np.ones(3, np.float32), np.ones(2, np.float32))


def test_equalities_that_operators_demand_are_kept() -> None:
    b = GraphBuilder()
    x, y = b.input("x", "float32", ("N", "K")), b.input("y", "float32", ("L", 5))
    b.output("z", b.add("MatMul", x, y, name="product"))
    (equality,) = b.graph().equalities
    assert {equality.a, equality.b} == {symbol("K"), symbol("L")}
    assert "MatMul 'product'" in equality.why


# -- what cannot be run ----------------------------------------------------------------------------


def test_refusals_are_named_at_once() -> None:
    b = GraphBuilder(file="m.h5")
    x = b.input("x", "float32", (2, 2))
    z = b.input("z", "complex64", (2,))
    unknown = b.add("Fractal", x, name="first")
    after = b.add("Relu", unknown, name="of unknown")
    second = b.add("Eyelike", x, outputs=2)
    b.output("y", after)
    b.output("w", b.add("Neg", second[1]))
    assert all(map(b.is_refused, (z, unknown, after, second[0])))
    assert not b.is_refused(x)
    with pytest.raises(UnsupportedError) as caught:
        b.graph()
    assert [(r.node, r.operator) for r in caught.value.refusals] == [
        ("z", "input"),
        ("first", "Fractal"),
        ("Eyelike_0", "Eyelike"),
    ]
    assert caught.value.refusals[0].reason == "element type complex64 is not supported"
    assert caught.value.file == "m.h5"
    with pytest.raises(UnsupportedError, match="Fractal"):
        b.type(after)


def test_a_node_of_the_model_is_refused_as_a_whole() -> None:
    b = GraphBuilder()
    x = b.input("x", "float32", (2, 2))
    reached = []
    with b.source("dense", "keras.Dense", ("dense_out",)):
        h = b.add("Relu", x)
        b.add("Fractal", h)
        reached.append("behind what was refused")
    with b.source("next", "keras.Dense", ("next_out",)):
        b.type("dense_out")
        reached.append("behind what depends on it")
    with b.source("last", "keras.Dense", ("last_out",)):
        b.add("Relu", "next_out")
        reached.append("behind what reads it")
    assert not reached
    assert b.is_refused("last_out")
    with pytest.raises(UnsupportedError) as caught:
        b.graph()
    assert [(r.node, r.operator) for r in caught.value.refusals] == [("dense", "keras.Dense")]


def test_a_body_of_what_is_refused_is_refused() -> None:
    b = GraphBuilder()
    x, flag = b.input("x", "float32", (2,)), b.input("flag", "bool", ())

    def branch(op: str) -> Graph:
        inner = b.body(op)
        inner.output("r", inner.add(op, inner.capture(x), name=op))
        return inner.unverified()

    with b.source("choice", "Choice", ("chosen",)):
        b.add(If(branch("Relu"), branch("Fractal")), flag, x)
    assert b.is_refused("chosen")
    with pytest.raises(UnsupportedError) as caught:
        b.graph()
    assert [(r.node, r.operator) for r in caught.value.refusals] == [("choice", "Choice")]

    b = GraphBuilder()
    x = b.input("x", "float32", (2,))
    with pytest.raises(UnsupportedError, match="Fractal 'Fractal'"):
        branch("Fractal")


def test_nodes_know_what_they_stand_for() -> None:
    b = GraphBuilder()
    x = b.input("x", "float32", (2, 2))
    with b.source("block", "Block"):
        with b.source("dense", "Dense"):
            x = b.add("Relu", x)
        inner = b.body("branch")
        inner.output("r", inner.add("Neg", inner.capture(x)))
    x = b.add("Neg", x, name="own")
    b.output("y", x)
    assert [n.origin for n in b.graph().nodes] == [("block",), ("own",)]
    assert inner.unverified().nodes[0].origin == ("block",)


WRONG: dict[str, tuple[str, type[Exception], Any]] = {
    "input twice": ("'x' is declared twice", ModelError, lambda b: b.input("x", "float32", ())),
    "input without a name": ("no name", ModelError, lambda b: b.input("", "float32", ())),
    "negative size": ("impossible shape", ModelError, lambda b: b.input("z", "float32", (-1,))),
    "too many axes": ("33 axes", ModelError, lambda b: b.input("z", "float32", (1,) * 33)),
    "constant of texts": ("<U1 is not supported", ModelError, lambda b: b.constant(np.array("a"))),
    "no such value": ("reads 'w', which nothing", ModelError, lambda b: b.add("Relu", "w")),
    "no such type": ("is no value", ModelError, lambda b: b.type("w")),
    "no such attribute": (
        "Gemm 'Gemm_0': has no attribute 'bias'; its attributes are: alpha, beta",
        ModelError,
        lambda b: b.add("Gemm", "x", "x", bias=1),
    ),
    "attribute of a wrong type": (
        "LeakyRelu 'LeakyRelu_0'.*alpha",
        ModelError,
        lambda b: b.add("LeakyRelu", "x", alpha="large"),
    ),
    "attributes twice": (
        "has its attributes already",
        ModelError,
        lambda b: b.add(OPERATORS["", "LeakyRelu"](), "x", alpha=1.0),
    ),
    "shapes that do not fit": (
        "MatMul 'MatMul_0'",
        ShapeError,
        lambda b: b.add("MatMul", "x", np.ones((3, 2), np.float32)),
    ),
    "too many inputs": ("not a number this", ShapeError, lambda b: b.add("Relu", "x", "x")),
    "too many outputs": ("has 2 outputs", ShapeError, lambda b: b.add("Relu", "x", outputs=2)),
    "output twice": ("'y' is declared twice", ModelError, lambda b: b.output("y", "x")),
    "output without a name": ("no name", ModelError, lambda b: b.output("", "x")),
    "output of nothing": ("what nothing writes", ModelError, lambda b: b.output("z")),
}


@pytest.mark.parametrize(("message", "error", "use"), WRONG.values(), ids=WRONG)
def test_contradictions_are_named(message: str, error: type[Exception], use: Any) -> None:
    b = GraphBuilder()
    b.input("x", "float32", ("N", 4))
    b.output("y", "x")
    with pytest.raises(error, match=message):
        use(b)


def test_the_caller_cannot_know_a_run_time_size() -> None:
    b = GraphBuilder()
    b.input("x", "float32", ("y:0:0",))  # a name like any other
    b.output("x")
    assert [s.name for s in b.graph().symbols()] == ["y:0:0"]
    b.input("z", "float32", (b.type(b.add("NonZero", "x")).shape[1],))
    with pytest.raises(ModelError, match="which only the run tells"):
        b.graph()


def test_work_and_memory_have_a_budget() -> None:
    with stage(Budget(work=10 * NODE)), pytest.raises(BudgetError, match="budget of work"):
        chain(20)
    with stage(Budget(memory=5_000)), pytest.raises(BudgetError, match="budget of memory"):
        list(map(Names().fresh, ["n" * 100] * 100))


# -- names -----------------------------------------------------------------------------------------


def chain(count: int) -> Graph:
    """Nodes that all want the same name."""
    b = GraphBuilder()
    x = b.input("x", "float32", ("N",))
    for _ in range(count):
        x = b.add("Relu", x, name="layer")
    b.output("y", x)
    return b.graph()


def test_names_are_made_unique() -> None:
    b = GraphBuilder()
    x = b.input("x", "float32", (2,))
    assert [b.constant(np.ones(2), "x") for _ in range(3)] == ["x_1", "x_2", "x_3"]
    assert [b.constant(np.ones(2)) for _ in range(2)] == ["constant", "constant_1"]
    first, second = (b.add("Relu", x, name="act", outputs=("h",))[0] for _ in range(2))
    assert (first, second) == ("h", "h_1")
    b.output("y", second)
    assert [n.name for n in b.graph().nodes] == ["act", "act_1"]


def test_a_number_that_is_taken_is_left_out() -> None:
    names = Names(("a", "a_1", "a_3"))
    assert [names.fresh("a") for _ in range(3)] == ["a_2", "a_4", "a_5"]
    assert [names.numbered("a"), names.numbered("b")] == ["a_6", "b_0"]


class CountedSet(set[str]):
    """Counts how often it is asked for a name."""

    asked = 0

    def __contains__(self, name: object) -> bool:
        type(self).asked += 1
        return super().__contains__(name)


def test_fresh_names_cost_the_same_however_many_there_are() -> None:
    names = Names()
    names.taken = CountedSet()
    made = [names.fresh("layer") for _ in range(20_000)]
    assert len(set(made)) == 20_000
    assert CountedSet.asked <= 3 * 20_000


def test_many_nodes_of_one_name() -> None:
    graph = chain(20_000)
    assert len(graph.nodes) == 20_000
    assert graph.nodes[-1].name == "layer_19999"


# -- a graph that is there -------------------------------------------------------------------------


def test_a_graph_is_extended() -> None:
    graph = tagger()
    before = len(graph.nodes)
    b = GraphBuilder.extending(graph)
    b.output("largest", b.add("ReduceMax", graph.outputs["p"], np.array([1]), name="act"))
    extended = b.graph()
    assert extended is graph
    assert len(extended.nodes) == before + 1
    assert extended.nodes[-1].name == "act_1"
    x = random((5, 4))
    got = evaluate(extended, {"x": x})
    np.testing.assert_array_equal(got["largest"], got["p"].max(axis=1, keepdims=True))


def test_the_example_of_the_documentation_runs() -> None:
    text = str(GraphBuilder.__doc__).partition("Example::\n")[2].partition("    Args:")[0]
    names: dict[str, Any] = {}
    exec(textwrap.dedent(text.strip("\n")), names)
    np.testing.assert_array_equal(names["y"], np.full((3, 2), 4, np.float32))


def test_it_is_public() -> None:
    assert sofie_root.GraphBuilder is GraphBuilder
    assert "GraphBuilder" in sofie_root.__all__
