"""Runs the benchmark: prepares each model, and starts the processes that measure it."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from sofie_root.runtime.compiler import find_compiler

from . import timing
from .events import event_loops
from .findings import RIVALS
from .models import Case, fixed, is_modern, make_inputs, modern
from .net import Net
from .peers import CONTENDERS, OURS, Job, NotMeasured
from .peers.base import write_arrays

Result = dict[str, Any]
EVENT_SECONDS = 1.0
"""About how long an event loop takes with one slot."""
ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Settings:
    """How much is measured, and where.

    Attributes:
        contenders: names of those who take part.
        own_only: those of them who take part only with the benchmark's own models, but the heaviest.
        core: the CPU core that everything is pinned to; None: not pinned.
        seconds: time of the interleaved rounds of one model.
        min_rounds: rounds that are made however long they take.
        max_rounds: and the most.
        limit: seconds that all processes of one model may take together.
        events: whether models that are tagged so run in event loops too.
        symbolic: leave symbolic dims in the files.
        debug: show the tracebacks of the processes.
    """

    contenders: tuple[str, ...]
    core: int | None
    seconds: float = 1.5
    min_rounds: int = 7
    max_rounds: int = 300
    limit: float = 400.0
    events: bool = False
    own_only: tuple[str, ...] = ()
    symbolic: bool = False
    debug: bool = False


def run(
    cases: Sequence[Case],
    settings: Settings,
    on_step: Callable[[str, str], None],
    on_result: Callable[[Result], None],
    earlier: Result | None = None,
) -> Result:
    """Measures every case.

    Args:
        cases: what to measure.
        settings: how.
        on_step: told the case and what is being done, before each step.
        on_result: given all results so far, after each case.
        earlier: results of a run that was interrupted: what it measured is kept.
    """
    work = timing.work_folder()
    cache = work / "cache"
    shutil.rmtree(cache, ignore_errors=True)  # so that the first call compiles
    cache.mkdir()
    here = machine(settings) | machine_peaks(settings.core)
    found = {} if earlier is None else _to_keep(earlier, here)
    here["library_bytes"] = _library_bytes(settings)
    results: Result = {"machine": here, "cases": {}}
    for case in cases:
        if case.name not in found:
            start = time.monotonic()
            try:
                result = _case(case, settings, here["peak_gflops"], on_step)
            except Exception as error:  # of one model, which must not cost the others' results
                if settings.debug:
                    raise
                result = {"error": f"{type(error).__name__}: {str(error)[:500]}", "bar": case.bar}
            found[case.name] = result | {"took_s": time.monotonic() - start}
        results["cases"] = {c.name: found[c.name] for c in cases if c.name in found}
        on_result(results)
    return results


def _library_bytes(settings: Settings) -> dict[str, int]:
    """Anonymous memory that a peer takes for a model that does next to nothing: its own."""
    net = Net("empty")
    shape = {net("Relu", net.input("x", 1, 1)): [1, 1]}
    job = prepare(Case("empty", partial(net.model, shape)))
    end = time.monotonic() + settings.limit
    names = [n for n in settings.contenders if n in RIVALS]
    probes = {n: _missing(n) or _process("probe", job, n, settings, end) for n in names}
    return {n: p["memory_bytes"] for n, p in probes.items() if "memory_bytes" in p}


def _missing(name: str) -> Result | None:
    """Why a contender is not here at all, which needs no process to tell."""
    try:
        CONTENDERS[name].check()
    except NotMeasured as error:
        return {"error": str(error)}
    return None


def _to_keep(earlier: Result, machine: Result) -> dict[str, Result]:
    """The cases of an earlier run that were measured as this one would."""
    for what in ("commit", "cpu", "versions", "contenders"):
        before, now = earlier["machine"].get(what), machine[what]
        if before != now:
            raise timing.BenchError(
                f"--resume needs the same {what}: the earlier run has {before}, this one {now}; "
                "run it again without --resume"
            )
    return {name: c for name, c in earlier["cases"].items() if "results" in c.get("measure", {})}


def _case(
    case: Case, settings: Settings, peak_gflops: float, on_step: Callable[[str, str], None]
) -> Result:
    on_step(case.name, "build")
    job = prepare(case, settings.symbolic)
    end = time.monotonic() + settings.limit

    def process(task: str, argument: str = "") -> Result:
        return _process(task, job, argument, settings, end)

    left_out = settings.own_only if case.tags & {"zoo", "heavy"} else ()
    contenders = [n for n in settings.contenders if n not in left_out]
    result: Result = {
        "bar": case.bar,
        "exact_bar": case.exact_bar,
        "series": case.series,
        "dims": dict(case.dims),
        "tolerance": case.tolerance,
    }
    if any(name in OURS for name in contenders):
        on_step(case.name, "generate")
        result["generate"] = process("generate")
        if "sofie-exact" in contenders and not result["generate"].get("exact_differs"):
            contenders.remove("sofie-exact")  # it would be the same code
    probes = result["probe"] = {}
    for name in contenders:
        on_step(case.name, f"first call of {name}")
        probes[name] = first = _missing(name) or process("probe", name)
        if name == "sofie-g++" and "error" not in first:
            # It compiled: that time counts. The memory is that of a program that is compiled.
            probes[name] = process("probe", name) | {"first_call_s": first["first_call_s"]}
    while ready := [n for n in probes if "error" not in probes[n]]:
        on_step(case.name, f"time {', '.join(ready)}")
        options = {
            "contenders": ready,
            "seconds": settings.seconds,
            "min_rounds": settings.min_rounds,
            "max_rounds": settings.max_rounds,
            "peak_gflops": peak_gflops,
        }
        result["measure"] = process("measure", json.dumps(options))
        at_work = job.folder / "at-work"
        if "error" not in result["measure"] or not at_work.exists():
            break
        # Whoever was at work took the others with it: once more without it.
        probes[at_work.read_text().strip()] = result["measure"]
        at_work.unlink()
    if settings.events and "events" in case.tags:
        on_step(case.name, "event loop")
        single = result.get("measure", {}).get("results", {}).get("sofie-cling")
        if single is not None:
            end = time.monotonic() + settings.limit  # it has a time of its own
            loop = partial(process, "events")
            result["events"] = event_loops(job, loop, EVENT_SECONDS, single["warm"]["median"])
            for file in job.folder.glob("events*.root"):
                file.unlink()
    return result


def prepare(case: Case, symbolic: bool = False) -> Job:
    """Writes the model, its inputs and the outputs that ONNX Runtime without optimisation gives."""
    folder = timing.work_folder() / re.sub(r"\W+", "_", case.name)
    folder.mkdir(parents=True, exist_ok=True)
    for stale in [*folder.glob("*.json"), *folder.glob("generated.*")]:
        stale.unlink()
    model = case.build()
    inputs = make_inputs(case, model)
    if not (symbolic or case.symbolic) or not is_modern(model):  # the converter wants sizes
        model = fixed(model, inputs)
    model = modern(model)
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


def _process(task: str, job: Job, argument: str, settings: Settings, end: float) -> Result:
    """Runs a task of :mod:`rootbench.worker`; a crash or the end of the time is a result too."""
    environment = os.environ | {
        "ROOTBENCH_WORK": str(timing.work_folder()),
        "SOFIE_ROOT_CACHE": str(timing.work_folder() / "cache"),
        "TORCHINDUCTOR_CACHE_DIR": str(timing.work_folder() / "cache" / "inductor"),
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
    file.unlink(missing_ok=True)
    log = job.folder / "log.txt"
    late = {"error": f"the model's time is over: --limit {settings.limit:.0f} seconds"}
    if time.monotonic() > end:
        return late
    with log.open("wb") as written:
        output = None if settings.debug else written
        # With a group of its own, so that a compiler that it started ends with it.
        child = subprocess.Popen(
            command, env=environment, stdout=output, stderr=output, start_new_session=True
        )
        try:
            code = child.wait(max(0.0, end - time.monotonic()))
        except BaseException as error:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            if isinstance(error, subprocess.TimeoutExpired):
                return late
            raise
    if not file.exists():
        last = log.read_text(errors="replace").strip().splitlines()[-1:] or [""]
        return {"error": f"the process ended with code {code}: {last[0][:300]}"}
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
        "contenders": list(settings.contenders),
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
