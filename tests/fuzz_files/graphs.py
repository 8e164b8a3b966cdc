"""Changes of a whole ONNX graph: inputs that become constants, and nodes of other models."""

from __future__ import annotations

import random

import numpy as np
from onnx import ModelProto, NodeProto, helper, numpy_helper

from .values import FLOATS, integer

MOST = 4096
"""Elements of an input that becomes a constant."""


def freeze(proto: ModelProto, rng: random.Random) -> str:
    """Makes a constant of an input, with elements that fit, or odd ones."""
    graph = proto.graph
    names = [i.name for i in graph.input]
    if not names:
        return "no inputs"
    at = rng.randrange(len(names))
    tensor = graph.input[at].type.tensor_type
    shape = [d.dim_value or 2 for d in tensor.shape.dim]
    try:
        dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        if not 0 <= int(np.prod(shape, dtype=object)) <= MOST:
            return "too large"
        array = np.array([_element(rng, dtype) for _ in range(int(np.prod(shape)))], dtype)
        graph.initializer.append(numpy_helper.from_array(array.reshape(shape), names[at]))
    except (KeyError, TypeError, ValueError, OverflowError):
        return "of another type"
    del graph.input[at]
    return f"{names[at]} is constant"


def _element(rng: random.Random, dtype: np.dtype) -> float | int:
    if dtype.kind not in "iub":
        return rng.uniform(-3, 3) if rng.random() < 0.8 else rng.choice(FLOATS[:8])
    number = rng.randrange(-3, 8) if rng.random() < 0.7 else integer(rng)
    if dtype.kind == "b":
        return number & 1
    limits = np.iinfo(dtype)
    return min(max(number, int(limits.min)), int(limits.max))


def graft(proto: ModelProto, other: ModelProto, rng: random.Random) -> str:
    """Puts a node of another model behind, or between, those that are there."""
    graph = proto.graph
    values = [i.name for i in graph.input] + [t.name for t in graph.initializer]
    values += [o for n in graph.node for o in n.output]
    if not other.graph.node or not values:
        return "no nodes"
    node = NodeProto()
    node.CopyFrom(rng.choice(other.graph.node))
    known = {t.name: t for t in other.graph.initializer}
    for k, name in enumerate(node.input):
        if name in known and known[name].ByteSize() < 100_000 and rng.random() < 0.8:
            copied = graph.initializer.add()
            copied.CopyFrom(known[name])
            copied.name = f"graft{len(graph.initializer)}"
            node.input[k] = copied.name
        elif name:
            node.input[k] = rng.choice(values[-4:] if rng.random() < 0.6 else values)
    node.name = f"graft{len(graph.node)}"
    for k in range(len(node.output)):
        node.output[k] = f"{node.name}_{k}" if node.output[k] else ""
    made = [o for o in node.output if o]
    readers = [n for n in graph.node if n.input]
    graph.node.append(node)
    if made and readers and rng.random() < 0.5:
        reader = rng.choice(readers)
        reader.input[rng.randrange(len(reader.input))] = made[0]
    elif made:
        graph.output.append(helper.make_empty_tensor_value_info(made[0]))
    return f"{node.op_type} is added"
