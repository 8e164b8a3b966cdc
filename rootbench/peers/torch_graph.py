"""An ONNX graph as the PyTorch module that somebody would have written: shapes are plain numbers.

Node by node on the sample inputs: what depends on constants and shapes alone becomes a constant of the
module, everything else a call of a PyTorch function in a ``torch.fx`` graph, which PyTorch prints as
straight-line Python and which ``torch.compile`` takes as it is. Its operators are those of the
benchmark's own models and most of the zoo's; others are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import torch  # type: ignore[import-not-found]
import torch.nn.functional as F  # type: ignore[import-not-found]  # noqa: N812
from onnx import helper, numpy_helper

from .base import Arrays, NotMeasured

Tensor = Any
Rule = Callable[..., Any]


class _Value:
    """What a name stands for: a tensor, and the fx node that computes it (None: it is constant)."""

    def __init__(self, tensor: Tensor, node: Any = None) -> None:
        self.tensor = tensor
        self.node = node

    def ints(self) -> list[int]:
        """The numbers of a constant, for shapes, axes and the like."""
        if self.node is not None:
            raise NotMeasured("PyTorch: a shape or an index that depends on the data")
        return [int(v) for v in self.tensor.reshape(-1)]


def torch_module(model: onnx.ModelProto, inputs: Arrays) -> Any:
    """The module; it takes the inputs in their order and returns a tuple of the outputs.

    Raises:
        NotMeasured: the model has an operator that is not translated.
    """
    builder = _Builder()
    for tensor in model.graph.initializer:
        builder.values[tensor.name] = _Value(torch.from_numpy(numpy_helper.to_array(tensor).copy()))
    for name, array in inputs.items():
        node = builder.graph.placeholder(f"x{len(builder.values)}")
        builder.values[name] = _Value(torch.from_numpy(np.ascontiguousarray(array)), node)
    for node in model.graph.node:
        builder.add(node)
    results = [builder.values[o.name] for o in model.graph.output]
    builder.graph.output(tuple(builder.argument(v) for v in results))
    return torch.fx.GraphModule(builder.root, builder.graph).eval()


class _Builder:
    """The module's graph while it is written."""

    def __init__(self) -> None:
        self.graph = torch.fx.Graph()
        self.root = torch.nn.Module()
        self.values: dict[str, _Value] = {}

    def add(self, node: onnx.NodeProto) -> None:
        """Translates a node."""
        rule = _RULES.get(node.op_type)
        if rule is None or node.domain not in ("", "ai.onnx"):
            raise NotMeasured(f"PyTorch: {node.op_type} is not translated")
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        given = [self.values[n] if n else None for n in node.input]
        found = rule(self, *given, **attributes)
        found = found if isinstance(found, tuple) else (found,)
        for name, value in zip(node.output, found, strict=False):
            self.values[name] = value

    def call(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Calls a function of tensors; a constant if all of them are. One value for each result."""
        with torch.no_grad():
            result = function(*_map(arguments, lambda v: v.tensor), **options)
        node = None
        if any(v.node is not None for v in _values(arguments)):
            node = self.graph.call_function(function, _map(arguments, self.argument), options)
        if isinstance(result, tuple | list):
            getitem = lambda k: node and self.graph.call_function(_item, (node, k))  # noqa: E731
            return tuple(_Value(r, getitem(k)) for k, r in enumerate(result))
        return _Value(result, node)

    def argument(self, value: _Value) -> Any:
        """The fx node of a value; a constant becomes a buffer of the module."""
        if value.node is None:
            name = f"c{len(self.root._buffers)}"
            self.root.register_buffer(name, value.tensor)
            value.node, constant = self.graph.get_attr(name), value
            return _forget(constant)
        return value.node

    def module(self, module: Any, x: _Value) -> Any:
        """Calls a module, such as an LSTM, whose result is (tensor, states)."""
        name = f"m{len(self.root._modules)}"
        self.root.add_module(name, module)
        with torch.no_grad():
            sequence, state = module(x.tensor)
        node = self.graph.call_module(name, (x.node,))
        states = state if isinstance(state, tuple) else (state,)
        pick = lambda *path: self._pick(node, path)  # noqa: E731
        last = [
            _Value(s, pick(1, k) if isinstance(state, tuple) else pick(1))
            for k, s in enumerate(states)
        ]
        return _Value(sequence, pick(0)), last

    def _pick(self, node: Any, path: Sequence[int]) -> Any:
        for k in path:
            node = self.graph.call_function(_item, (node, k))
        return node


def _forget(value: _Value) -> Any:
    """The node of a constant, which stays constant: other shapes may be computed with it."""
    node, value.node = value.node, None
    return node


def _item(values: Sequence[Any], k: int) -> Any:
    return values[k]


def _values(arguments: Any) -> list[_Value]:
    if isinstance(arguments, _Value):
        return [arguments]
    return [v for a in arguments for v in _values(a)] if isinstance(arguments, tuple | list) else []


def _map(arguments: Any, function: Callable[[_Value], Any]) -> Any:
    """The arguments with the values in them replaced."""
    if isinstance(arguments, _Value):
        return function(arguments)
    if isinstance(arguments, tuple | list):
        return type(arguments)(_map(a, function) for a in arguments)
    return arguments


# ----------------------------------------------------------------------------------------------------
# Operators
# ----------------------------------------------------------------------------------------------------


def _pointwise(function: Callable[..., Any]) -> Rule:
    return lambda b, *x: b.call(function, *x)


def _axes(tensor: Tensor, axes: _Value | Sequence[int] | None) -> list[int]:
    if axes is None:
        return list(range(tensor.dim()))
    return axes.ints() if isinstance(axes, _Value) else [int(a) for a in axes]


def _reduce(function: Callable[..., Any]) -> Rule:
    def rule(b: _Builder, x: _Value, axes: Any = None, keepdims: int = 1, **_: Any) -> _Value:
        return b.call(function, x, dim=_axes(x.tensor, axes), keepdim=bool(keepdims))

    return rule


def _gemm(
    b: _Builder, x: _Value, w: _Value, c: _Value | None = None, alpha: float = 1.0,
    beta: float = 1.0, transA: int = 0, transB: int = 0,  # noqa: N803
) -> _Value:  # fmt: skip
    x = b.call(torch.t, x) if transA else x
    if alpha == beta == 1 and w.node is None and (c is None or c.tensor.dim() == 1):
        weight = w if transB else _Value(w.tensor.T.contiguous())
        return b.call(F.linear, x, weight, *([] if c is None else [c]))
    w = b.call(torch.t, w) if transB else w
    if c is None:
        return b.call(torch.mul, b.call(torch.matmul, x, w), alpha)
    return b.call(torch.addmm, c, x, w, beta=beta, alpha=alpha)


def _conv(transposed: bool) -> Rule:
    def rule(b: _Builder, x: _Value, w: _Value, c: _Value | None = None, **a: Any) -> _Value:
        rank = w.tensor.dim() - 2
        if a.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
            raise NotMeasured("PyTorch: auto_pad is not translated")
        pads = list(a.get("pads", [0] * 2 * rank))
        if pads[:rank] != pads[rank:]:
            raise NotMeasured("PyTorch: unequal padding is not translated")
        options = {
            "stride": tuple(a.get("strides", [1] * rank)),
            "padding": tuple(pads[:rank]),
            "dilation": tuple(a.get("dilations", [1] * rank)),
            "groups": a.get("group", 1),
        }
        kind = "conv_transpose" if transposed else "conv"
        if transposed:
            options["output_padding"] = tuple(a.get("output_padding", [0] * rank))
        return b.call(getattr(F, f"{kind}{rank}d"), x, w, c, **options)

    return rule


def _max_pool(b: _Builder, x: _Value, **a: Any) -> _Value:
    kernel = list(a["kernel_shape"])
    rank, pads = len(kernel), list(a.get("pads", [0] * 2 * len(kernel)))
    if pads[:rank] != pads[rank:]:
        raise NotMeasured("PyTorch: unequal padding is not translated")
    function = getattr(F, f"max_pool{rank}d")
    stride = list(a.get("strides", [1] * rank))
    return b.call(function, x, kernel, stride=stride, padding=pads[:rank])


def _recurrent(cell: str) -> Rule:
    """One layer of torch.nn, with ONNX's gates in PyTorch's order."""
    order = {"RNN": [0], "LSTM": [0, 2, 3, 1], "GRU": [1, 0, 2]}[cell]

    def rule(
        b: _Builder,
        x: _Value,
        w: _Value,
        r: _Value,
        bias: _Value | None = None,
        *rest: Any,
        **a: Any,
    ) -> tuple[_Value, ...]:
        directions, hidden = w.tensor.shape[0], a["hidden_size"]
        plain = not any(rest) and a.get("layout", 0) == 0 and "activations" not in a
        if not plain or a.get("direction", b"forward") == b"reverse" or bias is None:
            raise NotMeasured(f"PyTorch: a form of {cell} that torch.nn does not have")
        if cell == "GRU" and not a.get("linear_before_reset", 0):
            raise NotMeasured("PyTorch: a GRU with linear_before_reset=0, which torch.nn lacks")
        layer = getattr(torch.nn, cell)(w.tensor.shape[2], hidden, bidirectional=directions == 2)
        gates = torch.cat([torch.arange(g * hidden, (g + 1) * hidden) for g in order])
        for k, suffix in enumerate(("", "_reverse")[:directions]):
            halves = bias.tensor[k].chunk(2)
            for name, value in (("weight_ih", w.tensor[k]), ("weight_hh", r.tensor[k]),
                                ("bias_ih", halves[0]), ("bias_hh", halves[1])):  # fmt: skip
                getattr(layer, f"{name}_l0{suffix}").data = value[gates].contiguous()
        sequence, states = b.module(layer.eval(), x)
        steps, batch = x.tensor.shape[:2]
        shape = [steps, batch, directions, hidden]
        apart = b.call(torch.permute, b.call(torch.reshape, sequence, shape), [0, 2, 1, 3])
        return (apart, *states)

    return rule


def _slice(b: _Builder, x: _Value, *bounds: _Value | None, **a: Any) -> _Value:
    if not bounds:
        bounds = tuple(_Value(torch.tensor(a[k])) for k in ("starts", "ends", "axes") if k in a)
    starts, ends, axes, steps = (*(v and v.ints() for v in bounds), *[None] * (4 - len(bounds)))
    index = [slice(None)] * x.tensor.dim()
    for k, (start, end) in enumerate(zip(starts, ends, strict=True)):
        axis, step = axes[k] if axes else k, steps[k] if steps else 1
        size = x.tensor.shape[axis]
        if step == -1 and start in (-1, size - 1) and end < -size:
            x = b.call(torch.flip, x, [axis])
        elif step < 1:
            raise NotMeasured("PyTorch: this slice backwards is not translated")
        else:
            index[axis] = slice(start, None if end >= size else end, step)
    return b.call(_index, x, index=tuple(index))


def _index(x: Tensor, index: Any) -> Tensor:
    return x[index]


def _gather(b: _Builder, x: _Value, index: _Value, axis: int = 0) -> _Value:
    shape = list(x.tensor.shape)
    flat = b.call(torch.reshape, index, [-1])
    if bool((flat.tensor < 0).any()):
        flat = b.call(torch.remainder, flat, shape[axis])
    picked = b.call(torch.index_select, x, axis, flat)
    axis %= len(shape)
    return b.call(torch.reshape, picked, [*shape[:axis], *index.tensor.shape, *shape[axis + 1 :]])


def _scatter_nd(
    b: _Builder, x: _Value, index: _Value, updates: _Value, reduction: bytes = b"none"
) -> _Value:
    if index.tensor.shape[-1] != 1:
        raise NotMeasured("PyTorch: ScatterND of elements is not translated")
    flat = b.call(torch.reshape, index, [-1])
    if reduction == b"none":
        return b.call(torch.index_copy, x, 0, flat, updates)
    if reduction != b"add":
        raise NotMeasured(f"PyTorch: ScatterND with {reduction.decode()} is not translated")
    return b.call(torch.index_add, x, 0, flat, updates)


def _scatter_elements(
    b: _Builder, x: _Value, index: _Value, updates: _Value, axis: int = 0, **a: Any
) -> _Value:
    if a.get("reduction", b"none") != b"none":
        raise NotMeasured("PyTorch: a reduction of ScatterElements is not translated")
    return b.call(torch.scatter, x, axis, index, updates)


def _reshape(b: _Builder, x: _Value, shape: _Value, allowzero: int = 0) -> _Value:
    wanted = shape.ints()
    if not allowzero:
        wanted = [n or x.tensor.shape[k] for k, n in enumerate(wanted)]
    return b.call(torch.reshape, x, wanted)


def _squeeze(b: _Builder, x: _Value, axes: Any = None) -> _Value:
    ones = [k for k, n in enumerate(x.tensor.shape) if n == 1]
    gone = {a % x.tensor.dim() for a in (ones if axes is None else _axes(x.tensor, axes))}
    return b.call(torch.reshape, x, [n for k, n in enumerate(x.tensor.shape) if k not in gone])


def _unsqueeze(b: _Builder, x: _Value, axes: Any) -> _Value:
    new = _axes(x.tensor, axes)
    rank = x.tensor.dim() + len(new)
    sizes = iter(x.tensor.shape)
    places = {a % rank for a in new}
    return b.call(torch.reshape, x, [1 if k in places else next(sizes) for k in range(rank)])


def _split(b: _Builder, x: _Value, split: Any = None, axis: int = 0, **a: Any) -> Any:
    size = x.tensor.shape[axis]
    parts = a.get("num_outputs")
    sizes = _axes(x.tensor, split) if split is not None else [-(-size // parts)] * parts
    sizes[-1] -= sum(sizes) - size
    return b.call(torch.split, x, sizes, dim=axis)


def _topk(b: _Builder, x: _Value, k: _Value, axis: int = -1, largest: int = 1, **a: Any) -> Any:
    return b.call(torch.topk, x, k.ints()[0], dim=axis, largest=bool(largest))


def _batch_norm(b: _Builder, x: _Value, *rest: _Value, epsilon: float = 1e-5, **_: Any) -> _Value:
    scale, shift, mean, variance = rest
    return b.call(F.batch_norm, x, mean, variance, scale, shift, False, 0.0, epsilon)


def _layer_norm(
    b: _Builder, x: _Value, w: _Value, c: _Value | None = None, axis: int = -1,
    epsilon: float = 1e-5, **_: Any,
) -> _Value:  # fmt: skip
    return b.call(F.layer_norm, x, list(x.tensor.shape[axis:]), w, c, epsilon)


def _cast(b: _Builder, x: _Value, to: int) -> _Value:
    dtype = torch.from_numpy(np.empty(0, helper.tensor_dtype_to_np_dtype(to))).dtype
    return b.call(torch.Tensor.to, x, dtype)


def _constant(b: _Builder, **a: Any) -> _Value:
    if "value" in a:
        return _Value(torch.from_numpy(numpy_helper.to_array(a["value"]).copy()))
    (value,) = a.values()
    return _Value(torch.tensor(value))


def _constant_of_shape(b: _Builder, shape: _Value, value: Any = None) -> _Value:
    array = np.zeros(1, np.float32) if value is None else numpy_helper.to_array(value)
    return _Value(torch.from_numpy(np.full(shape.ints(), array.reshape(-1)[0])))


def _range(b: _Builder, *bounds: _Value) -> _Value:
    start, end, step = (v.ints()[0] for v in bounds)
    return _Value(torch.arange(start, end, step, dtype=bounds[0].tensor.dtype))


def _trilu(b: _Builder, x: _Value, k: _Value | None = None, upper: int = 1) -> _Value:
    return b.call(torch.triu if upper else torch.tril, x, k.ints()[0] if k else 0)


def _clip(b: _Builder, x: _Value, low: _Value | None = None, high: _Value | None = None) -> _Value:
    limits = [None if v is None else v.tensor.item() for v in (low, high)]
    return b.call(torch.clamp, x, *limits)


def _many(function: Callable[..., Any]) -> Rule:
    def rule(b: _Builder, first: _Value, *rest: _Value) -> _Value:
        for x in rest:
            first = b.call(function, first, x)
        return first

    return rule


def _divide(b: _Builder, x: _Value, y: _Value) -> _Value:
    if x.tensor.is_floating_point():
        return b.call(torch.div, x, y)
    return b.call(torch.div, x, y, rounding_mode="trunc")


_RULES: dict[str, Rule] = {
    **{name: _pointwise(getattr(torch, name.lower())) for name in (
        "Add", "Sub", "Mul", "Pow", "Relu", "Sigmoid", "Tanh", "Sin", "Cos", "Neg", "Sqrt", "Erf",
        "Exp", "Log", "Abs", "Floor", "Ceil", "Sign", "Atan", "MatMul", "Where")},
    "Equal": _pointwise(torch.eq),
    "Greater": _pointwise(torch.gt),
    "LessOrEqual": _pointwise(torch.le),
    "Not": _pointwise(torch.logical_not),
    "Max": _many(torch.maximum),
    "Min": _many(torch.minimum),
    "Div": _divide,
    "Identity": lambda b, x: x,
    "Dropout": lambda b, x, *_, **__: x,
    "Clip": _clip,
    "Elu": lambda b, x, alpha=1.0: b.call(F.elu, x, alpha),
    "Softmax": lambda b, x, axis=-1: b.call(torch.softmax, x, axis),
    "LogSoftmax": lambda b, x, axis=-1: b.call(torch.log_softmax, x, axis),
    "Gemm": _gemm,
    "Conv": _conv(transposed=False),
    "ConvTranspose": _conv(transposed=True),
    "MaxPool": _max_pool,
    "GlobalAveragePool": lambda b, x: b.call(
        torch.mean, x, dim=list(range(2, x.tensor.dim())), keepdim=True),
    "BatchNormalization": _batch_norm,
    "LayerNormalization": _layer_norm,
    "InstanceNormalization": lambda b, x, w, c, epsilon=1e-5: b.call(
        F.instance_norm, x, None, None, w, c, True, 0.0, epsilon),
    "RNN": _recurrent("RNN"),
    "GRU": _recurrent("GRU"),
    "LSTM": _recurrent("LSTM"),
    "ReduceSum": _reduce(torch.sum),
    "ReduceMean": _reduce(torch.mean),
    "ReduceMax": _reduce(torch.amax),
    "TopK": _topk,
    "Concat": lambda b, *x, axis: b.call(torch.cat, list(x), dim=axis),
    "Split": _split,
    "Slice": _slice,
    "Gather": _gather,
    "ScatterND": _scatter_nd,
    "ScatterElements": _scatter_elements,
    "Transpose": lambda b, x, perm: b.call(torch.permute, x, list(perm)),
    "Reshape": _reshape,
    "Flatten": lambda b, x, axis=1: b.call(torch.reshape, x, [
        int(np.prod(x.tensor.shape[:axis])), -1]),
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Expand": lambda b, x, shape: b.call(torch.broadcast_to, x, list(
        torch.broadcast_shapes(x.tensor.shape, shape.ints()))),
    "Trilu": _trilu,
    "Tile": lambda b, x, repeats: b.call(torch.tile, x, repeats.ints()),
    "Shape": lambda b, x, **_: _Value(torch.tensor(x.tensor.shape, dtype=torch.int64)),
    "Size": lambda b, x: _Value(torch.tensor(x.tensor.numel(), dtype=torch.int64)),
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Range": _range,
    "Cast": _cast,
}  # fmt: skip
