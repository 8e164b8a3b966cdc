"""Recurrent networks: RNN, GRU and LSTM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from sofie_root.errors import ShapeError
from sofie_root.ir import Dim, DType, Op, Refuse, Shape, TensorType, operator, require_equal
from sofie_root.kernels import gemm
from sofie_root.kernels import recurrent as kernels
from sofie_root.kernels.recurrent import ACTIVATIONS, Cell
from sofie_root.program.builder import Builder, Tensor
from sofie_root.program.expr import as_index
from sofie_root.program.program import Functor

from .checks import FLOATS, require_dtype, require_one_dtype

Array = npt.NDArray[Any]

DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
_NAMES = {name.lower(): name for name in ACTIVATIONS}


@dataclass(frozen=True, slots=True)
class Recurrent(Op):
    """Base of RNN, GRU and LSTM: the attributes, and all but what happens in a step."""

    gates: ClassVar[int]
    default_activations: ClassVar[tuple[str, ...]]

    activation_alpha: tuple[float, ...] | None = None
    activation_beta: tuple[float, ...] | None = None
    activations: tuple[str, ...] | None = None
    clip: float = 0.0
    direction: str = "forward"
    hidden_size: int | None = None
    layout: int = 0

    def _reversed(self) -> tuple[bool, ...]:
        """For each direction whether it runs backwards."""
        if self.direction not in DIRECTIONS:
            raise ShapeError(f"direction {self.direction!r} is none of {', '.join(DIRECTIONS)}")
        return DIRECTIONS[self.direction]

    def _functions(self) -> list[tuple[Functor, ...]]:
        """The activations of each direction; alphas and betas go to those that take one."""
        directions, per = len(self._reversed()), len(self.default_activations)
        names = self.activations or self.default_activations * directions
        if len(names) != directions * per:
            raise ShapeError(f"{len(names)} activations given, {directions * per} needed")
        alphas, betas = iter(self.activation_alpha or ()), iter(self.activation_beta or ())
        functors: list[Functor] = []
        for given in names:
            name = _NAMES.get(given.lower())
            if name is None:
                raise Refuse(f"activation {given!r}")
            defaults, numbers = ACTIVATIONS[name][0], []
            for default, values in zip(defaults, (alphas, betas), strict=False):
                numbers.append(float(next(values, default)))
            functors.append(Functor(name, tuple(numbers)))
        return [tuple(functors[d * per : (d + 1) * per]) for d in range(directions)]

    def _sizes(self, x: Shape) -> tuple[Dim, Dim]:
        """Sequence length and batch size."""
        return (x[1], x[0]) if self.layout else (x[0], x[1])

    def _check(
        self,
        x: TensorType,
        w: TensorType,
        r: TensorType,
        bias: TensorType | None,
        lengths: TensorType | None,
        states: Sequence[TensorType | None],
        peepholes: TensorType | None = None,
    ) -> tuple[Shape, Shape]:
        """Checks all inputs; shapes of Y and of a last state."""
        require_dtype(x, FLOATS)
        require_one_dtype([t for t in (x, w, r, bias, peepholes, *states) if t is not None])
        if self.layout not in (0, 1):
            raise ShapeError(f"layout {self.layout} is neither 0 nor 1")
        directions = len(self._functions())
        for operand, what in ((x, "X"), (w, "W"), (r, "R")):
            if operand.rank != 3:
                raise ShapeError(f"{what} must have 3 axes, not {operand.rank}")
        seq, batch = self._sizes(x.shape)
        hidden, inputs = r.shape[2], w.shape[2]
        if not isinstance(hidden, int) or not isinstance(inputs, int):
            raise Refuse("W and R must have a known shape")
        if self.hidden_size is not None:
            require_equal(hidden, self.hidden_size, "R must fit hidden_size")
        require_equal(x.shape[2], inputs, "the input must fit W")
        state = (batch, directions, hidden) if self.layout else (directions, batch, hidden)
        expected: list[tuple[TensorType | None, Shape, str]] = [
            (w, (directions, self.gates * hidden, inputs), "W"),
            (r, (directions, self.gates * hidden, hidden), "R"),
            (bias, (directions, 2 * self.gates * hidden), "B"),
            (lengths, (batch,), "sequence_lens"),
            (peepholes, (directions, 3 * hidden), "P"),
            *((s, state, "an initial state") for s in states),
        ]
        for given, shape, what in expected:
            if given is None:
                continue
            if given.rank != len(shape):
                raise ShapeError(f"{what} is {given}, expected {len(shape)} axes")
            for have, need in zip(given.shape, shape, strict=True):
                require_equal(have, need, f"shape of {what}")
        if lengths is not None and lengths.dtype is not DType.INT32:
            raise ShapeError(f"sequence_lens must be int32, not {lengths.dtype}")
        rest: Shape = (batch, seq, directions) if self.layout else (seq, directions, batch)
        return (*rest, hidden), state

    def _cells(self, w: Shape, r: Shape) -> list[Cell]:
        inputs, hidden = w[2], r[2]
        assert isinstance(inputs, int)
        assert isinstance(hidden, int)
        return [
            Cell(inputs, hidden, reverse, float(self.clip), functions)
            for reverse, functions in zip(self._reversed(), self._functions(), strict=True)
        ]

    def _input(self, b: Builder, x: Tensor) -> Tensor:
        """``[seq, batch, I]`` in the type that is computed in."""
        return b.cast(b.transpose(x, (1, 0, 2)) if self.layout else x, x.dtype.compute)

    def _parts(self) -> tuple[int, ...]:
        """Numbers of gates whose weights are multiplied together."""
        return (self.gates,)

    def _weights(
        self, b: Builder, w: Tensor, r: Tensor, d: int, hidden: int
    ) -> tuple[Tensor, Tensor]:
        """W and R of a direction: transposed, their columns in the kernel's order, packed."""
        parts = self._parts()
        order = kernels.column_order(parts, hidden)
        inputs, states = ordered(b, w, d, order), ordered(b, r, d, order)
        if isinstance(inputs, Tensor):
            inputs = gemm.packed(b, b.transpose(inputs, (1, 0)), w.buffer)
        else:
            inputs = b.constant(gemm.pack(inputs.T), f"{w.buffer}.{d}.packed")
        if not isinstance(states, Tensor):
            flat = kernels.pack_strips(states.T, parts, hidden)
            return inputs, b.constant(flat, f"{r.buffer}.{d}.packed")
        pieces, first = [], 0
        for gates in parts:
            columns = kernels.gate_columns(gates, hidden)
            for strip in kernels.strips(columns):
                at, width = first + strip.start, strip.stop - strip.start
                rows = b.loop((hidden, width), lambda i, j, at=at: states[at + j, i])
                pieces.append(b.reshape(rows, (hidden * width,)))
            first += columns
        return inputs, joined(b, pieces, 0)

    def _bias(self, b: Builder, bias: Tensor | None, x: Tensor, hidden: int, d: int) -> Tensor:
        """Wb + Rb of a direction in the kernel's order; zeros where the model has none."""
        order, apart = kernels.column_order(self._parts(), hidden), self._biases_apart()
        if bias is None:
            zeros = np.zeros((2, len(order)) if apart else len(order), x.dtype.numpy)
            return b.constant(zeros, "no_bias")
        both = [ordered(b, bias, d, order + k * self.gates * hidden) for k in range(2)]
        tensors = [t for t in both if isinstance(t, Tensor)]
        if not tensors:
            arrays = np.stack([np.asarray(a) for a in both])
            return b.constant(arrays if apart else arrays.sum(axis=0), f"{bias.buffer}.{d}")
        if apart:
            return stacked(b, tensors, 0)
        inputs, states = tensors
        return b.loop(inputs.shape, lambda i: inputs[i] + states[i])

    def _biases_apart(self) -> bool:
        """Whether the kernel adds Rb elsewhere than Wb."""
        return False

    def _state(self, b: Builder, state: Tensor | None, d: int) -> Tensor | None:
        """An initial state of a direction as ``[batch, H]``; None for zeros."""
        if state is None or (state.constant is not None and not state.constant.any()):
            return None
        return direction(b, state, d, axis=1 if self.layout else 0)

    def _outputs(
        self, b: Builder, parts: list[tuple[Tensor, ...]], dtype: DType
    ) -> tuple[Tensor, ...]:
        """The results of all directions along their own axis."""
        axes = (2, 1, 1) if self.layout else (1, 0, 0)
        return tuple(
            b.cast(stacked(b, [part[k] for part in parts], axes[k]), dtype)
            for k in range(len(parts[0]))
        )


def direction(b: Builder, x: Tensor, d: int, axis: int = 0) -> Tensor:
    """What belongs to one direction of a stacked operand, in the type that is computed in."""
    if x.constant is not None:
        array = np.take(x.constant, d, axis).astype(x.dtype.compute.numpy)
        return b.constant(array, f"{x.buffer}.{d}")
    shape = x.shape[:axis] + x.shape[axis + 1 :]
    part = b.loop(shape, lambda *i: x[(*i[:axis], d, *i[axis:])], x.dtype)
    return b.cast(part, x.dtype.compute)


def ordered(b: Builder, x: Tensor, d: int, order: Array) -> Tensor | Array:
    """The rows of ``x[d]`` in this order, in the type that is computed in; an array if constant."""
    if x.constant is not None:
        return np.asarray(x.constant[d][order], x.dtype.compute.numpy)
    table = b.constant(order.astype(np.int64), "order")
    shape = (len(order), *x.shape[2:])
    rows = b.loop(shape, lambda i, *rest: x[(d, as_index(table[i], x.shape[1]), *rest)])
    return b.cast(rows, x.dtype.compute)


def stacked(b: Builder, parts: Sequence[Tensor], axis: int) -> Tensor:
    """Tensors of one shape, along a new axis."""
    shape = parts[0].shape
    single = [b.reshape(part, (*shape[:axis], 1, *shape[axis:])) for part in parts]
    return joined(b, single, axis)


def joined(b: Builder, parts: Sequence[Tensor], axis: int) -> Tensor:
    """Tensors one behind the other along an axis."""
    if len(parts) == 1:
        return parts[0]
    rank, total = parts[0].rank, sum((p.shape[axis] for p in parts[1:]), parts[0].shape[axis])
    pieces = []
    offset: Dim = 0
    for part in parts:
        at = tuple(offset if a == axis else 0 for a in range(rank))
        pieces.append((at, part.shape, lambda *i, part=part: part[i]))
        offset = offset + part.shape[axis]
    shape = tuple(total if a == axis else n for a, n in enumerate(parts[0].shape))
    return b.pieces(shape, parts[0].dtype, pieces)


@operator("RNN", since=14)
@dataclass(frozen=True, slots=True)
class RNN(Recurrent):
    """``h' = f(x W + h R + b)``. Source: ONNX RNN-22."""

    gates: ClassVar[int] = 1
    default_activations: ClassVar[tuple[str, ...]] = ("Tanh",)

    def infer(
        self,
        x: TensorType,
        w: TensorType,
        r: TensorType,
        bias: TensorType | None = None,
        lengths: TensorType | None = None,
        initial_h: TensorType | None = None,
    ) -> tuple[TensorType, ...]:
        """Y and Y_h."""
        y, state = self._check(x, w, r, bias, lengths, [initial_h])
        return TensorType(x.dtype, y), TensorType(x.dtype, state)

    def lower(
        self,
        b: Builder,
        x: Tensor,
        w: Tensor,
        r: Tensor,
        bias: Tensor | None = None,
        lengths: Tensor | None = None,
        initial_h: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """One kernel per direction."""
        wide, parts = self._input(b, x), []
        for d, cell in enumerate(self._cells(w.shape, r.shape)):
            operands = (
                lengths,
                *self._weights(b, w, r, d, cell.hidden),
                self._bias(b, bias, wide, cell.hidden, d),
                self._state(b, initial_h, d),
            )
            parts.append(self._run(b, cell, wide, operands))
        return self._outputs(b, parts, x.dtype)

    def _run(
        self, b: Builder, cell: Cell, x: Tensor, operands: Sequence[Tensor | None]
    ) -> tuple[Tensor, ...]:
        return kernels.rnn(b, cell, x, operands, bool(self.layout))


@operator("GRU", since=14)
@dataclass(frozen=True, slots=True)
class GRU(RNN):
    """Gated recurrent unit. Source: ONNX GRU-22."""

    gates: ClassVar[int] = 3
    default_activations: ClassVar[tuple[str, ...]] = ("Sigmoid", "Tanh")

    linear_before_reset: int = 0

    def _parts(self) -> tuple[int, ...]:
        return kernels.gru_parts(bool(self.linear_before_reset))

    def _biases_apart(self) -> bool:
        return bool(self.linear_before_reset)

    def _run(
        self, b: Builder, cell: Cell, x: Tensor, operands: Sequence[Tensor | None]
    ) -> tuple[Tensor, ...]:
        linear = bool(self.linear_before_reset)
        return kernels.gru(b, cell, x, operands, bool(self.layout), linear)


@operator("LSTM", since=14)
@dataclass(frozen=True, slots=True)
class LSTM(Recurrent):
    """Long short-term memory. Source: ONNX LSTM-22."""

    gates: ClassVar[int] = 4
    default_activations: ClassVar[tuple[str, ...]] = ("Sigmoid", "Tanh", "Tanh")

    input_forget: int = 0

    def infer(
        self,
        x: TensorType,
        w: TensorType,
        r: TensorType,
        bias: TensorType | None = None,
        lengths: TensorType | None = None,
        initial_h: TensorType | None = None,
        initial_c: TensorType | None = None,
        peepholes: TensorType | None = None,
    ) -> tuple[TensorType, ...]:
        """Y, Y_h and Y_c."""
        y, state = self._check(x, w, r, bias, lengths, [initial_h, initial_c], peepholes)
        last = TensorType(x.dtype, state)
        return TensorType(x.dtype, y), last, last

    def lower(
        self,
        b: Builder,
        x: Tensor,
        w: Tensor,
        r: Tensor,
        bias: Tensor | None = None,
        lengths: Tensor | None = None,
        initial_h: Tensor | None = None,
        initial_c: Tensor | None = None,
        peepholes: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """One kernel per direction."""
        wide, parts = self._input(b, x), []
        for d, cell in enumerate(self._cells(w.shape, r.shape)):
            operands = (
                lengths,
                *self._weights(b, w, r, d, cell.hidden),
                self._bias(b, bias, wide, cell.hidden, d),
                None if peepholes is None else direction(b, peepholes, d),
                self._state(b, initial_h, d),
                self._state(b, initial_c, d),
            )
            forget = bool(self.input_forget)
            parts.append(kernels.lstm(b, cell, wide, operands, bool(self.layout), forget))
        return self._outputs(b, parts, x.dtype)
