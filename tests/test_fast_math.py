"""Generated code compiled with ``-ffast-math``: as right as without it, or refused."""

from __future__ import annotations

import subprocess
from pathlib import Path

import fast_math_models
import numpy as np
import pytest
from cpp_program import compile_program, require_compiler, require_instructions, run_program

from sofie_root.config import include_dir
from sofie_root.model import Model
from sofie_root.program.interpret import evaluate

BUILDS = {
    "baseline": ("g++", ("-Ofast",)),
    "avx2": ("g++", ("-Ofast", "-mavx2", "-mfma")),
    "avx512": ("g++", ("-Ofast", "-march=x86-64-v4")),
    "clang": ("clang++", ("-O2", "-ffast-math")),
}
"""The three forms of the kernels: x86-64 without FMA, with it, with AVX-512."""

INSTRUCTIONS = {"avx2": ("avx2", "fma"), "avx512": ("avx512f", "avx512bw", "avx512dq", "avx512vl")}
"""What the machine must have to run them."""

CPP_TESTS = Path(__file__).parent.parent / "cpp" / "tests"


@pytest.mark.parametrize("build", BUILDS)
def test_functions_keep_their_accuracy(build: str, tmp_path: Path) -> None:
    compiler, flags = BUILDS[build]
    require_compiler(compiler)
    require_instructions(*INSTRUCTIONS.get(build, ()))
    fast = tmp_path / "functions.o"
    command = [compiler, "-std=c++17", "-Wall", "-Wextra", "-Werror", *flags, f"-I{include_dir()}"]
    command += ["-c", str(CPP_TESTS / "math_functions.cpp"), "-o", str(fast)]
    subprocess.run(command, check=True)
    source = (CPP_TESTS / "math_accuracy.cpp").read_text()
    program = compile_program(tmp_path, source, ["-O2", f"-I{CPP_TESTS}", str(fast)])
    assert run_program(program, "199999", "finite").endswith("math_accuracy: ok\n")


@pytest.mark.parametrize("build", BUILDS)
def test_numbers_are_those_of_ordinary_builds(build: str, tmp_path: Path) -> None:
    compiler, flags = BUILDS[build]
    require_compiler(compiler)
    require_instructions(*INSTRUCTIONS.get(build, ()))
    results = fast_math_models.run(compiler, flags, tmp_path, fast_math_models.ordinary)
    cases, networks = fast_math_models.cases(), fast_math_models.networks()
    failures = []
    for case, outputs in zip(cases, results, strict=False):
        try:
            assert not isinstance(outputs, str), outputs
            case.check([outputs[name] for name in case.output_names], build)
        except AssertionError as error:
            failures.append(str(error))
    for (name, (network, inputs)), outputs in zip(
        networks.items(), results[len(cases) :], strict=True
    ):
        assert not isinstance(outputs, str), outputs
        for output, wanted in evaluate(network.graph, inputs).items():
            close = np.allclose(outputs[output], wanted, 1e-5, 1e-5)
            difference = np.abs(outputs[output] - wanted).max(initial=0)
            failures += [] if close else [f"{name}: {output} is off by {difference}"]
    assert not failures, "\n".join(failures)


def preprocess(network: Model, folder: Path, *flags: str) -> str:
    """What the compiler says of the header, which it only reads."""
    network.generate(folder / "model.hxx", "embedded", standalone=False)
    command = ["g++", "-std=c++17", *flags, f"-I{include_dir()}", "-E", "model.hxx", "-o", "out.ii"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.stderr


@pytest.mark.parametrize("name", fast_math_models.with_infinity())
def test_a_network_that_needs_infinity_is_refused(name: str, tmp_path: Path) -> None:
    network, _, why = fast_math_models.with_infinity()[name]
    message = preprocess(network, tmp_path, "-Ofast")
    assert "#error" in message
    assert why in message
    assert "-fno-finite-math-only" in message
    assert not preprocess(network, tmp_path, "-Ofast", "-fno-finite-math-only")
    assert not preprocess(network, tmp_path)


@pytest.mark.parametrize("name", fast_math_models.without_infinity())
def test_others_are_not_refused(name: str, tmp_path: Path) -> None:
    assert not preprocess(fast_math_models.without_infinity()[name], tmp_path, "-Ofast")


@pytest.mark.parametrize("compiler", ["g++", "clang++"])
def test_infinity_is_there_where_it_is_asked_for(compiler: str, tmp_path: Path) -> None:
    require_compiler(compiler)
    flags = ("-Ofast", "-fno-finite-math-only")
    results = fast_math_models.run(compiler, flags, tmp_path, fast_math_models.refused)
    for (network, inputs), outputs in zip(fast_math_models.refused(), results, strict=True):
        assert not isinstance(outputs, str), outputs
        for name, wanted in evaluate(network.graph, inputs).items():
            np.testing.assert_allclose(outputs[name], wanted, 1e-5, 1e-6)
