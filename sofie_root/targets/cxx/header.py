"""Prints the header: first lines, kernels, weights, and the structs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from sofie_root.errors import InputError
from sofie_root.schedule.schedule import Schedule
from sofie_root.storage import weights as weights_file

from .bundle import SPAN, bundle, user_code
from .literals import number
from .names import KEYWORDS, comment, identifier, string_literal
from .session import Struct
from .shared import Shared
from .summary import header_summary
from .text import INDENT

WeightsKind = Literal["dat", "root", "embedded"]

REFUSALS = 3
"""So many nodes are named where a header refuses to be compiled with ``-ffinite-math-only``."""


@dataclass(frozen=True, slots=True)
class Header:
    """A generated header and what goes with it.

    Attributes:
        text: the header.
        namespace: C++ namespace of the Session.
        constants: arrays by the names that the header asks for; written to ``.dat`` or ``.root``.
        model_hash: 32 bytes that tie header and weights together.
    """

    text: str
    namespace: str
    constants: dict[str, npt.NDArray[Any]]
    model_hash: bytes


def generate(
    schedule: Schedule,
    *,
    stem: str,
    weights: WeightsKind = "dat",
    standalone: bool = True,
    version: str = "",
    source: str = "",
    namespace: str | None = None,
    inline_user_code: bool | None = None,
    profile: bool = False,
) -> Header:
    """The header of a scheduled model.

    Args:
        schedule: what to print.
        stem: file stem of the header; names the weights file and the namespace.
        weights: where the weights are: beside the header in ``stem.dat`` or ``stem.root``, or in it.
        standalone: inline the kernels that are used, else ``#include <sofie/...>``.
        version: version of sofie_root, for the first line.
        source: provenance, for the first line.
        namespace: namespace of the Session; made from the stem if not given.
        inline_user_code: inline the headers of custom operators, else include them; as ``standalone``
            if not given.
        profile: add a member ``profile`` to the Session with the time of each step of the last call.

    Returns:
        The header's text and the constants that belong to it. The same input gives the same bytes.
    """
    inline = standalone if inline_user_code is None else inline_user_code
    writer = _Writer(
        schedule, stem, weights, standalone, version, source, namespace, inline, profile
    )
    return writer.header()


class _Writer:
    def __init__(
        self,
        schedule: Schedule,
        stem: str,
        weights: WeightsKind,
        standalone: bool,
        version: str,
        source: str,
        namespace: str | None,
        inline: bool,
        profile: bool = False,
    ) -> None:
        self.schedule = schedule
        self.stem = stem
        self.weights = weights
        self.standalone = standalone
        self.inline = inline
        self.version = version
        self.source = source
        self.namespace = _checked(namespace) or f"TMVA_SOFIE_{identifier(stem or 'model')}"
        embedded = weights == "embedded"
        # A relative path is looked for beside the header too.
        found = "sofie::find_weights(weights, __FILE__)"
        self.shared = Shared(
            string_literal(self.namespace) if embedded else found,
            None if embedded else f"{stem}.{weights}",
            profile,
        )
        self.session = Struct(schedule, self.shared)
        self.constants = self.shared.constants

    # -- the parts, in output order ----------------------------------------------------------------------
    def header(self) -> Header:
        # Those of the user's custom operators are absolute paths.
        users = sorted(h for h in self.shared.headers if Path(h).is_absolute())
        headers = self.shared.headers.difference(users)
        struct = self.session.lines()
        constants = {cpp: array for cpp, (array, _) in sorted(self.constants.items())}
        model_hash = weights_file.model_hash(constants, "\n".join([self.namespace, *struct]))
        if constants:
            headers.add("core/weights_root.hxx" if self.weights == "root" else "core/weights.hxx")
        if self.standalone:
            code, kernels = bundle(headers)
            prelude = [
                _part("Part 1 of 2: kernels of sofie_root; the model follows them"),
                "",
                code,
            ]
            sofie = f"::{kernels}"
        else:
            prelude = [f"#include <sofie/{name}>" for name in sorted(headers)] + [""]
            sofie = "::sofie"
        if users and self.inline:
            prelude.append(user_code(users, self.standalone))
        elif users:
            prelude += [f"#include <sofie/{SPAN}>", *_user_includes(users), ""]
        guard, tag = f"{self.namespace}_HXX", f"0x{model_hash[:6].hex()}"
        opened = self.shared.weights_default if constants else None
        lines = [*self._first_lines(), "//", *header_summary(self.session, self.namespace, opened)]
        lines += [f"#ifndef {guard}", f"#define {guard} {tag}", ""]
        lines += self._refusal()
        lines += [*self._includes(), *prelude]
        inner = self.schedule.target.namespace
        alias = f"namespace sofie = {sofie}{f'::{inner}' if inner else ''};"
        if self.standalone:
            lines += [_part("Part 2 of 2: the model"), ""]
        lines += [f"namespace {self.namespace} {{", "", alias, ""]
        for members, name in self.shared.traits.items():
            lines += [f"struct {name} {{", members, "};", ""]
        if constants:
            lines += [*self._weights(model_hash.hex(), constants, model_hash), ""]
        lines += struct
        lines += ["", f"}}  // namespace {self.namespace}", "", f"#elif {guard} != {tag}"]
        lines += [f'#error "another model of namespace {self.namespace} is included already"']
        lines += [f"#endif  // {guard}", ""]
        return Header("\n".join(lines), self.namespace, constants, model_hash)

    def _first_lines(self) -> list[str]:
        where = {
            "dat": f"Weights: {self.stem}.dat",
            "root": f"Weights: {self.stem}.root",
            "embedded": "Weights: embedded",
        }[self.weights]
        if not self.constants:
            where = "Weights: none"
        total = self.schedule.plan.total
        size = _bytes(total) if isinstance(total, int) else f"{comment(str(total))} bytes"
        return [
            f"// Generated by sofie_root {self.version} from {comment(self.source)}. {comment(where)}. "
            f"Arena {size}. Do not edit.",
            "// Needs C++17 and the standard library"
            + (
                ", and ROOT to read the weights."
                if self.weights == "root" and self.constants
                else "."
            ),
        ]

    def _refusal(self) -> list[str]:
        """What stops a compilation that would be silently wrong."""
        found = _needs_infinity(self.schedule)
        if not found:
            return []
        shown = [f"{name} {reason}" for name, reason in list(found.items())[:REFUSALS]]
        if len(found) > REFUSALS:
            shown.append(f"{len(found) - REFUSALS} more")
        why = string_literal(
            f"{self.namespace} needs NaN and infinity ({'; '.join(shown)}): "
            "add -fno-finite-math-only behind -ffast-math or -Ofast"
        )
        test = "#if defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__"
        return [test, f"#error {why}", "#endif", ""]

    def _includes(self) -> list[str]:
        names = ["algorithm", "array", "cstddef", "cstdint", "limits", "memory", "stdexcept", "string",
                 "tuple", "vector"]  # fmt: skip
        return [*(f"#include <{n}>" for n in names), ""]

    def _weights(
        self, hash_text: str, constants: dict[str, npt.NDArray[Any]], model_hash: bytes
    ) -> list[str]:
        lines: list[str] = []
        if self.weights == "embedded":
            image = weights_file.dat_bytes(constants, model_hash)
            words = np.frombuffer(image + b"\0" * (-len(image) % 8), dtype="<u8")
            lines += [f"alignas(64) inline constexpr std::uint64_t kImage[{len(words)}] = {{"]
            for k in range(0, len(words), 6):
                lines.append(INDENT + " ".join(f"0x{int(v):x}u," for v in words[k : k + 6]))
            lines += ["};", ""]
            opened = f"file(reinterpret_cast<const unsigned char*>(kImage), {len(image)}, kHash)"
        elif self.weights == "root":
            opened = "file(path, kHash, sofie::read_root_weights)"
        else:
            opened = "file(path, kHash)"
        lines += [
            "/// The constants of the model, packed for the kernels that read them; shared by all Sessions.",
            "struct Weights {",
            f'{INDENT}static constexpr const char* kHash = "{hash_text}";',
            f"{INDENT}sofie::WeightsFile file;",
        ]
        types = {cpp: kind for cpp, (_, kind) in self.constants.items()}
        for cpp, array in constants.items():
            shape = ", ".join(map(number, array.shape))
            lines.append(f"{INDENT}const {types[cpp]}* {cpp};  // [{shape}]")
        inits = [opened]
        for cpp, array in constants.items():
            shape = ", ".join(map(number, array.shape))
            inits.append(f'{cpp}(file.tensor<{types[cpp]}>("{cpp}", {{{shape}}}))')
        argument = "/*path*/" if self.weights == "embedded" else "path"
        lines += ["", f"{INDENT}explicit Weights(const std::string& {argument})"]
        lines += [f"{INDENT * 3}{':' if k == 0 else ' '} {t}{',' if k < len(inits) - 1 else ' {}'}"
                  for k, t in enumerate(inits)]  # fmt: skip
        lines += ["};"]
        return lines


def _part(title: str) -> str:
    """A line that one finds when paging through the file."""
    return f"// ==== {title} ".ljust(100, "=")


def _needs_infinity(schedule: Schedule) -> dict[str, str]:
    """Why nodes need NaN or infinity, by their names; those in bodies of control flow too."""
    found = dict(schedule.needs_infinity)
    for bodies in schedule.bodies.values():
        for body in bodies:
            found |= _needs_infinity(body)
    return found


def _checked(namespace: str | None) -> str | None:
    """The namespace that was asked for, if it can be one."""
    if namespace is None or (
        re.fullmatch(r"[A-Za-z]\w*", namespace, re.ASCII)
        and "__" not in namespace
        and namespace not in KEYWORDS
    ):
        return namespace
    raise InputError(
        f"{namespace!r} cannot be a C++ namespace: use letters, digits and single underscores, "
        "no keyword"
    )


def _user_includes(headers: Sequence[str]) -> list[str]:
    """Includes by name; the folders are the ``-I`` that the line above tells."""
    return [
        line
        for path in map(Path, headers)
        for line in (f"// needs -I{comment(str(path.parent))}", f'#include "{path.name}"')
    ]


def _bytes(count: int) -> str:
    if count < 1000:
        return f"{count} B"
    return f"{count / 1000:.1f} kB" if count < 1_000_000 else f"{count / 1_000_000:.1f} MB"


__all__ = ["Header", "WeightsKind", "generate"]
