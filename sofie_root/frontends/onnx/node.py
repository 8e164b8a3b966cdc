"""A node of an ONNX file, its attributes as Python values, checked against ONNX's own schema."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, TypeAlias

from onnx import AttributeProto, FunctionProto, NodeProto, TypeProto, defs, helper

from sofie_root.errors import ModelError
from sofie_root.ir import DType, Poly, Refuse, TensorType

Schema: TypeAlias = Any
"""``onnx.defs.OpSchema``, whose type stub lacks half of its members."""

NEWEST_OPSET = int(defs.onnx_opset_version())

_OPTIONAL: Any = defs.OpSchema.FormalParameterOption.Optional
_VARIADIC: Any = defs.OpSchema.FormalParameterOption.Variadic


FLAGS: dict[str, tuple[int, int]] = dict.fromkeys(
    (
        "align_corners", "antialias", "ceil_mode", "center_point_box", "count_include_pad",
        "exclude_outside", "exclusive", "fmod", "input_forget", "inverse", "is_causal", "keepdims",
        "largest", "layout", "linear_before_reset", "noop_with_empty_axes", "onesided",
        "return_mask", "reverse", "select_last_index", "sorted", "storage_order", "transA", "transB",
        "upper",
    ),
    (0, 1),
)  # fmt: skip
"""Attributes that say yes or no, in whatever operator."""

CHOICES: dict[tuple[str, str], tuple[str, ...]] = {
    ("BitShift", "direction"): ("LEFT", "RIGHT"),
    ("DepthToSpace", "mode"): ("DCR", "CRD"),
    ("SpaceToDepth", "mode"): ("DCR", "CRD"),
    ("Gelu", "approximate"): ("none", "tanh"),
    **{
        (kind, "auto_pad"): ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID", "")
        for kind in (
            "AveragePool", "Conv", "ConvInteger", "ConvTranspose", "LpPool", "MaxPool", "QLinearConv"
        )
    },
}  # fmt: skip
"""Attributes that choose by name; those of other operators are checked where they are used."""


@dataclass(frozen=True, slots=True)
class RawNode:
    """An ONNX node whose operator may still be of an old opset.

    Attributes:
        domain: operator domain; empty for ONNX's own.
        op_type: operator.
        version: opset version of the domain.
        inputs: names of graph values; None for an omitted optional input.
        outputs: names of graph values; None for an omitted output.
        attributes: Python values; protos for tensors and subgraphs.
        name: name for messages and for the graph's node.
    """

    domain: str
    op_type: str
    version: int
    inputs: tuple[str | None, ...]
    outputs: tuple[str | None, ...]
    attributes: Mapping[str, Any]
    name: str

    def input(self, position: int) -> str | None:
        """The input at this position, None where it is omitted."""
        return self.inputs[position] if position < len(self.inputs) else None

    def output(self, position: int) -> str | None:
        """The output at this position, None where it is omitted."""
        return self.outputs[position] if position < len(self.outputs) else None

    def with_attributes(self, **changes: Any) -> RawNode:
        """The node with attributes set, or removed where the new value is None."""
        merged = {**self.attributes, **changes}
        return replace(self, attributes={k: v for k, v in merged.items() if v is not None})

    def with_input(self, position: int, name: str | None) -> RawNode:
        """The node with one input set; inputs before it that are missing become omitted."""
        inputs = list(self.inputs) + [None] * (position + 1 - len(self.inputs))
        inputs[position] = name
        return replace(self, inputs=tuple(inputs))


def attribute_value(attribute: AttributeProto) -> Any:
    """The value of an attribute; sequences become tuples, tensors and graphs stay protos."""
    kind = attribute.type
    if kind == AttributeProto.FLOAT:
        return float(attribute.f)
    if kind == AttributeProto.INT:
        return int(attribute.i)
    if kind == AttributeProto.STRING:
        return _text(attribute.s, attribute.name)
    if kind == AttributeProto.FLOATS:
        return tuple(float(v) for v in attribute.floats)
    if kind == AttributeProto.INTS:
        return tuple(int(v) for v in attribute.ints)
    if kind == AttributeProto.STRINGS:
        return tuple(_text(v, attribute.name) for v in attribute.strings)
    if kind == AttributeProto.TENSOR:
        return attribute.t
    if kind == AttributeProto.SPARSE_TENSOR:
        return attribute.sparse_tensor
    if kind == AttributeProto.GRAPH:
        return attribute.g
    raise Refuse(f"attribute {attribute.name!r} has a type that is not supported ({kind})")


def _text(value: bytes, name: str) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        raise ModelError(f"attribute {name!r} is not UTF-8 text") from None


def normal_domain(domain: str) -> str:
    """The domain with ONNX's own always written as the empty string."""
    return "" if domain == "ai.onnx" else domain


@cache
def schema_of(domain: str, op_type: str, version: int) -> Schema | None:
    """ONNX's definition of an operator at an opset version, None where there is none."""
    if not defs.has(op_type, domain):
        return None
    try:
        return defs.get_schema(op_type, version, domain)
    except defs.SchemaError:
        return None


def newest_schema(domain: str, op_type: str) -> Schema | None:
    """ONNX's newest definition of an operator."""
    return schema_of(domain, op_type, 2**31 - 1)


def check_form(node: RawNode) -> None:
    """Checks attribute names and types and the number of inputs against the node's own opset.

    Raises:
        ModelError: the node is not valid ONNX.
        Refuse: it has an attribute that ONNX does not define.
    """
    schema = schema_of(node.domain, node.op_type, node.version)
    if schema is None:
        if newest_schema(node.domain, node.op_type) is None:
            return
        raise ModelError(
            f"is not an operator of opset {node.version}, which the model says it uses; "
            "export the model again with a newer opset"
        )
    given = len(node.inputs)
    while given and node.inputs[given - 1] is None:
        given -= 1
    if not schema.min_input <= given <= schema.max_input and not _moved(node):
        raise ModelError(
            f"has {given} inputs, {node.op_type}-{schema.since_version} takes "
            f"{schema.min_input} to {schema.max_input}; export the model again"
        )
    for position, name in enumerate(node.inputs if schema.inputs else ()):
        formal = schema.inputs[min(position, len(schema.inputs) - 1)]
        lacks = position < given or formal.option == _VARIADIC
        if name is None and lacks and formal.option != _OPTIONAL:
            raise ModelError(f"lacks its input {position} ({formal.name}); export the model again")
    if len(node.outputs) > schema.max_output:
        raise ModelError(f"has {len(node.outputs)} outputs, the operator has {schema.max_output}")
    for name, value in node.attributes.items():
        declared = schema.attributes.get(name) or _declared(node.domain, node.op_type, name)
        if declared is None:
            raise Refuse(
                f"attribute {name!r} is not one that {node.op_type}-{schema.since_version} has"
            )
        if not _fits(declared.type, value):
            raise ModelError(
                f"attribute {name!r} has the wrong type, {declared.type.name.lower()} was "
                "expected; export the model again"
            )
        choices = FLAGS.get(name) or CHOICES.get((node.op_type, name))
        if choices is not None and not node.domain and value not in choices:
            listed = ", ".join(repr(c) for c in choices)
            raise ModelError(f"attribute {name!r} is {value!r}, must be one of {listed}")
    missing = [n for n, a in schema.attributes.items() if a.required and n not in node.attributes]
    if missing:
        raise ModelError(f"lacks the required attribute {missing[0]!r}; export the model again")


def _moved(node: RawNode) -> bool:
    """Whether the node has attributes that are inputs in its own opset, or the other way round."""
    schema = schema_of(node.domain, node.op_type, node.version)
    return schema is not None and any(n not in schema.attributes for n in node.attributes)


@cache
def _declared(domain: str, op_type: str, attribute: str) -> Any:
    """What any opset says about an attribute, None where none has it.

    Exporters write attributes of other opsets now and then; the upgrade knows what they mean.
    """
    schemas = (schema_of(domain, op_type, version) for version in range(NEWEST_OPSET, 0, -1))
    return next((s.attributes[attribute] for s in schemas if s and attribute in s.attributes), None)


def _fits(kind: Any, value: Any) -> bool:
    name = kind.name
    if isinstance(value, tuple):
        element = {"INTS": int, "FLOATS": float, "STRINGS": str}.get(name)
        return element is not None and all(isinstance(v, element) for v in value)
    expected = {"INT": int, "FLOAT": float, "STRING": str}.get(name)
    if expected is not None:
        return isinstance(value, expected)
    proto = {"TENSOR": "TensorProto", "GRAPH": "GraphProto", "SPARSE_TENSOR": "SparseTensorProto"}
    return type(value).__name__ == proto.get(name)


def default_of(schema: Schema | None, attribute: str) -> Any:
    """The default value of an attribute in ONNX's definition, None where it has none."""
    if schema is None or attribute not in schema.attributes:
        return None
    default = schema.attributes[attribute].default_value
    return attribute_value(default) if default.type else None


@cache
def _accepted(domain: str, op_type: str, position: int) -> frozenset[str]:
    """The types that any version of the operator takes there: newer ones dropped some (ReduceLogSum)."""
    versions = (schema_of(domain, op_type, version) for version in range(1, NEWEST_OPSET + 1))
    schemas = [s for s in (*versions, newest_schema(domain, op_type)) if s is not None and s.inputs]
    return frozenset(t for s in schemas for t in s.inputs[min(position, len(s.inputs) - 1)].types)


def check_types(node: RawNode, types: Sequence[TensorType | None]) -> None:
    """Checks the input dtypes against ONNX's definitions of the operator.

    Raises:
        ModelError: a dtype is not allowed, or inputs that must agree do not.
    """
    schema = newest_schema(node.domain, node.op_type)
    if schema is None or not schema.inputs:
        return
    bound: dict[str, TensorType] = {}
    for position, type_ in enumerate(types):
        if type_ is None:
            continue
        formal = schema.inputs[min(position, len(schema.inputs) - 1)]
        text = f"tensor({_ONNX_NAME.get(type_.dtype, str(type_.dtype))})"
        if text not in _accepted(node.domain, node.op_type, position):
            raise ModelError(
                f"input {position} ({formal.name}) is {type_.dtype}, which {node.op_type} does not "
                "take; insert a Cast and export the model again"
            )
        if not formal.is_homogeneous:
            continue
        first = bound.setdefault(formal.type_str, type_)
        if first.dtype is not type_.dtype:
            raise ModelError(
                f"input {position} ({formal.name}) is {type_.dtype}, another is {first.dtype}; "
                "they must agree: insert a Cast and export the model again"
            )


_ONNX_NAME = {DType.FLOAT: "float", DType.DOUBLE: "double"}


def schema_function(node: RawNode, types: Sequence[TensorType | None]) -> FunctionProto | None:
    """The function body that ONNX gives for this node of the newest opset, else None."""
    schema = newest_schema(node.domain, node.op_type)
    if schema is None:
        return None
    if schema.has_function:
        version = max(schema.function_opset_versions)
        body = schema.get_function_with_opset_version(version)
    elif schema.has_context_dependent_function:
        version = max(schema.context_dependent_function_opset_versions)
        proto = _proto(node)
        known = [(_type_proto(t) if t else TypeProto()).SerializeToString() for t in types]
        body = schema.get_context_dependent_function_with_opset_version(
            version, proto.SerializeToString(), known
        )
    else:
        return None
    return FunctionProto.FromString(body) if body else None


def _proto(node: RawNode) -> NodeProto:
    """A NodeProto of the (upgraded) node with its values for attributes."""
    attributes = {k: v for k, v in node.attributes.items() if v != ()}
    return helper.make_node(
        node.op_type,
        [i or "" for i in node.inputs],
        [o or "" for o in node.outputs],
        domain=node.domain,
        **attributes,
    )


def _type_proto(type_: TensorType) -> TypeProto:
    dims = [str(d) if isinstance(d, Poly) else d for d in type_.shape]
    return helper.make_tensor_type_proto(type_.dtype.onnx, dims)
