"""Evaluates a model node by node with ONNX Runtime, on its own or with rounding noise.

Each node is a session of its own, without optimisation, so that every value of the graph is known. With
noise, the inputs and outputs of all nodes that round are shaken by a few units in the last place: how far the
outputs then move says how exact any implementation can be (Monte Carlo arithmetic).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

Array = np.ndarray[Any, Any]

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
ULP = {np.dtype(np.float16): 2.0**-11, BFLOAT16: 2.0**-8, np.dtype(np.float32): 2.0**-24,
       np.dtype(np.float64): 2.0**-53}  # fmt: skip
"""Largest relative error of rounding to each dtype."""

EXACT = frozenset(
    """Abs And ArgMax ArgMin BitCast BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Ceil Clip Compress
    Concat Constant ConstantOfShape DepthToSpace Dropout Equal Expand EyeLike Flatten Floor Gather
    GatherElements GatherND GlobalMaxPool Greater GreaterOrEqual Hardmax Identity IsInf IsNaN Less
    LessOrEqual Max MaxPool MaxUnpool Min Mod Neg NonZero Not OneHot Or Pad Range ReduceMax ReduceMin Relu
    Reshape ReverseSequence Round Scatter Shape Sign Size Slice SpaceToDepth Split Squeeze ThresholdedRelu
    Tile TopK Transpose Trilu Unique Unsqueeze Where Xor""".split()  # noqa: SIM905
)
"""Operators whose results are bits of their inputs, or exact: all implementations give the same."""

KEPT = {"Resize": (1, 2, 3), "Upsample": (1,), "NonMaxSuppression": (2, 3, 4), "ScatterElements": (0, 2),
        "ScatterND": (0, 2), "QuantizeLinear": (1,), "DequantizeLinear": (1,)}  # fmt: skip
"""Inputs that are never shaken: sizes come from them, or they are copied."""

ROUNDS_MORE = frozenset(
    """AveragePool Conv ConvTranspose CumProd CumSum DFT DeformConv Det Einsum Gemm GlobalAveragePool
    GroupNormalization GRU InstanceNormalization LayerNormalization LogSoftmax LRN LSTM LpNormalization
    LpPool MatMul MeanVarianceNormalization Pow RMSNormalization ReduceL1 ReduceL2 ReduceLogSum
    ReduceLogSumExp ReduceMean ReduceProd ReduceSum ReduceSumSquare RNN Softmax STFT Tan""".split()  # noqa: SIM905
)
"""Operators that add many numbers: their order is free, and errors add up."""


def _largest(node: NodeProto, inputs: Sequence[Array], result: Array) -> Array:
    """The largest finite magnitude of a result, everywhere."""
    sizes = np.abs(result, where=np.isfinite(result), out=np.zeros_like(result))
    return np.full_like(result, np.max(sizes, initial=0.0))


def _around_mean(node: NodeProto, inputs: Sequence[Array], result: Array) -> Array:
    """Of InstanceNormalization: ``scale / deviation`` times the input, of which as much is subtracted."""
    x, scale = inputs[0], inputs[1]
    axes = tuple(range(2, x.ndim))
    epsilon = next((a.f for a in node.attribute if a.name == "epsilon"), 1e-5)
    size = np.max(np.abs(x), axes, keepdims=True, initial=0.0)
    factor = np.abs(scale).reshape(-1, *(1,) * len(axes))
    return np.broadcast_to(factor * size / np.sqrt(x.var(axes, keepdims=True) + epsilon), x.shape)


TERMS: dict[str, Callable[[NodeProto, Sequence[Array], Array], Array]] = {
    # x times (1 + erf), which is near 0 where x is negative.
    "Gelu": lambda node, inputs, result: np.abs(inputs[0]),
    # Sines and cosines are rounded, so that each frequency gets some of all the others.
    "DFT": _largest,
    "STFT": _largest,
    # Winograd's sums have alternating signs: its documentation promises no more.
    "Conv": _largest,
    "InstanceNormalization": _around_mean,
}
"""Operators that add terms which may cancel: the magnitude of these, from all inputs and a result.

An implementation may round each term, so the error is relative to them and not to what is left of them."""


RECURRENT = frozenset(("GRU", "LSTM", "RNN"))


class NotEvaluated(Exception):  # noqa: N818
    """Neither ONNX Runtime nor ONNX's reference implementation gives a result for a node."""


def options() -> onnxruntime.SessionOptions:
    """ONNX Runtime as it is used here: one thread, silent, no optimisation."""
    chosen = onnxruntime.SessionOptions()
    chosen.log_severity_level = 4
    chosen.intra_op_num_threads = 1
    chosen.inter_op_num_threads = 1
    chosen.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return chosen


def subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    """The graphs in a node's attributes."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g


def sources(node: NodeProto) -> list[str]:
    """Names of all values that a node reads, those that its bodies capture included, each once."""
    names = dict.fromkeys(n for n in node.input if n)
    for body in subgraphs(node):
        own = {i.name for i in body.input} | {t.name for t in body.initializer}
        for inner in body.node:
            names |= dict.fromkeys(n for n in sources(inner) if n not in own)
            own |= set(inner.output)
        names |= dict.fromkeys(o.name for o in body.output if o.name not in own)
    return list(names)


class NodeRunner:
    """One node as a model of its own.

    Args:
        node: the node.
        dtypes: of what it reads, by name.
        ranks: likewise.
        opset: version of the model.
    """

    def __init__(
        self,
        node: NodeProto,
        dtypes: Mapping[str, np.dtype[Any]],
        ranks: Mapping[str, int],
        opset: int,
    ) -> None:
        self.node = node
        self.names = sources(node)
        self.outputs = [o for o in node.output if o]
        self.bfloat16 = any(dtypes[n] == BFLOAT16 for n in self.names)
        if self.bfloat16:
            _demand_bfloat16(node, dtypes, opset)
        self.target = _cast_target(node, dtypes)
        inputs = []
        for name in self.names:
            kind = np.dtype(np.float32) if dtypes[name] == BFLOAT16 else dtypes[name]
            number = helper.np_dtype_to_tensor_dtype(kind)
            inputs.append(helper.make_tensor_value_info(name, number, [None] * ranks[name]))
        outputs = [helper.make_empty_tensor_value_info(o) for o in self.outputs]
        graph = helper.make_graph([node], "node", inputs, outputs)
        self.model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10
        )
        self.ranks = _inferred_ranks(self.model)
        self._session: Any = None

    def run(
        self, values: Mapping[str, Array], noise: np.random.Generator | None = None
    ) -> list[Array]:
        """The outputs for these values.

        Raises:
            NotEvaluated: nobody can compute them.
        """
        feeds = {n: values[n] for n in self.names}
        rounds = noise is not None and self.node.op_type not in EXACT
        factor = 4.0 if self.node.op_type in ROUNDS_MORE else 1.0
        if self.target is not None:  # Cast
            exact = self.target.kind in "biu" or feeds[self.names[0]].dtype.kind in "biu"
            rounds = rounds and not exact
        if rounds:
            kept = {
                self.node.input[k]
                for k in KEPT.get(self.node.op_type, ())
                if k < len(self.node.input)
            }
            feeds = {n: a if n in kept else shake(a, noise, factor) for n, a in feeds.items()}
        results = (
            self._cast(feeds)
            if self.target is not None and self._by_hand(feeds)
            else self._run(feeds)
        )
        if rounds:
            terms = TERMS.get(self.node.op_type)
            if terms is None:
                return [shake(r, noise, factor) for r in results]
            inputs = [values[n].astype(np.float64) for n in self.node.input if n]
            with np.errstate(all="ignore"):
                sizes = [terms(self.node, inputs, r.astype(np.float64)) for r in results]
            return [shake(r, noise, factor, s) for r, s in zip(results, sizes, strict=True)]
        return results

    def _by_hand(self, feeds: Mapping[str, Array]) -> bool:
        return BFLOAT16 in (self.target, feeds[self.names[0]].dtype)

    def _cast(self, feeds: Mapping[str, Array]) -> list[Array]:
        assert self.target is not None
        wide = feeds[self.names[0]]
        wide = wide.astype(np.float32) if wide.dtype == BFLOAT16 else wide
        with np.errstate(all="ignore"):
            return [wide.astype(self.target)]

    def _run(self, feeds: Mapping[str, Array]) -> list[Array]:
        wide = {n: a.astype(np.float32) if a.dtype == BFLOAT16 else a for n, a in feeds.items()}
        if self._session is None:
            self._session = self._open()
        if self.node.op_type in RECURRENT and not feeds[self.node.input[0]].size:
            raise NotEvaluated("ONNX Runtime ends the process where a sequence has no elements")
        try:
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of ONNX's reference implementation
                results = [np.asarray(r) for r in self._session.run(self.outputs, wide)]
        except Exception as error:  # ONNX Runtime raises several kinds, none of them public
            raise NotEvaluated(str(error)) from error
        for result, rank in zip(results, self.ranks, strict=True):
            if rank is not None and result.ndim != rank:  # ArgMax without keepdims of no elements
                raise NotEvaluated(f"ONNX Runtime gives {result.ndim} axes, ONNX demands {rank}")
        if self.bfloat16:
            results = [r.astype(BFLOAT16) if r.dtype == np.float32 else r for r in results]
        return results

    def _open(self) -> Any:
        if self.bfloat16 and any(subgraphs(self.node)):
            raise NotEvaluated("which of the floats in a body are bfloat16 is not known")
        text = self.model.SerializeToString()
        try:
            return onnxruntime.InferenceSession(text, options(), providers=["CPUExecutionProvider"])
        except Exception as error:
            if "NOT_IMPLEMENTED" not in str(error):
                raise NotEvaluated(str(error)) from error
        if why := _not_in_reference(self.node, self.model.opset_import[0].version):
            raise NotEvaluated(why)
        try:
            return ReferenceEvaluator(self.model)
        except Exception as error:
            raise NotEvaluated(str(error)) from error


def _inferred_ranks(model: ModelProto) -> list[int | None]:
    """How many axes ONNX says that each output has; None where it does not say."""
    try:
        outputs = onnx.shape_inference.infer_shapes(model).graph.output
    except Exception:  # it has no public type; another may still evaluate the model
        return [None for _ in model.graph.output]
    shapes = [o.type.tensor_type for o in outputs]
    return [len(s.shape.dim) if s.HasField("shape") else None for s in shapes]


def _not_in_reference(node: NodeProto, opset: int) -> str:
    """Why ONNX's reference implementation computes something else than ONNX says; empty where it does not."""
    if node.op_type in ("Hardmax", "LogSoftmax", "Softmax") and opset < 13:
        return "it takes one axis, as since opset 13, and not all that follow"
    nodes = [node, *(n for body in subgraphs(node) for n in body.node)]
    if any(n.op_type == "Loop" and not (len(n.input) > 1 and n.input[1]) for n in nodes):
        return "it ends a Loop without a condition before the first iteration"
    return ""


def _demand_bfloat16(node: NodeProto, dtypes: Mapping[str, np.dtype[Any]], opset: int) -> None:
    """Raises NotEvaluated where ONNX does not allow bfloat16: nobody else would say so."""
    formal = onnx.defs.get_schema(node.op_type, opset, node.domain).inputs
    for k, name in enumerate(node.input):
        types = formal[min(k, len(formal) - 1)].types
        if name and dtypes[name] == BFLOAT16 and "tensor(bfloat16)" not in types:
            raise NotEvaluated(f"{node.op_type} is not for bfloat16")


def _cast_target(node: NodeProto, dtypes: Mapping[str, np.dtype[Any]]) -> np.dtype[Any] | None:
    if node.op_type == "Cast":
        return np.dtype(helper.tensor_dtype_to_np_dtype(node.attribute[0].i))
    return np.dtype(dtypes[node.input[1]]) if node.op_type == "CastLike" else None


def shake(
    array: Array,
    noise: np.random.Generator | None,
    factor: float = 1.0,
    terms: Array | None = None,
) -> Array:
    """The array with a random error of ``factor`` roundings on each float; others as they are.

    Args:
        array: what to shake.
        noise: where the errors come from; None for no errors.
        factor: how large they are.
        terms: what they are relative to: these magnitudes (see :data:`TERMS`), or the array's own if None.
    """
    if noise is None or array.dtype not in ULP or not array.size:
        return array
    wide = array.astype(np.float64)
    error = noise.uniform(-1.0, 1.0, array.shape) * (factor * 2 * ULP[array.dtype])
    with np.errstate(all="ignore"):
        return np.asarray(wide + (wide if terms is None else terms) * error).astype(array.dtype)


class Reference:
    """A whole model, node by node.

    Args:
        model: the model; its values have one dtype and rank for all inputs.
        feeds: one set of inputs, which tells these.
    """

    def __init__(self, model: ModelProto) -> None:
        self.model = model
        self.constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        self.opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
        self.runners: list[NodeRunner] = []

    def values(
        self, feeds: Mapping[str, Array], noise: np.random.Generator | None = None
    ) -> dict[str, Array]:
        """Every value of the model by name.

        Raises:
            NotEvaluated: a node cannot be computed.
        """
        found = {**self.constants, **feeds}
        for k, node in enumerate(self.model.graph.node):
            if k == len(self.runners):
                names = sources(node)
                dtypes, ranks = (
                    {n: found[n].dtype for n in names},
                    {n: found[n].ndim for n in names},
                )
                self.runners.append(NodeRunner(node, dtypes, ranks, self.opset))
            runner = self.runners[k]
            found |= zip(runner.outputs, runner.run(found, noise), strict=True)
        return found

    def outputs(
        self, feeds: Mapping[str, Array], noise: np.random.Generator | None = None
    ) -> dict[str, Array]:
        """The model's outputs by name."""
        found = self.values(feeds, noise)
        return {o.name: found[o.name] for o in self.model.graph.output}


def element_type(dtype: Any) -> int:
    """ONNX's number of a NumPy dtype."""
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def tensor(name: str, array: Array) -> onnx.TensorProto:
    """An initialiser."""
    return numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)


__all__ = ["BFLOAT16", "EXACT", "ULP", "Array", "NodeRunner", "NotEvaluated", "Reference", "Sequence",
           "element_type", "options", "shake", "sources", "subgraphs", "tensor"]  # fmt: skip
