"""Rows with bodies: If, Loop and Scan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from onnx import GraphProto, helper

from .builder import BOOL, FLOAT, INT64, Builder, Rejected, Value
from .reference import element_type
from .rows import ROWS as SINGLE
from .rows import Row
from .shaping import cast, scalar, sizes, tame
from .views import ROWS as VIEWS

INSIDE: list[Row] = [
    row for name, (_, row) in {**SINGLE, **VIEWS}.items() if name not in ("unique", "select")
]


def fill(b: Builder, count: int, rows: Sequence[Row] = INSIDE) -> None:
    """Up to so many rows in a body."""
    for _ in range(count):
        b.attempt(b.choice(rows))


def body(
    b: Builder, name: str, inputs: Sequence[Value], outputs: Sequence[Value], typed: bool = True
) -> GraphProto:
    """A graph for an attribute; outputs that are not computed in it go through Identity."""
    computed = {o for n in b.nodes for o in n.output}
    final = [v if v.name in computed else b.node("Identity", v) for v in outputs]
    if len({v.name for v in final}) < len(final):
        raise Rejected("an output twice")
    given = [
        helper.make_tensor_value_info(
            v.name, element_type(v.dtype), _declared(v) if typed else None
        )
        for v in inputs
    ]
    taken = [
        helper.make_tensor_value_info(v.name, element_type(v.dtype), [None] * v.rank) for v in final
    ]
    return helper.make_graph(b.nodes, name, given, taken)


def _declared(v: Value) -> list[int | None]:
    return [d[0] if len(set(d)) == 1 else None for d in v.dims]


def fake(b: Builder, arrays: Sequence[np.ndarray[Any, Any]]) -> Value:
    """An input of a body, as it may look."""
    return b.add(Value(b.name("s"), tuple(arrays)))


def last(b: Builder, like: Callable[[Value], bool]) -> Value:
    """The latest value that fits."""
    for value in reversed(b.values):
        if like(value):
            return value
    raise Rejected("no such value")


def branch(b: Builder) -> Value:
    """An If whose branches give the same type, mostly the same sizes."""
    v = b.pick("f", low=0, where=lambda o: not o.is_empty)
    total = b.node("ReduceSum", v, keepdims=0)
    condition = b.node("Greater", total, scalar(b, v.dtype, -1, 1))
    sides = []
    results: list[Value] = []
    for side in ("then", "else"):
        inner = b.child()
        inner.values.append(v)
        fill(inner, b.integer(1, 4))
        new = [
            o
            for o in inner.values[len(b.values) + 1 :]
            if o.name in {x for n in inner.nodes for x in n.output}
        ]
        out = [
            o
            for o in new
            if o.dtype == v.dtype and o.rank == v.rank and (o.dims == v.dims or b.chance(0.15))
        ]
        result = (
            b.choice(out) if out else inner.node(b.choice(("Neg", "Tanh", "Abs", "Identity")), v)
        )
        results.append(result)
        sides.append(body(inner, f"{side}_{b.name('g')}", [], [result]))
    return tame(b, b.node("If", condition, then_branch=sides[0], else_branch=sides[1]))


def loop(b: Builder) -> Value:
    """A Loop with one or two states, by count or by condition, sometimes with what it collects."""
    if b.opset < 11:
        raise Rejected("there ONNX Runtime joins what is collected along an axis that is there")
    states = [
        b.pick("f", low=0, high=3, where=lambda o: not o.is_empty) for _ in range(b.integer(1, 2))
    ]
    trips = _trips(b)
    inner = b.child()
    count, go = (
        fake(inner, [np.array(0, np.int64)] * b.sets),
        fake(inner, [np.array(True)] * b.sets),
    )
    own = [fake(inner, s.arrays) for s in states]
    fill(inner, b.integer(1, 5))
    computed = {x for n in inner.nodes for x in n.output}
    after = []
    for s in own:
        fits = [
            o
            for o in inner.values
            if o.name in computed and o.dtype == s.dtype and o.dims == s.dims
        ]
        step = b.choice(fits) if fits and b.chance(0.8) else s
        mixed = inner.node("Add", step, s) if step is not s else s
        after.append(inner.node(b.choice(("Tanh", "Softsign", "Sigmoid")), mixed))
    kept = []
    for _ in range(b.integer(0, 2)):
        fits = [o for o in inner.values if o.name in computed and o.rank < 4 and o.kind != "b"]
        if fits:
            row = b.choice(fits)
            kept.append(inner.node("Identity", row))
    if b.chance(0.3):
        number = inner.node("Cast", count, to=element_type(FLOAT))
        kept.append(inner.node("Mul", number, b.constant(0.1, FLOAT)))
    until = inner.node("Identity", go)
    if b.chance(0.4):
        level = inner.node("ReduceMax", inner.node("Abs", after[0]), keepdims=0)
        until = inner.node("Greater", level, b.constant(b.choice((0.2, 0.6)), after[0].dtype))
    graph = body(inner, b.name("loop"), [count, go, *own], [until, *after, *kept])
    start = b.constant(True, BOOL) if b.chance(0.4) else None
    results = b.node("Loop", trips, start, *states, outputs=len(after) + len(kept), body=graph)
    results = results if isinstance(results, tuple) else (results,)
    return results[b.integer(0, len(results) - 1)]


def _trips(b: Builder) -> Value:
    """A number of steps: constant, an input that differs, or the size of an axis."""
    how = b.integer(0, 2)
    if how == 0:
        return b.constant(b.integer(1, 4), INT64)
    if how == 1:
        return b.input_of(
            [np.array(b.integer(0 if b.chance(0.1) else 1, 4), np.int64) for _ in range(b.sets)], []
        )
    v = b.pick("f", low=1, where=lambda o: max(o.dims[0]) <= 9)
    return b.node("Squeeze", sizes(b, [(v, 0)]), [0])


def scan(b: Builder) -> Value:
    """A Scan along an axis, forwards or backwards, with a state."""
    v = b.pick("f", low=2, high=3, where=lambda o: not o.is_empty)
    axis = b.axis(v)
    state = b.source(tuple(d for k, d in enumerate(v.dims) if k != axis), v.dtype)
    inner = b.child()
    s, x = fake(inner, state.arrays), fake(inner, [np.take(a, 0, axis) for a in v.arrays])
    mixed = inner.node(b.choice(("Add", "Mul", "Sub")), s, x)
    fill(inner, b.integer(0, 3))
    computed = {o for n in inner.nodes for o in n.output}
    fits = [
        o for o in inner.values if o.name in computed and o.dims == s.dims and o.dtype == s.dtype
    ]
    after = inner.node("Tanh", b.choice(fits) if fits else mixed)
    row = inner.node(
        "Identity",
        b.choice([o for o in inner.values if o.name in computed and o.rank < 4 and o.kind == "f"]),
    )
    graph = body(inner, b.name("scan"), [s, x], [after, row])
    more: dict[str, Any] = {"scan_input_axes": [axis]} if axis else {}
    if b.chance(0.3):
        more["scan_input_directions"] = [1]
    if b.chance(0.3):
        more["scan_output_directions"] = [1]
    if b.chance(0.3):
        more["scan_output_axes"] = [b.integer(0, row.rank)]
    results = b.node("Scan", state, v, outputs=2, body=graph, num_scan_inputs=1, **more)
    return results[b.integer(0, 1)]


def generated_state(b: Builder) -> Value:
    """A Loop that writes one row of its state after the other by ScatterND, as a decoder does."""
    n, width = b.integer(2, 6), b.size(9)
    x = b.input([b.choice((1, *b.symbols)), width], FLOAT)
    if not x.fixed:
        x = b.node("ReduceMean", x, [0], keepdims=1) if b.opset >= 18 else x
    if x.dims[0] != (1,) * b.sets:
        raise Rejected("one row")
    zeros = b.constant(np.zeros((n, width), np.float32))
    inner = b.child()
    inner.values.append(x)
    count, go = (
        fake(inner, [np.array(0, np.int64)] * b.sets),
        fake(inner, [np.array(True)] * b.sets),
    )
    table, row = fake(inner, zeros.arrays), fake(inner, x.arrays)
    weight = b.weight(width, width, scale=0.5)
    new = inner.node("Tanh", inner.node("Add", inner.node("MatMul", row, weight), row))
    where = inner.node("Reshape", count, [1, 1])
    filled = inner.node("ScatterND", table, where, new)
    graph = body(
        inner, b.name("loop"), [count, go, table, row], [inner.node("Identity", go), filled, new]
    )
    results = b.node(
        "Loop", b.constant(b.integer(1, n), INT64), None, zeros, x, outputs=2, body=graph
    )
    return cast(b, results[0], FLOAT)


ROWS: dict[str, tuple[float, Row]] = {
    "If": (1, branch), "Loop": (1, loop), "Scan": (0.7, scan), "decoder loop": (0.5, generated_state),
}  # fmt: skip
"""Weight and function of each."""

__all__ = ["ROWS", "last"]
