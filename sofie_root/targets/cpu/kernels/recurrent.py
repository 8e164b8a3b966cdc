"""One direction of a recurrent network: RNN, GRU and LSTM cells (``cpu/recurrent.hxx``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from sofie_root.ir.dim import Dim
from sofie_root.program.builder import Builder, Tensor
from sofie_root.program.expr import as_index
from sofie_root.program.operation import Array, Operation, Resolve
from sofie_root.program.operations.recurrent import Gru, Lstm, Recurrent, Rnn
from sofie_root.targets.cpu.packing import PANEL, pack, packed, unpack
from sofie_root.targets.cxx.call import (
    Arg,
    Call,
    CppKernel,
    Functor,
    In,
    Null,
    Out,
    Scratch,
    Stride,
    Traits,
)

from . import call, choose

STRIP_PANELS = 10
"""Panels of a strip, at most: ``sofie::kStripPanels``."""


def gate_columns(gates: int, hidden: int) -> int:
    """Columns of the weights of some gates, in whole panels: ``sofie::gate_columns``."""
    return -(-gates * hidden // PANEL) * PANEL


def column_order(parts: Sequence[int], hidden: int) -> Array:
    """Which column of the model's ``[K, gates * hidden]`` matrix each packed column holds.

    The units come 16 at a time, gate by gate; those that are left follow gate by gate without gaps. What
    fills the last panel repeats a column, and nobody reads its sums.

    Args:
        parts: numbers of gates that are packed (and multiplied) together.
        hidden: units of a gate.
    """
    whole = hidden // PANEL * PANEL
    columns: list[Array] = []
    gate = 0
    for gates in parts:
        of = np.arange(gate, gate + gates)[:, None] * hidden
        blocks = [(of + np.arange(u, u + PANEL)).ravel() for u in range(0, whole, PANEL)]
        used = np.concatenate([*blocks, (of + np.arange(whole, hidden)).ravel()])
        columns.append(np.resize(used, gate_columns(gates, hidden)))
        columns[-1][len(used) :] = used[0]
        gate += gates
    return np.concatenate(columns)


def strips(columns: int) -> list[slice]:
    """Columns of each strip: ``sofie::Strips``."""
    panels = columns // PANEL
    count = -(-panels // STRIP_PANELS)
    widths = [panels // count + (s < panels % count) for s in range(count)]
    ends = np.cumsum(widths) * PANEL
    return [slice(int(e) - w * PANEL, int(e)) for w, e in zip(widths, ends, strict=True)]


def all_strips(parts: Sequence[int], hidden: int) -> list[slice]:
    """Packed columns of each strip of all parts, one part after the other."""
    found, first = [], 0
    for gates in parts:
        columns = gate_columns(gates, hidden)
        found += [slice(first + s.start, first + s.stop) for s in strips(columns)]
        first += columns
    return found


def pack_strips(matrix: Array, parts: Sequence[int], hidden: int) -> Array:
    """Recurrent weights ``[H, columns]`` (in packed order) strip by strip, each row by row: flat."""
    return np.concatenate([matrix[:, s].ravel() for s in all_strips(parts, hidden)])


def unpack_strips(flat: Array, parts: Sequence[int], hidden: int) -> Array:
    """The ``[H, gates * hidden]`` matrix of the model."""
    columns = [
        flat[hidden * s.start : hidden * s.stop].reshape(hidden, -1)
        for s in all_strips(parts, hidden)
    ]
    return in_model_order(np.concatenate(columns, axis=1), parts, hidden)


def in_model_order(packed: Array, parts: Sequence[int], hidden: int) -> Array:
    """Columns in packed order (the last axis) as the model has them."""
    result = np.empty((*packed.shape[:-1], sum(parts) * hidden), packed.dtype)
    result[..., column_order(parts, hidden)] = packed
    return result


def parts_of(cell: Recurrent) -> tuple[int, ...]:
    """Numbers of gates whose weights are multiplied together."""
    return (2, 1) if isinstance(cell, Gru) and not cell.linear_before_reset else (cell.GATES,)


def biases_apart(cell: Recurrent) -> bool:
    """Whether the biases of the states are added elsewhere than those of the inputs."""
    return isinstance(cell, Gru) and cell.linear_before_reset


class Packed(Recurrent):
    """Base of cells whose weights have their columns in packed order (:func:`column_order`).

    ``w`` is ``[ceil(N/16), I, 16]``; ``r`` is flat (:func:`pack_strips`); ``bias`` is ``[N]``, the sum of
    both biases, or ``[2, N]`` where they are added apart. ``units`` is H.
    """

    __slots__ = ()
    units: int

    @property
    def hidden(self) -> int:
        """H, the size of a state."""
        return self.units

    def evaluate(self, resolve: Resolve, **operands: Any) -> list[Array]:
        """The cell with the weights that were packed."""
        parts, hidden = parts_of(self), self.units
        bias = in_model_order(operands["bias"], parts, hidden).ravel()
        if not biases_apart(self):
            bias = np.concatenate([bias, np.zeros_like(bias)])
        columns = sum(gate_columns(gates, hidden) for gates in parts)
        w = in_model_order(unpack(operands["w"], columns), parts, hidden)
        r = unpack_strips(operands["r"], parts, hidden)
        unpacked = {**operands, "w": w.T, "r": r.T, "bias": bias}
        return super().evaluate(resolve, **unpacked)


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedRnn(Packed, Rnn):
    """An :class:`Rnn` with packed weights."""

    units: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedGru(Packed, Gru):
    """A :class:`Gru` with packed weights."""

    units: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedLstm(Packed, Lstm):
    """An :class:`Lstm` with packed weights."""

    units: int


PACKED = {Rnn: PackedRnn, Gru: PackedGru, Lstm: PackedLstm}


# -- packing -----------------------------------------------------------------------------------------------


@choose.register
def _(operation: Recurrent, b: Builder) -> Operation:
    w, r = b.tensor(operation.w), b.tensor(operation.r)
    bias = None if operation.bias is None else b.tensor(operation.bias)
    values: dict[str, Any] = {
        f.name: getattr(operation, f.name) for f in fields(operation) if f.init
    }
    values["w"] = _packed_inputs(b, operation, w).operand
    values["r"] = _packed_states(b, operation, r).operand
    values["bias"] = _packed_bias(b, operation, bias).operand
    packed_cell: Packed = PACKED[type(operation)](**values, units=operation.hidden)
    return packed_cell


def _packed_inputs(b: Builder, cell: Recurrent, w: Tensor) -> Tensor:
    """W transposed, its columns in packed order, in panels."""
    rows = _ordered(b, w, column_order(parts_of(cell), cell.hidden))
    if isinstance(rows, Tensor):
        return packed(b, b.transpose(rows, (1, 0)), w.buffer)
    return b.constant(pack(rows.T), f"{w.buffer}.packed")


def _packed_states(b: Builder, cell: Recurrent, r: Tensor) -> Tensor:
    """R transposed, its columns in packed order, in strips."""
    parts, hidden = parts_of(cell), cell.hidden
    rows = _ordered(b, r, column_order(parts, hidden))
    if not isinstance(rows, Tensor):
        return b.constant(pack_strips(rows.T, parts, hidden), f"{r.buffer}.packed")
    pieces, total = [], 0
    for s in all_strips(parts, hidden):
        width = s.stop - s.start
        strip = b.loop((hidden, width), lambda i, j, at=s.start: rows[at + j, i])
        flat = b.reshape(strip, (hidden * width,))
        pieces.append(((total,), flat.shape, lambda i, flat=flat: flat[i]))
        total += hidden * width
    return b.pieces((total,), r.dtype, pieces) if len(pieces) > 1 else flat


def _packed_bias(b: Builder, cell: Recurrent, bias: Tensor | None) -> Tensor:
    """The biases in packed order, added up where they are not added apart; zeros where there are none."""
    order, apart = column_order(parts_of(cell), cell.hidden), biases_apart(cell)
    if bias is None:
        zeros = np.zeros((2, len(order)) if apart else len(order), cell.x.dtype.numpy)
        return b.constant(zeros, "no_bias")
    both = np.stack([order + k * cell.GATES * cell.hidden for k in range(2)])
    if bias.constant is not None:
        arrays = bias.constant[both]
        return b.constant(arrays if apart else arrays.sum(axis=0), f"{bias.buffer}.packed")
    inputs, states = (_ordered(b, bias, half) for half in both)
    assert isinstance(inputs, Tensor)
    assert isinstance(states, Tensor)
    if not apart:
        return b.loop(inputs.shape, lambda i: inputs[i] + states[i])
    pieces = [
        ((k, 0), (1, len(order)), lambda _, i, t=t: t[i]) for k, t in enumerate((inputs, states))
    ]
    return b.pieces(both.shape, bias.dtype, pieces)


def _ordered(b: Builder, x: Tensor, order: Array) -> Tensor | Array:
    """The rows of ``x`` in this order; an array if constant."""
    if x.constant is not None:
        return np.asarray(x.constant[order])
    table = b.constant(order.astype(np.int64), "order")
    shape = (len(order), *x.shape[1:])
    return b.loop(shape, lambda i, *rest: x[(as_index(table[i], x.shape[0]), *rest)])


# -- calls -------------------------------------------------------------------------------------------------


@call.register
def _(operation: PackedRnn) -> Call:
    operands = ("lengths", "w", "r", "bias", "initial_h")
    return _call(operation, "rnn_direction", operands, ())


@call.register
def _(operation: PackedGru) -> Call:
    operands = ("lengths", "w", "r", "bias", "initial_h")
    traits = (("linear_before_reset", operation.linear_before_reset),)
    return _call(operation, "gru_direction", operands, traits)


@call.register
def _(operation: PackedLstm) -> Call:
    operands = ("lengths", "w", "r", "bias", "peepholes", "initial_h", "initial_c")
    with_peepholes = operation.peepholes is not None
    traits = (("input_forget", operation.input_forget), ("peepholes", with_peepholes))
    return _call(operation, "lstm_direction", operands, traits)


def _call(operation: Packed, name: str, operands: Sequence[str], own: Traits) -> Call:
    seq, batch, hidden = operation.seq, operation.batch, operation.units
    given: list[Arg] = [
        Null() if getattr(operation, operand) is None else In(operand) for operand in operands
    ]
    steps: tuple[Dim, Dim] = (batch * hidden, hidden)
    if operation.batch_first:
        steps = (hidden, seq * hidden)
    columns = sum(gate_columns(gates, hidden) for gates in parts_of(operation))
    workspace = (seq + 1) * batch * columns + 2 * batch * hidden
    last = (Out(k) for k in range(1, len(operation.outputs)))
    dtype = operation.x.dtype
    functions = [Functor(f.name, f.args) for f in operation.activations]
    return Call(
        CppKernel((("x", "rows"),), name=name, header="cpu/recurrent.hxx"),
        (
            *(seq, batch, In("x"), Stride("x", 0), Stride("x", 1), *given),
            *(Out(0), *steps, *last, Scratch(workspace, dtype)),
        ),
        (
            *(("I", operation.inputs_of_step), ("H", hidden)),
            *(("reverse", operation.reverse), ("clip", operation.clip)),
            *zip("fgh", functions, strict=False),
            *own,
        ),
        (dtype.cpp,),
    )
