"""Makes a mutated file from a number, and does with it what a user would do."""

from __future__ import annotations

import contextlib
import functools
import json
import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from onnx import ModelProto

from sofie_root.budget import Budget
from sofie_root.errors import BudgetError, SofieError, StorageError
from sofie_root.frontends.onnx import from_proto
from sofie_root.model import load
from sofie_root.storage.weights import parse_dat

from . import cache_entries, description, graphs, protobuf, weights
from .seeds import Seeds
from .values import damaged

BUDGET = Budget(work=300_000_000, memory=256 << 20)
"""What a mutated model may take; a small one, so that a hang is told from much work."""

TARGETS = ("onnx", "onnx-bytes", "root", "root-bytes", "dat", "cache")
SHARES = {"onnx": 38, "onnx-bytes": 7, "root": 33, "root-bytes": 10, "dat": 10, "cache": 2}


@dataclass(frozen=True)
class Mutation:
    """A mutated file.

    Attributes:
        target: what kind of file it is; one of TARGETS.
        what: what was changed, for people.
        data: the file.
    """

    target: str
    what: str
    data: bytes


def _rng(seed: int, number: int) -> random.Random:
    return random.Random(f"{seed}/{number}")


def target_of(seed: int, number: int, targets: tuple[str, ...] = TARGETS) -> str:
    """Which kind of file this mutation is of."""
    return random.Random(f"{seed}/{number}/target").choices(targets, [SHARES[t] for t in targets])[
        0
    ]


def mutation(seeds: Seeds, seed: int, number: int, targets: tuple[str, ...] = TARGETS) -> Mutation:
    """The mutation of this number."""
    rng, target = _rng(seed, number), target_of(seed, number, targets)
    if target == "dat":
        data, what = weights.mutated(rng)
        return Mutation(target, what, data)
    if target == "onnx-bytes":
        proto, other = seeds.proto(rng), seeds.proto(rng).SerializeToString()
        return Mutation(target, proto.graph.name, damaged(rng, proto.SerializeToString(), other))
    if target == "onnx":
        proto, other_proto = _grown(seeds, rng, 0.4), seeds.proto(rng)
        graph = proto.graph
        texts = [v for n in graph.node for v in (*n.input, *n.output)] + [
            i.name for i in graph.input
        ]
        texts += [n.op_type for n in (*graph.node, *other_proto.graph.node)]
        count = rng.choice([0, 1, 1, 1, 2, 3, 6])
        done = [protobuf.change(proto, rng, other_proto, texts) for _ in range(count)]
        return Mutation(target, f"{graph.name}: {', '.join(done)}", proto.SerializeToString())
    graph_ = seeds.graph(rng)
    with contextlib.suppress(SofieError):
        graph_ = from_proto(_grown(seeds, rng, 0.6))
    document, trees = description.document_of(graph_), description.trees_of(graph_)
    if target == "root-bytes":
        if rng.random() < 0.5:
            data = damaged(rng, description.container(document, trees))
            return Mutation(target, graph_.name, data)
        text = json.dumps(document | {"checksum": ""}).encode()
        changed = damaged(rng, text).decode("utf-8", "replace")
        return Mutation(target, f"{graph_.name}: text", description.written(changed, trees))
    other_document = description.document_of(seeds.graph(rng))
    done = [
        description.change(document, rng, other_document)
        for _ in range(rng.choice([1, 1, 1, 2, 3, 6]))
    ]
    if rng.random() < 0.1:
        done.append(description.change_trees(trees, rng))
    data = description.container(document, trees, rng.random() < 0.99)
    return Mutation(target, f"{graph_.name}: {', '.join(done)}", data)


def _grown(seeds: Seeds, rng: random.Random, share: float) -> ModelProto:
    """A model, to which others may have been added, some of its inputs being constants."""
    proto = seeds.proto(rng)
    for _ in range(rng.choice([1, 2, 3, 6])):
        if rng.random() < share:
            graphs.graft(proto, seeds.proto(rng), rng)
        if rng.random() < share / 2:
            graphs.freeze(proto, rng)
    return proto


class Attempt:
    """What a worker process calls: ``attempt(number)`` tries one mutation."""

    def __init__(
        self,
        seed: int,
        targets: Sequence[str] = TARGETS,
        folders: Sequence[str | Path] = (),
        keep: str | Path | None = None,
    ) -> None:
        self.seed, self.targets = seed, tuple(targets)
        self.keep = None if keep is None else Path(keep)
        self.seeds = Seeds(tuple(map(Path, folders)))
        self._folder = tempfile.TemporaryDirectory(prefix="sofie_root-fuzz-")
        self.folder = Path(self._folder.name)

    def __call__(self, number: int) -> str:
        """Tries one mutation.

        Returns:
            ``"accepted"``, or the kind of SofieError that refused it. Anything else is an exception.
        """
        target = target_of(self.seed, number, self.targets)
        if target == "cache":
            return self.cache.attempt(_rng(self.seed, number), BUDGET)
        made = mutation(self.seeds, self.seed, number, self.targets)
        if target == "dat":
            return self._dat(made.data)
        suffix = ".onnx" if target.startswith("onnx") else ".root"
        path = self.folder / f"m{number}{suffix}"
        path.write_bytes(made.data)
        try:
            return self._load(path, number)
        except SofieError as error:
            text = str(error)
            if (
                isinstance(error, BudgetError)
                and error.resource == "memory"
                and error.wanted is None
            ):
                raise MemoryError(f"the budget did not stop it: {text}") from error
            assert len(text) > 10, "an error that says nothing"
            return type(error).__name__
        finally:
            path.unlink()

    @functools.cached_property
    def cache(self) -> cache_entries.Entries:
        """The cache entries that are damaged."""
        return cache_entries.Entries(self.folder)

    def _load(self, path: Path, number: int) -> str:
        model = load(path, budget=BUDGET)
        text = str(model)
        assert text
        header = model.header(stem=f"m{number}", standalone=False)
        if (
            path.suffix == ".onnx" and number % 4 == 0
        ):  # what was loaded can be stored, and is the same then
            stored = model.save(path.with_suffix(".root"))
            again = load(stored, budget=BUDGET)
            stored.unlink()
            found = again.header(stem=f"m{number}", standalone=False).text
            assert found == header.text, "the .root file gives another header"
        if self.keep is not None:
            whole = model.header(stem=f"m{number}", weights="embedded", standalone=False)
            (self.keep / f"m{number}.hxx").write_text(whole.text, encoding="utf-8")
        return "accepted"

    def _dat(self, data: bytes) -> str:
        try:
            parse_dat(data, file="m.dat")
        except StorageError:
            return "StorageError"
        return "accepted"
