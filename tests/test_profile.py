"""Profiles name the model's nodes, and their numbers are those of its steps."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_models import model as onnx_model
from onnx_models import node, tensor, value
from small_models import SMALL, attention, mlp, parsed, weight

from sofie_root.cli import main
from sofie_root.errors import InputError, ToolchainError
from sofie_root.ir.dim import value_of
from sofie_root.model import Model
from sofie_root.program.choice import Choice
from sofie_root.program.nest import Nest
from sofie_root.program.operation import Operation
from sofie_root.program.statement import Bind, Check
from sofie_root.runtime.compiler import has_compiler
from sofie_root.runtime.profile import ProfileReport
from sofie_root.schedule.schedule import schedule
from sofie_root.schedule.work import operations, transferred
from sofie_root.targets.cpu.target import CPU
from sofie_root.targets.cxx.summary import kind_of

compiled = pytest.mark.skipif(not has_compiler(), reason="a profile needs a C++ compiler")


def consistent(model: Model, report: ProfileReport) -> None:
    """Steps are those of the schedule, nodes those of the model, and the numbers add up."""
    steps = model.schedule.steps
    timed = [k + 1 for k, s in enumerate(steps) if not isinstance(s, Bind | Check)]
    assert [s.step for s in report.steps] == timed
    known = {n.name for n in model.graph.all_nodes()} | {f"output {o}" for o in model.outputs}
    for s in report.steps:
        assert s.nodes
        assert known.issuperset(s.nodes), s.nodes
        assert s.microseconds >= 0
    assert report.microseconds > 0
    assert report.microseconds == pytest.approx(sum(s.microseconds for s in report.steps))
    assert sum(s.share for s in report.steps) == pytest.approx(1)
    assert report.gflops > 0
    assert report.gbytes > 0
    assert report.calls >= 10


@compiled
@pytest.mark.parametrize("name", ["mlp", "rnn", "control", "attention"])
def test_small_models(name: str) -> None:
    model = attention() if name == "attention" else SMALL[name]()
    report = model.profile(seconds=0.01)
    consistent(model, report)
    assert str(report).count("\n") == 1 + len(report.steps)
    read = json.loads(report.json())
    assert [s["nodes"] for s in read["steps"]] == [list(s.nodes) for s in report.steps]
    assert set(report.dims) == set(model.symbols)


@compiled
def test_another_target() -> None:
    report = mlp().profile(seconds=0.01, target="reference")
    assert report.microseconds > 0
    products = [s for s in report.steps if s.kind == "Linear"]
    assert [s.nodes[0] for s in products] == ["/fc1/Gemm", "/fc2/Gemm"]


@compiled
def test_inputs_and_sizes_are_those_given() -> None:
    model = mlp()
    assert model.profile(dims={"N": 5}, seconds=0.01).dims == {"N": 5}
    x = np.ones((3, 16), np.float32)
    assert model.profile({"x": x}, seconds=0.01).dims == {"N": 3}
    with pytest.raises(InputError, match="dimension 1 is 4, expected 16"):
        model.profile({"x": x[:, :4].copy()}, seconds=0.01)


@compiled
def test_what_the_model_refuses_is_said() -> None:
    nodes = [node("Gather", ["x", "i"], ["y"])]
    inputs = [value("x", [4]), value("i", ["N"], np.int64)]
    model = parsed(onnx_model(nodes, inputs, ["y"]), "gather")
    x, i = np.zeros(4, np.float32), np.array([7])
    with pytest.raises(InputError, match="7"):
        model.profile({"x": x, "i": i}, seconds=0.01)


def test_it_needs_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ToolchainError, match="no-such-compiler"):
        mlp().profile()


def work(model: Model, **sizes: int) -> list[tuple[str, int | None, int]]:
    """Kind, operations and bytes of the steps."""
    schedule = model.schedule

    def resolve(d: Any) -> int:
        return int(value_of(d, lambda atom: sizes[str(atom)]))

    return [
        (
            kind_of(s),
            operations(schedule, k, resolve),
            transferred(schedule, k, resolve),
        )
        for k, s in enumerate(schedule.steps)
        if isinstance(s, Nest | Operation)
    ]


def test_operations_and_bytes() -> None:
    """Two products with what is fused into them, and a softmax: counted by hand."""
    first, second, softmax = work(mlp(), N=7)
    # A bias and a ReLU for each element; x, the packed weights, the bias, and the result.
    assert first == ("Linear", 7 * 32 * (2 * 16 + 2), 4 * (7 * 16 + 16 * 32 + 32 + 7 * 32))
    # 5 columns are packed as 16.
    assert second == ("Linear", 7 * 5 * (2 * 32 + 1), 4 * (7 * 32 + 32 * 16 + 5 + 7 * 5))
    # Maximum; difference and exponential; sum; quotient.
    assert softmax == ("loop", 7 * 5 * 5, 4 * (7 * 5 + 7 * 5))


def test_recurrent_cells_are_counted() -> None:
    rows = [row for row in work(SMALL["rnn"](), N=2, T=3, S=3) if row[0] == "PackedLstm"]
    assert len(rows) == 2
    assert {flops for _, flops, _ in rows} == {2 * 3 * 2 * 4 * 6 * (3 + 6)}


@pytest.mark.parametrize("mode", ["auto", "always", "never"])
def test_every_form_of_a_convolution_counts_the_same(mode: Any) -> None:
    """As a direct convolution does: 3 x 3 taps of each channel, padding included."""
    x, layers, tensors = value("x", [1, 16, 12, 12]), [], []
    shapes = [(32, 16, 3, 3), (32, 1, 3, 3), (8, 32, 3, 3)]
    for k, shape in enumerate(shapes):
        tensors.append(tensor(f"W{k}", weight(*shape)))
        group = 32 if shape[1] == 1 else 1
        layers.append(
            node("Conv", [f"y{k - 1}" if k else "x", f"W{k}"], [f"y{k}"], pads=[1] * 4, group=group)
        )
    tensors.append(tensor("T", weight(8, 4, 2, 2)))
    layers.append(node("ConvTranspose", ["y2", "T"], ["y"], strides=[2, 2]))
    model = parsed(onnx_model(layers, [x], ["y"], tensors), "convolutions")
    steps = schedule(model._optimised[0], CPU, Choice(mode)).steps
    found = [s.multiply_adds(int) for s in steps if isinstance(s, Operation)]  # type: ignore[arg-type]
    counts = [12 * 12 * prod(shape) for shape in shapes] + [12 * 12 * 8 * 4 * 2 * 2]
    assert [n for n in found if n is not None] == counts


def test_ordinary_headers_take_no_time() -> None:
    text = mlp().header(standalone=True).text
    assert "profile" not in text
    assert "steady_clock" not in text


@compiled
def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = mlp().save(tmp_path / "mlp.root")
    assert main(["profile", str(path), "--dim", "N=4", "--seconds", "0.01"]) == 0
    out = capsys.readouterr().out
    assert "mlp, N=4: " in out
    assert "/fc1/Gemm" in out
    assert "[N, 16]" in out
    arguments = ["profile", str(path), "--dim", "N=4", "--seconds", "0.01", "--json"]
    assert main(arguments) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["dims"] == {"N": 4}
    assert len(report["steps"]) == 3
