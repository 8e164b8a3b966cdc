"""Loops and calls as plain C++17: scalars, one loop nest for each loop of the program."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sofie_root.ir.dim import Dim, Symbol
from sofie_root.ir.dtype import DType
from sofie_root.program.nest import Nest
from sofie_root.program.operation import Operation
from sofie_root.program.statement import Loop, Reduction
from sofie_root.targets.cxx import text
from sofie_root.targets.cxx.call import Call
from sofie_root.targets.cxx.flatten import flatten
from sofie_root.targets.cxx.names import comment
from sofie_root.targets.cxx.printer import StepPrinter, combine, indent, loop_name, neutral, size
from sofie_root.targets.cxx.summary import describe
from sofie_root.targets.cxx.text import Scope

from .kernels import call


@dataclass(slots=True)
class ReferencePrinter(StepPrinter):
    """Prints the steps of one schedule, a loop nest for each loop of the program."""

    def called(self, operation: Operation) -> Call:
        """How it is called."""
        called = call(operation)
        assert called is not None, operation
        return called

    def extent(self, d: Dim, scope: Scope) -> str:
        """A plain number, or the expression of a size."""
        return size(d, scope)

    def nest(self, nest: Nest) -> list[str]:
        """The one loop of a nest, under a comment with its nodes and the shape that it fills."""
        (loop,) = nest.loops()
        (flat,) = (flatten(loop, self.schedule, nest),)
        assert isinstance(flat, Loop)
        head = describe(self.schedule, self.names, nest)
        heads, scope = self._loops(flat.vars, 0, self.scope())
        lines = self._element(flat, scope, len(heads))
        if not heads and len(lines) > 1:
            lines = ["{", *indent(lines), "}"]  # the variables of this step are nobody else's
        return [f"// {comment(head)}", *_inside(heads, lines)]

    def _loops(
        self, variables: tuple[Symbol, ...], depth: int, scope: Scope
    ) -> tuple[list[str], Scope]:
        """First lines of nested loops, and what is known inside them."""
        heads: list[str] = []
        for k, var in enumerate(variables):
            name = loop_name(depth + k)
            bound = text.dim(var.extent or 0, scope)
            heads.append(f"for (std::ptrdiff_t {name} = 0; {name} < {bound}; ++{name}) {{")
            scope = replace(scope, variables={**scope.variables, var: name})
        return heads, scope

    def _element(self, loop: Loop, scope: Scope, depth: int) -> list[str]:
        """What is done for one element of the result."""
        place = f"{scope.pointers[loop.output]}[{text.dim(loop.index[0], scope)}]"
        stored, dtype = self.schedule.program.buffers[loop.output].dtype, loop.body.dtype
        if loop.reduction is None:
            lines, inner = text.hoist(loop.body, scope, "v")
            value = text.expression(loop.body, inner)
        elif "arg" in loop.reduction.kind:
            lines, value = self._position(loop, loop.reduction, scope, depth)
            dtype = DType.INT64
        else:
            lines, value = self._reduced(loop, loop.reduction, scope, depth)
        if loop.update not in (None, "replace"):
            value = combine(loop.update, place, value, loop.body.dtype)
        if stored is not dtype:
            value = f"sofie::cast<{stored.cpp}>({value})"
        return [*lines, f"{place} = {value};"]

    def _reduced(
        self, loop: Loop, reduction: Reduction, scope: Scope, depth: int
    ) -> tuple[list[str], str]:
        """Lines that reduce into ``acc``, and its value; floating point is added up in double."""
        kept = loop.body.dtype
        wide = kept is DType.FLOAT and reduction.kind in ("sum", "prod")
        dtype = DType.DOUBLE if wide else kept
        heads, inner = self._loops(reduction.vars, depth, scope)
        hoisted, deep = text.hoist(loop.body, inner, "v")
        value = text.expression(loop.body, deep)
        lines = [*hoisted, f"acc = {combine(reduction.kind, 'acc', value, dtype)};"]
        first = f"{dtype.cpp} acc = {neutral(reduction.kind, dtype)};"
        return [first, *_inside(heads, lines)], "static_cast<float>(acc)" if wide else "acc"

    def _position(
        self, loop: Loop, reduction: Reduction, scope: Scope, depth: int
    ) -> tuple[list[str], str]:
        """Lines that find where an extreme value is, and the position."""
        heads, inner = self._loops(reduction.vars, depth, scope)
        (name,) = (inner.variables[v] for v in reduction.vars)
        order = ">" if reduction.kind.startswith("argmax") else "<"
        if reduction.kind.endswith("_last"):
            order += "="
        kind = loop.body.dtype.cpp
        lines = [
            f"const {kind} current = {text.expression(loop.body, inner)};",
            f"if ({name} == 0 || current {order} best) {{",
            *indent(["best = current;", f"at = {name};"]),
            "}",
        ]
        return ["std::int64_t at = 0;", f"{kind} best{{}};", *_inside(heads, lines)], "at"


def _inside(heads: list[str], lines: list[str]) -> list[str]:
    """The lines inside these loops."""
    for head in reversed(heads):
        lines = [head, *indent(lines), "}"]
    return lines
