"""Files appear whole or not at all."""

from __future__ import annotations

import os
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
    target = Path(path).resolve()
    if not target.parent.is_dir():
        raise StorageError(
            f"cannot be written: there is no directory {target.parent}", file=str(path)
        )
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        yield temporary
        temporary.replace(target)
    except OSError as error:
        reason = error.strerror or str(error)
        raise StorageError(f"cannot be written: {reason}", file=str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)
