"""From a model to its results: generated headers through both engines, every kind of weights."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import onnx
import pytest
import uproot
from onnx import helper, numpy_helper

import sofie_root
from rootbench.zoo_folder import ABSENT, ZOO
from sofie_root.errors import StorageError, ToolchainError
from sofie_root.runtime.interpreter import Engine
from sofie_root.runtime.session import open_header

RNG = np.random.default_rng(11)
W1, B1 = RNG.standard_normal((5, 16)).astype(np.float32), RNG.standard_normal(16).astype(np.float32)
W2 = RNG.standard_normal((16, 2)).astype(np.float32)


@pytest.fixture(params=["cling", "compiler"])
def jit(request: pytest.FixtureRequest) -> Engine:
    engine: Engine = request.param
    return engine


def save(path: Path, scale: float = 1) -> Path:
    """scale relu(x w1 + b1) w2 with x [N, 5]; and a second output, its hidden layer."""
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["h"]),
        helper.make_node("Relu", ["h"], ["hidden"]),
        helper.make_node("MatMul", ["hidden", "w2"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "mlp",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", 5])],
        [
            helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ["N", None])
            for n in ("y", "hidden")
        ],
        [
            numpy_helper.from_array(a, n)
            for n, a in {"w1": W1, "b1": B1, "w2": np.float32(scale) * W2}.items()
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> sofie_root.Model:
    return sofie_root.load(save(tmp_path_factory.mktemp("model") / "mlp.onnx"))


def expected(x: np.ndarray, scale: float = 1) -> tuple[np.ndarray, np.ndarray]:
    hidden = np.maximum(x @ W1 + B1, 0)
    return hidden @ (np.float32(scale) * W2), hidden


def check(session: Any, scale: float = 1) -> None:
    for n in (1, 7, 1, 33):
        x = RNG.standard_normal((n, 5)).astype(np.float32)
        for found, wanted in zip(session(x), expected(x, scale), strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_session_of_a_model(model: sofie_root.Model, jit: Engine) -> None:
    session = model.session(jit)
    assert isinstance(session, sofie_root.Session)
    check(session)
    check(session.clone())


def test_two_models_of_one_name(model: sofie_root.Model, jit: Engine, tmp_path: Path) -> None:
    other = sofie_root.load(save(tmp_path / "mlp.onnx", scale=3)).session(jit)
    session = model.session(jit)
    check(other, scale=3)
    check(session)


@pytest.mark.parametrize("standalone", [True, False])
@pytest.mark.parametrize(
    ("weights", "engine"),
    [
        ("dat", "cling"),
        ("dat", "compiler"),
        ("embedded", "cling"),
        ("embedded", "compiler"),
        ("root", "cling"),  # reads them with ROOT, which a compiler does not know of
    ],
)
def test_generated_header(
    model: sofie_root.Model, tmp_path: Path, weights: Any, engine: Engine, standalone: bool
) -> None:
    path = model.generate(tmp_path / "net.hxx", weights=weights, standalone=standalone)
    check(open_header(path, jit=engine))


def test_weights_of_another_model(model: sofie_root.Model, jit: Engine, tmp_path: Path) -> None:
    path = model.generate(tmp_path / "net.hxx")
    other = sofie_root.load(save(tmp_path / "other.onnx", scale=2)).generate(tmp_path / "other.hxx")
    assert open_header(path, jit=jit) is not None
    shutil.copy(other.with_suffix(".dat"), tmp_path / "wrong.dat")
    with pytest.raises(StorageError, match=r"wrong\.dat"):
        open_header(path, weights=tmp_path / "wrong.dat", jit=jit)
    (tmp_path / "cut.dat").write_bytes(path.with_suffix(".dat").read_bytes()[:100])
    with pytest.raises(StorageError, match=r"cut\.dat"):
        open_header(path, weights=tmp_path / "cut.dat", jit=jit)


def test_a_wrong_number_is_an_exception(
    model: sofie_root.Model, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The self-test compares with the model's own example: here the code is that of another model."""
    monkeypatch.setenv("SOFIE_ROOT_CACHE", str(tmp_path))  # where no header is kept yet
    other, header = sofie_root.load(save(tmp_path / "other.onnx", scale=2)), sofie_root.Model.header
    monkeypatch.setattr(sofie_root.Model, "header", lambda _, *a, **k: header(other, *a, **k))
    with pytest.raises(ToolchainError, match="self-test failed"):
        model.session("compiler")


def test_data_frame_equals_numpy_bit_for_bit(
    model: sofie_root.Model, jit: Engine, root: Any
) -> None:
    session = model.session(jit)
    events = 300
    columns = [f"c{k}" for k in range(5)]
    df = root.RDataFrame(events)
    for k, column in enumerate(columns):
        df = df.Define(column, f"float(std::sin(rdfentry_ * {k + 1}))")
    arrays = df.AsNumpy(columns)
    x = np.stack([arrays[c] for c in columns], axis=1)
    df = sofie_root.define(df, "out", session, columns)
    found = df.AsNumpy(["out_y", "out_hidden"])
    for k in range(events):
        y, hidden = session(x[k : k + 1])
        np.testing.assert_array_equal(np.asarray(found["out_y"][k]), y[0])
        np.testing.assert_array_equal(np.asarray(found["out_hidden"][k]), hidden[0])


def test_sizes_that_are_expressions_or_known_only_after_the_run(
    jit: Engine, root: Any, tmp_path: Path
) -> None:
    nodes = [
        helper.make_node("Concat", ["x", "x"], ["twice"], axis=0),
        helper.make_node("NonZero", ["x"], ["where"]),
    ]
    graph = helper.make_graph(
        nodes,
        "sizes",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n"])],
        [
            helper.make_tensor_value_info("twice", onnx.TensorProto.FLOAT, [None]),
            helper.make_tensor_value_info("where", onnx.TensorProto.INT64, [1, None]),
        ],
    )
    path = tmp_path / "sizes.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    session = sofie_root.load(path).session(jit)
    for n in (3, 0, 8, 1):
        x = np.where(np.arange(n) % 3 == 1, 0, np.arange(n) + 1).astype(np.float32)
        twice, where = session(x)
        np.testing.assert_array_equal(twice, np.concatenate([x, x]))
        np.testing.assert_array_equal(where, [np.flatnonzero(x)])
        into = {"twice": np.empty(2 * n, np.float32)}
        np.testing.assert_array_equal(session.run({"x": x}, out=into)["twice"], twice)
    df = root.RDataFrame(6).Define("v", "ROOT::RVecF(rdfentry_, 2.0)")
    found = sofie_root.define(df, "y", session, ["v"]).AsNumpy(["y_twice", "y_where"])
    assert [len(v) for v in found["y_twice"]] == [0, 2, 4, 6, 8, 10]
    assert [list(v) for v in found["y_where"]] == [list(range(k)) for k in range(6)]


PARTICLE_NET = ZOO / "models" / "cms_triton_particlenet_ak4" / "model.onnx"


@pytest.mark.skipif(not PARTICLE_NET.is_file(), reason=ABSENT)
def test_particle_net_on_events_of_all_sizes(root: Any, tmp_path: Path) -> None:
    """Jets with other numbers of particles and vertices in each event, from a file, in two threads."""
    session = sofie_root.load(PARTICLE_NET).session("cling")
    rng, events = np.random.default_rng(2), 60
    sizes = {s: rng.integers(17, 60, events) for s in session.symbols} | {"N": np.ones(events, int)}
    inputs = [
        {
            t.name: rng.random(
                [sizes[d][k] if isinstance(d, str) else d for d in t.shape], np.float32
            )
            for t in session.inputs
        }
        for k in range(events)
    ]
    path = tmp_path / "jets.root"
    with uproot.recreate(path) as file:
        columns = {t.name: ak.Array([e[t.name].ravel() for e in inputs]) for t in session.inputs}
        tree = file.mktree("jets", dict.fromkeys(columns, "var * float32") | {"event": "int64"})
        for first in range(0, events, 20):
            part = {n: c[first : first + 20] for n, c in columns.items()}
            tree.extend(part | {"event": np.arange(first, first + 20)})
    root.EnableImplicitMT(2)
    try:
        df = root.RDataFrame("jets", str(path))
        df = sofie_root.define(df, "scores", session, {n: [n] for n in columns})
        found = df.AsNumpy(["event", "scores"])
    finally:
        root.DisableImplicitMT()
    assert len(found["event"]) == events
    for event, scores in zip(found["event"], found["scores"], strict=True):
        np.testing.assert_array_equal(np.asarray(scores), session.run(inputs[event])["softmax"][0])
