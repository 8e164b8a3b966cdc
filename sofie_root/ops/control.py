"""Control flow: If, Loop and Scan, whose bodies are graphs of their own.

A body reads values of the graph around it as further inputs (its captures), which the frontend appends
to the node's inputs. A state of Loop or Scan whose size changes from one iteration to the next has a
size symbol of its own inside the body.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sofie_root.errors import ShapeError
from sofie_root.ir import Dim, DType, Graph, Op, Refuse, TensorType, infer_types, operator
from sofie_root.ir.dim import StateSize, Symbol, single_atom, size_symbols
from sofie_root.ir.graph import constant_type
from sofie_root.ir.op import runtime_size
from sofie_root.program.builder import Builder, Tensor
from sofie_root.program.statement import Branch, Repeat

from .checks import as_axis


def is_state_size(d: Dim) -> bool:
    """Whether this is the size of a state that changes between iterations."""
    return isinstance(single_atom(d), StateSize)


def retyped(body: Graph, types: Sequence[TensorType]) -> Graph:
    """The body with these input types and everything else inferred again."""
    copy = body.copy()
    copy.types = dict(zip(body.inputs, types, strict=True))
    copy.types |= {name: constant_type(array) for name, array in body.constants.items()}
    infer_types(copy)
    return copy


def _state_type(formal: TensorType, actual: TensorType, what: str) -> TensorType:
    """Type of a state inside the body: sizes that change keep their symbol, the value is dropped."""
    if formal.dtype is not actual.dtype or formal.rank != actual.rank:
        raise ShapeError(f"{what} is {actual}, the body takes {formal}")
    shape = tuple(
        f if is_state_size(f) else a for f, a in zip(formal.shape, actual.shape, strict=True)
    )
    return TensorType(actual.dtype, shape)


def _outside(
    type_: TensorType, known: set[Symbol], output: int, lead: tuple[Dim, ...] = ()
) -> TensorType:
    """A body's result as the graph around it sees it: sizes of the body's own are run-time sizes."""
    shape = (*lead, *type_.shape)
    return TensorType(
        type_.dtype,
        tuple(
            d if known.issuperset(size_symbols([d])) else runtime_size(output, axis)
            for axis, d in enumerate(shape)
        ),
    )


def _outer_symbols(inputs: Sequence[TensorType | None]) -> set[Symbol]:
    dims = [d for t in inputs if t is not None for d in (*t.shape, *(t.value or ()))]
    return set(size_symbols(dims))


def _scalar(type_: TensorType, dtype: DType, what: str) -> None:
    if type_.dtype is not dtype or type_.numel != 1:
        raise ShapeError(f"{what} must be one {dtype}, not {type_}")


@operator("If", since=25)
@dataclass(frozen=True, slots=True)
class If(Op):
    """One of two branches, chosen by a condition at run time. Source: ONNX If-25."""

    layout_wall = True

    then_branch: Graph
    else_branch: Graph

    def infer(self, condition: TensorType, *captures: TensorType) -> tuple[TensorType, ...]:
        """Outputs of both branches; sizes in which they differ are known only at run time."""
        _scalar(condition, DType.BOOL, "the condition")
        known = _outer_symbols(captures)
        branches = [retyped(b, captures) for b in (self.then_branch, self.else_branch)]
        results = []
        for k, (a, b) in enumerate(zip(*(_result_types(g) for g in branches), strict=True)):
            if a.dtype is not b.dtype:
                raise ShapeError(f"output {k} is {a} in one branch and {b} in the other")
            if a.rank != b.rank:
                raise Refuse(f"the branches give output {k} different ranks, {a.rank} and {b.rank}")
            shape = tuple(
                x if x == y and known.issuperset(size_symbols([x])) else runtime_size(k, axis)
                for axis, (x, y) in enumerate(zip(a.shape, b.shape, strict=True))
            )
            results.append(TensorType(a.dtype, shape))
        return tuple(results)

    def lower(self, b: Builder, condition: Tensor, *captures: Tensor) -> tuple[Tensor, ...]:
        """A branch to one of two subprograms."""
        types = [c.type for c in captures]
        bodies = tuple(retyped(g, types) for g in (self.then_branch, self.else_branch))
        return b.control(Branch, bodies, (condition, *captures))


def _result_types(graph: Graph) -> list[TensorType]:
    return [graph.types[v] for v in graph.outputs.values()]


@operator("Loop", since=25)
@dataclass(frozen=True, slots=True)
class Loop(Op):
    """Repeats its body while a condition holds, up to a trip count. Source: ONNX Loop-25.

    Inputs are the trip count, the condition (both optional), the states, and the captures; the body's
    are the iteration number, the condition, the states and the captures.
    """

    layout_wall = True

    body: Graph
    states: int = 0

    def _typed(self, given: Sequence[TensorType]) -> Graph:
        formal = [self.body.types[name] for name in self.body.inputs]
        states = [
            _state_type(f, a, f"state {k}")
            for k, (f, a) in enumerate(
                zip(formal[2 : 2 + self.states], given[: self.states], strict=True)
            )
        ]
        return retyped(self.body, [*formal[:2], *states, *given[self.states :]])

    def infer(
        self, trips: TensorType | None, condition: TensorType | None, *given: TensorType
    ) -> tuple[TensorType, ...]:
        """Final states, then what each iteration gave, stacked along a new first axis."""
        if trips is not None:
            _scalar(trips, DType.INT64, "the trip count")
        if condition is not None:
            _scalar(condition, DType.BOOL, "the condition")
        body = self._typed(given)
        known = _outer_symbols([trips, *given])
        results = _result_types(body)
        _scalar(results[0], DType.BOOL, "the body's condition")
        count = self._trip_count(trips, condition, results[0])
        outputs = []
        for k, result in enumerate(results[1:]):
            if k < self.states:
                _check_state(body.types[body.inputs[2 + k]], result, k)
                outputs.append(_outside(body.types[body.inputs[2 + k]], known, k))
            else:
                outputs.append(
                    _outside(result, known, k, (runtime_size(k) if count is None else count,))
                )
        return tuple(outputs)

    @staticmethod
    def _trip_count(
        trips: TensorType | None, condition: TensorType | None, again: TensorType
    ) -> Dim | None:
        """The number of iterations where it is known: no condition can end the loop early."""
        starts = condition is None or condition.value == (1,)
        if trips is None or trips.value is None or not starts or again.value != (1,):
            return None
        return trips.value[0] if not isinstance(trips.value[0], int) else max(0, trips.value[0])

    def lower(
        self, b: Builder, trips: Tensor | None, condition: Tensor | None, *given: Tensor
    ) -> tuple[Tensor, ...]:
        """A repeated subprogram."""
        body = self._typed([g.type for g in given])
        leading = tuple(t for t in (trips, condition) if t is not None)
        return b.control(
            Repeat,
            (body,),
            (*leading, *given),
            trips=trips is not None,
            condition=condition is not None,
            numbered=True,
            states=self.states,
        )


def _check_state(formal: TensorType, result: TensorType, k: int) -> None:
    if formal.dtype is not result.dtype or formal.rank != result.rank:
        raise ShapeError(f"state {k} is {formal} before an iteration and {result} after it")
    for axis, (before, after) in enumerate(zip(formal.shape, result.shape, strict=True)):
        if before != after and not is_state_size(before):
            raise ShapeError(
                f"axis {axis} of state {k} is {before} before an iteration, {after} after"
            )


@operator("Scan", since=25)
@dataclass(frozen=True, slots=True)
class Scan(Op):
    """Runs its body over the slices of its inputs, carrying states. Source: ONNX Scan-25."""

    layout_wall = True

    body: Graph
    num_scan_inputs: int
    scan_input_axes: tuple[int, ...] = ()
    scan_input_directions: tuple[int, ...] = ()
    scan_output_axes: tuple[int, ...] = ()
    scan_output_directions: tuple[int, ...] = ()
    states: int = 0

    def _axes(self, given: Sequence[TensorType]) -> list[int]:
        scanned = given[self.states : self.states + self.num_scan_inputs]
        axes = self.scan_input_axes or (0,) * len(scanned)
        return [as_axis(a, t.rank) for a, t in zip(axes, scanned, strict=True)]

    def _typed(self, given: Sequence[TensorType]) -> Graph:
        formal = [self.body.types[name] for name in self.body.inputs]
        states = [
            _state_type(f, a, f"state {k}")
            for k, (f, a) in enumerate(zip(formal, given[: self.states], strict=False))
        ]
        slices = [
            TensorType(t.dtype, t.shape[:axis] + t.shape[axis + 1 :])
            for axis, t in zip(self._axes(given), given[self.states :], strict=False)
        ]
        captures = given[self.states + self.num_scan_inputs :]
        return retyped(self.body, [*states, *slices, *captures])

    def infer(self, *given: TensorType) -> tuple[TensorType, ...]:
        """Final states, then what each iteration gave, stacked along ``scan_output_axes``."""
        body = self._typed(given)
        known = _outer_symbols(given)
        count = given[self.states].shape[self._axes(given)[0]]
        outputs = []
        for k, result in enumerate(_result_types(body)):
            if k < self.states:
                _check_state(body.types[body.inputs[k]], result, k)
                outputs.append(_outside(body.types[body.inputs[k]], known, k))
                continue
            stacked = _outside(result, known, k)
            axis = self._output_axis(k - self.states, stacked.rank + 1)
            shape = (*stacked.shape[:axis], count, *stacked.shape[axis:])
            outputs.append(TensorType(stacked.dtype, shape))
        return tuple(outputs)

    def _output_axis(self, k: int, rank: int) -> int:
        return as_axis(self.scan_output_axes[k], rank) if self.scan_output_axes else 0

    def lower(self, b: Builder, *given: Tensor) -> tuple[Tensor, ...]:
        """A repeated subprogram over slices along axis 0, and views for other axes and directions."""
        body = self._typed([g.type for g in given])
        axes = self._axes([g.type for g in given])
        scanned = []
        for k, axis in enumerate(axes):
            x = given[self.states + k]
            x = b.transpose(x, [axis, *(a for a in range(x.rank) if a != axis)])
            backwards = bool(self.scan_input_directions) and self.scan_input_directions[k] == 1
            scanned.append(_reversed(b, x) if backwards else x)
        outer = b.outputs
        moved = []
        for k, t in enumerate(outer):
            axis = self._output_axis(k - self.states, t.rank) if k >= self.states else 0
            shape = (
                (t.shape[axis], *t.shape[:axis], *t.shape[axis + 1 :])
                if k >= self.states
                else t.shape
            )
            moved.append(TensorType(t.dtype, shape))
        inputs = (*given[: self.states], *scanned, *given[self.states + self.num_scan_inputs :])
        results = list(
            b.control(
                Repeat,
                (body,),
                inputs,
                outputs=tuple(moved),
                count=scanned[0].shape[0],
                states=self.states,
                slices=len(scanned),
            )
        )
        for k in range(self.states, len(results)):
            x = results[k]
            position = k - self.states
            if self.scan_output_directions and self.scan_output_directions[position] == 1:
                x = _reversed(b, x)
            axis = self._output_axis(position, x.rank)
            order = list(range(1, x.rank))
            results[k] = b.transpose(x, [*order[:axis], 0, *order[axis:]])
        return tuple(results)


def _reversed(b: Builder, x: Tensor) -> Tensor:
    """The tensor with its first axis backwards; a view."""
    last = x.shape[0] - 1
    return b.loop(x.shape, lambda i, *rest: x[(last - i, *rest)], x.dtype)
