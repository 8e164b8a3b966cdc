"""Operators that a user registers: as loops, and as C++ functions in a header of theirs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from cpp_program import compile_program, run_program
from onnx_models import model, node, tensor, value

import sofie_root
from sofie_root import cli
from sofie_root.errors import SofieError, UnsupportedError
from sofie_root.ir import OPERATORS, runtime_size
from sofie_root.program.expr import call, compare, select

REPOSITORY = Path(__file__).parents[1]
DOMAIN = "test.domain"

HEADER = """\
#pragma once
#include <cstdint>
#include <array>
#include <sofie/span.hxx>
#include "helper.hxx"

namespace mine {
using sofie::Span;

inline void scale(Span<const float> x, Span<float> y, float factor) {
  for (std::size_t i = 0; i < x.size(); ++i) y[i] = factor * x[i];
}

struct Mix {
  // columns of x that are chosen, plus a bias that may be missing; and how many were chosen
  static void Compute(Span<const float> x, Span<const bool> chosen, Span<const float> bias,
                      Span<float> y, Span<std::int64_t> counts, std::int64_t repeat, const char* how,
                      std::array<float, 2> range, std::array<std::int64_t, 3> three) {
    if (counts.rank() != 1 || three[2] != 7 || how[0] != '"') return;
    for (std::size_t i = 0; i < x.dim(0); ++i) {
      counts(i) = 0;
      y(i) = bias.data() != nullptr ? bias[i] : 0;
      for (std::size_t j = 0; j < x.dim(1); ++j) {
        if (!chosen[j]) continue;
        counts[i] += repeat;
        y(i) += clamped(x(i, j), range[0], range[1]);
      }
    }
  }
};
}  // namespace mine
"""

HELPER = """\
#pragma once
namespace mine {
inline float clamped(float x, float low, float high) { return x < low ? low : x > high ? high : x; }
}
"""


@pytest.fixture(autouse=True)
def registry() -> Iterator[None]:
    """What a test registers is forgotten after it."""
    before = dict(OPERATORS)
    yield
    OPERATORS.clear()
    OPERATORS.update(before)


@pytest.fixture
def header(tmp_path: Path) -> Path:
    (tmp_path / "helper.hxx").write_text(HELPER)
    (tmp_path / "mine.hxx").write_text(HEADER)
    return tmp_path / "mine.hxx"


def saved(path: Path, nodes: Any, inputs: Any, outputs: Any, constants: Any = ()) -> Path:
    onnx.save(model(nodes, inputs, outputs, constants, domains={DOMAIN: 1}), path)
    return path


def register_scale(header_: Path, with_reference: bool = True) -> type[sofie_root.CppOp]:
    @sofie_root.operator("Scale", domain=DOMAIN)
    class Scale(sofie_root.CppOp):
        header = str(header_)
        function = "mine::scale"
        factor: float = 2.0

        def infer(self, x: sofie_root.TensorType) -> sofie_root.TensorType:
            return x

    if with_reference:
        Scale.reference = lambda self, x: x * np.float32(self.factor)  # type: ignore[method-assign]
    return Scale


def scale_model(path: Path) -> Path:
    """y = relu(3 * -x) + 1, so that the operator stands between loops."""
    nodes = [
        node("Neg", ["x"], ["n"]),
        node("Scale", ["n"], ["s"], domain=DOMAIN, factor=3.0, name="my scale"),
        node("Relu", ["s"], ["r"]),
        node("Add", ["r", "one"], ["y"]),
    ]
    constants = [tensor("one", np.float32(1))]
    return saved(path, nodes, [value("x", ["N", 3])], [value("y", ["N", 3])], constants)


def scaled(x: np.ndarray) -> np.ndarray:
    return np.maximum(-3 * x, 0) + 1


X = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)


def test_tutorial() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(REPOSITORY / "tutorials" / "custom_operator.py")],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "isolation  float[jets]" in done.stdout
    assert "[0. 0.]" in done.stdout
    assert "nearest.hxx is in it: True" in done.stdout


@pytest.mark.parametrize("jit", ["cling", "compiler"])
def test_loops(tmp_path: Path, jit: Any) -> None:
    """An operator of ten lines, with an attribute and a symbolic dim; also through .root."""

    @sofie_root.operator("Leaky", domain=DOMAIN)
    class Leaky(sofie_root.Op):
        slope: float
        cut: int = 0

        def infer(self, x: Any) -> Any:
            return x

        def lower(self, b: Any, x: Any) -> Any:
            def element(*i: Any) -> Any:
                below = compare("lt", x[i], float(self.cut))
                return select(below, x[i] * self.slope, call("exp", x[i]))

            return b.loop(x.shape, element)

    nodes = [node("Leaky", ["x"], ["y"], domain=DOMAIN, slope=0.25)]
    path = saved(tmp_path / "m.onnx", nodes, [value("x", ["N", "M"])], [value("y", ["N", "M"])])
    loaded = sofie_root.load(path)
    loaded.save(tmp_path / "m.root")
    for candidate in (loaded, sofie_root.load(tmp_path / "m.root")):
        session = candidate.session(jit)
        for x in (X, X[:1], X.T.copy()):
            expected = np.where(x < 0, x / 4, np.exp(x))
            np.testing.assert_allclose(session(x), expected, rtol=1e-6)
        assert candidate.example is not None
    assert loaded.check(jit=jit).ok


@pytest.mark.parametrize("jit", ["cling", "compiler"])
def test_cpp(tmp_path: Path, header: Path, jit: Any) -> None:
    register_scale(header)
    loaded = sofie_root.load(scale_model(tmp_path / "m.onnx"))
    assert loaded.example is not None
    loaded.save(tmp_path / "m.root")
    for candidate in (loaded, sofie_root.load(tmp_path / "m.root")):
        session = candidate.session(jit)
        for x in (X, X[:0], X[:1], np.tile(X, (9, 1))):
            np.testing.assert_allclose(session(x), scaled(x), rtol=1e-6)
    report = loaded.check(jit=jit)
    assert report.ok
    assert "interpreter" in report.reference
    assert "operators of yours (Scale)" in str(report)


def test_the_reference_target_calls_it_too(tmp_path: Path, header: Path) -> None:
    register_scale(header)
    loaded = sofie_root.load(scale_model(tmp_path / "m.onnx"))
    session = loaded.session("compiler", target="reference")
    np.testing.assert_allclose(session(X), scaled(X), rtol=1e-6)


def test_a_wrong_function_fails_the_self_test(tmp_path: Path, header: Path) -> None:
    register_scale(header)
    header.write_text(HEADER.replace("factor * x[i]", "factor + x[i]").replace("mine", "wrong"))
    (tmp_path / "helper.hxx").write_text(HELPER.replace("mine", "wrong"))
    OPERATORS[DOMAIN, "Scale"].function = "wrong::scale"  # type: ignore[attr-defined]
    loaded = sofie_root.load(scale_model(tmp_path / "m.onnx"))
    with pytest.raises(SofieError, match="self-test failed"):
        loaded.session("compiler")


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_cpp_with_everything(
    tmp_path: Path, header: Path, monkeypatch: pytest.MonkeyPatch, bias: bool, dtype: Any
) -> None:
    """Several inputs and outputs, omitted inputs, unread outputs, every kind of attribute."""

    @sofie_root.operator("Mix", domain=DOMAIN)
    class Mix(sofie_root.CppOp):
        header = "mine.hxx"
        function = "mine::Mix::Compute"
        repeat: int
        how: str
        range: tuple[float, ...]
        three: tuple[int, ...] = (5, 6, 7)

        def infer(self, x: Any, chosen: Any, bias: Any = None) -> Any:
            shape = x.shape[:1]
            counts = sofie_root.TensorType(type(x.dtype).INT64, shape)
            return sofie_root.TensorType(x.dtype, shape), counts

    inputs = ["x", "chosen", "bias"] if bias else ["x", "chosen"]
    attributes = {"repeat": 2, "how": '"); //', "range": [-0.5, 0.5]}
    nodes = [
        node("Mix", inputs, ["y", "counts"], domain=DOMAIN, **attributes),
        node("Mix", inputs, ["", "again"], domain=DOMAIN, **{**attributes, "repeat": 1}),
    ]
    shapes = {"x": ["N", "M"], "chosen": ["M"], "bias": ["N"]}
    dtypes = {"x": dtype, "chosen": np.bool_, "bias": dtype}
    path = saved(
        tmp_path / "m.onnx",
        nodes,
        [value(n, shapes[n], dtypes[n]) for n in inputs],
        [value("y", ["N"], dtype), value("counts", ["N"], np.int64), "again"],
    )
    monkeypatch.chdir(tmp_path)  # where mine.hxx is
    session = sofie_root.load(path).session("compiler")
    x, chosen = X.astype(dtype), np.array([True, False, True])
    given = {"x": x, "chosen": chosen} | ({"bias": np.arange(4).astype(dtype)} if bias else {})
    found = session.run(given)
    expected = np.clip(x, -0.5, 0.5)[:, chosen].astype(np.float32).sum(axis=1)
    expected = (expected + (np.arange(4) if bias else 0)).astype(dtype)
    np.testing.assert_allclose(found["y"], expected, rtol=1e-3 if dtype is np.float16 else 1e-6)
    np.testing.assert_array_equal(found["counts"], [4] * 4)
    np.testing.assert_array_equal(found["again"], [2] * 4)


def test_omitted_input_in_the_middle(tmp_path: Path) -> None:
    (tmp_path / "first.hxx").write_text(
        "#include <sofie/span.hxx>\n"
        "namespace First { inline void Compute(sofie::Span<const float> a, sofie::Span<const float> b,\n"
        "    sofie::Span<float> y) { y[0] = a.size() == 0 && a.data() == nullptr ? b[0] : a[0]; } }\n"
    )

    @sofie_root.operator("First", domain=DOMAIN)
    class First(sofie_root.CppOp):
        """The function has SOFIE's name: First::Compute."""

        header = str(tmp_path / "first.hxx")

        def infer(self, a: Any, b: Any) -> Any:
            return b

        def reference(self, a: Any, b: Any) -> Any:
            return b if a is None else a

    nodes = [node("First", ["", "x"], ["y"], domain=DOMAIN)]
    path = saved(tmp_path / "m.onnx", nodes, [value("x", [1])], [value("y", [1])])
    assert sofie_root.load(path).session("cling")(np.array([4], np.float32)) == 4


def test_constant_inputs_are_folded_where_there_is_a_reference(
    tmp_path: Path, header: Path
) -> None:
    nodes = [
        node("Scale", ["c"], ["s"], domain=DOMAIN),
        node("Add", ["x", "s"], ["y"]),
    ]
    path = saved(
        tmp_path / "m.onnx",
        nodes,
        [value("x", [2])],
        [value("y", [2])],
        [tensor("c", np.array([1, 2], np.float32))],
    )
    for with_reference in (True, False):
        register_scale(header, with_reference)
        loaded = sofie_root.load(path)
        assert ("mine::scale" in loaded.header().text.partition("struct Session")[2]) != (
            with_reference
        )
        np.testing.assert_array_equal(loaded.session("cling")([0, 1]), [2, 5])


def test_inside_a_branch(tmp_path: Path, header: Path) -> None:
    register_scale(header, with_reference=False)
    branches = [
        onnx.helper.make_graph([n], "b", [], [value("b", ["N"])])
        for n in (
            node("Scale", ["x"], ["b"], domain=DOMAIN),
            node("Neg", ["x"], ["b"]),
        )
    ]
    nodes = [node("If", ["c"], ["y"], then_branch=branches[0], else_branch=branches[1])]
    inputs = [value("c", [], np.bool_), value("x", ["N"])]
    loaded = sofie_root.load(saved(tmp_path / "m.onnx", nodes, inputs, [value("y", ["N"])]))
    assert loaded.example is None
    session = loaded.session("cling")
    x = np.array([1, 2, 3], np.float32)
    np.testing.assert_array_equal(session(np.array(True), x), 2 * x)
    np.testing.assert_array_equal(session(np.array(False), x), -x)


# -- files -----------------------------------------------------------------------------------------


def test_standalone_headers_carry_the_code(tmp_path: Path, header: Path) -> None:
    """Two models and the user's own include in one program, without our headers, sources moved away."""
    register_scale(header)
    loaded = sofie_root.load(scale_model(tmp_path / "m.onnx"))
    place = tmp_path / "elsewhere"
    place.mkdir()
    for name in ("one", "two"):
        loaded.generate(place / f"{name}.hxx", weights="embedded")
    text = (place / "one.hxx").read_text()
    assert text.count("inline float clamped") == 1
    assert "#include <sofie/" not in text
    assert str(tmp_path) not in text
    header.unlink()
    program = compile_program(
        place,
        '#include "one.hxx"\n#include "two.hxx"\n#include <cstdio>\n'
        "int main() {\n"
        "  const float x[3] = {-1, 0, 1};\n"
        '  for (float y : TMVA_SOFIE_one::Session().infer(1, x)) std::printf("%g ", y);\n'
        '  for (float y : TMVA_SOFIE_two::Session().infer(1, x)) std::printf("%g ", y);\n'
        "}\n",
        headers=False,
    )
    assert run_program(program) == "4 1 1 4 1 1 "


def test_other_headers_include_the_users(tmp_path: Path, header: Path) -> None:
    register_scale(header)
    loaded = sofie_root.load(scale_model(tmp_path / "m.onnx"))
    text = loaded.generate(tmp_path / "m.hxx", standalone=False).read_text()
    assert '#include "mine.hxx"' in text
    assert "#include <sofie/span.hxx>" in text
    assert "inline void scale" not in text
    program = compile_program(
        tmp_path,
        '#include "m.hxx"\n#include <cstdio>\n'
        "int main() {\n"
        "  const float x[3] = {-1, 0, 1};\n"
        '  for (float y : TMVA_SOFIE_m::Session().infer(1, x)) std::printf("%g ", y);\n'
        "}\n",
    )
    assert run_program(program) == "4 1 1 "


def test_an_edited_header_is_compiled_again(tmp_path: Path, header: Path) -> None:
    register_scale(header, with_reference=False)
    path = scale_model(tmp_path / "m.onnx")
    first = sofie_root.load(path).session("compiler")(X)
    header.write_text(HEADER.replace("factor * x[i]", "2 * factor * x[i]"))
    second = sofie_root.load(path).session("compiler")(X)
    np.testing.assert_allclose(second - 1, 2 * (first - 1))


def test_root_file_without_the_registration(tmp_path: Path, header: Path) -> None:
    (tmp_path / "my_operators.py").write_text(
        "import sofie_root\n"
        f"@sofie_root.operator('Scale', domain={DOMAIN!r})\n"
        "class Scale(sofie_root.CppOp):\n"
        "    header, function = 'mine.hxx', 'mine::scale'\n"
        "    factor: float = 1.0\n"
        "    def infer(self, x):\n"
        "        return x\n"
    )
    path = scale_model(tmp_path / "m.onnx")
    with pytest.raises(UnsupportedError) as refused:
        sofie_root.load(path)
    message = str(refused.value)
    for part in ("'my scale'", "Scale", DOMAIN, "@sofie_root.operator('Scale', domain="):
        assert part in message
    sys.path.insert(0, str(tmp_path))
    try:
        __import__("my_operators")
        sofie_root.load(path).save(tmp_path / "m.root")
    finally:
        sys.path.remove(str(tmp_path))
        del sys.modules["my_operators"]
    del OPERATORS[DOMAIN, "Scale"]
    with pytest.raises(UnsupportedError) as refused:
        sofie_root.load(tmp_path / "m.root")
    message = str(refused.value)
    for part in ("'my scale'", "Scale", DOMAIN, "import the module 'my_operators'", "m.root"):
        assert part in message


def test_command_line(tmp_path: Path, header: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "ops.py").write_text(
        "import sofie_root\n"
        f"@sofie_root.operator('Scale', domain={DOMAIN!r})\n"
        "class Scale(sofie_root.CppOp):\n"
        "    header, function = 'mine.hxx', 'mine::scale'\n"
        "    factor: float = 1.0\n"
        "    def infer(self, x):\n"
        "        return x\n"
    )
    path, ops = scale_model(tmp_path / "m.onnx"), ["--operators", str(tmp_path / "ops.py")]
    assert cli.main(["inspect", str(path)]) == 1
    assert "--operators" in capsys.readouterr().err
    assert cli.main(["inspect", str(path), *ops]) == 0
    assert "Scale" in capsys.readouterr().out
    assert cli.main(["check", str(path), *ops]) == 1
    assert "Scale has no reference()" in capsys.readouterr().err
    np.savez(tmp_path / "x.npz", x=X)
    np.savez(tmp_path / "y.npz", y=scaled(X))
    stored = ["--inputs", str(tmp_path / "x.npz"), "--outputs", str(tmp_path / "y.npz")]
    assert cli.main(["check", str(path), *ops, *stored]) == 0
    assert "did not test itself: Scale" in capsys.readouterr().out
    assert cli.main(["inspect", str(path), "--operators", str(tmp_path / "none.py")]) == 1
    assert "none.py" in capsys.readouterr().err


# -- what cannot be done ---------------------------------------------------------------------------


def test_check_without_a_reference(tmp_path: Path, header: Path) -> None:
    register_scale(header, with_reference=False)
    loaded = sofie_root.load(scale_model(tmp_path / "m.onnx"))
    with pytest.raises(SofieError, match=r"Scale has no reference\(\)"):
        loaded.check()
    report = loaded.check(inputs={"x": X}, outputs={"y": scaled(X)})
    assert report.ok
    assert "did not test itself: Scale" in str(report)
    assert not loaded.check(inputs={"x": X}, outputs={"y": scaled(X) + 1}).ok


def test_header_that_is_not_there(tmp_path: Path) -> None:
    register_scale(tmp_path / "nowhere.hxx")
    loaded = sofie_root.load(scale_model(tmp_path / "m.onnx"))
    with pytest.raises(SofieError, match=r"nowhere\.hxx.*was not found in .*tests"):
        loaded.header()


def test_standalone_with_other_headers_of_ours(tmp_path: Path, header: Path) -> None:
    header.write_text("#include <sofie/cpu/math.hxx>\n" + HEADER)
    register_scale(header)
    loaded = sofie_root.load(scale_model(tmp_path / "m.onnx"))
    with pytest.raises(SofieError, match=r"mine\.hxx.*<sofie/cpu/math\.hxx>.*standalone=False"):
        loaded.header()
    assert "mine.hxx" in loaded.header(standalone=False).text


@pytest.mark.parametrize(
    ("shape", "attributes", "message"),
    [
        ([1] * 9, {}, "up to 8 axes"),
        ([2], {"texts": ["a", "b"]}, "attribute texts="),
        (["N"], {}, "write this operator with lower"),
    ],
)
def test_what_a_function_cannot_take(
    tmp_path: Path, header: Path, shape: Any, attributes: Any, message: str
) -> None:
    @sofie_root.operator("Odd", domain=DOMAIN)
    class Odd(sofie_root.CppOp):
        header = str(tmp_path / "mine.hxx")
        texts: tuple[str, ...] = ()

        def infer(self, x: Any) -> Any:
            sizes = x.shape if shape != ["N"] else (runtime_size(0),)
            return sofie_root.TensorType(x.dtype, sizes)

    nodes = [node("Odd", ["x"], ["y"], domain=DOMAIN, name="odd one", **attributes)]
    loaded = sofie_root.load(saved(tmp_path / "m.onnx", nodes, [value("x", shape)], ["y"]))
    with pytest.raises(SofieError, match=message) as failed:
        loaded.header()
    assert "'odd one'" in str(failed.value)


def test_attributes_that_do_not_fit(tmp_path: Path, header: Path) -> None:
    register_scale(header)
    nodes = [node("Scale", ["x"], ["y"], domain=DOMAIN, factr=3.0, name="typo")]
    path = saved(tmp_path / "m.onnx", nodes, [value("x", [1])], [value("y", [1])])
    with pytest.raises(UnsupportedError, match=r"'typo': attribute factr=3\.0 is not supported"):
        sofie_root.load(path)
