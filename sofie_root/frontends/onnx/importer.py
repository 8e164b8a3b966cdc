"""Builds the Graph of an ONNX model: one pass over the nodes in the order of their data.

Nodes are typed as they are added, so that what depends on types can be resolved on the way: older
nodes are upgraded, functions are expanded, ``If`` with a known condition is inlined. What cannot be
translated is collected, and named in one error at the end.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from onnx import FunctionProto, GraphProto, NodeProto, SparseTensorProto, TensorProto

from sofie_root.budget import NODE, spend
from sofie_root.build import DependsOnRefused, GraphBuilder
from sofie_root.errors import BudgetError, ModelError
from sofie_root.ir import OPERATORS, Graph, Node, Op, Refuse, TensorType
from sofie_root.ir.graph import MALFORMED

from .control import import_control
from .ml import add_ml, is_ml
from .node import (
    NEWEST_OPSET,
    RawNode,
    attribute_value,
    check_form,
    check_types,
    default_of,
    newest_schema,
    normal_domain,
    schema_function,
)
from .order import first_output, initializers, topological
from .scope import FunctionKey, Scope
from .tensors import Array, TensorReader, type_name
from .upgrade import can_translate, unknown_operator, upgrade

MAX_CALLS = 64
"""Functions that call functions can grow without bound; this is where that ends."""

WITHOUT_EFFECT = frozenset({("BatchNormalization", "momentum"), ("Dropout", "seed")})
"""Attributes that only matter in training."""


class Importer:
    """Adds the nodes of one model to one Graph; see :func:`sofie_root.frontends.onnx.parse`.

    Args:
        builder: makes the graph; its inputs are there already.
        reader: decodes tensors.
        functions: the model's local functions by (domain, name, overload).
    """

    def __init__(
        self,
        builder: GraphBuilder,
        reader: TensorReader,
        functions: Mapping[FunctionKey, FunctionProto],
    ) -> None:
        self.builder = builder
        self.reader = reader
        self.functions = functions
        self.outer: Importer | None = None
        self._aliases: dict[str, str] = {}
        self._named: set[str] = set()

    def run(self, proto: GraphProto, scope: Scope) -> Graph:
        """Imports the model's graph and returns it, verified.

        Raises:
            UnsupportedError: names every node that cannot be translated.
            ModelError: the model is not valid.
        """
        self.builder.node_names.taken.update(n.name for n in proto.node)
        self.builder.values.taken.update(o for n in proto.node for o in n.output)
        self.builder.values.taken.update(scope.values, scope.tensors)
        self._nodes(proto.node, scope)
        for output in proto.output:
            self._output(output.name, output.type.tensor_type.elem_type, scope)
        return self.builder.graph()

    def _output(self, name: str, declared: int, scope: Scope) -> None:
        file = self.builder.file
        if name and not scope.has(name):
            raise ModelError(
                "is an output, but nothing writes it; export the model again",
                tensor=name,
                file=file,
            )
        value = self._read(name, scope) if name else name
        assert value is not None, name  # only inputs of functions can be omitted
        self.builder.output(name, value)
        if self.builder.is_refused(value):
            return
        dtype = self.builder.type(value).dtype
        if declared and declared != dtype.onnx:
            raise ModelError(
                f"is declared as {type_name(declared)}, but the graph computes {dtype}; "
                "export the model again",
                tensor=name,
                file=file,
            )

    # -- names -------------------------------------------------------------------------------------
    def _read(self, name: str, scope: Scope) -> str | None:
        """The graph value of an ONNX name; initialisers become constants when first read."""
        if name in scope.values:
            value = scope.values[name]
            while value in self._aliases:
                value = self._aliases[value]
            return value
        if name in scope.tensors:
            tensor = scope.tensors.pop(name)
            value = scope.values[name] = self._new_value(name, scope)
            with self.builder.source(name, "initializer", (value,)):
                dense = isinstance(tensor, TensorProto)
                array = self.reader.array(tensor) if dense else self.reader.dense(tensor)
                self.builder.define(value, array)
            return value
        if scope.parent is None:
            raise ModelError(f"reads {name!r}, which nothing writes")
        if scope.captures:
            return self._capture(name, scope.parent)
        return self._read(name, scope.parent)

    def _capture(self, name: str, scope: Scope) -> str | None:
        """A value of the graph around this body: a constant is shared, anything else an input."""
        assert self.outer is not None
        value = self.outer._read(name, scope)
        return None if value is None else self.builder.capture(value)

    def body(
        self, proto: GraphProto, raw: RawNode, scope: Scope, types: Sequence[TensorType]
    ) -> Graph | None:
        """A subgraph as a graph of its own; what it captures follows its formal inputs.

        Args:
            proto: the subgraph.
            raw: the node it belongs to.
            scope: where that node stands.
            types: of the formal inputs.

        Returns:
            The graph, or None where something inside was refused.
        """
        if len(proto.input) != len(types):
            raise ModelError(f"its subgraph takes {len(proto.input)} inputs, not {len(types)}")
        importer = Importer(self.builder.body(raw.name), self.reader, self.functions)
        importer.outer, importer._named = self, self._named
        builder, refused = importer.builder, len(self.builder.refusals)
        formal = [
            builder.formal(f"{raw.name}/{i.name}", t)
            for i, t in zip(proto.input, types, strict=True)
        ]
        inner = scope.inside(
            raw.name,
            initializers(proto),
            values=dict(zip((i.name for i in proto.input), formal, strict=True)),
            captures=True,
        )
        importer._nodes(proto.node, inner)
        for output in proto.output:
            importer._output(output.name, output.type.tensor_type.elem_type, inner)
        if len(builder.refusals) > refused:
            return None
        try:
            return builder.unverified()
        except DependsOnRefused:
            return None

    def unroll(self, proto: GraphProto, raw: RawNode, scope: Scope, trips: int) -> None:
        """Puts the iterations of a Loop one after the other, in the place of the Loop.

        Raises:
            Refuse: whether the loop goes on is only known at run time.
        """
        states: list[str | None] = list(raw.inputs[2:])
        stacked: list[list[str]] = [[] for _ in range(len(proto.output) - 1 - len(states))]
        b = self.builder
        for iteration in range(trips):
            lead = [
                b.constant(np.asarray(iteration, np.int64), f"{raw.name}/iteration"),
                b.constant(np.asarray(True), f"{raw.name}/condition"),
            ]
            inner = scope.inside(
                raw.name,
                initializers(proto),
                values=dict(zip((i.name for i in proto.input), [*lead, *states], strict=True)),
                prefix=f"{raw.name}/{iteration}/",
            )
            self._nodes(proto.node, inner)
            results = [self._read(o.name, inner) for o in proto.output]
            states = results[1 : 1 + len(states)]
            for k, item in enumerate(results[1 + len(states) :]):
                if item is None:
                    raise ModelError("gives an output that is an omitted input")
                axes = b.constant(np.zeros(1, np.int64), f"{raw.name}/axes")
                stacked[k].append(b.add("Unsqueeze", item, axes, name=f"{raw.name}/Unsqueeze"))
            again = None if results[0] is None else b.type(results[0]).value
            if again == (0,):
                break
            if again is None and iteration + 1 < trips:
                raise Refuse("its states change their rank and its end is only known at run time")
        if any(not items for items in stacked):
            raise Refuse("it stacks outputs of no iteration")
        joined = [b.add("Concat", *i, name=f"{raw.name}/Concat", axis=0) for i in stacked]
        finals = [*states, *joined]
        for output, value in zip(raw.outputs, finals, strict=True):
            if output is not None and value is not None:
                self._aliases[output] = value

    def _write(self, name: str, scope: Scope) -> str:
        """The graph value for an ONNX name that a node is about to write."""
        value = scope.values[name] = self._new_value(name, scope)
        return value

    def _new_value(self, name: str, scope: Scope) -> str:
        if name in scope.names:
            return scope.names[name]
        if not scope.prefix:
            return name  # the model's own names are unique, and reserved
        return self.builder.values.fresh(scope.prefix + name)

    def _node_name(self, proto: NodeProto, scope: Scope) -> str:
        """The node's own name; made unique, or made from its operator, where that is needed."""
        if proto.name and not scope.prefix and proto.name not in self._named:
            self._named.add(proto.name)
            return proto.name
        if proto.name:
            return self.builder.node_names.fresh(scope.prefix + proto.name)
        return self.builder.node_names.numbered(scope.prefix + proto.op_type)

    # -- nodes -------------------------------------------------------------------------------------
    def _nodes(self, protos: Sequence[NodeProto], scope: Scope) -> None:
        written = {*scope.values, *scope.tensors}
        for name in (o for proto in protos for o in proto.output if o):
            if name in written:
                raise ModelError("is written twice, or is an input as well", tensor=name)
            written.add(name)
        for proto in topological(protos, scope.has):
            try:
                spend(NODE)
                self._node(proto, scope)
            except (ModelError, BudgetError) as error:
                error.node = error.node or scope.prefix + (proto.name or first_output(proto))
                error.operator = error.operator or proto.op_type
                error.file = error.file or self.builder.file
                raise
            except MALFORMED as error:
                raise ModelError(
                    f"its attributes or inputs make no sense ({type(error).__name__}: {error})",
                    node=scope.prefix + (proto.name or first_output(proto)),
                    operator=proto.op_type,
                    file=self.builder.file,
                ) from error

    def _node(self, proto: NodeProto, scope: Scope) -> None:
        name = self._node_name(proto, scope)
        inputs = tuple(self._read(i, scope) if i else None for i in proto.input)
        outputs = tuple(self._write(o, scope) if o else None for o in proto.output)
        domain = normal_domain(proto.domain)
        version = scope.opsets.get(domain, NEWEST_OPSET)
        with self.builder.source(name, proto.op_type, outputs):
            try:
                attributes = self._attributes(proto, scope)
                raw = RawNode(domain, proto.op_type, version, inputs, outputs, attributes, name)
                key = (domain, proto.op_type, proto.overload)
                own = key in self.functions
                if own and (not domain or (domain, proto.op_type) not in OPERATORS):
                    self._expand(self.functions[key], raw, scope)
                else:
                    self._place(raw, scope)
            except MALFORMED as error:
                raise ModelError(f"its attributes or inputs make no sense ({error})") from error

    def _attributes(self, proto: NodeProto, scope: Scope) -> dict[str, Any]:
        attributes: dict[str, Any] = {}
        for attribute in proto.attribute:
            if attribute.name in attributes:
                raise ModelError(f"has the attribute {attribute.name!r} twice")
            if attribute.ref_attr_name:
                value = scope.attributes.get(attribute.ref_attr_name)
            else:
                value = attribute_value(attribute)
            if value is not None:
                attributes[attribute.name] = value
        return attributes

    def _place(self, raw: RawNode, scope: Scope) -> None:
        """Adds a node as it stands in the file, whatever its opset."""
        check_form(raw)
        if (raw.domain, raw.op_type) == ("", "Constant"):
            value = raw.output(0)
            if value is not None:
                self.builder.define(value, self._constant_array(raw))
            return
        if any(isinstance(v, GraphProto) for v in raw.attributes.values()):
            self._subgraphs(raw, scope)
            return
        if self._knows_inputs(raw):
            self._add(upgrade(raw, self.builder), scope)
        else:
            self._survey(raw)

    def _add(self, node: RawNode, scope: Scope) -> None:
        """Adds a node of the newest opset."""
        types = [None if i is None else self.builder.type(i) for i in node.inputs]
        cls = OPERATORS.get((node.domain, node.op_type))
        if cls is None and is_ml(node.domain, node.op_type):
            values = add_ml(self.builder, node)
            self._aliases.update((o, v) for o, v in zip(node.outputs, values, strict=False) if o)
            return
        if cls is None:
            body = schema_function(node, types)
            if body is None:
                raise Refuse(unknown_operator(node))
            self._expand(body, node, scope)
            return
        check_types(node, types)
        op = self._operator(cls, node)
        inputs = node.inputs
        while inputs and inputs[-1] is None:
            inputs = inputs[:-1]
        self.builder.place(Node(op, inputs, node.outputs, node.name, self.builder.origin))

    def _operator(self, cls: type[Op], node: RawNode) -> Op:
        """The operator object; attributes that it does not have must be without effect."""
        fields = {f.name for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
        schema = newest_schema(node.domain, node.op_type)
        arguments: dict[str, Any] = {}
        for name, value in node.attributes.items():
            if isinstance(value, TensorProto):
                array = self.reader.array(value)
                if array.size != 1:
                    raise Refuse(f"attribute {name!r} has {array.size} elements, one is supported")
                value = array.reshape(-1)[0]
            if name in fields:
                arguments[name] = value
            elif (node.op_type, name) not in WITHOUT_EFFECT and value != default_of(schema, name):
                raise Refuse(f"attribute {name}={value!r} is not supported")
        try:
            return cls(**arguments)
        except MALFORMED as error:
            raise ModelError(f"its attributes make no sense ({error})") from error

    # -- constants ---------------------------------------------------------------------------------
    def _constant_array(self, raw: RawNode) -> Array:
        if len(raw.attributes) != 1:
            raise ModelError(f"needs exactly one value, has {sorted(raw.attributes)}")
        kind, value = next(iter(raw.attributes.items()))
        if isinstance(value, TensorProto):
            return self.reader.array(value)
        if isinstance(value, SparseTensorProto):
            return self.reader.dense(value)
        if kind in ("value_float", "value_floats"):
            return np.array(value, dtype=np.float32)
        if kind in ("value_int", "value_ints"):
            return np.array(value, dtype=np.int64)
        raise Refuse("strings are not supported")

    # -- functions and branches --------------------------------------------------------------------
    def _expand(self, body: FunctionProto, call: RawNode, scope: Scope) -> None:
        """Replaces a call by the nodes of the function."""
        key = (call.domain, call.op_type, body.overload)
        if key in scope.calls:
            cycle = " -> ".join(name for _, name, _ in (*scope.calls, key))
            raise ModelError(f"functions call each other in a cycle: {cycle}")
        if len(scope.calls) > MAX_CALLS:
            raise ModelError(f"functions call each other more than {MAX_CALLS} deep")
        if len(call.inputs) > len(body.input) or len(call.outputs) > len(body.output):
            raise ModelError(
                f"is called with {len(call.inputs)} inputs and {len(call.outputs)} outputs, "
                f"the function has {len(body.input)} and {len(body.output)}"
            )
        given = [*call.inputs, *[None] * (len(body.input) - len(call.inputs))]
        schema = newest_schema(call.domain, call.op_type)
        attributes = {a.name: attribute_value(a) for a in body.attribute_proto}
        attributes.update((a, default_of(schema, a)) for a in body.attribute)
        inner = Scope(
            opsets={
                **scope.opsets,
                **{normal_domain(o.domain): o.version for o in body.opset_import},
            },
            values=dict(zip(body.input, given, strict=True)),
            names={i: o for i, o in zip(body.output, call.outputs, strict=False) if o is not None},
            attributes={**attributes, **call.attributes},
            prefix=f"{call.name}/",
            calls=(*scope.calls, key),
        )
        self._nodes(body.node, inner)
        self._alias_outputs(body.output, call.outputs, inner)

    def _alias_outputs(
        self, names: Iterable[str], outputs: Iterable[str | None], inner: Scope
    ) -> None:
        for name, output in zip(names, outputs, strict=False):
            if output is None:
                continue
            if not inner.has(name):
                raise ModelError(f"nothing inside writes its output {name!r}")
            value = self._read(name, inner)
            if value is None:
                raise ModelError(f"its output {name!r} is an input that is omitted")
            if value != output:
                self._aliases[output] = value

    def _subgraphs(self, raw: RawNode, scope: Scope) -> None:
        graphs = {k: v for k, v in raw.attributes.items() if isinstance(v, GraphProto)}
        condition = raw.input(0) if (raw.domain, raw.op_type) == ("", "If") else None
        if condition is not None and not self.builder.is_refused(condition):
            known = self.builder.type(condition).value
            if known is not None and len(known) == 1 and isinstance(known[0], int):
                self._branch(graphs["then_branch" if known[0] else "else_branch"], raw, scope)
                return
        if self._knows_inputs(raw):
            import_control(self, raw, scope)
            return
        self._survey_graphs(graphs.values(), raw.name)
        self.builder.mark_refused(raw.outputs)

    def _branch(self, graph: GraphProto, raw: RawNode, scope: Scope) -> None:
        """Puts the branch that is always taken in the place of the If."""
        if len(graph.output) != len(raw.outputs):
            raise ModelError(f"has {len(raw.outputs)} outputs, its branch has {len(graph.output)}")
        inner = scope.inside(
            raw.name,
            initializers(graph),
            names={
                i.name: o for i, o in zip(graph.output, raw.outputs, strict=True) if o is not None
            },
        )
        self._nodes(graph.node, inner)
        self._alias_outputs([o.name for o in graph.output], raw.outputs, inner)

    # -- what cannot be translated -----------------------------------------------------------------
    def _knows_inputs(self, raw: RawNode) -> bool:
        return not any(self.builder.is_refused(i) for i in raw.inputs)

    def _survey(self, raw: RawNode) -> None:
        """Checks only that the operator is known: its inputs come from a refused node."""
        if not can_translate(raw.domain, raw.op_type):
            raise Refuse(unknown_operator(raw))
        self.builder.mark_refused(raw.outputs)

    def _survey_graphs(self, graphs: Iterable[GraphProto], inside: str) -> None:
        """Refuses the unknown operators of subgraphs that are not going to be imported."""
        waiting = [(node, inside) for graph in graphs for node in graph.node]
        seen: set[FunctionKey] = set()
        while waiting:
            proto, inside = waiting.pop()
            domain = normal_domain(proto.domain)
            key = (domain, proto.op_type, proto.overload)
            name = f"{inside}/{proto.name or first_output(proto)}"
            inner = [node for a in proto.attribute if a.HasField("g") for node in a.g.node]
            if key in self.functions and key not in seen:
                seen.add(key)
                inner += self.functions[key].node
            elif key not in self.functions and not inner and not can_translate(*key[:2]):
                raw = RawNode(domain, proto.op_type, 0, (), (), {}, name)
                self.builder.refuse(name, proto.op_type, unknown_operator(raw))
            waiting += [(node, name) for node in inner]
