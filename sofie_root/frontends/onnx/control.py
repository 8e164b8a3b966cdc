"""If, Loop and Scan of ONNX: their subgraphs become graphs that take what they capture as inputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from onnx import GraphProto

from sofie_root.errors import ModelError
from sofie_root.ir import DType, Graph, Node, Refuse, TensorType
from sofie_root.ir.dim import StateSize, as_poly
from sofie_root.ops.control import If, Loop, Scan, is_state_size

from .node import RawNode

if TYPE_CHECKING:
    from .importer import Importer
    from .scope import Scope

MAX_UNROLLED = 64
"""A loop whose states change their rank is written out up to this many iterations."""

MAX_ROUNDS = 8
"""How often the types of a loop's states are generalised before giving up."""


class ChangingRank(Refuse):
    """A state has another rank after an iteration than before it."""


def import_control(importer: Importer, raw: RawNode, scope: Scope) -> None:
    """Adds an If, Loop or Scan whose subgraphs run at run time.

    Raises:
        Refuse: the subgraphs use what is not supported.
        ModelError: the node contradicts its subgraphs.
    """
    outputs = tuple(
        o if o is not None else importer.builder.values.fresh(f"{raw.name}:{k}")
        for k, o in enumerate(raw.outputs)
    )
    if raw.op_type == "Loop":
        node = _loop(importer, raw, scope, outputs)
    elif raw.op_type in ("If", "Scan"):
        node = (_if if raw.op_type == "If" else _scan)(importer, raw, scope, outputs)
    else:
        raise Refuse("control flow of this kind is not supported")
    if isinstance(node, str):  # written out
        return
    if node is None:  # something inside was refused already
        importer.builder.mark_refused(outputs)
        return
    types = importer.builder.place(node, fold=False)
    if len(types) != len(outputs):
        raise ModelError(f"has {len(outputs)} outputs, its subgraph gives {len(types)}")


def _if(importer: Importer, raw: RawNode, scope: Scope, outputs: tuple[str, ...]) -> Node | None:
    bodies = []
    for name in ("then_branch", "else_branch"):
        proto = raw.attributes.get(name)
        if not isinstance(proto, GraphProto):
            raise ModelError(f"needs the subgraph {name!r}")
        bodies.append(importer.body(proto, raw, scope, ()))
    if any(b is None for b in bodies):
        return None
    graphs = [b for b in bodies if b is not None]
    captures = tuple(dict.fromkeys(name for g in graphs for name in g.inputs))
    for graph in graphs:
        graph.types.update((name, importer.builder.type(name)) for name in captures)
        graph.inputs = captures
    condition = raw.input(0)
    return Node(If(graphs[0], graphs[1]), (condition, *captures), outputs, raw.name, (raw.name,))


def _known_trips(importer: Importer, raw: RawNode) -> int | None:
    """The number of iterations where it is a small constant, unless the body ends the loop early."""
    values = [None if i is None else importer.builder.type(i).value for i in raw.inputs[:2]]
    trips = values[0]
    starts = raw.inputs[1] is None or values[1] == (1,)
    if trips is None or not starts or not isinstance(trips[0], int) or trips[0] > MAX_UNROLLED:
        return None
    return max(0, trips[0])


def _subgraph(raw: RawNode) -> GraphProto:
    proto = raw.attributes.get("body")
    if not isinstance(proto, GraphProto):
        raise ModelError("needs the subgraph 'body'")
    return proto


def _given(importer: Importer, names: Sequence[str | None]) -> list[TensorType]:
    if any(n is None for n in names):
        raise ModelError("a state or scan input is omitted")
    return [importer.builder.type(n) for n in names if n is not None]


def _loop(
    importer: Importer, raw: RawNode, scope: Scope, outputs: tuple[str, ...]
) -> Node | Literal["unrolled"] | None:
    proto = _subgraph(raw)
    states = raw.inputs[2:]
    if len(proto.input) != 2 + len(states):
        raise ModelError(f"carries {len(states)} states, its body takes {len(proto.input) - 2}")
    lead = [
        TensorType(dtype, (1,) * len(info.type.tensor_type.shape.dim))
        for dtype, info in zip((DType.INT64, DType.BOOL), proto.input, strict=False)
    ]
    try:
        graph = _with_states(importer, raw, scope, proto, lead, _given(importer, states), [], 1)
    except ChangingRank as change:
        trips = _known_trips(importer, raw)
        if trips is None:
            raise Refuse(str(change)) from None
        importer.unroll(proto, dataclasses.replace(raw, outputs=outputs), scope, trips)
        return "unrolled"
    if graph is None:
        return None
    inputs = (raw.input(0), raw.input(1), *states, *graph.inputs[2 + len(states) :])
    return Node(Loop(graph, len(states)), inputs, outputs, raw.name, (raw.name,))


def _scan(importer: Importer, raw: RawNode, scope: Scope, outputs: tuple[str, ...]) -> Node | None:
    if raw.version < 9:
        raise Refuse("Scan-8 with its batch axis is not supported; export with opset 9 or later")
    proto = _subgraph(raw)
    count = raw.attributes.get("num_scan_inputs")
    if not isinstance(count, int) or not 1 <= count <= len(raw.inputs):
        raise ModelError(f"num_scan_inputs is {count}, the node has {len(raw.inputs)} inputs")
    states = len(raw.inputs) - count
    if len(proto.input) != len(raw.inputs):
        raise ModelError(f"has {len(raw.inputs)} inputs, its body takes {len(proto.input)}")
    types = _given(importer, raw.inputs)
    lists = {
        name: tuple(raw.attributes.get(name, ()))
        for name in (
            "scan_input_axes",
            "scan_input_directions",
            "scan_output_axes",
            "scan_output_directions",
        )
    }
    axes = lists["scan_input_axes"] or (0,) * count
    slices = []
    for axis, t in zip(axes, types[states:], strict=True):
        if not -t.rank <= axis < t.rank:
            raise ModelError(f"scans axis {axis} of {t}")
        at = axis % t.rank
        slices.append(TensorType(t.dtype, t.shape[:at] + t.shape[at + 1 :]))
    graph = _with_states(importer, raw, scope, proto, [], types[:states], slices, 0)
    if graph is None:
        return None
    op = Scan(graph, count, states=states, **lists)
    inputs = (*raw.inputs, *graph.inputs[len(raw.inputs) :])
    return Node(op, inputs, outputs, raw.name, (raw.name,))


def _with_states(
    importer: Importer,
    raw: RawNode,
    scope: Scope,
    proto: GraphProto,
    lead: list[TensorType],
    states: list[TensorType],
    slices: list[TensorType],
    skip: int,
) -> Graph | None:
    """The body, imported again until the sizes of its states are the same before and after it."""
    formal = [TensorType(t.dtype, t.shape) for t in states]
    for _ in range(MAX_ROUNDS):
        graph = importer.body(proto, raw, scope, (*lead, *formal, *slices))
        if graph is None:
            return None
        results = [graph.types[v] for v in graph.outputs.values()][skip : skip + len(states)]
        if len(results) < len(states):
            raise ModelError(f"carries {len(states)} states, its body gives {len(results)}")
        general = []
        for k, (before, after) in enumerate(zip(formal, results, strict=True)):
            if before.rank != after.rank:
                raise ChangingRank(
                    f"state {k} has rank {before.rank} before an iteration, {after.rank} after"
                )
            name = f"{raw.name}:{k}"
            shape = tuple(
                b if b == a or is_state_size(b) else as_poly(StateSize(name, axis))
                for axis, (b, a) in enumerate(zip(before.shape, after.shape, strict=True))
            )
            general.append(TensorType(before.dtype, shape))
        if general == formal:
            return graph
        formal = general
    raise Refuse("the sizes of its states do not settle")
