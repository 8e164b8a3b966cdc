"""Collects the headers that a generated header uses into one file: our kernels, and the user's code."""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Iterable
from pathlib import Path

from sofie_root.config import include_dir
from sofie_root.errors import SofieError

QUOTED = re.compile(r'^\s*#\s*include\s+"([^"]+)"\s*$')
ONCE = re.compile(r"^\s*#\s*pragma\s+once\s*$")
NAMESPACE = re.compile(r"\bnamespace sofie\b")
QUALIFIED = re.compile(r"(?<![\w:])(?:::)?sofie::")
OURS = re.compile(r"^\s*#\s*include\s+<sofie/([^>]+)>")
SPAN = "span.hxx"
"""The one header of ours whose names are never changed: custom operators are written with it."""

SPAN_TEXT = "core/span.hxx"
"""What :data:`SPAN` includes."""


def collect(headers: Iterable[str]) -> list[tuple[str, str]]:
    """These headers of ``sofie/`` and all they include, dependencies first: (name, text)."""
    folder = include_dir() / "sofie"
    done: dict[str, str] = {}

    def visit(name: str) -> None:
        if name in done:
            return
        try:
            text = (folder / name).read_text()
        except OSError as error:
            raise SofieError(f"there is no header <sofie/{name}>") from error
        for line in text.splitlines():
            if match := QUOTED.match(line):
                visit(posixpath.normpath(posixpath.join(posixpath.dirname(name), match[1])))
        done[name] = text

    for name in sorted(headers):
        visit(name)
    return list(done.items())


def bundle(headers: Iterable[str]) -> tuple[str, str]:
    """The headers as one text, and the namespace that they live in.

    The namespace carries a hash of the text, so that generated headers of different versions of
    sofie_root can be included together, and equal text is compiled once.
    """
    parts = collect(headers)
    digest = hashlib.sha256("".join(text for _, text in parts).encode()).hexdigest()[:12]
    namespace = f"sofie_{digest}"
    lines = []
    for name, text in parts:
        guard = f"SOFIE_{re.sub(r'[^A-Z0-9]', '_', name.upper())}_{digest}"
        lines += [
            f"// ---- sofie/{name} " + "-" * max(1, 88 - len(name)),
            f"#ifndef {guard}",
            f"#define {guard}",
        ]
        lines += [
            _renamed(line, namespace)
            for line in text.splitlines()
            if not QUOTED.match(line) and not ONCE.match(line)
        ]
        lines += [f"#endif  // {guard}", ""]
    return "\n".join(lines), namespace


def user_code(headers: Iterable[str], renamed: bool) -> str:
    """The text of a user's headers and of what they include from beside them, names as they are.

    Each file is guarded by a hash of its text, so that several generated headers can carry it.

    Args:
        headers: absolute paths.
        renamed: whether the kernels of sofie_root are in a renamed namespace, out of the user's reach.

    Raises:
        SofieError: a file cannot be read, or includes a header of ours that is renamed.
    """
    span = include_dir() / "sofie" / SPAN_TEXT
    done = {span: span.read_text()}  # dependencies first

    def visit(path: Path) -> None:
        kept: list[str] = []
        for line in _read(path).splitlines():
            quoted, ours = QUOTED.match(line), OURS.match(line)
            if quoted and (path.parent / quoted[1]).is_file():
                beside = (path.parent / quoted[1]).resolve()
                if beside not in done and beside != path:
                    visit(beside)
            elif ours and renamed and ours[1] not in (SPAN, SPAN_TEXT):
                raise SofieError(
                    f"includes <sofie/{ours[1]}>, whose names are changed in a standalone header; "
                    f"include <sofie/{SPAN}> only, or generate with standalone=False",
                    file=str(path),
                )
            elif not ONCE.match(line) and not (ours and ours[1] in (SPAN, SPAN_TEXT)):
                kept.append(line)
        done[path] = "\n".join(kept)

    for header in sorted(headers):
        if Path(header) not in done:
            visit(Path(header))
    lines = []
    for path, text in done.items():
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        guard = f"SOFIE_USER_{re.sub(r'[^A-Z0-9]+', '_', path.name.upper())}_{digest}"
        lines += [f"// ---- {path.name} " + "-" * max(1, 94 - len(path.name)), f"#ifndef {guard}"]
        lines += [f"#define {guard}", text.rstrip(), f"#endif  // {guard}", ""]
    return "\n".join(lines)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SofieError(f"cannot be read: {error}", file=str(path)) from error


def _renamed(line: str, namespace: str) -> str:
    """The line with namespace sofie renamed, in code but not inside words like TMVA_SOFIE."""
    line = NAMESPACE.sub(f"namespace {namespace}", line)
    return QUALIFIED.sub(f"{namespace}::", line)
