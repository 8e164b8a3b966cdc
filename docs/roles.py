"""MkDocs hook: shows cross-references in docstrings (``:class:`Graph```) as the names themselves."""

from __future__ import annotations

import re
from typing import Any

ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod):<code>(~?)\.*([\w.]+)</code>")


def _name(match: re.Match[str]) -> str:
    name = match[2].rpartition(".")[2] if match[1] else match[2]
    return f"<code>{name}</code>"


def on_page_content(html: str, **_: Any) -> str:
    """The page with plain names in the place of roles."""
    return ROLE.sub(_name, html)
