"""Matrix products by packed constants (``cpu/gemm.hxx``), and of strided batches (``cpu/matmul.hxx``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sofie_root.budget import spend_product
from sofie_root.ir.dim import Dim, ceildiv, product
from sofie_root.ir.dtype import DType
from sofie_root.program.operation import Array, Operand, Resolve
from sofie_root.program.operations.matmul import Attention, Linear, MatMul
from sofie_root.program.program import Buffer, Program
from sofie_root.schedule.inline import Decisions, remove_dead_statements
from sofie_root.targets.cpu.packing import PANEL, pack, unpack
from sofie_root.targets.cxx.call import Arg, Call, CppKernel, Fused, In, Out, Scratch, Stride

from . import call

ATTENTION_ROWS = 14
"""Rows of scores that the workspace of attention holds: ``sofie::kAttentionRows``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedLinear(Linear):
    """A linear map whose weights are packed, ``w[ceil(N/16), K, 16]``.

    Attributes:
        columns: N.
    """

    columns: int

    @property
    def title(self) -> str:
        """What it means, whatever its form."""
        return Linear.__name__

    @property
    def n(self) -> int:
        """Number of columns of the result."""
        return self.columns

    @property
    def k(self) -> int:
        """Length of the sums."""
        return int(self.w.shape[1])  # type: ignore[arg-type]

    def evaluate(self, resolve: Resolve, **operands: Any) -> list[Array]:
        """``x`` times the weights that were packed."""
        x, w = operands["x"], unpack(operands["w"], self.n)
        spend_product(x, w)
        return [np.matmul(x, w)]


def pack_weights(program: Program, decisions: Decisions) -> None:
    """Packs the weights of linear maps.

    Needs: no later stage that changes weights. Leaves: no :class:`Linear` but packed ones.
    """
    packed: dict[str, str] = {}
    for k, s in enumerate(program.statements):
        if not isinstance(s, Linear) or isinstance(s, PackedLinear):
            continue
        name = packed.get(s.w.buffer)
        if name is None:
            name = program.fresh(f"{s.w.buffer}.packed")
            array = pack(program.constants[s.w.buffer])
            shape = tuple(int(d) for d in array.shape)
            program.buffers[name] = Buffer(
                name, program.buffers[s.w.buffer].dtype, shape, "constant"
            )
            program.constants[name] = array
            packed[s.w.buffer] = name
        buffer = program.buffers[name]
        w = Operand(name, buffer.dtype, buffer.shape, 0, buffer.strides)
        program.statements[k] = PackedLinear(
            x=s.x, w=w, columns=s.n, fused=s.fused, outputs=s.outputs, origin=s.origin
        )
    if packed:
        remove_dead_statements(program)


@call.register
def _(operation: Linear) -> Call:
    rows = operation.rows
    single = len(rows) == 1
    kernel = CppKernel(
        (("x", "rows" if single else "contiguous"),),
        epilogue_axes=(tuple(range(len(rows))), (len(rows),)),
        name="gemm",
        header="cpu/gemm.hxx",
        named_epilogues=True,
    )
    n, k = operation.n, operation.k
    lda: Arg = Stride("x", 0) if single else k
    return Call(kernel, (product(rows), n, k, In("x"), lda, In("w"), Out(), n, Fused()))


@call.register
def _(operation: MatMul) -> Call:
    axes = tuple(range(len(operation.batch) + len(operation.rows) + 1))
    batch = len(operation.batch)
    kernel = CppKernel(
        layout_of_others="strided",
        epilogue_axes=(axes[:batch], axes[batch:-1], axes[-1:]),
        name="matmul",
        header="cpu/matmul.hxx",
        named_epilogues=True,
    )
    n, k = operation.n, operation.k
    size = ceildiv(n, PANEL) * PANEL * k if operation.x.dtype is DType.FLOAT else 0
    args: tuple[Arg, ...] = (
        *(*operation.outer, operation.m, n, k),
        *(In("x"), *_strides("x", operation.x)),
        *(In("w"), *_strides("w", operation.w)),
        *(Out(), Scratch(size, operation.x.dtype), Fused()),
    )
    return Call(kernel, args)


def _strides(name: str, operand: Operand) -> tuple[Arg, ...]:
    """The four strides of an operand with up to two outer axes."""
    rank = len(operand.shape)
    return (*(0,) * (4 - rank), *(Stride(name, axis) for axis in range(rank)))


@call.register
def _(operation: Attention) -> Call:
    axes = tuple(range(len(operation.batch) + len(operation.rows) + 1))
    batch = len(operation.batch)
    kernel = CppKernel(
        layout_of_others="strided",
        epilogue_axes=(axes[:batch], axes[batch:-1], axes[-1:]),
        name="attention",
        header="cpu/attention.hxx",
    )
    *outer, m, depth = operation.q.shape
    n, d = operation.v.shape[-2:]
    size = attention_workspace(m, n, depth, d, operation.q.strides[3] != 1)
    operands: list[Arg] = []
    for name in ("q", "k", "v"):
        operands += [In(name), *(Stride(name, axis) for axis in range(4))]
    result = (Out(), *operation.strides, Scratch(size, DType.FLOAT), Fused())
    return Call(kernel, (*outer, m, n, depth, d, *operands, *result))


def attention_workspace(m: Dim, n: Dim, k: Dim, d: Dim, copies_q: bool) -> Dim:
    """``sofie::attention_workspace`` for m queries and n keys of size k, and values of size d."""
    keys, width = ceildiv(n, PANEL) * PANEL, ceildiv(d, PANEL) * PANEL
    return keys * k + width * n + ATTENTION_ROWS * (keys + width) + (m * k if copies_q else 0)
