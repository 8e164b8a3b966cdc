"""Graph to Program: calls ``lower`` of every node in order."""

from __future__ import annotations

from collections.abc import Sequence

from sofie_root.errors import ModelError
from sofie_root.ir import Equality, Graph, Node, Symbol, TensorType, inferring
from sofie_root.ir.dim import Dim, size_symbols
from sofie_root.ir.graph import MALFORMED

from . import expr
from .builder import Builder, Tensor
from .choice import Choice
from .operation import AnyForm, Forms
from .program import Buffer, Program
from .statement import Bind, Check


def lower(graph: Graph, choice: Choice | None = None, forms: Forms | None = None) -> Program:
    """The unscheduled Program of a graph: one buffer per value, statements in the order of the nodes.

    Args:
        graph: a graph that ``verify`` accepts.
        choice: which kernels may be used; the default leaves it to cost models.
        forms: in which form a target takes operations; if not given, as they are.

    Returns:
        A Program whose outputs name the buffers that hold the graph's outputs; it may still contain
        statements that nothing reads.
    """
    program = Program(
        graph.name, graph.inputs, {}, choice=choice or Choice(), forms=forms or AnyForm()
    )
    builder = Builder(program)
    tensors: dict[str, Tensor] = {}
    for name in graph.inputs:
        type_ = graph.types[name]
        program.buffers[name] = Buffer(name, type_.dtype, type_.shape, "input")
        tensors[name] = Tensor(type_, name, program)
    sizes = set(graph.symbols())
    checks = _check(program, graph.equalities, sizes)
    uses = graph.use_counts()
    for node in graph.nodes:
        for source in node.inputs:
            if source is not None and source not in tensors:
                constant = builder.constant(graph.constants[source], source)
                tensors[source] = _typed(constant, graph.types[source])
        start = len(program.statements)
        _lower_node(builder, node, graph.types, tensors, uses)
        found = {s.symbol for s in program.statements[start:] if isinstance(s, Bind)}
        if found:  # what is demanded of a size found at run time is checked once it is found
            sizes |= found
            checks = _check(program, checks, sizes)
    for public, value in graph.outputs.items():
        if value not in tensors:
            tensors[value] = builder.constant(graph.constants[value], value)
        program.outputs[public] = tensors[value].buffer
    return program


def _check(program: Program, equalities: Sequence[Equality], sizes: set[Symbol]) -> list[Equality]:
    """Adds the checks of sizes that are known by now; returns those that must wait."""
    waiting = []
    done = {frozenset((s.a, s.b)) for s in program.statements if isinstance(s, Check)}
    for equality in equalities:
        pair = frozenset((equality.a, equality.b))
        if pair in done:
            continue  # several nodes demand it
        if sizes.issuperset(size_symbols((equality.a, equality.b))):
            done.add(pair)
            program.statements.append(Check(equality.a, equality.b, equality.why))
        else:
            waiting.append(equality)
    return waiting


def _lower_node(
    b: Builder,
    node: Node,
    types: dict[str, TensorType],
    tensors: dict[str, Tensor],
    uses: dict[str, int],
) -> None:
    b.origin = node.origin or (node.name,)
    b.names = node.outputs
    b.outputs = tuple(types[o] for o in node.outputs if o is not None)
    b.wanted = tuple(o is not None and uses.get(o, 0) > 0 for o in node.outputs)
    known = [types[o].value for o in node.outputs if o is not None]
    if known and all(v is not None for v in known):
        results: tuple[Tensor, ...] = tuple(
            _known_value(b, t, t.value) for t in b.outputs if t.value is not None
        )
        names = [o for o in node.outputs if o is not None]
    else:
        try:
            with inferring(node.outputs):  # sizes that only the run tells keep their names
                lowered = node.op.lower(
                    b, *(None if i is None else tensors[i] for i in node.inputs)
                )
        except ModelError as error:
            if error.node is None:
                error.node, error.operator = node.name, node.op.name
            raise
        except MALFORMED as error:
            raise ModelError(
                f"its attributes or inputs make no sense ({type(error).__name__}: {error})",
                node=node.name,
                operator=node.op.name,
            ) from error
        results = lowered if isinstance(lowered, tuple) else (lowered,)
        pairs = [(o, r) for o, r in zip(node.outputs, results, strict=False) if o is not None]
        names, results = [o for o, _ in pairs], tuple(r for _, r in pairs)
    for name, tensor in zip(names, results, strict=True):
        tensors[name] = _typed(tensor, types[name])


def _typed(tensor: Tensor, type_: TensorType) -> Tensor:
    """The tensor with the graph's type, which carries the symbolic value where it is known."""
    return Tensor(type_, tensor.buffer, tensor.program)


def _known_value(b: Builder, type_: TensorType, value: tuple[Dim, ...]) -> Tensor:
    """A tensor whose elements are sizes: computed from the dims, whatever node it came from."""
    flat = b.pieces(
        (len(value),),
        type_.dtype,
        [((k,), (1,), lambda _, d=d: expr.index(d, type_.dtype)) for k, d in enumerate(value)],
    )
    return b.reshape(flat, type_.shape)
