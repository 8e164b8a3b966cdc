"""The one way from a model's names to C++: fresh identifiers, escaped strings and comments."""

from __future__ import annotations

import re
import unicodedata

_KEYWORDS = """
EOF Full INFINITY Inputs NAN NULL Outputs Partial Scalar Session TMVA Weights acc again alignas
alignof and and_eq arena asm assert auto batch bitand bitor bool break case catch char char16_t
char32_t class co_await co_return co_yield compl concept const const_cast consteval constexpr
constinit continue decltype default delete do double dynamic_cast else enum errno explicit export
extern false file float for friend goto growing i386 if infer infer_to inline int iteration lane
linux long main mutable namespace new noexcept not not_eq nullptr offsets operator or or_eq output
output_shape path prepare private protected public register reinterpret_cast requires return row
short signed sizeof sizes sofie static static_assert static_cast std stderr stdin stdout struct
switch template this thread_local throw trips true try typedef typeid typename union unix unsigned
using virtual void volatile w wchar_t while xor xor_eq
"""
_MACROS = """
I alloca assert_perror be16toh be32toh be64toh htobe16 htobe32 htobe64 htole16 htole32 htole64
issubnormal le16toh le32toh le64toh major makedev math_errhandling minor offsetof pthread_cleanup_pop
pthread_cleanup_pop_restore_np pthread_cleanup_push pthread_cleanup_push_defer_np sched_priority
strdupa strndupa va_arg va_copy va_end va_start
"""
KEYWORDS = frozenset((*_KEYWORDS.split(), *_MACROS.split()))
"""C++ keywords, names that generated code uses for its own things, and macros in lower case."""

VARIABLES = re.compile(r"(i|j|k|l|r|v|acc|best|at|current)\d*(_\d+)?")
"""Loop indices and other variables inside one step; no tensor or size is called like them."""

CAPITALS = re.compile(r"[A-Z][A-Z0-9]*_?[A-Z0-9]{2}|[A-Z]_")
"""Names that may be macros of a standard header (``M_PI``, ``EDOM``) are used in lower case."""


def identifier(text: str) -> str:
    """A valid C++ identifier that resembles ``text``: ASCII letters, digits and single underscores."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    name = re.sub(r"[^0-9A-Za-z]+", "_", plain).strip("_")
    if not name or name[0].isdigit():
        name = f"t{name}" if name else "t"
    return name[:60].rstrip("_")


class Identifiers:
    """Hands out identifiers: the same key gives the same name, different keys never share one."""

    def __init__(self, taken: frozenset[str] = KEYWORDS) -> None:
        self._taken = set(taken)
        self._names: dict[object, str] = {}

    def __getitem__(self, key: object) -> str:
        return self._names[key]

    def __contains__(self, key: object) -> bool:
        return key in self._names

    def name(self, key: object, text: str) -> str:
        """The identifier of ``key``, made from ``text`` the first time it is asked for."""
        if key not in self._names:
            self._names[key] = self.fresh(text)
        return self._names[key]

    def private(self, key: object, public: str) -> str:
        """The identifier ``public_`` for ``key``; no name made by :meth:`fresh` ends like that."""
        self._names[key] = f"{public}_"
        return self._names[key]

    def fresh(self, text: str) -> str:
        """An identifier that nobody has yet."""
        base = identifier(text)
        if CAPITALS.match(base):
            base = base.lower()
        if VARIABLES.fullmatch(base):
            base = f"t_{base}"
        name, suffix = base, 2
        while name in self._taken or VARIABLES.fullmatch(name):
            name, suffix = f"{base}_{suffix}", suffix + 1
        self._taken.add(name)
        return name


def string_literal(text: str) -> str:
    """A C++ string literal with that UTF-8 content; nothing in it can end the literal."""
    out = []
    for byte in text.encode("utf-8", "surrogatepass"):
        char = chr(byte)
        if 32 <= byte < 127 and char not in '"\\?':
            out.append(char)
        else:
            out.append(f"\\{byte:03o}")
    return '"' + "".join(out) + '"'


def comment(text: str) -> str:
    """Text that is safe in a ``//`` comment: one line, printable, no trailing backslash."""
    shown = "".join(c if c.isprintable() else "?" for c in text)
    return shown.replace("\\", "/").replace("??/", "??").strip()
