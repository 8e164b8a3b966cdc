"""Prints a Session: its description, ``infer`` and ``infer_to``, its arena and sizes.

The bodies of control flow are printed as structs of their own, which know only ``infer_to``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from sofie_root.ir.dim import Atom, Dim, Poly, Symbol, product, single_atom, size_symbols
from sofie_root.program.program import Buffer
from sofie_root.program.statement import Bind, Branch, Check, Fetch, Repeat
from sofie_root.schedule.memory import offset_symbol
from sofie_root.schedule.schedule import Schedule

from . import text
from .control import Control, PrintedBody
from .limits import limits
from .literals import number
from .names import KEYWORDS, Identifiers, comment, string_literal
from .shared import Shared
from .text import INDENT, Scope

NOT_CODE = re.compile(r'"(?:[^"\\]|\\.)*"|//.*')
"""String literals and comments of a line, in which a model's names may stand."""

INTEGER_CALL = re.compile(r"sofie::(add|sub|mul|div|bit_\w+|shift_\w+)\(")
"""What ``core/integer.hxx`` is for; indices use it too, where no tensor has integers."""

HALF = re.compile(r"sofie::b?float16")
"""What ``core/half.hxx`` is for; values are rounded to 16 bits also where no tensor has them."""

UNKNOWN = "std::numeric_limits<std::int64_t>::min()"


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output of the model as C++ sees it."""

    public: str
    cpp: str
    buffer: Buffer
    dynamic: bool = False


class Struct:
    """The printer of one struct: the Session, or a body of control flow.

    Args:
        schedule: what the struct computes.
        shared: what it shares with the other structs of the header.
        name: name of the struct.
        body: whether it is a body of control flow: it has no ``infer`` and no description, its results
            are ``sofie::Result``, and it gets the weights with every call.
    """

    def __init__(
        self, schedule: Schedule, shared: Shared, name: str = "Session", body: bool = False
    ) -> None:
        self.schedule = schedule
        self.shared = shared
        self.name = name
        self.is_body = body
        self.program = schedule.program
        self.names = Identifiers(KEYWORDS)
        self.sizes = {symbol: self.names.fresh(symbol.name) for symbol in schedule.symbols}
        for symbol, public in self.sizes.items():
            self.names.private(symbol, public)
        self.profiles = shared.profile and not body
        if self.profiles:
            shared.headers.add("core/profile.hxx")
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
                body or not known.issuperset(size_symbols(self.program.buffers[buffer].shape)),
            )
            for public, buffer in self.program.outputs.items()
        ]
        self.controls = self._controls()
        self.printer = schedule.target.printer(schedule, self.names, self._pointers(), shared)
        self.nested: list[Struct] = []
        self._add_bodies()
        for symbol in self.bound:
            self.names.name(symbol, "size_" + symbol.name)
        dtypes = {b.dtype for b in self.program.buffers.values()}
        shared.headers |= schedule.target.headers
        self.limits = limits(self.program, schedule.steps, schedule.symbols)
        self.body = self._body()
        if any(d.compute is not d for d in dtypes) or any(map(HALF.search, self.body)):
            shared.headers.add("core/half.hxx")
        if any(map(INTEGER_CALL.search, self.body)):
            shared.headers.add("core/integer.hxx")

    def _pointers(self) -> dict[str, str]:
        """C++ text of the pointer to each buffer."""
        pointers: dict[str, str] = {}
        for name, buffer in self.program.buffers.items():
            if buffer.kind == "constant":
                array = self.program.constants[name]
                if array.size:
                    member = self.shared.members.fresh(name)
                    self.shared.constants[member] = array, buffer.dtype.cpp
                    pointers[name] = f"w.{member}"
                else:
                    pointers[name] = f"sofie::no_elements<{buffer.dtype.cpp}>()"
            elif buffer.kind == "results":
                pointers[name] = self.controls[name]
            else:
                pointers[name] = self.names.name(name, name)
        return pointers

    @property
    def reads_weights(self) -> bool:
        """Whether this struct, or a body inside it, reads constants."""
        return _uses(self.body, "w")

    # -- control flow ------------------------------------------------------------------------------------
    def _controls(self) -> dict[str, str]:
        """The stem of the members that belong to each branch and repetition."""
        return {
            step.name: self.names.fresh(step.origin[0] if step.origin else "control")
            for step in self.schedule.steps
            if isinstance(step, Branch | Repeat)
        }

    def _add_bodies(self) -> None:
        self.calls: dict[str, Control] = {}
        for step in self.schedule.steps:
            if not isinstance(step, Branch | Repeat):
                continue
            self.shared.headers.add("core/control.hxx")
            stem = self.controls[step.name]
            kinds = ("then", "else") if isinstance(step, Branch) else ("body",)
            bodies = []
            for kind, schedule in zip(kinds, self.schedule.bodies[step.name], strict=True):
                struct = Struct(
                    schedule, self.shared, self.shared.structs.fresh(f"{stem}_{kind}"), True
                )
                self.nested.append(struct)
                bodies.append(
                    PrintedBody(struct.name, f"{stem}_{kind}_", schedule, struct.reads_weights)
                )
            self.calls[step.name] = Control(step, stem, tuple(bodies))

    # -- the struct, in output order ---------------------------------------------------------------------
    def lines(self) -> list[str]:
        """The struct, after those of the bodies inside it."""
        lines = [line for struct in self.nested for line in [*struct.lines(), ""]]
        if self.is_body:
            return [
                *lines,
                f"/// A body of control flow: {comment(self.program.name)}.",
                f"struct {self.name} {{",
                *_indent(self._constructor_of_body()),
                "",
                *_indent(self._infer_to()),
                "",
                *_indent(self._prepare()),
                " private:",
                *_indent(self._members()),
                "};",
            ]
        return [
            *lines,
            "/// Runs the model. One thread at a time uses a Session; Sessions share the weights.",
            f"struct {self.name} {{",
            *_indent(self._description()),
            "",
            *_indent(self._constructor()),
            "",
            *_indent(self._infer()),
            "",
            *_indent(self._infer_to()),
            "",
            *_indent(self._output_shape()),
            "",
            *_indent(self._prepare()),
            *_indent(self._profile()),
            " private:",
            *_indent(self._members()),
            "};",
        ]

    def _profile(self) -> list[str]:
        """The times of the steps, where they are asked for."""
        count = max(1, len(self.schedule.steps))
        return [f"sofie::Profile<{count}> profile;", ""] if self.profiles else []

    def _constructor_of_body(self) -> list[str]:
        total = self.schedule.plan.total
        arena = f" : arena_({number(total)})" if isinstance(total, int) and total else ""
        return [f"{self.name}(){arena} {{}}"]

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
            return number(d)
        atom = single_atom(d)
        if isinstance(atom, Symbol) and atom in self.schedule.symbols:
            return str(-1 - self.schedule.symbols.index(atom))
        return UNKNOWN

    def _constructor(self) -> list[str]:
        total = self.schedule.plan.total
        init = []
        argument = f"const std::string& /*weights*/ = {string_literal('')}"
        if self.reads_weights:
            init.append(f"w_(sofie::shared_weights<Weights>({self.shared.weights_key}))")
            if self.shared.weights_default is not None:
                default = string_literal(self.shared.weights_default)
                argument = f"const std::string& weights = {default}"
        if isinstance(total, int) and total:
            init.append(f"arena_({number(total)})")
        start = (" : " + ", ".join(init)) if init else ""
        return [f"explicit {self.name}({argument}){start} {{}}"]

    def _parameters(self) -> list[str]:
        sizes = [f"std::size_t {name}" for name in self.sizes.values()]
        return sizes + [f"const {p.buffer.dtype.cpp}* {p.cpp}" for p in self.inputs]

    def _infer(self) -> list[str]:
        types = [f"std::vector<{_element(p.buffer)}>" for p in self.outputs]
        result = types[0] if len(types) == 1 else f"std::tuple<{', '.join(types)}>"
        scope = Scope({s: _signed(name) for s, name in self.sizes.items()}, {})
        lines = [f"{result} infer({', '.join(self._parameters())}) {{"]
        arguments = [*self.sizes.values(), *(p.cpp for p in self.inputs)]
        if self.sizes:
            lines.append(f"{INDENT}prepare({', '.join(self.sizes.values())});")
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

    def _infer_to(self) -> list[str]:
        parameters = self._parameters()
        if self.is_body and self.reads_weights:
            parameters.insert(0, "const Weights& w")
        for port in self.outputs:
            kind = _element(port.buffer)
            if self.is_body:
                rank = len(port.buffer.shape)
                kind = f"sofie::Result<{port.buffer.dtype.cpp}, {rank}>"
                parameters.append(f"{kind}& {port.cpp}_result")
                continue
            parameters.append(
                f"std::vector<{kind}>& {port.cpp}_result"
                if port.dynamic
                else f"{port.buffer.dtype.cpp}* {port.cpp}"
            )
        lines = [
            "/// Into the caller's memory, which must not overlap the inputs; no allocation once warm."
        ]
        lines += [f"void infer_to({', '.join(parameters)}) {{"]
        return [*lines, *_indent(self.body), "}"]

    def _body(self) -> list[str]:
        """The statements of ``infer_to``."""
        steps = ["this->profile.start();"] if self.profiles else []
        ready = set(self.schedule.symbols)
        new: list[Symbol | None] = []
        grown: set[str] = set()
        waiting = [p.buffer.name for p in self.outputs if p.dynamic]
        waiting += list(self.schedule.plan.growing)
        for name in waiting:
            if ready.issuperset(size_symbols([self.program.buffers[name].numel])):
                grown.add(name)
                steps += self._grow(name)
        for k, step in enumerate(self.schedule.steps):
            if isinstance(step, Bind):
                ready.add(step.symbol)
            if isinstance(step, Check) and not self._is_late(step):
                continue
            if not isinstance(step, Bind | Check):
                steps.append("")
            steps += self._step(k)
            if self.profiles and not isinstance(step, Bind | Check):
                steps.append(f"this->profile.step({k});")
            if isinstance(step, Bind):
                steps += self._check_products(step.symbol, self.printer.scope())
                new.append(step.symbol)
            if isinstance(next(iter(self.schedule.steps[k + 1 :]), None), Bind | Check):
                continue  # nothing grows before all that is demanded of its size was checked
            steps += self._check_axes(new, self.printer.scope())
            new = []
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
        if not self.is_body and _uses(steps, "w"):
            lines.append("const Weights& w = *w_;")
        offsets = self.schedule.plan.offsets
        for name, offset in sorted(offsets.items()):
            if not _uses(steps, self.names[name]):
                continue
            kind = self.program.buffers[name].dtype.cpp
            where = number(offset) if isinstance(offset, int) else f"offsets_[{self._slot(name)}]"
            lines.append(f"{kind}* const {self.names[name]} = arena_.at<{kind}>({where});")
        unused = [p.cpp for p in self.inputs if not _uses(steps, p.cpp)]
        lines += [f"static_cast<void>({name});" for name in unused]
        first = len(self.sizes)
        bound = [f"sizes_[{first + k}] = {self.names[s]};" for k, s in enumerate(self.bound)]
        return lines + steps + bound + self._result_dims()

    def _is_late(self, check: Check) -> bool:
        """Whether a check is of sizes that only the run tells; ``prepare`` does the others."""
        symbols = size_symbols((check.a, check.b))
        return not symbols or not set(self.schedule.symbols).issuperset(symbols)

    def _check_products(self, after: Symbol | None, scope: Scope) -> list[str]:
        """Checks that no product overflows of the sizes that are known after this one."""
        lines = []
        for factors in self.limits[after].products:
            shown = f"{product(factors)}{self.printer.whose(factors)}"
            listed = ", ".join(text.dim(d, scope) for d in factors)
            lines.append(f"sofie::check_product({{{listed}}}, {string_literal(shown)});")
        return lines

    def _check_axes(self, after: Sequence[Symbol | None], scope: Scope) -> list[str]:
        """Checks that no size is negative that is known after these."""
        return [
            f"sofie::size({text.dim(d, scope)}, "
            f"{string_literal(f'{what}, {d}{self.printer.whose((d,))},')});"
            for symbol in after
            for d, what in self.limits[symbol].axes
        ]

    def _step(self, k: int) -> list[str]:
        step = self.schedule.steps[k]
        scope = self.printer.scope()
        if isinstance(step, Branch | Repeat):
            return self.calls[step.name].call(scope)
        if isinstance(step, Fetch):
            return self.calls[step.control].fetch(step, self.program.buffers[step.output], scope)
        return self.printer.step(k)

    def _result_dims(self) -> list[str]:
        """Dimensions of what a body gives."""
        if not self.is_body:
            return []
        scope = self.printer.scope()
        return [
            f"{port.cpp}_result.dims[{axis}] = {text.dim(d, scope)};"
            for port in self.outputs
            for axis, d in enumerate(port.buffer.shape)
        ]

    def _slot(self, name: str) -> int:
        return self._symbolic().index(name)

    def _symbolic(self) -> list[str]:
        return [n for n, o in self.schedule.plan.offsets.items() if isinstance(o, Poly)]

    def _grow(self, name: str) -> list[str]:
        """Memory for a temporary or output whose size has just become known."""
        buffer = self.program.buffers[name]
        cpp = self.names[name]
        count = f"static_cast<std::size_t>({text.dim(buffer.numel, self.printer.scope())})"
        if buffer.kind == "output":
            data = f"{cpp}_result.data()"
            if buffer.dtype.cpp == "bool" and not self.is_body:
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
                number(d)
                if isinstance(d, int)
                else f"static_cast<std::size_t>({text.dim(d, scope)})"
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
        if self.reads_weights and not self.is_body:
            lines.append("std::shared_ptr<const Weights> w_;")
        for control in self.calls.values():
            lines += control.members()
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
        inner.append(f"if (sizes_[0] >= 0 && {same}) return;")
        scope = Scope(known, {})
        offsets = self.schedule.plan.offsets
        inner += self._check_products(None, scope)
        for step in self.schedule.steps:
            if isinstance(step, Check) and not self._is_late(step):
                inner += self.printer.check(step, scope)
        inner += self._check_axes([None], scope)
        for k, name in enumerate(symbolic):
            inner.append(
                f"offsets_[{k}] = static_cast<std::size_t>({text.dim(offsets[name], scope)});"
            )
        if isinstance(self.schedule.plan.total, Poly):
            total = text.dim(self.schedule.plan.total, scope)
            inner.append("sizes_[0] = -1;  // not ready, should there be too little memory")
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
    return any(pattern.search(NOT_CODE.sub("", line)) for line in lines)


def _indent(lines: Sequence[str]) -> list[str]:
    return [INDENT + line if line else line for line in lines]


__all__ = ["Port", "Struct"]
