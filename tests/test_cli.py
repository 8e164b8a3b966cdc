"""The command `sofie-root`: what it prints, what it writes, and how it fails."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import uproot
from onnx_models import model, node, tensor, value
from small_models import control_proto

import sofie_root
from rootbench.zoo_folder import ABSENT, ZOO
from sofie_root import cli, config
from sofie_root.storage import root_file, weights

RNG = np.random.default_rng(0)


@pytest.fixture
def tagger(tmp_path: Path) -> Path:
    """A small network with a symbolic dim, and names that a terminal should not get."""
    nodes = [
        node("Gemm", ["x", "w1", "b1"], ["h"], name="dense 1"),
        node("Relu", ["h"], ["r"], name="[red]relu\x1b[31m"),
        node("Gemm", ["r", "w2", "b2"], ["l"], name="dense 2"),
        node("Softmax", ["l"], ["probability é"], name="softmax"),
    ]
    constants = [
        tensor("w1", RNG.standard_normal((4, 8)).astype(np.float32)),
        tensor("b1", np.zeros(8, np.float32)),
        tensor("w2", RNG.standard_normal((8, 2)).astype(np.float32)),
        tensor("b2", np.zeros(2, np.float32)),
    ]
    inputs, outputs = [value("x", ["N", 4])], [value("probability é", ["N", 2])]
    path = tmp_path / "tagger.onnx"
    onnx.save(model(nodes, inputs, outputs, constants), path)
    return path


def fails(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The error message of a command, which must be the only thing printed, without a traceback."""
    capsys.readouterr()
    try:
        code = cli.main([str(a) for a in arguments])
    except SystemExit as stop:  # argparse's way
        code = stop.code  # type: ignore[assignment]
    out, err = capsys.readouterr()
    assert code == 1
    assert out == ""
    assert "Traceback" not in err
    assert err.startswith("sofie-root")
    return err


def prints(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What a command prints that succeeds."""
    capsys.readouterr()
    code = cli.main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    return out


def in_terminal(*arguments: str) -> tuple[int, str]:
    """Runs a command as in a terminal of its own."""
    output = b""
    pid, descriptor = pty.fork()
    if pid == 0:
        os.environ |= {"TERM": "xterm-256color", "COLUMNS": "100"}
        os.execv(sys.executable, [sys.executable, "-m", "sofie_root.cli", *arguments])
    while True:
        try:
            part = os.read(descriptor, 4096)
        except OSError:  # Linux's end of a terminal
            break
        if not part:
            break
        output += part
    os.close(descriptor)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), output.decode()


def test_inspect(tagger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = prints(capsys, "inspect", tagger)
    assert re.search(r"input +x +float +\[N, 4\]", out)
    assert re.search(r"output +probability é +float +\[N, 2\]", out)
    assert re.search(r"Gemm +2\n", out)
    assert re.search(r"symbolic dims +N\n", out)
    assert re.search(r"arena at N=16 +[\d.]+ k?B for [\d.]+ k?B of intermediates", out)
    assert re.search(r"weights +[\d.]+ k?B", out)
    assert "\nfused:" not in out
    assert all(len(line) == len(line.rstrip()) for line in out.splitlines())


def test_inspect_verbose(tagger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = prints(capsys, "inspect", "-v", tagger)
    for title in ("changes:", "refused:", "fused:", "not fused:"):
        assert f"\n{title}" in out
    assert "into the epilogue of dense 1" in out
    assert "kernel" not in out.split("\nnot fused:")[0]
    assert "\x1b" not in out
    assert r"[red]relu\x1b[31m" in out
    everything = prints(capsys, "inspect", "-vv", tagger)
    assert "graph tagger" in everything
    assert "Linear(" in everything


def test_inspect_shows_what_only_the_run_tells(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nodes = [
        node("Compress", ["x", "keep"], ["kept"], name="choose"),
        node("Add", ["x", "y"], ["sum"], name="add"),
        node("TopK", ["y", "three"], ["top", ""], name="best"),
    ]
    inputs = [value("x", ["N"]), value("y", ["M"]), value("keep", ["N"], np.bool_)]
    proto = model(nodes, inputs, ["kept", "sum", "top"], [tensor("three", np.array([3]))])
    onnx.save(proto, tmp_path / "m.onnx")
    out = prints(capsys, "inspect", tmp_path / "m.onnx")
    assert re.search(r"data-dependent dims\n.*dim +found by\n +kept:0:0 +choose\n", out)
    assert re.search(r"checked when the model runs\n +must hold +because of\n", out)
    assert re.search(r" M == N, or one of them is 1 +Add 'add': ", out)
    assert re.search(r" 3 <= M +TopK 'best': ", out)
    assert re.search(r"output +kept +float +\[kept:0:0\]", out)
    assert "control flow" not in out


def test_inspect_shows_bodies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(control_proto(), tmp_path / "m.onnx")
    out = prints(capsys, "inspect", tmp_path / "m.onnx")
    assert "10 nodes, 6 of them in bodies" in out
    assert re.search(r" MatMul +1\n", out)
    control = out.partition("\ncontrol flow\n")[2]
    for name, body in (("branch", "then"), ("branch", "else"), ("repeat", "body")):
        assert re.search(rf"^ +{name} +{body} +\d+ ", control, re.MULTILINE)
    everything = prints(capsys, "inspect", "-vv", tmp_path / "m.onnx")
    assert "\nthen of start:\n" in everything
    assert re.search(r"\nbody of end:\n(.*\n)*.*Linear", everything)


@pytest.mark.parametrize("place", [ZOO / "models", ZOO / "units"])
def test_every_model_of_the_zoo_can_be_printed(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if not place.is_dir():
        pytest.skip(ABSENT)
    models = sorted(place.glob("*/model.onnx"))
    assert models
    for path in models:
        assert "fusion: " in prints(capsys, "inspect", "-vv", path), path


def test_inspect_with_fixed_dims(tagger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = prints(capsys, "inspect", tagger, "--dim", "N=3")
    assert "[3, 4]" in out
    assert re.search(r"symbolic dims +none", out)
    assert prints(capsys, "inspect", tagger, "--dims=N=3") == out


def test_convert_to_header(tagger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    header = tagger.with_name("t.hxx")
    out = prints(capsys, "convert", tagger, "-o", header, "--namespace", "my_tagger")
    assert re.fullmatch(
        rf"wrote {header} \(.*B\)\nwrote {tagger.with_name('t.dat')} \(.*B\)\n", out
    )
    assert "namespace my_tagger" in header.read_text()
    assert "#include <sofie/" not in header.read_text()
    assert len(weights.read_dat(tagger.with_name("t.dat")).constants) > 0
    prints(capsys, "convert", tagger, "-o", header, "--no-standalone")
    assert "#include <sofie/" in header.read_text()
    prints(capsys, "convert", tagger, "-o", header, "--exact")


def test_convert_with_other_weights(tagger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    header = tagger.with_name("t.hxx")
    out = prints(capsys, "convert", tagger, "-o", header, "--weights", "root")
    assert f"wrote {tagger.with_name('t.root')}" in out
    assert root_file.read_weights(tagger.with_name("t.root")).startswith(weights.MAGIC)
    out = prints(
        capsys, "convert", tagger, "-o", tagger.with_name("e.hxx"), "--weights", "embedded"
    )
    assert out.count("wrote") == 1
    assert not tagger.with_name("e.dat").exists()


def test_convert_to_root_and_back(tagger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stored = tagger.with_name("stored.root")
    prints(capsys, "convert", tagger, "-o", stored, "--compression", "lzma")
    shown = [prints(capsys, "inspect", path).splitlines()[1:] for path in (tagger, stored)]
    assert shown[0] == shown[1]
    prints(capsys, "convert", stored, "-o", tagger.with_name("tagger.hxx"))


def test_check(tagger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = prints(capsys, "check", tagger, "--samples", "2", "--seed", "5")
    assert re.search(r"tagger: 2 input sets against ONNX Runtime", out)
    assert re.search(r"probability é +float\[N, 2\] +\d\.\d\de-\d\d .* ok\n", out)


def test_check_with_chosen_dims(tagger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = prints(capsys, "check", tagger, "--dims", "N=11", "--samples", "1")
    assert "float[N, 2]" in out  # the model's dim stays symbolic
    assert "'M'; the model's are: N" in fails(capsys, "check", tagger, "--dims", "M=1")
    assert "not 'N'" in fails(capsys, "check", tagger, "--dims", "N")


def test_check_with_stored_inputs(tagger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x = RNG.standard_normal((5, 4)).astype(np.float32)
    y = sofie_root.load(tagger).session()(x)
    folder = tagger.parent
    np.savez(folder / "by_name.npz", x=x)
    np.savez(folder / "in.npz", in0=x)
    np.savez(folder / "out.npz", out0=y)
    np.savez(folder / "wrong.npz", out0=y + 0.01)
    for given in ("by_name.npz", "in.npz"):
        out = prints(capsys, "check", tagger, "--inputs", folder / given)
        assert "1 input set against ONNX Runtime" in out
    stored = ["check", str(tagger), "--inputs", str(folder / "in.npz"), "--outputs"]
    assert "1 input set against out.npz" in prints(capsys, *stored, folder / "out.npz")
    assert cli.main([*stored, str(folder / "wrong.npz")]) == 1
    assert "TOO FAR" in capsys.readouterr().out
    assert "nothing.npz: cannot be read" in fails(capsys, *stored, folder / "nothing.npz")
    assert "tagger.onnx: is not an .npz file" in fails(capsys, *stored, tagger)
    assert "'in0' is none of: probability" in fails(capsys, *stored, folder / "in.npz")
    assert "with the inputs that they belong to" in fails(
        capsys, "check", tagger, "--outputs", folder / "out.npz"
    )


def test_check_of_rounding(tagger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody rounds as somebody else does: that is no failure, however little is tolerated."""
    out = prints(capsys, "check", tagger, "--tolerance", "0")
    assert "ok (rounding)" in out
    assert "both are right but for rounding" in out


def test_check_that_proves_nothing_has_exit_code_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nodes = [node("Mul", ["x", "zero"], ["y"])]
    zero = tensor("zero", np.float32(0))
    path = tmp_path / "m.onnx"
    onnx.save(model(nodes, [value("x", ["N"])], [value("y", ["N"])], [zero]), path)
    assert cli.main(["check", str(path)]) == 1
    out, err = capsys.readouterr()
    assert "NEVER CHANGES" in out, err
    assert "give inputs as the model was trained on" in out
    assert err == ""


def test_check_with_events(root: object, tagger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tagger.with_name("events.root")
    rows = {name: RNG.standard_normal(40).astype(np.float32) for name in "abcd"}
    with uproot.recreate(file) as output:
        output.mktree("Events", dict.fromkeys(rows, "float32")).extend(rows)
    events = ["--events", f"{file}:Events"]
    out = prints(capsys, "check", tagger, *events, "--columns", "a,b,c,d", "--max-events", "25")
    assert "tagger: 25 events against ONNX Runtime" in out
    assert "ok" in out
    out = prints(capsys, "check", tagger, *events, "--columns", "x=a,b,c,d")
    assert "tagger: 40 events" in out
    for arguments, words in (
        ([*events], "belong together"),
        (["--columns", "a"], "belong together"),
        ([*events, "--columns", "a,b,c"], "takes 4 values; the columns give 3"),
        ([*events, "--columns", "a,b,c,q"], "no column 'q'"),
        ([*events, "--columns", "a", "--columns", "x=b"], "for all inputs or for none"),
        (["--events", str(file), "--columns", "a"], "FILE.root:TREE"),
        (["--events", f"{file}:Other", "--columns", "a"], "has no tree 'Other'"),
        (["--events", "nothing.root:Events", "--columns", "a"], "is no file"),
    ):
        assert words in fails(capsys, "check", tagger, *arguments)


def test_config(capsys: pytest.CaptureFixture[str]) -> None:
    include = Path(prints(capsys, "config", "--incdir").strip())
    assert (include / "sofie" / "SofieFunctor.hxx").is_file()
    cmake = Path(prints(capsys, "config", "--cmake").strip())
    assert (cmake / "sofie_root-config.cmake").is_file()
    assert prints(capsys, "config", "--version") == f"{config.VERSION}\n"


@pytest.mark.parametrize("command", [[], ["inspect"], ["convert"], ["check"], ["config"]])
def test_help_teaches(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main([*command, "--help"])
    out, err = capsys.readouterr()
    assert stop.value.code == 0
    assert err == ""
    assert "examples:" in out
    assert "sofie-root " in out.split("examples:")[1]
    assert max(len(line) for line in out.splitlines()) <= 100


def test_usage_errors(tagger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "COMMAND" in fails(capsys)
    assert "invalid choice: 'frobnicate'" in fails(capsys, "frobnicate")
    assert "MODEL" in fails(capsys, "inspect")
    assert "--output" in fails(capsys, "convert", tagger)
    assert "not 'N'" in fails(capsys, "inspect", tagger, "--dim", "N")
    assert "not 'N=-1'" in fails(capsys, "inspect", tagger, "--dim", "N=-1")
    assert "'M'" in fails(capsys, "inspect", tagger, "--dim", "M=1")
    assert "must end in .hxx" in fails(capsys, "convert", tagger, "-o", "x.cpp")
    assert "--weights is for C++" in fails(
        capsys, "convert", tagger, "-o", "x.root", "--weights", "dat"
    )
    assert "--compression is for ROOT" in fails(
        capsys, "convert", tagger, "-o", "x.hxx", "--compression", "zstd"
    )
    assert "at least 1" in fails(capsys, "check", tagger, "--samples", "0")


def test_bad_models(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, content in {
        "empty.onnx": b"",
        "junk.onnx": os.urandom(500),
        "junk.root": os.urandom(500),
        "empty.root": b"",
        "model.txt": b"hello",
    }.items():
        (tmp_path / name).write_bytes(content)
        for command in ("inspect", "check"):
            assert name in fails(capsys, command, tmp_path / name)
    assert "none.onnx" in fails(capsys, "inspect", tmp_path / "none.onnx")
    assert "none.root" in fails(capsys, "inspect", tmp_path / "none.root")


def test_output_that_cannot_be_written(tagger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("m.hxx", "m.root"):
        path = tagger.parent / "nowhere" / name
        assert "nowhere" in fails(capsys, "convert", tagger, "-o", path)


def test_weights_never_replace_a_model_by_another(
    tagger: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = tagger.with_name("stored.root")
    prints(capsys, "convert", tagger, "-o", stored)
    before = stored.read_bytes()
    arguments = ["convert", stored, "-o", tagger.with_name("stored.hxx"), "--weights", "root"]
    assert "another name" in fails(capsys, *arguments, "--dim", "N=1")
    assert stored.read_bytes() == before
    prints(capsys, *arguments)
    assert root_file.load(stored).inputs == ("x",)


def test_internal_errors_are_one_line(
    tagger: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise KeyError("x\ny")

    monkeypatch.setattr("sofie_root.model.load", broken)
    message = fails(capsys, "inspect", tagger)
    assert message.count("\n") == 1
    assert "a bug of sofie_root" in message
    assert "--debug" in message
    for arguments in (["--debug", "inspect", str(tagger)], ["inspect", str(tagger), "--debug"]):
        assert cli.main(arguments) == 1
        assert "Traceback" in capsys.readouterr().err


def test_terminal_gets_tables_and_no_markup(tagger: Path) -> None:
    code, output = in_terminal("inspect", "-v", str(tagger))
    assert code == 0
    assert "│" in output
    assert "[red]relu" in output
    assert "\x1b[31m" not in output.replace("\x1b[31m┏", "")
    code, output = in_terminal("check", str(tagger))
    assert code == 0
    assert "checking tagger" in output
    assert "100%" in output


def test_reader_of_a_pipe_may_leave(tagger: Path) -> None:
    command = f"{sys.executable} -m sofie_root.cli inspect -vv {tagger} | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout.startswith("tagger")


def test_terminal_that_knows_no_unicode(tagger: Path) -> None:
    command = [sys.executable, "-m", "sofie_root.cli", "inspect", str(tagger)]
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0
    assert r"probability \xe9" in done.stdout


def test_help_is_quick() -> None:
    """Nothing heavy is imported to print a help text."""
    code = (
        "import sys; from sofie_root import cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "print({'onnx', 'uproot', 'rich', 'ROOT'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "set()"
