"""How the naive kernels of ``reference/`` are called; what ``core/`` has is called as by every target."""

from __future__ import annotations

from collections.abc import Sequence
from functools import singledispatch

from sofie_root.ir.dim import Dim, product
from sofie_root.ir.dtype import DType
from sofie_root.program.operation import Operand, Operation
from sofie_root.program.operations.conv import Conv, ConvTranspose, IntegerConv
from sofie_root.program.operations.integer import IntegerMatMul
from sofie_root.program.operations.matmul import Attention, Linear, MatMul
from sofie_root.program.operations.pool import AveragePool, LpPool, MaxPool
from sofie_root.program.operations.recurrent import Gru, Lstm, Recurrent, Rnn
from sofie_root.program.operations.sort import TopK, around
from sofie_root.program.operations.trees import Trees
from sofie_root.program.operations.window import Windowed
from sofie_root.targets.cxx import kernels as core
from sofie_root.targets.cxx.call import (
    Arg,
    Call,
    CppKernel,
    Extents,
    Functor,
    In,
    Null,
    Out,
    Plain,
    Scratch,
    Struct,
    Traits,
)

AGGREGATES = ("SUM", "AVERAGE", "MIN", "MAX")
"""How scores of trees are joined, in the order of the numbers that stand for them in C++."""


@singledispatch
def call(operation: Operation) -> Call | None:
    """How an operation is called; None for one that no kernel is written for."""
    return core.call(operation)


# -- products ----------------------------------------------------------------------------------------------
@call.register
def _(operation: Linear) -> Call:
    kernel = CppKernel(name="linear", header="reference/product.hxx")
    sizes = (product(operation.rows), operation.n, operation.k)
    return Call(kernel, (*sizes, In("x"), In("w"), Out()))


@call.register
def _(operation: MatMul) -> Call:
    shape = Extents((*operation.outer, operation.m, operation.n))
    x, w = (Extents(_four_strides(o)) for o in (operation.x, operation.w))
    kernel = CppKernel(layout_of_others="strided", name="matmul", header="reference/product.hxx")
    return Call(kernel, (shape, operation.k, In("x"), x, In("w"), w, Out()))


@call.register
def _(operation: IntegerMatMul) -> Call:
    kernel = CppKernel(name="integer_matmul", header="reference/product.hxx")
    k, n = operation.w.shape
    sizes = (product(operation.x.shape[:-1]), n, k)
    x = (In("x"), In("x_zero"), _step(operation.x_zero))
    w = (In("w"), In("w_zero"), _step(operation.w_zero))
    return Call(kernel, (*sizes, *x, *w, Out()))


@call.register
def _(operation: Attention) -> Call:
    *outer, m, k = operation.q.shape
    n, d = operation.v.shape[-2:]
    kernel = CppKernel(
        layout_of_others="strided", name="attention", header="reference/attention.hxx"
    )
    operands: list[Arg] = []
    for name, operand in (("q", operation.q), ("k", operation.k), ("v", operation.v)):
        operands += [In(name), Extents(_four_strides(operand))]
    result = (Out(), Extents(operation.strides), Scratch(n, DType.DOUBLE))
    return Call(kernel, (Extents((*outer, m, n)), k, d, *operands, *result))


def _four_strides(operand: Operand) -> tuple[Dim, ...]:
    """The strides of an operand with up to two outer axes."""
    return (*(0,) * (4 - len(operand.shape)), *operand.strides)


def _step(zero: Operand) -> Plain:
    """1 where there are several zero points, else 0."""
    return Plain(0 if zero.shape == (1,) else 1)


# -- windows -----------------------------------------------------------------------------------------------
@call.register
def _(operation: Conv) -> Call:
    return _convolution(operation, "conv", operation.w.shape[0], (In("x"), In("w"), Out()))


@call.register
def _(operation: ConvTranspose) -> Call:
    outputs = operation.w.shape[1] * operation.groups
    return _convolution(operation, "conv_transpose", outputs, (In("x"), In("w"), Out()))


@call.register
def _(operation: IntegerConv) -> Call:
    weights = (In("w"), In("w_zero"), _step(operation.w_zero))
    operands = (In("x"), In("x_zero"), *weights, Out())
    return _convolution(operation, "integer_conv", operation.w.shape[0], operands)


def _convolution(
    operation: Conv | ConvTranspose | IntegerConv, name: str, outputs: Dim, operands: Sequence[Arg]
) -> Call:
    kernel = CppKernel(name=name, header="reference/conv.hxx")
    batch, channels, *spatial = operation.x.shape
    sizes = (batch, channels, outputs, Extents(tuple(spatial)), Extents(operation.out))
    traits = (("groups", operation.groups), *_window(operation))
    return Call(kernel, (*sizes, *operands), traits)


@call.register
def _(operation: MaxPool) -> Call:
    results = (Out(0), Out(1))
    return _pool(operation, "max_pool", results, ("column_major", bool(operation.storage_order)))


@call.register
def _(operation: AveragePool) -> Call:
    counts = ("count_include_pad", operation.count_include_pad)
    return _pool(operation, "average_pool", (Out(),), counts)


@call.register
def _(operation: LpPool) -> Call:
    return _pool(operation, "lp_pool", (Out(),), ("p", operation.p))


def _pool(
    operation: MaxPool | AveragePool | LpPool,
    name: str,
    results: Sequence[Arg],
    own: tuple[str, int | bool],
) -> Call:
    kernel = CppKernel(name=name, header="reference/pool.hxx")
    shape = operation.x.shape
    sizes = (product(shape[:2]), Extents(shape[2:]), Extents(operation.out))
    return Call(kernel, (*sizes, In("x"), *results), (own, *_window(operation)))


def _window(operation: Windowed) -> Traits:
    fields = ("kernel", "stride", "dilation", "pad_begin", "pad_end")
    return tuple((name, getattr(operation, name)) for name in fields)


# -- recurrent cells ---------------------------------------------------------------------------------------
@call.register
def _(operation: Rnn) -> Call:
    return _cell(operation, "rnn", (), 1)


@call.register
def _(operation: Gru) -> Call:
    traits = (("linear_before_reset", operation.linear_before_reset),)
    return _cell(operation, "gru", (), 3, traits)


@call.register
def _(operation: Lstm) -> Call:
    states = (_optional(operation, "initial_c"), _optional(operation, "peepholes"), Out(2))
    return _cell(operation, "lstm", states, 1, (("input_forget", operation.input_forget),))


def _cell(
    operation: Recurrent, name: str, states: Sequence[Arg], vectors: int, own: Traits = ()
) -> Call:
    """The call of a cell.

    Args:
        operation: the cell.
        name: of the function.
        states: arguments that other cells do not have.
        vectors: size of its workspace, in vectors of the size of a state.
        own: traits that other cells do not have.
    """
    dtype, hidden = operation.x.dtype, operation.hidden
    sequences = Struct(
        f"Sequences<{dtype.cpp}>",
        (
            *(operation.seq, operation.batch, operation.inputs_of_step, hidden),
            *(In("x"), In("w"), In("r"), _optional(operation, "bias")),
            *(_optional(operation, "lengths"), _optional(operation, "initial_h"), Out(0), Out(1)),
        ),
    )
    functors = tuple(
        (letter, Functor(a.name, a.args))
        for letter, a in zip("fgh", operation.activations, strict=False)
    )
    traits = (
        *functors,
        ("reverse", operation.reverse),
        ("clip", float(operation.clip)),
        ("batch_first", operation.batch_first),
        *own,
    )
    kernel = CppKernel(name=name, header="reference/recurrent.hxx", writes_all=True)
    workspace = Scratch(vectors * hidden, dtype)
    return Call(kernel, (sequences, *states, workspace), traits)


def _optional(operation: Operation, name: str) -> Arg:
    return Null() if getattr(operation, name) is None else In(name)


# -- the rest ----------------------------------------------------------------------------------------------
@call.register
def _(operation: TopK) -> Call:
    outer, n, inner = around(operation.x.shape, operation.axis)
    kernel = CppKernel(name="top_k", header="reference/top_k.hxx")
    results = (Out(0), Out(1), Scratch(n, DType.INT64))
    sizes = (outer, n, inner, operation.k)
    return Call(kernel, (*sizes, In("x"), *results), (("largest", operation.largest),))


@call.register
def _(operation: Trees) -> Call:
    fields = ("feature", "split", "mode", "children", "roots", "start", "target", "weight", "base")
    sizes = (*operation.x.shape, operation.roots.shape[0], operation.base.shape[0])
    aggregate = ("aggregate", AGGREGATES.index(operation.aggregate))
    kernel = CppKernel(name="trees", header="reference/trees.hxx")
    return Call(kernel, (*sizes, In("x"), *map(In, fields), Out()), (aggregate,))
