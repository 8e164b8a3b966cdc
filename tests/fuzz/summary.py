"""Counts of what was run: graphs, operators, modes, faults."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from .batch import Run
from .cases import usable
from .generate import FAMILIES, Graph
from .modes import Mode


class Summary:
    """What happened since the start.

    Attributes:
        faults: how often each fault was met, by its key.
        reports: likewise, where float64 agrees with us and not with ONNX Runtime.
    """

    def __init__(self, first: int) -> None:
        self.first = first
        self.start = time.monotonic()
        self.graphs = self.nodes = 0
        self.verdicts: Counter[str] = Counter()
        self.operators: Counter[str] = Counter()
        self.rows: Counter[str] = Counter()
        self.modes: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.reports: Counter[str] = Counter()

    def add(self, graph: Graph, mode: Mode, run: Run) -> None:
        """Counts a graph."""
        self.graphs += 1
        self.nodes += len(graph.model.graph.node)
        self.verdicts[run.verdict] += 1
        self.modes[mode.build] += 1
        self.modes[f"kernels {mode.kernels}"] += 1
        self.modes["exact"] += mode.exact
        if run.verdict == "refused":
            self.refused[run.message[:160]] += 1
        else:
            self.operators += graph.operators
            self.rows += graph.drawn

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.start

    def line(self) -> str:
        """The progress in one line."""
        rate = 60 * self.graphs / max(self.seconds, 1e-3)
        return (
            f"{self.seconds:6.0f} s  {self.graphs} graphs, {rate:.0f} a minute, "
            f"{self.verdicts['refused']} refused, {sum(self.faults.values())} wrong "
            f"({len(self.faults)} kinds)"
        )

    def never(self) -> list[str]:
        """Operators with a case, and rows, that no graph had."""
        rows = [name for _, table, _ in FAMILIES for name in table if name not in self.rows]
        operators = [name for name in usable() if name not in self.operators]
        return [*operators, *(r for r in rows if not r.startswith("case "))]

    def record(self) -> dict[str, Any]:
        """All counts, for a file."""
        return {
            "first": self.first, "seconds": round(self.seconds), "graphs": self.graphs, "nodes": self.nodes,
            "verdicts": self.verdicts, "modes": self.modes, "operators": self.operators,
            "faults": self.faults, "refused": self.refused,
        }  # fmt: skip

    def __str__(self) -> str:
        def counts(counter: Counter[str]) -> str:
            return ", ".join(f"{name} {n}" for name, n in counter.most_common())

        lines = [
            self.line(),
            f"nodes: {self.nodes}",
            f"modes: {counts(self.modes)}",
            f"operators: {counts(self.operators)}",
        ]
        lines += [f"never drawn: {', '.join(self.never()) or 'none'}"]
        lines += [f"refused {n}: {reason}" for reason, n in self.refused.most_common()]
        lines += [f"ONNX Runtime is off {n}: {key}" for key, n in self.reports.most_common()]
        lines += [f"wrong {n}: {key}" for key, n in self.faults.most_common()]
        return "\n".join(lines)
