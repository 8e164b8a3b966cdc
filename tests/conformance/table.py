"""Writes ``docs/operators.md`` from the operators' own code and the outcomes of the suite."""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import onnx
from onnx import ModelProto

from sofie_root.errors import SofieError
from sofie_root.frontends.onnx import from_proto
from sofie_root.frontends.onnx.node import newest_schema, normal_domain
from sofie_root.ir import OPERATORS, DType

from .cases import Case
from .outcome import Outcome

HEAD = """\
# Operators

Made by `make conformance` from the operators' code and from ONNX's backend tests (onnx {version}); do
not edit. {passed} of {total} cases pass, {refused} are refused when the model is parsed, {wrong} are
wrong.

- **since**: opset whose meaning the operator has; models of older opsets are upgraded when they are
  read.
- **dtypes**: element types that the first input may have. float16 and bfloat16 are stored as such and
  computed in float.
- **dynamic dims**: whether a case passes with its sizes not known when the code is generated.
- **becomes**: *loop* and *view* are fused with their neighbours; *kernel* is a call into
  `cpp/include/sofie`.
- **passed**: number of cases that have this operator (function bodies included).
- **refused**: what the operator cannot do yet, with the number of cases.
"""

EXPANDED = """
## Rewritten when the model is read

Operators that become others: older names, functions that ONNX defines, and the trees and linear
models of `ai.onnx.ml`.
"""

Key = tuple[str, str]


def write_table(path: Path, cases: Sequence[Case], outcomes: Sequence[Outcome]) -> None:
    """Writes the table; the same outcomes give the same bytes."""
    count = Counter(o.verdict for o in outcomes)
    head = HEAD.format(
        version=onnx.__version__,
        total=len(outcomes),
        passed=count["passed"],
        refused=count["refused"],
        wrong=count["wrong"],
    )
    columns = ("operator", "since", "dtypes", "dynamic dims", "becomes", "passed", "refused")
    lines = [head, *_table(columns, _operators(cases, outcomes)), EXPANDED]
    lines += _table(("operator", "becomes", "passed", "refused"), _expanded(outcomes))
    lines += ["", "## Not supported", ""]
    lines += [*_table(("operator", "reason", "cases"), _unsupported(outcomes)), ""]
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(lines), encoding="utf-8")


def _table(columns: Sequence[str], rows: Iterable[Iterable[str]]) -> list[str]:
    return [_row(columns), _row(["---"] * len(columns)), *map(_row, rows)]


def _operators(cases: Sequence[Case], outcomes: Sequence[Outcome]) -> Iterable[list[str]]:
    forms: dict[Key, set[str]] = defaultdict(set)
    dtypes: dict[Key, set[str]] = defaultdict(set)
    passed: Counter[Key] = Counter()
    dynamic: set[Key] = set()
    by_id = {c.id: c for c in cases}
    for outcome in outcomes:
        if outcome.verdict != "passed":
            continue
        for use in outcome.uses:
            forms[use.operator] |= use.forms
            if use.operator not in dtypes and outcome.source == (use.operator,):
                dtypes[use.operator] = accepted_dtypes(by_id[outcome.case])
        for operator in {u.operator for u in outcome.uses}:
            passed[operator] += 1
            if outcome.dynamic:
                dynamic.add(operator)
    refusals = _refusals(outcomes)
    for key in sorted(OPERATORS, key=lambda k: (k[0], k[1].lower())):
        cls = OPERATORS[key]
        summary = (
            " ".join((cls.__doc__ or "").split()).split(" Source:")[0].split(". ")[0].rstrip(".")
        )
        yield [
            f"**{_name(key)}** {_escaped(summary)}",
            str(cls.since),
            _compact(dtypes[key]),
            "" if not passed[key] else "yes" if key in dynamic else "no",
            ", ".join(_ordered(forms[key])),
            str(passed[key]) if passed[key] else "",
            "; ".join(f"{_escaped(why)} ({n})" for why, n in refusals[key[1]].most_common()),
        ]


def _name(key: Key) -> str:
    return ".".join(filter(None, key))


def accepted_dtypes(case: Case) -> set[str]:
    """Element types of the first input (and of those that must agree with it) that are not refused."""
    node = case.model.graph.node[0]
    schema = newest_schema(normal_domain(node.domain), node.op_type)
    if schema is None or not schema.inputs or not node.input:
        return set()
    last = len(schema.inputs) - 1
    alike = {
        name
        for k, name in enumerate(node.input)
        if schema.inputs[min(k, last)].type_str == schema.inputs[0].type_str
    }
    found = set()
    for dtype in DType:
        model = ModelProto.FromString(case.model.SerializeToString())
        for value in model.graph.input:
            if value.name in alike:
                value.type.tensor_type.elem_type = dtype.onnx
        for value in model.graph.output:
            value.ClearField("type")
        with contextlib.suppress(SofieError):
            from_proto(model)
            found.add(str(dtype))
    return found


GROUPS = {
    "any": frozenset(map(str, DType)),
    "numbers": frozenset(str(d) for d in DType if d is not DType.BOOL),
    "floats": frozenset(str(d) for d in DType if d.is_float),
    "integers": frozenset(str(d) for d in DType if d.is_integer),
}


def _compact(dtypes: set[str]) -> str:
    """The dtypes, groups of them by name."""
    names, rest = [], set(dtypes)
    for name, group in GROUPS.items():
        if group <= rest:
            names.append(name)
            rest -= group
    return " ".join([*names, *(str(d) for d in DType if str(d) in rest)])


def _expanded(outcomes: Sequence[Outcome]) -> Iterable[list[str]]:
    becomes: dict[Key, set[str]] = defaultdict(set)
    passed: Counter[Key] = Counter()
    for outcome in outcomes:
        for key in outcome.source if outcome.verdict == "passed" else ():
            if key in OPERATORS or key in LOCAL:
                continue
            passed[key] += 1
            if len(outcome.source) == 1:
                becomes[key] |= {u.operator[1] for u in outcome.uses}
    refusals = _refusals(outcomes)
    for key in sorted(passed, key=lambda k: (k[0], k[1].lower())):
        reasons = refusals[key[1]].most_common()
        yield [
            f"**{_name(key)}**",
            ", ".join(sorted(becomes[key])),
            str(passed[key]),
            "; ".join(f"{_escaped(why)} ({n})" for why, n in reasons),
        ]


LOCAL = frozenset({("", "If"), ("", "Loop"), ("", "Scan")})
"""Control flow, where the frontend resolves it, is no operator of the graph."""


def _ordered(forms: set[str]) -> list[str]:
    """Loops first; views are named only where nothing else is."""
    return sorted(forms - {"view"}, key=lambda f: (f != "loop", f)) or sorted(forms)


def _refusals(outcomes: Iterable[Outcome]) -> dict[str, Counter[str]]:
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for outcome in outcomes:
        for operator, reason in dict.fromkeys(outcome.refused):
            found[operator][reason] += 1
    return found


def _unsupported(outcomes: Iterable[Outcome]) -> Iterable[list[str]]:
    known = {name for _, name in OPERATORS}
    known |= {name for o in outcomes if o.verdict == "passed" for _, name in o.source}
    found = _refusals(outcomes)
    for operator in sorted(found, key=str.lower):
        if operator not in known:
            for reason, count in found[operator].most_common():
                yield [operator, _escaped(reason), str(count)]


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
