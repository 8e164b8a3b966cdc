"""Distributed RDataFrame: what is shipped to the workers, and a Dask cluster where Dask is installed."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import sofie_root
from sofie_root.errors import DataFrameError
from sofie_root.runtime.booking import Booking
from sofie_root.runtime.dataframe import define
from sofie_root.runtime.distributed import distribute, is_distributed

REPOSITORY = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """relu(x w1 + b1) w2 with x [N, 3]."""
    rng = np.random.default_rng(3)
    arrays = {
        "w1": rng.standard_normal((3, 8)).astype(np.float32),
        "b1": rng.standard_normal(8).astype(np.float32),
        "w2": rng.standard_normal((8, 1)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "w2"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", 3])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["N", 1])],
        [numpy_helper.from_array(a, n) for n, a in arrays.items()],
    )
    path = tmp_path_factory.mktemp("model") / "small.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


def test_shipped_code_does_what_the_functor_does(root: Any, model_file: Path) -> None:
    model = sofie_root.load(model_file)
    df = root.RDataFrame(50).Define("a", "0.1f * rdfentry_").Define("b", "int(rdfentry_ % 7)")
    df = define(df, "local", model, ["a", "b", "a"])
    booking = Booking("", [0], ["a", "b", "a"], ["float", "int", "float"])
    expression = distribute(model, booking)
    assert distribute(model, booking) == expression  # again is fine
    found = df.Define("shipped", expression).AsNumpy(["local", "shipped"])
    np.testing.assert_array_equal(found["local"], found["shipped"])
    assert len(set(found["local"])) > 10


def test_shipped_code_lays_columns_out_as_the_functor_does(root: Any, tmp_path: Path) -> None:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "square",
        [value("x", onnx.TensorProto.FLOAT, [1, 2, 2])],
        [value("y", onnx.TensorProto.FLOAT, [1, 2, 2])],
    )
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets), tmp_path / "square.onnx")
    model = sofie_root.load(tmp_path / "square.onnx")
    df = root.RDataFrame(3).Define("a", "ROOT::RVecF{1, 2}").Define("b", "ROOT::RVecD{3, 4}")
    types = [str(df.GetColumnType(c)) for c in ("a", "b")]
    for layout, expected in (("features last", [1, 3, 2, 4]), ("features first", [1, 2, 3, 4])):
        df = define(df, layout[9:], model, ["a", "b"], layout=layout)
        booking = Booking("", [0], ["a", "b"], types, layouts=[layout])
        df = df.Define(f"shipped_{layout[9:]}", distribute(model, booking))
        found = df.AsNumpy([layout[9:], f"shipped_{layout[9:]}"])
        for arrays in found.values():
            assert [list(v) for v in arrays] == [expected] * 3


def test_a_session_cannot_be_shipped(model_file: Path) -> None:
    session = sofie_root.load(model_file).session()
    with pytest.raises(DataFrameError, match="needs the model itself"):
        distribute(session, Booking("", [0]))


def test_a_plain_data_frame_is_not_distributed(root: Any) -> None:
    assert not is_distributed(root.RDataFrame(1))
    assert not is_distributed(root.RDataFrame(1).Define("x", "1"))


SCRIPT = """
import sys
import sofie_root

def main():
    from dask.distributed import Client, LocalCluster
    from sofie_root.runtime.interpreter import import_root
    root = import_root()
    model = sofie_root.load(sys.argv[1])
    cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
    with cluster, Client(cluster) as client:
        def score(df):
            df = df.Define("a", "0.1f * rdfentry_").Define("b", "int(rdfentry_ % 7)")
            return sofie_root.define(df, "y", model, ["a", "b", "a"])
        df = score(root.RDataFrame(500, executor=client))
        found, expected = df.Sum("y").GetValue(), score(root.RDataFrame(500)).Sum("y").GetValue()
        assert abs(found - expected) < 1e-9 * abs(expected), (found, expected)
        for action, words in (
            (lambda: sofie_root.define(df, "z", model, ["a", "b"]), "takes 3 values"),
            (lambda: sofie_root.define(df, "z", model, ["a", "b", "d"]), "no column 'd'"),
            (lambda: sofie_root.SofieFunctor(model, df, ["a", "b", "a"]), "use sofie_root.define"),
        ):
            try:
                action()
            except sofie_root.SofieError as error:
                assert words in str(error), error
            else:
                raise AssertionError(words)
    print("\\nall is well")

if __name__ == "__main__":
    main()
"""


@pytest.mark.skipif(importlib.util.find_spec("distributed") is None, reason="Dask is not installed")
def test_dask(model_file: Path, tmp_path: Path) -> None:
    script = tmp_path / "run_on_dask.py"
    script.write_text(SCRIPT)
    path = os.pathsep.join([str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script), str(model_file)],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("all is well\n")
