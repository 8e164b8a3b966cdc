"""``python -m conformance``: ONNX's backend tests through generated, compiled C++."""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

from .batch import WIDER, interpret_case
from .cases import SETS, Case, load_cases
from .outcome import Outcome
from .pool import run_all
from .table import write_table

DOCS = Path(__file__).parents[2] / "docs" / "operators.md"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the suite; 1 where a result is wrong."""
    options = _options(arguments)
    console = Console(stderr=True)
    console.print("making the cases ...", style="dim")
    cases = load_cases(tuple(options.sets.split(",")))
    cases = [c for c in cases if re.search(options.only, c.id)]
    start = time.monotonic()
    outcomes: list[Outcome] = []
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("cases", total=len(cases))

        def report(outcome: Outcome) -> None:
            outcomes.append(outcome)
            progress.advance(task)
            if outcome.verdict == "wrong":
                progress.console.print(f"wrong {outcome.case}", markup=False, highlight=False)

        if options.quick:
            for case in cases:
                report(interpret_case(case))
        else:
            run_all(_batches(cases, options.batch), options.processes, report)
    _print(outcomes, options.verbose)
    print(f"{time.monotonic() - start:.0f} s")
    if not options.quick and not options.only and options.sets == ",".join(SETS):
        write_table(DOCS, cases, sorted(outcomes, key=lambda o: o.case))
        print(f"wrote {DOCS}")
    return 1 if any(o.verdict == "wrong" for o in outcomes) else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m conformance", description=__doc__)
    parser.add_argument("--only", default="", metavar="PATTERN", help="cases that match, SET/NAME")
    parser.add_argument("--sets", default=",".join(SETS), help="sets to run (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="NumPy only, nothing is compiled")
    parser.add_argument("--processes", type=int, default=2, metavar="N")
    parser.add_argument("--batch", type=int, default=40, metavar="N", help="models in one file")
    parser.add_argument("--verbose", action="store_true", help="list the refused cases by name")
    return parser.parse_args(arguments)


def _batches(cases: Iterable[Case], size: int) -> list[list[Case]]:
    """Cases in groups; a full network is a group of its own, and comes first."""
    cases = list(cases)
    networks = [[c] for c in cases if c.set == "light"]
    rest = [c for c in cases if c.set != "light"]
    return networks + [rest[k : k + size] for k in range(0, len(rest), size)]


def _print(outcomes: Sequence[Outcome], verbose: bool) -> None:
    reasons = Counter(o.reason.splitlines()[0] for o in outcomes if o.verdict == "refused")
    if reasons:
        print("refused, by reason:")
        for reason, count in reasons.most_common():
            print(f"  {count:4}  {reason[:150]}")
            for o in outcomes if verbose else ():
                if o.verdict == "refused" and o.reason.splitlines()[0] == reason:
                    print(f"          {o.case}")
    for o in sorted(outcomes, key=lambda o: o.case):
        if o.verdict == "wrong":
            print(f"wrong {o.case}\n      {o.reason[:1500]}")
    for o in outcomes:
        if o.case in WIDER:
            print(f"held to a wider tolerance: {o.case} ({WIDER[o.case][2]})")
    print(f"{'set':20}{'passed':>8}{'refused':>9}{'wrong':>7}{'all':>7}")
    for name in SETS:
        count = Counter(o.verdict for o in outcomes if o.case.startswith(f"{name}/"))
        if count:
            cells = count["passed"], count["refused"], count["wrong"]
            print(f"{name:20}{cells[0]:8}{cells[1]:9}{cells[2]:7}{sum(cells):7}")


if __name__ == "__main__":
    sys.exit(main())
