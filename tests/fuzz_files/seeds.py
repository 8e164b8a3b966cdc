"""What mutations start from: the operators' cases, small models, trees, control flow, models in folders."""

from __future__ import annotations

import functools
import random
import warnings
from collections.abc import Callable
from pathlib import Path

import onnx
from onnx import ModelProto
from operator_cases import CASES
from operator_cases_image import CASES as IMAGE_CASES
from operator_cases_kernels import CASES as KERNEL_CASES
from small_models import SMALL, control_proto
from test_trees import CASES as TREE_CASES

from sofie_root.frontends.onnx import from_proto
from sofie_root.ir import Graph

LARGEST = 60_000
"""Bytes of a model from a folder: larger ones take too long to be changed thousands of times."""


class Seeds:
    """The models, made when they are asked for."""

    def __init__(self, folders: tuple[Path, ...] = ()) -> None:
        cases = [*CASES, *KERNEL_CASES, *IMAGE_CASES]
        # Operators with many cases come up as often as the others.
        groups: dict[str, list[Callable[[], ModelProto]]] = {}
        for case in cases:
            groups.setdefault(case.op_type, []).append(case.model)
            if not case.static:
                groups[case.op_type].append(functools.partial(case.model, True))
        for tree in TREE_CASES:
            groups.setdefault(tree.op_type, []).append(tree.model)
        groups["control"] = [control_proto] * 10
        for path in sorted(p for f in folders for p in f.rglob("*.onnx")):
            if path.stat().st_size < LARGEST:
                groups[str(path)] = [functools.partial(_read, path)]
        self._groups = [groups[name] for name in sorted(groups)]
        self._small = [make for _, make in sorted(SMALL.items())]

    def proto(self, rng: random.Random) -> ModelProto:
        """A model."""
        return rng.choice(rng.choice(self._groups))()

    def graph(self, rng: random.Random) -> Graph:
        """A model that loads."""
        if rng.random() < 0.1:
            return rng.choice(self._small)().graph
        while True:
            try:
                return from_proto(self.proto(rng))
            except Exception:  # a folder's model may be one that is refused
                warnings.warn("a seed is refused", RuntimeWarning, stacklevel=2)


@functools.cache
def _load(path: Path) -> ModelProto:
    return onnx.load(path, load_external_data=False)


def _read(path: Path) -> ModelProto:
    copied = ModelProto()
    copied.CopyFrom(_load(path))
    return copied
