"""The generated header as text: kept copies, determinism, warnings, includes, and hostile names."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from compiled import FLAGS, Compiled
from cpp_program import compile_program, run_program
from onnx import GraphProto
from onnx_models import model, node, tensor, value
from small_models import (
    EVIL,
    SMALL,
    attention,
    cnn,
    control,
    control_proto,
    mlp,
    parsed,
    rnn,
    weight,
)

from sofie_root.config import VERSION, include_dir
from sofie_root.errors import InputError
from sofie_root.model import Model
from sofie_root.targets.cxx.names import KEYWORDS, VARIABLES, Identifiers, comment, string_literal

TESTS = Path(__file__).parent
GOLDEN = TESTS / "golden"
COMPILERS = ["g++", "clang++"]

# -- kept copies -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SMALL)
def test_golden(name: str, update_golden: bool) -> None:
    """The header is what it was. After a change that is meant: ``pytest --update-golden``."""
    text = SMALL[name]().header(stem=name, standalone=False).text.replace(VERSION, "VERSION")
    path = GOLDEN / f"{name}.hxx"
    if update_golden:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert text == path.read_text(), f"differs from {path}; pytest --update-golden if it should"


def test_the_same_model_gives_the_same_bytes_in_every_process() -> None:
    code = """
import hashlib, sys
from small_models import SMALL, attention
for make in (*SMALL.values(), attention):
    for weights in ("dat", "embedded"):
        header = make().header(stem="m", weights=weights)
        constants = b"".join(k.encode() + a.tobytes() for k, a in header.constants.items())
        print(hashlib.sha256(header.text.encode() + constants).hexdigest())
"""
    outputs = []
    for seed in ("0", "4242"):
        paths = os.pathsep.join([str(TESTS.parent), str(TESTS)])
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": paths}
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        outputs.append(done.stdout)
    assert outputs[0] == outputs[1]
    assert len(set(outputs[0].split())) == 2 * (len(SMALL) + 1) - 1  # selection has no weights


# -- compilers -------------------------------------------------------------------------------------


def use(header: Path, namespace: str) -> str:
    """Includes a header and instantiates what it offers."""
    return f"""
#include "{header.name}"
static_assert(std::tuple_size<{namespace}::Session::Inputs>::value > 0, "");
void* use_{namespace}({namespace}::Session* s) {{
  auto infer = &{namespace}::Session::infer;
  auto infer_to = &{namespace}::Session::infer_to;
  return infer == nullptr || infer_to == nullptr ? nullptr : s;
}}
"""


@pytest.mark.parametrize("standalone", [True, False], ids=["standalone", "with-includes"])
@pytest.mark.parametrize("compiler", COMPILERS)
def test_no_warnings(tmp_path: Path, compiler: str, standalone: bool) -> None:
    source = ""
    for name, make in {**SMALL, "attention": attention}.items():
        path = make().generate(tmp_path / f"{name}.hxx", standalone=standalone)
        source += use(path, f"TMVA_SOFIE_{name}")
    source += "int main() {}\n"
    flags = ["-O2", "-Wshadow=local"] if compiler == "g++" else ["-O2"]
    compile_program(tmp_path, source, flags, compiler, headers=not standalone)


def odd_models() -> list[Model]:
    """Graphs whose text once had variables that nobody uses, or comparisons that are always false."""
    half, brain = np.float16, ml_dtypes.bfloat16
    count = value("x", [3, 5], np.uint32)
    byte, one = value("x", [3, 5], np.uint8), value("x", [1])
    compare = [
        node("Less", ["x", "z"], ["a"]),
        node("GreaterOrEqual", ["x", "z"], ["b"]),
        node("Greater", ["z", "x"], ["c"]),
    ]
    repeat = [
        node("Tile", ["x", "t"], ["a"]),
        node("Reshape", ["a", "r"], ["b"]),
        node("GroupNormalization", ["b", "s", "s"], ["y"], num_groups=1),
    ]
    square, pad = node("Mul", ["x", "x"], ["m"]), node("Pad", ["x", "p"], ["a"], mode="edge")
    protos = [
        model([node("PRelu", ["x", "s"], ["y"])], [count], ["y"],
              [tensor("s", np.arange(5, dtype=np.uint32))]),
        model(compare, [byte], ["a", "b", "c"], [tensor("z", np.uint8(0))]),
        model([square, node("Cast", ["m"], ["y"], to=1)], [value("x", [4], half)], ["y"]),
        model(repeat, [one, value("s", [6])], ["y"],
              [tensor("t", np.array([144])), tensor("r", np.array([2, 6, 3, 4]))]),
        model([node("Greater", ["x", "x"], ["y"])], [value("x", [9], np.int8)], ["y"]),
        model([pad, node("ReduceL2", ["a"], ["y"])], [value("x", [40, 1])], ["y"],
              [tensor("p", np.array([2, 0, 2, 1]))]),
        model([square, node("ReduceMean", ["m"], ["y"])], [value("x", [1, "N", "N"], brain)], ["y"]),
        model([square, node("Sub", ["rows", "m"], ["y"])], [value("x", [1, 4])], ["y"],
              [tensor("rows", np.zeros((0, 4), np.float32))]),
    ]  # fmt: skip
    return [parsed(proto, f"odd{k}") for k, proto in enumerate(protos)]


@pytest.mark.parametrize("compiler", COMPILERS)
def test_no_warnings_in_odd_models(tmp_path: Path, compiler: str) -> None:
    source = ""
    for odd in odd_models():
        source += use(
            odd.generate(tmp_path / f"{odd.name}.hxx", standalone=False), f"TMVA_SOFIE_{odd.name}"
        )
    compile_program(tmp_path, source + "int main() {}\n", ["-O1", "-march=native"], compiler)


def test_a_standalone_header_includes_the_standard_library_only() -> None:
    for make in (*SMALL.values(), attention):
        text = make().header().text
        included = re.findall(r"^\s*#\s*include\s*(\S+)", text, re.MULTILINE)
        assert included
        others = [i for i in included if not re.fullmatch(r"<(\w+|immintrin\.h|sys/mman\.h)>", i)]
        assert not others
        assert not re.search(r"(?<!\w)sofie/(?!\w+/\w+\.hxx -)", _code(text))


def _code(text: str) -> str:
    return "\n".join(line.partition("//")[0] for line in text.splitlines())


@pytest.mark.parametrize("compiler", COMPILERS)
def test_headers_go_together(tmp_path: Path, compiler: str) -> None:
    """Twice the same, two models, names that differ in case, and both kinds of header in one program."""
    one = mlp(name="one").generate(tmp_path / "one.hxx")
    cnn(name="two").generate(tmp_path / "two.hxx")
    mlp((16, 8), name="One").generate(tmp_path / "One.hxx")
    rnn(name="three").generate(tmp_path / "three.hxx", standalone=False)
    headers = [one.name, "two.hxx", one.name, "One.hxx", "three.hxx", "two.hxx"]
    includes = "".join(f'#include "{h}"\n' for h in headers)
    other = tmp_path / "other.cpp"
    other.write_text(
        includes
        + "float other(const float* x) { return TMVA_SOFIE_one::Session().infer(1, x)[0]; }\n"
    )
    source = f"""{includes}
#include <cstdio>
float other(const float* x);
int main() {{
  std::vector<float> x(128, 0.5f);
  TMVA_SOFIE_one::Session one;
  TMVA_SOFIE_two::Session two;
  TMVA_SOFIE_One::Session small;
  TMVA_SOFIE_three::Session three;
  auto sequence = three.infer(2, 3, x.data());
  std::printf("%zu %zu %zu %zu %d\\n", one.infer(1, x.data()).size(), two.infer(x.data()).size(),
              small.infer(1, x.data()).size(), std::get<0>(sequence).size(),
              other(x.data()) == one.infer(1, x.data())[0]);
}}
"""
    program = compile_program(tmp_path, source, ["-O1", str(other)], compiler)
    assert run_program(program) == "5 3 8 72 1\n"


def test_two_models_of_one_name_do_not_compile(tmp_path: Path) -> None:
    """The second would silently be the first."""
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    mlp().generate(tmp_path / "a" / "m.hxx")
    cnn().generate(tmp_path / "b" / "m.hxx")
    source = '#include "a/m.hxx"\n#include "b/m.hxx"\nint main() {}\n'
    with pytest.raises(AssertionError, match="another model"):
        compile_program(tmp_path, source, ["-fsyntax-only"])


def test_existing_sofie_code_compiles(tmp_path: Path) -> None:
    folder = tmp_path / "somewhere else"
    folder.mkdir()
    cnn().generate(folder / "Conv.hxx")
    source = """#include "somewhere else/Conv.hxx"
#include <cstdio>
int main() {
  std::vector<float> x(128, 1.f);
  TMVA_SOFIE_Conv::Session s;
  auto y = s.infer(x.data());
  TMVA_SOFIE_Conv::Session t("somewhere else/Conv.dat");
  std::vector<float> z = t.infer(x.data());
  std::printf("%zu %d\\n", y.size(), y == z);
}
"""
    assert run_program(compile_program(tmp_path, source, headers=False)) == "3 1\n"


# -- names -----------------------------------------------------------------------------------------

HOSTILE = [
    'x"); system("id"); //', "a\nb", "\\", "name\\", "a??/", "??/\nint x;", "*/ int", "/*", "//",
    "R\"(", "%s%n", "\x00", "\x1b[2J", "\u2028", "\u202e", "😀", "粒子",
    "Größe", "", " ", "1", "1x", "_", "__x", "_X", "x__y", "-", "x.y", "x/y", "x:0", "x" * 300,
    "double", "class", "and", "xor_eq", "this", "operator", "new", "requires", "co_await", "char8_t",
    "main", "std", "sofie", "TMVA", "Session", "Weights", "Inputs", "Input0", "Output0", "infer",
    "infer_to", "prepare", "output_shape", "weights", "path", "file", "kHash", "kSymbols", "w", "w_",
    "acc", "i", "j", "k", "l", "r", "r1", "v0", "v_0", "best", "at", "current", "lane", "batch", "i12",
    "i_1", "arena_", "sizes_", "offsets_", "growing_", "N_", "N", "N_N", "y_result", "row", "output",
    "gemm_traits", "t_i", "t", "size_N", "sofie_", "nullptr_t", "size_t", "string", "vector", "float",
    "EOF", "NULL", "INFINITY", "M_PI", "SIZE_MAX", "EDOM", "errno", "assert", "offsetof", "stdin",
    "SOFIE_INLINE", "SOFIE_ISA", "linux", "unix", "minor", "major", "signbit", "isnan", "FILE",
    "MAX", "MIN", "I", "TRUE", "FALSE", "alloca", "type", "name", "rank", "shape", "dynamic",
]  # fmt: skip


def everything_called(name: str) -> Model:
    """A model in which an input, an output, a constant, temporaries, a node and a size have a name."""
    nodes = [
        node("Softmax", [name or "in"], [name + "s"], name=name),
        node("Add", [name + "s", name + "c"], [name + "_result"], name=name + "2"),
        node("NonZero", [name + "_result"], [name + "-"], name=name + "3"),
    ]
    tensors = [tensor(name + "c", weight(3))]
    inputs = [value(name or "in", [name + "x" if name.isspace() or not name else name, 3])]
    outputs = [name + "_result", name + "-"]
    return parsed(model(nodes, inputs, outputs, tensors), name or "empty")


def test_hostile_names_compile_and_run(tmp_path: Path) -> None:
    flags = ["-O0" if flag == "-O1" else flag for flag in FLAGS]
    library = Compiled([everything_called(n) for n in HOSTILE], tmp_path, flags=flags)
    x = weight(2, 3)
    expected = np.exp(x) / np.exp(x).sum(1, keepdims=True) + weight(3)
    for k, name in enumerate(HOSTILE):
        outputs = library.run(k, {name or "in": x})
        assert list(outputs) == [name + "_result", name + "-"]
        found = outputs[name + "_result"]
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6, err_msg=repr(name))
        assert outputs[name + "-"].shape == (2, 6)


CONTROL_NAMES = {
    "x": EVIL, "steps": "repeat_0", "N": "repeat_0", "start": "branch_0_", "end": "more_result",
    "rows": "next_result", "w": "trips", "zero": "again_", "sum": "iteration", "up": "again", "s": "w",
    "k": "sizes", "go": "a\nb", "more": "more", "next": "\\", "row": "repeat_body", "p": "branch_then",
    "e": "Session", "n": "Weights", "branch": "branch", "repeat": "a??/\nb", "step": "*/", "tanh": "class",
}  # fmt: skip
"""New names for everything in the model with control flow."""


def renamed(graph: GraphProto) -> None:
    """Gives the values, nodes, sizes and bodies of a graph their hostile names."""

    def new(name: str) -> str:
        return CONTROL_NAMES.get(name, name)

    graph.name = EVIL
    for item in (*graph.node, *graph.input, *graph.output, *graph.initializer):
        item.name = new(item.name)
    for port in (*graph.input, *graph.output):
        for dim in port.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_param = new(dim.dim_param)
    for each in graph.node:
        each.input[:] = map(new, each.input)
        each.output[:] = map(new, each.output)
        for attribute in each.attribute:
            if attribute.HasField("g"):
                renamed(attribute.g)


def names_of(graph: GraphProto) -> set[str]:
    """The names of values, nodes and sizes of a graph and its bodies."""
    items = (*graph.node, *graph.input, *graph.output, *graph.initializer)
    names = {item.name for item in items}
    for port in (*graph.input, *graph.output):
        names |= {dim.dim_param for dim in port.type.tensor_type.shape.dim}
    for each in graph.node:
        names |= {*each.input, *each.output}
        names |= set().union(*(names_of(a.g) for a in each.attribute if a.HasField("g")))
    return names


def test_hostile_names_in_control_flow(tmp_path: Path) -> None:
    proto = control_proto()
    assert CONTROL_NAMES.keys() <= names_of(proto.graph)
    renamed(proto.graph)
    library = Compiled([control(), parsed(proto, EVIL)], tmp_path)
    for k in range(4):
        x, steps = weight(3, 4, start=k) + np.float32(k % 2), np.array(k)
        expected = library.run(0, {"x": x, "steps": steps})
        found = library.run(1, {EVIL: x, "repeat_0": steps})
        assert found["next_result"].shape == (k,)
        np.testing.assert_array_equal(found["next_result"], expected["rows"])
        np.testing.assert_array_equal(found["more_result"], expected["end"])


def test_names_that_become_equal(tmp_path: Path) -> None:
    names = ["a.b", "a-b", "a b", "a_b", "a__b", "_a_b_", "a_b_2", "A_b", "ä_b", "t_a_b", "a/b"]
    nodes, last = [], names[0]
    for one, other in itertools.pairwise(names):
        nodes.append(node("Sub", [other, last], [f"{one}:{one}"], name="a_b"))
        last = f"{one}:{one}"
    inputs = [value(n, [n]) for n in names]
    library = Compiled([parsed(model(nodes, inputs, [value(last, None)]), "a_b")], tmp_path)
    arrays = {n: weight(4, start=k) for k, n in enumerate(names)}
    expected = arrays[names[0]]
    for n in names[1:]:
        expected = arrays[n] - expected
    np.testing.assert_allclose(library.run(0, arrays)[last], expected, rtol=1e-6, atol=1e-6)


def test_an_input_of_which_only_the_size_is_used(tmp_path: Path) -> None:
    nodes = [
        node("Shape", ["unused"], ["s"], name="size of unused"),
        node("Expand", ["x", "s"], ["e"], name="expand"),
        node("Mul", ["e", "other"], ["y"], name="unused == other"),
    ]
    inputs = [value("unused", ["a", "b"]), value("x", [1, 1]), value("other", ["c", "d"])]
    library = Compiled([parsed(model(nodes, inputs, [value("y", None)]), "unused")], tmp_path)
    x, other = weight(1, 1), weight(2, 3)
    found = library.run(0, {"unused": weight(2, 3), "x": x, "other": other})["y"]
    np.testing.assert_array_equal(found, x * other)
    with pytest.raises(RuntimeError, match="does not hold: 4 and 2"):
        library.run(0, {"unused": weight(4, 3), "x": x, "other": other})


def test_no_name_is_a_macro_of_the_headers(tmp_path: Path) -> None:
    """Whatever the standard headers define, a tensor of that name is called something else."""
    path = attention().generate(tmp_path / "m.hxx", standalone=False)
    path.write_text(
        path.read_text() + "#include <sofie/core/sort.hxx>\n#include <sofie/core/half.hxx>\n"
    )
    command = ["g++", "-std=c++17", "-march=native", f"-I{include_dir()}", "-dM", "-E", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    macros = set(re.findall(r"^#define ([A-Za-z]\w*)", done.stdout, re.MULTILINE))
    assert len(macros) > 300
    assert not {name for name in macros if Identifiers().fresh(name) in macros}


def test_identifiers_are_fresh_and_valid() -> None:
    names = Identifiers()
    found = [names.fresh(text) for text in [*HOSTILE, *HOSTILE, *KEYWORDS]]
    assert len(set(found)) == len(found)
    for name in found:
        assert re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name)
        assert "__" not in name
        assert name not in KEYWORDS
        assert not name.endswith("_")
        assert not VARIABLES.fullmatch(name)


@pytest.mark.parametrize("text", HOSTILE)
def test_strings_and_comments_stay_what_they_are(text: str) -> None:
    literal, remark = string_literal(text), comment(text)
    assert re.fullmatch(r'"([ !#->@-\[\]-~]|\\[0-7]{3})*"', literal)
    assert eval(f"b{literal}") == text.encode()
    assert remark == "" or remark.isprintable()
    assert not remark.endswith("\\")
    assert "??/" not in remark


def test_the_namespace_is_made_valid_or_refused() -> None:
    network = mlp()
    assert network.header(stem="my model-1").namespace == "TMVA_SOFIE_my_model_1"
    assert network.header(stem=EVIL).namespace == "TMVA_SOFIE_x_system_id"
    assert network.header(namespace="tagger").namespace == "tagger"
    for name in ("", "a b", "1a", "a::b", "class", "std", "x {} int", "a__b", "é", EVIL):
        with pytest.raises(InputError, match=r"cannot be a C\+\+ namespace"):
            network.header(namespace=name)
