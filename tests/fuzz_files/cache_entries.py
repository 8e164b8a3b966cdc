"""Damage to what is kept of a model between processes: whatever happens, the same comes back."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from small_models import SMALL

from sofie_root.budget import Budget
from sofie_root.model import Model
from sofie_root.runtime.cache import CHECKSUMS
from sofie_root.runtime.generated import Generated, generated

from .values import TEXTS, damaged, integer


class Entries:
    """Cache entries of small models, in a cache of their own; each is mended by what uses it."""

    def __init__(self, folder: Path) -> None:
        self.cache = folder / "cache"
        self.cache.mkdir(mode=0o700)
        self.models: list[Model] = [make() for _, make in sorted(SMALL.items())]
        self.expected: dict[int, tuple[Path, Any]] = {}

    def attempt(self, rng: random.Random, budget: Budget) -> str:
        """Damages an entry and asks for it."""
        with _environment("SOFIE_ROOT_CACHE", str(self.cache)), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            at = rng.randrange(len(self.models))
            if at not in self.expected:
                before = set(self.cache.iterdir())
                found = _content(generated(self.models[at]))
                (path,) = {
                    p for p in set(self.cache.iterdir()) - before if not p.name.startswith(".")
                }
                self.expected[at] = path, found
            path, expected = self.expected[at]
            what = _damage(path, rng)
            found = _content(generated(self.models[at]))
            assert _same(found, expected), f"{what}: another model came back"
            assert (path / CHECKSUMS).is_file(), f"{what}: the entry was not mended"
        return "mended"


def _content(found: Generated) -> Any:
    weights = b"" if found.weights is None else Path(found.weights).read_bytes()
    return found.text, weights, dict(found.inputs), dict(found.outputs)


def _same(a: Any, b: Any) -> bool:
    return bool(
        a[:2] == b[:2]
        and all(
            x.keys() == y.keys() and all(np.array_equal(x[k], y[k]) for k in x)
            for x, y in zip(a[2:], b[2:], strict=True)
        )
    )


def _damage(path: Path, rng: random.Random) -> str:
    """Changes one thing of an entry that its checksums do not stand for."""
    files = sorted(p for p in path.iterdir())
    file = rng.choice(files)
    kind = rng.randrange(10)
    if kind < 4:
        data = file.read_bytes()
        changed = damaged(rng, data, rng.choice(files).read_bytes())
        file.write_bytes(changed if changed != data else data + b"x")
    elif kind == 4:
        file.unlink()
    elif kind == 5:
        file.unlink()
        rng.choice([file.mkdir, lambda: os.mkfifo(file), lambda: file.symlink_to("/dev/zero")])()
    elif kind == 6:  # a list of checksums that fits itself
        lines = [
            f"{integer(rng):x}"[-32:].rjust(32, "0") + f"  {rng.choice(TEXTS)}\n" for _ in range(3)
        ]
        text = "".join(lines).encode()
        (path / CHECKSUMS).write_bytes(text + f"{xxhash.xxh128_hexdigest(text)}\n".encode())
    elif kind == 7:
        shutil.rmtree(path)
        rng.choice([lambda: None, path.touch, path.mkdir, lambda: path.symlink_to(path)])()
    elif kind == 8:
        file.chmod(rng.choice([0o777, 0o000]))
        path.chmod(rng.choice([0o777, 0o755]))
        if os.geteuid() == 0:  # nothing is forbidden to root, so that it may be as it was
            file.write_bytes(b"")
    else:
        os.truncate(file, rng.randrange(file.stat().st_size) if file.stat().st_size else 1)
    return f"{file.name}, damage {kind}"


@contextlib.contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
