"""Nests and kernel calls as C++17 for one CPU thread, vectorised with ``sofie/cpu/simd.hxx``."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sofie_root.ir.dim import (
    Atom,
    Dim,
    Symbol,
    as_poly,
    ceildiv,
    floordiv,
    linear,
    product,
    single_atom,
    walk,
)
from sofie_root.ir.dtype import DType
from sofie_root.program import expr as ex
from sofie_root.program.expr import Expr
from sofie_root.program.nest import For, Nest
from sofie_root.program.operation import Operation
from sofie_root.program.statement import Loop, Reduction
from sofie_root.program.uses import dim_reads
from sofie_root.targets.cxx import text
from sofie_root.targets.cxx.call import Call, CppKernel
from sofie_root.targets.cxx.flatten import flatten, flatten_expr
from sofie_root.targets.cxx.literals import number
from sofie_root.targets.cxx.names import comment
from sofie_root.targets.cxx.printer import StepPrinter, combine, indent, loop_name, neutral
from sofie_root.targets.cxx.summary import describe
from sofie_root.targets.cxx.text import INDENT, Scope

from .kernels import call
from .loops import (
    VECTOR_KINDS,
    all_leaves,
    certain_cells,
    collapse,
    collapse_reduction,
    vector_over,
)

WIDEST = 16
"""Floats of the widest vector: rows on the stack have room for whole ones."""


@dataclass(slots=True)
class CpuPrinter(StepPrinter):
    """Prints the steps of one schedule: loops over vectors, and calls of kernels."""

    def called(self, operation: Operation) -> Call:
        """How its kernel is called."""
        called = call(operation)
        assert called is not None, operation
        return called

    def extent(self, d: Dim, scope: Scope) -> str:
        """A compile-time constant where it is one."""
        return text.extent(d, scope)

    # -- nests -----------------------------------------------------------------------------------------
    def nest(self, nest: Nest) -> list[str]:
        """Loops over vectors where they can be."""
        lines = [f"// {comment(describe(self.schedule, self.names, nest))}"]
        scope = self.scope()
        pointers = dict(scope.pointers)
        for name in nest.locals:
            pointers[name] = self.names.name(("local", name), name)
        registers = frozenset(n for n, b in nest.locals.items() if b.shape == ())
        scope = Scope(scope.variables, pointers, registers, rows=_whole_rows(nest))
        body = [flatten(node, self.schedule, nest) for node in nest.body]
        inner = self._arrays(nest, None, pointers)
        for node in body:
            inner += self._node(node, nest, scope, 0)
        if len(body) > 1 or not isinstance(body[0], For):
            return [*lines, "{", *indent(inner), "}"]
        return lines + inner

    def _arrays(self, nest: Nest, at: Symbol | None, pointers: dict[str, str]) -> list[str]:
        lines = []
        for name, home in nest.declared.items():
            buffer = nest.locals[name]
            if (home.var if home else None) == at and buffer.shape != ():
                size = product(buffer.shape)
                if name in _whole_rows(nest):
                    size = ceildiv(size, WIDEST) * WIDEST
                lines.append(f"alignas(64) {buffer.dtype.cpp} {pointers[name]}[{number(size)}];")
        return lines

    def _node(self, node: For | Loop, nest: Nest, scope: Scope, depth: int) -> list[str]:
        if isinstance(node, Loop):
            return self._leaf(node, scope)
        node = collapse(node, nest)
        leaves = all(isinstance(child, Loop) for child in node.body)
        if leaves and vector_over(node, scope, self.schedule.program.buffers):
            return self._map(node, scope, depth)
        name = loop_name(depth)
        inner = replace(scope, variables={**scope.variables, node.var: name})
        lines = self._arrays(nest, node.var, dict(scope.pointers))
        checked, inner = self._cells(node, inner)
        lines += checked
        for child in node.body:
            lines += self._node(child, nest, inner, depth + 1)
        head = (
            f"for (std::ptrdiff_t {name} = 0; {name} < {text.dim(node.extent, scope)}; ++{name}) {{"
        )
        return [head, *indent(lines), "}"]

    def _cells(self, node: For, scope: Scope) -> tuple[list[str], Scope]:
        """Lines that read, once, the indices that loops inside ask for again and again."""
        made = {leaf.output for leaf in all_leaves(node)}
        lines: list[str] = []
        cells = dict(scope.cells)
        # Reversed, so that a read inside another one comes before it.
        for cell in reversed(dict.fromkeys(certain_cells(node.body, False))):
            inside = {a for a in walk(as_poly(cell)) if isinstance(a, Symbol)}
            if (
                cell in cells
                or not inside <= set(scope.variables)
                or dim_reads((as_poly(cell),)) & made
            ):
                continue
            name = self._fresh("at")
            known = replace(scope, cells=cells)
            lines.append(f"const std::ptrdiff_t {name} = {text.dim(as_poly(cell), known)};")
            cells = {**cells, cell: name}
        return lines, replace(scope, cells=cells)

    def _map(self, node: For, scope: Scope, depth: int) -> list[str]:
        """An innermost parallel loop over vectors."""
        tag = loop_name(depth)
        variables = {**scope.variables, node.var: f"{tag}.i"}
        inner = replace(scope, variables=variables, lanes=(node.var, tag))
        lines: list[str] = []
        for loop in node.body:
            assert isinstance(loop, Loop)
            lines += self._leaf(loop, inner)
        count = text.extent(node.extent, scope)
        return [f"sofie::map({count}, [&](auto {tag}) SOFIE_INLINE {{", *indent(lines), "});"]

    def _leaf(self, loop: Loop, scope: Scope) -> list[str]:
        if loop.reduction is not None:
            lines, value = self._reduce(loop, loop.reduction, scope)
        else:
            fresh = self._fresh("v")
            lines, inner = text.hoist(loop.body, scope, fresh)
            value = text.expression(loop.body, inner)
        return lines + self._assign(loop, value, scope)

    def _assign(self, loop: Loop, value: str, scope: Scope) -> list[str]:
        name = scope.pointers[loop.output]
        stored = self.schedule.program.buffers[loop.output].dtype
        computed = (
            DType.INT64 if loop.reduction and "arg" in loop.reduction.kind else loop.body.dtype
        )
        if stored is not computed:
            value = f"sofie::cast<{stored.cpp}>({value})"
        if loop.output in scope.registers:
            return [f"const auto {name} = {value};"]
        at = loop.index[0]
        if scope.lanes is not None:
            parts = linear(at, scope.lanes[0])
            assert parts is not None
            where = text.pointer(name, parts[1], scope.scalar())
            if loop.update not in (None, "replace"):
                present = f"sofie::load({where}, {scope.lanes[1]})"
                value = combine(loop.update, present, value, loop.body.dtype)
            if parts[0] != 1:
                stride = f"static_cast<std::size_t>({text.dim(parts[0], scope.scalar())})"
                return [f"sofie::scatter({where}, {stride}, {scope.lanes[1]}, {value});"]
            if loop.output in scope.rows:
                scope.whole.add(loop.output)
                return [f"sofie::store({where}, sofie::whole({scope.lanes[1]}), {value});"]
            return [f"sofie::store({where}, {scope.lanes[1]}, {value});"]
        place = f"{name}[{text.dim(at, scope)}]"
        if loop.update not in (None, "replace"):
            value = combine(loop.update, place, value, loop.body.dtype)
        return [f"{place} = {value};"]

    # -- reductions --------------------------------------------------------------------------------------
    def _reduce(self, loop: Loop, reduction: Reduction, scope: Scope) -> tuple[list[str], str]:
        variables, body = collapse_reduction(reduction.vars, loop.body)
        if reduction.kind.startswith("arg"):
            return self._arg_reduce(loop, reduction, scope)
        last = variables[-1] if variables else None
        vector = (
            scope.lanes is None
            and last is not None
            and body.dtype is DType.FLOAT
            and reduction.kind in VECTOR_KINDS
            and text.vectorises(body, last)
            and all(s in (0, 1) for s in text.strides(body, last))
        )
        if vector and last is not None and len(variables) == 1:
            return [], self._vector_reduce(reduction.kind, last, body, scope)
        acc = self._fresh("acc")
        start = neutral(reduction.kind, body.dtype)
        if scope.lanes is None:
            lines = [f"{body.dtype.cpp} {acc} = {start};"]
        else:
            lines = [f"auto {acc} = sofie::broadcast({start});"]
        heads: list[str] = []
        inner = scope
        for var in variables[:-1] if vector else variables:
            name = self._fresh("r")
            bound = text.dim(var.extent or 0, inner)
            heads.append(f"for (std::ptrdiff_t {name} = 0; {name} < {bound}; ++{name}) {{")
            inner = replace(inner, variables={**inner.variables, var: name})
        if vector and last is not None:
            hoisted: list[str] = []
            value = self._vector_reduce(reduction.kind, last, body, inner)
        else:
            hoisted, deep = text.hoist(body, inner, self._fresh("v"))
            value = text.expression(body, deep)
        update = [*hoisted, f"{acc} = {combine(reduction.kind, acc, value, body.dtype)};"]
        for head in reversed(heads):
            update = [head, *indent(update), "}"]
        return lines + update, acc

    def _vector_reduce(self, kind: str, var: Symbol, body: Expr, scope: Scope) -> str:
        tag = self._fresh("r")
        variables = {**scope.variables, var: f"{tag}.i"}
        inner = replace(scope, variables=variables, lanes=(var, tag), hoisted={})
        hoisted, deep = text.hoist(body, inner, self._fresh("v"))
        lines = "".join(f"{line} " for line in hoisted)
        value = text.expression(body, deep)
        count = text.extent(var.extent or 0, scope)
        return (
            f"sofie::reduce_{kind}({count}, "
            f"[&](auto{_named(tag, lines + value)}) SOFIE_INLINE {{ {lines}return {value}; }})"
        )

    def _arg_reduce(self, loop: Loop, reduction: Reduction, scope: Scope) -> tuple[list[str], str]:
        (var,) = reduction.vars
        best, at, name = self._fresh("best"), self._fresh("at"), self._fresh("r")
        inner = replace(scope, variables={**scope.variables, var: name})
        value = text.expression(loop.body, inner)
        current = self._fresh("current")
        order = ">" if reduction.kind.startswith("argmax") else "<"
        if reduction.kind.endswith("_last"):
            order += "="
        bound = text.dim(var.extent or 0, scope)
        lines = [
            f"std::int64_t {at} = 0;",
            f"{loop.body.dtype.cpp} {best}{{}};",
            f"for (std::ptrdiff_t {name} = 0; {name} < {bound}; ++{name}) {{",
            f"{INDENT}const {loop.body.dtype.cpp} {current} = {value};",
            f"{INDENT}if ({name} == 0 || {current} {order} {best}) {{",
            f"{INDENT * 2}{best} = {current};",
            f"{INDENT * 2}{at} = {name};",
            f"{INDENT}}}",
            "}",
        ]
        return lines, at

    def fused(self, operation: Operation, kernel: CppKernel) -> str:
        """A lambda, or one of the frequent epilogues by name."""
        groups = kernel.epilogue_axes
        assert groups is not None
        names = ["i"] if len(groups) == 2 else ["batch", "i"][: len(groups) - 1]
        tag = "j"
        if operation.epilogue is None:
            if kernel.named_epilogues:
                return "sofie::Identity{}"
            params = "".join(", std::size_t" for _ in names)
            return f"[](auto acc{params}, auto) SOFIE_INLINE {{ return acc; }}"
        scope = self.scope()
        variables: dict[Atom, str] = dict(scope.variables)
        mapping: dict[Atom, Dim] = {}
        lane = None
        for group, name in zip(groups, [*names, tag], strict=True):
            members = [operation.epilogue.vars[axis] for axis in group]
            if not members:
                continue
            whole = Symbol(f"epilogue.{name}", product(v.extent or 1 for v in members))
            rest: Dim = as_poly(whole) if whole.extent != 1 else 0
            for v in reversed(members[1:]):
                size = v.extent or 1
                outer = floordiv(rest, size)
                mapping[v] = rest - outer * size
                rest = outer
            mapping[members[0]] = rest
            variables[whole] = f"static_cast<std::ptrdiff_t>({name})" if name != tag else f"{tag}.i"
            lane = whole
        assert lane is not None
        body = flatten_expr(operation.epilogue.body, self.schedule)
        body = ex.substitute_dims(body, mapping)
        inner = Scope(variables, self.pointers, frozenset(), (lane, tag))
        if kernel.named_epilogues and len(groups) == 2:
            named = text.named_epilogue(body, inner)
            if named is not None:
                return named
        hoisted, deep = text.hoist(body, inner, self._fresh("v"))
        value = text.expression(body, deep)
        used = " ".join([*hoisted, value])
        params = "".join(f", std::size_t{_named(n, used)}" for n in names)
        lines = "".join(f"{line} " for line in hoisted)
        return (
            f"[&](auto acc{params}, auto{_named(tag, used)}) SOFIE_INLINE "
            f"{{ {lines}return {value}; }}"
        )


def _whole_rows(nest: Nest) -> frozenset[str]:
    """Rows on the stack that one loop fills from end to end."""
    writers: dict[str, list[Loop]] = {}
    for loop in nest.loops():
        writers.setdefault(loop.output, []).append(loop)
    found: set[str] = set()
    for name, buffer in nest.locals.items():
        (loop, *others) = writers[name]
        axes = [(d, n) for d, n in zip(loop.index, buffer.shape, strict=True) if n != 1]
        atom = single_atom(axes[0][0]) if len(axes) == 1 else None
        plain = isinstance(atom, Symbol) and atom.extent == axes[0][1] and not others
        if plain and buffer.dtype is DType.FLOAT and not loop.scatters:
            found.add(name)
    return frozenset(found)


def _named(name: str, used: str) -> str:
    """The parameter's name, or nothing where the body does not use it (no warning)."""
    import re

    return f" {name}" if re.search(rf"\b{name}\b", used) else ""
