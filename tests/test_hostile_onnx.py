"""Damaged and malicious ONNX files give one readable error, and nothing outside is touched."""

from __future__ import annotations

import os
import random as stdlib_random
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnx_models import model, node, random, tensor, value

from sofie_root.budget import NODE, Budget, stage
from sofie_root.build.dims import fix_dims
from sofie_root.errors import BudgetError, InputError, ModelError, SofieError, UnsupportedError
from sofie_root.frontends.onnx import from_proto, parse
from sofie_root.ir import OPERATORS, verify
from sofie_root.model import Model, load
from sofie_root.passes import optimise
from sofie_root.program.interpret import evaluate

SECRET = b"secret" * 100


def small_network() -> ModelProto:
    """A network with several kinds of nodes, shape arithmetic, and names."""
    return model(
        [
            node("Conv", ["x", "w", "b"], ["c"], name="conv", pads=[1, 1, 1, 1]),
            node("Relu", ["c"], ["r"], name="relu"),
            node("MaxPool", ["r"], ["p"], name="pool", kernel_shape=[2, 2], strides=[2, 2]),
            node("Shape", ["p"], ["s"], name="shape", start=0, end=1),
            node("Concat", ["s", "rest"], ["target"], name="target", axis=0),
            node("Reshape", ["p", "target"], ["flat"], name="reshape"),
            node("Gemm", ["flat", "v"], ["g"], name="gemm", transB=1),
            node("Softmax", ["g"], ["y"], name="softmax", axis=-1),
        ],
        [value("x", ("N", 2, 4, 4))],
        [value("y", ("N", 3))],
        [
            tensor("w", random((3, 2, 3, 3))),
            tensor("b", random((3,))),
            tensor("rest", np.array([-1])),
            tensor("v", random((3, 12))),
        ],
    )


def assert_readable(error: SofieError, path: Path | None = None) -> None:
    text = str(error)
    assert len(text) > 10
    assert "Traceback" not in text
    if path is not None:
        assert str(path) in text


def attempt(data: bytes, path: Path) -> bool:
    """Parses and optimises; whether that worked. Anything but a SofieError fails the test."""
    path.write_bytes(data)
    try:
        graph = parse(path)
        verify(graph)
        optimise(graph)
    except SofieError as error:
        assert_readable(error, path)
        return False
    return True


# -- damaged files ---------------------------------------------------------------------------------


def test_missing_files_and_folders(tmp_path: Path) -> None:
    for path in (tmp_path / "no.onnx", tmp_path):
        with pytest.raises(ModelError, match="cannot be read") as caught:
            parse(path)
        assert_readable(caught.value, path)


@pytest.mark.parametrize(
    "data", [b"", b"not a model", b"\x89PNG\r\n", b"\x80\x04pickle", b"\x08\x0a"]
)
def test_other_files_are_not_models(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    with pytest.raises(ModelError, match="not an ONNX model"):
        parse(path)


def test_every_truncation_is_an_error(tmp_path: Path) -> None:
    data = small_network().SerializeToString()
    assert attempt(data, tmp_path / "m.onnx")
    for end in range(0, len(data), 3):
        assert not attempt(data[:end], tmp_path / "m.onnx"), end


@pytest.mark.parametrize("seed", range(4))
def test_random_bytes(seed: int, tmp_path: Path) -> None:
    generator = stdlib_random.Random(seed)
    for _ in range(100):
        assert not attempt(generator.randbytes(generator.randrange(400)), tmp_path / "m.onnx")


@pytest.mark.parametrize("seed", range(4))
def test_flipped_bits(seed: int, tmp_path: Path) -> None:
    generator = stdlib_random.Random(seed)
    original = small_network().SerializeToString()
    refused = 0
    for _ in range(150):
        data = bytearray(original)
        for _ in range(generator.randrange(1, 5)):
            data[generator.randrange(len(data))] ^= 1 << generator.randrange(8)
        refused += not attempt(bytes(data), tmp_path / "m.onnx")
    assert refused > 10


WRONG_INTEGERS = [-(2**63), -(2**31), -2, -1, 0, 1, 7, 100, 2**31, 2**40, 2**62, 2**63 - 1]


def change(proto: ModelProto, generator: stdlib_random.Random) -> None:
    """One change that keeps the file well-formed but mostly makes nonsense of the model."""
    graph = proto.graph
    some = generator.choice(graph.node)
    kind = generator.randrange(6)
    if kind == 0:
        some.op_type = generator.choice([name for domain, name in OPERATORS if not domain])
    elif kind == 1 and some.input:
        names = [o for n in graph.node for o in n.output] + [t.name for t in graph.initializer]
        some.input[generator.randrange(len(some.input))] = generator.choice([*names, "x", ""])
    elif kind == 2 and some.input:
        del some.input[-1]
    elif kind == 3 and some.attribute:
        attribute = generator.choice(some.attribute)
        attribute.i = generator.choice(WRONG_INTEGERS)
        if attribute.ints:
            attribute.ints[0] = generator.choice(WRONG_INTEGERS)
    elif kind == 4:
        dim = generator.choice(graph.input[0].type.tensor_type.shape.dim)
        dim.dim_value = generator.choice(WRONG_INTEGERS)
    else:
        target = next((t for t in graph.initializer if t.name == "rest"), None)
        if target is not None:
            array = np.array([generator.choice(WRONG_INTEGERS)] * generator.randrange(3), np.int64)
            target.CopyFrom(numpy_helper.from_array(array, "rest"))


@pytest.mark.parametrize("seed", range(4))
def test_well_formed_nonsense(seed: int, tmp_path: Path) -> None:
    generator = stdlib_random.Random(seed)
    outcomes = []
    for _ in range(150):
        proto = small_network()
        for _ in range(generator.randrange(1, 4)):
            change(proto, generator)
        outcomes.append(attempt(proto.SerializeToString(), tmp_path / "m.onnx"))
    assert True in outcomes
    assert False in outcomes


# -- tensors that lie ------------------------------------------------------------------------------


def with_tensor(proto: TensorProto) -> ModelProto:
    return model([node("Identity", ["w"], ["y"])], [], ["y"], [proto])


@pytest.mark.parametrize(
    ("dims", "data"),
    [([2**40, 2**40], b"1234"), ([3], b"12345678"), ([-1], b""), ([0, 2**62], b"1234"), ([2], b"")],
)
def test_sizes_are_compared_with_the_data(dims: list[int], data: bytes) -> None:
    lying = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=dims, raw_data=data)
    with pytest.raises(ModelError, match="'w'") as caught:
        from_proto(with_tensor(lying))
    assert_readable(caught.value)


def test_typed_data_of_the_wrong_length() -> None:
    lying = TensorProto(name="w", data_type=TensorProto.INT64, dims=[4], int64_data=[1, 2, 3])
    with pytest.raises(ModelError, match="needs 4 elements, the file holds 3"):
        from_proto(with_tensor(lying))


def sparse(dims: list[int], indices: Any, count: int = 1) -> ModelProto:
    values = tensor("w", np.ones(count, np.float32))
    proto = helper.make_sparse_tensor(values, tensor("i", np.array(indices)), dims)
    return model([node("Identity", ["w"], ["y"])], [], ["y"], sparse_initializer=[proto])


@pytest.mark.parametrize(
    ("dims", "indices", "count"),
    [
        ([2**40, 2**40], [0], 1),  # would not fit into memory
        ([4], [4], 1),
        ([4], [-1], 1),
        ([4], [0, 1], 1),
        ([2, 2], [[0, 2]], 1),
        ([4], [0.5], 1),
    ],
)
def test_sparse_tensors_are_checked_before_they_are_densified(
    dims: list[int], indices: Any, count: int
) -> None:
    with pytest.raises((ModelError, BudgetError), match="'w'"):
        from_proto(sparse(dims, indices, count))


# -- external data ---------------------------------------------------------------------------------


def external(path: Path, location: str, **entries: Any) -> Path:
    """A model whose weights (3 floats) are said to lie at ``location``."""
    proto = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[3])
    proto.data_location = TensorProto.EXTERNAL
    for key, content in {"location": location, **entries}.items():
        proto.external_data.add(key=key, value=str(content))
    path.write_bytes(with_tensor(proto).SerializeToString())
    return path


@pytest.mark.parametrize(
    "location",
    [
        "../secret.bin",
        "sub/../../secret.bin",
        "{absolute}",
        "",
        "..\\secret.bin",
        "C:\\secret.bin",
        "\0",
    ],
)
def test_external_data_that_climbs_out_is_not_read(location: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret.bin"
    secret.write_bytes(SECRET)
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    path = external(folder / "m.onnx", location.replace("{absolute}", str(secret)), length=12)
    with pytest.raises(ModelError, match="not inside the model's folder") as caught:
        parse(path)
    assert caught.value.tensor == "w"
    assert_readable(caught.value, path)


@pytest.mark.parametrize("link", ["file", "folder"])
def test_links_out_of_the_folder_are_not_followed(link: str, tmp_path: Path) -> None:
    secret = tmp_path / "outside" / "secret.bin"
    secret.parent.mkdir()
    secret.write_bytes(SECRET)
    folder = tmp_path / "model"
    folder.mkdir()
    if link == "file":
        (folder / "w.bin").symlink_to(secret)
        location = "w.bin"
    else:
        (folder / "data").symlink_to(secret.parent)
        location = "data/secret.bin"
    with pytest.raises(ModelError, match="link out of the model's folder"):
        parse(external(folder / "m.onnx", location, length=12))


@pytest.mark.parametrize("length", [300, 5000, 100_000])
def test_external_data_of_a_long_name(length: int, tmp_path: Path) -> None:
    for location in ("w" * length, "w/" * (length // 2) + "w"):
        with pytest.raises(ModelError, match="'w'") as caught:
            parse(external(tmp_path / "m.onnx", location, length=12))
        assert len(str(caught.value)) < 500


def test_links_that_go_in_circles(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(ModelError, match=r"'a' (cannot be read|is missing)"):
        parse(external(tmp_path / "m.onnx", "a", length=12))


def test_external_data_is_found_by_its_exact_name(tmp_path: Path) -> None:
    """Whatever stands for a path in other systems is a name here, and a name that is not there."""
    (tmp_path / "w.bin").write_bytes(b"0123456789ab")
    for location in (
        "W.BIN",
        "w.bin ",
        "w.bin::$DATA",
        "%77.bin",
        "~/w.bin",
        "$PWD/w.bin",
        "file:w.bin",
    ):
        with pytest.raises(ModelError, match="missing from"):
            parse(external(tmp_path / "m.onnx", location, length=12))


def test_a_file_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(b"0123456789ab")
    with pytest.raises(ModelError, match="cannot be read"):
        parse(external(tmp_path / "m.onnx", "w.bin/x", length=12))


def test_models_that_are_no_plain_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.onnx")
    (tmp_path / "zero.onnx").symlink_to("/dev/zero")
    for name in ("pipe.onnx", "zero.onnx"):
        with pytest.raises(ModelError, match="no plain file"):
            parse(tmp_path / name)


def test_models_that_are_larger_than_they_can_be(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    with path.open("wb") as stream:
        stream.truncate(2**31 + 1)
    with pytest.raises(ModelError, match="at most 2147483648"):
        parse(path)


def test_external_data_that_is_no_plain_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for location in ("pipe", "folder"):
        with pytest.raises(ModelError, match="no file"):
            parse(external(tmp_path / "m.onnx", location, length=12))


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"length": 2**50}, "needs 12 bytes"),
        ({"offset": 2**50}, "cut off"),
        ({"offset": -4}, "cut off"),
        ({"offset": 9}, "cut off"),
        ({"offset": "many"}, "no number"),
        ({"length": 4}, "needs 12 bytes"),
    ],
)
def test_external_data_out_of_the_file(entries: Any, message: str, tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(b"0123456789abcdef")
    with pytest.raises(ModelError, match=message):
        parse(external(tmp_path / "m.onnx", "w.bin", **entries))


def test_missing_external_data_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"'weights\.bin' is missing"):
        parse(external(tmp_path / "m.onnx", "weights.bin"))


def test_external_data_without_a_folder(tmp_path: Path) -> None:
    proto = onnx.load(external(tmp_path / "m.onnx", "w.bin"), load_external_data=False)
    with pytest.raises(ModelError, match="no folder"):
        from_proto(proto)


# -- graphs that contradict themselves -------------------------------------------------------------


def neg(source: str, target: str, name: str = "") -> Any:
    return node("Neg", [source], [target], name=name)


X = value("x", (3,))
CONTRADICTIONS: dict[str, tuple[ModelProto, str]] = {
    "cycle": (
        model([neg("b", "a", "one"), neg("a", "b", "two"), neg("b", "y", "three")], [X], ["y"]),
        "'one', 'two' read each other",
    ),
    "own result": (model([neg("y", "y", "self")], [X], ["y"]), "'self'"),
    "nothing writes": (model([neg("z", "y", "lost")], [X], ["y"]), "'lost'.*reads 'z'"),
    "written twice": (model([neg("x", "y"), neg("x", "y")], [X], ["y"]), "'y'.*written twice"),
    "overwrites an input": (model([neg("x", "x")], [X], ["x"]), "'x'.*written twice"),
    "overwrites a constant": (
        model([neg("x", "w")], [X], ["w"], [tensor("w", np.ones(3, np.float32))]),
        "'w'.*written twice",
    ),
    "two inputs": (model([neg("x", "y")], [X, X], ["y"]), "'x' is declared twice"),
    "two constants": (
        model([neg("x", "y")], [X], ["y"], [tensor("w", 1.0), tensor("w", 2.0)]),
        "'w'.*two initialisers",
    ),
    "two outputs": (model([neg("x", "y")], [X], ["y", "y"]), "'y' is declared twice"),
    "no such output": (model([neg("x", "y")], [X], ["z"]), "'z'.*nothing writes it"),
    "unnamed output": (model([neg("x", "y")], [X], [""]), "no name"),
    "declared otherwise": (
        model([neg("x", "y")], [X], [value("y", (3,), np.int64)]),
        "declared as int64, but the graph computes float",
    ),
    "attribute of a wrong type": (
        model([node("Softmax", ["x"], ["y"], name="s", axis="1")], [X], ["y"]),
        "'axis' has the wrong type",
    ),
    "old attribute of a wrong type": (
        model([node("Clip", ["x"], ["y"], name="c", min="0")], [X], ["y"]),
        "'min' has the wrong type",
    ),
    "too many inputs": (
        model([node("Neg", ["x", "x"], ["y"], name="s")], [X], ["y"]),
        "has 2 inputs",
    ),
    "too many outputs": (
        model([node("Neg", ["x"], ["y", "z"], name="s")], [X], ["y"]),
        "has 2 outputs",
    ),
    "missing attribute": (
        model([node("Concat", ["x", "x"], ["y"], name="c")], [X], ["y"]),
        "required attribute 'axis'",
    ),
    "missing input": (
        model([node("LayerNormalization", ["x", "", "x"], ["y"], name="n")], [X], ["y"]),
        r"'n'.*lacks its input 1 \(Scale\)",
    ),
    "no window": (
        model(
            [node("LRN", ["w"], ["y"], name="c", size=0)], [], ["y"], [tensor("w", random((1, 2)))]
        ),
        "'c'.*sums over 0 channels",
    ),
    "ends without starts": (
        model(
            [node("Slice", ["x", "w", "e"], ["y"], name="c")],
            [X, value("w", (1,), np.int64), value("e", (2,), np.int64)],
            ["y"],
        ),
        "'c'.*starts has 1 elements and ends 2",
    ),
    "no such flag": (
        model(
            [node("CumSum", ["x", "w"], ["y"], name="c", reverse=2)], [X], ["y"], [tensor("w", 0)]
        ),
        r"'c'.*'reverse' is 2, must be one of 0, 1",
    ),
    "no such choice": (
        model([node("Gelu", ["x"], ["y"], name="g", approximate="much")], [X], ["y"]),
        "'g'.*'approximate' is 'much', must be one of 'none', 'tanh'",
    ),
    "too many zero points": (
        model(
            [node("ConvInteger", ["i", "k", "", "z"], ["y"], name="c")],
            [value("i", (1, 1, 3), np.uint8)],
            ["y"],
            [tensor("k", np.ones((2, 1, 1), np.uint8)), tensor("z", np.ones(3, np.uint8))],
        ),
        "'c'.*one zero point per output channel",
    ),
    "mask without axes": (
        model(
            [node("DeformConv", ["a", "k", "o", "", "m"], ["y"], name="d")],
            [value("a", (1, 1, 3, 3)), value("o", (1, 2, 3, 3)), value("m", (9,))],
            ["y"],
            [tensor("k", np.ones((1, 1, 1, 1), np.float32))],
        ),
        "'d'.*mask 4 axes",
    ),
    "infinite scales": (
        model(
            [node("Resize", ["a", "", "s"], ["y"], name="r")],
            [value("a", (1, 1))],
            ["y"],
            [tensor("s", np.array([1, np.inf], np.float32))],
        ),
        "'r'.*not all positive numbers",
    ),
    "many axes": (
        model(
            [node("Unsqueeze", ["x", "a"], ["y"], name="u")],
            [X],
            ["y"],
            [tensor("a", np.arange(99))],
        ),
        "'u'.*has 100 axes, at most 32",
    ),
    "many axes of an input": (
        model([neg("x", "y")], [value("x", (1,) * 1000)], ["y"]),
        "'x'.*has 1000 axes",
    ),
    "impossible sizes": (
        model([neg("x", "y")], [value("x", (2**62,))], ["y"]),
        "'x'.*2\\^62 bytes",
    ),
    "impossible sizes of a result": (
        model(
            [node("Flatten", ["x"], ["y"], name="f")], [value("x", ("N", 2**31, 2**31, 4))], ["y"]
        ),
        "impossible shape",
    ),
    "shapes that do not fit": (
        model(
            [node("Add", ["x", "w"], ["y"], name="sum")], [X], ["y"], [tensor("w", random((4,)))]
        ),
        "Add 'sum'",
    ),
    "dtypes that do not fit": (
        model(
            [node("Add", ["x", "w"], ["y"], name="sum")], [X], ["y"], [tensor("w", np.array([1]))]
        ),
        "input 1 .*int64, another is float",
    ),
    "dtype that is not allowed": (
        model([node("Exp", ["w"], ["y"], name="e")], [], ["y"], [tensor("w", np.array([1]))]),
        "int64, which Exp does not take",
    ),
    "last part left out": (
        model([node("Concat", ["x", "x", ""], ["y"], name="join", axis=0)], [X], ["y"]),
        "'join'.*lacks its input 2",
    ),
    "two dtypes of a result": (
        model(
            [node("QuantizeLinear", ["x", "scale", "zero"], ["y"], name="q", output_dtype=2)],
            [X],
            ["y"],
            [tensor("scale", np.float32(0.1)), tensor("zero", np.int8(3))],
        ),
        "'q'.*zero_point is int8, output_dtype is uint8",
    ),
    "too new": (
        model([node("Gelu", ["x"], ["y"])], [X], ["y"], opset=13),
        "not an operator of opset 13",
    ),
}


@pytest.mark.parametrize(("proto", "message"), CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_contradictions_are_named(proto: ModelProto, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        from_proto(proto)
    assert_readable(caught.value)


def test_functions_that_explode() -> None:
    functions = [
        helper.make_function(
            "mine",
            f"F{k}",
            ["x"],
            ["y"],
            [
                helper.make_node(
                    f"F{k - 1}" if k else "Neg", ["x"], ["a"], domain="mine" if k else ""
                ),
                helper.make_node(
                    f"F{k - 1}" if k else "Neg", ["a"], ["y"], domain="mine" if k else ""
                ),
            ],
            [helper.make_opsetid("", 21), helper.make_opsetid("mine", 1)],
        )
        for k in range(40)
    ]
    proto = model(
        [node("F39", ["x"], ["y"], domain="mine")],
        [X],
        ["y"],
        functions=functions,
        domains={"mine": 1},
    )
    with (
        stage(Budget(work=5000 * NODE)),
        pytest.raises(BudgetError, match="budget of work") as caught,
    ):
        from_proto(proto)
    assert caught.value.node is not None


def test_functions_that_are_nested_too_deeply() -> None:
    functions = [
        helper.make_function(
            "mine",
            f"F{k}",
            ["x"],
            ["y"],
            [helper.make_node(f"F{k + 1}", ["x"], ["y"], domain="mine")],
            [helper.make_opsetid("mine", 1)],
        )
        for k in range(3000)
    ]
    call = node("F0", ["x"], ["y"], domain="mine")
    branch = helper.make_graph([call], "g", [], [value("y", None)])
    choice = node("If", ["c"], ["y"], then_branch=branch, else_branch=branch, name="choice")
    condition = value("c", (), np.bool_)
    for nodes in ([call], [choice]):
        proto = model(nodes, [X, condition], ["y"], functions=functions, domains={"mine": 1})
        with pytest.raises(SofieError, match="deep"):
            from_proto(proto)


def test_names_that_are_not_text(tmp_path: Path) -> None:
    data = model([neg("x", "hidden"), neg("hidden", "y")], [X], ["y"]).SerializeToString()
    path = tmp_path / "m.onnx"
    path.write_bytes(data.replace(b"hidden", b"\xff\xfe\xfa\xfb\xfc\xfd"))
    with pytest.raises(ModelError, match="not UTF-8"):
        parse(path)


@pytest.mark.parametrize("name", ["y:0:1", "y:12:0", "l:state:0"])
def test_dims_that_are_called_like_sizes_of_results(name: str, tmp_path: Path) -> None:
    """A caller's dim is none of the sizes that only the run tells, whatever it is called."""
    proto = model([node("NonZero", ["x"], ["y"])], [value("x", (name,))], ["y"])
    Model(from_proto(proto)).save(tmp_path / "m.root")
    loaded = load(tmp_path / "m.root")
    x = np.array([0, 2, 0, 3, 4], np.float32)
    assert evaluate(loaded.graph, {"x": x})["y"].tolist() == [[1, 3, 4]]
    assert loaded.symbols == (name,)
    assert fix_dims(loaded.graph, {name: 5}).types["x"].shape == (5,)


def test_names_that_are_code_stay_names() -> None:
    name = 'x"); system("id"); //'
    with pytest.raises(UnsupportedError) as caught:
        from_proto(model([node(name, ["x"], ["y"], name=name)], [X], ["y"]))
    assert caught.value.refusals[0].operator == name


EMPTY_AXES: dict[str, tuple[Any, list[Any]]] = {
    "Hardmax": ((3, 0), []),
    "Softmax": ((3, 0), []),
    "ArgMax": ((3, 1), [0, 0, 0]),
    "ArgMin": ((3, 1), [0, 0, 0]),
    "ReduceSum": ((3, 1), [0, 0, 0]),
    "ReduceProd": ((3, 1), [1, 1, 1]),
    "ReduceMax": ((3, 1), [-np.inf] * 3),
}


@pytest.mark.parametrize("operator", EMPTY_AXES)
@pytest.mark.parametrize("size", [0, "N"])
def test_axes_without_elements(operator: str, size: int | str) -> None:
    axes = {"axis": 1} if not operator.startswith("Reduce") else {"axes": [1]}
    proto = model(
        [node(operator, ["x"], ["y"], **axes)],
        [value("x", (3, size))],
        ["y"],
        opset=13 if operator != "ReduceSum" else 11,
    )
    graph = from_proto(proto)
    shape, expected = EMPTY_AXES[operator]
    for candidate in (graph, optimise(graph)[0]):
        found = evaluate(candidate, {"x": np.zeros((3, 0), np.float32)})["y"]
        assert found.shape == shape
        assert found.ravel().tolist() == expected


def test_a_product_of_a_repeated_scalar() -> None:
    """A sum over everything, expanded and multiplied: its buffer has no axis to pick rows from."""
    nodes = [
        node("ReduceSum", ["x", "axes"], ["r"], keepdims=0),
        node("Expand", ["r", "shape"], ["e"]),
        node("MatMul", ["e", "w"], ["y"]),
    ]
    tensors = [
        tensor("axes", np.zeros(0, np.int64)),
        tensor("shape", np.array([1])),
        tensor("w", random((1, 3))),
    ]
    repeated = Model(from_proto(model(nodes, [value("x", ("N", "n", 5))], ["y"], tensors)))
    assert "infer" in repeated.header().text
    assert repeated.example is not None


def test_channels_that_do_not_divide_are_found_when_the_model_runs() -> None:
    """They would be cut off in silence."""
    move = node("DepthToSpace", ["x"], ["y"], blocksize=2, name="move")
    graph = from_proto(model([move], [value("x", (1, "C", 1, 1))], ["y"]))
    assert evaluate(graph, {"x": np.zeros((1, 8, 1, 1), np.float32)})["y"].shape == (1, 2, 2, 2)
    with pytest.raises(InputError, match="'move': channels divide into blocks"):
        evaluate(graph, {"x": np.zeros((1, 7, 1, 1), np.float32)})


def test_many_parts_that_nobody_reads() -> None:
    split = node("Split", ["x"], ["y"], num_outputs=2**62, name="split")
    graph = from_proto(model([split], [value("x", (6, 4))], ["y"]))
    assert graph.types["y"].shape == (1, 4)


def test_a_shape_of_very_many_axes() -> None:
    nodes = [node("ConstantOfShape", ["s"], ["y"], name="c")]
    with pytest.raises(ModelError, match=r"'c'.*2147483648 elements"):
        from_proto(model(nodes, [value("s", (2**31,), np.int64)], ["y"]))


def test_reading_what_has_no_elements_is_an_error() -> None:
    graph = from_proto(
        model(
            [node("Gather", ["x", "i"], ["y"])],
            [value("x", ("N", 3)), value("i", (2,), np.int64)],
            ["y"],
        )
    )
    with pytest.raises(IndexError):
        evaluate(graph, {"x": np.zeros((0, 3), np.float32), "i": np.zeros(2, np.int64)})
