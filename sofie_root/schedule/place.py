"""Lets loops write their results where a copy would put them: into a concatenation, or transposed.

A loop that only copies a buffer which nobody else reads is left out; the loops that fill that buffer write
to where the copy would have put their elements.
"""

from __future__ import annotations

from dataclasses import replace

from sofie_root.ir.dim import Atom, Dim, Symbol, single_atom, substitute
from sofie_root.program.expr import Load
from sofie_root.program.program import Program
from sofie_root.program.statement import Loop
from sofie_root.program.uses import reads

from .inline import Decisions


def write_in_place(program: Program, decisions: Decisions) -> None:
    """Leaves out copies; see the module's text.

    Needs: copies that are loops with a single read. Leaves: the loops that filled what was copied,
    writing to where the copy would have put it.
    """
    for copy in [s for s in program.statements if isinstance(s, Loop) and s.is_view]:
        mapping = _mapping(program, copy)
        if mapping is None:
            continue
        assert isinstance(copy.body, Load)
        source = copy.body.buffer
        touching = {id(s): s for s in (*program.writers(source), *program.readers(source))}.values()
        writers = [s for s in touching if isinstance(s, Loop) and s is not copy and not s.scatters]
        if len(writers) + 1 != len(touching) or any(source in reads(w) for w in writers):
            continue
        dims = (*copy.index, *program.buffers[copy.output].shape)
        if writers and not program.knows_sizes(writers[0], dims):
            continue
        for writer in writers:
            program.replace(writer, _moved(writer, copy, mapping))
        program.replace(copy)
        decisions.fused.append(f"{' + '.join(copy.origin)}: its parts are written in place")


def _mapping(program: Program, copy: Loop) -> dict[Symbol, int] | None:
    """The axis of the source that each index of a copy walks along; None where it is not all of it."""
    assert isinstance(copy.body, Load)
    source, target = program.buffers[copy.body.buffer], program.buffers[copy.output]
    if source.kind != "arena" or source.name in program.outputs.values():
        return None
    if source.dtype is not target.dtype or target.kind not in ("arena", "output"):
        return None
    axes: dict[Symbol, int] = {}
    for axis, (d, extent) in enumerate(zip(copy.body.index, source.shape, strict=True)):
        atom = single_atom(d)
        if d == 0 and extent == 1:
            continue
        if not isinstance(atom, Symbol) or atom in axes or atom.extent != extent:
            return None
        axes[atom] = axis
    return axes if set(axes) == set(copy.vars) else None


def _moved(writer: Loop, copy: Loop, axes: dict[Symbol, int]) -> Loop:
    """The writer of the source, writing where the copy would have put it."""
    mapping: dict[Atom, Dim] = {v: writer.index[axis] for v, axis in axes.items()}
    origin = writer.origin + tuple(o for o in copy.origin if o not in writer.origin)
    index = tuple(substitute(d, mapping) for d in copy.index)
    return replace(writer, output=copy.output, index=index, origin=origin)
