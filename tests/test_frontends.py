"""Which file is read by which frontend, what `check` compares it with, and what is said of all others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx_models import model, node, value

import sofie_root
from sofie_root.check import REFERENCES
from sofie_root.errors import InputError, ModelError
from sofie_root.frontends import FRONTENDS, frontend_of, readable
from sofie_root.frontends.frontend import UNSUPPORTED


def saved(path: Path) -> Path:
    """y = relu(x), for x[N, 3]."""
    onnx.save(model([node("Relu", ["x"], ["y"])], [value("x", ["N", 3])], ["y"]), path)
    return path


def test_every_suffix_has_one_frontend() -> None:
    suffixes = [suffix for frontend in FRONTENDS for suffix in frontend.suffixes]
    assert len(suffixes) == len(set(suffixes))
    assert not set(suffixes) & set(UNSUPPORTED)
    for suffix in suffixes:
        assert suffix in frontend_of(Path(f"m{suffix}")).suffixes
        assert suffix in readable()
    assert {f.reference for f in FRONTENDS} - {None} <= set(REFERENCES)


@pytest.mark.parametrize("fixed", [{}, {"N": 2}], ids=["symbolic", "fixed"])
def test_both_formats_are_read(tmp_path: Path, fixed: dict[str, int]) -> None:
    first = sofie_root.load(saved(tmp_path / "m.onnx"))
    first.save(tmp_path / "m.root")
    for name in ("m.onnx", "m.root"):
        loaded = sofie_root.load(tmp_path / name, fixed)
        assert loaded.symbols == (() if fixed else ("N",))
        (dim, _) = loaded.inputs["x"].shape
        assert str(dim) == str(fixed.get("N", "N"))


@pytest.mark.parametrize("name", ["m.onnx", "m.root"])
def test_dims_that_are_none(tmp_path: Path, name: str) -> None:
    sofie_root.load(saved(tmp_path / "m.onnx")).save(tmp_path / "m.root")
    with pytest.raises((ModelError, InputError), match=r"symbol.*'M'"):
        sofie_root.load(tmp_path / name, {"M": 2})


@pytest.mark.parametrize("suffix", UNSUPPORTED)
def test_known_formats_are_refused_with_advice(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"m{suffix}"
    path.write_bytes(b"anything")
    with pytest.raises(ModelError) as caught:
        sofie_root.load(path)
    name, advice = UNSUPPORTED[suffix]
    assert f"{name} files ({suffix}) are not supported yet" in caught.value.message
    assert advice in caught.value.message
    assert ".onnx or .root" in caught.value.message
    assert caught.value.file == str(path)


@pytest.mark.parametrize(("name", "called"), [("m.xyz", ".xyz"), ("m", "(none)")])
def test_unknown_formats_are_refused(tmp_path: Path, name: str, called: str) -> None:
    with pytest.raises(ModelError) as caught:
        sofie_root.load(tmp_path / name)
    assert f"files of type {called} cannot be read; give an .onnx or .root" in str(caught.value)


def test_check_asks_the_reference_of_the_frontend(tmp_path: Path) -> None:
    first = sofie_root.load(saved(tmp_path / "m.onnx"))
    first.save(tmp_path / "m.root")
    second = sofie_root.load(tmp_path / "m.root")
    inputs = {"x": np.ones((2, 3), np.float32)}
    assert first.check(inputs=inputs).reference.startswith("ONNX Runtime")
    assert "interpreter" in second.check(inputs=inputs).reference
    assert "interpreter" in second.check(reference="onnxruntime", inputs=inputs).reference
