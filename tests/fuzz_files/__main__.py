"""The command; see the package's docstring."""

from __future__ import annotations

import argparse
import itertools
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from .attempt import TARGETS, Attempt, mutation
from .compile import build_reader, check_headers, has_compiler, read_weights, run_headers
from .seeds import Seeds
from .workers import Finding, Tally, Workers

SAMPLE = 120
"""Accepted models that are compiled at the end."""

LARGEST_HEADER = 200_000


def main() -> int:
    """Runs; 1 if something was found."""
    options = _options()
    folders = tuple(options.models)
    targets = tuple(options.targets.split(","))
    if options.number is not None:
        return _one(options.seed, options.number, targets, folders, options.save)
    with tempfile.TemporaryDirectory() as kept:
        tally, problems = _run(options, targets, folders, Path(kept))
        problems += _compile(Path(kept), options) if has_compiler() else []
    _summarise(tally, problems)
    return 1 if tally.findings or problems else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m fuzz_files",
        description="Mutates model files; only SofieError may come out, in bounded time and memory.",
    )
    parser.add_argument("--minutes", type=float, default=10, help="how long (10)")
    parser.add_argument("--count", type=int, help="how many mutations, instead of --minutes")
    parser.add_argument("--seed", type=int, default=0, help="other mutations for other seeds (0)")
    parser.add_argument("--workers", type=int, default=2, help="processes (2)")
    parser.add_argument("--targets", default=",".join(TARGETS), help=f"of {','.join(TARGETS)}")
    parser.add_argument(
        "--models", type=Path, action="append", default=[], help="folder of more .onnx models"
    )
    parser.add_argument("--seconds", type=float, default=20, help="of CPU time per mutation (20)")
    parser.add_argument("--memory", type=int, default=1024, help="MiB per mutation (1024)")
    parser.add_argument(
        "--run", type=int, default=30, help="of the accepted models, with sanitizers (30)"
    )
    parser.add_argument(
        "--number", type=int, help="tries this mutation alone, and shows all of its error"
    )
    parser.add_argument("--save", type=Path, help="with --number: writes the mutated file there")
    return parser.parse_args()


def _run(
    options: argparse.Namespace, targets: tuple[str, ...], folders: tuple[Path, ...], kept: Path
) -> tuple[Tally, list[str]]:
    arguments = {
        "seed": options.seed,
        "targets": list(targets),
        "folders": [str(f) for f in folders],
        "keep": str(kept),
    }
    workers = Workers(
        "fuzz_files.attempt:Attempt",
        arguments,
        options.workers,
        options.seconds,
        options.memory << 20,
    )
    end = time.monotonic() + 60 * options.minutes
    tally, shown = Tally(), time.monotonic()
    for answer in workers.run(_numbers(options.count, end)):
        finding = tally.add(answer)
        if finding is not None:
            _show(finding, options.seed)
        if time.monotonic() - shown > 10:
            shown = time.monotonic()
            print(f"{tally.tried} tried, {dict(tally.outcomes)}", file=sys.stderr, flush=True)
    return tally, []


def _numbers(count: int | None, end: float) -> Iterator[int]:
    for number in itertools.count(1) if count is None else range(1, count + 1):
        if count is None and time.monotonic() > end:
            return
        yield number


def _one(
    seed: int, number: int, targets: tuple[str, ...], folders: tuple[Path, ...], save: Path | None
) -> int:
    made = mutation(Seeds(folders), seed, number, targets)
    print(f"{made.target}: {made.what}")
    if save is not None:
        save.write_bytes(made.data)
        print(f"written to {save}")
    print(Attempt(seed, targets, folders, None)(number))
    return 0


def _compile(kept: Path, options: argparse.Namespace) -> list[str]:
    every = sorted(p for p in kept.glob("*.hxx") if p.stat().st_size < LARGEST_HEADER)
    headers = random.Random(options.seed).sample(every, min(SAMPLE, len(every)))
    print(f"compiling {len(headers)} of the accepted models", file=sys.stderr, flush=True)
    problems = [e for k in range(0, len(headers), 20) for e in check_headers(headers[k : k + 20])]
    with tempfile.TemporaryDirectory() as folder:
        verdicts, wrong = run_headers(headers[: options.run], Path(folder))
        print(f"with sanitizers: {dict(verdicts)}", file=sys.stderr, flush=True)
        problems += wrong
    if "dat" in options.targets:
        with tempfile.TemporaryDirectory() as folder:
            program = build_reader(Path(folder))
            count = options.count or 5000
            accepted, wrong = read_weights(program, Path(folder), options.seed, count)
            print(f"{count} files of weights read in C++, {accepted} accepted", file=sys.stderr)
            problems += wrong
    return problems


def _show(finding: Finding, seed: int) -> None:
    print(f"FOUND number {finding.number}: {finding.fault}")
    for line in finding.trace:
        print(f"    {line}")
    print(f"    python -m fuzz_files --seed {seed} --number {finding.number}", flush=True)


def _summarise(tally: Tally, problems: list[str]) -> None:
    seconds, number = tally.slowest
    print(f"{tally.tried} mutations; the slowest, {number}, took {seconds:.1f} s")
    for outcome, count in tally.outcomes.most_common():
        print(f"  {count:6} {outcome}")
    for finding in tally.findings.values():
        print(f"  {finding.count} x {finding.fault} (number {finding.number})")
    for problem in problems:
        print(f"  {problem}")


if __name__ == "__main__":
    sys.exit(main())
