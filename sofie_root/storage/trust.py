"""Whether a folder belongs to this user alone, so that code which lies in it may be run."""

from __future__ import annotations

import functools
import grp
import os
import pwd
import stat
from pathlib import Path

_MAX_LINKS = 40


def why_not_private(folder: Path) -> str | None:
    """Why somebody else could change what is in a folder; None where nobody else can.

    The folder has to belong to this user and be writable by nobody else. Every folder and link on the way
    to it has to belong to this user or to root, and only folders whose sticky bit protects what is in
    them, as it does in ``/tmp``, may be writable by others.

    Args:
        folder: an absolute path of a folder that exists.

    Raises:
        OSError: a part of the path cannot be looked at.
    """
    at, todo, links = Path("/"), list(folder.parts[1:]), 0
    while todo:
        step = at / todo.pop(0)
        info = step.lstat()
        if not _is_ours_or_roots(info.st_uid):
            return f"{step} belongs to {_user(info.st_uid)}"
        if stat.S_ISLNK(info.st_mode):
            links += 1
            if links > _MAX_LINKS:
                return f"{step} is a circle of links"
            target = Path(step.readlink())
            todo[:0] = target.parts[1:] if target.is_absolute() else target.parts
            at = Path("/") if target.is_absolute() else at
        elif step.name == "..":
            at = at.parent
        else:
            is_sticky = bool(info.st_mode & stat.S_ISVTX)
            if todo and not is_sticky and is_writable_by_others(info):
                return f"{step} is writable by others"
            at = step
    return why_not_ours(at.lstat(), at)


def why_not_ours(info: os.stat_result, path: Path) -> str | None:
    """Why a file or folder with this status may hold what somebody else wrote; None where it cannot."""
    if info.st_uid != os.geteuid():
        return f"{path} belongs to {_user(info.st_uid)}"
    if is_writable_by_others(info):
        return f"{path} is writable by others"
    return None


def is_writable_by_others(info: os.stat_result) -> bool:
    """Whether anybody but the owner may write; a group that consists of this user alone does not count."""
    if info.st_mode & stat.S_IWOTH:
        return True
    return bool(info.st_mode & stat.S_IWGRP) and not _is_private_group(info.st_gid)


def _is_private_group(group: int) -> bool:
    """Whether this is the group that many systems give to each user, with nobody else in it."""
    try:
        user, found = pwd.getpwuid(os.geteuid()), grp.getgrgid(group)
    except KeyError:
        return False
    return (
        user.pw_gid == group
        and found.gr_name == user.pw_name
        and set(found.gr_mem) <= {user.pw_name}
    )


def _is_ours_or_roots(user: int) -> bool:
    return user in (0, os.geteuid()) or user == _unmapped_user()


@functools.cache
def _unmapped_user() -> int | None:
    """The user that root's files seem to belong to in a container which does not know root."""
    try:
        ranges = [line.split() for line in Path("/proc/self/uid_map").read_text().splitlines()]
        overflow = int(Path("/proc/sys/kernel/overflowuid").read_text())
    except (OSError, ValueError):
        return None
    knows_all = any(int(count) == 2**32 - 1 for _, _, count in ranges)
    return None if knows_all else overflow


def _user(number: int) -> str:
    try:
        return f"user {pwd.getpwuid(number).pw_name}"
    except KeyError:
        return f"user {number}"
