"""Branches and repetitions in NumPy; the interpreter runs the bodies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sofie_root.budget import STATEMENT, account, reserve, spend
from sofie_root.ir import Graph
from sofie_root.ir.dim import Atom, value_of

from .statement import Branch, Repeat

Array = npt.NDArray[Any]
RunBody = Callable[[Graph, Sequence[Array], Mapping[Atom, int]], list[Array]]


def run_branch(
    branch: Branch, inputs: Sequence[Array], sizes: Mapping[Atom, int], run: RunBody
) -> list[Array]:
    """What the chosen body gives."""
    condition, *captures = inputs
    return run(branch.bodies[0 if condition.reshape(()) else 1], captures, sizes)


def run_repeat(
    repeat: Repeat, inputs: Sequence[Array], sizes: Mapping[Atom, int], run: RunBody
) -> list[Array]:
    """The final states and the stacked outputs."""
    (body,) = repeat.bodies
    rest = list(inputs)
    trips = int(rest.pop(0).reshape(())) if repeat.trips else None
    again = bool(rest.pop(0).reshape(())) if repeat.condition else True
    if repeat.count is not None:
        trips = int(value_of(repeat.count, lambda atom: sizes[atom]))
    states = rest[: repeat.states]
    slices = rest[repeat.states : repeat.states + repeat.slices]
    captures = rest[repeat.states + repeat.slices :]
    stacked: list[list[Array]] = [[] for _ in range(_stacks(repeat))]
    iteration = 0
    while again and (trips is None or iteration < trips):
        spend(STATEMENT)
        lead = [np.asarray(iteration, np.int64), np.asarray(again)] if repeat.numbered else []
        given = [*lead, *states, *(s[iteration] for s in slices), *captures]
        results = run(body, [np.asarray(g) for g in given], sizes)
        if repeat.numbered:
            again = bool(results.pop(0).reshape(()))
        states = results[: repeat.states]
        for k, item in enumerate(results[repeat.states :]):
            stacked[k].append(item)
        iteration += 1
    return [*states, *(_stack(repeat, k, items) for k, items in enumerate(stacked))]


def _stacks(repeat: Repeat) -> int:
    return len(repeat.bodies[0].outputs) - repeat.states - (1 if repeat.numbered else 0)


def _stack(repeat: Repeat, k: int, items: list[Array]) -> Array:
    if items:
        reserve((len(items), *items[0].shape), items[0].itemsize)
        result = np.stack(items)
        account().hold(result)
        return result
    body = repeat.bodies[0]
    value = list(body.outputs.values())[repeat.states + (1 if repeat.numbered else 0) + k]
    type_ = body.types[value]
    shape = tuple(d if isinstance(d, int) else 0 for d in type_.shape)
    return np.zeros((0, *shape), type_.dtype.numpy)
