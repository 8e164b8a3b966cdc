"""What a generated header says of itself in words: the model, how to call it, and what its steps do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from sofie_root.ir.types import Shape
from sofie_root.program.nest import Nest, Step
from sofie_root.program.operation import Operation
from sofie_root.program.program import Buffer
from sofie_root.program.statement import Bind, Branch, Check, Fetch, Repeat
from sofie_root.program.uses import reads, writes
from sofie_root.schedule.schedule import Schedule

from .names import Identifiers, comment

if TYPE_CHECKING:
    from .session import Struct


def header_summary(session: Struct, namespace: str, weights: str | None) -> list[str]:
    """The comment behind the first lines of a header.

    Args:
        session: the Session that the header defines.
        namespace: its namespace.
        weights: name of the weights file that a Session opens by default; None where there is none.
    """
    schedule, program = session.schedule, session.program
    lines = [f"{program.name}", ""]
    rows = [("input", p.public, _type(p.buffer)) for p in session.inputs]
    rows += [("output", p.public, _type(p.buffer)) for p in session.outputs]
    widths = [max((len(row[k]) for row in rows), default=0) for k in range(2)]
    lines += [f"  {a.ljust(widths[0])}  {b.ljust(widths[1])}  {c}" for a, b, c in rows]
    if session.sizes:
        names = ", ".join(session.sizes.values())
        lines += ["", f"  {names}: sizes of the inputs, the first arguments of infer"]
    arguments = [*session.sizes.values(), *(p.cpp for p in session.inputs)]
    opened = f'session("{weights}")' if weights else "session"
    lines += [
        "",
        "How to call it, with pointers to contiguous arrays in row-major order:",
        f"  {namespace}::Session {opened};  // one for each thread",
        f"  auto result = session.infer({', '.join(arguments)});"
        + (
            "  // a std::vector"
            if len(session.outputs) == 1
            else "  // a std::tuple of std::vectors"
        ),
        f"  session.infer_to({', '.join([*arguments, *(p.cpp for p in session.outputs)])});"
        "  // into the caller's memory",
    ]
    tensors = [array for array, _ in session.shared.constants.values()]
    size = sum(int(array.nbytes) for array in tensors)
    lines += [
        "",
        f"Weights: {len(tensors)} tensor{'s' if len(tensors) != 1 else ''}, {size} bytes. "
        "Arena: memory for temporaries, its size is in the first line; each Session has its own.",
    ]
    lines += ["", "Steps:"]
    described = [d for s in schedule.steps if (d := describe(schedule, session.names, s))]
    places = len(str(len(described)))
    lines += [f"  {k:>{places}}. {d}" for k, d in enumerate(described, start=1)]
    return [_comment_line(line) for line in lines]


def _comment_line(text: str) -> str:
    indent = len(text) - len(text.lstrip())
    return f"// {' ' * indent}{comment(text)}".rstrip()


def describe(schedule: Schedule, names: Identifiers, step: Step) -> str:
    """A step in one line, ``Linear: x[N,16] -> h[N,32]  (/fc1/Gemm, /act1/Relu)``; "" for a mere check."""
    if isinstance(step, Bind | Check):
        return ""
    kind = kind_of(step)
    read, written = _flow(step)
    sources, targets = (list(_tensors(schedule, names, n)) for n in (read, written))
    flow = " -> ".join(", ".join(tensors) for tensors in (sources, targets) if tensors)
    origin = ", ".join(step.origin)
    return f"{kind}: {flow}" + (f"  ({origin})" if origin else "")


def kind_of(step: Step) -> str:
    """What a step is called where people read it."""
    if isinstance(step, Operation):
        return step.title
    names = {Nest: "loop", Branch: "If", Repeat: "Loop", Fetch: "result"}
    return names.get(type(step), type(step).__name__)


def _flow(step: Step) -> tuple[dict[str, None], dict[str, None]]:
    """The buffers that a step reads and writes, in order."""
    if isinstance(step, Nest):
        loops = step.loops()
        own = {loop.output for loop in loops}
        inner = set(step.locals)
        read = dict.fromkeys(n for loop in loops for n in sorted(reads(loop)) if n not in own)
        written = dict.fromkeys(loop.output for loop in loops if loop.output not in inner)
    else:
        read, written = dict.fromkeys(sorted(reads(step))), dict.fromkeys(sorted(writes(step)))
        if isinstance(step, Operation):
            operands = [o.buffer for o in step.inputs]
            read = dict.fromkeys([*operands, *(n for n in read if n not in operands)])
            written = dict.fromkeys(o for o in step.outputs if o is not None)
    return read, written


def _tensors(schedule: Schedule, names: Identifiers, buffers: Iterable[str]) -> Iterator[str]:
    """Names and shapes of the buffers that are neither constants nor results of control flow."""
    for name in buffers:
        buffer = schedule.program.buffers.get(name)
        if buffer is not None and buffer.kind not in ("constant", "results"):
            yield f"{names[name]}{_shape(buffer.shape)}"


def _type(buffer: Buffer) -> str:
    return f"{buffer.dtype}{_shape(buffer.shape)}"


def _shape(shape: Shape) -> str:
    return f"[{','.join(map(str, shape))}]"
