"""The options of ``sofie-root`` and what ``--help`` teaches."""

from __future__ import annotations

import argparse
import sys
from typing import NoReturn

from sofie_root import config
from sofie_root.frontends import readable

from .commands import bench_model, check_model, convert_model, profile_model, show_config
from .report import inspect_model

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


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands; ``options.run`` is the function of the command."""
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
    inspect.set_defaults(run=inspect_model)

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
    convert.set_defaults(run=convert_model)

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
    check.set_defaults(run=check_model)

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
    profile.set_defaults(run=profile_model)

    bench = command("bench", "time it on this machine", BENCH, dims)
    bench.set_defaults(run=bench_model)

    place = command("config", "where the C++ headers are", CONFIG)
    choice = place.add_mutually_exclusive_group(required=True)
    choice.add_argument("--incdir", action="store_true", help="folder for the compiler's -I")
    choice.add_argument("--cmake", action="store_true", help="folder of sofie_root-config.cmake")
    choice.add_argument("--version", action="store_true", help="version of sofie_root")
    place.set_defaults(run=show_config)
    return parser
