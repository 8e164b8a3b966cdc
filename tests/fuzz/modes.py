"""How a graph is generated, compiled and run: drawn from its seed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from unittest import mock

import numpy as np

from sofie_root.program.choice import VARIABLE

BATCH = 32
"""Graphs in one translation unit: seeds with the same quotient have the same compiler and flags."""

TARGETS = {
    "AVX-512": ("-march=native",),
    "AVX2": ("-march=x86-64-v3",),
    "baseline": ("-march=x86-64",),
}
BUILDS = {
    ("clang++", "-O0"): 0.5,
    ("g++", "-O1"): 0.3,
    ("g++", "-O2"): 0.1,
    ("clang++", "-O1"): 0.1,
}
"""Share of compilers and levels; clang without optimisation takes half the time of the others."""
ENGINES = {"cling": 0.04, "session": 0.03, "stages": 0.1}
"""Share of batches that go another way."""


@dataclass(frozen=True, order=True)
class Mode:
    """One way.

    Attributes:
        engine: ``"batch"`` for one program of many graphs; ``"cling"`` or ``"session"`` (its compiler) for
            ``Model.session``; ``"stages"`` for the interpreter after scheduling.
        compiler: of a batch.
        level: of optimisation.
        target: instruction set.
        kernels: see :class:`sofie_root.program.choice.Choice`.
        exact: likewise.
        guard: 1: temporaries and weights of a batch end at a page that nobody may touch; 2: they begin
            behind one; 0: they share memory, as they do for users.
    """

    engine: str = "batch"
    compiler: str = "g++"
    level: str = "-O1"
    target: str = "AVX-512"
    kernels: str = "auto"
    exact: bool = False
    guard: int = 0

    @property
    def flags(self) -> tuple[str, ...]:
        guard = (f"-DSOFIE_GUARD_PAGES={self.guard}", "-Wno-unused-variable") if self.guard else ()
        return ("-std=c++17", self.level, *TARGETS[self.target], "-Wall", "-Wextra", *guard)

    @property
    def build(self) -> str:
        """What the graphs of a translation unit share."""
        if self.engine != "batch":
            return self.engine
        guard = f" guard {self.guard}" if self.guard else ""
        return f"{self.compiler} {self.level} {self.target}{guard}"

    def __str__(self) -> str:
        exact = ", exact" if self.exact else ""
        return f"{self.build}, kernels {self.kernels}{exact}"

    @contextmanager
    def chosen(self) -> Iterator[None]:
        """Makes sofie_root choose these kernels."""
        with mock.patch.dict("os.environ", {VARIABLE: self.kernels}):
            yield


def mode_of(seed: int) -> Mode:
    """The mode of a seed."""
    shared = np.random.default_rng([21, seed // BATCH])
    own = np.random.default_rng([22, seed])
    draw = float(shared.random())
    engine = "batch"
    for name, share in ENGINES.items():
        if 0 <= draw < share:
            engine = name
        draw -= share
    compiler, level = list(BUILDS)[int(shared.choice(len(BUILDS), p=list(BUILDS.values())))]
    return Mode(
        engine,
        compiler,
        level,
        list(TARGETS)[int(shared.choice(3, p=[0.5, 0.25, 0.25]))],
        ("auto", "always", "never")[int(own.choice(3, p=[0.5, 0.3, 0.2]))],
        bool(own.random() < 0.2),
        int(shared.choice(3, p=[0.7, 0.2, 0.1])) if engine == "batch" else 0,
    )


__all__ = ["BATCH", "Mode", "mode_of"]
