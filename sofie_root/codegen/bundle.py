"""Collects the kernel headers that a generated header uses into one standalone file."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

from sofie_root.config import include_dir

QUOTED = re.compile(r'^\s*#\s*include\s+"([^"]+)"\s*$')
ONCE = re.compile(r"^\s*#\s*pragma\s+once\s*$")
NAMESPACE = re.compile(r"\bnamespace sofie\b")
QUALIFIED = re.compile(r"(?<![\w:])(?:::)?sofie::")


def collect(headers: Iterable[str]) -> list[tuple[str, str]]:
    """These headers of ``sofie/`` and all they include, dependencies first: (name, text)."""
    folder = include_dir() / "sofie"
    done: dict[str, str] = {}

    def visit(name: str) -> None:
        if name in done:
            return
        text = (folder / name).read_text()
        for line in text.splitlines():
            if match := QUOTED.match(line):
                visit(match.group(1))
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


def _renamed(line: str, namespace: str) -> str:
    """The line with namespace sofie renamed, in code but not inside words like TMVA_SOFIE."""
    line = NAMESPACE.sub(f"namespace {namespace}", line)
    return QUALIFIED.sub(f"{namespace}::", line)
