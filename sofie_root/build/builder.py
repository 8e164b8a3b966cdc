"""``GraphBuilder``: the one way to make a graph."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias, cast, overload

import numpy as np
import numpy.typing as npt

import sofie_root.ops  # noqa: F401  (registers the operators)
from sofie_root.budget import NODE, spend
from sofie_root.errors import InputError, ModelError, Refusal, ShapeError, UnsupportedError
from sofie_root.ir import (
    OPERATORS,
    Dim,
    DType,
    Equality,
    Graph,
    Node,
    Op,
    Poly,
    Refuse,
    Symbol,
    TensorType,
    constant_type,
    infer_node,
    symbol,
    verify,
)
from sofie_root.ir.dim import size_symbols, substitute
from sofie_root.ir.graph import MALFORMED

from .fold import small_results
from .names import Names

Array = npt.NDArray[Any]
Operator: TypeAlias = Op | type[Op] | str
"""An operator with its attributes, its class, or its name."""


class DependsOnRefused(Refuse):
    """Raised inside :meth:`GraphBuilder.source` for what reads the result of a refused node.

    The refused node is named already, so that nothing is said about this one.
    """


class GraphBuilder:
    """Makes a :class:`~sofie_root.ir.Graph` node by node, in the order of the data.

    Types are inferred as nodes are added, so that shapes can be asked for on the way; small nodes of
    known inputs are computed and become constants. What is valid but cannot be run is collected:
    :meth:`graph` names all of it in one error. What contradicts itself raises at once.

    Values are names. A value that a refused node would have written has a name but no type.

    Example::

        import numpy as np
        from sofie_root import GraphBuilder, Model

        b = GraphBuilder("tagger")
        x = b.input("x", "float32", ("N", 4))
        h = b.add("Relu", b.add("Gemm", x, np.ones((4, 8), np.float32)))
        mean, largest = b.add("ReduceMean", h, [1]), b.add("ReduceMax", h, [1])
        b.output("y", b.add("Concat", mean, largest, axis=1))
        y = Model(b.graph()).session()(np.ones((3, 4), np.float32))

    Args:
        name: of the graph.
        dims: sizes for symbolic dims of the inputs, ``{"N": 1}``; the others stay symbolic.
        file: path for error messages.

    Attributes:
        values: names of values; what is taken here is not used for new ones.
        node_names: names of nodes, likewise.
        dim_names: names of dims that inputs without one must not get.
        refusals: what cannot be run, so far.
    """

    def __init__(
        self, name: str = "model", *, dims: Mapping[str, int] | None = None, file: str | None = None
    ) -> None:
        self.values = Names()
        self.node_names = Names()
        self.dim_names: set[str] = set()
        self.refusals: dict[Refusal, None] = {}
        self.file = file
        self._dims = dict(dims or {})
        for dim, size in self._dims.items():
            if isinstance(size, bool) or not isinstance(size, int) or size < 0:
                raise InputError(f"dims[{dim!r}] is {size!r}, a size is an integer >= 0")
        self._symbols: dict[str, None] = {}
        self._graph = Graph(name, (), {})
        self._equalities: dict[Equality, None] = {}
        self._refused_values: set[str] = set()
        self._sources: tuple[str, ...] = ()
        self._outer: GraphBuilder | None = None

    @classmethod
    def extending(cls, graph: Graph) -> GraphBuilder:
        """A builder that adds to a graph that is there; the graph itself changes."""
        builder = cls(graph.name)
        builder._graph = graph
        builder.values.taken.update(graph.types)
        builder.node_names.taken.update(node.name for node in graph.nodes)
        builder._equalities = dict.fromkeys(graph.equalities)
        return builder

    def body(self, name: str) -> GraphBuilder:
        """A builder for a body of an If, Loop or Scan of this graph.

        Names stay unique over both, and what is refused inside is refused here. See :meth:`capture`.
        """
        inner = GraphBuilder(name, file=self.file)
        inner.values, inner.node_names = self.values, self.node_names
        inner.refusals, inner._sources, inner._outer = self.refusals, self._sources, self
        return inner

    # -- what goes in and out ----------------------------------------------------------------------
    def input(
        self, name: str, dtype: DType | npt.DTypeLike, shape: Sequence[Dim | str | None]
    ) -> str:
        """Adds an input of the graph.

        Args:
            name: as the user of the model sees it.
            dtype: of the elements, ours or NumPy's.
            shape: sizes; a text names a symbolic dim, None is a symbolic dim with a name of its own.

        Returns:
            The value, which is called ``name``.

        Raises:
            ModelError: the name is taken or empty; the size of a dim is impossible.
        """
        if not name or name in self.values.taken:
            raise ModelError(f"input {name!r} is declared twice or has no name", file=self.file)
        self.values.taken.add(name)
        self._graph.inputs = (*self._graph.inputs, name)
        try:
            self._graph.types[name] = TensorType(
                self._dtype(dtype),
                tuple(self._dim(d, f"{name}_dim{k}") for k, d in enumerate(shape)),
            )
        except Refuse as reason:
            self.refuse(name, "input", str(reason))
            self._refused_values.add(name)
            return name
        flaw = self._graph.types[name].impossible()
        if flaw is not None:
            raise ModelError(flaw, tensor=name, file=self.file)
        return name

    def formal(self, name: str, type_: TensorType) -> str:
        """In a body: adds a formal input, whose value is called ``name`` where that is free."""
        value = self.values.fresh(name)
        self._graph.types[value] = type_
        self._graph.inputs = (*self._graph.inputs, value)
        return value

    def constant(self, array: npt.ArrayLike, name: str | None = None) -> str:
        """Adds a constant; its dtype is the array's: Python's floats are float64.

        Args:
            array: the content.
            name: of the value; another one is made from it where it is taken.

        Raises:
            ModelError: the element type is not one of :class:`~sofie_root.ir.DType`.
        """
        value = self.values.fresh(name or "constant")
        self.define(value, np.asarray(array))
        return value

    def define(self, value: str, array: Array) -> None:
        """Makes a value of this name a constant."""
        self._graph.types[value] = constant_type(array)
        self._graph.constants[value] = array

    def output(self, name: str, value: str | None = None) -> None:
        """Makes a value an output of the graph.

        Args:
            name: as the user of the model sees it.
            value: what it returns, the value called ``name`` if not given. A value may be returned
                twice and may be an input or a constant.

        Raises:
            ModelError: there is an output of that name, or no such value.
        """
        value = name if value is None else value
        if not name or name in self._graph.outputs:
            raise ModelError(f"output {name!r} is declared twice or has no name", file=self.file)
        if value not in self._graph.types and value not in self._refused_values:
            raise ModelError(
                f"output {name!r} returns what nothing writes", tensor=value, file=self.file
            )
        self._graph.outputs[name] = value

    def graph(self) -> Graph:
        """The graph, verified.

        Raises:
            UnsupportedError: names every node that cannot be translated.
            InputError: sizes are given for symbolic dims that no input has.
            ModelError: the graph breaks a rule of :func:`sofie_root.ir.verify`.
        """
        if self.refusals:
            raise UnsupportedError(list(self.refusals), file=self.file)
        self.check_dims()
        graph = self.unverified()
        verify(graph)
        return graph

    def unverified(self) -> Graph:
        """The graph as far as it is: a body, which is verified with the graph around it.

        Raises:
            UnsupportedError: an output comes from a refused node; names all that were refused so far.
        """
        for value in self._graph.outputs.values():
            self.type(value)
        self._graph.equalities = list(self._equalities)
        return self._graph

    def check_dims(self) -> None:
        """Checks that the sizes that were given are of dims that the inputs so far have.

        Raises:
            InputError: they are not.
        """
        for name in self._dims:
            if name not in self._symbols:
                listed = ", ".join(self._symbols) or "none"
                raise InputError(f"dims has no symbol {name!r}; the model's symbols are: {listed}")

    # -- nodes -------------------------------------------------------------------------------------
    @overload
    def add(
        self,
        op: Operator,
        *inputs: npt.ArrayLike | None,
        outputs: None = None,
        name: str | None = None,
        **attributes: Any,
    ) -> str: ...

    @overload
    def add(
        self,
        op: Operator,
        *inputs: npt.ArrayLike | None,
        outputs: int | Sequence[str | None],
        name: str | None = None,
        **attributes: Any,
    ) -> tuple[str, ...]: ...

    def add(
        self,
        op: Operator,
        *inputs: npt.ArrayLike | None,
        outputs: int | Sequence[str | None] | None = None,
        name: str | None = None,
        **attributes: Any,
    ) -> str | tuple[str, ...]:
        """Adds a node.

        Args:
            op: an operator, its class or its name: ``"Relu"``, ``"sofie_root.Trees"`` with its domain.
            inputs: values; None for an optional input that is omitted. Arrays become constants.
            outputs: how many the operator writes, or their names, None for one that nobody reads; one,
                which is called like the node, if not given.
            name: of the node; made from the operator if not given. Where a name is taken, here and in
                ``outputs``, another one is made from it.
            attributes: of the operator, where ``op`` is not one already.

        Returns:
            The value that is written; where ``outputs`` is given, a tuple of all that have a name.

        Raises:
            ModelError: there is no such value or attribute; the inputs do not fit the operator.
            BudgetError: the work of making the graph exceeds its budget.
        """
        spend(NODE)
        operator = op.rpartition(".")[2] if isinstance(op, str) else op.name
        node_name = (
            self.node_names.numbered(operator) if name is None else self.node_names.fresh(name)
        )
        read = tuple(self._read(i, node_name, operator, k) for k, i in enumerate(inputs))
        while read and read[-1] is None:
            read = read[:-1]
        written = self._written(node_name, outputs)
        try:
            if any(i in self._refused_values for i in read):
                raise DependsOnRefused
            made = self._operator(op, attributes, node_name)
            self.place(Node(made, read, written, node_name, self.origin or (node_name,)))
        except Refuse as reason:
            self.mark_refused(written)
            if self._sources:
                raise
            if not isinstance(reason, DependsOnRefused):
                self.refuse(node_name, operator, str(reason))
        named = tuple(o for o in written if o is not None)
        return named[0] if outputs is None else named

    def place(self, node: Node, fold: bool = True) -> tuple[TensorType, ...]:
        """Adds a node as it is; its outputs get types, or become constants where they are known.

        Args:
            node: its inputs are values; the names of its outputs are used as they are.
            fold: whether a small node of known inputs is computed now.

        Returns:
            The types of all results that the operator has.

        Raises:
            Refuse: valid, but not supported.
            ModelError: the attributes or inputs do not fit the operator.
        """
        types, equalities = infer_node(node, self._graph.types)
        for value, type_ in zip(node.outputs, types, strict=False):
            if value is not None:
                self._graph.types[value] = type_
        self._equalities.update(dict.fromkeys(equalities))
        results = small_results(node, self._graph.types, self._graph.constants) if fold else None
        if results is None:
            self._graph.nodes.append(node)
        for value, array in (results or {}).items():
            self.define(value, array)
        return types

    def require_equal(self, a: Dim | str, b: Dim | str, why: str) -> None:
        """States that two sizes are the same; where that cannot be proven it is checked at run time.

        Raises:
            ShapeError: both are known and differ.
        """
        first, second = (symbol(d) if isinstance(d, str) else d for d in (a, b))
        if first == second:
            return
        if isinstance(first, int) and isinstance(second, int):
            raise ShapeError(f"{why}: {first} against {second}", file=self.file)
        self._equalities.setdefault(Equality(first, second, why))

    # -- what is there -----------------------------------------------------------------------------
    def type(self, value: str) -> TensorType:
        """The type of a value.

        Raises:
            UnsupportedError: it comes from a refused node; names all that were refused so far.
            ModelError: there is no such value.
        """
        if value in self._refused_values:
            if self._sources:
                raise DependsOnRefused
            raise UnsupportedError(list(self.refusals), file=self.file)
        try:
            return self._graph.types[value]
        except KeyError:
            raise ModelError("is no value of the graph", tensor=value, file=self.file) from None

    @property
    def origin(self) -> tuple[str, ...]:
        """The node of the model that nodes added now stand for; see :meth:`source`."""
        return self._sources[:1]

    def array(self, value: str | None) -> Array | None:
        """The content of a constant, None for any other value."""
        return None if value is None else self._graph.constants.get(value)

    def capture(self, value: str) -> str:
        """In a body: makes a value of the graph around it a value here, and returns it.

        A constant is shared; anything else becomes an input behind those that are there.
        """
        assert self._outer is not None
        around = self._outer._graph
        if value in self._outer._refused_values:
            self._refused_values.add(value)
        elif value not in self._graph.types:
            self._graph.types[value] = around.types[value]
            if value in around.constants:
                self._graph.constants[value] = around.constants[value]
            else:
                self._graph.inputs = (*self._graph.inputs, value)
        return value

    # -- what cannot be run ------------------------------------------------------------------------
    def refuse(self, node: str, operator: str, reason: str) -> None:
        """Notes something that cannot be run; :meth:`graph` names all of it."""
        self.refusals.setdefault(Refusal(node, operator, reason))

    def mark_refused(self, values: Iterable[str | None]) -> None:
        """Notes values that a refused node would have written."""
        self._refused_values.update(v for v in values if v is not None)

    def is_refused(self, value: str | None) -> bool:
        """Whether a value comes from a refused node: it has no type."""
        return value in self._refused_values

    @contextmanager
    def source(
        self, name: str, operator: str, outputs: Iterable[str | None] = ()
    ) -> Iterator[None]:
        """What is added inside stands for one node of the model that is read.

        Generated code names that node in its comments. If any of it is refused, the whole node is, under
        its own name: the rest of the block is left out. Of sources inside each other, comments name the
        outermost and refusals the innermost.

        Args:
            name: of the node, as the user knows it.
            operator: what the node is called there.
            outputs: values that the node would have written if it had not been refused.
        """
        outer, self._sources = self._sources, (*self._sources, name)
        try:
            yield
        except Refuse as reason:
            if not isinstance(reason, DependsOnRefused):
                self.refuse(name, operator, str(reason))
            self.mark_refused(outputs)
        finally:
            self._sources = outer

    # -- parts -------------------------------------------------------------------------------------
    def _dtype(self, dtype: DType | npt.DTypeLike) -> DType:
        ours = dtype if isinstance(dtype, DType) else DType.from_numpy(np.dtype(dtype))
        if ours is None:
            raise Refuse(f"element type {np.dtype(cast(Any, dtype))} is not supported")
        return ours

    def _dim(self, given: Dim | str | None, unnamed: str) -> Dim:
        """The dim of an input, its size if one was given."""
        if isinstance(given, Poly):
            self._symbols.update((s.name, None) for s in size_symbols((given,)))
            return substitute(given, {Symbol(n): size for n, size in self._dims.items()})
        if given is not None and not isinstance(given, str):
            return int(given)
        name = given
        if not name:
            name = unnamed
            while name in self.dim_names:
                name += "_"
        self.dim_names.add(name)
        self._symbols[name] = None
        return int(self._dims[name]) if name in self._dims else symbol(name)

    def _read(self, given: Any, node: str, operator: str, position: int) -> str | None:
        """The value that an argument of :meth:`add` stands for."""
        if given is None:
            return None
        if not isinstance(given, str):
            return self.constant(given, f"{node}/{position}")
        if given not in self._graph.types and given not in self._refused_values:
            raise ModelError(
                f"reads {given!r}, which nothing writes",
                node=node,
                operator=operator,
                file=self.file,
            )
        return given

    def _written(
        self, node: str, outputs: int | Sequence[str | None] | None
    ) -> tuple[str | None, ...]:
        """The names of a node's outputs."""
        if outputs is None or outputs == 1:
            return (self.values.fresh(node),)
        if isinstance(outputs, int):
            return tuple(self.values.fresh(f"{node}:{k}") for k in range(outputs))
        return tuple(None if o is None else self.values.fresh(o) for o in outputs)

    def _operator(self, op: Operator, attributes: dict[str, Any], node: str) -> Op:
        """The operator with its attributes."""
        if isinstance(op, Op):
            if attributes:
                raise ModelError("has its attributes already", node=node, operator=op.name)
            return op
        cls = find_operator(op) if isinstance(op, str) else op
        fields = [f.name for f in dataclasses.fields(cast(Any, cls))]
        for attribute in attributes:
            if attribute not in fields:
                raise ModelError(
                    f"has no attribute {attribute!r}; its attributes are: "
                    f"{', '.join(fields) or 'none'}",
                    node=node,
                    operator=cls.name,
                )
        try:
            return cls(**attributes)
        except MALFORMED as error:
            raise ModelError(
                f"its attributes make no sense ({error})", node=node, operator=cls.name
            ) from error


def find_operator(name: str) -> type[Op]:
    """The operator of this name, with its domain before the last dot where it has one.

    Raises:
        Refuse: there is none.
    """
    domain, _, own = name.rpartition(".")
    try:
        return OPERATORS[domain, own]
    except KeyError:
        where = f" of domain {domain!r}" if domain else ""
        raise Refuse(f"is not an operator{where} that is known here") from None
