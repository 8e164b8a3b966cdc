"""The stage that gives each operation of a model the form in which this CPU computes it."""

from __future__ import annotations

from sofie_root.ir.dim import Dim, Symbol, as_poly
from sofie_root.program.builder import Builder, Tensor
from sofie_root.program.expr import Load
from sofie_root.program.operation import Operation
from sofie_root.program.program import Loop, Program
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
        if isinstance(statement, Operation):
            builder.origin, builder.names = (
                statement.origin,
                tuple(
                    f"{o}.{type(statement).__name__}" for o in statement.outputs if o is not None
                ),
            )
            chosen = choose(statement, builder)
            if isinstance(chosen, Operation):
                statement = chosen
            elif chosen is not None:
                for name, tensor in zip(statement.outputs, chosen, strict=True):
                    if name is not None:
                        assert tensor is not None, statement
                        program.statements.append(_view(program, name, tensor, statement.origin))
                continue
        program.statements.append(statement)


def _view(program: Program, name: str, tensor: Tensor, origin: tuple[str, ...]) -> Loop:
    """``name[i] = tensor[i]``."""
    shape = program.buffers[name].shape
    variables = tuple(Symbol(f"{name}.v{axis}", d) for axis, d in enumerate(shape))
    index: tuple[Dim, ...] = tuple(0 if v.extent == 1 else as_poly(v) for v in variables)
    looped = tuple(v for v in variables if v.extent != 1)
    body = Load(program.buffers[name].dtype, tensor.buffer, index)
    return Loop(name, looped, index, body, None, origin)
