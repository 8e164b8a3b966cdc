"""A case that an operator is tested on: a one-node model, its inputs, and what is expected.

What is expected comes from ONNX Runtime, or from ONNX's reference implementation where ONNX Runtime
has no kernel.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from sofie_root.frontends.onnx import from_proto
from sofie_root.program.interpret import evaluate

OPSET = 22
"""Opset of a row that does not say otherwise; ONNX Runtime has kernels for it."""

TOLERANCES = {"float16": 2e-3, "bfloat16": 2e-2, "float32": 1e-5, "float64": 1e-6}
"""Relative and absolute tolerance by dtype of the output; integers must be equal."""


@dataclass(frozen=True)
class Case:
    """One operator on one set of inputs.

    Attributes:
        id: unique name.
        op_type: the operator.
        inputs: arrays; None for an omitted optional input.
        attrs: the node's attributes.
        constants: positions of inputs that are initialisers of the model instead of inputs.
        outputs: number of outputs.
        opset: version of the model.
        tolerance: relative and absolute tolerance; by dtype if None.
        static: whether the case needs sizes that are known when the model is generated.
        lists: positions of inputs that list sizes or axes; their own length is always a number.
    """

    id: str
    op_type: str
    inputs: tuple[np.ndarray | None, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)
    constants: frozenset[int] = frozenset()
    outputs: int = 1
    opset: int = OPSET
    tolerance: float | None = None
    static: bool = False
    lists: frozenset[int] = frozenset()

    def __str__(self) -> str:
        return self.id

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the model's outputs."""
        return tuple(f"y{k}" for k in range(self.outputs))

    @property
    def feeds(self) -> dict[str, np.ndarray]:
        """The model's inputs by name."""
        return {
            f"x{k}": array
            for k, array in enumerate(self.inputs)
            if array is not None and k not in self.constants
        }

    def model(self, symbolic: bool = False) -> onnx.ModelProto:
        """The model; ``symbolic`` makes every input size but 1 a dim, shared by equal sizes."""
        names = ["" if array is None else f"x{k}" for k, array in enumerate(self.inputs)]
        node = helper.make_node(
            self.op_type, names, self.output_names, name=self.op_type, **self.attrs
        )
        inputs = []
        for name, array in self.feeds.items():
            named = symbolic and int(name[1:]) not in self.lists
            shape = [f"n{d}" if named and d != 1 else d for d in array.shape]
            inputs.append(helper.make_tensor_value_info(name, element_type(array), shape))
        outputs = [helper.make_empty_tensor_value_info(name) for name in self.output_names]
        initializers = [
            numpy_helper.from_array(_checked(self.inputs[k]), f"x{k}") for k in self.constants
        ]
        graph = helper.make_graph([node], self.id, inputs, outputs, initializers)
        opset = helper.make_opsetid("", self.opset)
        return helper.make_model(graph, opset_imports=[opset], ir_version=10)

    @cached_property
    def expected(self) -> list[np.ndarray]:
        """What ONNX Runtime gives, or ONNX's reference implementation where it cannot."""
        result = _onnxruntime(self)
        if result is None:
            with np.errstate(all="ignore"):
                result = ReferenceEvaluator(self.model()).run(None, self.feeds)
        return [np.asarray(r) for r in result]

    def check(self, outputs: Sequence[np.ndarray], what: str) -> None:
        """Raises AssertionError where the outputs are not what is expected."""
        assert len(outputs) == len(self.expected), f"{self.id}: {len(outputs)} outputs"
        for name, actual, expected in zip(self.output_names, outputs, self.expected, strict=True):
            message = f"{self.id} {name}, {what}"
            assert actual.dtype == expected.dtype, (
                f"{message}: {actual.dtype}, expected {expected.dtype}"
            )
            assert actual.shape == expected.shape, (
                f"{message}: {actual.shape}, expected {expected.shape}"
            )
            tolerance = (
                TOLERANCES.get(str(expected.dtype), 0.0)
                if self.tolerance is None
                else self.tolerance
            )
            wide = np.float64 if expected.dtype.kind not in "biu" else expected.dtype
            np.testing.assert_allclose(
                actual.astype(wide), expected.astype(wide), tolerance, tolerance, err_msg=message
            )


def _checked(array: np.ndarray | None) -> np.ndarray:
    assert array is not None
    return array


def element_type(array: np.ndarray) -> int:
    """ONNX number of an array's dtype."""
    return helper.np_dtype_to_tensor_dtype(array.dtype)


def _onnxruntime(case: Case) -> list[np.ndarray] | None:
    import onnxruntime as ort

    if any(f.dtype.name == "bfloat16" for f in case.feeds.values()):
        return None
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = ort.InferenceSession(
            case.model().SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        return session.run(None, case.feeds)
    except Exception:  # ONNX Runtime raises several kinds, none of them public
        return None


class Table:
    """Collects cases and numbers the rows of each operator.

    The functions below draw what a row reads from a generator that starts anew after each row, so that the
    numbers of a case depend on nothing but its place in its table.
    """

    def __init__(self) -> None:
        self.cases: list[Case] = []
        self._count: dict[str, int] = {}
        _draw_anew("")

    def row(
        self,
        op_type: str,
        *inputs: Any,
        constants: Iterable[int] = (),
        outputs: int = 1,
        opset: int = OPSET,
        tolerance: float | None = None,
        static: bool = False,
        **attrs: Any,
    ) -> None:
        """Adds a case; lists (sizes, axes) and numbers become INT64 arrays."""
        number = self._count.get(op_type, 0)
        self._count[op_type] = number + 1
        arrays = tuple(
            None
            if x is None
            else x
            if isinstance(x, (np.ndarray, np.generic))
            else np.array(x, np.int64)
            for x in inputs
        )
        arrays = tuple(None if x is None else np.asarray(x) for x in arrays)
        shape = "x".join(map(str, arrays[0].shape)) if arrays and arrays[0] is not None else ""
        kind = arrays[0].dtype.name if arrays and arrays[0] is not None else ""
        self.cases.append(
            Case(
                f"{op_type}_{number}_{kind}_{shape}",
                op_type,
                arrays,
                attrs,
                frozenset(constants),
                outputs,
                opset,
                tolerance,
                static,
                frozenset(k for k, x in enumerate(inputs) if isinstance(x, list)),
            )
        )
        _draw_anew(self.cases[-1].id)


_RNG = np.random.default_rng()
FLOATS = (np.float32, np.float64, np.float16)
INTEGERS = (np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64)


def _draw_anew(name: str) -> None:
    """Lets the generator start again, with numbers that belong to this name."""
    _RNG.bit_generator.state = np.random.default_rng([*name.encode()]).bit_generator.state


def real(*shape: int, low: float = -3.0, high: float = 3.0, dtype: Any = np.float32) -> np.ndarray:
    """Random numbers between ``low`` and ``high``."""
    return np.asarray(_RNG.uniform(low, high, shape)).astype(dtype)


def whole(*shape: int, low: int = -9, high: int = 10, dtype: Any = np.int64) -> np.ndarray:
    """Random integers in ``[low, high)``; from 0 for unsigned types."""
    low = max(low, 0) if np.issubdtype(dtype, np.unsignedinteger) else low
    return np.asarray(_RNG.integers(low, high, shape)).astype(dtype)


def byte(*shape: int, dtype: Any = np.uint8) -> np.ndarray:
    """Random integers of all values of an 8-bit dtype."""
    return np.asarray(_RNG.integers(0, 256, shape)).astype(np.uint8).view(dtype)


def boolean(*shape: int) -> np.ndarray:
    """Random truth values."""
    return np.asarray(_RNG.random(shape) < 0.5)


def numbers(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    """Random numbers that suit the dtype, none of them zero."""
    if np.issubdtype(dtype, np.floating) or np.dtype(dtype).name == "bfloat16":
        values = real(*shape, low=0.5)
        return (values * np.where(boolean(*shape), 1, -1)).astype(dtype)
    values = whole(*shape, low=1, dtype=dtype)
    sign = 1 if np.issubdtype(dtype, np.unsignedinteger) else np.where(boolean(*shape), 1, -1)
    return np.asarray(values * sign).astype(dtype)


def interpreted(case: Case, symbolic: bool = False, double: bool = False) -> list[np.ndarray]:
    """The outputs of a case as the NumPy interpreter computes them."""
    outputs = evaluate(from_proto(case.model(symbolic)), case.feeds, double=double)
    return [outputs[name] for name in case.output_names]
