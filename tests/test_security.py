"""What SECURITY.md claims and no other test shows; and that the tests which it names are there."""

from __future__ import annotations

import json
import re
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
import uproot
from small_models import mlp
from test_hostile_root import rewrite

import sofie_root
from sofie_root.errors import SofieError, UnsupportedError

REPOSITORY = Path(__file__).parents[1]
TEXT = (REPOSITORY / "SECURITY.md").read_text()

NO_DECISION = {"HOME", "XDG_CACHE_HOME", "EXTRA_CLING_ARGS"}
"""Variables that are read, but with which nobody decides whom to trust."""


def test_named_tests_exist() -> None:
    named = set(re.findall(r"`(test_\w+\.py)`", TEXT))
    assert len(named) > 8
    assert not [n for n in named if "def test_" not in (REPOSITORY / "tests" / n).read_text()]
    assert "](SECURITY.md)" in (REPOSITORY / "README.md").read_text()
    assert "make fuzz-files" in TEXT
    assert "\nfuzz-files:" in (REPOSITORY / "Makefile").read_text()


def test_every_environment_variable_is_named() -> None:
    """Of Python and of C++: a new one is a decision that users must know of."""
    sources = [*REPOSITORY.glob("sofie_root/**/*.py"), *REPOSITORY.glob("cpp/include/**/*.hxx")]
    read: set[str] = set()
    for path in sources:
        text = path.read_text()
        read |= set(re.findall(r"(?:environ(?:\.get)?[\[(]|getenv\()\s*\"(\w+)\"", text))
        read |= set(re.findall(r"\bVARIABLE = \"(\w+)\"", text))
    assert {"CXX", "SOFIE_ROOT_CACHE", "SOFIE_ROOT_BUDGET"} | NO_DECISION <= read
    assert not [name for name in read - NO_DECISION if f"`{name}`" not in TEXT]


def test_modules_that_a_file_names_are_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "named_by_a_file.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    path = mlp().save(tmp_path / "m.root")

    def change(document: Any) -> Any:
        document["nodes"][0] |= {"op": "Own", "domain": "test", "module": "named_by_a_file"}
        return document

    rewrite(path, change)
    with pytest.raises(UnsupportedError, match="named_by_a_file"):
        sofie_root.load(path)
    assert "named_by_a_file" not in sys.modules


@pytest.mark.parametrize("suffix", [".root", ".onnx"])
def test_nothing_is_fetched(suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    for scheme in ("https", "http", "root", "s3", "file"):
        with pytest.raises(SofieError, match="No such file"):
            sofie_root.load(f"{scheme}://example.org/model{suffix}")


def test_reading_a_model_needs_no_root(tmp_path: Path) -> None:
    """The description is read as text; of classes that a file describes, see test_hostile_root.py."""
    path = mlp().save(tmp_path / "m.root")
    with uproot.open(path) as file:
        assert json.loads(str(file["sofie_ir"]))["name"] == "mlp"
    assert sofie_root.load(path).name == "mlp"
