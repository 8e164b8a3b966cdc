"""Runs a batch of cases through parse, IR, ``.root``, generated C++ and a compiler."""

from __future__ import annotations

import re
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from compiled import Compiled
from onnx import ModelProto
from onnx.backend.test.runner import Runner

from sofie_root.errors import SofieError, UnsupportedError
from sofie_root.frontends.onnx import from_proto
from sofie_root.frontends.onnx.node import normal_domain
from sofie_root.ir import Graph
from sofie_root.model import Model, load
from sofie_root.program.interpret import evaluate, interpret
from sofie_root.program.lower import lower
from sofie_root.program.operation import Operation
from sofie_root.program.statement import Loop

from .cases import Case, Data, runtime_inputs
from .outcome import Outcome, Use

FLAGS = ("-std=c++17", "-march=native", "-shared", "-fPIC", "-w")
"""The warnings are other tests' work."""


NOISE = "the stored imaginary parts are the rounding noise of a single precision transform"
HALVES = "both are sums of halves, rounded at different places; ours is nearer to the exact ones"
WIDER: dict[str, tuple[float, float, str]] = {
    "node/test_dft_inverse": (1e-3, 1e-6, NOISE),
    "node/test_dft_inverse_opset19": (1e-3, 1e-6, NOISE),
    "node/test_attention_4d_causal_fp16": (2e-3, 1e-3, HALVES),
    "node/test_attention_4d_causal_fp16_expanded": (2e-3, 1e-3, HALVES),
}
"""Cases whose stored outputs are less exact than their own tolerance: (rtol, atol, why)."""


def run_batch(
    cases: Sequence[Case], report: Callable[[Outcome], None], started: Callable[[Case], None]
) -> None:
    """Reports the outcome of every case.

    Args:
        cases: many of them: they share a translation unit.
        report: gets each outcome as it is known.
        started: told before something is done that may crash the process.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        translated: list[tuple[Case, Model, Outcome]] = []
        for case in cases:
            started(case)
            result = _translate(case, folder)
            if isinstance(result, Outcome):
                report(result)
            else:
                translated.append((case, *result))
        _compile_and_run(translated, folder, report, started)


def _translate(case: Case, folder: Path) -> Outcome | tuple[Model, Outcome]:
    """The model as it comes back from a ``.root`` file, or why there is none."""
    stage = "parse"
    try:
        try:
            graph = from_proto(case.model, name="model")
        except UnsupportedError as error:
            found = tuple((r.operator, r.reason) for r in error.refusals)
            reason = "; ".join(dict.fromkeys(f"{o}: {why}" for o, why in found))
            return Outcome(case.id, "refused", reason, found)
        except SofieError as error:
            reason = f"{type(error).__name__}: {error.message}"
            return Outcome(case.id, "refused", reason, ((error.operator or case.operator, reason),))
        stage = "store"
        model = load(Model(graph).save(folder / "model.root"))
        stage = "generate"
        model.header(weights="embedded", standalone=False)
    except Exception:
        return _wrong(case, f"{stage}: {traceback.format_exc(limit=-4)}")
    return model, Outcome(
        case.id, "passed", source=_source(case), uses=_uses(graph), dynamic=_is_dynamic(case)
    )


def _compile_and_run(
    translated: Sequence[tuple[Case, Model, Outcome]],
    folder: Path,
    report: Callable[[Outcome], None],
    started: Callable[[Case], None],
) -> None:
    if not translated:
        return
    try:
        # Only full networks run long enough to pay for the optimiser.
        level = "-O2" if any(case.set == "light" for case, _, _ in translated) else "-O0"
        library = Compiled([m for _, m, _ in translated], folder, flags=(*FLAGS, level))
    except AssertionError as error:
        if len(translated) == 1:
            report(_wrong(translated[0][0], f"compile: {str(error)[:2000]}"))
            return
        half = len(translated) // 2  # to find the one that does not compile
        for part in (translated[:half], translated[half:]):
            _compile_and_run(part, folder, report, started)
        return
    for k, (case, _, outcome) in enumerate(translated):
        started(case)
        try:
            for data in case.data():
                compare(case, data, lambda feeds, k=k: library.run(k, feeds))
        except (AssertionError, RuntimeError) as error:
            outcome = _wrong(case, " ".join(str(error).split()))
        report(outcome)


def interpret_case(case: Case) -> Outcome:
    """The quick check: parse and evaluate with NumPy, without ``.root`` and C++."""
    try:
        graph = from_proto(case.model, name="model")
    except UnsupportedError as error:
        found = tuple((r.operator, r.reason) for r in error.refusals)
        reason = "; ".join(dict.fromkeys(f"{o}: {why}" for o, why in found))
        return Outcome(case.id, "refused", reason, found)
    except SofieError as error:
        reason = f"{type(error).__name__}: {error.message}"
        return Outcome(case.id, "refused", reason, ((error.operator or case.operator, reason),))
    except Exception:
        return _wrong(case, traceback.format_exc(limit=-4))
    try:
        for data in case.data():
            compare(case, data, lambda feeds: evaluate(graph, feeds))
    except Exception as error:
        return _wrong(case, " ".join(str(error).split()) or traceback.format_exc(limit=-4))
    return Outcome(case.id, "passed")


def compare(case: Case, data: Data, run: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> None:
    """Holds the outputs against the stored ones by ONNX's own rule.

    Raises:
        AssertionError: they differ.
    """
    inputs, expected = data
    names = [i.name for i in runtime_inputs(case.model)]
    outputs = run(dict(zip(names, map(np.asarray, inputs), strict=True)))
    given = [outputs[o.name] for o in case.model.graph.output]
    rtol, atol, _ = WIDER.get(case.id, (case.rtol, case.atol, ""))
    Runner.assert_similar_outputs(expected, given, rtol, atol)


def _wrong(case: Case, reason: str) -> Outcome:
    return Outcome(case.id, "wrong", reason)


# -- what a model shows about its operators --------------------------------------------------------


def _source(case: Case) -> tuple[tuple[str, str], ...]:
    nodes = [(normal_domain(n.domain), n.op_type) for n in case.model.graph.node]
    return tuple(dict.fromkeys(n for n in nodes if n != ("", "Constant")))


def _uses(graph: Graph) -> tuple[Use, ...]:
    forms: dict[str, set[str]] = {}
    for statement in lower(graph).statements:
        if isinstance(statement, Operation):
            form = statement.title
            written = next((o for o in statement.outputs if o is not None), "")
        elif isinstance(statement, Loop):
            form = "view" if statement.is_view else "loop"
            written = statement.output
        else:
            continue
        # A buffer is named after the node's first output, with a number where there are several.
        forms.setdefault(written, set()).add(form)
        forms.setdefault(re.sub(r"\.\d+$", "", written), set()).add(form)
    found = []
    for node in graph.nodes:
        outputs = [o for o in node.outputs if o is not None]
        names = [i for i in node.inputs if i is not None] or outputs
        dtypes = frozenset(str(graph.types[n].dtype) for n in names)
        shown = frozenset(forms.get(outputs[0], set())) if outputs else frozenset()
        found.append(Use((node.op.domain, node.op.name), dtypes, shown))
    return tuple(found)


def _is_dynamic(case: Case) -> bool:
    """Whether the model gives the same numbers with its sizes not known when it is generated."""
    try:
        program = lower(from_proto(with_symbolic_sizes(case.model)))
        for data in case.data():
            compare(case, data, lambda feeds: interpret(program, feeds))
    except (SofieError, AssertionError, IndexError):
        return False
    return True


def with_symbolic_sizes(model: ModelProto) -> ModelProto:
    """The model with every input size but 0 and 1 a symbol, shared by equal sizes.

    Lists (one axis of integers) keep theirs: their length is the rank of something else.
    """
    changed = ModelProto.FromString(model.SerializeToString())
    for value in runtime_inputs(changed):
        tensor = value.type.tensor_type
        dims = tensor.shape.dim
        if len(dims) == 1 and tensor.elem_type in (6, 7):
            continue
        for dim in dims:
            if dim.dim_value > 1:
                dim.dim_param = f"n{dim.dim_value}"
    for value in changed.graph.output:
        value.type.tensor_type.ClearField("shape")
    return changed


__all__ = ["WIDER", "compare", "interpret_case", "run_batch", "with_symbolic_sizes"]
