"""``python -m rootbench``: measures, prints, and writes the results."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from sofie_root.errors import SofieError
from sofie_root.storage.atomic import replacing

from . import plots, report, revisions
from .findings import Result, is_wrong
from .models import Case, select
from .peers import CONTENDERS, OURS, PEERS
from .run import Settings, run
from .timing import BenchError

HERE = Path(__file__).parent
OUTPUT = HERE / "results" if (HERE.parent / "Makefile").exists() else Path("rootbench-results")
SLOW_TO_START = ("pytorch", "pytorch-compile")

DESCRIPTION = """\
Times sofie_root and other inference libraries on the same models: interleaved, on one pinned core,
in C++ loops. Prints tables, writes results/bench.json, and with --write RESULTS.md and plots/.
Every time is of a model whose outputs were compared with ONNX Runtime's in the same process.

For each model: the ONNX file is written and its reference outputs computed; sofie_root generates
code; each contender opens the model in a fresh process (first call, memory, allocations); then all
run in turns in one process, caches warm and flushed. A peer that crashes or cannot run a model is
named in the report and left out. Results are kept after each model: --report shows those of an
interrupted run, --resume goes on with it."""

EPILOG = """\
examples:
  python -m rootbench --quick                       eleven small models, some minutes
  python -m rootbench                               all but the heaviest; leave the machine alone
  python -m rootbench --models 'linear*' gn2        by name or pattern; --list shows them
  python -m rootbench --models my/tagger.onnx --dim N=1 tracks=40
  python -m rootbench --models 'zoo/*' --peers onnxruntime,openvino
  python -m rootbench --all --events --write        what RESULTS.md is made by (25 minutes)
  python -m rootbench --all --events --resume       goes on where that was interrupted
  python -m rootbench --report rootbench/RESULTS.json   tables and plots of an earlier run
  python -m rootbench compare REV                   the code of two revisions; compare --help

peers:
  onnxruntime      C API of the wheel's library, or of $ROOTBENCH_ONNXRUNTIME
  openvino         C API of the wheel's library, or of $ROOTBENCH_OPENVINO
  pytorch, pytorch-compile   need torch (pip install torch)
  emx-onnx-cgen    plain C, of models with fixed shapes; compiled by $CC -O3 -ffast-math
  upstream-sofie   needs $ROOTBENCH_SOFIE, a ROOT with tmva-sofie
  lwtnn            needs $ROOTBENCH_LWTNN
A peer that is not installed is reported as not measured."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code: 1 for an error, or where an output of ours was wrong."""
    console = Console(width=None if sys.stdout.isatty() else 200)
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        if words[:1] == ["compare"]:
            return revisions.main(words[1:], console)
        return _main(_parser().parse_args(words), console)
    except (BenchError, SofieError) as error:
        print(f"rootbench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _main(options: argparse.Namespace, console: Console) -> int:
    if options.report:
        results = json.loads(Path(options.report).read_text())
    else:
        dims = _dims(options.dim)
        cases = select(options.models, quick=options.quick, everything=options.all, dims=dims)
        if options.list:
            for case in cases:
                console.print(f"{case.name:50} {_facts(case)}", markup=False, highlight=False)
            return 0
        os.environ["ROOTBENCH_WORK"] = str(Path(options.output, "work").resolve())
        file = Path(options.output, "bench.json")
        earlier = json.loads(file.read_text()) if options.resume and file.exists() else None
        results = _measure(cases, _settings(options), console, file, earlier)
        console.print(f"written: {file}")
    report.show(results, console)
    if options.write:
        drawn = plots.draw(results, HERE / "plots")
        report.write_markdown(results, HERE / "RESULTS.md", drawn)
        (HERE / "RESULTS.json").write_text(_text(results))
        console.print(f"written: {HERE / 'RESULTS.md'}, .json, " + ", ".join(p.name for p in drawn))
    elif drawn := plots.draw(results, Path(options.output, "plots")):
        console.print("written: " + ", ".join(str(p) for p in drawn))
    wrong = [c for c in results["cases"].values() if any(is_wrong(c, name) for name in OURS)]
    return 1 if wrong else 0


def _measure(
    cases: list[Case], settings: Settings, console: Console, file: Path, earlier: Result | None
) -> Result:
    """Measures, and keeps what there is in a file, in case the run is interrupted."""
    words = [word for word in sys.argv[1:] if word != "--resume"]
    command = shlex.join(["python", "-m", "rootbench", *words])
    load = os.getloadavg()[0]
    if load > 0.5:
        console.print(
            f"[yellow]the machine is busy (load average {load:.1f}): do not quote these figures"
        )
    columns = (
        TextColumn("{task.description:60.60}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, disable=not sys.stdout.isatty()) as progress:
        task = progress.add_task("prepare", total=len(cases))
        order = [c.name for c in cases]

        def on_step(name: str, what: str) -> None:
            progress.update(task, completed=order.index(name), description=f"{name}: {what}")
            if not sys.stdout.isatty() and what == "build":
                print(f"[{order.index(name) + 1}/{len(order)}] {name}", flush=True)

        def on_result(results: Result) -> None:
            results["machine"]["command"] = command
            with replacing(file) as whole:  # an interrupted run leaves a file that can be read
                whole.write_text(_text(results))

        file.parent.mkdir(parents=True, exist_ok=True)
        # Being told to end is like Ctrl-C: no process of this run is left behind.
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            results = run(cases, settings, on_step, on_result, earlier)
        except KeyboardInterrupt:
            raise BenchError(
                f"interrupted. What was measured is in {file}: --report {file} shows it, and\n"
                f"  {command} --resume\ngoes on with it"
            ) from None
        finally:
            signal.signal(signal.SIGTERM, before)
        progress.update(task, completed=len(cases), description="done")
    return results


def _text(results: Result) -> str:
    """JSON with a line for each model."""
    cases = (f"{json.dumps(n)}: {json.dumps(c)}" for n, c in results["cases"].items())
    machine = json.dumps(results["machine"])
    return f'{{"machine": {machine},\n"cases": {{\n' + ",\n".join(cases) + "\n}}\n"


def _settings(options: argparse.Namespace) -> Settings:
    peers = [p for word in options.peers or PEERS for p in word.split(",") if p]
    if unknown := [p for p in peers if p not in PEERS]:
        raise BenchError(f"no peer is called {unknown[0]!r}; there are: {', '.join(PEERS)}")
    ours = [n for n in OURS if n != "sofie-cling" or not options.no_cling]
    ours = [n for n in ours if n != "sofie-exact" or not options.no_exact]
    core = options.core
    if core is None and hasattr(os, "sched_getaffinity"):
        core = max(os.sched_getaffinity(0))  # the first one gets the interrupts
    budget = options.seconds if options.seconds is not None else 1.0 if options.quick else 1.5
    return Settings(
        contenders=tuple(n for n in CONTENDERS if n in ours or n in peers),
        core=core,
        seconds=budget,
        min_rounds=options.min_rounds,
        limit=options.limit,
        events=options.events,
        own_only=() if options.peers else SLOW_TO_START,
        symbolic=options.symbolic,
        debug=options.debug,
    )


def _dims(words: Sequence[str]) -> dict[str, int]:
    sizes = {}
    for word in words:
        name, _, size = word.partition("=")
        if not name or not size.isdecimal():
            raise BenchError(f"--dim takes NAME=SIZE, not {word!r}")
        sizes[name] = int(size)
    return sizes


def _facts(case: Case) -> str:
    words = [*sorted(case.tags), *(f"{k}={v}" for k, v in case.dims.items())]
    return ", ".join([f"bar {case.bar}"] * bool(case.bar) + words)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m rootbench",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--models",
        nargs="+",
        default=[],
        metavar="NAME",
        help="names or patterns (see --list), or .onnx files",
    )
    add("--dim", nargs="+", default=[], metavar="NAME=SIZE", help="symbolic dims of files (1)")
    add(
        "--peers",
        nargs="+",
        metavar="NAME",
        help="who to compare with (all; PyTorch with the zoo's and the heaviest models only if named here)",
    )
    add("--quick", action="store_true", help="few small models, short rounds")
    add("--all", action="store_true", help="the heaviest models too (seconds per call)")
    add("--no-cling", action="store_true", help="ours compiled only: works without ROOT")
    add("--no-exact", action="store_true", help="not generate(exact=True), where that differs")
    add(
        "--events",
        action="store_true",
        help="some models in RDataFrame event loops too, with 1 and 2 slots; needs two idle cores",
    )
    add("--symbolic", action="store_true", help="leave symbolic dims in the files (default: fixed)")
    add("--seconds", type=float, help="time of a model's interleaved rounds (1.5; --quick: 1)")
    add("--min-rounds", type=int, default=7, metavar="N", help="rounds however long they take (7)")
    add(
        "--limit",
        type=float,
        default=400.0,
        metavar="SECONDS",
        help="what all processes of one model may take; then the next one's turn comes (400)",
    )
    add(
        "--resume",
        action="store_true",
        help="go on with an interrupted run: keep what bench.json in --output holds",
    )
    add("--core", type=int, help="the core that everything is pinned to (the last one)")
    add("--output", default=str(OUTPUT), metavar="DIR", help=f"where results go ({OUTPUT.name})")
    add(
        "--write",
        action="store_true",
        help="write RESULTS.md, RESULTS.json and plots/ of this package",
    )
    add("--report", metavar="JSON", help="measure nothing: tables and plots of an earlier run")
    add("--list", action="store_true", help="list the models and exit")
    add("--debug", action="store_true", help="show tracebacks and output of the processes")
    return parser


if __name__ == "__main__":
    sys.exit(main())
