"""ONNX files become graphs: old opsets, names, constants, symbolic dims, refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_models import (
    assert_like_runtime,
    assert_same,
    by_runtime,
    imported,
    model,
    node,
    random,
    tensor,
    value,
)

from sofie_root.errors import InputError, ModelError, UnsupportedError
from sofie_root.frontends.onnx import from_proto, parse
from sofie_root.ir import DType, symbol, verify
from sofie_root.passes import optimise
from sofie_root.program.interpret import evaluate

X = random((2, 3, 4))

# (id, opset, operator, extra constant inputs, outputs, attributes); input 0 is X of shape (2, 3, 4)
OLD_OPSETS: list[tuple[str, int, str, list[Any], int, dict[str, Any]]] = [
    ("squeeze_axes", 7, "Unsqueeze", [], 1, {"axes": [0, 2]}),
    ("softmax_flattens", 7, "Softmax", [], 1, {}),
    ("softmax_axis_0", 9, "Softmax", [], 1, {"axis": 0}),
    ("softmax_last", 11, "Softmax", [], 1, {"axis": -1}),
    ("softmax_negative", 11, "Softmax", [], 1, {"axis": -2}),
    ("softmax_new_default", 13, "Softmax", [], 1, {}),
    ("log_softmax", 11, "LogSoftmax", [], 1, {"axis": 1}),
    ("hardmax", 11, "Hardmax", [], 1, {"axis": 1}),
    ("clip_attributes", 7, "Clip", [], 1, {"min": -0.5, "max": 0.25}),
    ("clip_one_bound", 10, "Clip", [], 1, {"max": 0.25}),
    ("clip_inputs", 12, "Clip", [np.float32(-0.5)], 1, {}),
    ("pad", 10, "Pad", [], 1, {"pads": [0, 1, 0, 0, 0, 2], "value": 1.5}),
    ("pad_reflect", 7, "Pad", [], 1, {"pads": [0, 1, 0, 0, 0, 2], "mode": "reflect"}),
    ("slice", 9, "Slice", [], 1, {"starts": [1, -2], "ends": [9, 9], "axes": [1, 2]}),
    ("slice_without_axes", 7, "Slice", [], 1, {"starts": [0, 1], "ends": [2, -1]}),
    ("split_sizes", 11, "Split", [], 2, {"axis": 2, "split": [1, 3]}),
    ("split_equal", 11, "Split", [], 2, {"axis": 2}),
    ("split_equal_13", 13, "Split", [], 2, {"axis": -1}),
    ("split_sizes_13", 13, "Split", [np.array([3, 1])], 2, {"axis": -1}),
    ("topk_attribute", 9, "TopK", [], 2, {"k": 2}),
    ("topk_input", 10, "TopK", [np.array([2])], 2, {"axis": 1}),
    ("dropout_ratio", 7, "Dropout", [], 1, {"ratio": 0.3}),
    ("dropout_10", 10, "Dropout", [], 1, {"ratio": 0.3}),
    ("reduce_mean", 11, "ReduceMean", [], 1, {"axes": [1], "keepdims": 0}),
    ("reduce_all", 11, "ReduceMax", [], 1, {"keepdims": 0}),
    ("reduce_sum_13", 13, "ReduceSum", [np.array([-1])], 1, {}),
    ("reduce_max_13", 13, "ReduceMax", [], 1, {"axes": [-1]}),
    ("reduce_log_sum_exp", 11, "ReduceLogSumExp", [], 1, {"axes": [1]}),
    ("reduce_l2_18", 18, "ReduceL2", [np.array([0, 2])], 1, {}),
    ("flatten", 7, "Flatten", [], 1, {"axis": 2}),
    ("argmax", 7, "ArgMax", [], 1, {"axis": 2, "keepdims": 0}),
    ("gather_negative", 11, "Gather", [np.array([0, -1])], 1, {"axis": 1}),
    ("prelu", 7, "PRelu", [np.full((3, 1), 0.2, np.float32)], 1, {}),
    ("pow", 7, "Pow", [np.float32(2)], 1, {}),
    ("scatter", 9, "Scatter", [np.array([[[1]]]), np.full((1, 1, 1), 9, np.float32)], 1, {}),
    ("instance_normalization", 6 + 1, "InstanceNormalization",
     [np.array([1, 2, 3], np.float32), np.ones(3, np.float32)], 1, {}),
    ("batch_normalization_7", 7, "BatchNormalization",
     [random((3,)), random((3,), seed=8), random((3,), seed=9), np.array([1, 2, 3], np.float32)],
     1, {"epsilon": 1e-3, "momentum": 0.5}),
    ("batch_normalization_9", 9, "BatchNormalization",
     [random((3,)), random((3,), seed=8), random((3,), seed=9), np.array([1, 2, 3], np.float32)],
     1, {"momentum": 0.5}),
    ("mean_variance_normalization", 13, "MeanVarianceNormalization", [], 1, {"axes": [0, 2]}),
    ("gelu_from_its_function", 20, "Gelu", [], 1, {"approximate": "tanh"}),
    ("cast", 7, "Cast", [], 1, {"to": TensorProto.DOUBLE}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("opset", "operator", "extra", "outputs", "attributes"),
    [row[1:] for row in OLD_OPSETS],
    ids=[row[0] for row in OLD_OPSETS],
)
def test_old_opsets_keep_their_meaning(
    opset: int, operator: str, extra: list[Any], outputs: int, attributes: dict[str, Any]
) -> None:
    names = [f"y{k}" for k in range(outputs)]
    constants = [f"c{k}" for k in range(len(extra))]
    proto = model(
        [node(operator, ["x", *constants], names, **attributes)],
        [value("x", X.shape)],
        names,
        [tensor(n, a) for n, a in zip(constants, extra, strict=True)],
        opset=opset,
    )
    typed = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    outputs_typed = {v.name: v for v in [*typed.graph.output, *typed.graph.value_info]}
    for output in proto.graph.output:
        output.CopyFrom(outputs_typed[output.name])
    assert_like_runtime(proto, {"x": X})


def test_group_normalization_18_has_one_scale_per_group() -> None:
    x, scale, bias = random((2, 4, 3)), random((2,), seed=1), random((2,), seed=2)
    proto = model(
        [node("GroupNormalization", ["x", "s", "b"], ["y"], num_groups=2, epsilon=1e-3)],
        [value("x", x.shape)],
        ["y"],
        [tensor("s", scale), tensor("b", bias)],
        opset=18,
    )
    grouped = x.reshape(2, 2, 6)
    centred = grouped - grouped.mean(-1, keepdims=True)
    normal = centred / np.sqrt(grouped.var(-1, keepdims=True) + 1e-3)
    expected = (normal * scale[:, None] + bias[:, None]).reshape(x.shape)
    assert_same(evaluate(imported(proto), {"x": x}), {"y": expected}, 1e-5)


def test_opset_6_broadcast() -> None:
    a, b = random((2, 3, 4)), random((3,), seed=3)
    proto = model(
        [node("Mul", ["a", "b"], ["y"], broadcast=1, axis=1)],
        [value("a", a.shape), value("b", b.shape)],
        ["y"],
        opset=6,
    )
    assert_same(evaluate(imported(proto), {"a": a, "b": b}), {"y": a * b[:, None]})


@pytest.mark.parametrize("opset", [13, 18, 21])
def test_old_attributes_under_a_new_opset_keep_their_meaning(opset: int) -> None:
    proto = model(
        [node("ReduceSum", ["x"], ["y"], axes=[1], keepdims=0)],
        [value("x", X.shape)],
        ["y"],
        opset=opset,
    )
    assert_same(evaluate(imported(proto), {"x": X}), {"y": X.sum(1)})


def test_clip_0_is_no_clip_and_float_lengths_are_lengths() -> None:
    w, r = random((1, 5, 4)), random((1, 5, 5), seed=2)
    lengths = np.array([2, 1, 2])

    def rnn(sequence: Any, **attributes: Any) -> onnx.ModelProto:
        return model(
            [node("RNN", ["x", "w", "r", "", "l"], ["", "y"], hidden_size=5, **attributes)],
            [value("x", X.shape)],
            [value("y", (1, 3, 5))],
            [tensor("w", w), tensor("r", r), tensor("l", sequence)],
            opset=14,
        )

    expected = by_runtime(rnn(lengths.astype(np.int32)), {"x": X})
    written = rnn(lengths.astype(np.float32), clip=0.0)
    assert_same(evaluate(imported(written), {"x": X}), expected)


# -- inputs, outputs, constants --------------------------------------------------------------------


def test_initialisers_that_are_inputs_are_constants() -> None:
    w = random((4, 2))
    proto = model(
        [node("MatMul", ["x", "w"], ["y"])],
        [value("x", X.shape), value("w", w.shape)],
        [value("y", (2, 3, 2))],
        [tensor("w", w)],
    )
    graph = assert_like_runtime(proto, {"x": X})
    assert graph.inputs == ("x",)
    assert set(graph.constants) == {"w"}


def test_constants_in_every_form() -> None:
    forms: dict[str, tuple[dict[str, Any], Any]] = {
        "value": ({"value": tensor("t", np.array([[1, 2]], np.int8))}, np.array([[1, 2]], np.int8)),
        "int": ({"value_int": 3}, np.int64(3)),
        "ints": ({"value_ints": [3, 4]}, np.array([3, 4])),
        "float": ({"value_float": 0.5}, np.float32(0.5)),
        "floats": ({"value_floats": [0.5, 1.5]}, np.array([0.5, 1.5], np.float32)),
        "sparse": (
            {
                "sparse_value": helper.make_sparse_tensor(
                    tensor("v", np.array([5.0, 6.0], np.float32)),
                    tensor("i", np.array([1, 4])),
                    [2, 3],
                )
            },
            np.array([[0, 5, 0], [0, 6, 0]], np.float32),
        ),
    }
    proto = model([node("Constant", [], [n], **a) for n, (a, _) in forms.items()], [], list(forms))
    got = evaluate(imported(proto), {})
    assert_same(got, {name: np.asarray(array) for name, (_, array) in forms.items()})


def test_sparse_initialisers_with_coordinates() -> None:
    sparse = helper.make_sparse_tensor(
        tensor("w", np.array([2.0, 3.0], np.float32)),
        tensor("i", np.array([[0, 1], [1, 2]])),
        [2, 3],
    )
    proto = model([node("Identity", ["w"], ["y"])], [], ["y"], sparse_initializer=[sparse])
    assert_same(evaluate(imported(proto), {}), {"y": np.array([[0, 2, 0], [0, 0, 3]], np.float32)})


@pytest.mark.parametrize("dtype", list(DType), ids=str)
@pytest.mark.parametrize("raw", [True, False], ids=["raw", "typed"])
def test_every_element_type_is_read(dtype: DType, raw: bool) -> None:
    array = np.array([[0, 1, 1], [0, 1, 0]]).astype(dtype.numpy)
    values: Any = array.tobytes() if raw else array.ravel().tolist()
    if not raw and dtype is DType.BFLOAT16:
        values = [float(v) for v in values]
    proto = helper.make_tensor("w", dtype.onnx, array.shape, values, raw=raw)
    graph = imported(model([], [], ["w"], [proto]))
    np.testing.assert_array_equal(graph.constants["w"], array)
    assert graph.constants["w"].dtype == dtype.numpy


def test_scalars_and_empty_tensors() -> None:
    proto = model(
        [
            node("Concat", ["x", "nothing"], ["joined"], axis=0),
            node("Add", ["joined", "one"], ["y"]),
        ],
        [value("x", (2, 3))],
        [value("y", (2, 3)), value("nothing", (0, 3))],
        [tensor("nothing", np.zeros((0, 3), np.float32)), tensor("one", np.float32(1))],
    )
    graph = imported(proto)
    got = evaluate(graph, {"x": X[0, :2, :3]})
    assert_same(got, {"y": X[0, :2, :3] + 1, "nothing": np.zeros((0, 3), np.float32)})
    assert graph.types["one"].shape == ()


def test_outputs_that_are_inputs_constants_read_inside_or_given_twice() -> None:
    proto = model(
        [node("Neg", ["x"], ["a"]), node("Abs", ["a"], ["b"])],
        [value("x", (3,))],
        [value("a", (3,)), value("b", (3,)), value("x", (3,)), value("c", (2,))],
        [tensor("c", np.array([1, 2], np.float32))],
    )
    graph = imported(proto)
    assert graph.outputs == {"a": "a", "b": "b", "x": "x", "c": "c"}
    x = random((3,))
    c = np.array([1, 2], np.float32)
    assert_same(evaluate(graph, {"x": x}), {"a": -x, "b": abs(x), "x": x, "c": c})


def test_unsorted_nodes_are_sorted() -> None:
    proto = model(
        [node("Abs", ["b"], ["y"]), node("Exp", ["a"], ["b"]), node("Neg", ["x"], ["a"])],
        [value("x", (3,))],
        ["y"],
    )
    graph = imported(proto)
    assert [n.op.name for n in graph.nodes] == ["Neg", "Exp", "Abs"]
    x = random((3,))
    assert_same(evaluate(graph, {"x": x}), {"y": np.exp(-x)})


def test_sorted_nodes_keep_the_order_of_the_file() -> None:
    nodes = [node("Neg", ["x"], [f"y{k}"], name=f"n{k}") for k in range(12)]
    graph = imported(model(nodes, [value("x", (3,))], [f"y{k}" for k in range(12)]))
    assert [n.name for n in graph.nodes] == [f"n{k}" for k in range(12)]


@pytest.mark.parametrize(
    "name", ["x y", "θ/η·φ", "粒子", 'x"); system("id"); //', "a\\b\n", "int", "0", "🙂", "x:0"]
)
def test_names_may_be_anything(name: str) -> None:
    proto = model(
        [node("Neg", [name], [name + "'"], name=name)], [value(name, (name, 3))], [name + "'"]
    )
    graph = imported(proto)
    assert graph.inputs == (name,)
    assert list(graph.outputs) == [name + "'"]
    assert graph.nodes[0].name == name
    assert graph.types[name].shape == (symbol(name), 3)


def test_nodes_without_names_get_unique_ones() -> None:
    nodes = [
        node("Neg", ["x"], ["a"]),
        node("Neg", ["a"], ["b"], name="Neg_0"),
        node("Neg", ["b"], ["c"], name="Neg_0"),
        node("Neg", ["c"], ["d"]),
    ]
    graph = imported(model(nodes, [value("x", (3,))], ["d"]))
    names = [n.name for n in graph.nodes]
    assert names[1] == "Neg_0"
    assert len(set(names)) == 4
    assert all(n.origin == (n.name,) for n in graph.nodes)


def test_names_made_on_the_way_do_not_collide() -> None:
    proto = model(
        [
            node("Softmax", ["x"], ["s"], name="S", axis=1),
            node("Neg", ["s"], ["S/Flatten"]),
            node("Neg", ["S/Flatten"], ["S/Shape"], name="S/Flatten"),
        ],
        [value("x", X.shape)],
        [value("S/Shape", X.shape)],
        opset=11,
    )
    graph = assert_like_runtime(proto, {"x": X})
    assert len({n.name for n in graph.nodes}) == len(graph.nodes)


# -- dims ------------------------------------------------------------------------------------------


def test_dims_are_numbers_names_or_made_up_names() -> None:
    proto = model([node("Neg", ["x"], ["y"])], [value("x", ("N", None, 3, None))], ["y"])
    graph = imported(proto)
    assert graph.types["x"].shape == (symbol("N"), symbol("x_dim1"), 3, symbol("x_dim3"))
    assert graph.types["y"].shape == graph.types["x"].shape
    assert [str(s) for s in graph.symbols()] == ["N", "x_dim1", "x_dim3"]


def test_a_made_up_name_is_not_one_of_the_model() -> None:
    proto = model([node("Neg", ["x"], ["y"])], [value("x", (None, "x_dim0"))], ["y"])
    shape = imported(proto).types["x"].shape
    assert shape[0] != shape[1] == symbol("x_dim0")


def test_dims_fixes_symbols() -> None:
    proto = model([node("Neg", ["x"], ["y"])], [value("x", ("N", "n_pf", 3))], ["y"])
    graph = imported(proto, dims={"n_pf": 5})
    assert graph.types["y"].shape == (symbol("N"), 5, 3)


@pytest.mark.parametrize("dims", [{"M": 1}, {"N": -1}, {"N": 1.0}, {"N": True}])
def test_dims_that_make_no_sense(dims: Any) -> None:
    proto = model([node("Neg", ["x"], ["y"])], [value("x", ("N", "n_pf", 3))], ["y"])
    with pytest.raises(InputError, match="N"):
        from_proto(proto, dims=dims)
    with pytest.raises(InputError, match="N, n_pf"):
        from_proto(proto, dims={"batch": 1})


def test_shape_arithmetic_stays_symbolic() -> None:
    proto = model(
        [
            node("Shape", ["x"], ["shape"]),
            node("Gather", ["shape", "zero"], ["n"]),
            node("Concat", ["n", "rest"], ["target"], axis=0),
            node("Reshape", ["x", "target"], ["y"]),
        ],
        [value("x", ("N", 3, 4))],
        ["y"],
        [tensor("zero", np.array([0])), tensor("rest", np.array([-1]))],
    )
    assert imported(proto).types["y"].shape == (symbol("N"), 12)


# -- what is refused -------------------------------------------------------------------------------


def test_all_unsupported_nodes_are_named_in_one_error() -> None:
    function = helper.make_function(
        "mine", "F", ["x"], ["y"], [helper.make_node("Foo", ["x"], ["y"], name="inner")],
        [helper.make_opsetid("", 21)],
    )  # fmt: skip
    branch = helper.make_graph([node("Bar", ["x"], ["o"], name="b")], "g", [], [value("o", None)])
    proto = model(
        [
            node("Neg", ["x"], ["a"]),
            node("StringNormalizer", ["s"], ["t"], name="strings"),
            node("FancyOp", ["a"], ["b"], name="fancy", domain="com.example"),
            node("AlsoUnknown", ["b"], ["c"], name="after fancy"),
            node("F", ["x"], ["d"], name="call", domain="mine"),
            node("Elu", ["x"], ["e"], name="attribute", beta=1.0),
            node("If", ["cond"], ["f"], name="choice", then_branch=branch, else_branch=branch),
        ],
        [value("x", (3,)), value("cond", (), np.bool_), value("s", (3,), np.str_)],
        ["c", "d", "e", "f", "t"],
        functions=[function],
        domains={"mine": 1, "com.example": 1},
    )
    with pytest.raises(UnsupportedError) as caught:
        from_proto(proto)
    named = {r.node: r for r in caught.value.refusals}
    expected = {
        "s",
        "fancy",
        "after fancy",
        "call/inner",
        "attribute",
        "choice/b",
        "choice/b_1",
        "strings",
    }
    assert set(named) == expected
    assert "@sofie_root.operator('FancyOp', domain='com.example')" in named["fancy"].reason
    assert "'beta'" in named["attribute"].reason
    assert "string" in named["s"].reason
    assert all(name in str(caught.value) for name in named)


@pytest.mark.parametrize("opset", [0, onnx.defs.onnx_opset_version() + 1])
def test_opsets_out_of_range(opset: int) -> None:
    with pytest.raises(ModelError, match=f"opset {opset}"):
        from_proto(model([node("Neg", ["x"], ["y"])], [value("x", (3,))], ["y"], opset=opset))


def test_training_is_refused() -> None:
    tensors = [tensor(n, np.ones(3, np.float32)) for n in "sbmv"]
    old = model(
        [node("BatchNormalization", ["x", *"sbmv"], ["y", "m2", "v2"], name="bn")],
        [value("x", X.shape)], ["y", "m2"], tensors, opset=9,
    )  # fmt: skip
    new = model(
        [node("BatchNormalization", ["x", *"sbmv"], ["y", "m2", "v2"], name="bn", training_mode=1)],
        [value("x", X.shape)], ["y"], tensors, opset=15,
    )  # fmt: skip
    for proto in (old, new):
        with pytest.raises(UnsupportedError, match="bn"):
            from_proto(proto)


def test_provenance_is_kept(tmp_path: Path) -> None:
    proto = model([node("Neg", ["x"], ["y"])], [value("x", (3,))], ["y"], opset=17)
    proto.metadata_props.add(key="author", value="me")
    path = tmp_path / "tagger.onnx"
    path.write_bytes(proto.SerializeToString())
    graph = parse(path)
    assert graph.name == "tagger"
    assert graph.metadata["source"] == "tagger.onnx"
    assert graph.metadata["opsets"] == {"": 17}
    assert graph.metadata["producer"] == "test"
    assert graph.metadata["properties"] == {"author": "me"}
    assert len(graph.metadata["sha256"]) == 64


def test_sizes_that_are_scaled_in_floats_are_known() -> None:
    proto = model(
        [
            node("Shape", ["x"], ["shape"]),
            node("Cast", ["shape"], ["real"], to=TensorProto.FLOAT),
            node("Mul", ["real", "factor"], ["scaled"]),
            node("Floor", ["scaled"], ["whole"]),
            node("Cast", ["whole"], ["target"], to=TensorProto.INT64),
            node("Expand", ["one", "target"], ["y"]),
        ],
        [value("x", X.shape)],
        ["y"],
        [tensor("factor", np.array([1.5, 0.5, 2], np.float32)), tensor("one", np.float32(1))],
    )
    assert imported(proto).types["y"].shape == (3, 1, 8)


# -- the models that the onnx package carries ------------------------------------------------------

DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"
CARRIED = sorted(
    p.parent for kind in ("pytorch-*", "simple") for p in DATA.glob(f"{kind}/*/model.onnx")
)
REFUSED = {"Gradient", "StringNormalizer"} | {
    f"Sequence{kind}" for kind in ("At", "Construct", "Empty", "Erase", "Insert", "Length")
}
"""Operators of these models that are refused: training, strings and sequences."""


def stored(path: Path) -> Any:
    return onnx.numpy_helper.to_array(onnx.load_tensor(str(path)))


def test_models_of_the_onnx_package_are_there() -> None:
    assert len(CARRIED) > 100
    protos = [onnx.load(folder / "model.onnx") for folder in CARRIED]
    assert {n.op_type for proto in protos for n in proto.graph.node} >= REFUSED


@pytest.mark.parametrize("folder", CARRIED, ids=lambda p: p.name)
def test_models_of_the_onnx_package(folder: Path) -> None:
    """Mostly of opset 6, exported by early PyTorch."""
    proto = onnx.load(folder / "model.onnx")
    if REFUSED & {n.op_type for n in proto.graph.node}:
        with pytest.raises(UnsupportedError):
            parse(folder / "model.onnx")
        return
    graph = parse(folder / "model.onnx")
    verify(graph)
    optimised, _ = optimise(graph)
    sets = sorted(folder.glob("test_data_set_*"))
    assert sets
    for data in sets:
        names = [i.name for i in proto.graph.input]
        arrays = {
            n: stored(data / f"input_{k}.pb") for k, n in enumerate(names) if n in graph.inputs
        }
        expected = {n: stored(data / f"output_{k}.pb") for k, n in enumerate(graph.outputs)}
        assert_same(evaluate(graph, arrays), expected, 1e-4)
        assert_same(evaluate(optimised, arrays), expected, 1e-4)
