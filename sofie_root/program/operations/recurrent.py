"""Recurrent networks: the cells of RNN, GRU and LSTM, one direction to an operation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from sofie_root.budget import STATEMENT, spend, spend_product
from sofie_root.ir.dim import Dim

from ..operation import Array, Operand, Operation, Resolve


def _sigmoid(x: Array) -> Array:
    e = np.exp(-np.abs(x))
    return np.asarray(np.where(x < 0, e, 1) / (1 + e))


ACTIVATIONS: dict[str, tuple[tuple[float, ...], Callable[..., Any]]] = {
    "Sigmoid": ((), _sigmoid),
    "Tanh": ((), np.tanh),
    "Relu": ((), lambda x: np.maximum(x, 0)),
    "Affine": ((1.0, 0.0), lambda x, alpha, beta: alpha * x + beta),
    "LeakyRelu": ((0.01,), lambda x, alpha: np.where(x < 0, alpha * x, x)),
    "ThresholdedRelu": ((1.0,), lambda x, alpha: np.where(x > alpha, x, 0)),
    "ScaledTanh": ((1.0, 1.0), lambda x, alpha, beta: alpha * np.tanh(beta * x)),
    "HardSigmoid": ((0.2, 0.5), lambda x, alpha, beta: np.clip(alpha * x + beta, 0, 1)),
    "Elu": ((1.0,), lambda x, alpha: np.where(x < 0, alpha * np.expm1(x), x)),
    "Softsign": ((), lambda x: x / (1 + np.abs(x))),
    "Softplus": ((), lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))),
}
"""Activations by ONNX name: defaults of alpha and beta (those that it has), and the function."""


@dataclass(frozen=True, slots=True)
class Activation:
    """An activation of a cell.

    Attributes:
        name: a key of :data:`ACTIVATIONS`.
        args: alpha and beta, as many of them as it has.
    """

    name: str
    args: tuple[float, ...] = ()

    def __call__(self, x: Array) -> Array:
        """Its value, in the dtype of ``x``."""
        return np.asarray(ACTIVATIONS[self.name][1](x, *self.args)).astype(x.dtype)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recurrent(Operation):
    """One direction of a recurrent network; base of its cells.

    The outputs are the states of all steps, ``[seq, batch, H]`` (zero behind the end of a sequence), the
    last state ``[batch, H]``, and of an LSTM the last cell state ``[batch, H]``.

    Attributes:
        x: ``[seq, batch, I]``.
        w: input weights ``[gates * H, I]``, gate by gate in the order of ONNX.
        r: recurrent weights ``[gates * H, H]``.
        bias: ``[2 * gates * H]``, that of the inputs and then that of the states; None for zeros.
        lengths: ``[batch]`` of INT32, the number of valid steps of each sequence; None for all.
        initial_h: state ``[batch, H]`` before the first step; None for zeros.
        activations: f, g (and h) of the formulas.
        reverse: whether time runs from the last valid step to the first.
        clip: limit of the inputs of f and g; 0 for none.
        batch_first: whether the states of all steps are stored as ``[batch, seq, H]``.
    """

    x: Operand
    w: Operand
    r: Operand
    bias: Operand | None = None
    lengths: Operand | None = None
    initial_h: Operand | None = None
    activations: tuple[Activation, ...]
    reverse: bool = False
    clip: float = 0.0
    batch_first: bool = False

    GATES: ClassVar[int]

    @property
    def seq(self) -> Dim:
        """Number of steps."""
        return self.x.shape[0]

    @property
    def batch(self) -> Dim:
        """Number of sequences."""
        return self.x.shape[1]

    @property
    def inputs_of_step(self) -> int:
        """I, the size of the input of a step."""
        return int(self.w.shape[1])  # type: ignore[arg-type]

    @property
    def hidden(self) -> int:
        """H, the size of a state."""
        return int(self.r.shape[1])  # type: ignore[arg-type]

    def evaluate(self, resolve: Resolve, **operands: Any) -> list[Array]:
        """The states, step by step."""
        run = _Run(self, operands)
        states = self._steps(run)
        return [run.y.transpose(1, 0, 2) if self.batch_first else run.y, *states]

    def multiply_adds(self, resolve: Resolve) -> int:
        """The input and the state times their weights, for each gate of each step."""
        each = self.GATES * self.hidden * (self.inputs_of_step + self.hidden)
        return resolve(self.seq * self.batch * each)

    def _steps(self, run: _Run) -> tuple[Array, ...]:
        """Fills ``run.y``; the last states."""
        raise NotImplementedError(type(self).__name__)


class _Run:
    """What the cells share when they are evaluated.

    Attributes:
        projected: the products of all inputs with the input weights, ``[seq, batch, gates * H]``, the
            biases of the inputs included.
        r: recurrent weights ``[H, gates * H]``.
        r_bias: the biases of the states.
        y: the states of all steps.
    """

    def __init__(self, cell: Recurrent, operands: dict[str, Any]) -> None:
        self.cell, self.operands = cell, operands
        x: Array = operands["x"]
        w, self.r = operands["w"].T, operands["r"].T
        self.seq, self.batch = x.shape[:2]
        lengths = operands["lengths"]
        self.lengths = np.full(self.batch, self.seq) if lengths is None else lengths
        if np.any((self.lengths < 0) | (self.lengths > self.seq)):
            raise IndexError(f"a length in {self.lengths} is no part of {self.seq} steps")
        bias, columns = operands["bias"], w.shape[1]
        bias = np.zeros(2 * columns, x.dtype) if bias is None else bias
        spend_product(x, w)
        self.projected, self.r_bias = x @ w + bias[:columns], bias[columns:]
        self.y = np.zeros((self.seq, self.batch, cell.hidden), x.dtype)

    def state(self, name: str) -> Array:
        """An initial state, zero where it is not given."""
        given = self.operands[name]
        return np.zeros(self.y.shape[1:], self.y.dtype) if given is None else np.array(given)

    def clipped(self, x: Array) -> Array:
        """The input of an activation within its limits."""
        clip = self.cell.clip
        return np.clip(x, -clip, clip) if clip > 0 else x

    def steps(self) -> Iterator[tuple[Array, Array]]:
        """For each step the sequences that still run, and their times."""
        spend(self.seq * (10 * STATEMENT + self.batch * self.r.size // 10))
        for step in range(self.seq):
            running = np.flatnonzero(step < self.lengths)
            ends = self.lengths[running]
            yield running, ends - 1 - step if self.cell.reverse else np.full(len(running), step)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rnn(Recurrent):
    """``h' = f(x W + h R + bias)``. Source: ONNX RNN-22."""

    GATES: ClassVar[int] = 1

    def _steps(self, run: _Run) -> tuple[Array, ...]:
        (f,) = self.activations
        h = run.state("initial_h")
        for on, t in run.steps():
            h[on] = f(run.clipped(run.projected[t, on] + h[on] @ run.r + run.r_bias))
            run.y[t, on] = h[on]
        return (h,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gru(Recurrent):
    """Gates z, r and h: ``h' = (1 - z) g(.) + z h``. Source: ONNX GRU-22.

    Attributes:
        linear_before_reset: whether the reset gate multiplies ``h R + bias`` instead of ``h``.
    """

    linear_before_reset: bool = False

    GATES: ClassVar[int] = 3

    def _steps(self, run: _Run) -> tuple[Array, ...]:
        f, g = self.activations
        n, h = self.hidden, run.state("initial_h")
        gates, candidate = slice(0, 2 * n), slice(2 * n, 3 * n)
        for on, t in run.steps():
            p, old = run.projected[t, on], h[on]
            q = p[:, gates] + old @ run.r[:, gates] + run.r_bias[gates]
            z, reset = f(run.clipped(q[:, :n])), f(run.clipped(q[:, n:]))
            if self.linear_before_reset:
                inner = reset * (old @ run.r[:, candidate] + run.r_bias[candidate])
            else:
                inner = (reset * old) @ run.r[:, candidate] + run.r_bias[candidate]
            h[on] = (1 - z) * g(run.clipped(p[:, candidate] + inner)) + z * old
            run.y[t, on] = h[on]
        return (h,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lstm(Recurrent):
    """Gates i, o, f and c: ``c' = f c + i g(.)``, ``h' = o h(c')``. Source: ONNX LSTM-22.

    Attributes:
        peepholes: ``[3 * H]``, weights of the cell state in the gates i, o and f; None for none.
        initial_c: cell state ``[batch, H]`` before the first step; None for zeros.
        input_forget: whether the forget gate is 1 - i.
    """

    peepholes: Operand | None = None
    initial_c: Operand | None = None
    input_forget: bool = False

    GATES: ClassVar[int] = 4

    def _steps(self, run: _Run) -> tuple[Array, ...]:
        f, g, of_cell = self.activations
        n = self.hidden
        h, c = run.state("initial_h"), run.state("initial_c")
        peepholes = run.operands["peepholes"]
        peep = np.zeros((3, n), run.y.dtype) if peepholes is None else peepholes.reshape(3, n)
        for on, t in run.steps():
            sums = run.projected[t, on] + h[on] @ run.r + run.r_bias
            gates, old = sums.reshape(-1, 4, n), c[on]
            i = f(run.clipped(gates[:, 0] + peep[0] * old))
            forget = f(run.clipped(gates[:, 2] + peep[2] * old))
            forget = 1 - i if self.input_forget else forget
            c[on] = forget * old + i * g(run.clipped(gates[:, 3]))
            o = f(run.clipped(gates[:, 1] + peep[1] * c[on]))
            h[on] = o * of_cell(c[on])
            run.y[t, on] = h[on]
        return h, c
