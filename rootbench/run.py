"""Runs the benchmark: prepares each model, and starts the processes that measure it."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from sofie_root.runtime.interpreter import find_compiler

from . import timing
from .models import Case, fixed, make_inputs, modern
from .peers import OURS, Job
from .peers.base import write_arrays

Result = dict[str, Any]
ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Settings:
    """How much is measured, and where.

    Attributes:
        contenders: names of those who take part.
        core: the CPU core that everything is pinned to; None: not pinned.
        seconds: time of the interleaved rounds of one model.
        min_rounds: rounds that are made however long they take.
        max_rounds: and the most.
        timeout: of one process, in seconds.
        events: how many events the event loops have; 0: none are run.
        symbolic: leave symbolic dims in the files.
        debug: show the tracebacks of the processes.
    """

    contenders: tuple[str, ...]
    core: int | None
    seconds: float = 4.0
    min_rounds: int = 9
    max_rounds: int = 300
    timeout: float = 1800.0
    events: int = 0
    symbolic: bool = False
    debug: bool = False


def run(
    cases: Sequence[Case],
    settings: Settings,
    on_step: Callable[[str, str], None],
    on_result: Callable[[Result], None],
) -> Result:
    """Measures every case.

    Args:
        cases: what to measure.
        settings: how.
        on_step: told the case and what is being done, before each step.
        on_result: given all results so far, after each case.
    """
    work = timing.work_folder()
    cache = work / "cache"
    cache.mkdir(exist_ok=True)
    for old in cache.iterdir():  # so that the first call compiles
        old.unlink()
    peaks = machine_peaks(settings.core)
    results: Result = {"machine": machine(settings) | peaks, "cases": {}}
    for case in cases:
        try:
            found = _case(case, settings, peaks, on_step)
        except Exception as error:  # of one model, which must not cost the others' results
            if settings.debug:
                raise
            found = {"error": f"{type(error).__name__}: {str(error)[:500]}", "bar": case.bar}
        results["cases"][case.name] = found
        on_result(results)
    return results


def _case(
    case: Case, settings: Settings, peaks: Result, on_step: Callable[[str, str], None]
) -> Result:
    on_step(case.name, "build")
    job = prepare(case, settings.symbolic)
    result: Result = {
        "bar": case.bar,
        "series": case.series,
        "dims": dict(case.dims),
        "tolerance": case.tolerance,
    }
    if any(name in OURS for name in settings.contenders):
        on_step(case.name, "generate")
        result["generate"] = _process("generate", job, "", settings)
    result["probe"] = {}
    for name in settings.contenders:
        on_step(case.name, f"first call of {name}")
        result["probe"][name] = _probe(job, name, settings)
    ready = [n for n, r in result["probe"].items() if "error" not in r]
    if ready:
        on_step(case.name, f"time {', '.join(ready)}")
        options = {
            "contenders": ready,
            "seconds": settings.seconds,
            "min_rounds": settings.min_rounds,
            "max_rounds": settings.max_rounds,
            "peak_gflops": peaks["peak_gflops"],
        }
        result["measure"] = _process("measure", job, json.dumps(options), settings)
    if settings.events and "events" in case.tags:
        on_step(case.name, "event loop")
        loops = {"events": settings.events, "repeats": 3, "slots": [1, 2]}
        result["events"] = _process("events", job, json.dumps(loops), settings)
    return result


def _probe(job: Job, name: str, settings: Settings) -> Result:
    first = _process("probe", job, name, settings)
    if name != "sofie-g++" or "error" in first:
        return first
    # The first one compiled: its time counts. The memory is that of a program that is compiled.
    return _process("probe", job, name, settings) | {"first_call_s": first["first_call_s"]}


def prepare(case: Case, symbolic: bool = False) -> Job:
    """Writes the model, its inputs and the outputs that ONNX Runtime without optimisation gives."""
    folder = timing.work_folder() / re.sub(r"\W+", "_", case.name)
    folder.mkdir(parents=True, exist_ok=True)
    for stale in [*folder.glob("*.json"), *folder.glob("generated.*")]:
        stale.unlink()
    model = case.build()
    inputs = make_inputs(case, model)
    if not (symbolic or case.symbolic):
        model = fixed(model, inputs)
    model = modern(model)  # the converter wants sizes
    expected = reference(model, inputs)
    onnx.save(model, folder / "model.onnx")
    write_arrays(folder / "inputs.npz", inputs)
    write_arrays(folder / "expected.npz", expected)
    facts = {"macs": case.macs, "inputs": list(inputs), "outputs": list(expected)}
    (folder / "job.json").write_text(json.dumps(facts))
    return Job(folder)


def reference(model: onnx.ModelProto, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The outputs by ONNX Runtime's Python API with its optimisations off."""
    try:
        import onnxruntime
    except ImportError as error:
        raise timing.BenchError("the reference is missing: pip install onnxruntime") from error
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        names = [o.name for o in session.get_outputs()]
        return dict(zip(names, session.run(names, inputs), strict=True))
    except Exception as error:
        raise timing.BenchError(f"ONNX Runtime does not run it: {str(error)[:300]}") from error


def _process(task: str, job: Job, argument: str, settings: Settings) -> Result:
    """Runs a task of :mod:`rootbench.worker`; a crash or a timeout is a result too."""
    environment = os.environ | {
        "ROOTBENCH_WORK": str(timing.work_folder()),
        "SOFIE_ROOT_CACHE": str(timing.work_folder() / "cache"),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(":"),
    }
    if settings.core is not None:
        environment["ROOTBENCH_CORE"] = str(settings.core)
    if task == "probe" and (counting := timing.counting_library()) is not None:
        environment["LD_PRELOAD"] = str(counting)
    if settings.debug:
        environment["ROOTBENCH_DEBUG"] = "1"
    command = [sys.executable, "-m", "rootbench.worker", task, str(job.folder), argument]
    suffix = f"-{argument}" if task == "probe" else ""
    file = job.folder / f"{task}{suffix}.json"
    try:
        done = subprocess.run(
            command,
            env=environment,
            capture_output=not settings.debug,
            text=True,
            errors="replace",
            timeout=settings.timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"error": f"took longer than {settings.timeout:.0f} s"}
    if not file.exists():
        last = (done.stderr or "").strip().splitlines()[-1:] or [""]
        return {"error": f"the process ended with code {done.returncode}: {last[0][:300]}"}
    return dict(json.loads(file.read_text()))


# ----------------------------------------------------------------------------------------------------
# The machine
# ----------------------------------------------------------------------------------------------------


def machine_peaks(core: int | None) -> Result:
    """FMA peak and memory bandwidth of the core, measured."""
    before = _pin(core)
    lib = timing.library()
    big = 4 * timing.last_level_cache()
    peaks = {"peak_gflops": lib.peak_gflops(0.5), "dram_gbytes_per_s": lib.read_gbytes(big, 0.5)}
    if before is not None:
        os.sched_setaffinity(0, before)
    return peaks


def _pin(core: int | None) -> set[int] | None:
    if core is None or not hasattr(os, "sched_setaffinity"):
        return None
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    return before


def machine(settings: Settings) -> Result:
    """What a reader must know to repeat the measurement."""
    cpu = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        text = Path("/proc/cpuinfo").read_text()
        if found := re.search(r"model name\s*: (.*)", text):
            flags = [f for f in ("avx2", "avx512f", "avx512_vnni") if f" {f}" in text]
            cpu = f"{found[1]} ({', '.join(flags)})"
    versions = {}
    for package in ("ROOT", "onnxruntime", "openvino", "torch", "numpy", "onnx"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "core": settings.core,
        "load_average": os.getloadavg()[0],
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "compiler": _output([*(find_compiler() or ("c++",)), "--version"]),
        "commit": _output(["git", "-C", str(ROOT), "describe", "--always", "--dirty"]),
        "versions": versions,
        "date": datetime.now(timezone.utc).isoformat(timespec="minutes"),
    }


def _output(command: list[str]) -> str:
    with contextlib.suppress(OSError):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stdout.strip().splitlines()[0] if done.stdout.strip() else ""
    return ""
