"""Small ONNX models for tests, and their results by ONNX Runtime and by our interpreter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from sofie_root.frontends.onnx import from_proto
from sofie_root.ir import Graph, verify
from sofie_root.program.interpret import evaluate

Array = np.ndarray[Any, Any]

node = helper.make_node


def value(name: str, shape: Sequence[int | str | None] | None, dtype: Any = np.float32) -> Any:
    """An input or output declaration; None in the shape is an unnamed dim."""
    return helper.make_tensor_value_info(
        name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape
    )


def tensor(name: str, array: Any) -> TensorProto:
    """An initialiser."""
    return numpy_helper.from_array(np.asarray(array), name)


def model(
    nodes: Sequence[NodeProto],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    tensors: Sequence[TensorProto] = (),
    opset: int = 21,
    functions: Sequence[Any] = (),
    domains: Mapping[str, int] | None = None,
    **more: Any,
) -> ModelProto:
    """A model; an output given as a name has no declared type."""
    outputs = [onnx.ValueInfoProto(name=o) if isinstance(o, str) else o for o in outputs]
    graph = helper.make_graph(nodes, "test", inputs, outputs, tensors, **more)
    imports = [helper.make_opsetid("", opset)]
    imports += [helper.make_opsetid(domain, version) for domain, version in (domains or {}).items()]
    return helper.make_model(
        graph, opset_imports=imports, ir_version=10, functions=functions, producer_name="test"
    )


def imported(proto: ModelProto, **arguments: Any) -> Graph:
    """The verified graph of a model."""
    graph = from_proto(proto, **arguments)
    verify(graph)
    return graph


def by_runtime(proto: ModelProto, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """The outputs by ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options)
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(inputs)), strict=True))


def assert_same(
    got: Mapping[str, Array], expected: Mapping[str, Array], tolerance: float = 2e-6
) -> None:
    """Names, dtypes, shapes and values agree; floats within a tolerance of the largest value."""
    assert list(got) == list(expected)
    for name, want in expected.items():
        have = got[name]
        assert have.dtype == want.dtype
        assert have.shape == want.shape
        if want.dtype.kind != "f":
            np.testing.assert_array_equal(have, want)
        elif want.size:
            scale = float(np.nanmax(np.abs(np.where(np.isfinite(want), want, 0)))) or 1.0
            np.testing.assert_allclose(have, want, rtol=tolerance, atol=tolerance * scale)


def assert_like_runtime(proto: ModelProto, inputs: Mapping[str, Array]) -> Graph:
    """Our interpreter and ONNX Runtime agree on the model; returns the graph."""
    graph = imported(proto)
    assert_same(evaluate(graph, dict(inputs)), by_runtime(proto, inputs))
    return graph


def random(shape: Sequence[int], dtype: Any = np.float32, seed: int = 7) -> Array:
    """Reproducible values: normal for floats, -5 to 5 for signed integers."""
    generator = np.random.default_rng(seed)
    kind = np.dtype(dtype).kind
    if kind == "b":
        return generator.integers(0, 2, shape).astype(bool)
    if kind in "iu":
        return generator.integers(0 if kind == "u" else -5, 6, shape).astype(dtype)
    return generator.standard_normal(shape).astype(dtype)
