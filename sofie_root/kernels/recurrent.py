"""One direction of a recurrent network: RNN, GRU and LSTM cells (``cpu/recurrent.hxx``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sofie_root.budget import STATEMENT, spend, spend_product
from sofie_root.ir.dim import Dim
from sofie_root.ir.types import TensorType
from sofie_root.program.builder import Builder, Tensor
from sofie_root.program.program import (
    Arg,
    Functor,
    In,
    Kernel,
    KernelSpec,
    Null,
    Out,
    Scratch,
    Stride,
)

from .gemm import PANEL, unpack

Array = npt.NDArray[Any]
Resolve = Callable[[Dim], int]


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
"""Activations by ONNX name: defaults of alpha and beta (those that it has), and the function.

The C++ functors of ``cpu/recurrent.hxx`` have the same names and take the same numbers.
"""


@dataclass(frozen=True, slots=True)
class Cell:
    """What is static about one direction.

    Attributes:
        inputs: size of the input of a step.
        hidden: size of the state.
        reverse: whether time runs backwards.
        clip: limit of the inputs of the activations; 0 for none.
        functions: the activations f, g (, h) with their numbers.
    """

    inputs: int
    hidden: int
    reverse: bool
    clip: float
    functions: tuple[Functor, ...]

    def traits(self) -> tuple[tuple[str, Any], ...]:
        """Members of the trait struct."""
        names = zip("fgh", self.functions, strict=False)
        sizes = ("I", self.inputs), ("H", self.hidden)
        return (*sizes, ("reverse", self.reverse), ("clip", self.clip), *names)


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


def pack_strips(matrix: Array, parts: Sequence[int], hidden: int) -> Array:
    """Recurrent weights ``[H, columns]`` (in packed order) strip by strip, each row by row: flat."""
    flat, first = [], 0
    for gates in parts:
        part = matrix[:, first : first + gate_columns(gates, hidden)]
        flat += [part[:, s].ravel() for s in strips(part.shape[1])]
        first += part.shape[1]
    return np.concatenate(flat)


def unpack_strips(flat: Array, parts: Sequence[int], hidden: int) -> Array:
    """The ``[H, gates * hidden]`` matrix of the model."""
    columns, first = [], 0
    for gates in parts:
        for s in strips(gate_columns(gates, hidden)):
            size = hidden * (s.stop - s.start)
            columns.append(flat[first : first + size].reshape(hidden, -1))
            first += size
    return in_model_order(np.concatenate(columns, axis=1), parts, hidden)


def in_model_order(packed: Array, parts: Sequence[int], hidden: int) -> Array:
    """Columns in packed order (the last axis) as the model has them."""
    result = np.empty((*packed.shape[:-1], sum(parts) * hidden), packed.dtype)
    result[..., column_order(parts, hidden)] = packed
    return result


def rnn(
    b: Builder,
    cell: Cell,
    x: Tensor,
    operands: Sequence[Tensor | None],
    batch_first: bool,
) -> tuple[Tensor, ...]:
    """States of all steps and the last state.

    Args:
        b: the builder.
        cell: what is static.
        x: ``[seq, batch, I]``.
        operands: lengths (or None), packed ``W``, packed ``R``, bias in packed order, initial state
            (or None).
        batch_first: whether the states are ``[batch, seq, H]`` instead of ``[seq, batch, H]``.
    """
    return _direction(b, RNN, cell, (), (1,), x, operands, batch_first)


def gru(
    b: Builder,
    cell: Cell,
    x: Tensor,
    operands: Sequence[Tensor | None],
    batch_first: bool,
    linear_before_reset: bool,
) -> tuple[Tensor, ...]:
    """As :func:`rnn`, with the columns of (z, r) and of h in two parts.

    With ``linear_before_reset`` they are one part, and the bias is ``[2, columns]``: Wb, then Rb.
    """
    traits = (("linear_before_reset", linear_before_reset),)
    parts = gru_parts(linear_before_reset)
    return _direction(b, GRU, cell, traits, parts, x, operands, batch_first)


def gru_parts(linear_before_reset: bool) -> tuple[int, ...]:
    """Numbers of gates that a GRU multiplies together."""
    return (3,) if linear_before_reset else (2, 1)


def lstm(
    b: Builder,
    cell: Cell,
    x: Tensor,
    operands: Sequence[Tensor | None],
    batch_first: bool,
    input_forget: bool,
) -> tuple[Tensor, ...]:
    """As :func:`rnn`, and the last cell state.

    ``operands`` are lengths, W, R, bias, peepholes, initial state, initial cell state.
    """
    traits = (("input_forget", input_forget), ("peepholes", operands[4] is not None))
    return _direction(b, LSTM, cell, traits, (4,), x, operands, batch_first)


def _direction(
    b: Builder,
    spec: KernelSpec,
    cell: Cell,
    traits: tuple[tuple[str, Any], ...],
    parts: tuple[int, ...],
    x: Tensor,
    operands: Sequence[Tensor | None],
    batch_first: bool,
) -> tuple[Tensor, ...]:
    (seq, batch), hidden = x.shape[:2], cell.hidden
    inputs = [x]
    args: list[Arg] = [seq, batch, In(0), Stride(0, 0), Stride(0, 1)]
    for operand in operands:
        args.append(Null() if operand is None else In(len(inputs)))
        inputs += [] if operand is None else [operand]
    steps = (hidden, seq * hidden) if batch_first else (batch * hidden, hidden)
    last = TensorType(x.dtype, (batch, hidden))
    states = TensorType(x.dtype, (batch, seq, hidden) if batch_first else (seq, batch, hidden))
    outputs = (states, last, last) if spec is LSTM else (states, last)
    args += [Out(0), *steps, *(Out(k) for k in range(1, len(outputs)))]
    columns = sum(gate_columns(gates, hidden) for gates in parts)
    workspace = (seq + 1) * batch * columns + 2 * batch * hidden
    args.append(Scratch(workspace, x.dtype))
    return b.kernel(spec, args, inputs, outputs, (*cell.traits(), *traits), (x.dtype.cpp,))


class _Run:
    """A reference run: operands by their place in the C++ call, and what the cells share."""

    def __init__(
        self, kernel: Kernel, inputs: list[Array], resolve: Resolve, parts: tuple[int, ...]
    ) -> None:
        self.seq, self.batch = (resolve(d) for d in kernel.args[:2])  # type: ignore[arg-type]
        self.hidden = int(kernel.trait("H"))
        self.reverse, self.clip = kernel.trait("reverse"), kernel.trait("clip")
        self.traits = dict(kernel.traits)
        self.x = inputs[0]
        given = [a for a in kernel.args[5:] if isinstance(a, (In, Null))]
        self.operands = [inputs[a.i] if isinstance(a, In) else None for a in given]
        after = 5 + len(given)
        y_time = kernel.args[after + 1]
        self.batch_first = resolve(y_time) != self.batch * self.hidden  # type: ignore[arg-type]
        lens, w, r, bias, *self.rest = self.operands
        assert w is not None
        assert r is not None
        assert bias is not None
        self.lens = np.full(self.batch, self.seq) if lens is None else lens
        if np.any((self.lens < 0) | (self.lens > self.seq)):
            raise IndexError(f"a length in {self.lens} is no part of {self.seq} steps")
        self.r = unpack_strips(r, parts, self.hidden)
        self.bias = in_model_order(bias, parts, self.hidden)
        weights = in_model_order(unpack(w, bias.shape[-1]), parts, self.hidden)
        spend_product(self.x, weights)
        self.projected = self.x @ weights + self.bias.reshape(-1, weights.shape[1])[0]
        self.y = np.zeros((self.seq, self.batch, self.hidden), self.x.dtype)

    def initial(self, state: Array | None) -> Array:
        """An initial state, zero where it is not given."""
        return np.zeros(self.y.shape[1:], self.x.dtype) if state is None else np.array(state)

    def apply(self, name: str, x: Array, clip: bool = True) -> Array:
        """An activation, of a clipped input."""
        functor: Functor = self.traits[name]
        x = np.clip(x, -self.clip, self.clip) if clip and self.clip > 0 else x
        return np.asarray(ACTIVATIONS[functor.name][1](x, *functor.args)).astype(self.x.dtype)

    def steps(self) -> Any:
        """For each step: the batch entries that still run, and their times."""
        spend(self.seq * (10 * STATEMENT + self.batch * self.r.size // 10))
        for step in range(self.seq):
            running = np.flatnonzero(step < self.lens)
            times = self.lens[running] - 1 - step if self.reverse else np.full(len(running), step)
            yield running, times

    def outputs(self, *states: Array) -> list[Array]:
        """What the kernel returns."""
        return [self.y.transpose(1, 0, 2) if self.batch_first else self.y, *states]


def _rnn_reference(kernel: Kernel, inputs: list[Array], resolve: Resolve) -> list[Array]:
    run = _Run(kernel, inputs, resolve, (1,))
    h = run.initial(run.rest[0])
    for on, t in run.steps():
        h[on] = run.apply("f", run.projected[t, on] + h[on] @ run.r)
        run.y[t, on] = h[on]
    return run.outputs(h)


def _gru_reference(kernel: Kernel, inputs: list[Array], resolve: Resolve) -> list[Array]:
    linear = kernel.trait("linear_before_reset")
    run = _Run(kernel, inputs, resolve, gru_parts(linear))
    n, h = run.hidden, run.initial(run.rest[0])
    inner = run.bias[1] if linear else np.zeros_like(run.bias)
    for on, t in run.steps():
        p, old = run.projected[t, on], h[on]
        q = old @ run.r[:, : 2 * n] + inner[: 2 * n]
        z = run.apply("f", p[:, :n] + q[:, :n])
        reset = run.apply("f", p[:, n : 2 * n] + q[:, n:])
        if linear:
            candidate = reset * (old @ run.r[:, 2 * n :] + inner[2 * n :])
        else:
            candidate = (reset * old) @ run.r[:, 2 * n :]
        new = run.apply("g", p[:, 2 * n :] + candidate)
        h[on] = (1 - z) * new + z * old
        run.y[t, on] = h[on]
    return run.outputs(h)


def _lstm_reference(kernel: Kernel, inputs: list[Array], resolve: Resolve) -> list[Array]:
    run = _Run(kernel, inputs, resolve, (4,))
    n = run.hidden
    peepholes, h0, c0 = run.rest
    h, c = run.initial(h0), run.initial(c0)
    peep = np.zeros((3, n), run.x.dtype) if peepholes is None else peepholes.reshape(3, n)
    for on, t in run.steps():
        gates = (run.projected[t, on] + h[on] @ run.r).reshape(-1, 4, n)
        old = c[on]
        i = run.apply("f", gates[:, 0] + peep[0] * old)
        f = run.apply("f", gates[:, 2] + peep[2] * old)
        f = 1 - i if kernel.trait("input_forget") else f
        new = f * old + i * run.apply("g", gates[:, 3])
        o = run.apply("f", gates[:, 1] + peep[1] * new)
        c[on] = new
        h[on] = o * run.apply("h", new, clip=False)
        run.y[t, on] = h[on]
    return run.outputs(h, c)


_LAYOUTS = ("rows", "contiguous")
RNN = KernelSpec("rnn_direction", "cpu/recurrent.hxx", _rnn_reference, _LAYOUTS)
GRU = KernelSpec("gru_direction", "cpu/recurrent.hxx", _gru_reference, _LAYOUTS)
LSTM = KernelSpec("lstm_direction", "cpu/recurrent.hxx", _lstm_reference, _LAYOUTS)
