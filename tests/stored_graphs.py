"""Graphs with everything that a file must keep, and what it means that two are the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sofie_root.ir import (
    DType,
    Equality,
    Graph,
    Node,
    Op,
    TensorType,
    constant_type,
    operator,
    symbol,
)
from sofie_root.ir.dim import floordiv, maximum, minimum


@operator("Everything", domain="test.storage")
@dataclass(frozen=True, slots=True)
class Everything(Op):
    """Has an attribute of every kind that can be stored."""

    number: int
    ratio: float
    name_: str
    ints: tuple[int, ...] = ()
    floats: tuple[float, ...] = ()
    nested: tuple[tuple[str, ...], ...] = ()
    scalar: np.generic | None = None
    flag: bool = False

    def infer(self, x: TensorType, *_: Any) -> tuple[TensorType, TensorType]:
        return x, x


def everything(**changes: Any) -> Everything:
    return Everything(**{"number": 2**63 - 1, "ratio": 0.1, "name_": 'é\0\ud800"</*'} | changes)


def graph_of(constants: dict[str, np.ndarray], op: Op | None = None) -> Graph:
    """A graph that reads every constant, with symbolic shapes."""
    n, m = symbol("N"), symbol("Anzahl ü")
    graph = Graph("model", ("x", "y"), {"out": "z", "again": "z", "same": "x"})
    graph.types |= {
        "x": TensorType(DType.FLOAT, (n, 4 * n * m + 2, floordiv(m, 3))),
        "y": TensorType(DType.INT64, (2,), (n, maximum(n, m) - 5)),
    }
    graph.constants = dict(constants)
    graph.types |= {name: constant_type(array) for name, array in constants.items()}
    graph.types["z"] = graph.types["x"]
    inputs = ("x", None, *constants)
    graph.nodes = [Node(op or everything(), inputs, ("z", None), "node 1", ("a", "b"))]
    graph.equalities = [Equality(n * m, 3 + minimum(n, m), "because")]
    graph.metadata = {"producer": "test", "opset": 17, "list": [1, 2.5, None, {"a": "b"}]}
    return graph


def sample_constants() -> dict[str, np.ndarray]:
    """Constants of every dtype and form, the same on every machine."""
    numbers = (np.arange(15) * 37 % 101 - 50).reshape(3, 5)
    constants = {
        f"of {d}": (numbers if d.is_signed else abs(numbers)).astype(d.numpy) for d in DType
    }
    constants["scalar"] = np.array(2.5, np.float32)
    constants["empty"] = np.zeros((0, 4), np.float64)
    constants['x"); system("id"); //'] = np.array([np.nan, np.inf, -np.inf, -0.0])
    constants["transposed"] = (numbers / 7).astype(np.float32).T
    return constants


def assert_same_arrays(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> None:
    assert list(a) == list(b)
    for name in a:
        assert a[name].dtype == b[name].dtype
        assert a[name].shape == b[name].shape
        assert a[name].tobytes() == b[name].tobytes(), name


def assert_same(a: Graph, b: Graph) -> None:
    assert_same_arrays(a.constants, b.constants)
    # repr tells NaN attributes and np.float32 from float, which == does not
    for field in ("name", "inputs", "outputs", "nodes", "types", "equalities"):
        assert repr(getattr(a, field)) == repr(getattr(b, field)), field
    assert a.metadata == b.metadata
    assert list(a.types) == list(b.types)
    assert all(a.types[name] == b.types[name] for name in a.types)
