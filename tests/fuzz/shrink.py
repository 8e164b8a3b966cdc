"""Makes a failing model small: fewer outputs, nodes, sets of inputs, symbols and attributes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import AttributeProto, ModelProto, helper

from .reference import Array, NotEvaluated, Reference, element_type, sources

GROUP = 12
"""Candidates that are compiled together."""


@dataclass(frozen=True)
class Case:
    """A model and its sets of inputs."""

    model: ModelProto
    feeds: list[dict[str, Array]]

    @property
    def size(self) -> tuple[int, int, int]:
        """What is made small."""
        graph = self.model.graph
        return len(graph.node), len(graph.output), len(self.feeds)


Test = Callable[[Sequence[Case]], list[bool]]
"""Says of each case whether it fails in the way that is looked for."""


def shrink(case: Case, output: str, test: Test, seconds: float = 120.0) -> Case:
    """The smallest case found that still fails.

    Args:
        case: fails.
        output: the output that is wrong, if one is.
        test: runs cases.
        seconds: after which the smallest so far must do.
    """
    end = time.monotonic() + seconds
    changed = True
    while changed and time.monotonic() < end:
        changed = False
        for step in (_outputs, _ends, _near, _halves, _cuts, _bypasses, _sets, _fixed, _attributes):
            while time.monotonic() < end:
                found = _first(step(case, output), test, end)
                if found is None:
                    break
                case, changed = found, True
                if step in (_sets, _fixed):
                    break
    return case


def _first(candidates: Iterator[Case], test: Test, end: float) -> Case | None:
    """The smallest failing case of the first group that has one."""
    group: list[Case] = []
    for candidate in candidates:
        group.append(candidate)
        if len(group) == GROUP:
            found = _failing(group, test)
            if found is not None or time.monotonic() > end:
                return found
            group = []
    return _failing(group, test) if group else None


def _failing(group: Sequence[Case], test: Test) -> Case | None:
    fails = [c for c, bad in zip(group, test(group), strict=True) if bad]
    return min(fails, key=lambda c: c.size) if fails else None


# -- steps: smaller cases ------------------------------------------------------------------------


def _outputs(case: Case, output: str) -> Iterator[Case]:
    """One output only, or one less."""
    names = [o.name for o in case.model.graph.output]
    if len(names) == 1:
        return
    for name in sorted(names, key=lambda n: n != output):
        yield reduced(case, [name], {})
    for name in names:
        yield reduced(case, [n for n in names if n != name], {})


def _values(case: Case) -> list[dict[str, Array]]:
    try:
        reference = Reference(case.model)
        return [reference.values(f) for f in case.feeds]
    except NotEvaluated:
        return []


def _ends(case: Case, _: str) -> Iterator[Case]:
    """A value of the middle is the only output."""
    values = _values(case)
    made = [o for node in case.model.graph.node for o in node.output if o]
    wanted = (
        sorted({len(made) * n // GROUP for n in range(1, GROUP)})
        if len(made) > GROUP
        else range(len(made) - 1)
    )
    for k in wanted if values else ():
        model = ModelProto.FromString(case.model.SerializeToString())
        del model.graph.output[:]
        array = values[0][made[k]]
        model.graph.output.append(
            helper.make_tensor_value_info(made[k], element_type(array.dtype), [None] * array.ndim)
        )
        smaller = reduced(Case(model, case.feeds), [made[k]], {})
        if len(smaller.model.graph.node) < len(case.model.graph.node):
            yield smaller


def _near(case: Case, output: str) -> Iterator[Case]:
    """Only nodes that are a few steps before an output."""
    values = _values(case)
    nodes = list(case.model.graph.node)
    names = {o.name for o in case.model.graph.output}
    wanted = {output} if output in names else names
    for steps in range(1, 9) if values else ():
        near, front = set(), set(wanted)
        for _ in range(steps):
            found = [k for k, n in enumerate(nodes) if front & set(n.output)]
            near |= set(found)
            front = {x for k in found for x in sources(nodes[k])}
        if len(near) < len(nodes):
            made = {o for k, n in enumerate(nodes) if k not in near for o in n.output if o}
            yield _cut(case, made, values)


def _halves(case: Case, _: str) -> Iterator[Case]:
    """What the first nodes compute becomes inputs."""
    nodes, values = list(case.model.graph.node), _values(case)
    if not values:
        return
    count = len(nodes)
    for k in sorted(
        {count - 1, count - 2, count - 3, *(count * n // 9 for n in range(1, 9))}, reverse=True
    ):
        if 0 < k < count:
            made = {o for node in nodes[:k] for o in node.output if o}
            yield _cut(case, made, values)


def _cuts(case: Case, _: str) -> Iterator[Case]:
    """What one node computes becomes inputs."""
    values = _values(case)
    for node in case.model.graph.node if values else ():
        yield _cut(case, {o for o in node.output if o}, values)


def _cut(case: Case, made: set[str], values: Sequence[Mapping[str, Array]]) -> Case:
    outputs = [o.name for o in case.model.graph.output if o.name not in made]
    return reduced(case, outputs, {n: [v[n] for v in values] for n in made})


def _bypasses(case: Case, _: str) -> Iterator[Case]:
    """A node is left out, where one of its inputs is like its output."""
    values = _values(case)
    public = {o.name for o in case.model.graph.output}
    for k, node in enumerate(case.model.graph.node if values else ()):
        if len(node.output) != 1 or node.output[0] in public:
            continue
        result = node.output[0]
        for name in node.input:
            if name and all(
                v[name].shape == v[result].shape and v[name].dtype == v[result].dtype
                for v in values
            ):
                model = ModelProto.FromString(case.model.SerializeToString())
                del model.graph.node[k]
                for other in model.graph.node:
                    for i, used in enumerate(other.input):
                        if used == result:
                            other.input[i] = name
                if all(result not in sources(n) for n in model.graph.node):
                    yield reduced(Case(model, case.feeds), [o.name for o in model.graph.output], {})
                break


def _sets(case: Case, _: str) -> Iterator[Case]:
    """Fewer sets of inputs."""
    if len(case.feeds) > 1:
        for k in range(len(case.feeds)):
            yield Case(case.model, [case.feeds[k]])
        for k in range(len(case.feeds)):
            yield Case(case.model, case.feeds[:k] + case.feeds[k + 1 :])


def _fixed(case: Case, _: str) -> Iterator[Case]:
    """Sizes that are numbers."""
    if len(case.feeds) == 1 and any(
        d.dim_param for i in case.model.graph.input for d in i.type.tensor_type.shape.dim
    ):
        model = ModelProto.FromString(case.model.SerializeToString())
        for value in model.graph.input:
            for dim, size in zip(
                value.type.tensor_type.shape.dim, case.feeds[0][value.name].shape, strict=True
            ):
                dim.dim_value = size
        yield Case(model, case.feeds)


def _attributes(case: Case, _: str) -> Iterator[Case]:
    """One attribute less."""
    for k, node in enumerate(case.model.graph.node):
        for a, attribute in enumerate(node.attribute):
            if attribute.type != AttributeProto.GRAPH:
                model = ModelProto.FromString(case.model.SerializeToString())
                del model.graph.node[k].attribute[a]
                yield Case(model, case.feeds)


def reduced(case: Case, outputs: Sequence[str], cut: Mapping[str, Sequence[Array]]) -> Case:
    """The part of a model that these outputs need.

    Args:
        case: the model.
        outputs: names of those that stay.
        cut: values that become inputs, with what they are in each set.
    """
    graph = case.model.graph
    known = {i.name for i in graph.input} | {t.name for t in graph.initializer} | set(cut)
    needed, nodes = set(outputs), []
    for node in reversed(graph.node):
        if any(o in needed and o not in known for o in node.output):
            nodes.append(node)
            needed |= set(sources(node))
    nodes.reverse()
    inputs = [i for i in graph.input if i.name in needed]
    names: dict[tuple[int, ...], str] = {}
    for value in graph.input:
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if dim.dim_param:
                names[tuple(f[value.name].shape[axis] for f in case.feeds)] = dim.dim_param
    feeds = [{n: a for n, a in f.items() if n in needed} for f in case.feeds]
    for name, arrays in cut.items():
        if name in needed:
            inputs.append(_declared(name, arrays, names))
            for f, array in zip(feeds, arrays, strict=True):
                f[name] = array
    kept = [o for o in graph.output if o.name in outputs]
    tensors = [t for t in graph.initializer if t.name in needed]
    model = helper.make_model(
        helper.make_graph(nodes, graph.name, inputs, kept, tensors),
        opset_imports=case.model.opset_import,
        ir_version=10,
        producer_name="fuzz",
    )
    return Case(model, feeds)


def _declared(name: str, arrays: Sequence[Array], names: dict[tuple[int, ...], str]) -> object:
    shape: list[int | str] = []
    for sizes in zip(*(a.shape for a in arrays), strict=True):
        if len(set(sizes)) == 1 and sizes not in names:
            shape.append(int(sizes[0]))
        else:
            shape.append(names.setdefault(sizes, f"d{len(names)}"))
    return helper.make_tensor_value_info(name, element_type(arrays[0].dtype), shape)


__all__ = ["Case", "np", "reduced", "shrink"]
