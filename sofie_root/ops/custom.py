"""Operators whose C++ code is a function in a header of the user's."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from sofie_root.errors import SofieError
from sofie_root.ir import DType, Graph, Op, TensorType
from sofie_root.ir.dim import RuntimeSize, size_symbols
from sofie_root.program.builder import Builder, Tensor
from sofie_root.program.operations.custom import MAX_RANK, Custom


class CppOp(Op):
    """An operator that calls a C++ function of yours; register it with :func:`sofie_root.operator`.

    The generated code calls ``function(inputs..., outputs..., attributes...)``: a
    ``sofie::Span<const T>`` per input (empty where it is omitted), a ``sofie::Span<T>`` per output, then
    the fields of the class in order: ``std::int64_t``, ``float``, ``const char*``, and ``std::array``
    of the first two. 16-bit floats arrive as ``float``. The function must not keep state that threads
    could share, and must write every element of its outputs. Cling forgets no code: after an edit of
    the header start a new process, or use ``session(jit="compiler")``.

    A subclass says ``infer``, and where the function is::

        @sofie_root.operator("Scale", domain="my.domain")
        class Scale(sofie_root.CppOp):
            header = "scale.hxx"            # beside the Python file, or in the current folder
            function = "my::scale"          # Scale::Compute if not given, as in SOFIE
            factor: float = 1.0             # an ONNX attribute

            def infer(self, x):
                return x

    Attributes:
        header: file with the function; it may include ``<sofie/span.hxx>`` and what is beside it.
        function: C++ name with its namespace.
    """

    __slots__ = ()
    header: ClassVar[str] = ""
    function: ClassVar[str] = ""

    def reference(self, *inputs: Any) -> Any:
        """The same in NumPy, for the self-test and ``check``; optional.

        Args:
            inputs: one array per input, None for an omitted one.

        Returns:
            The output, or a tuple of outputs.
        """
        raise NotImplementedError(f"operator {self.name!r} has no reference()")

    @classmethod
    def has_reference(cls) -> bool:
        """Whether the subclass says what the function computes."""
        return cls.reference is not CppOp.reference

    @classmethod
    def header_path(cls) -> Path:
        """Where the header is.

        Raises:
            SofieError: it is in none of the places where it is looked for.
        """
        file = getattr(sys.modules.get(cls.__module__), "__file__", None)
        places = [Path.cwd()] if file is None else [Path(file).resolve().parent, Path.cwd()]
        for place in places:
            if cls.header and (place / cls.header).is_file():
                return (place / cls.header).resolve()
        looked = " and ".join(map(str, dict.fromkeys(places)))
        raise SofieError(
            f"its header {cls.header!r} was not found in {looked}; set `header` in the class to a "
            "path that is absolute or relative to one of these",
            operator=cls.name,
        )

    def lower(self, b: Builder, *inputs: Tensor | None) -> tuple[Tensor, ...]:
        """One call."""
        inputs += (None,) * (self._input_count() - len(inputs))
        inferred = self.infer(*(None if x is None else x.type for x in inputs))
        outputs = inferred if isinstance(inferred, tuple) else (inferred,)
        given = [None if x is None else b.cast(x, x.dtype.compute) for x in inputs]
        self._check([x.type for x in given if x is not None], outputs, b)
        computed = [TensorType(t.dtype.compute, t.shape) for t in outputs]
        results = b.operation(
            Custom,
            computed,
            function=self.function or f"{self.name}::Compute",
            header=self.header_path(),
            arguments=tuple(given),
            attributes=tuple(self.attributes().values()),
            reference=self.reference,
        )
        return tuple(b.cast(r, t.dtype) for r, t in zip(results, outputs, strict=True))

    @classmethod
    def _input_count(cls) -> int:
        """How many inputs ``infer`` names; the model may leave out the last ones."""
        named = inspect.signature(cls.infer).parameters.values()
        return sum(p.kind is p.POSITIONAL_OR_KEYWORD for p in named) - 1  # without self

    def _check(self, inputs: list[TensorType], outputs: tuple[TensorType, ...], b: Builder) -> None:
        """Says early what a call cannot do."""
        problem = None
        for type_ in (*inputs, *outputs):
            if type_.rank > MAX_RANK:
                problem = f"a C++ function takes tensors of up to {MAX_RANK} axes, not {type_}"
        found = size_symbols(d for t in outputs for d in t.shape)
        if any(isinstance(s, RuntimeSize) and s.node in b.names for s in found):
            problem = (
                "a C++ function cannot give outputs whose size only the run tells; "
                "write this operator with lower()"
            )
        for name, value in self.attributes().items():
            if not _is_plain(value):
                problem = f"attribute {name}={value!r} cannot be passed to a C++ function"
        if problem is not None:
            raise SofieError(problem, operator=self.name, node=", ".join(b.origin))


def _is_plain(value: Any) -> bool:
    """Whether a value can be written as a C++ literal."""
    if isinstance(value, tuple):
        return all(isinstance(v, (int, float)) for v in value)
    if isinstance(value, np.generic):
        dtype = DType.from_numpy(value.dtype)
        return dtype is not None and dtype.compute is dtype
    return isinstance(value, (int, float, str))


def without_reference(graph: Graph) -> list[str]:
    """Names of the operators of a graph that NumPy cannot compute."""
    ops = [n.op for n in graph.all_nodes() if isinstance(n.op, CppOp) and not n.op.has_reference()]
    return list(dict.fromkeys(op.name for op in ops))


__all__ = ["CppOp", "without_reference"]
