"""Nodes of older opsets rewritten to the newest one, by one small adapter per change of ONNX.

Most changes only moved an attribute to an input: those are rows of ``MOVED``. Such a row applies at
any opset, so that files which carry the old attribute under a new opset number keep its meaning.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sofie_root.build import GraphBuilder
from sofie_root.errors import ModelError
from sofie_root.ir import OPERATORS, Refuse

from .ml import is_ml
from .node import RawNode, newest_schema, schema_of

OLDEST_OPSET = 7
"""Nodes of older models are accepted where they mean the same, or where an adapter knows better."""


Adapter = Callable[[RawNode, GraphBuilder], RawNode]
ADAPTERS: dict[str, list[tuple[int, Adapter]]] = {}
"""Per operator: (first opset that no longer needs it, adapter), applied in order."""

RENAMED = frozenset({"Scatter", "Upsample"})
"""Operators that only exist in older opsets and that the upgrade replaces."""

ALWAYS = 2**31
"""For what files carry under any opset number."""


def upgrade(node: RawNode, b: GraphBuilder) -> RawNode:
    """The node in the newest opset; nodes that must come before it are added on the way.

    Raises:
        Refuse: the node is too old.
    """
    if node.domain:
        return node
    _check_age(node)
    for move in MOVED.get(node.op_type, ()):
        node = _move(node, move, b)
    for until, adapter in ADAPTERS.get(node.op_type, ()):
        if node.version < until:
            node = adapter(node, b)
    return node


def _check_age(node: RawNode) -> None:
    if node.version >= OLDEST_OPSET or node.op_type in RENAMED:
        return
    own = schema_of("", node.op_type, node.version)
    oldest = schema_of("", node.op_type, OLDEST_OPSET)
    adapted = any(until == OLDEST_OPSET for until, _ in ADAPTERS.get(node.op_type, ()))
    if not adapted and (own is None or oldest is None or own.since_version != oldest.since_version):
        raise Refuse(f"is of opset {node.version}; export the model with opset 7 or newer")


# -- attributes that became inputs -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Move:
    """An attribute that is input ``position`` in the newest opset, as an array of ``dtype``.

    ``dtype`` None stands for the dtype of input 0; ``scalar`` for a tensor without axes.
    """

    attribute: str
    position: int
    dtype: type | None = np.int64
    scalar: bool = False


_AXES = Move("axes", 1)
_REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")
MOVED: dict[str, tuple[Move, ...]] = {
    "Squeeze": (_AXES,),
    "Unsqueeze": (_AXES,),
    **{f"Reduce{kind}": (_AXES,) for kind in _REDUCTIONS},
    "Clip": (Move("min", 1, None, True), Move("max", 2, None, True)),
    "Pad": (Move("pads", 1), Move("value", 2, None, True)),
    "Slice": (Move("starts", 1), Move("ends", 2), Move("axes", 3)),
    "Split": (Move("split", 1),),
    "TopK": (Move("k", 1),),
    "Dropout": (Move("ratio", 1, np.float32, True),),
    "Upsample": (Move("scales", 1, np.float32),),
    "DFT": (Move("axis", 2, np.int64, True),),
}


def _move(node: RawNode, move: Move, b: GraphBuilder) -> RawNode:
    value = node.attributes.get(move.attribute)
    if value is None:
        return node
    node = node.with_attributes(**{move.attribute: None})
    if node.input(move.position) is not None:
        raise ModelError(
            f"has {move.attribute!r} as attribute and as input; export the model again",
            node=node.name,
            operator=node.op_type,
        )
    dtype: Any = move.dtype
    if dtype is None:
        data = node.input(0)
        dtype = b.type(data).dtype.numpy if data is not None else np.float32
    array = np.array(value).astype(dtype)
    array = array.reshape(()) if move.scalar else np.atleast_1d(array)
    return node.with_input(move.position, b.constant(array, f"{node.name}/{move.attribute}"))


# -- changes of meaning ----------------------------------------------------------------------------


def adapter(until: int, *operators: str) -> Callable[[Adapter], Adapter]:
    """Registers an adapter for nodes of these operators with an opset below ``until``."""

    def register(function: Adapter) -> Adapter:
        for name in operators:
            ADAPTERS.setdefault(name, []).append((until, function))
        return function

    return register


@adapter(7, "Add", "Sub", "Mul", "Div", "Pow", "And", "Or", "Xor", "Equal", "Greater", "Less")
def _limited_broadcast(node: RawNode, b: GraphBuilder) -> RawNode:
    """Opset 6: the second operand was aligned at ``axis``, and only if ``broadcast`` was set."""
    axis = node.attributes.get("axis")
    node = node.with_attributes(broadcast=None, axis=None)
    return node if axis is None else _aligned(node, int(axis), b)


@adapter(7, "PRelu")
def _slope_per_channel(node: RawNode, b: GraphBuilder) -> RawNode:
    """Opset 6: the slope was a single one, or one per channel."""
    slope = node.input(1)
    single = slope is None or b.type(slope).numel == 1
    return node if single else _aligned(node, 1, b)


def _aligned(node: RawNode, axis: int, b: GraphBuilder) -> RawNode:
    """The node with its second operand starting at ``axis`` of the first."""
    first, second = node.input(0), node.input(1)
    if first is None or second is None:
        return node
    outer, rank = b.type(first).rank, b.type(second).rank
    behind = outer - (axis + outer if axis < 0 else axis) - rank
    if behind <= 0:
        return node
    axes = b.constant(np.arange(rank, rank + behind, dtype=np.int64), f"{node.name}/axes")
    return node.with_input(1, b.add("Unsqueeze", second, axes, name=f"{node.name}/Unsqueeze"))


@adapter(7, "Gemm")
def _gemm_broadcast(node: RawNode, b: GraphBuilder) -> RawNode:
    """Opset 6 had to say that C is broadcast."""
    return node.with_attributes(broadcast=None)


@adapter(7, "AveragePool")
def _same_pool(node: RawNode, b: GraphBuilder) -> RawNode:
    """Opset 7 only added a choice; its default is what opset 6 did."""
    return node


@adapter(7, "BatchNormalization", "Dropout")
def _is_test(node: RawNode, b: GraphBuilder) -> RawNode:
    """Opset 6 told training from inference by an attribute that exporters did not set reliably."""
    return node.with_attributes(is_test=None)


@adapter(9, "BatchNormalization")
def _spatial(node: RawNode, b: GraphBuilder) -> RawNode:
    """Before opset 9 statistics could be kept per element instead of per channel."""
    if node.attributes.get("spatial", 1) != 1:
        raise Refuse("BatchNormalization with statistics per element (spatial=0) is not supported")
    return node.with_attributes(spatial=None)


@adapter(14, "BatchNormalization")
def _training_outputs(node: RawNode, b: GraphBuilder) -> RawNode:
    """Before opset 14, training was told by the outputs for the new statistics."""
    if any(o is not None for o in node.outputs[1:]):
        raise Refuse("BatchNormalization in training mode is not supported; export for inference")
    return replace(node, outputs=node.outputs[:1])


@adapter(13, "Softmax", "LogSoftmax", "Hardmax")
def _flattened_softmax(node: RawNode, b: GraphBuilder) -> RawNode:
    """Before opset 13, all axes from ``axis`` on were normalised together; the default was 1."""
    x = node.input(0)
    if x is None:
        return node
    rank = b.type(x).rank
    axis = int(node.attributes.get("axis", 1))
    axis = axis + rank if axis < 0 else axis
    if axis == rank - 1:
        return node.with_attributes(axis=-1)
    flat = b.add("Flatten", x, name=f"{node.name}/Flatten", axis=axis)
    normalised = b.add(node.op_type, flat, name=f"{node.name}/{node.op_type}", axis=-1)
    shape = b.add("Shape", x, name=f"{node.name}/Shape")
    return replace(node, op_type="Reshape", inputs=(normalised, shape), attributes={})


@adapter(18, "Split")
def _equal_parts(node: RawNode, b: GraphBuilder) -> RawNode:
    """Before opset 18, equal parts were implied by the absence of sizes."""
    if node.input(1) is not None:
        return node
    return node.with_attributes(num_outputs=len(node.outputs))


@adapter(ALWAYS, "Scatter")
def _scatter(node: RawNode, b: GraphBuilder) -> RawNode:
    """Renamed in opset 11."""
    return replace(node, op_type="ScatterElements")


@adapter(ALWAYS, "Upsample")
def _upsample(node: RawNode, b: GraphBuilder) -> RawNode:
    """Replaced by Resize in opset 10."""
    return _constant_scales(_old_resize(replace(node, op_type="Resize"), b), b)


@adapter(11, "Resize")
def _old_resize(node: RawNode, b: GraphBuilder) -> RawNode:
    """Before opset 11 there was no region of interest, and coordinates were plainly scaled."""
    scales = node.input(1)
    return replace(node, inputs=(node.input(0), None, scales)).with_attributes(
        coordinate_transformation_mode="asymmetric", nearest_mode="floor"
    )


@adapter(ALWAYS, "Resize")
def _constant_scales(node: RawNode, b: GraphBuilder) -> RawNode:
    """Scales that are known become an attribute, so that they give the shape; empty ones go."""
    for position in (1, 2, 3):
        name = node.input(position)
        if name is not None and b.type(name).numel == 0:
            node = node.with_input(position, None)
    name = node.input(2)
    scales = None if name is None else b.array(name)
    if scales is None:
        return node
    if scales.ndim != 1:
        raise ModelError(f"its scales have {scales.ndim} axes, not 1")
    return node.with_input(2, None).with_attributes(scales=tuple(float(s) for s in scales))


@adapter(16, "RoiAlign")
def _roi_align(node: RawNode, b: GraphBuilder) -> RawNode:
    """Before opset 16 coordinates were not shifted by half a pixel."""
    return node.with_attributes(coordinate_transformation_mode="output_half_pixel")


@adapter(20, "GridSample")
def _grid_sample(node: RawNode, b: GraphBuilder) -> RawNode:
    """Modes were renamed in opset 20."""
    mode = str(node.attributes.get("mode", "bilinear"))
    return node.with_attributes(mode={"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode))


@adapter(20, "DFT")
def _dft_axis(node: RawNode, b: GraphBuilder) -> RawNode:
    """The default axis was 1; since opset 20 it is the last but one."""
    axis = b.constant(np.array(1, dtype=np.int64), f"{node.name}/axis")
    return node if node.input(2) is not None else node.with_input(2, axis)


@adapter(21, "GroupNormalization")
def _scale_per_group(node: RawNode, b: GraphBuilder) -> RawNode:
    """Before opset 21, scale and bias were per group; now they are per channel."""
    x, groups = node.input(0), int(node.attributes.get("num_groups", 1))
    channels = b.type(x).shape[1] if x is not None and b.type(x).rank > 1 else None
    if not isinstance(channels, int) or groups < 1 or channels % groups:
        raise Refuse(
            f"GroupNormalization of {channels} channels in {groups} groups is not supported"
        )
    axes = b.constant(np.array([1], dtype=np.int64), f"{node.name}/axes")
    spread = b.constant(
        np.array([groups, channels // groups], dtype=np.int64), f"{node.name}/spread"
    )
    flat = b.constant(np.array([channels], dtype=np.int64), f"{node.name}/channels")
    for position in (1, 2):
        given = node.input(position)
        if given is not None:
            column = b.add("Unsqueeze", given, axes, name=f"{node.name}/Unsqueeze")
            wide = b.add("Expand", column, spread, name=f"{node.name}/Expand")
            node = node.with_input(
                position, b.add("Reshape", wide, flat, name=f"{node.name}/Reshape")
            )
    return node


@adapter(ALWAYS, "RNN", "GRU", "LSTM")
def _recurrent(node: RawNode, b: GraphBuilder) -> RawNode:
    """``clip=0`` is written for "do not clip"; lengths are now and then written as floats."""
    if node.attributes.get("clip") == 0:
        node = node.with_attributes(clip=None)
    node = node.with_attributes(output_sequence=None)
    lengths = node.input(4)
    array = b.array(lengths) if lengths is not None else None
    if array is None or array.dtype.kind != "f" or not np.all(np.abs(array) < 2**31):
        return node
    whole = array.astype(np.int32)
    if not np.array_equal(array, whole):
        return node
    return node.with_input(4, b.constant(whole, f"{node.name}/lengths"))


def can_translate(domain: str, op_type: str) -> bool:
    """Whether there is an operator class, or a function body in ONNX's definition."""
    if (domain, op_type) in OPERATORS or (domain, op_type) == ("", "Constant"):
        return True
    if not domain and op_type in RENAMED:
        return True
    if is_ml(domain, op_type):
        return True
    schema = newest_schema(domain, op_type)
    return schema is not None and (schema.has_function or schema.has_context_dependent_function)


def unknown_operator(node: RawNode) -> str:
    """Why an operator without class and without function body is refused."""
    if newest_schema(node.domain, node.op_type) is None:
        if not node.domain:
            return "is not an operator of ONNX that is known here"
        return (
            f"is not an operator of domain {node.domain!r} that is known here; if it is yours, "
            f"register a class for it before loading: @sofie_root.operator({node.op_type!r}, "
            f"domain={node.domain!r})"
        )
    return "this operator is not supported"
