"""One thread of one process at a time makes an entry of the cache; the others wait for it.

The lock is a POSIX record lock (``fcntl``) on one byte of the file ``.lock`` in the cache: it vanishes with
its process however that ends, a forked child does not inherit it, and no lock files pile up. Making an
entry twice is a waste and no error, so wherever locks do not work (NFS without them), or take too long,
work goes on without them.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

NOTICE_AFTER = 5.0
"""Seconds after which a waiting process says on standard error what it waits for."""

PATIENCE = 1200.0
"""Seconds after which it waits no longer: who holds the lock may have been stopped."""

ANSWER_AFTER = 20.0
"""Seconds that a file system may take to say who holds a lock; a lock server that is down never does."""

_guard = threading.Lock()
_threads: dict[Path, threading.Lock] = {}
_files: dict[Path, int | None] = {}
"""The open lock file of each cache, None where it has no locks. It is never closed: a process that closes
any descriptor of a file loses all its locks on it."""


def _forget() -> None:
    """In a forked child: threads of the parent that held a lock do not exist here."""
    global _guard
    _guard = threading.Lock()
    _threads.clear()


os.register_at_fork(after_in_child=_forget)


@contextmanager
def exclusive(entry: Path, doing: str) -> Iterator[None]:
    """Keeps all other threads and processes out of the block, for the same entry of the cache.

    Args:
        entry: path of the entry; its folder exists and can be written.
        doing: what the others wait for, for the line on standard error.
    """
    with _guard:
        mine = _threads.setdefault(entry, threading.Lock())
    deadline = time.monotonic() + PATIENCE
    has_mine = _wait(lambda: mine.acquire(blocking=False), doing, deadline)
    try:
        byte = int.from_bytes(hashlib.sha256(entry.name.encode()).digest()[:7], "big")
        with _file_lock(entry.parent, byte, doing, deadline):
            yield
    finally:
        if has_mine:
            mine.release()


@contextmanager
def _file_lock(folder: Path, byte: int, doing: str, deadline: float) -> Iterator[None]:
    descriptor = _lock_file(folder)
    locked = False
    try:
        if descriptor is not None:
            locked = _wait(lambda: _try_lock(descriptor, byte), doing, deadline)
    except OSError:  # the file system has no locks
        with _guard:
            _files[folder] = None
    try:
        yield
    finally:
        if locked and descriptor is not None:
            with contextlib.suppress(OSError):
                fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, byte)


def _lock_file(folder: Path) -> int | None:
    """A descriptor of the folder's lock file; None where it has no locks."""
    path = folder / ".lock"
    with _guard:
        if folder in _files:
            kept = _files[folder]
            if kept is None or _is_at(kept, path):
                return kept
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            _files[folder] = os.open(path, flags, 0o600)
        except OSError:
            _files[folder] = None
        return _files[folder]


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the open file still has this name: somebody may have removed the cache."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except OSError:
        return False


def _try_lock(descriptor: int, byte: int) -> bool:
    """Whether the lock was free, and is ours now.

    Raises:
        OSError: there are no locks here, or nobody answers.
    """
    answers: list[bool | OSError] = []
    decision, abandoned = threading.Lock(), threading.Event()

    def ask() -> None:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
            answer: bool | OSError = True
        except OSError as error:
            answer = False if error.errno in (errno.EAGAIN, errno.EACCES) else error
        with decision:
            answers.append(answer)
            if abandoned.is_set() and answer is True:
                fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, byte)

    asker = threading.Thread(target=ask, daemon=True)
    asker.start()
    asker.join(ANSWER_AFTER)
    with decision:
        if not answers:
            abandoned.set()
            raise OSError(errno.ENOLCK, "the file system does not answer")
        answer = answers[0]
    if isinstance(answer, OSError):
        raise answer
    return answer


def _wait(attempt: Callable[[], bool], doing: str, deadline: float) -> bool:
    """Tries until it works: True; or until the deadline: False."""
    start, pause, has_said = time.monotonic(), 0.01, False
    while not attempt():
        now = time.monotonic()
        if now > deadline:
            return False
        if not has_said and now - start > NOTICE_AFTER:
            print(f"sofie_root: waiting for another process that {doing}", file=sys.stderr)
            has_said = True
        time.sleep(pause)
        pause = min(2 * pause, 0.2)
    return True
