"""Prints the header: description, weights, and the Session struct in the order of DESIGN.md's contract."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from sofie_root.backends import text
from sofie_root.backends.cpu import INDENT, CpuPrinter
from sofie_root.backends.names import KEYWORDS, Names, comment, identifier, string_literal
from sofie_root.backends.text import Scope
from sofie_root.ir.dim import Atom, Dim, Poly, Symbol, single_atom, size_symbols
from sofie_root.lowering.memory import offset_symbol, typical
from sofie_root.lowering.schedule import Schedule
from sofie_root.program.program import Bind, Buffer, Check, Kernel
from sofie_root.storage import weights as weights_file

from .bundle import bundle

WeightsKind = Literal["dat", "root", "embedded"]
INTEGER_CALL = re.compile(r"sofie::(add|sub|mul|div|bit_\w+|shift_\w+)\(")
"""What ``integer.hxx`` is for; indices use it too, where no tensor has integers."""

UNKNOWN = "std::numeric_limits<std::int64_t>::min()"


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


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output of the model as C++ sees it."""

    public: str
    cpp: str
    buffer: Buffer
    dynamic: bool = False


def generate(
    schedule: Schedule,
    *,
    stem: str,
    weights: WeightsKind = "dat",
    standalone: bool = True,
    version: str = "",
    source: str = "",
    namespace: str | None = None,
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

    Returns:
        The header's text and the constants that belong to it. The same input gives the same bytes.
    """
    return _Writer(schedule, stem, weights, standalone, version, source, namespace).header()


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
    ) -> None:
        self.schedule = schedule
        self.program = schedule.program
        self.stem = stem
        self.weights = weights
        self.standalone = standalone
        self.version = version
        self.source = source
        self.namespace = namespace or f"TMVA_SOFIE_{identifier(stem) if stem else 'model'}"
        self.names = Names(KEYWORDS)
        self.sizes = {symbol: self.names.fresh(symbol.name) for symbol in schedule.symbols}
        for symbol, public in self.sizes.items():
            self.names.private(symbol, public)
        self.bound = [s.symbol for s in schedule.steps if isinstance(s, Bind)]
        known = set(schedule.symbols)
        self.inputs = [
            Port(n, self.names.name(n, n), self.program.buffers[n]) for n in self.program.inputs
        ]
        self.outputs = [
            Port(
                public,
                self.names.name(buffer, public),
                self.program.buffers[buffer],
                not known.issuperset(size_symbols(self.program.buffers[buffer].shape)),
            )
            for public, buffer in self.program.outputs.items()
        ]
        self.constants = {
            name: self.names.name(name, name)
            for name, buffer in self.program.buffers.items()
            if buffer.kind == "constant" and self.program.constants[name].size
        }
        for name, buffer in self.program.buffers.items():
            if buffer.kind == "arena":
                self.names.name(name, name)
        pointers = {name: self.names[name] for name in self.program.buffers if name in self.names}
        pointers |= {name: f"w.{cpp}" for name, cpp in self.constants.items()}
        pointers |= {
            name: f"static_cast<const {b.dtype.cpp}*>(nullptr)"
            for name, b in self.program.buffers.items()
            if b.kind == "constant" and name not in self.constants
        }
        self.printer = CpuPrinter(
            schedule, self.names, pointers, {"session.hxx", "weights.hxx", "math.hxx"}
        )
        if any(b.dtype.compute is not b.dtype for b in self.program.buffers.values()):
            self.printer.headers.add("half.hxx")

    # -- the parts, in output order ----------------------------------------------------------------------
    def header(self) -> Header:
        for symbol in self.bound:
            self.names.name(symbol, "size_" + symbol.name)
        body = self._body()
        if any(INTEGER_CALL.search(line) for line in body):
            self.printer.headers.add("integer.hxx")
        constants = {cpp: self.program.constants[n] for n, cpp in sorted(self.constants.items())}
        model_hash = weights_file.model_hash(constants, "\n".join([self.namespace, *body]))
        if self.weights == "root":
            self.printer.headers.add("weights_root.hxx")
        if self.standalone:
            code, kernels = bundle(self.printer.headers)
            prelude = [code]
            alias = [f"namespace sofie = ::{kernels};"]
        else:
            prelude = [f"#include <sofie/{name}>" for name in sorted(self.printer.headers)] + [""]
            alias = ["namespace sofie = ::sofie;"]
        lines = [*self._first_lines(), *self._includes(), *prelude]
        lines += [f"namespace {self.namespace} {{", "", *alias, ""]
        for struct, name in self.printer.traits.items():
            lines += [f"struct {name} {{", struct, "};", ""]
        if self.constants:
            lines += [*self._weights(model_hash.hex(), constants, model_hash), ""]
        lines += self._session(body)
        lines += ["", f"}}  // namespace {self.namespace}", "", f"#endif  // {self._guard()}", ""]
        return Header("\n".join(lines), self.namespace, constants, model_hash)

    def _guard(self) -> str:
        return f"{self.namespace.upper()}_HXX"

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

    def _includes(self) -> list[str]:
        names = ["algorithm", "array", "cstddef", "cstdint", "limits", "memory", "stdexcept", "string",
                 "tuple", "vector"]  # fmt: skip
        guard = self._guard()
        return [f"#ifndef {guard}", f"#define {guard}", "", *(f"#include <{n}>" for n in names), ""]

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
        by_cpp = {cpp: self.program.buffers[n] for n, cpp in self.constants.items()}
        for cpp, array in constants.items():
            shape = ", ".join(map(str, array.shape))
            lines.append(f"{INDENT}const {by_cpp[cpp].dtype.cpp}* {cpp};  // [{shape}]")
        inits = [opened]
        for cpp, array in constants.items():
            shape = ", ".join(map(str, array.shape))
            inits.append(f'{cpp}(file.tensor<{by_cpp[cpp].dtype.cpp}>("{cpp}", {{{shape}}}))')
        argument = "/*path*/" if self.weights == "embedded" else "path"
        lines += ["", f"{INDENT}explicit Weights(const std::string& {argument})"]
        lines += [f"{INDENT * 3}{':' if k == 0 else ' '} {t}{',' if k < len(inits) - 1 else ' {}'}"
                  for k, t in enumerate(inits)]  # fmt: skip
        lines += ["};"]
        return lines

    def _session(self, body: list[str]) -> list[str]:
        return [
            "/// Runs the model. One thread at a time uses a Session; Sessions share the weights.",
            "struct Session {",
            *_indent(self._description()),
            "",
            *_indent(self._constructor()),
            "",
            *_indent(self._infer()),
            "",
            *_indent(self._infer_to(body)),
            "",
            *_indent(self._output_shape()),
            "",
            *_indent(self._prepare()),
            " private:",
            *_indent(self._members()),
            "};",
        ]

    def _description(self) -> list[str]:
        symbols = self.schedule.symbols
        listed = ", ".join(string_literal(s.name) for s in symbols) or "nullptr"
        lines = [
            f"static constexpr std::size_t kSymbols = {len(symbols)};",
            f"static constexpr const char* kSymbolNames[{max(1, len(symbols))}] = {{{listed}}};",
        ]
        for kind, ports in (("Input", self.inputs), ("Output", self.outputs)):
            for k, port in enumerate(ports):
                shape = port.buffer.shape
                entries = ", ".join(self._extent(d) for d in shape) or "1"
                members = [
                    f"using type = {port.buffer.dtype.cpp};",
                    f"static constexpr const char* name = {string_literal(port.public)};",
                    f"static constexpr std::size_t rank = {len(shape)};",
                    f"static constexpr std::int64_t shape[{max(1, len(shape))}] = {{{entries}}};",
                ]
                if kind == "Output":
                    members.append(
                        f"static constexpr bool dynamic = {'true' if port.dynamic else 'false'};"
                    )
                lines += [f"struct {kind}{k} {{  // [{comment(', '.join(map(str, shape)))}]"]
                lines += [*_indent(members), "};"]
            listed = ", ".join(f"{kind}{k}" for k in range(len(ports)))
            lines.append(f"using {kind}s = std::tuple<{listed}>;")
        return lines

    def _extent(self, d: Dim) -> str:
        if isinstance(d, int):
            return str(d)
        atom = single_atom(d)
        if isinstance(atom, Symbol) and atom in self.schedule.symbols:
            return str(-1 - self.schedule.symbols.index(atom))
        return UNKNOWN

    def _constructor(self) -> list[str]:
        total = self.schedule.plan.total
        init = []
        if self.constants:
            # A relative path is looked for beside the header too.
            found = "sofie::find_weights(weights, __FILE__)"
            key = string_literal(self.namespace) if self.weights == "embedded" else found
            init.append(f"w_(sofie::shared_weights<Weights>({key}))")
        if isinstance(total, int) and total:
            init.append(f"arena_({total})")
        start = (" : " + ", ".join(init)) if init else ""
        if not self.constants:
            return [
                f"explicit Session(const std::string& /*weights*/ = {string_literal('')}){start} {{}}"
            ]
        if self.weights == "embedded":
            return [
                f"explicit Session(const std::string& /*weights*/ = {string_literal('')}){start} {{}}"
            ]
        default = string_literal(f"{self.stem}.{self.weights}")
        return [f"explicit Session(const std::string& weights = {default}){start} {{}}"]

    def _parameters(self) -> list[str]:
        sizes = [f"std::size_t {name}" for name in self.sizes.values()]
        return sizes + [f"const {p.buffer.dtype.cpp}* {p.cpp}" for p in self.inputs]

    def _infer(self) -> list[str]:
        types = [f"std::vector<{_element(p.buffer)}>" for p in self.outputs]
        result = types[0] if len(types) == 1 else f"std::tuple<{', '.join(types)}>"
        scope = Scope({s: _signed(name) for s, name in self.sizes.items()}, {})
        lines = [f"{result} infer({', '.join(self._parameters())}) {{"]
        arguments = [*self.sizes.values(), *(p.cpp for p in self.inputs)]
        for port, kind in zip(self.outputs, types, strict=True):
            if port.dynamic:
                lines.append(f"{INDENT}{kind} {port.cpp};")
                arguments.append(port.cpp)
                continue
            count = text.dim(port.buffer.numel, scope)
            lines.append(f"{INDENT}{kind} {port.cpp}(static_cast<std::size_t>({count}));")
            pointer = f"{port.cpp}.data()"
            if port.buffer.dtype.cpp == "bool":
                pointer = f"reinterpret_cast<bool*>({pointer})"
            arguments.append(pointer)
        lines.append(f"{INDENT}infer_to({', '.join(arguments)});")
        if len(types) == 1:
            lines.append(f"{INDENT}return {self.outputs[0].cpp};")
        else:
            moved = ", ".join(f"std::move({p.cpp})" for p in self.outputs)
            lines.append(f"{INDENT}return {result}({moved});")
        return [*lines, "}"]

    def _infer_to(self, body: list[str]) -> list[str]:
        parameters = self._parameters()
        for port in self.outputs:
            kind = _element(port.buffer)
            parameters.append(
                f"std::vector<{kind}>& {port.cpp}_result"
                if port.dynamic
                else f"{port.buffer.dtype.cpp}* {port.cpp}"
            )
        lines = [
            "/// Into the caller's memory, which must not overlap the inputs; no allocation once warm."
        ]
        lines += [f"void infer_to({', '.join(parameters)}) {{"]
        return [*lines, *_indent(body), "}"]

    def _body(self) -> list[str]:
        """The statements of ``infer_to``."""
        steps: list[str] = []
        ready = set(self.schedule.symbols)
        grown: set[str] = set()
        waiting = [p.buffer.name for p in self.outputs if p.dynamic]
        waiting += list(self.schedule.plan.growing)
        for k, step in enumerate(self.schedule.steps):
            if isinstance(step, Bind):
                ready.add(step.symbol)
            if not isinstance(step, Bind | Check):
                steps.append("")
            steps += self.printer.step(k)
            for name in waiting:
                needs = size_symbols([self.program.buffers[name].numel])
                if name not in grown and ready.issuperset(needs):
                    grown.add(name)
                    steps += self._grow(name)
        lines: list[str] = []
        if self.sizes:
            lines.append(f"prepare({', '.join(self.sizes.values())});")
        for k, symbol in enumerate(self.sizes):
            if _uses(steps, self.names[symbol]):
                lines.append(f"const std::ptrdiff_t {self.names[symbol]} = sizes_[{k}];")
        if self.constants and _uses(steps, "w"):
            lines.append("const Weights& w = *w_;")
        offsets = self.schedule.plan.offsets
        for name, offset in sorted(offsets.items()):
            if not _uses(steps, self.names[name]):
                continue
            kind = self.program.buffers[name].dtype.cpp
            where = str(offset) if isinstance(offset, int) else f"offsets_[{self._slot(name)}]"
            lines.append(f"{kind}* const {self.names[name]} = arena_.at<{kind}>({where});")
        unused = [p.cpp for p in self.inputs if not _uses(steps, p.cpp)]
        lines += [f"static_cast<void>({name});" for name in unused]
        first = len(self.sizes)
        bound = [f"sizes_[{first + k}] = {self.names[s]};" for k, s in enumerate(self.bound)]
        return lines + steps + bound

    def _slot(self, name: str) -> int:
        return self._symbolic().index(name)

    def _symbolic(self) -> list[str]:
        return [n for n, o in self.schedule.plan.offsets.items() if isinstance(o, Poly)]

    def _grow(self, name: str) -> list[str]:
        """Memory for a temporary or output whose size has just become known."""
        buffer = self.program.buffers[name]
        cpp = self.names[name]
        count = f"static_cast<std::size_t>({text.dim(buffer.numel, self.printer._scope())})"
        if buffer.kind == "output":
            data = f"{cpp}_result.data()"
            if buffer.dtype.cpp == "bool":
                data = f"reinterpret_cast<bool*>({data})"
            return [f"{cpp}_result.resize({count});", f"{buffer.dtype.cpp}* const {cpp} = {data};"]
        slot = list(self.schedule.plan.growing).index(name)
        return [
            f"growing_[{slot}].reserve({count} * sizeof({buffer.dtype.cpp}));",
            f"{buffer.dtype.cpp}* const {cpp} = growing_[{slot}].at<{buffer.dtype.cpp}>(0);",
        ]

    def _output_shape(self) -> list[str]:
        every = [*self.schedule.symbols, *self.bound]
        known: dict[Atom, str] = {s: f"sizes_[{k}]" for k, s in enumerate(every)}
        scope = Scope(known, {})
        lines = [
            "/// Dimensions of an output (by position) in the last call.",
            "std::vector<std::size_t> output_shape(std::size_t output) const {",
            f"{INDENT}switch (output) {{",
        ]
        for k, port in enumerate(self.outputs):
            dims = ", ".join(
                str(d) if isinstance(d, int) else f"static_cast<std::size_t>({text.dim(d, scope)})"
                for d in port.buffer.shape
            )
            lines.append(f"{INDENT * 2}case {k}: return {{{dims}}};")
        lines += [
            f'{INDENT * 2}default: throw std::out_of_range("the model has {len(self.outputs)} outputs");',
            f"{INDENT}}}",
            "}",
        ]
        return lines

    def _members(self) -> list[str]:
        lines: list[str] = []
        symbols = self.schedule.symbols
        symbolic = self._symbolic()
        if self.constants:
            lines.append("std::shared_ptr<const Weights> w_;")
        if self.schedule.plan.offsets:
            lines.append("sofie::Arena arena_;")
        count = len(symbols) + len(self.bound)
        if count:
            start = ", ".join(["-1"] * len(symbols) + ["0"] * len(self.bound))
            lines.append(f"std::ptrdiff_t sizes_[{count}] = {{{start}}};")
        if symbolic:
            lines.append(f"std::size_t offsets_[{len(symbolic)}] = {{}};")
        if self.schedule.plan.growing:
            lines.append(f"sofie::Arena growing_[{len(self.schedule.plan.growing)}];")
        return lines

    def _prepare(self) -> list[str]:
        symbols, symbolic = self.schedule.symbols, self._symbolic()
        if not symbols:
            return []
        parameters = ", ".join(f"std::size_t {name}" for name in self.sizes.values())
        lines = ["/// Makes ready for these sizes: lays the temporaries out; infer_to does it too."]
        lines += [f"void prepare({parameters}) {{"]
        known: dict[Atom, str] = {}
        inner = []
        for s, public in self.sizes.items():
            signed = self.names[s]
            inner.append(f"const std::ptrdiff_t {signed} = {_signed(public)};")
            known[s] = signed
        for k, name in enumerate(symbolic):
            known[offset_symbol(name)] = f"static_cast<std::ptrdiff_t>(offsets_[{k}])"
        same = " && ".join(f"{self.names[s]} == sizes_[{k}]" for k, s in enumerate(symbols))
        inner.append(f"if ({same}) return;")
        scope = Scope(known, {})
        offsets = self.schedule.plan.offsets
        for k, name in enumerate(symbolic):
            inner.append(
                f"offsets_[{k}] = static_cast<std::size_t>({text.dim(offsets[name], scope)});"
            )
        if isinstance(self.schedule.plan.total, Poly):
            total = text.dim(self.schedule.plan.total, scope)
            inner.append(f"arena_.reserve(static_cast<std::size_t>({total}));")
        for k, s in enumerate(symbols):
            inner.append(f"sizes_[{k}] = {self.names[s]};")
        return [*lines, *_indent(inner), "}", ""]


def _signed(name: str) -> str:
    return f"static_cast<std::ptrdiff_t>({name})"


def _element(buffer: Buffer) -> str:
    """Element type of a returned vector; ``std::vector<bool>`` has no memory to write to."""
    return "std::uint8_t" if buffer.dtype.cpp == "bool" else buffer.dtype.cpp


def _uses(lines: Sequence[str], name: str) -> bool:
    pattern = re.compile(rf"(?<![\w.]){re.escape(name)}\b")
    return any(pattern.search(line.split("//")[0]) for line in lines)


def _indent(lines: Sequence[str]) -> list[str]:
    return [INDENT + line if line else line for line in lines]


def _bytes(count: int) -> str:
    if count < 1000:
        return f"{count} B"
    return f"{count / 1000:.1f} kB" if count < 1_000_000 else f"{count / 1_000_000:.1f} MB"


__all__ = ["Header", "Kernel", "generate", "typical"]
