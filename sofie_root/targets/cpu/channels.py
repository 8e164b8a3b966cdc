"""Channels first or last: views of one as the other, and which of them a tensor will be stored as."""

from __future__ import annotations

from sofie_root.ir.dim import Symbol, single_atom
from sofie_root.program import expr as ex
from sofie_root.program.builder import Builder, Tensor
from sofie_root.program.statement import Loop


def channels_last(b: Builder, x: Tensor) -> Tensor:
    """``x[N, C, *spatial]`` as ``[N, *spatial, C]``; a view."""
    return b.transpose(x, (0, *range(2, x.rank), 1))


def channels_first(b: Builder, x: Tensor) -> Tensor:
    """``x[N, *spatial, C]`` as ``[N, C, *spatial]``; a view."""
    return b.transpose(x, (0, x.rank - 1, *range(1, x.rank - 1)))


def innermost_axis(x: Tensor) -> int:
    """The axis whose elements are neighbours in memory, as far as the loops that make ``x`` tell.

    A loop over whole tensors is put into the order of what it reads, so the answer is that of the kernel
    or input at the start of the chain.
    """
    buffers = x.program.buffers
    found: dict[str, int] = {}

    def innermost(buffer: str) -> int:
        return found.get(buffer, len(buffers[buffer].shape) - 1)

    needed = {x.buffer}
    chain: list[Loop] = []
    for s in reversed(x.program.statements):
        if isinstance(s, Loop) and s.reduction is None and s.output in needed:
            needed |= {load.buffer for load in ex.loads(s.body)}
            chain.append(s)
    for loop in reversed(chain):
        axes = {single_atom(d): axis for axis, d in enumerate(loop.index)}
        for load in ex.loads(loop.body):
            if not load.index or buffers[load.buffer].numel != buffers[loop.output].numel:
                continue
            along = single_atom(load.index[innermost(load.buffer)])
            if isinstance(along, Symbol) and along in axes:
                found[loop.output] = axes[along]
                break
    return innermost(x.buffer)
