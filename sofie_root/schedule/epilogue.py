"""Fuses pointwise loops into the epilogue of the kernel that feeds them."""

from __future__ import annotations

from dataclasses import replace

from sofie_root.ir.dim import Dim, Symbol, as_poly, depends_on, linear
from sofie_root.ir.dtype import DType
from sofie_root.program import expr as ex
from sofie_root.program import lanes
from sofie_root.program.builder import flat_index, reshape_index
from sofie_root.program.expr import Acc, Call, Expr, Index, Load
from sofie_root.program.operation import Epilogue, Operation
from sofie_root.program.program import Program
from sofie_root.program.statement import Loop
from sofie_root.program.uses import dim_reads, reads

from .inline import Decisions, remove_dead_statements

MAX_EPILOGUE = 80
"""Nodes of an epilogue expression; beyond it the accumulators spill out of registers."""


def fuse_epilogues(program: Program, decisions: Decisions) -> None:
    """Moves each pointwise loop that alone reads an operation's result into that operation.

    Needs: composed views, so that what is done to a result is one loop. Leaves: operations with
    expressions in their slot ``fused``, at the places of the loops.
    """
    at = 0
    while at < len(program.statements):
        operation = program.statements[at]
        at += 1
        # What was fused from further up stands at the place of its loop, and may take in what follows it.
        if not isinstance(operation, Operation) or not _gives_to_one(program, operation):
            continue
        result = operation.outputs[0]
        assert result is not None
        readers = program.readers(result)
        if len(readers) != 1:
            if readers:
                decisions.refused.append(
                    f"epilogue of {_label(operation)}: its result is read {len(readers)} times"
                )
            continue
        loop = readers[0]
        fused = _fuse(program, operation, loop) if isinstance(loop, Loop) else "is read by a kernel"
        if isinstance(fused, str):
            decisions.refused.append(f"{_label(loop)} into {_label(operation)}: {fused}")
            continue
        decisions.fused.append(f"{_label(loop)} into the epilogue of {_label(operation)}")
        program.replace(loop, fused)
        program.replace(operation)
        at -= 1
    decisions.refused = list(dict.fromkeys(decisions.refused))
    remove_dead_statements(program)


def fuse_early(program: Program, loop: Loop) -> bool:
    """Moves a loop into the operation whose only result it alone reads, if it fits.

    Returns:
        Whether it was moved; the operation then stands at the place of the loop.
    """
    writers = [program.writer(name) for name in reads(loop)]
    operations = [s for s in writers if isinstance(s, Operation) and _gives_to_one(program, s)]
    for operation in sorted(operations, key=program.statements.place):
        result = operation.outputs[0]
        if result is None or any(o is not None for o in operation.outputs[1:]):
            continue
        if len(program.readers(result)) != 1:
            continue
        fused = _fuse(program, operation, loop)
        if isinstance(fused, Operation):
            program.replace(loop, fused)
            program.replace(operation)
            return True
    return False


def _gives_to_one(program: Program, operation: Operation) -> bool:
    """Whether its first result stays inside the program, and something can be fused into it."""
    result = operation.outputs[0]
    return (
        operation.SLOT == "fused"
        and result is not None
        and result not in program.outputs.values()
        and program.forms.form(operation).epilogue_axes is not None
    )


def _label(statement: object) -> str:
    origin = getattr(statement, "origin", ())
    return " + ".join(origin) if origin else type(statement).__name__


def _fuse(program: Program, kernel: Operation, loop: Loop) -> Operation | str:
    result = kernel.outputs[0]
    assert result is not None
    form = program.forms.form(kernel)
    source, target = program.buffers[result], program.buffers[loop.output]
    if loop.reduction is not None:
        return "it reduces"
    if loop.scatters:
        return "it scatters"
    converts = form.converts and loop.body.dtype is target.dtype
    if source.dtype is not target.dtype and not converts:
        return f"it turns {source.dtype} into {target.dtype}"
    indices = {d.index for d in ex.loads(loop.body) if d.buffer == result}
    if len(indices) != 1:
        return "it reads several elements at once"
    if any(result in _cell_reads(d) for d in ex.dims_of(loop.body)):
        return "it uses the result as an index"
    if flat_index(indices.pop(), source.shape) != flat_index(loop.index, target.shape):
        return "it reads the elements in another order"
    if source.numel != target.numel or len([i for i in loop.index if i != 0]) != len(loop.vars):
        return "it covers only a part"
    old = kernel.epilogue
    variables = old.vars if old else _fresh(source.shape, result)
    at = reshape_index(tuple(index_of(v) for v in variables), source.shape, target.shape)
    value = loop.at(at)
    if value is None:
        return "it covers only a part"
    inner = old.body if old else Acc(source.dtype)

    def read(load: Load) -> Expr:
        return inner if load.buffer == result else load

    body = ex.map_loads(value, read)
    if sum(1 for _ in ex.walk(body)) > MAX_EPILOGUE:
        return "the expression is too long for registers"
    groups = form.epilogue_axes
    assert groups is not None
    columns = [variables[axis] for axis in groups[-1]]
    vectors = source.dtype is DType.FLOAT or form.converts
    if vectors and not _vectorises(program, body, columns):
        return "it mixes dtypes that do not fit one vector"
    origin = kernel.origin + tuple(o for o in loop.origin if o not in kernel.origin)
    outputs = (loop.output, *kernel.outputs[1:])
    fused = kernel.with_epilogue(Epilogue(variables, body))
    return replace(fused, outputs=outputs, origin=origin)


def _fresh(shape: tuple[Dim, ...], name: str) -> tuple[Symbol, ...]:
    return tuple(Symbol(f"{name}.e{axis}", extent) for axis, extent in enumerate(shape))


def index_of(v: Symbol) -> Dim:
    """The index that a variable stands for: 0 along an axis of one element."""
    return 0 if v.extent == 1 else as_poly(v)


def with_acc(body: Expr, value: Expr) -> Expr:
    """An epilogue with the kernel's result put in."""
    if isinstance(body, Acc):
        return value
    if isinstance(body, Call):
        return replace(body, args=tuple(with_acc(a, value) for a in body.args))
    return body


def _cell_reads(d: Dim) -> set[str]:
    return dim_reads((d,))


def _vectorises(program: Program, body: Expr, columns: list[Symbol]) -> bool:
    """Whether every value of the expression fits a vector along the columns, and nothing is guarded."""
    if isinstance(body, Index) or (isinstance(body, Call) and body.function == "guard"):
        return False
    if isinstance(body, Load) and body.dtype is not DType.FLOAT:
        fits_lanes = body.dtype is DType.BOOL or body.dtype in lanes.INTEGERS
        return fits_lanes and _is_row(program, body, columns)
    return lanes.fits(body) and all(_vectorises(program, c, columns) for c in body.children())


def _is_row(program: Program, load: Load, columns: list[Symbol]) -> bool:
    """Whether the elements for neighbouring columns are neighbours, or all the same one."""
    at = flat_index(load.index, program.buffers[load.buffer].shape)
    if not any(depends_on(at, v) for v in columns):
        return True
    if len(columns) > 1 or dim_reads(load.index):
        return False
    parts = linear(at, columns[0])
    return parts is not None and parts[0] == 1 and not depends_on(parts[1], columns[0])
