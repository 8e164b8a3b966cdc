"""The reference target: every operator, the small models and models of the zoo as plain scalar C++."""

from __future__ import annotations

import pkgutil
import re
import subprocess
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from compiled import FLAGS, Compiled
from operator_case import Case
from operator_cases import CASES
from operator_cases_image import CASES as IMAGE_CASES
from operator_cases_kernels import CASES as KERNEL_CASES
from small_models import SMALL, attention, mlp
from test_zoo import ABSENT, ENTRIES, ZOO, assert_agrees

from sofie_root.cli import main
from sofie_root.config import VERSION, include_dir
from sofie_root.errors import InputError
from sofie_root.frontends.onnx import from_proto
from sofie_root.model import Model, load
from sofie_root.program import operations
from sofie_root.program.operation import Operation
from sofie_root.program.operations.recurrent import Recurrent
from sofie_root.program.operations.window import Windowed
from sofie_root.program.scalar import FUNCTIONS
from sofie_root.targets import TARGETS
from sofie_root.targets.cxx import kernels as core
from sofie_root.targets.reference.kernels import call

GOLDEN = Path(__file__).parent / "golden" / "reference_mlp.hxx"
COMPILERS = ["g++", "clang++"]
FLAGS_UNOPTIMISED = [f if f != "-O1" else "-O0" for f in FLAGS]

GROUP = 240
"""Cases in one translation unit."""

EVERY = [(case, False) for case in (*CASES, *KERNEL_CASES, *IMAGE_CASES)]
EVERY += [(case, True) for case, _ in EVERY if not case.static]
GROUPS = [EVERY[k : k + GROUP] for k in range(0, len(EVERY), GROUP)]


def sample() -> list[tuple[Case, bool]]:
    """The first case of each operator."""
    first: dict[str, tuple[Case, bool]] = {}
    for case, symbolic in EVERY:
        first.setdefault(case.op_type, (case, symbolic))
    return list(first.values())


# -- numbers -----------------------------------------------------------------------------------------------


def run_cases(group: list[tuple[Case, bool]], folder: Path, compiler: str = "g++") -> None:
    models = [Model(from_proto(case.model(symbolic))) for case, symbolic in group]
    library = Compiled(models, folder, compiler, FLAGS_UNOPTIMISED, target="reference")
    failures = []
    for k, (case, symbolic) in enumerate(group):
        try:
            outputs = library.run(k, case.feeds)
            case.check([outputs[name] for name in case.output_names], "reference target")
        except (AssertionError, RuntimeError) as error:
            failures.append(f"{case.id} ({'symbolic' if symbolic else 'static'}): {error}")
    assert not failures, f"{len(failures)} of {len(group)}:\n" + "\n".join(failures)


@pytest.mark.parametrize("compiler", ["g++", pytest.param("clang++", marks=pytest.mark.slow)])
def test_each_operator(compiler: str, tmp_path: Path) -> None:
    run_cases(sample(), tmp_path, compiler)


@pytest.mark.slow
@pytest.mark.parametrize("k", range(len(GROUPS)))
def test_every_case(k: int, tmp_path: Path) -> None:
    run_cases(GROUPS[k], tmp_path)


@pytest.mark.parametrize("compiler", COMPILERS)
def test_small_models(compiler: str, tmp_path: Path) -> None:
    models = [make() for make in (*SMALL.values(), attention)]
    library = Compiled(models, tmp_path, compiler, FLAGS_UNOPTIMISED, target="reference")
    for k, model in enumerate(models):
        example = model.example
        assert example is not None
        found = library.run(k, example.inputs)
        for name, expected in example.outputs.items():
            np.testing.assert_allclose(found[name], expected, 1e-4, 1e-5, err_msg=model.name)


FROM_ZOO = {
    "acts_duplicateclassifier",
    "cms_deepdoublex_102x_v02_bvl",
    "cms_triton_particlenet_ak4",
    "cms_triton_particletransformer_ak4",
    "exatrkx_gnn",
    "hls4ml_conv2d_small_keras",
    "quant_dynamic_exatrkx_filter",
    "quant_qdq_hls4ml_three_layer",
    "synth_deepsets_dips",
    "synth_rnnip_bilstm_gru",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(FROM_ZOO))
def test_zoo_model(name: str, tmp_path: Path) -> None:
    if not ZOO.is_dir():
        pytest.skip(ABSENT)
    (entry,) = [e for e in ENTRIES if e.name == name]
    library = Compiled([load(entry.path)], tmp_path, weights="dat", target="reference")
    assert_agrees(entry, library, 0)


# -- text --------------------------------------------------------------------------------------------------


def test_golden(update_golden: bool) -> None:
    """The header is what it was. After a change that is meant: ``pytest --update-golden``."""
    header = mlp().header(stem="mlp", standalone=False, target="reference")
    text = header.text.replace(VERSION, "VERSION")
    if update_golden:
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text()


@pytest.mark.parametrize("name", SMALL)
def test_there_are_no_vectors(name: str) -> None:
    text = SMALL[name]().header(target="reference").text
    assert re.search(r"^namespace sofie = ::sofie_\w+::reference;$", text, re.MULTILINE)
    assert "immintrin" not in text
    assert "simd" not in text
    assert "sofie/cpu/" not in text
    assert "immintrin" in SMALL[name]().header().text  # where they would show


def test_headers_of_both_targets_stand_side_by_side(tmp_path: Path) -> None:
    for target in ("cpu", "reference"):
        mlp().generate(tmp_path / f"{target}.hxx", "embedded", standalone=False, target=target)
    text = '#include "cpu.hxx"\n#include "reference.hxx"\n'
    text += "int main() { TMVA_SOFIE_cpu::Session a; TMVA_SOFIE_reference::Session b; }\n"
    source = tmp_path / "both.cpp"
    source.write_text(text)
    command = ["g++", "-std=c++17", "-Wall", "-Wextra", "-Werror", "-fsyntax-only"]
    command += [f"-I{include_dir()}", str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr


@pytest.mark.parametrize("compiler", COMPILERS)
def test_every_scalar_function_takes_its_types(compiler: str, tmp_path: Path) -> None:
    lines = ["#include <sofie/reference/math.hxx>", "namespace functions {"]
    lines.append("namespace sofie = ::sofie::reference;")
    calls = 0
    for name, row in FUNCTIONS.items():
        for dtype in sorted(row.accepts, key=str):
            arithmetic = row.symbol is not None and not (dtype.is_integer and row.result != "bool")
            if name in ("cast", "select", "guard") or arithmetic or dtype.compute is not dtype:
                continue
            arguments = ", ".join([f"{dtype.cpp}(1)"] * row.arguments)
            lines.append(f"const auto value_{calls} = sofie::{name}({arguments});")
            calls += 1
    assert calls > 100
    source = tmp_path / "functions.cpp"
    source.write_text("\n".join([*lines, "}", ""]))
    command = [
        compiler,
        "-std=c++17",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-Wno-unused",
        "-fsyntax-only",
    ]
    command += [f"-I{include_dir()}", str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr


# -- interface ---------------------------------------------------------------------------------------------


def test_every_operation_has_a_kernel() -> None:
    names = [f"{operations.__name__}.{m.name}" for m in pkgutil.iter_modules(operations.__path__)]
    found = [
        thing
        for name in names
        for thing in vars(import_module(name)).values()
        if isinstance(thing, type) and issubclass(thing, Operation) and thing.__module__ == name
    ]
    found = [cls for cls in found if cls not in (Windowed, Recurrent)]
    assert len(found) > 15
    for cls in found:
        own, shared = call.dispatch(cls), core.call.dispatch(cls)
        assert own is not call.dispatch(Operation) or shared is not core.call.dispatch(Operation), (
            cls
        )


def test_a_session(tmp_path: Path) -> None:
    model = mlp()
    x = np.random.default_rng(1).normal(size=(3, 16)).astype(np.float32)
    np.testing.assert_allclose(model.session(target="reference")(x), model.session()(x), 1e-5, 1e-6)


def test_convert(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stored = mlp().save(tmp_path / "m.root")
    header = tmp_path / "m.hxx"
    assert main(["convert", str(stored), "-o", str(header), "--target", "reference"]) == 0
    assert "sofie::linear(" in header.read_text()
    assert header.with_suffix(".dat").is_file()
    assert main(["convert", str(stored), "-o", str(header), "--target", "abacus"]) != 0
    assert "no target 'abacus'; there are: cpu, reference" in capsys.readouterr().err


def test_unknown_target() -> None:
    assert list(TARGETS) == ["cpu", "reference"]
    with pytest.raises(InputError, match="no target 'abacus'"):
        mlp().header(target="abacus")
