"""What ``Op.lower`` works with: tensors to read and a Builder to make new ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sofie_root.ir.dim import (
    Dim,
    RuntimeSize,
    Symbol,
    as_poly,
    at_least,
    floordiv,
    minimum,
    mod,
    product,
    single_atom,
)
from sofie_root.ir.dtype import DType
from sofie_root.ir.graph import Graph
from sofie_root.ir.types import Shape, TensorType

from .expr import Call, Expr, Load, ResultSize, cast
from .operation import Operand, Operation, contiguous_strides
from .operations.matmul import Linear
from .program import Buffer, Program
from .statement import Bind, Branch, Check, Fetch, Loop, ReduceKind, Reduction, Repeat, Update

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor inside ``lower``: index it to get the expression of one element."""

    type: TensorType
    buffer: str
    program: Program

    @property
    def shape(self) -> Shape:
        """One Dim per axis."""
        return self.type.shape

    @property
    def dtype(self) -> DType:
        """Element type as stored."""
        return self.type.dtype

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.type.shape)

    @property
    def constant(self) -> Array | None:
        """The content where it is known when generating, else None."""
        return self.program.constant(self.buffer)

    @property
    def operand(self) -> Operand:
        """The whole tensor as an operand of an operation."""
        strides = contiguous_strides(self.shape)
        return Operand(self.buffer, self.dtype, self.shape, 0, strides)

    def __getitem__(self, index: Dim | tuple[Dim, ...]) -> Expr:
        """The element at this index, in the dtype it is computed in (16-bit floats as float)."""
        indices = index if isinstance(index, tuple) else (index,)
        if len(indices) != self.rank:
            raise IndexError(f"{len(indices)} indices into {self.type} ({self.buffer})")
        return cast(Load(self.dtype, self.buffer, indices), self.dtype.compute)


class Builder:
    """Collects the statements of one model; one node at a time is being lowered.

    Attributes:
        program: what has been built so far.
        outputs: types of the outputs of the node that is being lowered, as inferred.
        wanted: for each of those outputs whether anything reads it.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.outputs: tuple[TensorType, ...] = ()
        self.wanted: tuple[bool, ...] = ()
        self.origin: tuple[str, ...] = ()
        self.names: tuple[str | None, ...] = ()
        self._serial = 0
        self._part = ""
        self._constants: dict[tuple[str, Shape, bytes], str] = {}

    # -- loops ---------------------------------------------------------------------------------------
    def loop(
        self, shape: Sequence[Dim], body: Callable[..., Expr], dtype: DType | None = None
    ) -> Tensor:
        """A tensor whose element at ``(i, j, ...)`` is ``body(i, j, ...)``.

        Args:
            shape: shape of the result.
            body: gets one index per axis and returns the element's expression.
            dtype: element type of the result; the expression's own if not given, and converted to it
                where it differs (that is how 16-bit floats are stored).
        """
        indices = self.indices(shape)
        value = body(*indices)
        return self._store(tuple(shape), indices, value, None, dtype)

    def reduce(
        self,
        kind: ReduceKind,
        shape: Sequence[Dim],
        over: Sequence[Dim],
        body: Callable[[tuple[Dim, ...], tuple[Dim, ...]], Expr],
        dtype: DType | None = None,
    ) -> Tensor:
        """A tensor whose element at ``i`` combines ``body(i, r)`` for all ``r`` in ``over``.

        Args:
            kind: sum, prod, max, min (of BOOL: any, all) or argmax, argmin (first) and their ``_last``.
            shape: shape of the result.
            over: extents of the reduced axes.
            body: gets the result's indices and the reduced indices, both tuples.
            dtype: element type of the result; INT64 for the arg kinds.
        """
        indices, reduced = self.indices(shape), self.indices(over)
        value = body(indices, reduced)
        if kind.startswith("arg"):
            dtype = DType.INT64
        return self._store(tuple(shape), indices, value, Reduction(kind, _symbols(reduced)), dtype)

    def pieces(
        self,
        shape: Sequence[Dim],
        dtype: DType,
        pieces: Sequence[tuple[Sequence[Dim], Sequence[Dim], Callable[..., Expr]]],
    ) -> Tensor:
        """A tensor filled piece by piece, as Concat does.

        Args:
            shape: shape of the whole.
            dtype: element type of the whole.
            pieces: ``(offset, extent, body)`` with one offset and one extent per axis; body gets indices
                that start at 0 inside the piece. The pieces must cover the whole.
        """
        out = self._buffer(tuple(shape), dtype)
        for offset, extent, body in pieces:
            indices = self.indices(extent)
            target = tuple(o + i for o, i in zip(offset, indices, strict=True))
            value = cast(body(*indices), dtype)
            self.program.statements.append(
                Loop(out.buffer, _symbols(indices), target, value, None, self.origin)
            )
        return out

    def scatter(
        self,
        data: Tensor,
        shape: Sequence[Dim],
        body: Callable[..., tuple[tuple[Dim, ...], Expr]],
        update: Update = "replace",
    ) -> Tensor:
        """A copy of ``data`` with elements replaced or combined, in row-major order of ``shape``.

        Args:
            data: what there is first.
            shape: how many elements are written.
            body: gets one index per axis of ``shape`` and returns where to write, and what.
            update: how a value meets what is there.
        """
        out = self.loop(data.shape, lambda *i: data[i], data.dtype)
        indices = self.indices(shape)
        target, value = body(*indices)
        self.program.statements.append(
            Loop(out.buffer, _symbols(indices), target, value, None, self.origin, update)
        )
        return out

    def indices(self, shape: Sequence[Dim]) -> tuple[Dim, ...]:
        """Fresh loop indices, one per extent (0 for an extent of 1)."""
        made: list[Dim] = []
        for extent in shape:
            if extent == 1:
                made.append(0)
                continue
            self._serial += 1
            made.append(as_poly(Symbol(f"i{self._serial}", extent)))
        return tuple(made)

    def _store(
        self,
        shape: Shape,
        indices: tuple[Dim, ...],
        value: Expr,
        reduction: Reduction | None,
        dtype: DType | None,
    ) -> Tensor:
        dtype = dtype or value.dtype
        if reduction is None:
            value = cast(value, dtype)
        out = self._buffer(shape, dtype)
        if _is_storage_view(value, dtype):
            value = value.children()[0].children()[0]
        self.program.statements.append(
            Loop(out.buffer, _symbols(indices), indices, value, reduction, self.origin)
        )
        return out

    # -- views ---------------------------------------------------------------------------------------
    def transpose(self, x: Tensor, perm: Sequence[int]) -> Tensor:
        """Axis ``k`` of the result is axis ``perm[k]`` of ``x``; a view."""
        shape = [x.shape[p] for p in perm]

        def body(*out: Dim) -> Expr:
            index: list[Dim] = [0] * x.rank
            for k, p in enumerate(perm):
                index[p] = out[k]
            return x[tuple(index)]

        return self.loop(shape, body, x.dtype)

    def reshape(self, x: Tensor, shape: Sequence[Dim]) -> Tensor:
        """The same elements in row-major order under another shape; a view."""
        if tuple(shape) == x.shape:
            return x
        return self.loop(shape, lambda *out: x[reshape_index(out, tuple(shape), x.shape)], x.dtype)

    def expand(self, x: Tensor, shape: Sequence[Dim]) -> Tensor:
        """``x`` broadcast to ``shape`` by NumPy's rules; a view."""
        if tuple(shape) == x.shape:
            return x
        return self.loop(shape, lambda *out: x[broadcast_index(out, x.shape)], x.dtype)

    def cast(self, x: Tensor, dtype: DType) -> Tensor:
        """``x`` converted to ``dtype`` (itself if it has it already)."""
        if x.dtype is dtype:
            return x
        return self.loop(x.shape, lambda *i: x[i], dtype)

    # -- operations, constants, run-time sizes ------------------------------------------------------------
    def operation(
        self, kind: type[Operation], outputs: Sequence[TensorType | None], /, **values: Any
    ) -> tuple[Tensor, ...]:
        """Runs an operation and returns its outputs.

        Args:
            kind: its class.
            outputs: type of each output; None for one that is not wanted (the result then holds no
                tensor at that place that may be read).
            values: the fields of ``kind``: tensors for what it reads, attributes as they are.
        """
        made = [None if t is None else self._buffer(t.shape, t.dtype) for t in outputs]
        names = tuple(None if m is None else m.buffer for m in made)
        given = {name: _as_operands(value) for name, value in values.items()}
        statement = kind(outputs=names, origin=self.origin, **given)
        self.program.statements.append(statement)
        nothing = Tensor(TensorType(DType.FLOAT, ()), "", self.program)
        return tuple(nothing if m is None else m for m in made)

    def tensor(self, operand: Operand) -> Tensor:
        """The tensor that an operand of a program as it was lowered is: a whole buffer."""
        buffer = self.program.buffers[operand.buffer]
        assert operand.shape == buffer.shape, operand
        assert operand.offset == 0, operand
        return Tensor(TensorType(buffer.dtype, buffer.shape), buffer.name, self.program)

    def linear(self, x: Tensor, w: Array, name: str = "weights") -> Tensor:
        """``x[*rows, K]`` times the constant ``w[K, N]``: ``[*rows, N]``.

        Args:
            x: left side, at least one row axis.
            w: right side in the dtype of ``x``.
            name: what the weights are called.
        """
        assert x.rank >= 2, x.type
        assert w.dtype == x.dtype.numpy, (x.type, w.dtype)
        out = TensorType(x.dtype, (*x.shape[:-1], int(w.shape[1])))
        (y,) = self.operation(Linear, (out,), x=x, w=self.constant(w, name))
        return y

    def control(
        self,
        kind: type[Branch] | type[Repeat],
        bodies: tuple[Graph, ...],
        inputs: Sequence[Tensor],
        outputs: tuple[TensorType, ...] | None = None,
        **how: Any,
    ) -> tuple[Tensor, ...]:
        """Runs bodies (a :class:`Branch` or a :class:`Repeat`) and returns their results.

        Args:
            kind: which of the two.
            bodies: typed graphs.
            inputs: what ``kind`` says.
            outputs: types of the results if they are not those of the node. Sizes among them that
                are the node's own run-time sizes are bound to those of the results.
            how: further fields of ``kind``.
        """
        name = self._fresh(next((n for n in self.names if n is not None), "control") + ".results")
        self.program.buffers[name] = Buffer(name, DType.BOOL, (), "results")
        operands = tuple(x.operand for x in inputs)
        self.program.statements.append(kind(name, bodies, operands, origin=self.origin, **how))
        types = self.outputs if outputs is None else outputs
        bound: set[Symbol] = set()
        for k, type_ in enumerate(types):
            for axis, d in enumerate(type_.shape):
                atom = single_atom(d)
                if not isinstance(atom, RuntimeSize) or atom in bound:
                    continue
                if atom.output == k and atom.node in self.names:
                    bound.add(atom)
                    self.bind(d, ResultSize(DType.INT64, name, k, axis))
        made = []
        for k, type_ in enumerate(types):
            out = self._buffer(type_.shape, type_.dtype)
            self.program.statements.append(Fetch(out.buffer, name, k, self.origin))
            made.append(out)
        return tuple(made)

    def constant(self, array: Array, name: str = "constant") -> Tensor:
        """A constant tensor; equal arrays share one buffer."""
        array = np.asarray(array)
        array = array if array.flags.c_contiguous else np.ascontiguousarray(array)
        dtype = DType.from_numpy(array.dtype)
        assert dtype is not None, array.dtype
        shape = tuple(int(d) for d in array.shape)
        key = (str(array.dtype), shape, array.tobytes())
        buffer = self._constants.get(key)
        if buffer is None:
            buffer = self._fresh(name)
            self.program.buffers[buffer] = Buffer(buffer, dtype, shape, "constant")
            self.program.constants[buffer] = array
            self._constants[key] = buffer
        return Tensor(TensorType(dtype, shape), buffer, self.program)

    def bind(self, symbol: Dim, value: Expr) -> None:
        """Gives a size symbol made by ``runtime_size`` its value: an INT64 expression without indices."""
        atom = single_atom(symbol)
        assert isinstance(atom, Symbol), symbol
        self.program.statements.append(Bind(atom, value, self.origin))

    def check_equal(self, a: Dim, b: Dim, why: str) -> None:
        """Demands, when the model runs, that two sizes are equal that the node has bound."""
        names = ", ".join(self.origin)
        self.program.statements.append(Check(a, b, f"{names}: {why}"))

    def check_at_most(self, small: Dim, large: Dim, why: str) -> None:
        """Demands, when the model runs, that a size that the node has bound is at most another."""
        self.check_equal(minimum(small, large), small, why)

    @contextmanager
    def called(self, part: str) -> Iterator[None]:
        """Tensors made inside are called after the node's first output and this: ``softmax.max``."""
        outside, self._part = self._part, f".{part}"
        try:
            yield
        finally:
            self._part = outside

    def _buffer(self, shape: Shape, dtype: DType) -> Tensor:
        name = self._fresh(next((n for n in self.names if n is not None), "t") + self._part)
        self.program.buffers[name] = Buffer(name, dtype, shape)
        return Tensor(TensorType(dtype, shape), name, self.program)

    def _fresh(self, name: str) -> str:
        return self.program.fresh(name)


def _as_operands(value: Any) -> Any:
    """A field of an operation: tensors as operands, all else as it is."""
    if isinstance(value, Tensor):
        return value.operand
    return tuple(map(_as_operands, value)) if isinstance(value, tuple | list) else value


def _symbols(indices: Sequence[Dim]) -> tuple[Symbol, ...]:
    found = [single_atom(i) for i in indices]
    return tuple(a for a in found if isinstance(a, Symbol))


def _is_storage_view(value: Expr, dtype: DType) -> bool:
    """Whether this reads a 16-bit float, converts it to float and back: a plain view of the storage."""
    if dtype.compute is dtype or not (isinstance(value, Call) and value.function == "cast"):
        return False
    (inner,) = value.args
    if not (isinstance(inner, Call) and inner.function == "cast"):
        return False
    return isinstance(inner.args[0], Load) and inner.args[0].dtype is dtype


def broadcast_index(out: Sequence[Dim], shape: Shape) -> tuple[Dim, ...]:
    """Index into a tensor of ``shape`` for the element ``out`` of a result it is broadcast to.

    Where a loop runs over another size than the tensor has, the tensor's is 1, which it may turn out
    to be only when the model runs: then the index does not move.
    """
    tail = out[len(out) - len(shape) :]
    return tuple(_broadcast(i, extent) for i, extent in zip(tail, shape, strict=True))


def _broadcast(i: Dim, extent: Dim) -> Dim:
    if extent == 1:
        return 0
    variable = single_atom(i)
    over = variable.extent if isinstance(variable, Symbol) else extent
    if isinstance(extent, int) or over is None or over == extent:
        return i
    return i * minimum(extent - 1, 1)


def flat_index(index: Sequence[Dim], shape: Shape) -> Dim:
    """Row-major position of an index, which may be one already (see :class:`~.expr.Load`)."""
    if len(index) == 1 != len(shape):
        return index[0]
    flat: Dim = 0
    for i, stride in zip(index, contiguous_strides(shape), strict=True):
        flat = flat + i * stride
    return flat


def reshape_index(out: tuple[Dim, ...], new: Shape, old: Shape) -> tuple[Dim, ...]:
    """Index into shape ``old`` of the element that has index ``out`` in shape ``new``.

    The shapes are matched group by group (products equal), so that splitting and joining axes stays
    local and most divisions cancel.
    """
    result: list[Dim] = []
    i = j = 0
    while i < len(new) or j < len(old):
        i2, j2 = i + 1 if i < len(new) else i, j + 1 if j < len(old) else j
        p_new, p_old = product(new[i:i2]), product(old[j:j2])
        while p_new != p_old:
            grow_new = i2 < len(new) and (j2 >= len(old) or _smaller(p_new, p_old))
            if grow_new:
                p_new, i2 = p_new * new[i2], i2 + 1
            elif j2 < len(old):
                p_old, j2 = p_old * old[j2], j2 + 1
            elif i2 < len(new):
                p_new, i2 = p_new * new[i2], i2 + 1
            else:
                break
        result.extend(_unflatten(flat_index(out[i:i2], new[i:i2]), old[j:j2]))
        i, j = i2, j2
    return tuple(result)


def _smaller(a: Dim, b: Dim) -> bool:
    """A guess which product still needs factors; only steers the grouping, never its truth."""
    if isinstance(a, int) and isinstance(b, int):
        return a < b
    degree_a = 0 if isinstance(a, int) else max(sum(p for _, p in m) for m, _ in a.terms)
    degree_b = 0 if isinstance(b, int) else max(sum(p for _, p in m) for m, _ in b.terms)
    if degree_a != degree_b:
        return degree_a < degree_b
    return at_least(b, a)


def _unflatten(flat: Dim, shape: Shape) -> list[Dim]:
    index: list[Dim] = []
    for axis, stride in enumerate(contiguous_strides(shape)):
        position = floordiv(flat, stride)
        index.append(position if axis == 0 else mod(position, shape[axis]))
    if shape and shape[0] == 1:
        index[0] = 0
    return index
