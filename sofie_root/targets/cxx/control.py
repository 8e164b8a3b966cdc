"""Branches and repetitions in a Session: calls of the structs that their bodies are printed as."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sofie_root.ir.dim import StateSize, Symbol, product, single_atom
from sofie_root.program.operation import Operand
from sofie_root.program.program import Buffer
from sofie_root.program.statement import Branch, Fetch, Repeat
from sofie_root.schedule.schedule import Schedule

from . import text
from .literals import number
from .names import comment, string_literal
from .text import INDENT, Scope


@dataclass(frozen=True, slots=True)
class PrintedBody:
    """A body of control flow as C++ sees it: its struct, the member of that type, its schedule."""

    struct: str
    member: str
    schedule: Schedule
    weights: bool


@dataclass(frozen=True, slots=True)
class Control:
    """A branch or repetition: its bodies, and the stem of the members that hold its results."""

    step: Branch | Repeat
    stem: str
    bodies: tuple[PrintedBody, ...]

    def result(self, k: int) -> str:
        """The member that holds result ``k``."""
        return f"{self.stem}_{k}_"

    @property
    def results(self) -> list[Buffer]:
        """What the (first) body gives, without a leading condition."""
        program = self.bodies[0].schedule.program
        found = [program.buffers[b] for b in program.outputs.values()]
        return found[1:] if _numbered(self.step) else found

    def members(self) -> list[str]:
        """Declarations of the bodies and of the results."""
        lines = [f"{b.struct} {b.member};" for b in self.bodies]
        for k, buffer in enumerate(self.results):
            stacked = isinstance(self.step, Repeat) and k >= self.step.states
            rank = len(buffer.shape)
            lines.append(_declared(buffer, rank + stacked, self.result(k)))
            if isinstance(self.step, Repeat):
                lines.append(_declared(buffer, rank, f"{self.stem}_next_{k}_"))
        if _numbered(self.step):
            lines.append(_declared(self._again, len(self._again.shape), f"{self.stem}_again_"))
        return lines

    @property
    def _again(self) -> Buffer:
        program = self.bodies[0].schedule.program
        return program.buffers[next(iter(program.outputs.values()))]

    def call(self, scope: Scope) -> list[str]:
        """The statements that run it."""
        head = f"// {comment(', '.join(self.step.origin))}"
        if isinstance(self.step, Branch):
            return [head, *self._branch(self.step, scope)]
        return [head, "{", *(INDENT + line for line in self._repeat(self.step, scope)), "}"]

    def fetch(self, step: Fetch, buffer: Buffer, scope: Scope) -> list[str]:
        """The statements that copy a result to its buffer."""
        count = text.dim(buffer.numel, scope)
        name = self.result(step.k)
        why = string_literal(f"{', '.join(step.origin)}: elements of result {step.k}")
        return [
            f"sofie::check_equal(static_cast<std::ptrdiff_t>({name}.size()), {count}, {why});",
            f"std::copy_n({name}.data(), {name}.size(), {scope.pointers[buffer.name]});",
        ]

    def _branch(self, step: Branch, scope: Scope) -> list[str]:
        condition, *captures = step.inputs
        pointers = [_pointer(o, scope) for o in captures]
        results = [self.result(k) for k in range(len(self.results))]
        calls = [_call(body, _sizes(body, scope, {}), pointers, results) for body in self.bodies]
        return [
            f"if (*({_pointer(condition, scope)})) {{",
            f"{INDENT}{calls[0]}",
            "} else {",
            f"{INDENT}{calls[1]}",
            "}",
        ]

    def _repeat(self, step: Repeat, scope: Scope) -> list[str]:
        (body,) = self.bodies
        rest = list(step.inputs)
        trips = "std::numeric_limits<std::int64_t>::max()"
        if step.count is not None:
            trips = text.dim(step.count, scope)
        elif step.trips:
            trips = f"*({_pointer(rest.pop(0), scope)})"
        again = f"*({_pointer(rest.pop(0), scope)})" if step.condition else "true"
        lines = [f"const std::int64_t trips = {trips};", f"bool again = {again};"]
        for k, operand in enumerate(rest[: step.states]):
            dims = ", ".join(text.dim(d, scope) for d in operand.shape) or "1"
            lines.append(f"{self.result(k)}.assign({_pointer(operand, scope)}, {{{dims}}});")
        for k, buffer in enumerate(self.results[step.states :], start=step.states):
            known = [number(d) if isinstance(d, int) else "0" for d in buffer.shape]
            lines.append(f"{self.result(k)}.start({{{', '.join(['0', *known])}}});")
        lead = ["&iteration", "&again"] if step.numbered else []
        states = [f"{self.result(k)}.data()" for k in range(step.states)]
        slices = [
            f"{_pointer(o, scope)} + iteration * ({text.dim(product(o.shape[1:]), scope)})"
            for o in rest[step.states : step.states + step.slices]
        ]
        captures = [_pointer(o, scope) for o in rest[step.states + step.slices :]]
        given = [*lead, *states, *slices, *captures]
        results = [f"{self.stem}_next_{k}_" for k in range(len(self.results))]
        if step.numbered:
            results.insert(0, f"{self.stem}_again_")
        own = self._state_sizes(step, body)
        loop = [_call(body, _sizes(body, scope, own), given, results)]
        for k in range(len(self.results)):
            move = "swap" if k < step.states else "append"
            loop.append(f"{self.result(k)}.{move}({self.stem}_next_{k}_);")
        if step.numbered:
            loop.append(f"again = *{self.stem}_again_.data();")
        head = "for (std::int64_t iteration = 0; again && iteration < trips; ++iteration) {"
        return [*lines, head, *(INDENT + line for line in loop), "}"]

    def _state_sizes(self, step: Repeat, body: PrintedBody) -> dict[Symbol, str]:
        """Sizes of states that change from one iteration to the next."""
        program = body.schedule.program
        first = 2 if step.numbered else 0
        found: dict[Symbol, str] = {}
        for k, name in enumerate(program.inputs[first : first + step.states]):
            for axis, d in enumerate(program.buffers[name].shape):
                atom = single_atom(d)
                if isinstance(atom, StateSize):
                    found[atom] = f"{self.result(k)}.dims[{axis}]"
        return found


def _numbered(step: Branch | Repeat) -> bool:
    return isinstance(step, Repeat) and step.numbered


def _declared(buffer: Buffer, rank: int, name: str) -> str:
    return f"sofie::Result<{buffer.dtype.cpp}, {rank}> {name};"


def _pointer(operand: Operand, scope: Scope) -> str:
    return text.pointer(scope.pointers[operand.buffer], operand.offset, scope)


def _sizes(body: PrintedBody, scope: Scope, own: dict[Symbol, str]) -> list[str]:
    return [
        f"static_cast<std::size_t>({own[s] if s in own else scope.variables[s]})"
        for s in body.schedule.symbols
    ]


def _call(
    body: PrintedBody, sizes: Sequence[str], inputs: Sequence[str], results: Sequence[str]
) -> str:
    weights = ["w"] if body.weights else []
    return f"{body.member}.infer_to({', '.join([*weights, *sizes, *inputs, *results])});"
