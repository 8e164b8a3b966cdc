"""What all tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import sofie_root  # noqa: F401  (sets cling's flags, which must come before ROOT starts)


@pytest.fixture(scope="session", autouse=True)
def model_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Compiled models go to a folder of this test run, not to the user's cache."""
    folder = tmp_path_factory.mktemp("cache")
    before = os.environ.get("SOFIE_ROOT_CACHE")
    os.environ["SOFIE_ROOT_CACHE"] = str(folder)
    yield folder
    if before is None:
        del os.environ["SOFIE_ROOT_CACHE"]
    else:
        os.environ["SOFIE_ROOT_CACHE"] = before


@pytest.fixture(scope="session")
def root() -> Any:
    """The ROOT module."""
    from sofie_root.runtime.interpreter import import_root

    return import_root()


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--update-golden`` writes the files that generated code is compared with."""
    parser.addoption("--update-golden", action="store_true", help="rewrite tests/golden")


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    """Whether generated text is to be kept as what is expected."""
    return bool(request.config.getoption("--update-golden"))
