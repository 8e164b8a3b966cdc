"""Kernels at shapes that ask for every form they have: narrow, short, dynamic, on each instruction set."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from compiled import FLAGS, Compiled
from onnx import ModelProto
from onnx_models import Array, assert_same, by_runtime, model, node, random, tensor, value

from sofie_root.frontends.onnx import from_proto
from sofie_root.model import Model
from sofie_root.program.choice import VARIABLE

TARGETS = ("native", "x86-64-v3", "x86-64")
FORMS = (("always", False), ("always", True), ("never", False))
"""Winograd's algorithm wherever it can be, then channels last, then channels first."""


def conv(
    x: tuple[int | str, ...], outputs: int, kernel: tuple[int, ...], op: str = "Conv", **attrs: Any
) -> ModelProto:
    """A convolution with a bias; strings in the shape are size symbols."""
    group = attrs.get("group", 1)
    channels = int(x[1])
    shape = (outputs, channels // group, *kernel)
    if op == "ConvTranspose":
        shape = (channels, outputs // group, *kernel)
    tensors = [tensor("w", random(shape, seed=1)), tensor("b", random((outputs,), seed=2))]
    nodes = [node(op, ["x", "w", "b"], ["y"], **attrs)]
    return model(nodes, [value("x", list(x))], ["y"], tensors)


def convolutions() -> Iterator[ModelProto]:
    """Every way in which sizes of an image may be known or not, around the sizes of tiles."""
    for width in (1, 2, 5, 6, 8, 11, 13):
        yield conv(("N", 5, "T", width + 2), 32, (1, 3))
    yield conv(("N", 16, "T", 8), 17, (3, 3), strides=[2, 2])
    yield conv(("N", 3, "T", 6), 9, (3, 3), pads=[1, 1, 1, 1])
    yield conv(("N", 4, "T", 5), 40, (3, 5), pads=[1, 2, 1, 2], dilations=[2, 1])
    yield conv(("N", 4, 7, "T"), 24, (3, 3), pads=[1, 1, 1, 1])
    yield conv((1, 4, 3, "T"), 1, (3, 3), strides=[1, 2])
    yield conv((2, 3, 4, 7), 33, (2, 3))
    yield conv((1, 1, 3, 3), 16, (3, 3))
    yield conv((1, 8, 14, 14), 8, (3, 3), pads=[1, 1, 1, 1])
    yield conv(("N", 7, "T"), 12, (3,))
    yield conv((1, 7, "T"), 48, (5,), strides=[3], pads=[2, 2])
    yield conv((1, 3, 19), 5, (1,))
    yield conv(("N", 4, "T", 5, 6), 18, (3, 1, 2), strides=[1, 2, 1])
    yield conv(("N", 4, "T", "T", 4), 16, (1, 1, 3), pads=[0, 0, 1, 0, 0, 1])
    yield conv((1, 2, 3, 4, 9), 7, (1, 2, 3), strides=[1, 1, 2])
    yield conv(("N", 16, "T", 6), 16, (3, 3), group=16, pads=[1, 1, 1, 1])
    yield conv(("N", 8, "T", 6), 12, (3, 2), group=4)
    yield conv(("N", 5, "T", 4), 6, (3, 3), "ConvTranspose", strides=[2, 2], pads=[1, 0, 0, 1])
    yield conv((1, 4, "T"), 10, (4,), "ConvTranspose", strides=[3])


def inputs(proto: ModelProto) -> Iterator[dict[str, Array]]:
    """Inputs with several sizes for what is a symbol, from few to more than fill a tile."""
    (x,) = proto.graph.input
    dims = x.type.tensor_type.shape.dim
    symbols = sorted({d.dim_param for d in dims if d.dim_param})
    for n, t in ((1, 5), (2, 6), (1, 17), (3, 30)) if symbols else ((1, 1),):
        sizes = {"N": n, "T": t}
        yield {"x": random([sizes[d.dim_param] if d.dim_param else d.dim_value for d in dims])}


@pytest.mark.parametrize("form", FORMS, ids=lambda f: f"{f[0]}{'-exact' if f[1] else ''}")
@pytest.mark.parametrize(
    "target", [t if t == "native" else pytest.param(t, marks=pytest.mark.slow) for t in TARGETS]
)
def test_convolutions(
    target: str, form: tuple[str, bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernels, exact = form
    monkeypatch.setenv(VARIABLE, kernels)
    protos = list(convolutions())
    flags = [f if f != "-march=native" else f"-march={target}" for f in FLAGS]
    models = [Model(from_proto(p, f"conv_{k}")) for k, p in enumerate(protos)]
    library = Compiled(models, tmp_path, flags=flags, exact=exact)
    for k, proto in enumerate(protos):
        for given in inputs(proto):
            try:
                assert_same(library.run(k, given), by_runtime(proto, given), 2e-5)
            except AssertionError as error:
                shape = given["x"].shape
                raise AssertionError(f"{proto.graph.input[0]} {shape}: {error}") from error
