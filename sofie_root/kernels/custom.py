"""Calls of C++ functions that a user wrote (``span.hxx``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sofie_root.ir.dim import Dim
from sofie_root.ir.types import TensorType
from sofie_root.program.builder import Builder, Tensor
from sofie_root.program.program import Arg, In, Kernel, KernelSpec, Out, Plain, Spanned

Array = npt.NDArray[Any]
Resolve = Callable[[Dim], int]

MAX_RANK = 8
"""Axes of a ``sofie::Span``: its ``kMaxRank``."""


def custom(
    b: Builder,
    function: str,
    header: Path,
    inputs: Sequence[Tensor | None],
    outputs: Sequence[TensorType],
    attributes: Sequence[Any],
    reference: Callable[..., Any],
) -> tuple[Tensor, ...]:
    """``function(inputs..., outputs..., attributes...)``, spans and then plain values.

    Args:
        b: the builder.
        function: C++ function with its namespace.
        header: absolute path of the user's header that defines it.
        inputs: what it reads; None for an omitted input, which is an empty span.
        outputs: types of what it writes.
        attributes: numbers, texts, and tuples of these.
        reference: the same in NumPy: arrays (or None) in, one array or a tuple of arrays out.
    """
    given = [x for x in inputs if x is not None]
    positions = iter(range(len(given)))
    spans: list[Arg] = [
        Spanned(None) if x is None else Spanned(In(next(positions))) for x in inputs
    ]
    spans += [Spanned(Out(k)) for k in range(len(outputs))]

    def evaluate(kernel: Kernel, arrays: list[Array], resolve: Resolve) -> list[Array]:
        rest = iter(arrays)
        result = reference(*(None if x is None else next(rest) for x in inputs))
        results = result if isinstance(result, tuple) else (result,)
        return [np.asarray(r) for r, _ in zip(results, outputs, strict=True)]

    spec = KernelSpec(f"::{function.removeprefix('::')}", str(header), evaluate, writes_all=True)
    return b.kernel(spec, (*spans, *map(Plain, attributes)), given, outputs)
