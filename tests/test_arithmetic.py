"""Divisions that are saved, sums that are written out, and what must stay a division."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from compiled import Compiled
from onnx import ModelProto
from onnx_models import by_runtime, imported, model, node, tensor, value

from sofie_root.model import Model

RNG = np.random.default_rng(5)


def _graph(kind: str) -> tuple[Model, ModelProto, dict[str, np.ndarray]]:
    scalars = {"two": 2.0, "eight": 8.0, "six": 6.2831855, "one": 1.0, "half": 0.5, "eps": 1e-5}
    tensors = [tensor(name, np.float32(x)) for name, x in scalars.items()]
    tensors += [tensor("root", np.float32(np.sqrt(2))), tensor("last", np.array([-1]))]
    x = RNG.normal(size=(6, 40)).astype(np.float32) * 3
    if kind == "gelu":
        nodes = [
            node("Div", ["x", "root"], ["a"]), node("Erf", ["a"], ["b"]),
            node("Add", ["b", "one"], ["c"]), node("Mul", ["x", "c"], ["d"]),
            node("Mul", ["d", "half"], ["y"]),
        ]  # fmt: skip
        x[0, :4] = [0.0, -0.0, 30, -30]
    elif kind == "norm":
        nodes = [
            node("ReduceMean", ["x", "last"], ["m"]), node("Sub", ["x", "m"], ["d"]),
            node("Pow", ["d", "two"], ["p"]), node("ReduceMean", ["p", "last"], ["v"]),
            node("Add", ["v", "eps"], ["e"]), node("Sqrt", ["e"], ["s"]),
            node("Div", ["d", "s"], ["y"]),
        ]  # fmt: skip
        x[1] = 7.0  # no variance
    elif kind == "floor":
        nodes = [
            node("Div", ["x", "six"], ["a"]), node("Floor", ["a"], ["y"]),
        ]  # fmt: skip
        x = np.arange(-120, 120, dtype=np.float32).reshape(6, 40) * np.float32(6.2831855)
    elif kind == "power of two":
        nodes = [node("Div", ["x", "eight"], ["a"]), node("Floor", ["a"], ["y"])]
    elif kind == "small":
        nodes = [
            node("ReduceSum", ["x", "last"], ["a"]), node("ReduceMax", ["x", "last"], ["b"]),
            node("Mul", ["a", "b"], ["y"]),
        ]  # fmt: skip
        x = RNG.normal(size=(80, 3)).astype(np.float32)
    else:  # a root that others read, too
        nodes = [
            node("Add", ["x", "eps"], ["e"]), node("Sqrt", ["e"], ["s"]),
            node("Div", ["x", "s"], ["d"]), node("ReduceSum", ["s", "last"], ["t"]),
            node("Add", ["d", "t"], ["y"]),
        ]  # fmt: skip
        x = np.abs(x)
    proto = model(nodes, [value("x", x.shape)], ["y"], tensors)
    return Model(imported(proto)), proto, {"x": x}


KINDS = {
    "gelu": ("one_plus_erf", " / "),
    "norm": ("1.0 / sqrt", ") / norm"),
    "floor": (" / 6.28", " * 0.1591"),
    "power of two": (" * 0.125", " / "),
    "small": ("max(", "max["),
    "shared": ("sum[", "1.0 / sqrt"),
}
"""What the schedule of each graph says, and what it does not."""


@pytest.mark.parametrize("kind", KINDS)
def test_schedule(kind: str) -> None:
    text = str(_graph(kind)[0].schedule)
    says, not_ = KINDS[kind]
    assert says in text, text
    assert not_ not in text, text


def test_numbers(tmp_path: Path) -> None:
    graphs = [_graph(kind) for kind in KINDS]
    library = Compiled([g[0] for g in graphs], tmp_path)
    for k, (kind, (_, proto, feeds)) in enumerate(zip(KINDS, graphs, strict=True)):
        (expected,) = by_runtime(proto, feeds).values()
        (actual,) = library.run(k, feeds).values()
        exact = kind in ("floor", "power of two")
        np.testing.assert_allclose(
            actual, expected, *((0, 0) if exact else (1e-5, 1e-6)), err_msg=kind
        )
