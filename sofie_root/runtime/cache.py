"""The folder where compiled and generated models are kept from one process to the next."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import shutil
import sys
import tempfile
from pathlib import Path

LIMIT = 1 << 30
"""Bytes that the cache may hold; what was used least recently goes first."""


def cache_dir() -> Path:
    """Where compiled models are kept: ``$SOFIE_ROOT_CACHE``, else a folder of the user's cache."""
    if chosen := os.environ.get("SOFIE_ROOT_CACHE"):
        return Path(chosen)
    if chosen := os.environ.get("XDG_CACHE_HOME"):
        return Path(chosen, "sofie_root")
    return Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "sofie_root"


def writable_cache() -> Path:
    """The cache folder, or a temporary one where that cannot be written."""
    folder = cache_dir()
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.access(folder, os.W_OK | os.X_OK):
            return folder
    return process_folder()


@functools.cache
def process_folder() -> Path:
    """A folder for files of this process; removed when it ends, but not when a fork of it does."""
    folder, owner = tempfile.mkdtemp(prefix="sofie_root-"), os.getpid()

    def remove() -> None:
        if os.getpid() == owner:
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return Path(folder)


def touch(entry: Path) -> None:
    """Notes that an entry was used."""
    with contextlib.suppress(OSError):
        os.utime(entry)


def trim(folder: Path, limit: int = LIMIT) -> list[Path]:
    """Removes the entries that were used least recently, until the rest takes at most ``limit`` bytes.

    Entries are libraries (``*.so``) and folders below ``generated``. Another process that has one open
    keeps it: a removed library stays mapped.

    Returns:
        What was removed.
    """
    entries = []
    for entry in (*folder.glob("*.so"), *folder.glob("generated/*/")):
        with contextlib.suppress(OSError):  # another process removed it
            files = [entry] if entry.is_file() else list(entry.iterdir())
            entries.append((entry.stat().st_mtime, sum(f.stat().st_size for f in files), entry))
    left = sum(size for _, size, _ in entries)
    removed = []
    for _, size, entry in sorted(entries):
        if left <= limit:
            break
        with contextlib.suppress(OSError):
            if entry.is_file():
                entry.unlink()
            else:
                shutil.rmtree(entry)
            removed.append(entry)
            left -= size
    return removed
