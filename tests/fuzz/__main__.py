"""``python -m fuzz``: draws random graphs, runs them in many ways, and keeps what goes wrong."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from onnx import ModelProto

from .apart import Died, apart
from .batch import Job, Run
from .cases import usable
from .findings import Finding, fault_of, made_small, run_jobs, write
from .generate import Graph, draw
from .judge import Fault
from .modes import BATCH, Mode, mode_of
from .shrink import Case
from .summary import Summary

ROOT = Path(__file__).parents[2]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs batches until the time is over; 1 where something went wrong."""
    options = _options(arguments)
    first = int(time.time()) // BATCH * BATCH if options.seed is None else options.seed
    work, folder = Path(options.work), Path(options.faults)
    work.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + options.minutes * 60
    summary = Summary(first)
    usable()  # once, and not in each process
    known = folder / "known.json"
    seen: dict[str, str] = json.loads(known.read_text()) if known.exists() else {}
    last = first + options.graphs if options.graphs else sys.maxsize
    print(f"seeds from {first}; what goes wrong is kept in {folder}", flush=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    start = first
    try:
        while start < last and (options.graphs or time.monotonic() < end):
            stop = min((start // BATCH + 1) * BATCH, last)
            for outcome in run_apart(range(start, stop), options, work):
                if outcome.graph is not None:
                    summary.add(outcome.graph, outcome.mode, outcome.run)
                if outcome.finding is None:
                    continue
                _keep(outcome.finding, options, work, folder, seen, summary)
                known.write_text(json.dumps(seen, indent=1))
            print(summary.line(), flush=True)
            start = stop
    except KeyboardInterrupt:
        print("interrupted")
    print(summary)
    if options.tally:
        with Path(options.tally).open("a") as file:
            file.write(json.dumps(summary.record()) + "\n")
    return 1 if summary.faults else 0


@dataclass(frozen=True)
class Outcome:
    """What became of a seed.

    Attributes:
        graph: what was drawn, without inputs; None where drawing it ended the process.
        mode: how it was run.
        run: what came of it, without outputs.
        finding: what is wrong with it.
    """

    graph: Graph | None
    mode: Mode
    run: Run
    finding: Finding | None


def run_apart(seeds: Sequence[int], options: argparse.Namespace, work: Path) -> list[Outcome]:
    """Runs a batch in a process of its own; if that dies, its seeds one by one, to find the faulty graph."""
    try:
        return apart(lambda: run_batch(seeds, options, work))
    except Died as death:
        if len(seeds) > 1:
            return [o for seed in seeds for o in run_apart([seed], options, work)]
        return [_outcome_of_death(seeds[0], _mode(seeds[0], options), death)]


def _outcome_of_death(seed: int, mode: Mode, death: Died) -> Outcome:
    """Of a seed that ends the process; where drawing it does, nothing of ours had run yet."""
    try:
        graph = apart(lambda: draw(seed))
    except Died:
        fault = Fault("reference", "", f"{death} when the graph was drawn")
        return Outcome(None, mode, Run("crash"), Finding(seed, mode, fault, Case(ModelProto(), [])))
    fault = Fault("crash", "", f"{death} when the graph was run or judged")
    case = Case(graph.model, list(graph.feeds))
    return Outcome(replace(graph, feeds=[]), mode, Run("crash"), Finding(seed, mode, fault, case))


def run_batch(seeds: Sequence[int], options: argparse.Namespace, work: Path) -> list[Outcome]:
    """Draws, runs and judges these seeds."""
    graphs = [draw(seed) for seed in seeds]
    if options.only:
        graphs = [g for g in graphs if options.only in g.drawn or options.only in g.operators]
    modes = [_mode(g.seed, options) for g in graphs]
    jobs = [Job(g.model, g.feeds, m) for g, m in zip(graphs, modes, strict=True)]
    outcomes = []
    for graph, job, run in zip(graphs, jobs, run_jobs(jobs, work), strict=True):
        fault = fault_of(job, run)
        finding = None
        if fault is not None:
            case = Case(graph.model, list(graph.feeds))
            finding = Finding(graph.seed, job.mode, fault, case)
        told = Run(run.verdict, run.message)
        outcomes.append(Outcome(replace(graph, feeds=[]), job.mode, told, finding))
    return outcomes


def _keep(
    finding: Finding,
    options: argparse.Namespace,
    work: Path,
    folder: Path,
    seen: dict[str, str],
    summary: Summary,
) -> None:
    """Counts a finding; what neither this nor an earlier run met is made small, written and told."""
    is_report = finding.fault.kind == "reference"
    counter = summary.reports if is_report else summary.faults
    rough = finding.rough_key
    if rough in seen:
        counter[seen[rough]] += 1
        if not is_report:
            print(f"seed {finding.seed} ({finding.mode}): again {seen[rough]}", flush=True)
        return
    if options.shrink and not is_report:
        try:
            finding = apart(lambda: made_small(finding, work, options.shrink))
        except Died as death:
            print(f"seed {finding.seed}: not made small, {death}", flush=True)
    counter[finding.key] += 1
    if finding.key in seen.values():
        return
    seen[rough or finding.key] = finding.key
    place = write(finding, folder)
    fault = str(finding.fault)[:400]
    print(f"seed {finding.seed} ({finding.mode}): {fault}\n  {finding.key}\n  {place}", flush=True)


def _mode(seed: int, options: argparse.Namespace) -> Mode:
    given = {
        k: getattr(options, k)
        for k in ("engine", "compiler", "level", "target", "kernels", "guard")
        if getattr(options, k) is not None
    }
    return replace(mode_of(seed), **given)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0, help="how long (%(default)s)")
    parser.add_argument("--seed", type=int, help="the first seed; the time, if not given")
    parser.add_argument("--graphs", type=int, help="how many seeds, instead of how long")
    parser.add_argument("--only", metavar="NAME", help="graphs that have this row or operator")
    parser.add_argument(
        "--shrink",
        type=float,
        default=90.0,
        metavar="SECONDS",
        help="to make a fault small; 0: not at all",
    )
    parser.add_argument(
        "--work", default=str(ROOT / "build/fuzz"), help="folder of what is compiled"
    )
    parser.add_argument(
        "--faults", default=str(ROOT / "build/fuzz/faults"), help="folder of what goes wrong"
    )
    parser.add_argument("--tally", help="file to which a line with all counts is appended")
    group = parser.add_argument_group("instead of the mode that belongs to a seed")
    group.add_argument("--engine", choices=("batch", "cling", "session", "stages"))
    group.add_argument("--compiler")
    group.add_argument("--level")
    group.add_argument("--target", choices=("AVX-512", "AVX2", "baseline"))
    group.add_argument("--guard", type=int, choices=(0, 1, 2), help="pages around each tensor")
    group.add_argument("--kernels", choices=("auto", "always", "never"))
    return parser.parse_args(arguments)


__all__ = ["Outcome", "main", "run_apart", "run_batch"]

if __name__ == "__main__":
    sys.exit(main())
