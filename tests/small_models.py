"""Small models whose generated code the tests look at: weights follow a formula, not random numbers."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import ModelProto, helper
from onnx_models import model, node, tensor, value

from sofie_root.frontends.onnx import from_proto
from sofie_root.model import Model

Array = np.ndarray[Any, Any]


def weight(*shape: int, start: int = 0) -> Array:
    """Numbers between -0.5 and 0.5 that look random and are the same for ever."""
    count = int(np.prod(shape))
    values = ((np.arange(count) + start) * 7919 % 1009) / 1009 - 0.5
    return values.reshape(shape).astype(np.float32)


def parsed(proto: ModelProto, name: str) -> Model:
    """The model under a name of its own."""
    proto.graph.name = name
    return Model(from_proto(proto, name))


def mlp(sizes: Sequence[int] = (16, 32, 5), batch: Any = "N", name: str = "mlp") -> Model:
    """Dense layers with ReLU between them, and a softmax."""
    nodes, tensors, last = [], [], "x"
    for k, (n_in, n_out) in enumerate(itertools.pairwise(sizes), 1):
        tensors += [tensor(f"W{k}", weight(n_in, n_out)), tensor(f"b{k}", weight(n_out, start=k))]
        nodes.append(node("Gemm", [last, f"W{k}", f"b{k}"], [f"h{k}"], name=f"/fc{k}/Gemm"))
        last = f"h{k}"
        if k < len(sizes) - 1:
            nodes.append(node("Relu", [last], [f"a{k}"], name=f"/act{k}/Relu"))
            last = f"a{k}"
    nodes.append(node("Softmax", [last], ["y"], name="/out/Softmax"))
    inputs, outputs = [value("x", [batch, sizes[0]])], [value("y", [batch, sizes[-1]])]
    return parsed(model(nodes, inputs, outputs, tensors), name)


def cnn(batch: Any = 1, name: str = "cnn") -> Model:
    """Convolutions with batch normalisation, pooling, a residual and a dense layer."""
    tensors = [
        tensor("K1", weight(4, 2, 3, 3)),
        tensor("scale", weight(4) + 1),
        tensor("shift", weight(4, start=3)),
        tensor("mean", weight(4, start=5)),
        tensor("var", weight(4, start=9) + 1),
        tensor("K2", weight(4, 4, 3, 3, start=11)),
        tensor("W", weight(64, 3)),
        tensor("b", weight(3, start=2)),
    ]
    nodes = [
        node("Conv", ["x", "K1"], ["c1"], name="conv1", pads=[1, 1, 1, 1]),
        node("BatchNormalization", ["c1", "scale", "shift", "mean", "var"], ["n1"], name="bn1"),
        node("Relu", ["n1"], ["r1"], name="relu1"),
        node("Conv", ["r1", "K2"], ["c2"], name="conv2", pads=[1, 1, 1, 1]),
        node("Add", ["c2", "r1"], ["s"], name="residual"),
        node("MaxPool", ["s"], ["p"], name="pool", kernel_shape=[2, 2], strides=[2, 2]),
        node("Flatten", ["p"], ["f"], name="flatten"),
        node("Gemm", ["f", "W", "b"], ["y"], name="dense"),
    ]
    inputs, outputs = [value("x", [batch, 2, 8, 8])], [value("y", [batch, 3])]
    return parsed(model(nodes, inputs, outputs, tensors), name)


def rnn(name: str = "rnn") -> Model:
    """A bidirectional LSTM over sequences of any length, and its last state."""
    hidden = 6
    tensors = [
        tensor("W", weight(2, 4 * hidden, 3)),
        tensor("R", weight(2, 4 * hidden, hidden, start=7)),
        tensor("B", weight(2, 8 * hidden, start=4)),
    ]
    nodes = [
        node(
            "LSTM",
            ["x", "W", "R", "B"],
            ["sequence", "last"],
            name="lstm",
            hidden_size=hidden,
            direction="bidirectional",
        ),
        node("Tanh", ["sequence"], ["y"], name="tanh"),
    ]
    inputs = [value("x", ["T", "N", 3])]
    outputs = [value("y", ["T", 2, "N", hidden]), value("last", [2, "N", hidden])]
    return parsed(model(nodes, inputs, outputs, tensors), name)


def selection(name: str = "selection") -> Model:
    """The squares of the positive elements, their positions and how many: sizes that the run tells."""
    nodes = [
        node("Greater", ["x", "zero"], ["keep"], name="cut"),
        node("Compress", ["x", "keep"], ["kept"], name="compress", axis=0),
        node("Mul", ["kept", "kept"], ["squares"], name="square"),
        node("NonZero", ["keep"], ["where"], name="where"),
        node("Shape", ["kept"], ["count"], name="count"),
        node("ReduceSum", ["squares"], ["total"], name="total", keepdims=0),
    ]
    outputs = [
        value("squares", [None]),
        value("where", [1, None], np.int64),
        value("count", [1], np.int64),
        value("total", []),
    ]
    zero = [tensor("zero", np.float32(0))]
    return parsed(model(nodes, [value("x", ["n"])], outputs, zero), name)


def attention(name: str = "attention") -> Model:
    """One head of self-attention over N sets of T vectors, with a layer normalisation."""
    tensors = [tensor(n, weight(12, 12, start=k)) for k, n in enumerate(("Q", "K", "V"))]
    tensors += [tensor("g", weight(12) + 1), tensor("h", weight(12)), tensor("s", np.float32(0.3))]
    nodes = [
        node("MatMul", ["x", "Q"], ["q"], name="q"),
        node("MatMul", ["x", "K"], ["k"], name="k"),
        node("MatMul", ["x", "V"], ["v"], name="v"),
        node("Transpose", ["k"], ["kt"], name="transpose", perm=[0, 2, 1]),
        node("MatMul", ["q", "kt"], ["logits"], name="scores"),
        node("Mul", ["logits", "s"], ["scaled"], name="scale"),
        node("Softmax", ["scaled"], ["p"], name="softmax"),
        node("MatMul", ["p", "v"], ["o"], name="mix"),
        node("Add", ["o", "x"], ["r"], name="residual"),
        node("LayerNormalization", ["r", "g", "h"], ["y"], name="norm", axis=-1),
    ]
    inputs, outputs = [value("x", ["N", "T", 12])], [value("y", ["N", "T", 12])]
    return parsed(model(nodes, inputs, outputs, tensors), name)


def control(name: str = "control") -> Model:
    """A branch on a value, and in a loop of any number of steps a state and its history."""
    return parsed(control_proto(), name)


def control_proto() -> ModelProto:
    """The model of :func:`control`."""
    positive = helper.make_graph(
        [node("Exp", ["x"], ["e"], name="exp")], "p", [], [value("e", None)]
    )
    negative = helper.make_graph(
        [node("Neg", ["x"], ["n"], name="neg")], "n", [], [value("n", None)]
    )
    body = helper.make_graph(
        [
            node("MatMul", ["s", "w"], ["p"], name="step"),
            node("Tanh", ["p"], ["next"], name="tanh"),
            node("ReduceSum", ["next"], ["row"], name="history", keepdims=0),
            node("Identity", ["go"], ["more"], name="go on"),
        ],
        "body",
        [value("k", [], np.int64), value("go", [], np.bool_), value("s", ["N", 4])],
        [value("more", [], np.bool_), value("next", ["N", 4]), value("row", [])],
    )
    nodes = [
        node("ReduceSum", ["x"], ["sum"], name="sum", keepdims=0),
        node("Greater", ["sum", "zero"], ["up"], name="sign"),
        node("If", ["up"], ["start"], name="branch", then_branch=positive, else_branch=negative),
        node("Loop", ["steps", "", "start"], ["end", "rows"], name="repeat", body=body),
    ]
    tensors = [tensor("w", weight(4, 4)), tensor("zero", np.float32(0))]
    inputs = [value("x", ["N", 4]), value("steps", [], np.int64)]
    outputs = [value("end", ["N", 4]), value("rows", [None])]
    return model(nodes, inputs, outputs, tensors)


EVIL = 'x"); system("id"); //'
"""A name that would be code if it reached C++ unescaped."""


def evil(name: str = EVIL) -> Model:
    """Names that are code, comments, keywords, escapes, or the words of the generator."""
    nodes = [
        node("Add", [EVIL, "int\n#error newline"], ["\\"], name="*/ #error comment \\"),
        node("Mul", ["\\", "operator"], ["??/\n#error trigraph"], name='"??/'),
        node("Relu", ["??/\n#error trigraph"], ["Größe Ω 粒子"], name="R\u2028#error"),
        node("Sigmoid", ["Größe Ω 粒子"], ["acc"], name="\\u000a"),
    ]
    inputs = [
        value(EVIL, ['d"); abort(); //', 3]),
        value("int\n#error newline", ['d"); abort(); //', 3]),
    ]
    outputs = [value("acc", None), value("??/\n#error trigraph", None)]
    tensors = [tensor("operator", weight(3))]
    return parsed(model(nodes, inputs, outputs, tensors), name)


SMALL = {
    "mlp": mlp,
    "cnn": cnn,
    "rnn": rnn,
    "selection": selection,
    "control": control,
    "evil": evil,
}
"""Models whose headers are kept in ``golden/``."""
