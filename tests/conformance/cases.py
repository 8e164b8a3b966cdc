"""The cases: ONNX's node tests, its PyTorch and simple sets, and its nine full networks."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, SequenceProto, TensorProto, TypeProto, numpy_helper
from onnx.backend.test import loader

DATA = Path(loader.DATA_DIR)
SETS = ("node", "simple", "pytorch-operator", "pytorch-converted", "light")

Data = tuple[list[Any], list[Any]]
"""Inputs and expected outputs by position."""


@dataclass(frozen=True)
class Case:
    """One model with its stored inputs and outputs.

    Attributes:
        name: unique inside its set.
        set: one of ``SETS``.
        rtol, atol: tolerances that the case itself states.
        read_model: gives the model.
        read_data: gives the inputs and outputs.
    """

    name: str
    set: str
    rtol: float
    atol: float
    read_model: Callable[[], ModelProto]
    read_data: Callable[[ModelProto], list[Data]]

    @property
    def id(self) -> str:
        """Name that is unique among all sets."""
        return f"{self.set}/{self.name}"

    @cached_property
    def model(self) -> ModelProto:
        """The model."""
        return self.read_model()

    def data(self) -> list[Data]:
        """The sets of inputs and expected outputs."""
        return self.read_data(self.model)

    @property
    def operator(self) -> str:
        """The operator that a node test is about (that of its first node, for expanded ones too)."""
        return self.model.graph.node[0].op_type if self.model.graph.node else ""


def load_cases(sets: tuple[str, ...] = SETS) -> list[Case]:
    """All cases of these sets, in a fixed order."""
    found: list[Case] = []
    for name in sets:
        cases = _LOADERS[name]() if name in _LOADERS else _stored(name)
        found += sorted(cases, key=lambda c: c.name)
    return found


def _nodes() -> Iterator[Case]:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        tests = loader.load_node_model_tests()
    for test in tests:
        sets = [
            ([_array(a) for a in inputs], [_array(a) for a in outputs])
            for inputs, outputs in test.data_sets
        ]
        yield Case(
            test.name,
            "node",
            test.rtol,
            test.atol,
            lambda m=test.model: m,
            lambda _, s=sets: s,
        )


def _stored(kind: str) -> Iterator[Case]:
    for test in loader.load_model_tests(kind=kind):
        folder = Path(test.model_dir)
        yield Case(
            test.name,
            kind,
            test.rtol,
            test.atol,
            lambda f=folder: onnx.load(f / "model.onnx"),
            lambda m, f=folder: [_folder(m, d) for d in sorted(f.glob("test_data_set_*"))],
        )


def _light() -> Iterator[Case]:
    """Full networks with weights of one value each; the inputs are a ramp, as in ONNX's own runner."""
    for path in sorted((DATA / "light").glob("*.onnx")):
        yield Case(
            path.stem,
            "light",
            1e-3,
            1e-7,
            lambda p=path: onnx.load(p),
            lambda m, p=path: [_ramp(m, p)],
        )


_LOADERS: dict[str, Callable[[], Iterator[Case]]] = {"node": _nodes, "light": _light}


def runtime_inputs(model: ModelProto) -> list[Any]:
    """The inputs that are not initialisers."""
    constant = {i.name for i in model.graph.initializer}
    constant |= {i.values.name for i in model.graph.sparse_initializer}
    return [i for i in model.graph.input if i.name not in constant]


def _ramp(model: ModelProto, path: Path) -> Data:
    inputs = []
    for value in runtime_inputs(model):
        shape = [d.dim_value or 1 for d in value.type.tensor_type.shape.dim]
        count = int(np.prod(shape))
        inputs.append((np.arange(count).reshape(shape) / count).astype(np.float32))
    stored = path.with_name(f"{path.stem}_output_0.pb")
    return inputs, [numpy_helper.to_array(TensorProto.FromString(stored.read_bytes()))]


def _folder(model: ModelProto, folder: Path) -> Data:
    def read(kind: str, values: Any) -> list[Any]:
        count = len(list(folder.glob(f"{kind}_*.pb")))
        return [
            _parse((folder / f"{kind}_{n}.pb").read_bytes(), values[n].type) for n in range(count)
        ]

    return read("input", runtime_inputs(model)), read("output", model.graph.output)


def _parse(data: bytes, type_: TypeProto) -> Any:
    kind = type_.WhichOneof("value")
    if kind == "sequence_type":
        return numpy_helper.to_list(SequenceProto.FromString(data))
    return numpy_helper.to_array(TensorProto.FromString(data))


def _array(value: Any) -> Any:
    return numpy_helper.to_array(value) if isinstance(value, TensorProto) else value
