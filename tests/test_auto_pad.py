"""``auto_pad`` with strides on sizes that only the caller knows: as with known sizes, and as ONNX Runtime."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compiled import Compiled
from onnx_models import by_runtime, model, node, tensor, value

from sofie_root.errors import UnsupportedError
from sofie_root.frontends.onnx import from_proto
from sofie_root.model import Model
from sofie_root.program.interpret import evaluate

RNG = np.random.default_rng(3)
WEIGHTS = RNG.normal(size=(4, 3, 3, 2)).astype(np.float32)
BYTES = RNG.integers(0, 255, (4, 3, 3, 2)).astype(np.uint8)
SIZES = ((0, 7, 9), (1, 1, 1), (2, 2, 3), (1, 5, 4), (2, 8, 12), (1, 6, 6))
"""Batch, height and width."""

KINDS: dict[str, tuple[str, list[str], list[Any], dict[str, Any], int]] = {
    "Conv": ("Conv", ["w"], [tensor("w", WEIGHTS)], {}, 21),
    "dilated Conv": ("Conv", ["w"], [tensor("w", WEIGHTS)], {"dilations": [2, 1]}, 21),
    "ConvInteger": ("ConvInteger", ["w", "zero"],
                    [tensor("w", BYTES), tensor("zero", np.array(7, np.uint8))], {}, 21),
    "MaxPool": ("MaxPool", [], [], {"kernel_shape": [3, 3]}, 21),
    "AveragePool": ("AveragePool", [], [], {"kernel_shape": [3, 3]}, 19),
    "AveragePool with pads": ("AveragePool", [], [], {"kernel_shape": [3, 3], "count_include_pad": 1}, 19),
    "LpPool": ("LpPool", [], [], {"kernel_shape": [3, 3]}, 18),
}  # fmt: skip
CASES = list(product(KINDS, ("SAME_UPPER", "SAME_LOWER"), ((2, 3), (3, 1))))


def proto(kind: str, auto_pad: str, strides: tuple[int, int], shape: Any) -> Any:
    op_type, more, tensors, attributes, opset = KINDS[kind]
    dtype = np.uint8 if kind == "ConvInteger" else np.float32
    made = node(
        op_type, ["x", *more], ["y"], auto_pad=auto_pad, strides=list(strides), **attributes
    )
    return model([made], [value("x", shape, dtype)], ["y"], tensors, opset)


def image(kind: str, n: int, h: int, w: int) -> np.ndarray[Any, Any]:
    if kind == "ConvInteger":
        return RNG.integers(0, 255, (n, 3, h, w)).astype(np.uint8)
    return RNG.normal(size=(n, 3, h, w)).astype(np.float32)


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c[0]} {c[1]} {c[2]}")
def test_as_with_known_sizes(case: tuple[str, str, tuple[int, int]]) -> None:
    graph = from_proto(proto(*case, ("N", 3, "H", "W")))
    for n, h, w in SIZES:
        x = image(case[0], n, h, w)
        known = evaluate(from_proto(proto(*case, (n, 3, h, w))), {"x": x})["y"]
        np.testing.assert_allclose(evaluate(graph, {"x": x})["y"], known, rtol=1e-5, atol=1e-5)


def test_compiled_as_onnx_runtime(tmp_path: Path) -> None:
    protos = [proto(*case, ("N", 3, "H", "W")) for case in CASES]
    library = Compiled([Model(from_proto(p)) for p in protos], tmp_path)
    for k, (case, given) in enumerate(zip(CASES, protos, strict=True)):
        for n, h, w in SIZES[2:]:
            x = image(case[0], n, h, w)
            found = library.run(k, {"x": x})["y"]
            if "dilated" not in case[0]:
                (expected,) = by_runtime(given, {"x": x}).values()
                np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4, err_msg=str(case))


def test_indices_are_refused() -> None:
    made = node(
        "MaxPool", ["x"], ["y", "i"], auto_pad="SAME_UPPER", strides=[2, 2], kernel_shape=[3, 3]
    )
    with pytest.raises(UnsupportedError, match="indices where auto_pad"):
        from_proto(model([made], [value("x", ("N", 3, "H", "W"))], ["y", "i"]))
