"""How headers become code: what compiles them, the cache, and ROOT's start."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import headers
import numpy as np
import pytest

from sofie_root.errors import ToolchainError
from sofie_root.runtime import compiler, interpreter
from sofie_root.runtime.interpreter import CLING_FLAGS, choose_engine, load_library
from sofie_root.runtime.session import open_header

REPOSITORY = Path(__file__).parent.parent
X = np.array([[1, 2, 3, 4]], np.float32)


def run_python(code: str, **environment: str) -> str:
    """Standard output of a fresh Python process; its `headers` are ours."""
    paths = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests")])
    base = {k: v for k, v in os.environ.items() if k not in ("EXTRA_CLING_ARGS", "CXX")}
    done = subprocess.run(
        [sys.executable, "-W", "ignore:\nThis distribution of ROOT", "-c", textwrap.dedent(code)],
        env=base | {"PYTHONPATH": paths} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache, and nothing loaded yet: as in a new process."""
    monkeypatch.setattr(interpreter, "_libraries", {})
    monkeypatch.setenv("SOFIE_ROOT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


# -- names -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("jit", ["cling", "compiler"])
def test_the_same_text_is_loaded_once(jit: interpreter.Engine) -> None:
    assert load_library(headers.dense(), jit=jit) is load_library(headers.dense(), jit=jit)


@pytest.mark.parametrize("jit", ["cling", "compiler"])
def test_two_models_of_one_name(jit: interpreter.Engine) -> None:
    one = open_header(headers.dense("twin", 1), jit=jit)
    two = open_header(headers.dense("twin", 2), jit=jit)
    assert (one(X).item(), two(X).item(), one(X).item()) == (30, 60, 30)
    assert one.library.session_type() != two.library.session_type()


def test_a_header_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "dense.hxx"
    path.write_text(headers.dense())
    assert load_library(path, jit="compiler") is load_library(headers.dense(), jit="compiler")


def test_something_else_than_a_header() -> None:
    with pytest.raises(ToolchainError, match="not a header of sofie_root"):
        load_library("int main() {}", jit="compiler")


# -- errors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("jit", ["cling", "compiler"])
def test_a_header_that_does_not_compile(jit: interpreter.Engine) -> None:
    with pytest.raises(ToolchainError, match="undeclared_thing"):
        load_library(headers.dense().replace("float sum", "undeclared_thing sum"), jit=jit)


@pytest.mark.parametrize("jit", ["cling", "compiler"])
def test_a_symbol_that_nobody_defines(jit: interpreter.Engine) -> None:
    header = headers.dense("unresolved").replace("float sum = 0", "float sum = nowhere_defined()")
    header = header.replace("namespace TMVA", "float nowhere_defined();\nnamespace TMVA", 1)
    with pytest.raises(ToolchainError, match=r"link|nowhere_defined"):
        load_library(header, jit=jit)


def test_a_compiler_that_fails(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "false")
    with pytest.raises(ToolchainError, match=r"false cannot make a shared library of any C\+\+17"):
        load_library(headers.dense(), jit="compiler")
    assert not list(fresh.rglob("*.so"))


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("/nowhere/c++ -O1", "CXX='/nowhere/c\\+\\+ -O1': there is no program '/nowhere/c\\+\\+'"),
        ("no-such-compiler", "there is no program 'no-such-compiler'"),
        ("g++ 'unclosed", "is no command: No closing quotation"),
        ("''", "there is no program ''"),
        ("true", "true ended without an error and without a result: is it a C\\+\\+ compiler"),
        ("ls", "cannot make a shared library of any C\\+\\+17 program"),
        ("env no-such-compiler", "cannot make a shared library.*\n.*no-such-compiler"),
        ("g++ -std=c++14 -g0", None),  # ours comes later and wins
        ("g++ -fuse-ld=nowhere", "cannot make a shared library.*\n.*nowhere"),
        ("g++ -lno_such_library", "cannot make a shared library.*\n.*no_such_library"),
        ("SCRIPT old", "cannot make a shared library.*\n.*unrecognized.*-std=c\\+\\+17"),
        ("SCRIPT not-a-program", "cannot be run: Exec format error"),
        ("SCRIPT empty", "cannot be loaded: .*file too short"),
    ],
)
def test_compilers_of_all_sorts(
    fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, message: str | None
) -> None:
    script = tmp_path / "a compiler"
    script.write_text(
        {
            "SCRIPT old": "#!/bin/sh\necho \"unrecognized command line option '-std=c++17'\" >&2; exit 1",
            "SCRIPT not-a-program": "this is no program",
            "SCRIPT empty": '#!/bin/sh\nfor last; do :; done; [ "$1" = --version ] || : > "$last"',
        }.get(command, "")
    )
    script.chmod(0o755)
    monkeypatch.setenv("CXX", str(script) if command.startswith("SCRIPT") else command)
    header = headers.dense(f"compiler_{abs(hash(command))}")
    if message is None:
        assert open_header(header, jit="compiler")(X).item() == 30
    else:
        with pytest.raises(ToolchainError, match=message):
            load_library(header, jit="compiler")
        assert not list(fresh.glob("compiled-*"))  # nothing broken is kept
    assert not list(fresh.glob(".part-*"))


def test_a_missing_compiler_does_not_matter_where_none_is_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CXX", "/nowhere/c++")
    assert choose_engine("auto") == "cling"
    monkeypatch.setattr(interpreter, "prepare_cling", lambda: False)
    with pytest.raises(ToolchainError, match="/nowhere/c"):
        choose_engine("auto")


# -- choice ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("jit", "root", "flags", "compiler", "expected"),
    [
        ("auto", True, True, True, "cling"),
        ("auto", True, False, True, "compiler"),
        ("auto", True, True, False, "cling"),
        ("auto", False, True, True, "compiler"),
        ("auto", False, True, False, None),
        ("cling", True, False, True, "cling"),
        ("cling", False, True, True, None),
        ("compiler", True, True, True, "compiler"),
        ("compiler", True, True, False, None),
        ("gcc", True, True, True, None),
    ],
)
def test_choice_of_engine(
    monkeypatch: pytest.MonkeyPatch,
    jit: interpreter.Jit,
    root: bool,
    flags: bool,
    compiler: bool,
    expected: str | None,
) -> None:
    monkeypatch.setattr(interpreter, "is_root_installed", lambda: root)
    monkeypatch.setattr(interpreter, "prepare_cling", lambda: flags)
    monkeypatch.setattr(interpreter, "find_compiler", lambda: ("c++",) if compiler else None)
    if expected is None:
        with pytest.raises(ToolchainError):
            choose_engine(jit)
    else:
        assert choose_engine(jit) == expected


def test_cling_without_flags_and_without_compiler_warns_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(interpreter, "prepare_cling", lambda: False)
    monkeypatch.setattr(interpreter, "find_compiler", lambda: None)
    monkeypatch.setattr(interpreter, "_has_warned", False)
    with pytest.warns(UserWarning, match="import sofie_root before"):
        assert choose_engine("auto") == "cling"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert choose_engine("auto") == "cling"


def test_compiler_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "env g++ -pipe")
    assert compiler.find_compiler() == (shutil.which("env"), "g++", "-pipe")
    monkeypatch.setenv("CXX", " ")
    assert compiler.find_compiler() in [(shutil.which(c),) for c in ("c++", "g++", "clang++")]
    monkeypatch.delenv("CXX")
    monkeypatch.setenv("PATH", "/nowhere")
    assert compiler.find_compiler() is None


# -- cache -----------------------------------------------------------------------------------------


@pytest.fixture
def counting_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A compiler that leaves a line in a file each time it compiles."""
    log, script = tmp_path / "compiled", tmp_path / "c++"
    real = shutil.which("g++") or shutil.which("c++")
    script.write_text(f'#!/bin/sh\n[ "$1" = --version ] || echo 1 >> "{log}"\nexec {real} "$@"\n')
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("CXX", str(script))
    log.touch()
    return log


def load_as_new_process(monkeypatch: pytest.MonkeyPatch, header: str) -> float:
    monkeypatch.setattr(interpreter, "_libraries", {})
    result: float = open_header(header, jit="compiler")(X).item()
    return result


def test_a_header_is_compiled_once(
    fresh: Path, counting_compiler: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def count() -> int:
        return len(counting_compiler.read_text().splitlines())

    assert load_as_new_process(monkeypatch, headers.dense()) == 30
    assert load_as_new_process(monkeypatch, headers.dense()) == 30
    assert count() == 1
    assert load_as_new_process(monkeypatch, headers.dense(scale=2)) == 60
    assert count() == 2
    left = {p.name.partition("-")[0] for p in fresh.iterdir()}  # and no scratch
    assert left == {"compiled", ".lock"}
    assert len(list(fresh.glob("compiled-*/*.so"))) == 2

    monkeypatch.setattr(compiler, "_cpu", lambda: "another processor")
    assert load_as_new_process(monkeypatch, headers.dense()) == 30
    assert count() == 3
    monkeypatch.setattr(compiler, "COMPILER_FLAGS", (*compiler.COMPILER_FLAGS, "-O1"))
    assert load_as_new_process(monkeypatch, headers.dense()) == 30
    assert count() == 4


def test_an_included_header_is_part_of_the_key() -> None:
    digests = {
        interpreter.text_digest(text)
        for text in ("", "#include <sofie/cpu/math.hxx>", "#include <sofie/cpu/simd.hxx>")
    }
    assert len(digests) == 3


# -- ROOT's start ----------------------------------------------------------------------------------

REPORT = """
import os, sys
from sofie_root.runtime.interpreter import choose_engine
print(os.environ.get("EXTRA_CLING_ARGS"), choose_engine("auto"), sep="|")
"""


def test_flags_are_set_before_root_starts_and_root_is_not_imported() -> None:
    code = "import sofie_root, sys; print('ROOT' in sys.modules)\n" + REPORT
    assert run_python(code) == f"False\n{' '.join(CLING_FLAGS)}|cling\n"


def test_importing_root_first_is_fine_as_long_as_it_has_not_started() -> None:
    assert run_python("import ROOT, sofie_root\n" + REPORT).endswith("|cling\n")


def test_root_that_started_without_flags_is_not_used() -> None:
    code = "import ROOT; ROOT.gInterpreter; import sofie_root\n" + REPORT
    assert run_python(code) == "None|compiler\n"


def test_root_that_started_with_the_flags_is_used() -> None:
    code = "import ROOT; ROOT.gInterpreter; import sofie_root\n" + REPORT
    flags = " ".join(CLING_FLAGS)
    assert run_python(code, EXTRA_CLING_ARGS=flags) == f"{flags}|cling\n"


def test_flags_of_the_user_stay() -> None:
    mine = "-O3 -DMINE -march=x86-64-v3"
    out = run_python("import sofie_root\n" + REPORT, EXTRA_CLING_ARGS=mine)
    assert out == f"{mine} -fopenmp-simd -mllvm -optimize-regalloc|cling\n"


def test_flags_are_not_repeated_in_a_child_process() -> None:
    """LLVM ends the process when an -mllvm option comes twice."""
    code = """
        import os, subprocess, sys, sofie_root
        child = "import sofie_root, ROOT; print(ROOT.gROOT.GetVersion(), os.environ['EXTRA_CLING_ARGS'])"
        subprocess.run([sys.executable, "-W", "ignore", "-c", "import os;" + child], check=True)
    """
    assert run_python(code).count("-optimize-regalloc") == 1


def test_cling_keeps_accumulators_in_registers() -> None:
    """The flags do what they are for: a dense layer runs several times faster than without them."""
    code = """
        import sys, timeit
        if sys.argv[1:] == ["plain"]: import ROOT; ROOT.gInterpreter
        import headers, numpy as np
        from sofie_root.runtime.session import open_header
        body = '''for (std::size_t n = 0; n < N; ++n) {
            float sum[16] = {};
            for (int k = 0; k < 4096; ++k) for (int j = 0; j < 16; ++j) sum[j] += x[n * 4096 + k] * 0.5f;
            y[n] = sum[0] + sum[7]; }'''
        T = headers.Tensor
        session = open_header(
            headers.header("speed", ["N"], [T("x", ("N", 4096))], [T("y", ("N",))], body), jit="cling")
        x = np.ones((8, 4096), np.float32)
        session(x)
        print(min(timeit.repeat(lambda: session(x), number=3, repeat=5)))
    """
    fast = float(run_python(code.replace("sys.argv[1:]", "[]")))
    slow = float(run_python(code.replace("sys.argv[1:]", "['plain']")))
    assert fast < slow / 2


@pytest.mark.parametrize("jit", ["cling", "compiler"])
def test_no_crash_at_exit_with_live_sessions(jit: str) -> None:
    code = f"""
        import sofie_root, headers
        from sofie_root.runtime.session import open_header
        session = open_header(headers.dense(), jit={jit!r})
        print(session([[1, 2, 3, 4]]).item())
    """
    assert run_python(code) == "30.0\n"
