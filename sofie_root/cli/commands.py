"""The commands of ``sofie-root`` but ``inspect``."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sofie_root import config
from sofie_root.errors import SofieError, ToolchainError, UnsupportedError

from .terminal import (
    progress_bar,
    size_text,
    status,
    table,
    write,
)

if TYPE_CHECKING:
    from sofie_root.model import Model
    from sofie_root.targets.cxx.header import WeightsKind


def profile_model(options: argparse.Namespace) -> int:
    """Prints where the time of a model goes, step by step."""
    model = load_model(options, {})
    with status(f"profiling {model.name}"):
        report = model.profile(
            options.inputs, sizes_of(options) or None, options.seconds, target=options.target
        )
    if options.json:
        print(report.json())
        return 0
    table(report.title, report.COLUMNS, report.rows)
    return 0


def bench_model(options: argparse.Namespace) -> int:
    """Compares a model with ONNX Runtime on this machine."""
    try:
        from rootbench.__main__ import main as compare
    except ImportError as error:
        raise SofieError(
            f"needs {error.name}; install it with pip install 'sofie_root[bench]'"
        ) from None
    dims = [f"{name}={size}" for name, size in sizes_of(options).items()]
    results = ["--output", "sofie-root-bench"]
    return int(compare(["--models", options.model, *results, *(["--dim", *dims] if dims else [])]))


def show_config(options: argparse.Namespace) -> int:
    """Prints a folder that belongs to the installation, or its version."""
    if options.incdir:
        print(config.include_dir())
    elif options.cmake:
        print(config.cmake_dir())
    else:
        print(config.VERSION)
    return 0


def load_model(options: argparse.Namespace, dims: dict[str, int]) -> Model:
    """Reads the model that the options name, after the files that register its operators."""
    from sofie_root.budget import Budget
    from sofie_root.model import load

    for file in options.operators:
        run_file(Path(file))
    with status(f"reading {options.model}"):
        try:
            budget = None if options.budget is None else Budget.parse(options.budget)
            return load(options.model, dims=dims or None, budget=budget)
        except UnsupportedError as error:
            if any("@sofie_root.operator" in r.reason for r in error.refusals):
                error.message += "\n(here: --operators FILE.py, a file that registers them)"
            raise


def sizes_of(options: argparse.Namespace) -> dict[str, int]:
    """The sizes that were given to symbolic dims."""
    dims: dict[str, int] = {}
    for item in ",".join(options.dim).split(",") if options.dim else []:
        name, equals, size = item.rpartition("=")
        if not equals or not name or not size.strip().isdigit():
            raise SofieError(f"--dim takes NAME=SIZE with a size of 0 or more, not {item!r}")
        dims[name.strip()] = int(size)
    return dims


def run_file(path: Path) -> None:
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


def convert_model(options: argparse.Namespace) -> int:
    """Writes a header or a ``.root`` file."""
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
        model = load_model(options, sizes_of(options))
        with status(f"writing {target}"):
            written = [model.save(target, options.compression or "zstd")]
    elif target.suffix in (".hxx", ".hpp", ".hh", ".h"):
        if options.compression:
            raise SofieError(f"--compression is for ROOT files, and {target} is a C++ header")
        model = load_model(options, sizes_of(options))
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
        with status(f"generating {target}"):
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
        write(f"wrote {path} ({size_text(path.stat().st_size)})")
    return 0


def _try_out(model: Model, exact: bool, device: str) -> None:
    """Compiles a model and runs its example, where there are a compiler and an example."""
    from sofie_root.runtime.compiler import has_compiler

    if model.example is None or not has_compiler():
        return
    with status(f"compiling {model.name}"):
        try:
            model.session(jit="compiler", exact=exact, target=device)
        except ToolchainError as error:
            error.message += "\n(--no-verify writes the header without trying it out)"
            raise


def _same_file(a: Path, b: Path) -> bool:
    return a.exists() and b.exists() and a.samefile(b)


def check_model(options: argparse.Namespace) -> int:
    """Compares a model with its reference; the exit code says whether it is right."""
    from sofie_root.check_report import COLUMNS

    if (options.events is None) != (not options.columns):
        raise SofieError("--events and --columns belong together")
    model = load_model(options, {})
    events = None if options.events is None else _events(options.events)
    count = options.samples
    if events is not None:
        count = options.max_events
    elif options.inputs is not None:
        count = 1
    with progress_bar(f"checking {model.name}", count) as on_sample:
        report = model.check(
            reference=options.reference,
            samples=options.samples,
            seed=options.seed,
            dims=sizes_of(options),
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
    table(f"{model.name}: {report.sets} against {report.reference}", COLUMNS, report.rows)
    for remark in report.remarks:
        write(remark)
    return 0 if report.ok else 1


def _events(place: str) -> Any:
    """A data frame of FILE.root:TREE."""
    file, colon, tree = place.rpartition(":")
    if not colon or not file or not tree:
        raise SofieError(f"--events takes FILE.root:TREE, not {place!r}")
    if "://" not in file and not Path(file).is_file():
        raise SofieError("is no file that can be read (--events)", file=file)
    from sofie_root.runtime.interpreter import import_root

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
