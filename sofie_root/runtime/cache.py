"""The folder where compiled and generated models are kept from one process to the next.

An entry is a folder: its files, and a list of their checksums that is written last. It is made in a scratch
folder and moved to its name, and is used only if every file has its checksum; what is damaged is made
again. As entries hold code, the cache has to belong to the user alone; where it does not, or cannot be
written, a temporary folder is used instead, with a warning. Folders in ``$SOFIE_ROOT_CACHE_READONLY`` may
belong to others: naming them is trusting them.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import functools
import io
import os
import pwd
import shutil
import stat
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import xxhash

from sofie_root.errors import StorageError
from sofie_root.storage.atomic import flush, flush_folder
from sofie_root.storage.trust import why_not_ours, why_not_private

from .exclusive import exclusive

LIMIT = 1 << 30
"""Bytes that the cache may hold; what was used least recently goes first."""

CHECKSUMS = "sofie_root.checksums"
"""The file of an entry that lists the others: XXH128 and name, and at last the XXH128 of these lines."""

IN_USE = 3600.0
"""Seconds after its last use in which an entry is not removed: a process may be about to open its files."""

_SCRATCH = ".part-"
_CHUNK = 1 << 20


def entry(name: str, make: Callable[[Path], None], doing: str) -> Path:
    """The folder of an entry, checked; made first where there is none that is whole.

    Args:
        name: of the entry: the hash of all that it depends on, and words for people.
        make: writes the files of the entry into the folder that it gets.
        doing: what ``make`` does, for other processes that wait for it: "compiles the model".

    Raises:
        StorageError: it cannot be kept anywhere. Errors of ``make`` pass through.
    """
    if (found := _find(name)) is not None:
        return found
    cache = writable_cache()
    try:
        return _make(cache / name, make, doing)
    except OSError as error:
        if cache == process_folder():
            raise StorageError(_reason(error), file=str(cache)) from error
        _warn_of_temporary(cache, _reason(error))
    try:
        return _make(process_folder() / name, make, doing)
    except OSError as error:
        raise StorageError(_reason(error), file=str(process_folder())) from error


def cache_dir() -> Path | None:
    """Where compiled models are kept: ``$SOFIE_ROOT_CACHE``, else a folder of the user's cache.

    None where the user has no home.

    Raises:
        OSError: the name is relative, and the current folder was removed.
    """
    if chosen := os.environ.get("SOFIE_ROOT_CACHE"):
        return _absolute(chosen)
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if base.is_absolute():  # the specification says to ignore others
        return base / "sofie_root"
    home = Path(os.environ.get("HOME") or _home_of_user())
    if not home.is_absolute():
        return None
    return home / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "sofie_root"


def writable_cache() -> Path:
    """The cache folder, made if need be; or a temporary one, with a warning, where it cannot be used."""
    folder, problem = None, "there is no home folder"
    try:
        folder = cache_dir()
        if folder is not None:
            _make_folders(folder)
            problem = why_not_private(folder) or ""
            if not problem and os.access(folder, os.W_OK | os.X_OK):
                return folder
    except OSError as error:
        problem = _reason(error)
    _warn_of_temporary(folder, problem or "it cannot be written")
    return process_folder()


def readonly_caches() -> list[Path]:
    """The folders of ``$SOFIE_ROOT_CACHE_READONLY``, separated by colons."""
    named = os.environ.get("SOFIE_ROOT_CACHE_READONLY", "").split(os.pathsep)
    folders = []
    for name in filter(None, named):
        with contextlib.suppress(OSError):  # a relative name, and the current folder was removed
            folders.append(_absolute(name))
    return folders


@functools.cache
def process_folder() -> Path:
    """A folder for files of this process; removed when it ends, but not when a fork of it does.

    Raises:
        StorageError: there is none.
    """
    problems = []
    for base in dict.fromkeys((_temporary_folder(), "/tmp", "/var/tmp", "/dev/shm")):
        if base is None:
            continue
        try:
            folder = Path(tempfile.mkdtemp(prefix="sofie_root-", dir=base))
            problem = why_not_private(folder)
            if problem is None:
                break
            folder.rmdir()
            problems.append(problem)
        except OSError as error:
            problems.append(f"{base}: {_reason(error)}")
    else:
        raise StorageError("no temporary folder can be used: " + "; ".join(problems))
    owner = os.getpid()

    def remove() -> None:
        if os.getpid() == owner:
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return folder


def touch(path: Path) -> None:
    """Notes that an entry was used."""
    with contextlib.suppress(OSError):
        os.utime(path)


def trim(folder: Path, limit: int = LIMIT) -> list[Path]:
    """Removes the entries that were used least recently, until the rest takes at most ``limit`` bytes.

    Entries used a moment ago stay, and so does all that is no entry of ours. Another process that has a
    removed file open keeps it: a removed library stays mapped.

    Returns:
        What was removed.
    """
    now = time.time()
    entries: list[tuple[float, int, Path]] = []
    removed: list[Path] = []
    for path in _folders(folder):
        with contextlib.suppress(OSError):  # another process removed it
            used = path.stat().st_mtime
            if path.name.startswith(_SCRATCH):
                if now - used > 24 * IN_USE:  # its process was killed
                    removed.append(path)
            elif (path / CHECKSUMS).exists():
                size = sum(f.stat().st_size for f in path.iterdir())
                entries.append((used, size, path))
    left = sum(size for _, size, _ in entries)
    for used, size, path in sorted(entries):
        if left > limit and now - used > IN_USE:
            removed.append(path)
            left -= size
    for path in removed:
        _remove(path)
    return removed


# --------------------------------------------------------------------------------------------------
# Entries
# --------------------------------------------------------------------------------------------------


def _find(name: str) -> Path | None:
    """A whole entry of this name, in the user's cache or in those that may only be read."""
    with contextlib.suppress(OSError):
        mine = cache_dir()
        if mine is not None and (found := mine / name).is_dir():
            is_mine = why_not_private(mine) is None
            if is_mine and _is_whole(found, private=True):
                touch(found)
                return found
    for folder in readonly_caches():
        if _is_whole(folder / name, private=False):
            return folder / name
        if os.path.lexists(folder / name):
            _warn_once(f"{folder / name} in SOFIE_ROOT_CACHE_READONLY is damaged and not used")
    return None


def _make(path: Path, make: Callable[[Path], None], doing: str) -> Path:
    """Makes an entry, unless another thread or process did so in the meantime.

    Raises:
        OSError: it cannot be written.
    """
    with exclusive(path, doing):
        if _is_whole(path, private=True):
            return path
        scratch = Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=path.parent))
        try:
            make(scratch)
            _seal(scratch)
            if _is_whole(path, private=True):  # by a process that could not wait, or had no locks
                return path
            if path.is_symlink() or path.exists():  # damaged
                _remove(path)
            try:
                scratch.rename(path)
            except OSError:
                if not _is_whole(path, private=True):
                    raise
            flush_folder(path.parent)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    trim(path.parent)
    return path


def _seal(folder: Path) -> None:
    """Writes the list of checksums, and waits until all files are on the disk."""
    files = sorted(folder.iterdir())
    lines = [f"{_checksum(file, private=True)}  {file.name}\n" for file in files]
    text = "".join(lines).encode()
    listed = folder / CHECKSUMS
    listed.write_bytes(text + f"{xxhash.xxh128_hexdigest(text)}\n".encode())
    for file in (*files, listed):
        file.chmod(stat.S_IMODE(file.stat().st_mode) & ~(stat.S_IWGRP | stat.S_IWOTH))
        flush(file)
    flush_folder(folder)


def _is_whole(path: Path, private: bool) -> bool:
    """Whether every file that an entry lists is there and has its checksum.

    Args:
        path: the entry.
        private: whether the entry has to be written by this user, and by nobody else.
    """
    try:
        info = path.lstat() if private else path.stat()
        if not stat.S_ISDIR(info.st_mode) or (private and why_not_ours(info, path)):
            return False
        with _open(path / CHECKSUMS, private) as file:
            *lines, seal = file.read(_CHUNK).decode().splitlines(keepends=True)
        if seal != f"{xxhash.xxh128_hexdigest(''.join(lines).encode())}\n":
            return False
        for line in lines:
            checksum, _, name = line.rstrip("\n").partition("  ")
            if name != Path(name).name or _checksum(path / name, private) != checksum:
                return False
    except (OSError, ValueError):
        return False
    return True


def _checksum(path: Path, private: bool) -> str:
    digest = xxhash.xxh128()
    with _open(path, private) as file:
        while part := file.read(_CHUNK):
            digest.update(part)
    return digest.hexdigest()


def _open(path: Path, private: bool) -> io.FileIO:
    """A regular file for reading; never a pipe that blocks, nor the link or file of somebody else.

    Raises:
        OSError: it is none of that.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (os.O_NOFOLLOW if private else 0)
    file = io.FileIO(os.open(path, flags))
    info = os.fstat(file.fileno())
    if not stat.S_ISREG(info.st_mode) or (private and why_not_ours(info, path)):
        file.close()
        raise OSError(errno.EPERM, "is no regular file of this user", str(path))
    return file


def _remove(path: Path) -> None:
    """Removes an entry at once: under its name nobody ever finds a part of it."""
    with contextlib.suppress(OSError):
        if path.is_symlink() or not path.is_dir():
            path.unlink()
            return
        doomed = Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=path.parent))
        path.rename(doomed / path.name)
        shutil.rmtree(doomed, ignore_errors=True)


def _folders(folder: Path) -> list[Path]:
    with contextlib.suppress(OSError):
        return [p for p in folder.iterdir() if p.is_dir() and not p.is_symlink()]
    return []


# --------------------------------------------------------------------------------------------------
# Folders
# --------------------------------------------------------------------------------------------------


def _make_folders(folder: Path) -> None:
    """Makes a folder and those above it that are missing, for this user alone."""
    if not folder.is_dir():
        _make_folders(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def _absolute(name: str) -> Path:
    path = Path(name)
    with contextlib.suppress(RuntimeError):  # nobody's home: the name is taken as it is
        path = path.expanduser()
    return path.absolute()


def _home_of_user() -> str:
    """The home folder in the list of users, where ``$HOME`` is not set; empty if there is none."""
    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:  # a container that was started for a user whom it does not know
        return ""


def _temporary_folder() -> str | None:
    try:
        return tempfile.gettempdir()
    except OSError:
        return None


def _reason(error: OSError) -> str:
    reason = error.strerror or str(error)
    where = f": {error.filename}" if error.filename and _SCRATCH not in str(error.filename) else ""
    return reason[:1].lower() + reason[1:] + where


def _warn_of_temporary(folder: Path | None, problem: str) -> None:
    where = (
        "compiled models cannot be kept" if folder is None else f"the cache {folder} is not used"
    )
    _warn_once(
        f"{where}: {problem}. Models are compiled into a temporary folder, again in each process; "
        "SOFIE_ROOT_CACHE names a folder of yours that nobody else can write to"
    )


_warnings: set[str] = set()


def _warn_once(message: str) -> None:
    if message not in _warnings:
        _warnings.add(message)
        warnings.warn(message, RuntimeWarning, stacklevel=2)
