"""``python -m rootbench.zoo``: every ONNX model of the zoo, checked and described in one table.

Columns: largest difference over the stored input sets (max|a-b| / max|a|), the same after a ``.root``
round trip, seconds to load and generate, seconds to compile with cling and with the C++ compiler
(``-`` where not asked for), arena bytes and sum of intermediates for the first input set, size of the
generated text without the kernels.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import sofie_root
from sofie_root.check import compare
from sofie_root.errors import SofieError
from sofie_root.ir.dim import Symbol, single_atom, value_of

from .zoo_folder import ZOO

Array = npt.NDArray[Any]
FLOOR = 1e-4
COLUMNS = (
    "model", "tol", "diff", ".root diff", "generate s", "cling s", "compiler s", "arena B",
    "intermediates B", "text kB", "",
)  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Prints the table as Markdown; 1 where a model differs or fails."""
    parser = argparse.ArgumentParser(prog="python -m rootbench.zoo", description=__doc__)
    parser.add_argument("models", nargs="*", help="parts of names; all if none is given")
    parser.add_argument("--zoo", type=Path, default=ZOO, help="folder of the zoo")
    parser.add_argument("--units", action="store_true", help="the unit models instead")
    parser.add_argument("--cling", action="store_true", help="time cling too")
    options = parser.parse_args(arguments)
    os.environ.setdefault("SOFIE_ROOT_CACHE", tempfile.mkdtemp(prefix="sofie_root-zoo-"))
    print("| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS))
    bad = 0
    for folder in _folders(options.zoo / ("units" if options.units else "models"), options.models):
        row, fine = _row(folder, options.cling)
        bad += not fine
        print("| " + " | ".join(row) + " |", flush=True)
    print(f"\n{bad} of these differ or fail", file=sys.stderr)
    return 1 if bad else 0


def _folders(root: Path, parts: list[str]) -> Iterator[Path]:
    for folder in sorted(root.iterdir()):
        chosen = not parts or any(part in folder.name for part in parts)
        if chosen and (folder / "model.onnx").is_file():
            yield folder


def _row(folder: Path, cling: bool) -> tuple[list[str], bool]:
    meta = json.loads((folder / "meta.json").read_text())
    tolerance = max(meta["suggested_rel_tol"], FLOOR)
    try:
        start = time.perf_counter()
        model = sofie_root.load(folder / "model.onnx")
        header = model.header(standalone=False)
        generated = time.perf_counter()
        session = model.session(jit="compiler")
        compiled = time.perf_counter()
        diff = _difference(folder, meta, session)
        stored = _difference(folder, meta, _through_root(model).session(jit="compiler"))
        cling_time = "-"
        if cling:
            before = time.perf_counter()
            model.session(jit="cling")
            cling_time = f"{time.perf_counter() - before:.1f}"
    except SofieError as error:
        reason = str(error).splitlines()[0][:120]
        return [folder.name, *["-"] * (len(COLUMNS) - 2), reason], False
    sizes = _sizes(model, folder, meta)
    plan = model.schedule.plan
    total = value_of(plan.intermediates, lambda a: sizes[a.name])  # type: ignore[attr-defined]
    fine = diff <= tolerance and stored <= tolerance
    return [
        folder.name,
        f"{tolerance:.0e}",
        f"{diff:.1e}",
        f"{stored:.1e}",
        f"{generated - start:.2f}",
        cling_time,
        f"{compiled - generated:.1f}",
        str(plan.arena_bytes(sizes)),
        str(total),
        f"{len(header.text) / 1000:.0f}",
        "ok" if fine else "DIFFERS",
    ], fine


def _difference(folder: Path, meta: dict[str, Any], session: Any) -> float:
    """The largest relative difference over the three sets, in one Session."""
    worst = 0.0
    for k in range(3):
        given, expected = (np.load(folder / f"{kind}_{k}.npz") for kind in ("inputs", "outputs"))
        results = session.run({x["name"]: given[x["key"]] for x in meta["inputs"]})
        for x in meta["outputs"]:
            found = compare(expected[x["key"]], results[x["name"]])
            worst = max(worst, float("inf") if found.problem else found.max_rel)
    return worst


def _through_root(model: sofie_root.Model) -> sofie_root.Model:
    with tempfile.TemporaryDirectory() as scratch:
        return sofie_root.load(model.save(Path(scratch, "model.root")))


def _sizes(model: sofie_root.Model, folder: Path, meta: dict[str, Any]) -> dict[str, int]:
    """The size symbols in the first input set."""
    given = np.load(folder / "inputs_0.npz")
    keys = {x["name"]: x["key"] for x in meta["inputs"]}
    sizes: dict[str, int] = {}
    for name, type_ in model.inputs.items():
        for d, extent in zip(type_.shape, given[keys[name]].shape, strict=True):
            atom = single_atom(d)
            if isinstance(atom, Symbol):
                sizes[atom.name] = extent
    return sizes


if __name__ == "__main__":
    sys.exit(main())
