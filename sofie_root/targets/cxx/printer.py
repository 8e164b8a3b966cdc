"""What the printers of all C++ targets share: sizes and checks, and calls of functions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sofie_root.ir.dim import Atom, Dim, as_poly, size_symbols
from sofie_root.ir.dtype import DType
from sofie_root.program.nest import Nest
from sofie_root.program.operation import Operation
from sofie_root.program.statement import Bind, Check
from sofie_root.schedule.schedule import Schedule

from . import text
from .call import (
    Arg,
    Call,
    CppKernel,
    Extents,
    Functor,
    Fused,
    In,
    Null,
    Out,
    Plain,
    Scratch,
    Spanned,
    Stride,
    Strides,
    Struct,
)
from .flatten import flatten_expr
from .literals import literal, number, plain
from .names import Identifiers, comment, string_literal
from .summary import describe
from .text import INDENT, Scope


@dataclass(slots=True)
class StepPrinter(ABC):
    """Prints the steps of one schedule; a target adds how it prints nests and sizes.

    Attributes:
        schedule: what to print.
        names: identifiers of buffers (key: buffer name) and size symbols (key: Symbol).
        pointers: C++ text of the pointer to each buffer.
        headers: kernel headers used so far.
        traits: trait structs used so far, text to name.
        structs: names of types at namespace scope.
    """

    schedule: Schedule
    names: Identifiers
    pointers: dict[str, str]
    headers: set[str] = field(default_factory=set)
    traits: dict[str, str] = field(default_factory=dict)
    structs: Identifiers = field(default_factory=Identifiers)
    _serial: dict[str, int] = field(default_factory=dict)

    # -- what a target adds ------------------------------------------------------------------------------
    @abstractmethod
    def nest(self, nest: Nest) -> list[str]:
        """Lines of loops that run together."""

    @abstractmethod
    def called(self, operation: Operation) -> Call:
        """How an operation is called."""

    @abstractmethod
    def extent(self, d: Dim, scope: Scope) -> str:
        """A size as the argument of a kernel."""

    def fused(self, operation: Operation, kernel: CppKernel) -> str:
        """The argument for what is fused into an operation."""
        raise NotImplementedError(f"{kernel.name} takes nothing that is fused into it")

    # -- steps -------------------------------------------------------------------------------------------
    def step(self, k: int) -> list[str]:
        """Lines of step ``k``, its comment first."""
        step = self.schedule.steps[k]
        self._serial = {}
        if isinstance(step, Nest):
            return self.nest(step)
        if isinstance(step, Operation):
            return self._operation(k, step)
        if isinstance(step, Bind):
            value = text.expression(flatten_expr(step.value, self.schedule), self.scope())
            name = self.names.name(step.symbol, step.symbol.name)
            why = string_literal(f"{', '.join(step.origin)}: {step.symbol}")
            return [f"const std::ptrdiff_t {name} = sofie::size({value}, {why});"]
        assert isinstance(step, Check)
        return self.check(step, self.scope())

    def check(self, check: Check, scope: Scope) -> list[str]:
        """The line that checks two sizes."""
        kind, *sizes = check.parts
        a, b = (text.dim(d, scope) for d in sizes)
        why = string_literal(f"{check.why}: {check.demand}{self.whose((check.a, check.b))}")
        return [f"sofie::check_{kind}({a}, {b}, {why});"]

    def whose(self, dims: Iterable[Dim]) -> str:
        """Which inputs the sizes in these expressions are of."""
        places = {
            d: f"{d} is axis {axis} of {name!r}"
            for name in reversed(self.schedule.program.inputs)
            for axis, d in reversed(list(enumerate(self.schedule.program.buffers[name].shape)))
        }
        known = [as_poly(s) for s in size_symbols(dims)]
        found = [places[s] for s in known if s in places]
        return f" ({', '.join(found)})" if found else ""

    def scope(self) -> Scope:
        """The size symbols that have a value so far, and all buffers."""
        known: dict[Atom, str] = {}
        symbols = list(self.schedule.symbols)
        symbols += [s.symbol for s in self.schedule.steps if isinstance(s, Bind)]
        for symbol in symbols:
            if symbol in self.names:
                known[symbol] = self.names[symbol]
        return Scope(known, self.pointers)

    def _fresh(self, stem: str) -> str:
        """A name for a variable inside one step: ``r``, ``r1``, ``r2``, ...; steps are C++ scopes."""
        count = self._serial.get(stem, 0)
        self._serial[stem] = count + 1
        return f"{stem}{count}" if count or stem == "v" else stem

    # -- calls -------------------------------------------------------------------------------------------
    def _operation(self, k: int, operation: Operation) -> list[str]:
        called = self.called(operation)
        kernel = called.kernel
        self.headers.add(kernel.header)
        templates = []
        if called.traits:
            templates.append(self._trait(kernel.name, called.traits))
        templates += list(called.types)
        scratch = [self.pointers[name] for name in self.schedule.scratch.get(k, ())]
        arguments = [self._argument(arg, operation, kernel, scratch) for arg in called.args]
        template = f"<{', '.join(templates)}>" if templates else ""
        head = f"// {comment(describe(self.schedule, self.names, operation))}"
        name = kernel.name if kernel.name[:2] == "::" else f"sofie::{kernel.name}"
        return [head, *_wrapped(f"{name}{template}(", arguments)]

    def _argument(
        self, arg: Arg, operation: Operation, kernel: CppKernel, scratch: list[str]
    ) -> str:
        """The text of one argument.

        Args:
            arg: which.
            operation: what is called.
            kernel: the function.
            scratch: pointers to the workspaces that are left; the first is taken.
        """
        operands, scope = operation.operands, self.scope()
        match arg:
            case In():
                operand = operands[arg.operand]
                return text.pointer(self.pointers[operand.buffer], operand.offset, scope)
            case Stride():
                return self.extent(operands[arg.operand].strides[arg.axis], scope)
            case Strides():
                return f"{{{', '.join(size(d, scope) for d in operands[arg.operand].strides)}}}"
            case Out():
                out = operation.outputs[arg.k]
                return "nullptr" if out is None else self.pointers[out]
            case Extents():
                return f"{{{', '.join(size(d, scope) for d in arg.dims)}}}"
            case Scratch():
                return scratch.pop(0)
            case Null():
                return "nullptr"
            case Fused():
                return self.fused(operation, kernel)
            case Spanned():
                return self._span(operation, arg, scope)
            case Plain():
                return plain(arg.value)
            case Struct():
                members = (self._argument(m, operation, kernel, scratch) for m in arg.members)
                return f"sofie::{arg.type}{{{', '.join(members)}}}"
        return self.extent(arg, scope)

    def _span(self, operation: Operation, arg: Spanned, scope: Scope) -> str:
        """A span for a function of the user's, whose class keeps its name in standalone headers."""
        if arg.of is None:
            return "{}"
        if isinstance(arg.of, In):
            operand = operation.operands[arg.of.operand]
            buffer, shape, const = operand.buffer, operand.shape, "const "
            pointer = text.pointer(self.pointers[buffer], operand.offset, scope)
        else:
            found = operation.outputs[arg.of.k]
            assert found is not None, operation
            buffer, const, pointer = found, "", self.pointers[found]
            shape = self.schedule.program.buffers[buffer].shape
        dtype = self.schedule.program.buffers[buffer].dtype
        dims = ", ".join(size(d, scope) for d in shape)
        return f"::sofie::Span<{const}{dtype.cpp}>({pointer}, {{{dims}}})"

    def _trait(self, name: str, members: Sequence[tuple[str, Any]]) -> str:
        lines = []
        for key, value in members:
            if isinstance(value, tuple):
                kind = "bool" if value and isinstance(value[0], bool) else "std::size_t"
                items = ", ".join(_trait_value(v) for v in value)
                lines.append(f"static constexpr {kind} {key}[{max(len(value), 1)}] = {{{items}}};")
            elif isinstance(value, Functor):
                items = ", ".join(literal(v, DType.FLOAT) for v in value.args)
                lines.append(f"static constexpr sofie::{value.name} {key}{{{items}}};")
            else:
                kind = {bool: "bool", float: "float"}.get(type(value), "std::size_t")
                lines.append(f"static constexpr {kind} {key} = {_trait_value(value)};")
        body = "\n".join(INDENT + line for line in lines)
        if body not in self.traits:
            self.traits[body] = self.structs.fresh(f"{name}_traits")
        return self.traits[body]


def loop_name(depth: int) -> str:
    """The name of a loop's index: i, j, k, l, i4, ..."""
    return "ijkl"[depth] if depth < 4 else f"i{depth}"


def size(d: Dim, scope: Scope) -> str:
    """A size as ``std::size_t``."""
    return number(d) if isinstance(d, int) else f"static_cast<std::size_t>({text.dim(d, scope)})"


def indent(lines: Iterable[str]) -> list[str]:
    """The lines, one level deeper."""
    return [INDENT + line for line in lines]


def neutral(kind: str, dtype: DType) -> str:
    """What a reduction begins with."""
    if kind == "sum":
        return literal(0, dtype)
    if kind == "prod":
        return literal(1, dtype)
    if dtype.is_float:
        infinity = f"sofie::infinity<{dtype.compute.cpp}>()"
        return f"-{infinity}" if kind == "max" else infinity
    limits = f"std::numeric_limits<{dtype.cpp}>"
    return f"{limits}::lowest()" if kind == "max" else f"{limits}::max()"


def combine(kind: str, acc: str, value: str, dtype: DType) -> str:
    """What is there and a new value as one."""
    if kind in ("max", "min"):
        return f"sofie::{kind}({acc}, {value})"
    name = "add" if kind == "sum" else "mul"
    if dtype.is_float:
        return f"{acc} {'+' if kind == 'sum' else '*'} {value}"
    return f"sofie::{name}({acc}, {value})"


def _wrapped(head: str, arguments: Sequence[str], width: int = 104) -> list[str]:
    """A call over as many lines as it needs."""
    lines, pad = [head], " " * 4
    for k, argument in enumerate(arguments):
        piece = argument + (");" if k == len(arguments) - 1 else ", ")
        if len(lines[-1]) + len(piece) > width and lines[-1].strip():
            lines[-1] = lines[-1].rstrip()
            lines.append(pad)
        lines[-1] += piece
    return lines


def _trait_value(value: Any) -> str:
    return literal(value, DType.FLOAT) if isinstance(value, float) else number(value)
