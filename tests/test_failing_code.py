"""Code that does not compile, link or load leaves the process as it was: the next model works."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import headers
import numpy as np
import onnx
import pytest
from onnx_models import model, node, value
from test_runtime_toolchain import fresh, run_python  # noqa: F401 (a fixture)

import sofie_root
from sofie_root.errors import ToolchainError
from sofie_root.runtime import interpreter, trial
from sofie_root.runtime.interpreter import load_library
from sofie_root.runtime.session import open_header
from sofie_root.runtime.trial import failure_in_child, why_incomplete

X = np.array([[1, 2, 3, 4]], np.float32)


def broken(name: str) -> str:
    """A header with one fault, which the name says; the namespace has the name too."""
    text = headers.dense(name)
    before = "namespace TMVA_SOFIE"
    edits = {
        "undeclared": ("float sum", "undeclared_thing sum"),
        "no_include": ("#include <cmath>", "#include <no_such_header.hxx>"),
        "no_sofie_include": ("#include <cmath>", "#include <sofie/no_such_header.hxx>"),
        "unresolved": ("float sum = 0", "float sum = nowhere_defined()"),
        "unresolved_member": ("struct Session {", "struct S { ~S(); } static s;\nstruct Session {"),
        "throws": ("struct Session {", 'inline int f() { throw std::runtime_error("boom"); }\n'
                   "static int boom = f();\nstruct Session {"),
        "exits": ("struct Session {", "static int e = (std::exit(0), 1);\nstruct Session {"),
        "crashes": ("struct Session {", "static int s = *static_cast<volatile int*>(nullptr);\n"
                    "struct Session {"),
        "no_type": ("float sum = 0", "float sum = typename std::vector<int>::nothing{}"),
        "instantiation": ("y[n] = ", "y[n] = std::get<7>(std::tuple<int>(1)) * "),
        "assertion": ("struct Session {", 'static_assert(sizeof(int) == 8, "no");\nstruct Session {'),
        "hash_error": (before, "#error not here\nnamespace TMVA_SOFIE"),
        "halfway": (text[text.index("void infer_to") :], ""),
        "brace": ("float sum = 0", "{ float sum = 0"),
        "comment": ("float sum", "/* float sum"),
        "conditional": ("#endif", ""),
    }  # fmt: skip
    old, new = edits[name]
    text = text.replace(old, new, 1)
    if name == "unresolved":
        text = text.replace(before, "float nowhere_defined();\n" + before, 1)
    if name in ("exits", "throws"):
        text = text.replace("#include <cmath>", "#include <cmath>\n#include <cstdlib>")
    return text


FAULTS = {
    "undeclared": "undeclared_thing",
    "no_include": r"no_such_header\.hxx",
    "no_sofie_include": r"there is no header <sofie/no_such_header\.hxx>",
    "unresolved": "nowhere_defined",
    "unresolved_member": "Failed to materialize symbols",
    "throws": "boom",
    "exits": r"ends the process with exit\(\)",
    "crashes": "ends the process with SIGSEGV",
    "no_type": "nothing",
    "instantiation": "tuple",
    "assertion": "no",
    "hash_error": "not here",
    "halfway": "ends inside a brace|expected|unterminated",
    "brace": "ends inside a brace|expected",
    "comment": "ends inside a comment|unterminated comment",
    "conditional": "unterminated",
}


@pytest.mark.parametrize("jit", ["cling", "compiler"])
def test_the_next_model_works_and_so_does_the_same_when_mended(
    fresh: Path,  # noqa: F811
    jit: interpreter.Engine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "sofie_root.runtime.compiler.COMPILER_FLAGS", ("-std=c++17", "-fPIC", "-shared")
    )
    names = (
        list(FAULTS) if jit == "cling" else ["unresolved", "throws", "exits", "crashes", "halfway"]
    )
    wrong = []
    for name in names:
        try:
            load_library(broken(name), jit=jit)
            wrong.append(f"{name} was loaded")
        except sofie_root.SofieError as error:
            if not re.search(FAULTS[name], str(error)):
                wrong.append(f"{name}: {error}")
    assert not wrong, "\n".join(wrong)
    assert open_header(headers.dense("after_all", 2), jit=jit)(X).item() == 60
    for name in names[:4]:  # mended
        assert open_header(headers.dense(name), jit=jit)(X).item() == 30
    assert not list(fresh.glob(".part-*"))


def test_code_that_throws_still_works_after_a_symbol_that_nobody_defines(root: Any) -> None:
    """Cling could not link anything afterwards that shares an inline function with what failed."""
    with pytest.raises(ToolchainError, match="nowhere_defined"):
        load_library(broken("unresolved"), jit="cling")
    session = open_header(headers.typed(), jit="cling")
    with pytest.raises(sofie_root.SofieError, match="index 7 is out of range"):
        session(np.array([0, 7]), np.array([True, True]), np.array([5, 6], np.int32))
    df = sofie_root.define(root.RDataFrame(3).Define("x", "ROOT::RVecF{1, 2, 3, 4}"), "y",
                           open_header(headers.dense("later"), jit="cling"), ["x"])  # fmt: skip
    assert df.Sum["float"]("y").GetValue() == 90


class Halve(sofie_root.CppOp):
    """Its function is declared in a header, and defined in a library that may not be there."""

    header = ""
    function = "failing_code::halve"

    def infer(self, x: Any) -> Any:
        return x


def test_a_library_that_was_forgotten(tmp_path: Path, root: Any) -> None:
    """The same model works in the same process, once the library is loaded."""
    header = tmp_path / "halve.hxx"
    header.write_text(
        "#include <sofie/span.hxx>\nnamespace failing_code {\n"
        "void halve(sofie::Span<const float> x, sofie::Span<float> y);\n}\n"
    )
    (tmp_path / "halve.cxx").write_text(
        '#include "halve.hxx"\nvoid failing_code::halve(sofie::Span<const float> x, sofie::Span<float> y) {\n'
        "  for (std::size_t i = 0; i < x.size(); ++i) y.data()[i] = x.data()[i] / 2;\n}\n"
    )
    operator = type("Halve", (Halve,), {"header": str(header)})
    sofie_root.operator("Halve", domain="failing.code")(operator)
    proto = model(
        [node("Halve", ["x"], ["y"], domain="failing.code")], [value("x", [3])], [value("y", [3])]
    )
    proto.opset_import.append(onnx.helper.make_opsetid("failing.code", 1))
    onnx.save(proto, tmp_path / "halve.onnx")
    network = sofie_root.load(tmp_path / "halve.onnx")
    for jit in ("cling", "compiler"):
        with pytest.raises(ToolchainError, match=r"halve"):
            network.session(jit)
    library, include = tmp_path / "halve.so", interpreter.include_dir()
    command = ["g++", "-shared", "-fPIC", f"-I{include}", str(tmp_path / "halve.cxx")]
    subprocess.run([*command, "-o", str(library)], check=True)
    assert root.gSystem.Load(str(library)) == 0
    for jit in ("cling", "compiler"):
        np.testing.assert_array_equal(network.session(jit)([2, 4, 6]), [1, 2, 3])


def test_generated_code_that_cling_cannot_load_is_compiled(fresh: Path) -> None:  # noqa: F811
    """That would be a fault of ours. The compiler serves this model and all later ones."""
    code = """
        import headers, warnings
        from sofie_root.errors import ToolchainError
        from sofie_root.runtime import interpreter
        from sofie_root.runtime.interpreter import load_library
        from sofie_root.runtime.session import open_header
        bad = headers.dense("only_gcc").replace(
            "float sum", "\\n#ifdef __CLING__\\n  nothing\\n#endif\\n float sum")
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            print(load_library(bad, is_generated=True).engine)
        print(*("a C++ compiler is used: cling cannot compile" in str(w.message) for w in seen))
        print(open_header(headers.dense("next"))([[1, 2, 3, 4]]).item(), interpreter.choose_engine("auto"))
        try: load_library(headers.dense("next"), jit="cling")
        except ToolchainError as error: print(error)
        try: load_library(headers.dense("all").replace("float sum", "nothing"))
        except ToolchainError as error: print("nothing" in str(error))
    """
    out = run_python(code, SOFIE_ROOT_CACHE=str(fresh)).splitlines()
    assert out[:3] == ["compiler", "True", "30.0 compiler"]
    assert "use jit='compiler', or start Python again" in out[3]
    assert out[4] == "True"


# -- parts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("int f() { return '{' + 1'000'000 + 0x1'{'; }", None),
        ('const char* s = "{ /* \\" "; // { \\\n {', None),
        ("/* { */ int i; /* } // */", None),
        ('auto s = R"x({ )" )x"; auto t = u8R"({)";', None),
        ("#if A\nvoid f() {\n#else\nvoid g() {\n#endif\n}", None),
        ("#if 0\nvoid f() {\n#endif\n", None),
        ('#ifdef A\nextern "C" {\n#endif\nint i;\n#ifdef A\n}\n#endif\n', None),
        ("#ifndef A\nvoid f() {\n#endif\n", "brace"),
        ("#define BEGIN {\nvoid f() BEGIN }", None),
        ("#define PAIR { }  // {\nint i; }", None),
        ("#define LONG \\\n {\nint i;", None),
        ("", None),
        ("void f() {", "brace"),
        ("#if A\nvoid f() {\n#else\nvoid g() {\n#endif\n", "brace"),
        ("namespace a { /* } */", "brace"),
        ("namespace a { // }", "brace"),
        ("int i; /* ", "comment"),
        ("int i; /* /* */ /*", "comment"),
    ],
)
def test_incomplete_text(text: str, problem: str | None) -> None:
    found = why_incomplete(text)
    assert found is None if problem is None else problem in str(found)


def test_all_our_headers_are_complete() -> None:
    for path in interpreter.include_dir().rglob("*.hxx"):
        text = path.read_text()
        assert why_incomplete(text) is None
        if "{" in text:
            assert why_incomplete(text + "namespace a {") is not None


def test_what_a_child_does(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        os.write(2, b"said before\n")
        raise ValueError("went wrong")

    done: list[int] = []
    assert failure_in_child(lambda: done.append(1)) is None
    assert not done
    assert failure_in_child(fail) == "said before\nwent wrong"
    assert "exit code 3" in str(failure_in_child(lambda: os._exit(3)))
    assert "SIGABRT" in str(failure_in_child(os.abort))
    monkeypatch.setattr(trial, "PATIENCE", 0.3)
    assert "did not end" in str(failure_in_child(lambda: __import__("time").sleep(60)))
