"""Small graphs in which neighbouring nodes are fused: rows of a table that is run in every form.

What a row gives is compared with ONNX Runtime's result without optimisation, by the interpreter and by
compiled code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, helper
from onnx_models import Array, by_runtime, model, node, random, tensor, value

from sofie_root.frontends.onnx import from_proto
from sofie_root.ir import Graph

TOLERANCES = {"float16": 4e-3, "float32": 2e-5, "float64": 1e-6}
"""Relative and absolute tolerance by dtype; integers must be equal."""


@dataclass(frozen=True)
class GraphCase:
    """A graph and its inputs.

    Attributes:
        id: unique name.
        nodes: in topological order.
        inputs: arrays by name.
        outputs: names of the values that are outputs.
        tensors: initialisers by name.
        static: whether it needs sizes that are known when the model is generated.
        opset: version of the model.
        slow: whether it is compiled by the long tests only.
        tolerance: relative and absolute tolerance; by dtype if None.
    """

    id: str
    nodes: tuple[NodeProto, ...]
    inputs: Mapping[str, Array]
    outputs: tuple[str, ...]
    tensors: Mapping[str, Array]
    static: bool = False
    opset: int = 21
    slow: bool = False
    tolerance: float | None = None

    def __str__(self) -> str:
        return self.id

    def model(self, symbolic: bool = False) -> ModelProto:
        """The model; ``symbolic`` gives every axis of every input a size symbol, one for equal sizes.

        Only the length of index vectors, the last axis of an integer tensor, is always a number.
        """
        inputs = []
        for name, a in self.inputs.items():
            known = {a.ndim - 1} if a.dtype.kind == "i" else set()
            shape = [
                f"n{d}" if symbolic and d != 1 and axis not in known else d
                for axis, d in enumerate(a.shape)
            ]
            inputs.append(value(name, shape, a.dtype))
        tensors = [tensor(name, a) for name, a in self.tensors.items()]
        proto = model(self.nodes, inputs, self.outputs, tensors, self.opset)
        proto.graph.name = self.id
        return proto

    def graph(self, symbolic: bool = False) -> Graph:
        """The parsed graph."""
        return from_proto(self.model(symbolic), self.id)

    def check(self, got: Mapping[str, Array], what: str) -> None:
        """Raises AssertionError where the outputs are not what is expected."""
        for name, want in by_runtime(self.model(), self.inputs).items():
            have, message = got[name], f"{self.id} {name}, {what}"
            assert have.dtype == want.dtype, f"{message}: {have.dtype}, expected {want.dtype}"
            assert have.shape == want.shape, f"{message}: {have.shape}, expected {want.shape}"
            tolerance = self.tolerance or TOLERANCES.get(str(want.dtype), 0.0)
            wide = np.float64 if want.dtype.kind not in "biu" else want.dtype
            np.testing.assert_allclose(
                have.astype(wide), want.astype(wide), tolerance, tolerance, err_msg=message
            )


CASES: list[GraphCase] = []


def add(
    name: str,
    nodes: Sequence[NodeProto],
    inputs: Mapping[str, Any],
    outputs: Sequence[str] | str,
    **more: Any,
) -> None:
    """Adds a row."""
    names = (outputs,) if isinstance(outputs, str) else tuple(outputs)
    tensors = {n: np.asarray(a) for n, a in more.pop("tensors", {}).items()}
    arrays = {n: np.asarray(a) for n, a in inputs.items()}
    CASES.append(GraphCase(name, tuple(nodes), arrays, names, tensors, **more))


def _rows_read_in_parts() -> None:
    """A row on the stack is read at several offsets."""
    x = random((3, 22))
    makers: dict[str, tuple[list[NodeProto], dict[str, Any]]] = {
        "tanh": ([node("Tanh", ["x"], ["w"])], {}),
        "sigmoid": ([node("Sigmoid", ["x"], ["w"])], {}),
        "softmax": ([node("Softmax", ["x"], ["w"], axis=-1)], {}),
        "layernorm": (
            [node("LayerNormalization", ["x", "g"], ["w"], axis=-1)],
            {"g": random((22,), seed=1)},
        ),
        "where": (
            [
                node("Greater", ["x", "g"], ["c"]),
                node("Exp", ["x"], ["e"]),
                node("Where", ["c", "e", "x"], ["w"]),
            ],
            {"g": np.float32(0.1)},
        ),
        "div": ([node("Exp", ["x"], ["e"]), node("Div", ["x", "e"], ["w"])], {}),
        "prelu": (
            [node("Sin", ["x"], ["sin"]), node("PRelu", ["sin", "g"], ["w"])],
            {"g": random((22,), seed=1)},
        ),
    }
    for name, (nodes, tensors) in makers.items():
        split = node("Split", ["w", "sizes"], ["q", "r", "s"], axis=1)
        ends = [
            node("Neg", ["q"], ["a"]),
            node("Abs", ["r"], ["b"]),
            node("Mul", ["s", "s"], ["c2"]),
        ]
        sizes = {**tensors, "sizes": np.array([3, 11, 8], np.int64)}
        add(f"split_{name}", [*nodes, split, *ends], {"x": x}, ["a", "b", "c2"], tensors=sizes)
    split = node("Split", ["w"], ["q", "r"], axis=1, num_outputs=2)
    tanh = node("Tanh", ["x"], ["w"])
    add("split_gate", [tanh, split, node("Mul", ["q", "r"], ["y"])], {"x": x}, "y")
    add("split_swap", [tanh, split, node("Concat", ["r", "q"], ["y"], axis=1)], {"x": x}, "y")
    add("split_as_it_is", [tanh, split], {"x": x}, ["q", "r"])
    ends = [node("ReduceSum", [p, "one"], [f"s{p}"], keepdims=0) for p in "qr"]
    add("split_sums", [tanh, split, *ends], {"x": x}, ["sq", "sr"], tensors={"one": [1]})
    for name, start, end, step in (
        ("tail", 5, 22, 1),
        ("middle", 1, 18, 1),
        ("every_second", 1, 22, 2),
        ("backwards", 20, 1, -1),
        ("backwards_by_three", 21, -23, -3),
    ):
        slice_ = node("Slice", ["w", "from", "to", "axis", "by"], ["part"])
        more = {"from": [start], "to": [end], "axis": [1], "by": [step]}
        softmax = node("Softmax", ["x"], ["w"], axis=-1)
        nodes = [softmax, slice_, node("Exp", ["part"], ["y"])]
        add(f"slice_{name}", nodes, {"x": x}, ["y", "w"], tensors=more)
        nodes = [tanh, slice_, node("ReduceMax", ["part", "axis"], ["y"], keepdims=0)]
        add(f"slice_max_{name}", nodes, {"x": x}, "y", tensors=more)
    gather = node("Gather", ["w", "at"], ["g"], axis=1)
    nodes = [node("Softmax", ["x"], ["w"], axis=-1), gather, node("Exp", ["g"], ["y"])]
    add("gather_of_a_row", nodes, {"x": x}, "y", tensors={"at": [3, 21, 0, 7, 7]})
    nodes = [tanh, node("Gather", ["w", "at"], ["g"], axis=1), node("Mul", ["w", "g"], ["y"])]
    add("one_of_a_row", nodes, {"x": x}, "y", tensors={"at": np.array([17], np.int64)})
    # Neighbours of a row: three readers at different offsets.
    more = {f"{k}{i}": [v] for i in range(3) for k, v in (("f", i), ("t", 20 + i))} | {"ax": [1]}
    shifts = [node("Slice", ["w", f"f{i}", f"t{i}", "ax"], [f"p{i}"]) for i in range(3)]
    sums = [node("Add", ["p0", "p1"], ["p01"]), node("Sub", ["p01", "p2"], ["y"])]
    add("neighbours", [tanh, *shifts, *sums], {"x": x}, "y", tensors=more)
    # Heads: a row is read at k * 8 + j.
    nodes = [
        node("Softmax", ["x"], ["w"], axis=-1),
        node("Reshape", ["w", "heads"], ["h"]),
        node("ReduceMax", ["h", "last"], ["m"], keepdims=1),
        node("Sub", ["h", "m"], ["y"]),
    ]
    more = {"heads": [4, 3, 8], "last": [2]}
    add("heads_of_a_row", nodes, {"x": random((4, 24))}, "y", tensors=more)
    # Concat makes the row, Split takes it apart elsewhere.
    nodes = [
        node("Tanh", ["x"], ["a"]),
        node("Exp", ["x"], ["b"]),
        node("Concat", ["a", "b"], ["w"], axis=1),
        node("Softmax", ["w"], ["s"], axis=-1),
        node("Split", ["s", "sizes"], ["q", "r"], axis=1),
        node("Sqrt", ["r"], ["t"]),
    ]
    more = {"sizes": np.array([7, 37], np.int64)}
    add("concat_then_split", nodes, {"x": x}, ["q", "t"], tensors=more)


def _scatters() -> None:
    """Writes over what is there, in the order that the graph asks for."""
    x, i = random((6, 5)), np.array([[4], [1], [4]], np.int64)
    u = random((3, 5), seed=1)
    exp, scatter = node("Exp", ["u"], ["e"]), node("ScatterND", ["x", "i", "e"], ["y"])
    add("scatter_of_exp", [exp, scatter], {"x": x, "i": i, "u": u}, "y")
    flat = random((3,), seed=2)
    unsqueeze = node("Unsqueeze", ["ev", "axes"], ["e"])
    nodes = [node("Exp", ["v"], ["ev"]), unsqueeze, node("Expand", ["e", "wide"], ["w"])]
    more = {"axes": [1], "wide": [3, 5]}
    nodes.append(node("ScatterND", ["x", "i", "w"], ["y"]))
    add("scatter_of_a_view", nodes, {"x": x, "i": i, "v": flat}, "y", tensors=more, static=True)
    column = np.array([[0, 2], [3, 1], [5, 4]], np.int64)
    nodes = [node("Exp", ["v"], ["ev"]), node("Reshape", ["ev", "s"], ["e"])]
    nodes.append(node("ScatterND", ["x", "i", "e"], ["y"]))
    inputs = {"x": x, "i": column, "v": random((1, 3))}
    add("scatter_of_a_reshape", nodes, inputs, "y", tensors={"s": [3]}, static=True)
    for reduction in ("none", "add", "mul", "max", "min"):
        nodes = [node("Exp", ["v"], ["ev"]), node("Unsqueeze", ["ev", "axes"], ["e"])]
        nodes.append(node("ScatterND", ["x", "i", "e"], ["y"], reduction=reduction))
        inputs = {"x": x, "i": np.array([[[4, 0], [1, 2], [4, 0]]], np.int64), "v": flat}
        add(f"scatter_{reduction}", nodes, inputs, "y", tensors={"axes": [0]}, opset=18)
        # The place is a constant: one row, and several updates that meet in it.
        nodes = [node("Exp", ["u"], ["e"])]
        nodes.append(node("ScatterND", ["x", "i", "e"], ["y"], reduction=reduction))
        for rows in ([[2]], [[2], [2], [2]]):
            inputs = {"x": x, "u": u[: len(rows)]}
            name = f"scatter_{reduction}_at_a_constant_{len(rows)}"
            add(name, nodes, inputs, "y", tensors={"i": rows}, opset=18)
    # t[:, k] = f(t[:, k]), as frameworks export it.
    nodes = [
        node("Gather", ["x", "k"], ["c"], axis=1),
        node("Exp", ["c"], ["f"]),
        node("Unsqueeze", ["f", "axes"], ["e"]),
        node("Transpose", ["x"], ["t"]),
        node("ScatterND", ["t", "i", "e"], ["ty"]),
        node("Transpose", ["ty"], ["y"]),
    ]
    more = {"k": np.int64(3), "i": [[3]], "axes": [0]}
    add("column_replaced", nodes, {"x": x}, "y", tensors=more)
    nodes = [
        node("Tanh", ["x"], ["h"]),
        node("Exp", ["u"], ["e"]),
        node("ScatterND", ["h", "i", "e"], ["a"]),
    ]
    inputs = {"x": x, "i": i, "u": u}
    # The scattered tensor is one part of a concatenation, and the whole is read.
    ends = [node("Concat", ["h", "a"], ["c"], axis=1), node("Relu", ["c"], ["y"])]
    add("scatter_into_a_part", [*nodes, *ends], inputs, "y")
    ends = [node("Concat", ["a", "h"], ["y"], axis=0)]
    add("scatter_then_concat", [*nodes, *ends], inputs, "y")
    nodes = [
        node("Tanh", ["x"], ["h"]),
        node("Concat", ["h", "x"], ["c"], axis=1),
        node("Exp", ["u"], ["e"]),
        node("ScatterND", ["c", "i", "e"], ["y"]),
    ]
    inputs = {"x": x, "i": i, "u": random((3, 10), seed=1)}
    add("concat_then_scatter", nodes, inputs, "y")
    # Two scatters into one tensor; the second one's updates are read from the first one's result.
    nodes = [
        node("ScatterND", ["x", "i", "u"], ["a"]),
        node("GatherND", ["a", "k"], ["g"]),
        node("Exp", ["g"], ["e"]),
        node("ScatterND", ["a", "j", "e"], ["y"]),
    ]
    j, k = np.array([[1], [0], [5]], np.int64), np.array([[4], [1], [2]], np.int64)
    inputs = {"x": x, "i": i, "u": u, "j": j, "k": k}
    add("scatter_twice", nodes, inputs, "y")
    add("scatter_twice_keeps_both", nodes, inputs, ["a", "y"])
    # Updates that read what is scattered into.
    nodes = [
        node("Exp", ["x"], ["h"]),
        node("GatherND", ["h", "i"], ["g"]),
        node("Neg", ["g"], ["n"]),
        node("ScatterND", ["h", "j", "n"], ["y"]),
    ]
    add("scatter_reads_its_target", nodes, {"x": x, "i": i, "j": j}, "y")
    # Two scatters into copies of one tensor.
    nodes = [
        node("Exp", ["x"], ["h"]),
        node("ScatterND", ["h", "i", "u"], ["a"]),
        node("ScatterND", ["h", "j", "u"], ["b"], reduction="add"),
        node("Sub", ["a", "b"], ["y"]),
    ]
    add("two_copies", nodes, {"x": x, "i": i, "j": j, "u": u}, "y", opset=18)
    # Places that an earlier loop computes and that are read in another order.
    nodes = [
        node("Sigmoid", ["v"], ["s"]),
        node("Mul", ["s", "five"], ["m"]),
        node("Cast", ["m"], ["p"], to=onnx.TensorProto.INT64),
        node("Slice", ["p", "from", "to", "axis", "by"], ["back"]),
        node("Unsqueeze", ["back", "one"], ["i"]),
        node("Exp", ["w"], ["e"]),
        node("ScatterND", ["w", "i", "e"], ["y"]),
    ]
    more = {"five": np.float32(6.9), "from": [6], "to": [-8], "axis": [0], "by": [-1], "one": [1]}
    inputs = {"v": random((7,)), "w": random((7,), seed=3)}
    add("places_backwards", nodes, inputs, ["y", "p"], tensors=more, static=True)
    scatter = node("ScatterElements", ["v", "back", "e"], ["y"], axis=1, reduction="add")
    nodes = [*nodes[:2], nodes[2], nodes[3], node("Exp", ["v"], ["e"]), scatter]
    more = {"five": np.float32(2.9), "from": [4], "to": [-6], "axis": [0], "by": [-1]}
    add("places_of_other_rows", nodes, {"v": random((5, 3))}, ["y", "p"], tensors=more, opset=18)
    for axis in (0, 1):
        at = np.array([[3, 0, 1], [0, 0, 2]], np.int64)
        scatter = node("ScatterElements", ["t", "i", "e"], ["y"], axis=axis, reduction="add")
        nodes = [node("Transpose", ["x"], ["t"]), node("Exp", ["u"], ["e"]), scatter]
        inputs = {"x": x, "i": at, "u": random((2, 3), seed=5)}
        add(f"scatter_elements_{axis}", nodes, inputs, "y", opset=18)
    # Into a transposed and into a broadcast tensor, as constant folding sees them too.
    for name, view in (
        ("transposed", node("Transpose", ["x"], ["t"])),
        ("expanded", node("Expand", ["x", "shape"], ["t"])),
    ):
        data = x if name == "transposed" else x[:, :1]
        at, values = np.array([[1, 3], [0, 4], [1, 3]], np.int64), random((3,), seed=4)
        tensors = {"shape": [6, 5], "i": at, "u": values}
        nodes = [view, node("ScatterND", ["t", "i", "u"], ["y"], reduction="add")]
        add(f"scatter_into_{name}", nodes, {"x": data}, "y", tensors=tensors, opset=18)
        tensors = {**tensors, "x": data}
        nodes = [
            *nodes[:1],
            node("ScatterND", ["t", "i", "u"], ["c"]),
            node("Add", ["c", "b"], ["y"]),
        ]
        add(f"folded_into_{name}", nodes, {"b": np.float32(1)}, "y", tensors=tensors)
    # A loop over constants, which is run when the model is read.
    inner = [
        node("Transpose", ["s"], ["t"]),
        node("ScatterND", ["t", "i", "u"], ["c"], reduction="add"),
        node("Transpose", ["c"], ["next"]),
        node("Identity", ["go"], ["more"]),
    ]
    state = value("s", [6, 5])
    body = helper.make_graph(
        inner,
        "body",
        [value("k", [], np.int64), value("go", [], np.bool_), state],
        [value("more", [], np.bool_), value("next", [6, 5])],
    )
    loop = node("Loop", ["trips", "", "x"], ["end"], body=body)
    tensors = {"x": x, "i": [[1], [3], [1]], "u": random((3, 6), seed=4), "trips": np.int64(3)}
    nodes = [loop, node("Add", ["end", "b"], ["y"])]
    add("folded_loop", nodes, {"b": np.float32(1)}, "y", tensors=tensors, opset=18)
    nodes = [loop, node("Exp", ["end"], ["y"])]
    del tensors["x"], tensors["u"]
    inputs = {"x": x, "u": random((3, 6), seed=4)}
    add("loop_that_scatters", nodes, inputs, "y", tensors=tensors, opset=18, static=True)


def _nothing() -> None:
    """Tensors without elements."""
    x = random((3, 4))
    split = node("Split", ["x", "sizes"], ["a", "b", "c"], axis=1)
    concat = node("Concat", ["a", "c"], ["d"], axis=1)
    more = {"sizes": np.array([0, 4, 0], np.int64), "none": np.zeros((3, 0), np.float32)}
    add("concat_nothing", [split, concat, node("Exp", ["d"], ["y"])], {"x": x}, "y", tensors=more)
    sizes = {"sizes": np.array([0, 1, 0], np.int64)}
    nodes = [split, node("Concat", ["c", "b", "a"], ["d"], axis=1), node("Exp", ["d"], ["y"])]
    add("concat_one", nodes, {"x": x[:, :1]}, "y", tensors=sizes)
    nodes = [node("Concat", ["none", "x", "none"], ["d"], axis=1), node("Exp", ["d"], ["y"])]
    add("concat_nothing_else", nodes, {"x": x}, "y", tensors=more)
    nodes = [node("Tanh", ["x"], ["t"]), node("Sub", ["rows", "t"], ["y"])]
    rows = {"rows": np.zeros((0, 4), np.float32)}
    add("constant_without_rows", nodes, {"x": x[:1]}, "y", tensors=rows)
    for name, empty in (("rows", x[:0]), ("columns", x[:, :0])):
        nodes = [
            node("Tanh", ["x"], ["t"]),
            node("Concat", ["t", "x", "t"], ["c"], axis=1),
            node("Softmax", ["c"], ["s"], axis=-1),
            node("ReduceSum", ["s", "last"], ["sum"], keepdims=1),
            node("Div", ["c", "sum"], ["y"]),
        ]
        add(f"concat_no_{name}", nodes, {"x": empty}, ["y", "s"], tensors={"last": [1]})


def _sixteen_bits() -> None:
    """Values that are rounded to 16 bits, in memory and on the way."""
    x = random((3, 4, 17))
    to, back = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT
    nodes = [
        node("Cast", ["x"], ["h"], to=to),
        node("Exp", ["h"], ["e"]),
        node("Cast", ["e"], ["y"], to=back),
    ]
    add("half_on_the_way", nodes, {"x": x}, "y", tolerance=TOLERANCES["float16"])
    nodes[2] = node("Cast", ["e"], ["y"], to=onnx.TensorProto.INT32)
    add("half_to_integer", nodes, {"x": np.round(x) / 4}, "y")
    for kind in ("Max", "Sum", "Mean", "LogSumExp"):
        for axis in (0, 1, 2):
            reduce = node(f"Reduce{kind}", ["h", "axes"], ["r"])
            nodes = [node("Cast", ["x"], ["h"], to=to), reduce, node("Neg", ["r"], ["y"])]
            add(f"half_{kind}_{axis}", nodes, {"x": x}, ["y", "r"], tensors={"axes": [axis]})
            nodes = [nodes[0], reduce, node("Cast", ["r"], ["y"], to=back)]
            more = {"tensors": {"axes": [axis]}, "tolerance": TOLERANCES["float16"]}
            add(f"half_{kind}_{axis}_on_the_way", nodes, {"x": x}, "y", **more)


def _indices_on_the_way() -> None:
    """An index that is computed beside the read that uses it is one number, whatever the vectors' width."""
    nodes = [
        node("Sigmoid", ["x"], ["s"]),
        node("Cast", ["s"], ["i"], to=onnx.TensorProto.INT32),
        node("GatherElements", ["table", "i"], ["rows"]),
        node("Gather", ["rows", "first"], ["y"]),
    ]
    inputs = {"x": random((1, 9)), "table": random((1, 144), seed=1)}
    outputs = ["rows", "y"]
    add("index_on_the_way", nodes, inputs, outputs, tensors={"first": np.int64(0)}, static=True)


def _outputs_that_nobody_reads() -> None:
    """Each output of a node alone: a kernel gets no memory for the others."""
    x, steps = random((2, 3, 6, 8)), random((4, 2, 5))
    pool = node("MaxPool", ["x"], ["y", "i"], kernel_shape=[2, 3])
    for output in ("y", "i"):
        add(f"max_pool_{output}_alone", [pool], {"x": x}, output)
        add(f"max_pool_{output}_alone_double", [pool], {"x": x.astype(np.float64)}, output)
    top = node("TopK", ["x", "k"], ["y", "i"], axis=-1)
    for output in ("y", "i"):
        add(f"top_k_{output}_alone", [top], {"x": x}, output, tensors={"k": [3]})
    gates = {"w": random((1, 24, 5), seed=1), "r": random((1, 24, 6), seed=2)}
    lstm = node("LSTM", ["x", "w", "r"], ["y", "h", "c"], hidden_size=6)
    for output in ("y", "h", "c"):
        add(f"lstm_{output}_alone", [lstm], {"x": steps}, output, tensors=gates)


def _sizes_that_the_run_tells() -> None:
    """Every operator with sizes that only the run tells, before every kind of reader."""
    x, row = random((4, 3)), random((7,), seed=3)
    keep, sizes = np.array([True, False, True, True]), np.array([4, 3], np.int64)
    boxes = np.array([[[0, 0, 2, 2], [0, 0, 2, 2.1], [5, 5, 7, 7]]], np.float32)
    scores = np.array([[[0.9, 0.8, 0.7]]], np.float32)
    then = helper.make_graph([node("Exp", ["x"], ["t"])], "then", [], [value("t", None)])
    drop = node("Slice", ["x", "two", "many", "none"], ["f"])
    other = helper.make_graph([drop], "else", [], [value("f", None)])
    body = helper.make_graph(
        [
            node("Identity", ["go"], ["more"]),
            node("Add", ["s", "x"], ["next"]),
            node("ReduceSum", ["next", "none"], ["sums"], keepdims=0),
        ],
        "body",
        [value("k", [], np.int64), value("go", [], np.bool_), value("s", ["a", "b"])],
        [value("more", [], np.bool_), value("next", ["a", "b"]), value("sums", ["b"])],
    )
    cast = node("Cast", ["int"], ["r"], to=onnx.TensorProto.FLOAT)
    bounds = {"from": [1], "to": [4], "wide": [1, 1], "scale": np.float32([1, 1.5])}
    bounds = {name: np.asarray(a) for name, a in bounds.items()}
    producers: dict[str, tuple[int, list[NodeProto], dict[str, Array]]] = {
        "unique": (1, [node("Unique", ["row"], ["r"])], {"row": np.round(row)}),
        "unique_rows": (2, [node("Unique", ["x"], ["r"], axis=0)], {"x": np.round(x)}),
        "unique_counts": (
            1,
            [node("Unique", ["row"], ["distinct", "first", "inverse", "int"], sorted=0), cast],
            {"row": np.round(row)},
        ),
        "nonzero": (2, [node("NonZero", ["x"], ["int"]), cast], {"x": np.round(x)}),
        "compress": (2, [node("Compress", ["x", "keep"], ["r"], axis=0)], {"x": x, "keep": keep}),
        "top_k": (2, [node("TopK", ["x", "k"], ["r", "i"], axis=0)], {"x": x, "k": sizes[1:]}),
        "selected": (
            2,
            [node("NonMaxSuppression", ["boxes", "scores", "k"], ["int"]), cast],
            {"boxes": boxes, "scores": scores, "k": sizes[1:]},
        ),
        "range": (
            1,
            [node("Range", ["a", "b", "c"], ["r"])],
            {"a": np.float32(1), "b": np.float32(4), "c": np.float32(0.5)},
        ),
        "constant": (2, [node("ConstantOfShape", ["sizes"], ["r"])], {"sizes": sizes}),
        "reshape": (2, [node("Reshape", ["x", "sizes"], ["r"])], {"x": x.T, "sizes": sizes}),
        "expand": (2, [node("Expand", ["x", "sizes"], ["r"])], {"x": x[:1], "sizes": sizes}),
        "tile": (2, [node("Tile", ["x", "sizes"], ["r"])], {"x": x, "sizes": sizes}),
        "slice": (2, [node("Slice", ["x", "from", "to"], ["r"])], {"x": x}),
        "pad": (2, [node("Pad", ["x", "p"], ["r"])], {"x": x, "p": np.array([1, 0, 2, 1])}),
        "one_hot": (
            2,
            [node("OneHot", ["at", "k", "values"], ["r"])],
            {"at": sizes, "k": np.array([5]), "values": np.array([0.5, 2], np.float32)},
        ),
        "split": (2, [node("Split", ["x", "p"], ["r", "s"])], {"x": x, "p": np.array([1, 3])}),
        "resize": (2, [node("Resize", ["x", "", "scale"], ["r"], mode="linear")], {"x": x}),
        "if": (
            2,
            [node("If", ["c"], ["r"], then_branch=then, else_branch=other)],
            {"x": x, "c": np.array(False)},
        ),
        "loop": (
            2,
            [node("Loop", ["k", "", "x"], ["s_", "r"], body=body)],
            {"x": x, "k": np.array(3)},
        ),
    }
    known = {"slice": ("from", "to"), "resize": ("scale",)}
    constants = {"two": [2], "many": [99], "none": [0], "flat": [-1], "one": np.float32(1)}
    constants |= {"w1": random((8, 8), seed=8), "pick": [0, -1, 0], "half": np.float32(0.3)}
    readers = {
        "exp": [node("Exp", ["r"], ["y"])],
        "add": [node("Exp", ["r"], ["e"]), node("Add", ["e", "r"], ["y"])],
        "sum": [node("ReduceSum", ["r", "none"], ["y"], keepdims=0)],
        "softmax": [node("Softmax", ["r"], ["y"], axis=-1)],
        "product": [node("Transpose", ["r"], ["t"]), node("MatMul", ["t", "r"], ["y"])],
        "gather": [node("Gather", ["r", "pick"], ["y"], axis=0)],
        "concat": [node("Tanh", ["r"], ["t"]), node("Concat", ["r", "t"], ["y"], axis=0)],
        "greater": [node("Greater", ["r", "half"], ["g"]), node("NonZero", ["g"], ["y"])],
        "compress": [
            node("Reshape", ["r", "flat"], ["f"]),
            node("Greater", ["f", "half"], ["g"]),
            node("Compress", ["f", "g"], ["kept"]),
            node("Mul", ["kept", "kept"], ["y"]),
        ],
        "unique": [node("Round", ["r"], ["o"]), node("Unique", ["o"], ["y"])],
        "scatter": [
            node("Sub", ["r", "r"], ["z"]),
            node("Gather", ["z", "none"], ["z0"], axis=0),
            node("Unsqueeze", ["none", "none"], ["place"]),
            node("Add", ["z0", "one"], ["new"]),
            node("ScatterND", ["r", "place", "new"], ["y"]),
        ],
        "cumsum": [node("CumSum", ["r", "none"], ["y"])],
        "norm": [node("ReduceL2", ["r"], ["n"]), node("Div", ["r", "n"], ["y"])],
    }
    # What is made before a size is known goes behind what has that size.
    x, v = random((5, 4)), random((5,), seed=3)
    inputs = {"x": x, "v": v, "keep": v > 0}
    nodes = [
        node("ReduceSum", ["x", "one"], ["a"], keepdims=0),
        node("Compress", ["v", "keep"], ["c"], axis=0),
        node("Concat", ["c", "a"], ["y"], axis=0),
    ]
    add("behind_what_is_kept", nodes, inputs, "y", tensors={"one": [1]})
    nodes = [
        node("Tanh", ["x"], ["t"]),
        node("Concat", ["t", "x"], ["a"], axis=0),
        node("Compress", ["x", "keep"], ["c"], axis=0),
        node("Concat", ["c", "a"], ["d"], axis=0),
        node("Exp", ["d"], ["y"]),
    ]
    add("parts_behind_what_is_kept", nodes, inputs, ["d", "y"])
    for name, (_, nodes, inputs) in producers.items():
        given = {n: a for n, a in inputs.items() if n not in known.get(name, ())}
        given |= {n: bounds[n] for n in known.get(name, ())}
        tensors = {n: a for n, a in constants.items() if n not in given}
        every, outputs = list(nodes), []
        for reader, ends in readers.items():
            add(f"{name}_{reader}", [*nodes, *ends], given, "y", tensors=tensors, slow=True)
            outputs.append(f"y_{reader}")
            own = {o: f"{o}_{reader}" for n in ends for o in n.output}
            for n in ends:
                copy = NodeProto()
                copy.CopyFrom(n)
                copy.input[:] = [own.get(i, i) for i in n.input]
                copy.output[:] = [own[o] for o in n.output]
                every.append(copy)
        add(f"{name}_all", every, given, ["r", *outputs], tensors=tensors)


_rows_read_in_parts()
_scatters()
_nothing()
_indices_on_the_way()
_sixteen_bits()
_outputs_that_nobody_reads()
_sizes_that_the_run_tells()
