"""Recurrent networks: RNN, GRU and LSTM."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from sofie_root.errors import ShapeError
from sofie_root.ir import Dim, DType, Op, Refuse, Shape, TensorType, operator, require_equal
from sofie_root.program.builder import Builder, Tensor
from sofie_root.program.operations.recurrent import ACTIVATIONS, Activation, Gru, Lstm, Rnn
from sofie_root.program.operations.recurrent import Recurrent as Cell

from .checks import FLOATS, require_dtype, require_one_dtype

Array = npt.NDArray[Any]

DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
_NAMES = {name.lower(): name for name in ACTIVATIONS}


@dataclass(frozen=True, slots=True)
class Recurrent(Op):
    """Base of RNN, GRU and LSTM: the attributes, and all but what happens in a step."""

    layout_wall = True

    cell: ClassVar[type[Cell]]
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

    def _functions(self) -> list[tuple[Activation, ...]]:
        """The activations of each direction; alphas and betas go to those that take one."""
        directions, per = len(self._reversed()), len(self.default_activations)
        names = self.activations or self.default_activations * directions
        if len(names) != directions * per:
            raise ShapeError(f"{len(names)} activations given, {directions * per} needed")
        alphas, betas = iter(self.activation_alpha or ()), iter(self.activation_beta or ())
        functions: list[Activation] = []
        for given in names:
            name = _NAMES.get(given.lower())
            if name is None:
                raise Refuse(f"activation {given!r}")
            defaults, numbers = ACTIVATIONS[name][0], []
            for default, values in zip(defaults, (alphas, betas), strict=False):
                numbers.append(float(next(values, default)))
            functions.append(Activation(name, tuple(numbers)))
        return [tuple(functions[d * per : (d + 1) * per]) for d in range(directions)]

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
            (w, (directions, self.cell.GATES * hidden, inputs), "W"),
            (r, (directions, self.cell.GATES * hidden, hidden), "R"),
            (bias, (directions, 2 * self.cell.GATES * hidden), "B"),
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

    def _lower(
        self,
        b: Builder,
        x: Tensor,
        w: Tensor,
        r: Tensor,
        *,
        bias: Tensor | None,
        lengths: Tensor | None,
        states: Mapping[str, Tensor | None],
        peepholes: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """One operation for each direction; ``states`` are the initial ones by the names of its fields."""
        wide = b.cast(b.transpose(x, (1, 0, 2)) if self.layout else x, x.dtype.compute)
        (seq, batch), hidden, parts = wide.shape[:2], r.shape[2], []
        last = TensorType(wide.dtype, (batch, hidden))
        steps = (batch, seq, hidden) if self.layout else (seq, batch, hidden)
        outputs = (TensorType(wide.dtype, steps), *(last for _ in states))
        for d, (reverse, functions) in enumerate(
            zip(self._reversed(), self._functions(), strict=True)
        ):
            own = self._own_fields()
            if peepholes is not None:
                own["peepholes"] = direction(b, peepholes, d)
            parts.append(
                b.operation(
                    self.cell,
                    outputs,
                    x=wide,
                    w=direction(b, w, d),
                    r=direction(b, r, d),
                    bias=None if bias is None else direction(b, bias, d),
                    lengths=lengths,
                    activations=functions,
                    reverse=reverse,
                    clip=float(self.clip),
                    batch_first=bool(self.layout),
                    **{name: self._state(b, state, d) for name, state in states.items()},
                    **own,
                )
            )
        return self._outputs(b, parts, x.dtype)

    def _own_fields(self) -> dict[str, Any]:
        """Fields that only this operator's cell has."""
        return {}

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

    cell: ClassVar[type[Cell]] = Rnn
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
        """One operation for each direction."""
        states = {"initial_h": initial_h}
        return self._lower(b, x, w, r, bias=bias, lengths=lengths, states=states)


@operator("GRU", since=14)
@dataclass(frozen=True, slots=True)
class GRU(RNN):
    """Gated recurrent unit. Source: ONNX GRU-22."""

    cell: ClassVar[type[Cell]] = Gru
    default_activations: ClassVar[tuple[str, ...]] = ("Sigmoid", "Tanh")

    linear_before_reset: int = 0

    def _own_fields(self) -> dict[str, Any]:
        return {"linear_before_reset": bool(self.linear_before_reset)}


@operator("LSTM", since=14)
@dataclass(frozen=True, slots=True)
class LSTM(Recurrent):
    """Long short-term memory. Source: ONNX LSTM-22."""

    cell: ClassVar[type[Cell]] = Lstm
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
        """One operation for each direction."""
        states = {"initial_h": initial_h, "initial_c": initial_c}
        return self._lower(
            b, x, w, r, bias=bias, lengths=lengths, states=states, peepholes=peepholes
        )

    def _own_fields(self) -> dict[str, Any]:
        return {"input_forget": bool(self.input_forget)}
