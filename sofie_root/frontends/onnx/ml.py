"""Operators of ``ai.onnx.ml``, each made of nodes of ONNX.

Trees end in one operator of ours, ``sofie_root.Trees``; all others are a few operators of ONNX.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, numpy_helper

from sofie_root.build import GraphBuilder
from sofie_root.errors import ModelError
from sofie_root.ir import DType, Refuse, TensorType

from .node import RawNode, default_of, newest_schema
from .trees import TreeArrays, ensemble, trees_of_nodes

Array = npt.NDArray[Any]
Values: TypeAlias = tuple[str, ...]
DOMAIN = "ai.onnx.ml"


class Body:
    """What a node of ``ai.onnx.ml`` is made of: nodes of ONNX whose names begin with its own.

    Args:
        builder: of the graph.
        node: the node that is translated.
    """

    def __init__(self, builder: GraphBuilder, node: RawNode) -> None:
        self.builder = builder
        self.node = node
        self._values = 0

    def attribute(self, name: str) -> Any:
        """An attribute, ONNX's default where it is not given; tensors as arrays."""
        value = self.node.attributes.get(name)
        if value is None:
            value = default_of(newest_schema(self.node.domain, self.node.op_type), name)
        if isinstance(value, TensorProto):
            try:
                return numpy_helper.to_array(value)
            except (ValueError, TypeError) as error:
                raise ModelError(f"attribute {name!r} is damaged ({error})") from None
        return value

    def array(self, name: str, dtype: Any) -> Array | None:
        """A list attribute as an array, or its twin ``NAME_as_tensor``; None where neither is given."""
        value = self.attribute(name)
        if value is None or len(value) == 0:
            schema = newest_schema(self.node.domain, self.node.op_type)
            twin = f"{name}_as_tensor"
            value = self.attribute(twin) if schema and twin in schema.attributes else None
            return None if value is None else np.asarray(value)
        return np.array(value, dtype)

    def input(self, k: int) -> str:
        """An input that must be there."""
        value = self.node.input(k)
        if value is None:
            raise ModelError(f"lacks input {k}; export the model again")
        return value

    def input_type(self, k: int) -> TensorType:
        """Type of an input that must be there."""
        return self.builder.type(self.input(k))

    def constant(self, array: Any) -> str:
        """Adds a constant."""
        return self.builder.constant(array, f"{self.node.name}/{self._next()}")

    def op(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Adds a node and returns what it writes."""
        value = self._next()
        name = f"{self.node.name}/{op.rpartition('.')[2]}_{value}"
        output = f"{self.node.name}/{value}"
        return self.builder.add(op, *inputs, outputs=(output,), name=name, **attributes)[0]

    def cast(self, x: str, dtype: DType) -> str:
        """``x`` converted."""
        return self.op("Cast", x, to=dtype.onnx)

    def _next(self) -> str:
        name = f"v{self._values}"
        self._values += 1
        return name


def is_ml(domain: str, op_type: str) -> bool:
    """Whether :func:`add_ml` translates nodes of this operator."""
    return domain == DOMAIN and op_type in OPERATORS


def add_ml(builder: GraphBuilder, node: RawNode) -> tuple[str, ...]:
    """Adds what a node of ``ai.onnx.ml`` means, and returns the values of its outputs.

    Raises:
        Refuse: valid, but not supported.
        ModelError: the attributes contradict each other.
    """
    try:
        return OPERATORS[node.op_type](Body(builder, node))
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"its attributes make no sense ({error}); export the model again"
        ) from error


# -- trees -----------------------------------------------------------------------------------------


def _scores(body: Body, trees: TreeArrays, base: Array, aggregate: str) -> tuple[str, DType]:
    """The scores of all targets, in the type they are computed in."""
    x, dtype = body.input(0), body.input_type(0).dtype
    compute = DType.DOUBLE if dtype is DType.DOUBLE else DType.FLOAT
    if dtype is not compute:
        x = body.cast(x, compute)
    scores = body.op(
        "sofie_root.Trees",
        x,
        *(body.constant(a) for a in (*trees.arrays(), base.astype(np.float64))),
        targets=len(base),
        features=trees.features,
        aggregate=aggregate,
    )
    return scores, compute


def _transformed(body: Body, scores: str, compute: DType, transform: str) -> str:
    """The scores after the post-transform."""
    if transform in ("", "NONE"):
        return scores
    if transform == "LOGISTIC":
        return body.op("Sigmoid", scores)
    if transform == "SOFTMAX":
        return body.op("Softmax", scores, axis=-1)
    if transform == "SOFTMAX_ZERO":  # those that are zero stay zero
        zero = body.constant(np.zeros((), compute.numpy))
        least = body.constant(np.array(np.finfo(compute.numpy).min, compute.numpy))
        empty = body.op("Equal", scores, zero)
        return body.op(
            "Where", empty, zero, body.op("Softmax", body.op("Where", empty, least, scores))
        )
    raise Refuse(f"post_transform {transform!r} is not supported")


MAX_TARGETS = 1 << 20


def _targets(body: Body, default: int) -> int:
    """How many scores the trees give."""
    targets = int(body.attribute("n_targets") or default)
    if not 1 <= targets <= MAX_TARGETS:
        raise ModelError(f"n_targets is {targets}; export the model again")
    return targets


def _tree_regressor(body: Body) -> Values:
    targets = _targets(body, 1)
    transform = body.attribute("post_transform")
    if targets == 1 and transform != "NONE":
        raise Refuse(f"post_transform {transform!r} of one score: runtimes disagree what it means")
    base = body.array("base_values", np.float32)
    trees = trees_of_nodes(body.attribute, body.array, "target", targets)
    scores, compute = _scores(
        body,
        trees,
        np.zeros(targets) if base is None else _of_length(base, targets),
        body.attribute("aggregate_function"),
    )
    return (body.cast(_transformed(body, scores, compute, transform), DType.FLOAT),)


def _of_length(base: Array, targets: int) -> Array:
    if len(base) != targets:
        raise Refuse(f"{len(base)} base values for {targets} scores")
    return base


def _tree_classifier(body: Body) -> Values:
    """As ONNX Runtime; but of two classes that both have weights, the one with more wins."""
    if body.attribute("classlabels_strings"):
        raise Refuse("labels that are strings are not supported")
    labels = np.array(body.attribute("classlabels_int64s"), np.int64)
    classes, transform = len(labels), body.attribute("post_transform")
    base = body.array("base_values", np.float32)
    trees = trees_of_nodes(body.attribute, body.array, "class", classes)
    used = np.unique(trees.target)
    single = classes == 2 and len(used) == 1
    if classes < 2 or (single and used[0] == 1 and base is not None):
        raise Refuse(f"{classes} classes with weights for {list(used)} and base values")
    offset = np.zeros(classes)
    if base is not None:
        offset[: 1 if single else classes] = _of_length(base, 1 if single else classes)
    scores, compute = _scores(body, trees, offset, "SUM")
    if not single:
        best = body.op("ArgMax", scores, axis=1, keepdims=0)
        final = _transformed(body, scores, compute, transform)
    else:
        column = body.op("Gather", scores, body.constant(np.array([used[0]])), axis=1)
        positive = bool(np.all(trees.weight >= 0))
        limit = body.constant(np.array(0.5 if positive else 0.0, compute.numpy))
        above = body.op("Greater", column, limit)
        best = body.op("Squeeze", body.cast(above, DType.INT64), body.constant(np.array([1])))
        final = (
            _both_classes(body, column, compute, transform, positive)
            if used[0] == 0
            else _transformed(body, scores, compute, transform)
        )
    label = body.op("Gather", body.constant(labels), best)
    return (label, body.cast(final, DType.FLOAT))


def _both_classes(body: Body, score: str, compute: DType, transform: str, positive: bool) -> str:
    """The scores of both classes, from the one score of the second."""
    if transform == "PROBIT":
        raise Refuse("post_transform 'PROBIT' is not supported")
    if transform == "LOGISTIC" or not positive:
        other = body.op("Neg", score)
    else:
        other = body.op("Sub", body.constant(np.ones((), compute.numpy)), score)
    both = body.op("Concat", other, score, axis=1)
    return body.op("Sigmoid", both) if transform == "LOGISTIC" else both


TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")
AGGREGATES = ("AVERAGE", "SUM", "MIN", "MAX")


def _tree_ensemble(body: Body) -> Values:
    trees = ensemble(body.attribute)
    targets = _targets(body, int(trees.target.max(initial=0)) + 1)
    transform = TRANSFORMS[body.attribute("post_transform")]
    if targets == 1 and transform != "NONE":
        raise Refuse(f"post_transform {transform!r} of one score: runtimes disagree what it means")
    aggregate = AGGREGATES[body.attribute("aggregate_function")]
    trees.check(targets)
    scores, compute = _scores(body, trees, np.zeros(targets), aggregate)
    final = _transformed(body, scores, compute, transform)
    return (body.cast(final, body.input_type(0).dtype),)


# -- linear models and preprocessing ---------------------------------------------------------------


def _as_float(body: Body) -> str:
    return body.cast(body.input(0), DType.FLOAT)


def _scaler(body: Body) -> Values:
    x = _as_float(body)
    offset, scale = body.array("offset", np.float32), body.array("scale", np.float32)
    if offset is not None:
        x = body.op("Sub", x, body.constant(offset))
    return (x if scale is None else body.op("Mul", x, body.constant(scale)),)


def _normalizer(body: Body) -> Values:
    """Rows divided by their norm; a row of zeros stays as it is."""
    x, norm = _as_float(body), body.attribute("norm")
    if norm not in ("MAX", "L1", "L2"):
        raise ModelError(f"norm {norm!r} does not exist; export the model again")
    axis = body.constant(np.array([-1]))
    if norm == "MAX":
        size = body.op("ReduceMax", x, axis)
    else:
        size = body.op("ReduceL1" if norm == "L1" else "ReduceL2", x, axis)
    zero, one = (body.constant(np.array(v, np.float32)) for v in (0, 1))
    size = body.op("Where", body.op("Equal", size, zero), one, size)
    return (body.op("Div", x, size),)


def _binarizer(body: Body) -> Values:
    dtype = body.input_type(0).dtype
    threshold = body.constant(np.array(body.attribute("threshold")).astype(dtype.numpy))
    return (body.cast(body.op("Greater", body.input(0), threshold), dtype),)


def _extractor(body: Body) -> Values:
    """Elements of the last axis; a vector counts as one row."""
    rank = body.input_type(0).rank
    flat = body.op("Reshape", body.input(1), body.constant(np.array([-1])))
    chosen = body.op("Gather", body.input(0), flat, axis=-1)
    return (body.op("Unsqueeze", chosen, body.constant(np.array([0]))) if rank == 1 else chosen,)


def _linear(body: Body, targets: int) -> str:
    """``x @ coefficients.T + intercepts``."""
    coefficients = np.array(body.attribute("coefficients"), np.float32).reshape(targets, -1)
    x, intercepts = _as_float(body), body.array("intercepts", np.float32)
    scores = body.op("MatMul", x, body.constant(coefficients.T))
    if intercepts is None:
        return scores
    return body.op("Add", scores, body.constant(_of_length(intercepts, targets)))


def _linear_regressor(body: Body) -> Values:
    targets, transform = body.attribute("targets"), body.attribute("post_transform")
    if targets == 1 and transform != "NONE":
        raise Refuse(f"post_transform {transform!r} of one score: runtimes disagree what it means")
    return (_transformed(body, _linear(body, targets), DType.FLOAT, transform),)


def _linear_classifier(body: Body) -> Values:
    if body.attribute("classlabels_strings"):
        raise Refuse("labels that are strings are not supported")
    labels = np.array(body.attribute("classlabels_ints"), np.int64)
    intercepts = body.array("intercepts", np.float32)
    if len(labels) < 2 or (intercepts is not None and len(intercepts) != len(labels)):
        raise Refuse(f"{len(labels)} classes with other than as many scores")
    scores = _linear(body, len(labels))
    best = body.op("ArgMax", scores, axis=1, keepdims=0)
    final = _transformed(body, scores, DType.FLOAT, body.attribute("post_transform"))
    return (body.op("Gather", body.constant(labels), best), final)


def _label_encoder(body: Body) -> Values:
    """Numbers to numbers: the value beside the equal key, else the default."""
    names = ("keys_strings", "values_strings")
    if any(body.attribute(n) for n in names):
        raise Refuse("strings are not supported")
    keys = _first(body, "keys_int64s", "keys_floats", "keys_tensor")
    values = _first(body, "values_int64s", "values_floats", "values_tensor")
    default = body.attribute("default_tensor")
    if default is None:
        default = body.attribute("default_float" if values.dtype.kind == "f" else "default_int64")
    if keys.dtype.kind not in "fiu" or values.dtype.kind not in "fiu" or len(keys) != len(values):
        raise Refuse("keys and values must be as many numbers")
    if keys.dtype.kind == "f" and np.isnan(keys).any():
        raise Refuse("NaN as a key is not supported")
    column = body.op("Unsqueeze", body.input(0), body.constant(np.array([-1])))
    dtype = body.input_type(0).dtype
    equal = body.op("Equal", column, body.constant(keys.astype(dtype.numpy)))
    place = body.op("ArgMax", body.cast(equal, DType.INT32), axis=-1, keepdims=0)
    value = body.op("Gather", body.constant(values), place)
    found = body.op("ReduceMax", equal, body.constant(np.array([-1])), keepdims=0)
    other = body.constant(np.asarray(default).astype(values.dtype).reshape(()))
    return (body.op("Where", found, value, other),)


def _first(body: Body, ints: str, floats: str, tensor: str) -> Array:
    """Whichever of three attributes is given."""
    for name, dtype in ((ints, np.int64), (floats, np.float32)):
        value = body.attribute(name)
        if value:
            return np.array(value, dtype)
    value = body.attribute(tensor)
    if value is None:
        raise ModelError(f"has neither {ints} nor {floats}; export the model again")
    return np.asarray(value).reshape(-1)


def _imputer(body: Body) -> Values:
    """Elements that are missing replaced by the value of their column."""
    dtype = body.input_type(0).dtype
    kind = "float" if dtype.is_float else "int64"
    fill = np.array(body.attribute(f"imputed_value_{kind}s"), dtype.numpy)
    mark = body.attribute(f"replaced_value_{kind}")
    if dtype.is_float and np.isnan(mark):
        missing = body.op("IsNaN", body.input(0))
    else:
        missing = body.op("Equal", body.input(0), body.constant(np.array(mark, dtype.numpy)))
    return (body.op("Where", missing, body.constant(fill), body.input(0)),)


OPERATORS: dict[str, Callable[[Body], Values]] = {
    "ArrayFeatureExtractor": _extractor,
    "Binarizer": _binarizer,
    "Imputer": _imputer,
    "LabelEncoder": _label_encoder,
    "LinearClassifier": _linear_classifier,
    "LinearRegressor": _linear_regressor,
    "Normalizer": _normalizer,
    "Scaler": _scaler,
    "TreeEnsemble": _tree_ensemble,
    "TreeEnsembleClassifier": _tree_classifier,
    "TreeEnsembleRegressor": _tree_regressor,
}
"""What adds the nodes of each operator."""
