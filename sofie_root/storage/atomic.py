"""Files appear whole or not at all, also when the power fails."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sofie_root.errors import StorageError


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Gives a temporary path beside ``path`` to write to, moved there when the block succeeds.

    A reader never sees half a file, and a failed write leaves the old one as it was.

    Raises:
        StorageError: the file cannot be written; names it.
    """
    temporary: Path | None = None
    try:
        target = Path(path).resolve()
        if not target.parent.is_dir():
            raise StorageError(
                f"cannot be written: there is no directory {target.parent}", file=str(path)
            )
        if target.exists() and not target.is_file():
            raise StorageError("cannot be written: it is not a regular file", file=str(path))
        # The name is random: threads may write the same file, and nobody can put a link in its place.
        temporary = target.with_name(f".{secrets.token_hex(8)}.part")
        yield temporary
        flush(temporary)
        temporary.replace(target)
        flush_folder(target.parent)
    except OSError as error:
        reason = error.strerror or str(error)
        raise StorageError(f"cannot be written: {reason}", file=str(path)) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def flush(file: Path) -> None:
    """Waits until a file's content is on the disk, so that its new name never shows less."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_folder(folder: Path) -> None:
    """Waits until a folder's list of names is on the disk, where the file system can do that."""
    with contextlib.suppress(OSError):
        flush(folder)
