"""Builds a random model; every node is evaluated as it is added, for several sets of inputs at once.

A size that differs between the sets is symbolic; sizes are compared as the tuple of what they are in each
set, so that rows need no algebra: what holds in all sets holds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper

from .reference import Array, NodeRunner, NotEvaluated, element_type, sources, tensor

LARGEST = 20_000
"""Most elements of a tensor."""
LIMITS = {"float16": 500.0, "bfloat16": 500.0}
"""Largest absolute value of floats; 16-bit ones would overflow soon."""
SIZES = (
    1,
    2,
    2,
    3,
    3,
    4,
    4,
    5,
    6,
    7,
    8,
    8,
    9,
    10,
    12,
    13,
    16,
    16,
    17,
    20,
    24,
    31,
    32,
    33,
    40,
    64,
    65,
)
FLOAT, DOUBLE, HALF, INT64, BOOL = (np.dtype(t) for t in ("f4", "f8", "f2", "i8", "?"))

Dims = tuple[tuple[int, ...], ...]
"""A shape: per axis, its size in each set of inputs."""


class Rejected(Exception):  # noqa: N818
    """The drawn node is not possible here, or gives numbers that are not worth comparing."""


@dataclass(frozen=True, eq=False, slots=True)
class Value:
    """A tensor of the graph.

    Attributes:
        name: in the model.
        arrays: its content in each set of inputs.
        depth: the largest number of nodes between it and an input.
    """

    name: str
    arrays: tuple[Array, ...]
    depth: int = 0

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.arrays[0].dtype

    @property
    def kind(self) -> str:
        """``f`` for all floats, else NumPy's ``b``, ``i`` or ``u``."""
        return "f" if self.dtype.name == "bfloat16" else self.dtype.kind

    @property
    def rank(self) -> int:
        return self.arrays[0].ndim

    @property
    def dims(self) -> Dims:
        return tuple(zip(*(a.shape for a in self.arrays), strict=True))

    @property
    def fixed(self) -> bool:
        """Whether all sizes are the same in all sets."""
        return all(len(set(d)) == 1 for d in self.dims)

    @property
    def is_empty(self) -> bool:
        return any(0 in a.shape for a in self.arrays)


class Builder:
    """A model that grows node by node.

    Args:
        rng: all choices come from it.
        symbols: the size of each symbol in each set.
        sets: number of sets of inputs.
        opset: version of the model.
    """

    def __init__(
        self, rng: np.random.Generator, symbols: dict[str, tuple[int, ...]], sets: int, opset: int
    ) -> None:
        self.rng, self.symbols, self.sets, self.opset = rng, symbols, sets, opset
        self.root = self
        self.nodes: list[NodeProto] = []
        self.inputs: list[ValueInfoProto] = []
        self.feeds: list[dict[str, Array]] = [{} for _ in range(sets)]
        self.tensors: list[TensorProto] = []
        self.values: list[Value] = []
        self.known: dict[str, Value] = {}
        self.count = 0
        self.kinds: tuple[np.dtype[Any], ...] = (FLOAT,)

    def child(self) -> Builder:
        """A builder of a body of control flow, which sees all values so far."""
        body = Builder(self.rng, self.symbols, self.sets, self.opset)
        body.root, body.values, body.kinds = self.root, list(self.values), self.kinds
        return body

    # -- chance ------------------------------------------------------------------------------------
    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def choice(self, options: Sequence[Any], weights: Sequence[float] | None = None) -> Any:
        if not options:
            raise Rejected("nothing to choose from")
        if weights is None:
            return options[int(self.rng.integers(len(options)))]
        total = np.asarray(weights, float)
        return options[int(self.rng.choice(len(options), p=total / total.sum()))]

    def integer(self, low: int, high: int) -> int:
        """From ``low`` to ``high``, both included."""
        if low > high:
            raise Rejected("an empty range")
        return int(self.rng.integers(low, high, endpoint=True))

    def size(self, largest: int = 65) -> int:
        return int(self.choice([s for s in SIZES if s <= largest]))

    def float_dtype(self) -> np.dtype[Any]:
        return np.dtype(self.choice(self.kinds))

    def axis(self, value: Value, above: int = 0) -> int:
        """An axis of which every set has more than ``above``."""
        return int(self.choice([k for k, d in enumerate(value.dims) if min(d) > above]))

    def signed(self, axis: int, rank: int) -> int:
        """The axis, sometimes counted from the end."""
        return axis - rank if self.chance(0.4) else axis

    # -- values that are not computed --------------------------------------------------------------
    def name(self, stem: str = "v") -> str:
        self.root.count += 1
        return f"{stem}{self.root.count}"

    def numbers(
        self, shape: Sequence[int], dtype: Any = FLOAT, low: float = -2.0, high: float = 2.0
    ) -> Array:
        """Random content; integers lie in ``[low, high]``."""
        dtype = np.dtype(dtype)
        if dtype.kind == "b":
            return np.asarray(self.rng.random(shape) < 0.6)
        if dtype.kind in "iu":
            low = max(low, 0) if dtype.kind == "u" else low
            return np.asarray(self.rng.integers(int(low), int(high), shape, endpoint=True)).astype(
                dtype
            )
        return np.asarray(self.rng.uniform(low, high, shape)).astype(dtype)

    def input(
        self, shape: Sequence[int | str], dtype: Any = FLOAT, low: float = -2.0, high: float = 2.0
    ) -> Value:
        """A new input of the model; a string is a symbol."""
        sizes = [
            tuple(self.symbols[d][k] if isinstance(d, str) else d for d in shape)
            for k in range(self.sets)
        ]
        return self.input_of([self.numbers(s, dtype, low, high) for s in sizes], shape)

    def input_of(self, arrays: Sequence[Array], shape: Sequence[int | str | None]) -> Value:
        """A new input with this content."""
        if any(a.size > LARGEST for a in arrays):
            raise Rejected("too large")
        root = self.root
        name = self.name("x")
        root.inputs.append(
            helper.make_tensor_value_info(name, element_type(arrays[0].dtype), list(shape))
        )
        for feeds, array in zip(root.feeds, arrays, strict=True):
            feeds[name] = array
        return self.add(Value(name, tuple(arrays)))

    def constant(self, array: Any, dtype: Any = None) -> Value:
        """An initialiser; it is not offered to other nodes."""
        array = np.asarray(array, dtype)
        name = self.name("c")
        self.root.tensors.append(tensor(name, array))
        value = self.root.known[name] = Value(name, (array,) * self.sets)
        return value

    def weight(self, *shape: int, dtype: Any = FLOAT, scale: float | None = None) -> Value:
        """An initialiser of random floats, small enough that products with it stay small."""
        if int(np.prod(shape)) > LARGEST:
            raise Rejected("too large")
        fan = int(np.prod(shape[1:])) or 1
        scale = scale if scale is not None else 1.5 / np.sqrt(fan)
        return self.constant(self.numbers(shape, dtype, -scale, scale))

    def source(self, dims: Dims, dtype: Any = FLOAT, low: float = -2.0, high: float = 2.0) -> Value:
        """An input or a constant of these sizes."""
        names = {sizes: name for name, sizes in self.symbols.items()}
        shape: list[int | str] = []
        for d in dims:
            if len(set(d)) == 1 and (d not in names or self.chance(0.5)):
                shape.append(d[0])
            elif d in names:
                shape.append(names[d])
            else:
                raise Rejected("no symbol has these sizes")
        fixed = [d for d in shape if isinstance(d, int)]
        if len(fixed) == len(shape) and self.chance(0.5):
            return self.constant(self.numbers(fixed, dtype, low, high))
        return self.input(shape, dtype, low, high)

    # -- nodes -------------------------------------------------------------------------------------
    def node(
        self, op: str, *inputs: Any, outputs: int = 1, domain: str = "", unwanted: Sequence[int] = (),
        **attributes: Any,
    ) -> Any:  # fmt: skip
        """Adds a node and evaluates it.

        Args:
            op: its operator.
            inputs: values; arrays, lists and numbers become initialisers; None is left out.
            outputs: how many.
            domain: of the operator.
            unwanted: positions of outputs that have no name.
            attributes: of the node.

        Returns:
            The value, or a tuple of them.

        Raises:
            Rejected: the node is not valid, or its numbers are too large.
        """
        if not onnx.defs.has(op, self.opset, domain):
            raise Rejected("not in this opset")
        given = [
            x if isinstance(x, Value) or x is None
            else self.constant(np.array(x, np.int64) if isinstance(x, (list, int)) else x)
            for x in inputs
        ]  # fmt: skip
        names = ["" if x is None else x.name for x in given]
        while names and not names[-1]:
            names.pop()
        results = ["" if k in unwanted else self.name() for k in range(outputs)]
        proto = helper.make_node(op, names, results, domain=domain, **attributes)
        proto.name = f"{op}_{results[0] or results[-1]}"
        found = self._evaluate(proto)
        self.nodes.append(proto)
        depth = 1 + max((x.depth for x in given if x is not None), default=0)
        added = iter([self.add(Value(n, a, depth)) for n, a in found])
        values = tuple(next(added) if r else None for r in results)
        return values[0] if outputs == 1 else values

    def _evaluate(self, proto: NodeProto) -> list[tuple[str, tuple[Array, ...]]]:
        used = {n: self.root.known[n] for n in sources(proto)}
        dtypes, ranks = {n: v.dtype for n, v in used.items()}, {n: v.rank for n, v in used.items()}
        try:
            runner = NodeRunner(proto, dtypes, ranks, self.opset)
        except NotEvaluated as error:
            raise Rejected(str(error)) from error
        sets: list[list[Array]] = []
        for k in range(self.sets):
            try:
                results = runner.run({n: v.arrays[k] for n, v in used.items()})
            except NotEvaluated as error:
                raise Rejected(str(error)) from error
            for array in results:
                _demand_tame(array)
            sets.append(results)
        columns = list(zip(*sets, strict=True))
        if any(len({a.ndim for a in c} | {a.dtype for a in c}) > 2 for c in columns):
            raise Rejected("the rank depends on the inputs")
        return list(zip(runner.outputs, columns, strict=True))

    def add(self, value: Value) -> Value:
        """Offers a value to the rows to come."""
        self.values.append(value)
        self.root.known[value.name] = value
        return value

    def attempt(self, row: Callable[[Builder], None]) -> bool:
        """Runs a row; where it is rejected, nothing of it is kept."""
        root = self.root
        lists = self.nodes, self.values, root.inputs, root.tensors, root.values
        lengths = [len(x) for x in lists]
        names = [set(f) for f in root.feeds]
        try:
            row(self)
        except Rejected:
            for kept, length in zip(lists, lengths, strict=True):
                del kept[length:]
            for feeds, before in zip(root.feeds, names, strict=True):
                for name in set(feeds) - before:
                    del feeds[name]
            return False
        return True

    # -- choosing values ---------------------------------------------------------------------------
    def pick(
        self, kinds: str = "f", low: int = 0, high: int = 5, where: Callable[[Value], bool] | None = None,
        fresh: bool = True,
    ) -> Value:  # fmt: skip
        """A value of the graph, mostly a recent one.

        Args:
            kinds: of its dtype, see :attr:`Value.kind`.
            low: least rank.
            high: largest rank.
            where: what else must hold.
            fresh: whether a new input may be made, where there is nothing else and sometimes else.
        """
        fits = [
            v for v in self.values
            if v.kind in kinds and low <= v.rank <= high and (where is None or where(v))
        ]  # fmt: skip
        if not fits or (fresh and self.chance(0.06)):
            if not fresh or (where is not None and not fits):
                raise Rejected("no such value")
            if where is None:
                return self.fresh(kinds, low, high)
        if self.chance(0.65):
            return fits[-1 - min(int(self.rng.geometric(0.45)) - 1, len(fits) - 1)]
        return self.choice(fits)

    def fresh(self, kinds: str = "f", low: int = 0, high: int = 5) -> Value:
        """A new input of the model, of any rank in the range."""
        rank = self.integer(max(low, 1), min(high, 4)) if high else 0
        shape: list[int | str] = []
        for _ in range(rank):
            symbolic = self.symbols and self.chance(0.45)
            shape.append(self.choice(list(self.symbols)) if symbolic else self.size(33))
        kind = self.choice(kinds)
        dtype = {"f": self.float_dtype(), "b": BOOL}.get(
            kind, np.dtype(self.choice(("i8", "i8", "i4", "i1") if kind == "i" else ("u1", "u4")))
        )
        return self.input(shape, dtype, *((-9, 9) if dtype.kind in "iu" else (-2.0, 2.0)))

    # -- the model ---------------------------------------------------------------------------------
    def model(self, outputs: Sequence[Value]) -> ModelProto:
        """The model with these outputs."""
        declared = [
            helper.make_tensor_value_info(v.name, element_type(v.dtype), [None] * v.rank)
            for v in outputs
        ]
        used = {n for node in self.nodes for n in sources(node)}
        graph = helper.make_graph(
            self.nodes,
            "fuzz",
            [i for i in self.inputs if i.name in used],
            declared,
            [t for t in self.tensors if t.name in used],
        )
        opset = helper.make_opsetid("", self.opset)
        return helper.make_model(graph, opset_imports=[opset], ir_version=10, producer_name="fuzz")


def _demand_tame(array: Array) -> None:
    if array.size > LARGEST:
        raise Rejected("too large")
    if array.dtype.kind in "OSU":
        raise Rejected("not numbers")
    if array.dtype.kind == "b" or not array.size:
        return
    wide = array.astype(np.float64)
    limit = LIMITS.get(array.dtype.name, 1e5)
    if array.dtype.kind in "iu":
        limit = 2.0**31 if array.dtype.itemsize > 4 else 2.0**30
    if np.isnan(wide).any() or not (np.abs(wide[np.isfinite(wide)]) <= limit).all():
        raise Rejected("not tame")


__all__ = [
    "BOOL",
    "DOUBLE",
    "FLOAT",
    "HALF",
    "INT64",
    "SIZES",
    "Builder",
    "Dims",
    "Rejected",
    "Value",
]
