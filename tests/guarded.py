"""Runs models with every tensor between guard pages, under sanitizers, each call in a process of its own.

Memory errors hide where temporaries share one arena, and masked vector loads hide from the address
sanitizer. Here nothing is shared: each input, output, weight and temporary has pages of its own, and
ends (or begins) at a page that nobody may touch.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from cpp_program import compile_program, run_program

from sofie_root.model import Model
from sofie_root.schedule.memory import Plan
from sofie_root.schedule.schedule import Schedule
from sofie_root.storage import weights as weights_file
from sofie_root.targets.cxx.header import generate

Array = np.ndarray[Any, Any]

ISAS = {"avx512": ("-march=native",), "avx2": ("-mavx2", "-mfma", "-mf16c"), "baseline": ()}
"""Compiler flags by instruction set."""

SANITIZE = ("-O1", "-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover")


@dataclass(frozen=True)
class Crash:
    """What a call said whose process did not end by itself."""

    text: str


@dataclass(frozen=True)
class Refused:
    """The message of the exception that a call threw."""

    text: str


Result = dict[str, Array] | Refused | Crash


def apart(schedule: Schedule) -> Schedule:
    """The schedule with memory of its own for every temporary."""
    plan = schedule.plan
    names = (*plan.offsets, *plan.growing)
    bodies = {name: tuple(map(apart, bodies)) for name, bodies in schedule.bodies.items()}
    return replace(schedule, plan=Plan({}, 0, plan.intermediates, names), bodies=bodies)


@dataclass(frozen=True)
class Call:
    """Inputs for one of the models; ``sizes`` of symbols are read off the inputs where not given."""

    model: int
    inputs: Mapping[str, Array]
    sizes: Mapping[str, int] | None = None


class Guarded:
    """A program with several models.

    Args:
        models: what to compile.
        folder: where source, program and files go.
        flags: of the compiler, see :data:`ISAS` and :data:`SANITIZE`.
        side: 1: tensors end at a guard page; 2: they begin behind one.
    """

    def __init__(
        self,
        models: Sequence[Model],
        folder: Path,
        flags: Sequence[str] = (*SANITIZE, *ISAS["avx512"]),
        side: int = 1,
        compiler: str = "g++",
    ) -> None:
        self.models, self.folder = list(models), folder
        lines = [f"#define SOFIE_GUARD_PAGES {side}", "#include <sofie/core/guarded.hxx>"]
        for k, model in enumerate(self.models):
            header = generate(
                apart(model.schedule),
                stem=f"model_{k}",
                weights="dat",
                standalone=False,
                namespace=f"m{k}",
            )
            (folder / f"model_{k}.hxx").write_text(header.text)
            weights_file.write_dat(folder / f"model_{k}.dat", header.constants, header.model_hash)
            lines.append(f'#include "model_{k}.hxx"')
        tables = ", ".join(f"sofie::runtime::api<m{k}::Session>()" for k in range(len(self.models)))
        lines += [
            f'#include "{Path(__file__).with_name("guarded_calls.hxx")}"',
            "int main(int, char** arguments) {",
            f"  const sofie::runtime::Api* const models[] = {{{tables}}};",
            "  return guarded::main(models, arguments[1], arguments[2]);",
            "}",
        ]
        self.program = compile_program(
            folder, "\n".join(lines) + "\n", (*flags, "-Wno-unused-variable"), compiler
        )

    def run(self, calls: Sequence[Call]) -> list[Result]:
        """What each call gives."""
        given, found = self.folder / "calls", self.folder / "results"
        found.unlink(missing_ok=True)
        with given.open("wb") as file:
            file.write(struct.pack("<Q", len(calls)))
            for call in calls:
                self._write(file, call)
        run_program(
            self.program, str(given), str(found), cwd=self.folder, ASAN_OPTIONS="detect_leaks=0"
        )
        with found.open("rb") as file:
            return [self._read(file, self.models[call.model]) for call in calls]

    def _write(self, file: Any, call: Call) -> None:
        model = self.models[call.model]
        arrays = {
            name: np.asarray(call.inputs[name], type_.dtype.numpy, order="C")
            for name, type_ in model.inputs.items()
        }
        sizes = dict(call.sizes or {})
        for name, type_ in model.inputs.items():
            for d, size in zip(type_.shape, arrays[name].shape, strict=True):
                sizes.setdefault(str(d), size)
        file.write(struct.pack("<Q", call.model))
        file.write(struct.pack(f"<{len(model.symbols)}Q", *(sizes[s] for s in model.symbols)))
        for array in arrays.values():
            file.write(struct.pack("<Q", array.nbytes) + array.tobytes())

    def _read(self, file: Any, model: Model) -> Result:
        (status,) = file.read(1)
        if status:
            (length,) = struct.unpack("<Q", file.read(8))
            text = file.read(length).decode(errors="replace")
            return Refused(text) if status == 1 else Crash(text)
        outputs = {}
        for name, type_ in model.outputs.items():
            shape = struct.unpack(f"<{type_.rank}Q", file.read(8 * type_.rank))
            dtype = np.dtype(type_.dtype.numpy)
            raw = file.read(int(np.prod(shape, dtype=np.int64)) * dtype.itemsize)
            outputs[name] = np.frombuffer(raw, dtype).reshape(shape)
        return outputs
