"""Decision trees and the other operators of ai.onnx.ml, against ONNX Runtime."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from compiled import Compiled
from onnx import helper, numpy_helper

from sofie_root.errors import ModelError, UnsupportedError
from sofie_root.frontends.onnx import from_proto
from sofie_root.ir import constant_type
from sofie_root.model import Model, load
from sofie_root.program.interpret import evaluate

MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ")
FEATURES = 5


def random_trees(
    rng: np.random.Generator, count: int, depth: int, modes: tuple[str, ...] = ("BRANCH_LEQ",)
) -> dict[str, list[Any]]:
    """Attributes of random trees, some of them lopsided, some a single leaf."""
    keys = ["treeids", "nodeids", "featureids", "values", "modes", "truenodeids", "falsenodeids"]
    nodes: dict[str, list[Any]] = {k: [] for k in [*keys, "missing_value_tracks_true"]}

    def grow(tree: int, left: int) -> int:
        number = sum(t == tree for t in nodes["treeids"])
        leaf = left == 0 or rng.random() < 0.15
        row = {
            "treeids": tree,
            "nodeids": number,
            "featureids": 0 if leaf else int(rng.integers(FEATURES)),
            "values": 0.0 if leaf else float(np.float32(rng.integers(-4, 5) / 2)),
            "modes": "LEAF" if leaf else str(rng.choice(modes)),
            "truenodeids": 0,
            "falsenodeids": 0,
            "missing_value_tracks_true": int(rng.integers(2)),
        }
        for key, value in row.items():
            nodes[key].append(value)
        at = len(nodes["treeids"]) - 1
        if not leaf:
            nodes["truenodeids"][at] = grow(tree, left - 1)
            nodes["falsenodeids"][at] = grow(tree, left - 1)
        return number

    for tree in range(count):
        grow(tree, depth)
    return {f"nodes_{key}": values for key, values in nodes.items()}


def leaf_weights(
    rng: np.random.Generator, nodes: dict[str, list[Any]], what: str, ids: list[int], low: float
) -> dict[str, list[Any]]:
    leaves = [k for k, mode in enumerate(nodes["nodes_modes"]) if mode == "LEAF"]
    rows = [(k, i) for k in leaves for i in ids]
    return {
        f"{what}_treeids": [nodes["nodes_treeids"][k] for k, _ in rows],
        f"{what}_nodeids": [nodes["nodes_nodeids"][k] for k, _ in rows],
        f"{what}_ids": [i for _, i in rows],
        f"{what}_weights": [float(w) for w in rng.uniform(low, 1, len(rows)).astype(np.float32)],
    }


@dataclass(frozen=True)
class MlCase:
    id: str
    op_type: str
    x: np.ndarray
    attributes: dict[str, Any]
    outputs: tuple[int, ...] = (1,)
    more: tuple[np.ndarray, ...] = ()
    version: int = 3
    labels_may_differ: bool = False
    cache: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def __str__(self) -> str:
        return self.id

    @property
    def feeds(self) -> dict[str, np.ndarray]:
        return {f"x{k}": a for k, a in enumerate((self.x, *self.more))}

    def model(self) -> onnx.ModelProto:
        names = [f"y{k}" for k in range(len(self.outputs))]
        node = helper.make_node(
            self.op_type, list(self.feeds), names, domain="ai.onnx.ml", **self.attributes
        )
        inputs = [
            helper.make_tensor_value_info(
                name,
                helper.np_dtype_to_tensor_dtype(a.dtype),
                ["N", *a.shape[1:]] if a is self.x else a.shape,
            )
            for name, a in self.feeds.items()
        ]
        outputs = [
            helper.make_tensor_value_info(n, t, None)
            for n, t in zip(names, self.outputs, strict=True)
        ]
        graph = helper.make_graph([node], "ml", inputs, outputs)
        opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", self.version)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=9)

    def expected(self) -> list[np.ndarray]:
        options = ort.SessionOptions()
        options.log_severity_level = 4
        session = ort.InferenceSession(
            self.model().SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        return session.run(None, self.feeds)

    def check(self, outputs: dict[str, np.ndarray]) -> None:
        for (name, actual), expected in zip(outputs.items(), self.expected(), strict=True):
            if name == "y0" and self.labels_may_differ:
                continue
            assert actual.dtype == expected.dtype, f"{self.id} {name}"
            np.testing.assert_allclose(actual, expected, 1e-5, 1e-6, err_msg=f"{self.id} {name}")


def _cases() -> list[MlCase]:
    rng = np.random.default_rng(5)
    x = (rng.integers(-8, 9, (37, FEATURES)) / 4).astype(np.float32)
    with_nan = np.where(rng.random(x.shape) < 0.2, np.nan, x).astype(np.float32)
    cases = []
    for targets, aggregate in ((1, "SUM"), (3, "SUM"), (2, "AVERAGE"), (1, "MIN"), (1, "MAX")):
        for count in (1, 7, 8, 21):
            nodes = random_trees(rng, count, 5)
            weights = leaf_weights(rng, nodes, "target", list(range(targets)), -1)
            base = [float(np.float32(v)) for v in rng.uniform(-1, 1, targets)]
            more = {"n_targets": targets, "aggregate_function": aggregate, "base_values": base}
            cases.append(
                MlCase(
                    f"regressor_{targets}_{aggregate}_{count}",
                    "TreeEnsembleRegressor",
                    x,
                    nodes | weights | more,
                )
            )
    for mode in (*MODES, "mixed"):
        nodes = random_trees(rng, 9, 4, MODES if mode == "mixed" else (mode,))
        attributes = nodes | leaf_weights(rng, nodes, "target", [0], -1) | {"n_targets": 1}
        cases.append(MlCase(f"mode_{mode}", "TreeEnsembleRegressor", x, attributes))
        cases.append(MlCase(f"nan_{mode}", "TreeEnsembleRegressor", with_nan, attributes))
    nodes = random_trees(rng, 6, 4)
    attributes = nodes | leaf_weights(rng, nodes, "target", [0], -1) | {"n_targets": 1}
    cases.append(MlCase("double", "TreeEnsembleRegressor", x.astype(np.float64), attributes))
    for transform in ("NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO"):
        for ids, low, labels in (
            ([0], -1, [3, 7]),
            ([0], 0, [3, 7]),
            ([1], -1, [3, 7]),
            ([0, 1], -1, [3, 7]),
            ([0, 1, 2, 3], -1, [5, 6, 9, 1]),
        ):
            nodes = random_trees(rng, 10, 4)
            attributes = nodes | leaf_weights(rng, nodes, "class", ids, low)
            attributes |= {"classlabels_int64s": labels, "post_transform": transform}
            cases.append(
                MlCase(
                    f"classifier_{transform}_{len(ids)}_{ids[0]}_{low}",
                    "TreeEnsembleClassifier",
                    x,
                    attributes,
                    (7, 1),
                    labels_may_differ=len(ids) == 2,  # ONNX Runtime gives the constant 1
                )
            )
    attributes = nodes | leaf_weights(rng, nodes, "class", [0, 1, 2], -1)
    attributes |= {"classlabels_int64s": [1, 2, 3]}
    whole = (x * 2).astype(np.int64)
    cases.append(MlCase("classifier_int64", "TreeEnsembleClassifier", whole, attributes, (7, 1)))
    base = {"base_values": [0.25], "post_transform": "LOGISTIC", "classlabels_int64s": [0, 1]}
    attributes = nodes | leaf_weights(rng, nodes, "class", [0], -1) | base
    cases.append(MlCase("classifier_base", "TreeEnsembleClassifier", x, attributes, (7, 1)))
    cases += _others(rng, x, with_nan)
    return cases


def _others(rng: np.random.Generator, x: np.ndarray, with_nan: np.ndarray) -> list[MlCase]:
    five = [float(v) for v in range(1, 6)]
    whole = np.arange(-3, 7, dtype=np.int64).reshape(-1, 2)
    fifteen = [float(np.float32(v)) for v in rng.uniform(-1, 1, 15)]
    encode = {"keys_int64s": [-2, 0, 5], "values_floats": [0.5, 1.5, 2.5], "default_float": -9.0}
    decode = {"keys_floats": [1.0, -0.5], "values_int64s": [4, 8], "default_int64": 11}
    linear = {"coefficients": fifteen, "intercepts": [0.5, -0.5, 0.25]}
    labels = {"classlabels_ints": [4, 2, 8]}
    return [
        MlCase("scaler", "Scaler", x, {"scale": five, "offset": five[::-1]}),
        MlCase("scaler_one", "Scaler", whole, {"scale": [2.0], "offset": [1.0]}),
        MlCase("normalizer_l1", "Normalizer", x, {"norm": "L1"}),
        MlCase("normalizer_l2", "Normalizer", x, {"norm": "L2"}),
        MlCase("normalizer_max", "Normalizer", np.abs(x) + 1, {"norm": "MAX"}),
        MlCase("binarizer", "Binarizer", x, {"threshold": 0.5}),
        MlCase("encoder", "LabelEncoder", whole, encode),
        MlCase("decoder", "LabelEncoder", x, decode, (7,)),
        MlCase("linear", "LinearRegressor", x, {**linear, "targets": 3}),
        MlCase("classes", "LinearClassifier", x, {**linear, **labels}, (7, 1)),
        MlCase(
            "classes_softmax",
            "LinearClassifier",
            x,
            {**linear, **labels, "post_transform": "SOFTMAX"},
            (7, 1),
        ),
        MlCase(
            "imputer",
            "Imputer",
            with_nan,
            {"imputed_value_floats": five, "replaced_value_float": float("nan")},
        ),
        MlCase("extractor", "ArrayFeatureExtractor", x, {}, more=(np.array([0, 3], np.int64),)),
    ]


CASES = _cases()


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """All cases, through a .root file, in one library."""
    folder = tmp_path_factory.mktemp("trees")
    models = [load(Model(from_proto(c.model(), c.id)).save(folder / "m.root")) for c in CASES]
    return Compiled(models, folder)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_interpreter(case: MlCase) -> None:
    case.check(evaluate(from_proto(case.model()), case.feeds))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_interpreter_in_double(case: MlCase) -> None:
    found = evaluate(from_proto(case.model()), case.feeds, double=True)
    kinds = [e.dtype for e in case.expected()]
    assert all(
        k.kind != "f" or y.dtype == np.float64 for k, y in zip(kinds, found.values(), strict=True)
    )
    case.check({n: y.astype(k) for (n, y), k in zip(found.items(), kinds, strict=True)})


@pytest.mark.parametrize("k", range(len(CASES)), ids=[str(c) for c in CASES])
def test_compiled(compiled: Compiled, k: int) -> None:
    CASES[k].check(compiled.run(k, CASES[k].feeds))


def test_members_of_a_set() -> None:
    """A test for members leads to a node, and NaN passes it."""
    attributes = {
        "nodes_splits": numpy_helper.from_array(np.array([0, 0.5], np.float32)),
        "nodes_modes": numpy_helper.from_array(np.array([6, 0], np.uint8)),
        "nodes_featureids": [0, 1],
        "nodes_truenodeids": [1, 0],
        "nodes_trueleafs": [0, 1],
        "nodes_falsenodeids": [2, 1],
        "nodes_falseleafs": [1, 1],
        "nodes_missing_value_tracks_true": [1, 0],
        "membership_values": numpy_helper.from_array(np.array([1, 3, 4, np.nan], np.float32)),
        "leaf_weights": numpy_helper.from_array(np.array([10, 20, 30], np.float32)),
        "leaf_targetids": [0, 0, 0],
        "tree_roots": [0],
        "n_targets": 1,
    }
    x = np.array([[1, 0], [3, 1], [2, 0], [np.nan, 0], [4, 0.25]], np.float32)
    case = MlCase("members", "TreeEnsemble", x, attributes, version=5)
    (y,) = evaluate(from_proto(case.model()), case.feeds).values()
    np.testing.assert_array_equal(y.ravel(), [10, 20, 30, 10, 10])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nodes_truenodeids": [1, 0, 0], "nodes_falsenodeids": [0, 0, 0]}, "circle"),
        ({"nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAVE"]}, "LEAVE"),
        ({"nodes_featureids": [-1, 0, 0]}, "negative"),
        ({"target_ids": [0, 1]}, "outside"),
        ({"nodes_nodeids": [0, 1, 1]}, "same number"),
        ({"nodes_truenodeids": [9, 0, 0]}, "no sense"),
        ({"nodes_featureids": [9, 0, 0]}, "does not exist"),
        ({"nodes_values": [0.5]}, "as long as"),
        ({"target_weights": [0.5]}, "as long as"),
        ({"post_transform": "LOGISTIC"}, "disagree"),
        ({"n_targets": 1 << 60}, "n_targets"),
    ],
)
def test_bad_trees(change: dict[str, Any], message: str) -> None:
    with pytest.raises((ModelError, UnsupportedError), match=message):
        from_proto(one_tree(change).model())


def one_tree(change: dict[str, Any]) -> MlCase:
    """A node and two leaves, with changed attributes."""
    attributes: dict[str, Any] = {
        "nodes_treeids": [0, 0, 0],
        "nodes_nodeids": [0, 1, 2],
        "nodes_featureids": [0, 0, 0],
        "nodes_values": [0.5, 0, 0],
        "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"],
        "nodes_truenodeids": [1, 0, 0],
        "nodes_falsenodeids": [2, 0, 0],
        "target_treeids": [0, 0],
        "target_nodeids": [1, 2],
        "target_ids": [0, 0],
        "target_weights": [1.0, 2.0],
        "n_targets": 1,
    }
    return MlCase("one", "TreeEnsembleRegressor", np.zeros((2, 5), np.float32), attributes | change)


FOREST = ("feature", "split", "mode", "children", "roots", "start", "target", "weight", "base")


@pytest.mark.parametrize(
    ("array", "elements", "message"),
    [
        ("feature", [5], "features than it says"),
        ("feature", [-1], "negative"),
        ("feature", [1 << 24], "beyond"),
        ("mode", [6], "mode"),
        ("mode", [200], "mode"),
        ("children", [[0, -1]], "circle"),
        ("children", [[1, -1]], "does not exist"),
        ("children", [[-3, -1]], "does not exist"),
        ("children", [[-1, -2], [-1, -2]], "as long as"),
        ("roots", [1 << 30], "does not exist"),
        ("start", [0, 1, 3], "follow each other"),
        ("start", [0, 9, 2], "follow each other"),
        ("start", [-5, 1, 2], "follow each other"),
        ("target", [0, 1], "outside"),
        ("target", [0, -1], "outside"),
        ("weight", [1.0], "as long as"),
        ("base", [0.0, 0.0], "targets"),
        ("split", [[0.5]], "as long as"),
    ],
)
def test_trees_of_a_root_file_are_checked(array: str, elements: Any, message: str) -> None:
    """The arrays are constants of the file; the C++ kernel goes where they say."""
    graph = from_proto(one_tree({}).model())
    (node,) = (n for n in graph.nodes if n.op.name == "Trees")
    name = node.inputs[1 + FOREST.index(array)]
    assert name is not None
    graph.constants[name] = np.array(elements, graph.constants[name].dtype)
    graph.types[name] = constant_type(graph.constants[name])
    with pytest.raises(ModelError, match=message):
        Model(graph).header()


def test_trees_must_be_constants() -> None:
    graph = from_proto(one_tree({}).model())
    (node,) = (n for n in graph.nodes if n.op.name == "Trees")
    name = node.inputs[3]
    assert name is not None
    graph.inputs = (*graph.inputs, name)
    del graph.constants[name]
    with pytest.raises(ModelError, match="must be constants"):
        Model(graph).header()
