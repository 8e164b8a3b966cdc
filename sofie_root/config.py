"""Where the installed package keeps its C++ headers and its CMake files, and its version."""

from __future__ import annotations

from pathlib import Path

VERSION = "0.1.0"
"""Version of the package; pyproject.toml reads it from here."""

_PACKAGE = Path(__file__).resolve().parent


def include_dir() -> Path:
    """The directory to give to the compiler with ``-I`` so that ``#include <sofie/...>`` works."""
    return _part("include")


def cmake_dir() -> Path:
    """The directory that holds ``sofie_root-config.cmake``."""
    return _part("cmake")


def _part(name: str) -> Path:
    """A directory of the C++ side: inside the wheel, or in ``cpp/`` of a checkout."""
    installed = _PACKAGE / name
    return installed if installed.is_dir() else _PACKAGE.parent / "cpp" / name
