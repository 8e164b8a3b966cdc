"""Where the time of a model goes: an instrumented build takes the time of each step, again and again."""

from __future__ import annotations

import ctypes
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sofie_root.config import VERSION
from sofie_root.errors import InputError, SofieError
from sofie_root.ir.dim import Dim
from sofie_root.program.choice import default_choice
from sofie_root.program.grid import Memory
from sofie_root.program.interpret import read_inputs
from sofie_root.program.statement import Bind, Check
from sofie_root.samples import SIZES, find_sample
from sofie_root.schedule.schedule import Schedule
from sofie_root.schedule.work import operations, shapes, transferred
from sofie_root.storage.weights import dat_bytes
from sofie_root.targets.cxx import header as codegen
from sofie_root.targets.cxx.names import identifier
from sofie_root.targets.cxx.summary import kind_of

from .cache import entry
from .compiler import library_path
from .interpreter import text_digest

if TYPE_CHECKING:
    from sofie_root.model import Model

Array = npt.NDArray[Any]

SECONDS = 1.0
"""Calls are repeated for about so long."""

LEAST, MOST = 10, 10_000
"""Number of calls, at least and at most."""


@dataclass(frozen=True, slots=True)
class StepProfile:
    """One step of a model.

    Attributes:
        step: its number, from 1; sizes and checks between steps are numbered too, but take no time.
        kind: ``nest``, or the name of the operation.
        nodes: names of the model's nodes that it stands for.
        shapes: what it reads and writes.
        microseconds: median over all calls.
        share: of the sum of all steps.
        operations: floating-point operations; None where they are not counted (sorting, control flow), or
            only the run tells how many there are.
        bytes: of what it reads and writes; None where only the run tells.
        roof: share of the roofline: the time that arithmetic at the core's peak or reading all bytes once
            would take, the longer of both, over the time it took. None where operations or bytes are None.
    """

    step: int
    kind: str
    nodes: tuple[str, ...]
    shapes: str
    microseconds: float
    share: float
    operations: int | None
    bytes: int | None
    roof: float | None


@dataclass(frozen=True, slots=True)
class ProfileReport:
    """Where the time of a model goes.

    Attributes:
        model: its name.
        dims: sizes of its symbolic dims.
        steps: in the order in which they run.
        microseconds: sum of the steps' medians.
        calls: how many calls were measured.
        gflops: FMA peak of the core, measured.
        gbytes: GB/s at which it reads a block of the size of all that the model touches, measured.
    """

    model: str
    dims: dict[str, int]
    steps: tuple[StepProfile, ...]
    microseconds: float
    calls: int
    gflops: float
    gbytes: float

    COLUMNS = ("step", "us", "share", "kFLOP", "kB", "of roofline", "nodes", "shapes")

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """The steps as text, in the order of :attr:`COLUMNS`."""
        return [
            (
                f"{s.step} {s.kind}",
                f"{s.microseconds:.2f}",
                f"{100 * s.share:.1f}%",
                "-" if s.operations is None else f"{s.operations / 1e3:.1f}",
                "-" if s.bytes is None else f"{s.bytes / 1e3:.1f}",
                "-" if s.roof is None else f"{100 * s.roof:.0f}%",
                _shortened(", ".join(s.nodes), 40),
                _shortened(s.shapes, 60),
            )
            for s in self.steps
        ]

    @property
    def title(self) -> str:
        """One line about the whole."""
        dims = "".join(f", {name}={size}" for name, size in self.dims.items())
        return (
            f"{self.model}{dims}: {self.microseconds:.2f} us in {len(self.steps)} steps, medians of "
            f"{self.calls} calls; peak {self.gflops:.0f} GFLOP/s, {self.gbytes:.0f} GB/s"
        )

    def json(self) -> str:
        """The report as JSON, with the names of the attributes."""
        return json.dumps(asdict(self), indent=1)

    def __str__(self) -> str:
        lines = [self.COLUMNS, *self.rows]
        widths = [max(len(line[k]) for line in lines) for k in range(len(self.COLUMNS))]
        padded = ["  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)) for r in lines]
        return "\n".join([self.title, *(line.rstrip() for line in padded)])


def _shortened(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 3] + "..."


def profile(
    model: Model,
    inputs: Mapping[str, Array] | None = None,
    dims: Mapping[str, int] | None = None,
    seconds: float = SECONDS,
    exact: bool = False,
    target: str = "cpu",
) -> ProfileReport:
    """Compiles a model with a clock between its steps, and runs it again and again.

    Args:
        model: what to run.
        inputs: arrays by name; random ones if not given.
        dims: sizes of symbolic dims of random inputs; the others are drawn.
        seconds: for about how long.
        exact: see :meth:`sofie_root.model.Model.generate`.
        target: see :meth:`sofie_root.model.Model.generate`.

    Raises:
        ToolchainError: there is no C++ compiler, or it fails.
        InputError: the inputs do not fit, or the model refuses them.
        SofieError: no random inputs were found that the model takes.
    """
    schedule = model.scheduled(default_choice(exact), target)
    build = _Build(model, schedule)
    if inputs is None:
        given: dict[str, Array] = {}

        def accepts(drawn: Mapping[str, Array]) -> Mapping[str, Array]:
            build.run(drawn, 1)
            return {}

        rng = np.random.default_rng(0)
        sample = find_sample(
            model.graph, accepts, rng, SIZES, (InputError,), fixed=dict(dims or {}), least=2
        )
        if sample is None:
            raise SofieError(
                f"{model.name!r} takes none of the random inputs that were tried; give sizes (dims=, "
                "--dim) or inputs (inputs=, --inputs)"
            )
        given = sample.inputs
    else:
        given = {n: np.ascontiguousarray(a) for n, a in inputs.items()}
    memory = Memory(schedule.program, dict(schedule.program.constants), {})
    read_inputs(memory, given)
    once = max(float(build.run(given, 3).sum(axis=1).min()), 1.0)
    calls = int(min(max(seconds * 1e9 / once, LEAST), MOST))
    times = build.run(given, calls)
    return _report(model, schedule, memory, times, build)


def _report(
    model: Model, schedule: Schedule, memory: Memory, times: Array, build: _Build
) -> ProfileReport:
    nanoseconds = np.maximum(np.median(times, axis=0) - build.overhead(), 0.0)
    total = float(nanoseconds.sum()) or 1.0
    counted = [k for k, s in enumerate(schedule.steps) if not isinstance(s, Bind | Check)]
    work = {k: _work(schedule, k, memory) for k in counted}
    weights = sum(a.nbytes for a in schedule.program.constants.values())
    sizes = memory.sizes
    _, arena = schedule.plan.places(lambda symbol: sizes[symbol])
    touched = weights + arena + sum(memory.arrays[n].nbytes for n in schedule.program.inputs)
    gflops, gbytes = build.gflops(), build.gbytes(max(touched, 4096))
    steps = []
    for k in counted:
        step, (flops, moved) = schedule.steps[k], work[k]
        time = float(nanoseconds[k])
        roof = None
        if flops is not None and moved is not None and time > 0:
            roof = max(flops / gflops, moved / gbytes) / time
        kind = kind_of(step)
        nodes = tuple(getattr(step, "origin", ()))
        text = shapes(schedule, k)
        steps.append(
            StepProfile(k + 1, kind, nodes, text, time / 1e3, time / total, flops, moved, roof)
        )
    dims = {s.name: int(sizes[s]) for s in schedule.symbols}
    microseconds = sum(s.microseconds for s in steps)
    return ProfileReport(model.name, dims, tuple(steps), microseconds, len(times), gflops, gbytes)


def _work(schedule: Schedule, k: int, memory: Memory) -> tuple[int | None, int | None]:
    """Operations and bytes of a step, for the sizes of these inputs."""

    def resolve(d: Dim) -> int:
        return memory.size(d)

    try:
        return operations(schedule, k, resolve), transferred(schedule, k, resolve)
    except KeyError:  # a size that only the run tells
        return None, None


class _Build:
    """The instrumented code of one model."""

    def __init__(self, model: Model, schedule: Schedule) -> None:
        header = codegen.generate(
            schedule,
            stem=identifier(model.name),
            weights="dat",
            standalone=False,
            version=VERSION,
            source=model.name,
            inline_user_code=True,
            profile=True,
        )
        self.schedule = schedule
        self.model = model
        source = _source(header.text, header.namespace, schedule)
        has_user_code = any(node.op.is_custom for node in model.graph.all_nodes())
        path = library_path(
            source, text_digest(source), f"profile_{header.namespace}", not has_user_code
        )
        self._weights: bytes | None = None
        if header.constants:
            image = dat_bytes(header.constants, header.model_hash)

            def write(folder: Path) -> None:
                (folder / "model.dat").write_bytes(image)

            key = hashlib.sha256(image).hexdigest()
            folder = entry(f"profile-{key}", write, f"writes the weights of {model.name!r}")
            self._weights = str(folder / "model.dat").encode()
        library = ctypes.CDLL(str(path))
        self._run, self._overhead = library.sofie_profile, library.sofie_profile_overhead
        self._gflops, self._gbytes = library.sofie_peak_gflops, library.sofie_read_gbytes
        for function in (self._overhead, self._gflops, self._gbytes):
            function.restype = ctypes.c_double
        self._gflops.argtypes = (ctypes.c_double,)
        self._gbytes.argtypes = (ctypes.c_size_t, ctypes.c_double)
        size, pointer = ctypes.c_size_t, ctypes.c_void_p
        self._run.argtypes = (ctypes.c_char_p, pointer, pointer, size, pointer, pointer, size)

    def run(self, inputs: Mapping[str, Array], calls: int) -> Array:
        """Nanoseconds of each step in each of so many calls.

        Raises:
            InputError: the inputs do not fit, or the model refuses them.
        """
        program = self.schedule.program
        memory = Memory(program, {}, {})
        read_inputs(memory, inputs)
        arrays = [np.ascontiguousarray(memory.arrays[n]) for n in program.inputs]
        dims = np.asarray([memory.sizes[s] for s in self.schedule.symbols] or [0], np.uintp)
        pointers = np.asarray([a.ctypes.data for a in arrays] or [0], np.uintp)
        times = np.zeros((calls, max(1, len(self.schedule.steps))))
        message = ctypes.create_string_buffer(4096)
        failed = self._run(
            self._weights,
            dims.ctypes.data,
            pointers.ctypes.data,
            calls,
            times.ctypes.data,
            ctypes.addressof(message),
            len(message),
        )
        if failed:
            raise InputError(message.value.decode(errors="replace"))
        return times

    def overhead(self) -> float:
        """Nanoseconds that the clock takes for each step."""
        return float(self._overhead())

    def gflops(self) -> float:
        """FMA peak of this core."""
        return float(self._gflops(0.2))

    def gbytes(self, size: int) -> float:
        """GB/s of a block of that size."""
        return float(self._gbytes(size, 0.1))


def _source(text: str, namespace: str, schedule: Schedule) -> str:
    """The instrumented header with the functions that run it."""
    arguments = [f"dims[{k}]" for k in range(len(schedule.symbols))]
    arguments += [
        f"static_cast<const Session::Input{k}::type*>(in[{k}])"
        for k in range(len(schedule.program.inputs))
    ]
    count = max(1, len(schedule.steps))
    visible = 'extern "C" __attribute__((visibility("default")))'
    return f"""{text}
#include <sofie/core/profile.hxx>
#include <sofie/cpu/peak.hxx>
#include <cstring>
#include <exception>

{visible} int sofie_profile(const char* weights, const std::size_t* dims, const void* const* in,
                            std::size_t calls, double* times, char* message, std::size_t size) {{
  using {namespace}::Session;
  static_cast<void>(dims);
  static_cast<void>(in);
  try {{
    Session session(weights ? weights : "");
    for (std::size_t call = 0; call < calls; ++call) {{
      session.infer({", ".join(arguments)});
      std::memcpy(times + call * {count}, session.profile.nanoseconds, {count} * sizeof(double));
    }}
  }} catch (const std::exception& error) {{
    std::strncpy(message, error.what(), size - 1);
    return 1;
  }}
  return 0;
}}

{visible} double sofie_profile_overhead() {{
  sofie::Profile<1> profile;
  double least = 1e9;
  for (int k = 0; k < 1000; ++k) {{
    profile.start();
    profile.step(0);
    if (profile.nanoseconds[0] < least) least = profile.nanoseconds[0];
  }}
  return least;
}}

{visible} double sofie_peak_gflops(double seconds) {{ return sofie::peak::gflops(seconds); }}

{visible} double sofie_read_gbytes(std::size_t bytes, double seconds) {{
  return sofie::peak::read_gbytes(bytes, seconds);
}}
"""


__all__ = ["ProfileReport", "StepProfile", "profile"]
