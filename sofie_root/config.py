"""Version of the package, and where it keeps its C++ headers and its CMake files."""

from __future__ import annotations

from pathlib import Path

from .errors import ToolchainError

VERSION = "0.1.0"
"""Version of the package; pyproject.toml reads it from here."""

_PACKAGE = Path(__file__).resolve().parent


def include_dir() -> Path:
    """The directory to give to the compiler with ``-I`` so that ``#include <sofie/...>`` works.

    Raises:
        ToolchainError: the installation is broken.
    """
    return _part("include", "sofie/SofieFunctor.hxx")


def cmake_dir() -> Path:
    """The directory that holds ``sofie_root-config.cmake``.

    Raises:
        ToolchainError: the installation is broken.
    """
    return _part("cmake", "sofie_root-config.cmake")


def _part(name: str, content: str) -> Path:
    """A directory of the C++ side: inside the installed package, or in ``cpp/`` of a checkout."""
    for folder in (_PACKAGE / name, _PACKAGE.parent / "cpp" / name):
        if (folder / content).is_file():
            return folder
    raise ToolchainError(f"{content} is missing beside {_PACKAGE}; install sofie_root again")
