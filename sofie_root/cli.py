"""The command ``sofie-root``: inspect, convert and check models, and find the C++ headers."""

from __future__ import annotations

import argparse
import importlib.util
import io
import os
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from . import config
from .errors import SofieError, ToolchainError, UnsupportedError
from .frontends import readable

if TYPE_CHECKING:
    from .model import InspectReport, Model
    from .schedule.schedule import Schedule
    from .targets.cxx.header import WeightsKind

DESCRIPTION = """\
Turns a trained network (ONNX) into a C++ header that runs inside a ROOT analysis."""

EXAMPLES = """\
examples:
  sofie-root inspect tagger.onnx              what goes in, what comes out, what was optimised
  sofie-root convert tagger.onnx -o tagger.hxx   C++ header, and its weights in tagger.dat
  sofie-root convert tagger.onnx -o tagger.root  the model as a ROOT file
  sofie-root check tagger.onnx                compiles it and compares it with ONNX Runtime
  c++ -std=c++17 -O3 -march=native -I$(sofie-root config --incdir) analysis.cxx

`sofie-root COMMAND --help` explains a command."""

INSPECT = """\
Shows the inputs, outputs and symbolic dims of a model, its operators, how much memory the generated
code takes, what only the run tells (sizes that depend on data, demands on sizes that are checked,
bodies of If, Loop and Scan), and what the optimisation changed. -v adds every change of the passes,
and what was fused or refused with the reason; -vv adds the graph and the program that is printed as
C++.

examples:
  sofie-root inspect tagger.onnx
  sofie-root inspect tagger.onnx --dim N=1 -v      with the symbolic dim N fixed to 1
  sofie-root inspect tagger.root -vv | less"""

CONVERT = """\
Writes a model as a C++ header or as a ROOT file, by the ending of the output.

  m.hxx   a C++17 header with a struct Session; its weights go to m.dat beside it
          (--weights root: to m.root, compressed; --weights embedded: into the header)
  m.root  the model itself, for sofie_root in Python and the other commands here

Before a header is written, what it computes is compared with the model on a small example, in
NumPy, and compiled where there is a C++ compiler; --no-verify skips that.

examples:
  sofie-root convert tagger.onnx -o tagger.hxx
  sofie-root convert tagger.onnx -o tagger.hxx --weights embedded --namespace tagger
  sofie-root convert tagger.onnx -o tagger.hxx --dim N=1       one event at a time
  sofie-root convert tagger.onnx -o plain.hxx --target reference   scalar loops, to read
  sofie-root convert tagger.onnx -o tagger.root --compression lzma

then, in C++:
  #include "tagger.hxx"
  TMVA_SOFIE_tagger::Session session;             // reads tagger.dat
  std::vector<float> score = session.infer(x.data());"""

CHECK = """\
Compiles a model, runs random inputs through it and through ONNX Runtime, and prints the largest
difference of each output. Exit code 0 if all are right, else 1.

Results that differ by more than the tolerance are compared with an evaluation in double, which says
who is off, and by how many times what the last bit of inputs and weights changes; where nobody is
off by more than rounding, that is ok. An output that never changes is not, as it proves nothing,
unless the graph says itself that it is constant. Random inputs are far from what most models were
trained on: --events runs real ones.

--dim sets sizes of the random inputs; the model's dims stay symbolic. --inputs reads one input set
from an .npz file, by the names of the inputs or by position (in0, in1, ...), and --outputs what the
model should make of it (out0, ...). --events reads columns of a tree or an RNTuple, in the order of
the model's inputs, or with --columns INPUT=a,b,c for each input.

examples:
  sofie-root check tagger.onnx
  sofie-root check tagger.onnx --samples 20 --seed 7 --dim N=64,n_tracks=40
  sofie-root check tagger.onnx --events events.root:Events --columns jet_pt,jet_eta,jet_mass
  sofie-root check tagger.onnx --inputs events.npz --outputs scores.npz
  sofie-root check tagger.onnx --jit compiler      with the C++ compiler instead of ROOT's cling
  sofie-root check tagger.root --reference interpreter"""

PROFILE = """\
Compiles a model with a clock between its steps, runs it again and again, and prints for each step its
nodes, the median of its time, its share of the whole, floating-point operations and bytes, and how
close it comes to what the core could do at most (the roofline, measured by the way).

--dim sets sizes of the random inputs; the model's dims stay symbolic.

examples:
  sofie-root profile tagger.onnx --dim N=1,n_tracks=40
  sofie-root profile tagger.onnx --inputs event.npz
  sofie-root profile tagger.onnx --json > profile.json"""

BENCH = """\
Times a model in sofie_root (compiled by the C++ compiler and by cling) and in ONNX Runtime, interleaved
on one core, and checks that they agree.

examples:
  sofie-root bench tagger.onnx --dim N=1
  python -m rootbench --help                      everything else that can be measured"""

CONFIG = """\
Prints where the C++ side of sofie_root is installed.

examples:
  c++ -std=c++17 -O3 -I$(sofie-root config --incdir) analysis.cxx
  cmake -Dsofie_root_DIR=$(sofie-root config --cmake) ..
      then find_package(sofie_root CONFIG REQUIRED) and
      target_link_libraries(analysis PRIVATE sofie_root::sofie_root)"""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as every other error of this command."""

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: {message} (see {self.prog} --help)", file=sys.stderr)
        raise SystemExit(1)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code.

    Args:
        arguments: the words after ``sofie-root``; those of the process if not given.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal may not know all of Unicode
    options = _parser().parse_args(arguments)
    try:
        code = int(options.run(options))
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # The reader of a pipe (head, less) has gone; nobody wants the rest.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        if options.debug:
            traceback.print_exc()
        else:
            print(f"sofie-root: {_message(error)}", file=sys.stderr)
        return 1


def _message(error: Exception) -> str:
    if isinstance(error, SofieError):
        return _printable(str(error))
    if isinstance(error, OSError) and error.strerror:
        return _printable(
            f"{error.filename}: {error.strerror}" if error.filename else error.strerror
        )
    what = " ".join(f"{type(error).__name__}: {error}".split())
    return _printable(
        f"internal error ({what}); this is a bug of sofie_root. "
        "Run again with --debug and report what it prints"
    )


def _parser() -> argparse.ArgumentParser:
    common = _Parser(add_help=False)
    # Before or after the command; the default of the one must not undo the other.
    show = "show the traceback of an error"
    common.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=show)
    dims = _Parser(add_help=False)
    dims.add_argument("model", metavar="MODEL", help=f"a file: {readable()}")
    dims.add_argument(
        "--dim",
        "--dims",
        metavar="NAME=SIZE",
        action="append",
        default=[],
        help="fix a symbolic dim: N=1, or several: N=1,n_tracks=40; may be repeated",
    )

    dims.add_argument(
        "--operators",
        metavar="FILE.py",
        action="append",
        default=[],
        help="Python file that registers operators of yours; may be repeated",
    )

    dims.add_argument(
        "--budget",
        metavar="LIMITS",
        help="of work and memory before the model runs: memory=8G,work=1e12 (see sofie_root.Budget)",
    )

    parser = _Parser(
        prog="sofie-root",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"sofie_root {config.VERSION}")
    parser.add_argument("--debug", action="store_true", help=show)
    commands = parser.add_subparsers(metavar="COMMAND", dest="command", required=True)

    def command(name: str, summary: str, text: str, *parents: _Parser) -> _Parser:
        return commands.add_parser(
            name,
            help=summary,
            description=text,
            parents=[*parents, common],
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    inspect = command("inspect", "what a model is and what becomes of it", INSPECT, dims)
    inspect.add_argument("-v", "--verbose", action="count", default=0, help="more; -vv: all")
    inspect.set_defaults(run=_inspect)

    convert = command("convert", "write a C++ header or a ROOT file", CONVERT, dims)
    convert.add_argument("-o", "--output", required=True, metavar="FILE", help="m.hxx or m.root")
    convert.add_argument(
        "--weights",
        choices=("dat", "root", "embedded"),
        help="where a header's weights go (default: dat)",
    )
    convert.add_argument(
        "--no-standalone",
        action="store_true",
        help="a short header that includes <sofie/...>, found with `sofie-root config --incdir`",
    )
    convert.add_argument(
        "--namespace", help="of the Session (default: TMVA_SOFIE_ and the file's name)"
    )
    convert.add_argument(
        "--exact",
        action="store_true",
        help="no algorithm that rounds more than direct summation does (no Winograd convolutions)",
    )
    convert.add_argument(
        "--target",
        metavar="NAME",
        help="cpu, or reference: plain loops over scalars, to read and to compare with (default: cpu)",
    )
    convert.add_argument(
        "--no-verify",
        action="store_true",
        help="write a header without running it on an example first",
    )
    convert.add_argument(
        "--compression",
        choices=("zstd", "lzma", "lz4", "zlib", "none"),
        help="of a .root file (default: zstd)",
    )
    convert.set_defaults(run=_convert)

    check = command("check", "compare with ONNX Runtime", CHECK, dims)
    check.add_argument("--samples", type=int, default=3, help="input sets to run (default: 3)")
    check.add_argument("--seed", type=int, default=0, help="of the random inputs (default: 0)")
    check.add_argument("--tolerance", type=float, default=1e-4, help="of max|a-b|/max|a| (1e-4)")
    check.add_argument("--jit", choices=("auto", "cling", "compiler"), default="auto")
    check.add_argument(
        "--reference", choices=("auto", "onnxruntime", "interpreter"), default="auto"
    )
    check.add_argument(
        "--inputs",
        metavar="FILE.npz",
        help="one input set instead of random ones: x, ... or in0, ...",
    )
    check.add_argument(
        "--outputs", metavar="FILE.npz", help="what --inputs should give, instead of a reference"
    )
    check.add_argument(
        "--events", metavar="FILE.root:TREE", help="events of a file instead of random inputs"
    )
    check.add_argument(
        "--columns",
        metavar="A,B,C",
        action="append",
        default=[],
        help="columns of --events, in the order of the inputs; or INPUT=A,B,C for each input",
    )
    check.add_argument(
        "--layout",
        metavar="LAYOUT",
        help="how they fill an input: 'features last', 'features first', 'concatenate'",
    )
    check.add_argument(
        "--max-events", type=int, default=1000, help="events to read (default: 1000)"
    )
    check.set_defaults(run=_check)

    profile = command("profile", "time of each step on this machine", PROFILE, dims)
    profile.add_argument(
        "--inputs", metavar="FILE.npz", help="inputs instead of random ones: x, ... or in0, ..."
    )
    profile.add_argument(
        "--seconds", type=float, default=1.0, help="for how long calls are repeated (default: 1)"
    )
    profile.add_argument(
        "--target", metavar="NAME", default="cpu", help="cpu or reference (default: cpu)"
    )
    profile.add_argument("--json", action="store_true", help="print JSON instead of a table")
    profile.set_defaults(run=_profile)

    bench = command("bench", "time it on this machine", BENCH, dims)
    bench.set_defaults(run=_bench)

    place = command("config", "where the C++ headers are", CONFIG)
    choice = place.add_mutually_exclusive_group(required=True)
    choice.add_argument("--incdir", action="store_true", help="folder for the compiler's -I")
    choice.add_argument("--cmake", action="store_true", help="folder of sofie_root-config.cmake")
    choice.add_argument("--version", action="store_true", help="version of sofie_root")
    place.set_defaults(run=_config)
    return parser


def _profile(options: argparse.Namespace) -> int:
    model = _load(options, {})
    with _status(f"profiling {model.name}"):
        report = model.profile(
            options.inputs, _sizes(options) or None, options.seconds, target=options.target
        )
    if options.json:
        print(report.json())
        return 0
    _table(report.title, report.COLUMNS, report.rows)
    return 0


def _bench(options: argparse.Namespace) -> int:
    try:
        from rootbench.__main__ import main as bench
    except ImportError as error:
        raise SofieError(
            f"needs {error.name}; install it with pip install 'sofie_root[bench]'"
        ) from None
    dims = [f"{name}={size}" for name, size in _sizes(options).items()]
    results = ["--output", "sofie-root-bench"]
    return int(bench(["--models", options.model, *results, *(["--dim", *dims] if dims else [])]))


def _config(options: argparse.Namespace) -> int:
    if options.incdir:
        print(config.include_dir())
    elif options.cmake:
        print(config.cmake_dir())
    else:
        print(config.VERSION)
    return 0


def _load(options: argparse.Namespace, dims: dict[str, int]) -> Model:
    from .budget import Budget
    from .model import load

    for file in options.operators:
        _run_file(Path(file))
    with _status(f"reading {options.model}"):
        try:
            budget = None if options.budget is None else Budget.parse(options.budget)
            return load(options.model, dims=dims or None, budget=budget)
        except UnsupportedError as error:
            if any("@sofie_root.operator" in r.reason for r in error.refusals):
                error.message += "\n(here: --operators FILE.py, a file that registers them)"
            raise


def _sizes(options: argparse.Namespace) -> dict[str, int]:
    """The sizes that were given to symbolic dims."""
    dims: dict[str, int] = {}
    for item in ",".join(options.dim).split(",") if options.dim else []:
        name, equals, size = item.rpartition("=")
        if not equals or not name or not size.strip().isdigit():
            raise SofieError(f"--dim takes NAME=SIZE with a size of 0 or more, not {item!r}")
        dims[name.strip()] = int(size)
    return dims


def _run_file(path: Path) -> None:
    """Imports a Python file, which may import what is beside it."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise SofieError("is no Python file that can be read (--operators)", file=str(path))
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)
    sys.path.insert(0, str(path.resolve().parent))
    try:
        spec.loader.exec_module(module)
    except SofieError:
        raise
    except Exception as error:
        raise SofieError(
            f"fails: {type(error).__name__}: {error} (--operators)", file=str(path)
        ) from error
    finally:
        sys.path.pop(0)


def _inspect(options: argparse.Namespace) -> int:
    model = _load(options, _sizes(options))
    with _status(f"optimising {model.name}"):
        report = model.report()
    tensors = [("input", *pair) for pair in model.inputs.items()]
    tensors += [("output", *pair) for pair in model.outputs.items()]
    _table(
        f"{model.name}: inputs and outputs",
        ("", "name", "dtype", "shape"),
        [(kind, name, str(t.dtype), _shape(t.shape)) for kind, name, t in tensors],
    )
    counts = Counter(node.op.name for node in model.graph.all_nodes())
    operators = [(name, str(count)) for name, count in sorted(counts.items())]
    inside = counts.total() - len(model.graph.nodes)
    _table(
        f"{counts.total()} nodes" + (f", {inside} of them in bodies" if inside else ""),
        ("operator", "nodes"),
        operators,
    )
    _table("dims and memory", ("", ""), _facts(report))
    _run_time(report.schedule)
    passes = [(p.name, str(len(p.changes)), str(len(p.refusals))) for p in report.passes]
    _table("passes", ("pass", "changes", "refused"), passes)
    _print(f"fusion: {len(report.fused)} joined, {len(report.refused)} refused")
    if not options.verbose:
        _print("(-v lists the changes, what was fused and what was refused; -vv adds the program)")
        return 0
    _section("changes", [f"{p.name}: {c.node}: {c.text}" for p in report.passes for c in p.changes])
    refusals = [(p.name, r) for p in report.passes for r in p.refusals]
    _section("refused", [f"{name}: {r.operator} {r.node}: {r.reason}" for name, r in refusals])
    _section("fused", report.fused)
    _section("not fused", report.refused)
    if options.verbose > 1:
        _section("graph", str(model.graph).splitlines())
        for title, schedule in _programs("program", report.schedule):
            _section(title, str(schedule).splitlines())
    return 0


def _programs(title: str, schedule: Schedule) -> Iterator[tuple[str, Schedule]]:
    """A scheduled program and the bodies inside it, with titles."""
    yield title, schedule
    for name, bodies in schedule.bodies.items():
        for k, body in enumerate(bodies):
            kind = ("then", "else")[k] if len(bodies) == 2 else "body"
            yield from _programs(f"{kind} of {name.removesuffix('.results')}", body)


def _facts(report: InspectReport) -> list[tuple[str, str]]:
    """What the generated code needs at run time."""
    symbols = list(report.symbols)
    facts = [("symbolic dims", ", ".join(symbols) or "none")]
    facts.append(("weights", _bytes(report.weight_bytes)))
    plan = report.schedule.plan
    for size in (1, 16) if symbols else (0,):
        where = (
            f" at {', '.join(f'{s}={size}' for s in symbols)}"
            if len(symbols) < 4
            else (f" at {size} of each")
        )
        facts.append((f"arena{where if symbols else ''}", _arena(report.schedule, size)))
    if plan.growing:
        count = len(plan.growing)
        facts.append(("beside the arena", f"{count} buffers whose size is known at run time only"))
    return facts


def _arena(schedule: Schedule, size: int) -> str:
    """Bytes of temporaries where every size symbol has that size."""
    from .ir.dim import value_of

    plan = schedule.plan
    used = plan.arena_bytes({s.name: size for s in schedule.symbols})
    total = value_of(plan.intermediates, lambda _: size)
    return f"{_bytes(used)} for {_bytes(total)} of intermediates"


def _run_time(schedule: Schedule) -> None:
    """What only the run tells: sizes, what must hold of sizes, and which bodies run."""
    from .program.statement import Bind, Branch, Check, Repeat

    sizes: list[tuple[str, str]] = []
    checks: list[tuple[str, str]] = []
    bodies: list[tuple[str, ...]] = []

    def visit(schedule: Schedule, depth: int) -> None:
        for step in schedule.steps:
            if isinstance(step, Bind):
                sizes.append((str(step.symbol), ", ".join(step.origin)))
            elif isinstance(step, Check):
                checks.append((step.demand, step.why))
            elif isinstance(step, Branch | Repeat):
                kinds = ("then", "else") if isinstance(step, Branch) else ("body",)
                for kind, body in zip(kinds, schedule.bodies[step.name], strict=True):
                    name = "  " * depth + ", ".join(step.origin)
                    shapes = ", ".join(
                        _shape(body.program.buffers[o].shape) for o in body.program.outputs.values()
                    )
                    arena = _arena(body, 16 if body.symbols else 0)
                    bodies.append((name, kind, str(len(body.steps)), shapes, arena))
                    visit(body, depth + 1)

    visit(schedule, 0)
    if sizes:
        _table("data-dependent dims", ("dim", "found by"), sizes)
    if checks:
        _table("checked when the model runs", ("must hold", "because of"), checks)
    if bodies:
        columns = ("node", "body", "steps", "gives", "arena (symbolic dims: 16)")
        _table("control flow", columns, bodies)


def _convert(options: argparse.Namespace) -> int:
    target = Path(options.output)
    of_header = {
        "--weights": options.weights,
        "--namespace": options.namespace,
        "--no-standalone": options.no_standalone or None,
        "--exact": options.exact or None,
        "--no-verify": options.no_verify or None,
        "--target": options.target,
    }
    if target.suffix == ".root":
        if given := [name for name, value in of_header.items() if value is not None]:
            raise SofieError(f"{given[0]} is for C++ headers, and {target} is a ROOT file")
        model = _load(options, _sizes(options))
        with _status(f"writing {target}"):
            written = [model.save(target, options.compression or "zstd")]
    elif target.suffix in (".hxx", ".hpp", ".hh", ".h"):
        if options.compression:
            raise SofieError(f"--compression is for ROOT files, and {target} is a C++ header")
        model = _load(options, _sizes(options))
        weights: WeightsKind = options.weights or "dat"
        beside = target.with_suffix(f".{weights}")
        if options.dim and weights == "root" and _same_file(beside, Path(options.model)):
            raise SofieError(
                f"the weights would replace the model {beside} by one with fixed dims; "
                "give the output another name"
            )
        device = options.target or "cpu"
        if not options.no_verify:
            _try_out(model, options.exact, device)
        with _status(f"generating {target}"):
            standalone, verify = not options.no_standalone, not options.no_verify
            written = [
                model.generate(
                    target,
                    weights,
                    standalone,
                    options.namespace,
                    exact=options.exact,
                    verify=verify,
                    target=device,
                )
            ]
        if weights != "embedded" and model.report(device).weight_bytes:
            written.append(beside)
    else:
        raise SofieError(f"the output must end in .hxx (C++ header) or .root, unlike {target}")
    for path in written:
        _print(f"wrote {path} ({_bytes(path.stat().st_size)})")
    return 0


def _try_out(model: Model, exact: bool, device: str) -> None:
    """Compiles a model and runs its example, where there are a compiler and an example."""
    from .runtime.compiler import has_compiler

    if model.example is None or not has_compiler():
        return
    with _status(f"compiling {model.name}"):
        try:
            model.session(jit="compiler", exact=exact, target=device)
        except ToolchainError as error:
            error.message += "\n(--no-verify writes the header without trying it out)"
            raise


def _same_file(a: Path, b: Path) -> bool:
    return a.exists() and b.exists() and a.samefile(b)


def _check(options: argparse.Namespace) -> int:
    from .check_report import COLUMNS

    if (options.events is None) != (not options.columns):
        raise SofieError("--events and --columns belong together")
    model = _load(options, {})
    events = None if options.events is None else _events(options.events)
    count = options.samples
    if events is not None:
        count = options.max_events
    elif options.inputs is not None:
        count = 1
    with _bar(f"checking {model.name}", count) as on_sample:
        report = model.check(
            reference=options.reference,
            samples=options.samples,
            seed=options.seed,
            dims=_sizes(options),
            inputs=options.inputs,
            outputs=options.outputs,
            events=events,
            columns=_columns(options.columns) if options.columns else None,
            layout=options.layout,
            max_events=options.max_events,
            jit=options.jit,
            tolerance=options.tolerance,
            on_sample=on_sample,
        )
    _table(f"{model.name}: {report.sets} against {report.reference}", COLUMNS, report.rows)
    for remark in report.remarks:
        _print(remark)
    return 0 if report.ok else 1


def _events(place: str) -> Any:
    """A data frame of FILE.root:TREE."""
    file, colon, tree = place.rpartition(":")
    if not colon or not file or not tree:
        raise SofieError(f"--events takes FILE.root:TREE, not {place!r}")
    if "://" not in file and not Path(file).is_file():
        raise SofieError("is no file that can be read (--events)", file=file)
    from .runtime.interpreter import import_root

    try:
        df = import_root().RDataFrame(tree, file)
        df.GetColumnNames()
    except SofieError:
        raise
    except Exception as error:  # of C++
        raise SofieError(f"has no tree {tree!r} that can be read: {error}", file=file) from error
    return df


def _columns(given: Sequence[str]) -> list[str] | dict[str, list[str]]:
    """The names of columns, by input where that is said."""
    lists: dict[str, list[str]] = {}
    for item in given:
        name, _, listed = item.rpartition("=")
        lists.setdefault(name, []).extend(c.strip() for c in listed.split(",") if c.strip())
    if "" not in lists:
        return lists
    if len(lists) > 1:
        raise SofieError("--columns are given by input, INPUT=A,B, for all inputs or for none")
    return lists[""]


def _printable(text: str) -> str:
    """The text with control characters escaped: names come from the model's file."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)


def _print(text: str) -> None:
    print(_printable(text))


def _section(title: str, lines: Iterable[str]) -> None:
    shown = [f"  {line}" for line in lines]
    _print("\n".join(["", f"{title}:", *(shown or ["  none"])]))


def _table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Prints a table: drawn for a terminal, else plain columns that a script can read."""
    cells = [tuple(_printable(cell) for cell in row) for row in rows]
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        headed = any(columns)
        table = Table(title=Text(_printable(title)), title_justify="left", show_header=headed)
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in cells:
            table.add_row(*map(Text, row))  # Text: square brackets are no markup here
        Console().print(table)
        return
    lines = [tuple(columns), *cells] if any(columns) else cells
    widths = [max(len(line[k]) for line in lines) for k in range(len(columns))]
    _print(title)
    for line in lines:
        padded = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        _print(f"  {padded}".rstrip())


@contextmanager
def _status(text: str) -> Iterator[None]:
    """Shows on a terminal that something takes a while."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True).status(Text(_printable(text))):
        yield


@contextmanager
def _bar(text: str, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar on a terminal; gives the function that moves it."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(_printable(text).replace("[", r"\["), total=total)
        yield lambda done: progress.update(task, completed=done)


def _shape(dims: Iterable[object]) -> str:
    return f"[{', '.join(map(str, dims))}]"


def _bytes(size: float) -> str:
    """A size as people read it: 4.2 kB."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


if __name__ == "__main__":
    raise SystemExit(main())
