"""Einsum: sums of products over labelled axes, two operands at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sofie_root.errors import ShapeError
from sofie_root.ir import Dim, Op, Shape, TensorType, operator
from sofie_root.ir.dim import product
from sofie_root.program.builder import Builder, Tensor
from sofie_root.program.expr import Expr

from .broadcast import broadcast_shapes
from .checks import NUMERIC, require_dtype, require_one_dtype
from .gemm import matmul

Labels = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Equation:
    """A parsed equation: the labels of each operand's axes and of the result's.

    The axes of an ellipsis are labelled ``...1``, ``...2``, ... from the last one to the first.
    """

    operands: tuple[Labels, ...]
    result: Labels

    @classmethod
    def parse(cls, text: str, ranks: Sequence[int]) -> Equation:
        """The equation for operands of these ranks."""
        left, arrow, right = text.replace(" ", "").partition("->")
        terms = left.split(",")
        if len(terms) != len(ranks):
            raise ShapeError(f"equation {text!r} has {len(terms)} operands, not {len(ranks)}")
        operands = tuple(_labels(t, rank, text) for t, rank in zip(terms, ranks, strict=True))
        everything = [label for labels in operands for label in labels]
        extra = sorted({x for x in everything if x.startswith("...")}, key=_position, reverse=True)
        if arrow:
            if "..." in right:
                before, _, after = right.partition("...")
                result = (*before, *extra, *after)
            else:
                result = tuple(right)
        else:
            single = sorted(x for x in set(everything) if everything.count(x) == 1 and len(x) == 1)
            result = (*extra, *single)
        if len(set(result)) != len(result) or not set(result) <= set(everything):
            raise ShapeError(f"the result of equation {text!r} is not made of its operands")
        return cls(operands, result)

    def sizes(self, shapes: Sequence[Shape]) -> dict[str, Dim]:
        """The size of each label; an axis of 1 broadcasts."""
        found: dict[str, Dim] = {}
        for labels, shape in zip(self.operands, shapes, strict=True):
            for label, size in zip(labels, shape, strict=True):
                (found[label],) = broadcast_shapes((found.get(label, 1),), (size,))
        return found


def _position(label: str) -> int:
    return int(label[3:])


def _labels(term: str, rank: int, text: str) -> Labels:
    before, dots, after = term.partition("...")
    named = len(before) + len(after)
    if not all(c.isalpha() for c in before + after) or (named != rank and not dots) or named > rank:
        raise ShapeError(f"term {term!r} of equation {text!r} does not fit a tensor of {rank} axes")
    extra = (f"...{k}" for k in range(rank - named, 0, -1))
    return (*before, *extra, *after)


@dataclass(frozen=True, slots=True)
class Term:
    """A tensor whose axes are labelled, each label once."""

    tensor: Tensor
    labels: Labels

    def at(self, index: dict[str, Dim]) -> Expr:
        """The element where each label has this index."""
        return self.tensor[tuple(index[label] for label in self.labels)]


@operator("Einsum", since=12)
@dataclass(frozen=True, slots=True)
class Einsum(Op):
    """Sum of products over labelled axes. Source: ONNX Einsum-12."""

    layout_wall = True

    equation: str

    def _parse(self, shapes: Sequence[Shape]) -> tuple[Equation, dict[str, Dim]]:
        equation = Equation.parse(self.equation, [len(s) for s in shapes])
        return equation, equation.sizes(shapes)

    def infer(self, *inputs: TensorType) -> TensorType:
        """The sizes of the result's labels."""
        dtype = require_one_dtype(inputs)
        require_dtype(inputs[0], NUMERIC)
        equation, sizes = self._parse([x.shape for x in inputs])
        return TensorType(dtype, tuple(sizes[label] for label in equation.result))

    def lower(self, b: Builder, *inputs: Tensor) -> Tensor:
        """Matrix products of two operands at a time, loops for what is not one."""
        equation, sizes = self._parse([x.shape for x in inputs])
        dtype = inputs[0].dtype
        terms = [
            _term(b, x, labels, sizes) for x, labels in zip(inputs, equation.operands, strict=True)
        ]
        while len(terms) > 1:
            first, second, *rest = terms
            kept = set(equation.result).union(*(t.labels for t in rest))
            terms = [_contract(b, first, second, kept, sizes), *rest]
        last = _summed(b, terms[0], equation.result, sizes)
        return b.cast(_ordered(b, last, equation.result).tensor, dtype)


def _term(b: Builder, x: Tensor, labels: Labels, sizes: dict[str, Dim]) -> Term:
    """An operand with a repeated label as its diagonal, and without axes that broadcast."""
    # A size that turns out to be 1 when the model runs.
    x = b.expand(x, [d if d == 1 else sizes[n] for n, d in zip(labels, x.shape, strict=True)])
    broadcast = {
        label
        for label, size in zip(labels, x.shape, strict=True)
        if size == 1 and sizes[label] != 1
    }
    own = tuple(dict.fromkeys(label for label in labels if label not in broadcast))
    if own == labels:
        return Term(x, labels) if x.dtype.compute is x.dtype else _widened(b, x, labels)

    def body(*i: Dim) -> Expr:
        at = dict(zip(own, i, strict=True))
        return x[tuple(at.get(label, 0) for label in labels)]

    return Term(b.loop([sizes[label] for label in own], body), own)


def _widened(b: Builder, x: Tensor, labels: Labels) -> Term:
    if x.constant is not None:
        wide = x.constant.astype(x.dtype.compute.numpy)
        return Term(b.constant(wide, f"{x.buffer}.float"), labels)
    return Term(b.cast(x, x.dtype.compute), labels)


def _summed(b: Builder, term: Term, kept: Iterable[str], sizes: dict[str, Dim]) -> Term:
    """The term summed over all labels that are not kept."""
    keep = set(kept)
    own = tuple(x for x in term.labels if x in keep)
    gone = tuple(x for x in term.labels if x not in keep)
    if not gone:
        return term
    total = b.reduce(
        "sum",
        [sizes[x] for x in own],
        [sizes[x] for x in gone],
        lambda i, r: term.at(dict(zip(own + gone, i + r, strict=True))),
    )
    return Term(total, own)


def _ordered(b: Builder, term: Term, labels: Labels) -> Term:
    """The term with its axes in this order; a constant is transposed when generating."""
    if term.labels == labels:
        return term
    perm = [term.labels.index(label) for label in labels]
    constant = term.tensor.constant
    if constant is not None:
        name = f"{term.tensor.buffer}.transposed"
        return Term(b.constant(constant.transpose(perm), name), labels)
    return Term(b.transpose(term.tensor, perm), labels)


def _contract(b: Builder, x: Term, y: Term, kept: set[str], sizes: dict[str, Dim]) -> Term:
    """The product of two terms, summed over what is not kept."""
    x = _summed(b, x, kept.union(y.labels), sizes)
    y = _summed(b, y, kept.union(x.labels), sizes)
    if x.tensor.constant is not None:
        x, y = y, x  # a constant on the right is packed when generating
    batch = tuple(label for label in x.labels if label in y.labels and label in kept)
    inner = tuple(label for label in x.labels if label in y.labels and label not in kept)
    rows = tuple(label for label in x.labels if label not in y.labels)
    columns = tuple(label for label in y.labels if label not in x.labels)
    labels = batch + rows + columns
    shape = tuple(sizes[label] for label in labels)
    if not inner or not rows + columns:

        def body(i: tuple[Dim, ...], r: tuple[Dim, ...]) -> Expr:
            at = dict(zip(labels + inner, i + r, strict=True))
            return x.at(at) * y.at(at)

        if not inner:
            return Term(b.loop(shape, lambda *i: body(i, ())), labels)
        return Term(b.reduce("sum", shape, [sizes[k] for k in inner], body), labels)
    left = _matrix(b, x, batch, rows, inner, sizes)
    right = _matrix(b, y, batch, inner, columns, sizes)
    return Term(b.reshape(matmul(b, left, right), shape), labels)


def _matrix(
    b: Builder, term: Term, batch: Labels, rows: Labels, columns: Labels, sizes: dict[str, Dim]
) -> Tensor:
    """The term as ``[*batch, rows, columns]``."""
    tensor = _ordered(b, term, batch + rows + columns).tensor
    shape = [sizes[x] for x in batch]
    shape += [product(sizes[x] for x in group) for group in (rows, columns)]
    if tensor.constant is not None:
        array = tensor.constant.reshape([d for d in shape if isinstance(d, int)])
        return b.constant(array, tensor.buffer)
    return b.reshape(tensor, shape)
