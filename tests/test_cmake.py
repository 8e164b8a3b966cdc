"""A CMake project that uses the installed headers."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx_models import model, node, tensor, value

from sofie_root import cli, config

PROJECT = Path(__file__).parent / "data" / "cmake_project"
WEIGHTS = np.array([[1, -1], [0.5, 2], [0, 1]], np.float32)

pytestmark = pytest.mark.skipif(shutil.which("cmake") is None, reason="cmake is not installed")


@pytest.fixture
def header(tmp_path: Path) -> Path:
    """A header that includes <sofie/...>, made by the command."""
    nodes = [node("MatMul", ["x", "w"], ["t"]), node("Relu", ["t"], ["y"])]
    inputs, outputs = [value("x", ["N", 3])], [value("y", ["N", 2])]
    onnx.save(model(nodes, inputs, outputs, [tensor("w", WEIGHTS)]), tmp_path / "tagger.onnx")
    target = tmp_path / "generated" / "tagger.hxx"
    target.parent.mkdir()
    arguments = ["convert", str(tmp_path / "tagger.onnx"), "-o", str(target), "--no-standalone"]
    assert cli.main(arguments) == 0
    assert "#include <sofie/" in target.read_text()
    return target


def build_and_run(header: Path, cmake_dir: Path, build: Path) -> np.ndarray:
    setup = [f"-Dsofie_root_DIR={cmake_dir}", f"-DHEADER_DIR={header.parent}"]
    subprocess.run(["cmake", "-S", PROJECT, "-B", build, *setup], check=True)
    subprocess.run(["cmake", "--build", build], check=True)
    outputs = [
        subprocess.run(program, check=True, capture_output=True, text=True, cwd="/").stdout
        for program in ([build / "analysis"], [build / "analysis", header.with_suffix(".dat")])
    ]
    assert outputs[0] == outputs[1]
    return np.array(outputs[0].split(), np.float32).reshape(2, 2)


def expected() -> np.ndarray:
    return np.maximum(np.array([[1, 2, 3], [-1, 0, 1]], np.float32) @ WEIGHTS, 0)


def test_project_finds_the_headers(header: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sofie_root.cli", "config", "--cmake"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    assert Path(printed) == config.cmake_dir()
    np.testing.assert_allclose(build_and_run(header, Path(printed), tmp_path / "build"), expected())


def test_project_finds_the_headers_of_a_wheel(header: Path, tmp_path: Path) -> None:
    package = tmp_path / "site-packages" / "sofie_root"  # as pyproject.toml lays the wheel out
    shutil.copytree(config.include_dir(), package / "include")
    shutil.copytree(config.cmake_dir(), package / "cmake")
    found = build_and_run(header, package / "cmake", tmp_path / "build")
    np.testing.assert_allclose(found, expected())


def test_missing_headers_are_explained(header: Path, tmp_path: Path) -> None:
    shutil.copytree(config.cmake_dir(), tmp_path / "broken" / "cmake")
    setup = [f"-Dsofie_root_DIR={tmp_path}/broken/cmake", f"-DHEADER_DIR={header.parent}"]
    command = ["cmake", "-S", str(PROJECT), "-B", str(tmp_path / "build"), *setup]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode != 0
    assert "install sofie_root again" in done.stderr
