"""Model.check: what is compared with what, and that a wrong result is seen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_models import model, node, tensor, value

import sofie_root
from sofie_root.accuracy import evaluate_exactly
from sofie_root.build import GraphBuilder
from sofie_root.check import check, compare
from sofie_root.errors import InputError, SofieError, ToolchainError
from sofie_root.ir import DType, Equality, symbol
from sofie_root.samples import draw_dims, draw_inputs, find_sample

WEIGHTS = np.linspace(-1, 1, 15, dtype=np.float32).reshape(3, 5)


def dense(path: Path, weights: np.ndarray = WEIGHTS) -> Path:
    """y = tanh(x @ weights) with x[N, 3], and the sign of y as a second output."""
    nodes = [
        node("MatMul", ["x", "w"], ["t"]),
        node("Tanh", ["t"], ["y"]),
        node("Greater", ["y", "zero"], ["sign"]),
    ]
    outputs = [value("y", ["N", 5]), value("sign", ["N", 5], np.bool_)]
    constants = [tensor("w", weights), tensor("zero", np.float32(0))]
    onnx.save(model(nodes, [value("x", ["N", 3])], outputs, constants), path)
    return path


class Fake:
    """A model whose compiled code is a Python function."""

    def __init__(self, real: sofie_root.Model, run: Any) -> None:
        self.graph, self.path, self.budget = real.graph, real.path, real.budget
        self.inputs, self.outputs = real.inputs, real.outputs
        self.run = run

    def session(self, jit: str) -> Fake:
        return self


def test_right_model_passes(tmp_path: Path) -> None:
    report = sofie_root.load(dense(tmp_path / "m.onnx")).check(samples=4, seed=3)
    assert report.ok
    assert [row.name for row in report.outputs] == ["y", "sign"]
    assert all(row.max_rel < 1e-5 for row in report.outputs)
    assert "ONNX Runtime" in report.reference
    assert len(report.samples) == 4
    assert report.samples[0] == {"N": 1}
    assert len({sample["N"] for sample in report.samples}) > 1
    assert "y " in str(report)
    assert "ok" in str(report)


@pytest.mark.parametrize("error", [1e-3, np.nan, np.inf])
def test_wrong_model_fails(tmp_path: Path, error: float) -> None:
    real = sofie_root.load(dense(tmp_path / "m.onnx"))

    def wrong(inputs: Any) -> Any:
        y = np.tanh(inputs["x"] @ WEIGHTS)
        y.flat[-1] += error
        return {"y": y, "sign": inputs["x"] @ WEIGHTS > 0}

    report = check(Fake(real, wrong))  # type: ignore[arg-type]
    assert not report.ok
    assert [row.ok for row in report.outputs] == [False, True]
    assert ("TOO FAR" in str(report)) == np.isfinite(error)


def test_nothing_but_nan_is_no_success(tmp_path: Path) -> None:
    real = sofie_root.load(dense(tmp_path / "m.onnx", WEIGHTS * np.float32(np.nan)))
    report = real.check()
    assert [row.ok for row in report.outputs] == [False, False]
    assert "no finite number" in str(report)
    assert "sign: has the same values for all inputs" in str(report)


def test_wrong_type_or_shape_fails(tmp_path: Path) -> None:
    real = sofie_root.load(dense(tmp_path / "m.onnx"))

    def wrong(inputs: Any) -> Any:
        y = np.tanh(inputs["x"] @ WEIGHTS)
        return {"y": y.T, "sign": y}

    report = check(Fake(real, wrong), samples=1)  # type: ignore[arg-type]
    assert [row.problem for row in report.outputs] == [
        "expected float32[1, 5], found float32[5, 1]",
        "expected bool[1, 5], found float32[1, 5]",
    ]


def test_refusing_what_the_reference_takes_is_an_error(tmp_path: Path) -> None:
    real = sofie_root.load(dense(tmp_path / "m.onnx"))

    def refuse(inputs: Any) -> Any:
        raise InputError("no", tensor="x")

    with pytest.raises(InputError, match=r"accepts this input; N=1"):
        check(Fake(real, refuse))  # type: ignore[arg-type]


def test_chosen_dims(tmp_path: Path) -> None:
    nodes = [node("Add", ["x", "y"], ["z"])]
    inputs = [value("x", ["N", "K"]), value("y", ["M", "K"])]
    onnx.save(model(nodes, inputs, [value("z", ["N", "K"])]), tmp_path / "m.onnx")
    loaded = sofie_root.load(tmp_path / "m.onnx")
    report = loaded.check(dims={"M": 9}, reference="interpreter")
    assert report.ok
    assert all(sample["N"] in (1, 9) for sample in report.samples)  # both broadcast
    assert [sample["M"] for sample in report.samples] == [9, 9, 9]
    with pytest.raises(SofieError, match="takes none of the random inputs"):
        loaded.check(dims={"N": 3, "M": 4})
    with pytest.raises(InputError, match="no symbolic dim 'Q'; the model's are: N, K, M"):
        loaded.check(dims={"Q": 3})
    with pytest.raises(InputError, match="cannot be -1"):
        loaded.check(dims={"N": -1})
    with pytest.raises(SofieError, match="inputs have their own"):
        loaded.check(dims={"N": 1}, inputs={})


def test_stored_inputs_and_outputs(tmp_path: Path) -> None:
    loaded = sofie_root.load(dense(tmp_path / "m.onnx"))
    x = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)
    y = np.tanh(x @ WEIGHTS)
    assert loaded.check(inputs={"x": x}).reference.startswith("ONNX Runtime")
    report = loaded.check(inputs={"in0": x}, outputs={"out1": y > 0, "y": y})
    assert report.ok
    assert [row.name for row in report.outputs] == ["y", "sign"]
    assert "1 input set against the given outputs" in str(report)
    only = loaded.check(inputs={"x": x}, outputs={"sign": y > 0})
    assert [row.name for row in only.outputs] == ["sign"]
    wrong = loaded.check(inputs={"x": x}, outputs={"y": y + np.float32(0.01), "sign": y > 0})
    assert [row.ok for row in wrong.outputs] == [False, True]
    shape = loaded.check(inputs={"x": x}, outputs={"y": y[:3]})
    assert "expected float32[3, 5], found float32[4, 5]" in str(shape)
    np.savez(tmp_path / "inputs.npz", in0=x)
    np.savez(tmp_path / "outputs.npz", out0=y, out1=y > 0)
    report = loaded.check(inputs=tmp_path / "inputs.npz", outputs=tmp_path / "outputs.npz")
    assert report.ok
    assert report.reference == "outputs.npz"


def test_stored_arrays_that_do_not_fit(tmp_path: Path) -> None:
    loaded = sofie_root.load(dense(tmp_path / "m.onnx"))
    x = np.zeros((2, 3), np.float32)
    cases: list[tuple[Any, Any, str]] = [
        ({}, None, r"has no array 'x' \(or in0, \.\.\.\)"),
        ({"x": x, "in0": x}, None, "'in0' is given twice"),
        ({"x": x, "z": x}, None, r"'z' is none of: x \(or in0"),
        ({"x": x.astype(float)}, None, "float64"),
        ({"x": x[:, :2]}, None, "axis 1 is 2, not 3"),
        ({"x": x}, {}, "has no array 'y'"),
        (None, {"y": x}, "the inputs that they belong to"),
    ]
    for inputs, outputs, message in cases:
        with pytest.raises(SofieError, match=message):
            loaded.check(inputs=inputs, outputs=outputs)
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "object.npz", x=np.array([{}], object))
    np.savez(tmp_path / "cut.npz", x=np.zeros((1000, 3), np.float32))
    whole = (tmp_path / "cut.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    for name in ("x.npy", "object.npz", "cut.npz", "none.npz", "m.onnx"):
        with pytest.raises(InputError, match=rf"{name}: (is not an \.npz|cannot be read)"):
            loaded.check(inputs=tmp_path / name)


def test_model_from_root_is_compared_with_the_interpreter(tmp_path: Path) -> None:
    sofie_root.load(dense(tmp_path / "m.onnx")).save(tmp_path / "m.root")
    report = sofie_root.load(tmp_path / "m.root").check()
    assert report.ok
    assert "interpreter" in report.reference
    assert "not loaded from an ONNX file" in str(report)


def test_file_that_changed_since_is_refused(tmp_path: Path) -> None:
    loaded = sofie_root.load(dense(tmp_path / "m.onnx"))
    dense(tmp_path / "m.onnx", WEIGHTS * 2)
    with pytest.raises(SofieError, match="changed since"):
        loaded.check()
    (tmp_path / "m.onnx").unlink()
    with pytest.raises(SofieError, match=r"m\.onnx.*No such file"):
        loaded.check()


def test_models_that_differ_in_nothing_but_their_weights(tmp_path: Path) -> None:
    first = sofie_root.load(dense(tmp_path / "m.onnx")).session()
    second = sofie_root.load(dense(tmp_path / "m.onnx", -WEIGHTS)).session()
    x = np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(first(x)[0], -second(x)[0])


def test_no_input_that_the_reference_takes(tmp_path: Path) -> None:
    nodes = [node("Add", ["i", "far"], ["at"]), node("Gather", ["x", "at"], ["y"])]
    inputs, outputs = [value("x", [4]), value("i", ["n"], np.int64)], [value("y", ["n"])]
    onnx.save(model(nodes, inputs, outputs, [tensor("far", np.array(5000))]), tmp_path / "m.onnx")
    with (
        pytest.warns(sofie_root.SelfTestWarning, match="'m' opens without"),
        pytest.raises(SofieError, match="takes none of the random inputs"),
    ):
        sofie_root.load(tmp_path / "m.onnx").check()


def test_unknown_reference_and_no_samples(tmp_path: Path) -> None:
    loaded = sofie_root.load(dense(tmp_path / "m.onnx"))
    with pytest.raises(SofieError, match="'torch'; use 'onnxruntime'"):
        loaded.check(reference="torch")
    with pytest.raises(SofieError, match="at least 1"):
        loaded.check(samples=0)


def test_sizes_and_indices_that_the_reference_refuses_are_drawn_again(tmp_path: Path) -> None:
    """TopK of 12 needs 12 columns, and Gather an index below 2."""
    nodes = [
        node("TopK", ["x", "k"], ["top", "unused"]),
        node("Gather", ["table", "i"], ["row"]),
    ]
    inputs = [value("x", ["N", "n"]), value("i", ["N"], np.int64)]
    outputs = [value("top", ["N", 12]), value("row", ["N", 3])]
    table = np.arange(6, dtype=np.float32).reshape(2, 3)
    constants = [tensor("k", np.array([12])), tensor("table", table)]
    onnx.save(model(nodes, inputs, outputs, constants), tmp_path / "m.onnx")
    report = sofie_root.load(tmp_path / "m.onnx").check(samples=3)
    assert report.ok
    assert all(sample["n"] >= 12 for sample in report.samples)


def test_compare() -> None:
    a = np.array([1.0, -4.0, 2.0], np.float32)
    b = np.array([1.0, -4.5, 2.0], np.float32)
    assert compare(a, b).max_abs == 0.5
    assert compare(a, b).max_rel == 0.125
    assert compare(a, a).max_rel == 0
    assert compare([np.nan, np.inf, 1.0], [np.nan, np.inf, 1.0]).max_rel == 0
    assert compare([np.inf], [-np.inf]).problem == "1 elements are NaN or infinite on one side only"
    assert compare([np.nan, 1.0], [1.0, np.nan]).problem is not None
    assert compare(np.zeros(3), np.full(3, 1e-9)).max_rel == 1e-9
    assert compare(np.zeros((0, 2)), np.zeros((0, 2))).max_rel == 0
    assert compare(np.zeros((0, 2)), np.zeros((2, 0))).problem is not None
    big = np.array([2**63 - 1, 0])
    assert compare(big, big - 1).max_abs == 1
    assert compare(np.array([True, False]), np.array([True, True])).max_rel == 1


@settings(deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([1, 7, 40]))
def test_draws_fit_the_graph(seed: int, largest: int) -> None:
    n, m, k = symbol("n"), symbol("m"), symbol("k")
    b = GraphBuilder()
    b.input("a", DType.FLOAT16, ("n", 2 * m + 1))
    b.input("b", DType.BOOL, ("k",))
    b.input("c", DType.UINT8, ())
    b.input("d", DType.DOUBLE, (3, "n"))
    b.require_equal(n, k, "")
    b.require_equal(k, m + 1, "")
    b.require_equal("later", n, "")
    graph = b.graph()
    rng = np.random.default_rng(seed)
    dims = draw_dims(graph, rng, largest)
    assert dims is not None
    assert dims["n"] == dims["k"] == dims["m"] + 1
    inputs = draw_inputs(graph, rng, dims, 3)
    assert inputs["a"].shape == (dims["n"], 2 * dims["m"] + 1)
    assert inputs["c"].shape == ()
    assert inputs["c"] <= 3
    for name in graph.inputs:
        assert inputs[name].dtype == graph.types[name].dtype.numpy
    graph.equalities = [Equality(n, 3, ""), Equality(n, 4, "")]
    assert draw_dims(graph, rng, largest) is None


# -- outputs that never change ---------------------------------------------------------------------


def save(path: Path, nodes: list[Any], outputs: list[Any], constants: dict[str, Any]) -> Path:
    """A model of x[N, 3]."""
    inputs = [value("x", ["N", 3])]
    onnx.save(model(nodes, inputs, outputs, [tensor(n, a) for n, a in constants.items()]), path)
    return path


def test_an_output_that_never_changes_is_no_success(tmp_path: Path) -> None:
    nodes = [node("Mul", ["x", "zero"], ["t"]), node("Add", ["t", "one"], ["y"])]
    constants = {"zero": np.float32(0), "one": np.float32(1)}
    path = save(tmp_path / "m.onnx", nodes, [value("y", ["N", 3])], constants)
    loaded = sofie_root.load(path)
    report = loaded.check()
    assert not report.ok
    assert report.outputs[0].agrees
    assert report.outputs[0].verdict == "NEVER CHANGES"
    assert "12 more input sets were drawn" in str(report)
    x = np.ones((2, 3), np.float32)
    assert not loaded.check(inputs={"x": x}).ok
    assert not loaded.check(inputs={"x": x}, outputs={"y": x}).ok


def test_what_is_drawn_in_addition_need_not_be_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = [node("Mul", ["x", "zero"], ["y"])]
    constants = {"zero": np.float32(0)}
    path = save(tmp_path / "m.onnx", nodes, [value("y", ["N", 3])], constants)
    drawn = iter([find_sample] * 4)

    def find(*arguments: Any) -> Any:
        return next(drawn, lambda *_: None)(*arguments)

    monkeypatch.setattr("sofie_root.check.find_sample", find)
    report = sofie_root.load(path).check()
    assert len(report.samples) == 4
    assert report.outputs[0].verdict == "NEVER CHANGES"


def test_more_is_drawn_until_a_rare_output_changes(tmp_path: Path) -> None:
    """Inputs of width 1 never exceed 8; those of width 10 and 100 do."""
    nodes = [node("ReduceMax", ["x", "axes"], ["m"]), node("Greater", ["m", "eight"], ["y"])]
    constants = {"eight": np.float32(8), "axes": np.int64([1])}
    path = save(tmp_path / "m.onnx", nodes, [value("y", ["N", 1], np.bool_)], constants)
    loaded = sofie_root.load(path)
    report = loaded.check()
    assert report.ok
    assert len(report.samples) > 3
    x = np.zeros((2, 3), np.float32)
    assert loaded.check(inputs={"x": x}, outputs={"y": np.zeros((2, 1), bool)}).ok


def test_what_the_graph_proves_constant_is_a_success(tmp_path: Path) -> None:
    nodes = [
        node("Shape", ["x"], ["shape"]),
        node("Gather", ["shape", "one"], ["y"]),
        node("Neg", ["fixed"], ["z"]),
        node("Exp", ["x"], ["e"]),
    ]
    outputs = [value("y", (), np.int64), value("z", (2,)), value("e", ["N", 3])]
    constants = {"one": np.int64(1), "fixed": np.float32([1, 2])}
    report = sofie_root.load(save(tmp_path / "m.onnx", nodes, outputs, constants)).check()
    assert report.ok
    assert [row.verdict for row in report.outputs] == ["ok (constant by construction)"] * 2 + ["ok"]
    assert len(report.samples) == 3


# -- who is off ------------------------------------------------------------------------------------


def test_rounding_that_the_model_amplifies_is_no_fault(tmp_path: Path) -> None:
    """sin(1e6 x): the last bit of x decides."""
    nodes = [node("Mul", ["x", "large"], ["t"]), node("Sin", ["t"], ["y"])]
    constants = {"large": np.float32(1e6)}
    real = sofie_root.load(save(tmp_path / "m.onnx", nodes, [value("y", ["N", 3])], constants))

    def other_rounding(inputs: Any) -> Any:
        return {"y": np.sin(inputs["x"].astype(np.float64) * 1e6).astype(np.float32)}

    report = check(Fake(real, other_rounding))  # type: ignore[arg-type]
    assert report.ok
    assert not report.outputs[0].agrees
    assert report.outputs[0].verdict == "ok (rounding)"
    assert "which the model amplifies" in str(report)
    report = check(Fake(real, lambda inputs: {"y": np.sin(inputs["x"])}))  # type: ignore[arg-type]
    assert not report.ok
    assert report.outputs[0].ours is not None
    assert report.outputs[0].ours > 100


def test_who_is_off(tmp_path: Path) -> None:
    real = sofie_root.load(dense(tmp_path / "m.onnx"))
    x = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)
    y = np.tanh(x @ WEIGHTS)
    report = real.check(inputs={"x": x}, outputs={"y": y + np.float32(0.01)})
    (row,) = report.outputs
    assert (row.ok, row.verdict) == (False, "TOO FAR")
    assert row.ours is not None
    assert row.theirs is not None
    assert row.ours < 10
    assert row.theirs > 1e4
    assert "y: the generated code is right for the model as it was read, the given" in str(report)
    fake = Fake(real, lambda inputs: {"y": y + np.float32(0.01), "sign": y > 0})
    report = check(fake, inputs={"x": x}, outputs={"y": y, "sign": y <= 0})  # type: ignore[arg-type]
    assert "y: the generated code is off" in str(report)
    assert "sign: the generated code is right for the model as it was read" in str(report)


def test_a_model_whose_terms_cancel_opens_and_agrees(tmp_path: Path) -> None:
    """The squared distance of a point from itself is nothing but rounding, which no two sums share."""
    nodes = [
        node("Transpose", ["x"], ["t"], perm=[0, 2, 1]),
        node("MatMul", ["x", "t"], ["products"]),
        node("Mul", ["x", "x"], ["squares"]),
        node("ReduceSum", ["squares", "axis"], ["s"]),
        node("Transpose", ["s"], ["st"], perm=[0, 2, 1]),
        node("Add", ["s", "st"], ["both"]),
        node("Mul", ["products", "two"], ["twice"]),
        node("Sub", ["twice", "both"], ["y"]),
    ]
    tensors = [tensor("axis", np.array([2])), tensor("two", np.float32(2))]
    proto = model(nodes, [value("x", [2, "N", 24])], [value("y", [2, "N", "N"])], tensors, 24)
    onnx.save(proto, tmp_path / "m.onnx")
    loaded = sofie_root.load(tmp_path / "m.onnx", dims={"N": 1})
    session = loaded.session()
    example = loaded.example
    assert example is not None
    exact = evaluate_exactly(loaded.graph, example.inputs)
    session.self_test(example.inputs, example.outputs, lambda: exact)
    shifted = {n: replace(e, value=e.value + 1e-2) for n, e in exact.items()}
    wrong = {n: a + np.float32(1e-2) for n, a in example.outputs.items()}
    with pytest.raises(ToolchainError, match="self-test failed"):
        session.self_test(example.inputs, wrong, lambda: shifted)
    assert loaded.check().ok


def test_a_decision_by_the_last_bit_may_fall_either_way(tmp_path: Path) -> None:
    """ArgMax of two sums of the same numbers in another order."""
    nodes = [
        node("ReduceSum", ["x", "axes"], ["a"]),
        node("MatMul", ["x", "ones"], ["b"]),
        node("Concat", ["a", "b"], ["c"], axis=1),
        node("ArgMax", ["c"], ["y"], axis=1),
    ]
    constants = {"axes": np.int64([1]), "ones": np.ones((3, 1), np.float32)}
    path = save(tmp_path / "m.onnx", nodes, [value("y", ["N", 1], np.int64)], constants)
    real = sofie_root.load(path)
    x = np.float32([[0.1, 0.2, 0.3], [0.3, 0.7, 0.1]])
    one, other = np.int64([[0], [1]]), np.int64([[1], [0]])
    fake = Fake(real, lambda inputs: {"y": one})
    assert check(fake, inputs={"x": x}, outputs={"y": other}).outputs[0].is_rounding  # type: ignore[arg-type]


# -- events ----------------------------------------------------------------------------------------


def test_events_of_a_data_frame(root: Any, tmp_path: Path) -> None:
    """Columns make inputs as in the event loop: a table of varying length, and a number."""
    nodes = [
        node("ReduceSum", ["x", "axes"], ["s"], keepdims=0),
        node("Mul", ["s", "w"], ["p"]),
        node("Sigmoid", ["p"], ["y"]),
    ]
    inputs = [value("x", ["N", "n", 2]), value("w", ["N", 2])]
    constants = [tensor("axes", np.int64([1]))]
    onnx.save(model(nodes, inputs, [value("y", ["N", 2])], constants), tmp_path / "m.onnx")
    loaded = sofie_root.load(tmp_path / "m.onnx")
    df = root.RDataFrame(30).Define("a", "ROOT::RVecF(1 + rdfentry_ % 4, 0.1 * rdfentry_)")
    df = df.Define("b", "ROOT::RVecD(a.begin(), a.end()) - 1.0").Define("w", "0.5")
    columns = {"x": ["a", "b"], "w": ["w", "w"]}
    report = loaded.check(events=df, columns=columns, max_events=20)
    assert report.ok
    assert len(report.samples) == 20
    assert [s["n"] for s in report.samples[:5]] == [1, 2, 3, 4, 1]
    assert "20 events against ONNX Runtime" in str(report)
    same = loaded.check(
        events=df.Define("zero", "0 * a"), columns={"x": ["zero", "zero"], "w": ["w", "w"]}
    )
    assert [row.verdict for row in same.outputs] == ["NEVER CHANGES"]
    with pytest.raises(SofieError, match="events= needs columns="):
        loaded.check(events=df)
    with pytest.raises(SofieError, match="no column 'z'"):
        loaded.check(events=df, columns={"x": ["a", "z"], "w": ["w", "w"]})
    short = df.Define("c", "ROOT::RVecF(2)")
    with pytest.raises(SofieError, match=r"entry 0 in slot 0.*'c'.*equal lengths"):
        loaded.check(events=short, columns={"x": ["a", "c"], "w": ["w", "w"]})
