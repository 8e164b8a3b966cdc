"""Writes ``docs/operators.md`` from the operators' own code and the outcomes of the suite."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import onnx

import sofie_root.ops  # noqa: F401  (registers the operators)
from sofie_root.ir import OPERATORS, DType

from .outcome import Outcome

HEAD = """\
# Operators

Made by `make conformance` from the operators' code and from ONNX's backend tests (onnx {version}); do
not edit. {passed} of {total} cases pass, {refused} are refused when the model is parsed, {wrong} are wrong.

- **since**: opset whose meaning the operator has; models of older opsets are upgraded when they are read.
- **dtypes**: element types of inputs that the passing cases have. float16 and bfloat16 are stored as
  such and computed in float.
- **dynamic dims**: whether a case passes with its sizes not known when the code is generated.
- **becomes**: *loop* and *view* are fused with their neighbours; *kernel* is a call into `cpp/include/sofie`.
- **passed**: number of cases that have this operator (function bodies included).
- **refused**: what the operator cannot do yet, with the number of cases.
"""


def write_table(path: Path, outcomes: Sequence[Outcome]) -> None:
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
    lines = [head, _row(columns), _row(["---"] * len(columns))]
    lines += [_row(r) for r in _operators(outcomes)]
    lines += ["", "## Not supported", "", _row(("operator", "reason", "cases"))]
    lines += [_row(["---"] * 3), *map(_row, _unsupported(outcomes)), ""]
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(lines), encoding="utf-8")


def _operators(outcomes: Sequence[Outcome]) -> Iterable[list[str]]:
    dtypes: dict[tuple[str, str], set[str]] = defaultdict(set)
    forms: dict[tuple[str, str], set[str]] = defaultdict(set)
    passed: Counter[tuple[str, str]] = Counter()
    dynamic: set[tuple[str, str]] = set()
    for outcome in outcomes:
        if outcome.verdict != "passed":
            continue
        for use in outcome.uses:
            dtypes[use.operator] |= use.dtypes
            forms[use.operator] |= use.forms
        for operator in {u.operator for u in outcome.uses}:
            passed[operator] += 1
            if outcome.dynamic:
                dynamic.add(operator)
    refusals = _refusals(outcomes)
    for key in sorted(OPERATORS, key=lambda k: (k[0], k[1].lower())):
        cls = OPERATORS[key]
        summary = (cls.__doc__ or "").strip().split(" Source:")[0].splitlines()[0]
        yield [
            f"**{f'{key[0]}.' if key[0] else ''}{key[1]}** {_escaped(summary)}",
            str(cls.since),
            " ".join(d.name.lower() for d in DType if d.name.lower() in dtypes[key]),
            "" if not passed[key] else "yes" if key in dynamic else "no",
            ", ".join(_ordered(forms[key])),
            str(passed[key]) if passed[key] else "",
            "; ".join(f"{_escaped(why)} ({n})" for why, n in refusals[key[1]].most_common()),
        ]


def _ordered(forms: set[str]) -> list[str]:
    """Loops first; views and sizes are named only where nothing else is."""
    strong = {f for f in forms if f not in ("view", "sizes")}
    return sorted(strong, key=lambda f: (f != "loop", f)) or sorted(forms - {"sizes"})


def _refusals(outcomes: Iterable[Outcome]) -> dict[str, Counter[str]]:
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for outcome in outcomes:
        for operator, reason in set(outcome.refused):
            found[operator][reason] += 1
    return found


def _unsupported(outcomes: Iterable[Outcome]) -> Iterable[list[str]]:
    known = {name for _, name in OPERATORS}
    found = _refusals(outcomes)
    for operator in sorted(found, key=str.lower):
        if operator not in known:
            for reason, count in found[operator].most_common():
                yield [operator, _escaped(reason), str(count)]


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
