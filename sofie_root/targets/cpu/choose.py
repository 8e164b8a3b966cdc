"""The stage that gives each operation of a model the form in which this CPU computes it."""

from __future__ import annotations

from dataclasses import replace

from sofie_root.ir.dim import Dim, Symbol, as_poly
from sofie_root.program.builder import Builder, Tensor
from sofie_root.program.expr import Load
from sofie_root.program.operation import Operation
from sofie_root.program.program import Program
from sofie_root.program.statement import Loop
from sofie_root.schedule.inline import Decisions

from .kernels import choose


def choose_forms(program: Program, decisions: Decisions) -> None:
    """Replaces operations by their forms: packed weights, layouts, Winograd, products of rows.

    Needs: a program as it was lowered, in which an operation's operands are whole buffers. Leaves: only
    operations that :func:`~.kernels.call` knows, and views between layouts.
    """
    statements, program.statements = program.statements, []
    builder = Builder(program)
    for statement in statements:
        if not isinstance(statement, Operation):
            program.statements.append(statement)
            continue
        kind, wanted = type(statement).__name__, [o for o in statement.outputs if o is not None]
        builder.origin, builder.names = statement.origin, tuple(f"{o}.{kind}" for o in wanted)
        start = len(program.statements)
        chosen = choose(statement, builder)
        if chosen is None or isinstance(chosen, Operation):
            program.statements.append(statement if chosen is None else chosen)
            continue
        for name, tensor in zip(statement.outputs, chosen, strict=True):
            if name is None:
                continue
            assert tensor is not None, statement
            if not _rename(program, start, tensor, name):
                program.statements.append(_view(program, name, tensor, statement.origin))


def _rename(program: Program, start: int, tensor: Tensor, name: str) -> bool:
    """Lets the statement that computes a tensor write another buffer instead.

    Args:
        program: changed in place.
        start: where the statements begin among which it is.
        tensor: what it computes.
        name: the other buffer.

    Returns:
        False, and nothing is changed, where there is no such statement or where others read the tensor.
    """
    buffer, writer = program.buffers[name], program.writer(tensor.buffer)
    if writer is None or program.statements.place(writer) < start or program.readers(tensor.buffer):
        return False
    if (tensor.dtype, tensor.shape) != (buffer.dtype, buffer.shape):
        return False
    if isinstance(writer, Operation):
        outputs = tuple(name if o == tensor.buffer else o for o in writer.outputs)
        program.replace(writer, replace(writer, outputs=outputs))
        return True
    if isinstance(writer, Loop):
        program.replace(writer, replace(writer, output=name))
        return True
    return False


def _view(program: Program, name: str, tensor: Tensor, origin: tuple[str, ...]) -> Loop:
    """``name[i] = tensor[i]``."""
    shape = program.buffers[name].shape
    variables = tuple(Symbol(f"{name}.v{axis}", d) for axis, d in enumerate(shape))
    index: tuple[Dim, ...] = tuple(0 if v.extent == 1 else as_poly(v) for v in variables)
    looped = tuple(v for v in variables if v.extent != 1)
    body = Load(program.buffers[name].dtype, tensor.buffer, index)
    return Loop(name, looped, index, body, None, origin)
