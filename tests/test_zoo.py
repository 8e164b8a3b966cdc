"""The zoo: networks of the experiments and SOFIE's unit models, against their stored outputs.

Without the zoo these tests are skipped; ``rootbench.zoo_folder`` says where it is looked for.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import fast_math_models
import numpy as np
import pytest
from compiled import Compiled

from rootbench.zoo_folder import ABSENT, ZOO
from sofie_root.model import Model, load

WEAKEST = 1e-4
"""Models may differ by this much, or by the tolerance that the zoo states where that is more."""

QUICK_FAMILIES = ("MLP", "CNN", "RNN")
HEAVY = {"synth_calo_unet3d", "cms_deepvertex_phase1_deepvertexcombined"}
"""Models of those families that take long to compile; they are slow tests."""


@dataclass(frozen=True)
class Entry:
    """A model of the zoo."""

    folder: Path
    meta: dict[str, Any]

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def path(self) -> Path:
        return self.folder / "model.onnx"

    @property
    def tolerance(self) -> float:
        return max(float(self.meta["suggested_rel_tol"]), WEAKEST)

    def sets(self) -> Iterator[tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]:
        """The stored inputs and outputs by the names that the graph gives them."""
        for k in range(3):
            yield self._arrays("inputs", k), self._arrays("outputs", k)

    def _arrays(self, kind: str, k: int) -> dict[str, np.ndarray]:
        with np.load(self.folder / f"{kind}_{k}.npz") as file:
            return {port["name"]: file[port["key"]] for port in self.meta[kind]}


def entries() -> list[Entry]:
    return [
        Entry(path.parent, json.loads((path.parent / "meta.json").read_text()))
        for path in sorted(ZOO.glob("*/*/model.onnx"))
    ]


ENTRIES = entries()
UNITS = [entry for entry in ENTRIES if entry.folder.parent.name == "units"]
NETWORKS = [entry for entry in ENTRIES if entry.folder.parent.name == "models"]
QUICK = [e for e in NETWORKS if e.meta["family"] in QUICK_FAMILIES and e.name not in HEAVY]
REST = [entry for entry in NETWORKS if entry not in QUICK]

EACH_NETWORK = [pytest.param(entry, id=entry.name) for entry in NETWORKS] or [
    pytest.param(None, id="absent", marks=pytest.mark.skip(reason=ABSENT))
]
"""Parameters of tests that run once for each network."""


def groups(all_: list[Entry], size: int) -> list[Any]:
    """Parameters of so many entries each: what is compiled together."""
    if not all_:
        return [pytest.param([], id="absent")]
    parts = [all_[k : k + size] for k in range(0, len(all_), size)]
    return [
        pytest.param(p, id=f"{p[0].name}..{p[-1].name}" if size > 1 else p[0].name) for p in parts
    ]


@pytest.fixture(autouse=True)
def zoo() -> Path:
    if not ZOO.is_dir():
        pytest.skip(ABSENT)
    return ZOO


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    """``max|a - b| / max|a|``; not finite values must be equal and do not count otherwise."""
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    a, b = expected.astype(np.float64), found.astype(np.float64)
    finite = np.isfinite(a)
    np.testing.assert_array_equal(b[~finite], a[~finite])
    if not finite.any():
        return 0.0
    scale = np.max(np.abs(a[finite]))
    apart = np.max(np.abs(a[finite] - b[finite]))
    return float(apart / scale) if scale else float(apart)


def assert_agrees(entry: Entry, library: Compiled, k: int) -> None:
    """All three sets through one Session give the stored outputs."""
    for number, (inputs, expected) in enumerate(entry.sets()):
        found = library.run(k, inputs)
        assert list(found) == list(expected)
        for name, want in expected.items():
            apart = difference(found[name], want)
            assert apart <= entry.tolerance, f"set {number}, output {name}: differs by {apart:.2e}"


WHOLE_BATCH = {"quant_dynamic_exatrkx_filter"}
"""Its DynamicQuantizeLinear takes one scale from all rows."""


def assert_rows_stand_alone(entry: Entry, network: Model, library: Compiled, k: int) -> None:
    """A row of a batch has the bits that it has alone, where the first axis of all is the batch."""
    first = {str(t.shape[0]) if t.shape else "" for t in network.inputs.values()}
    if len(first) > 1 or not first & set(network.symbols) or entry.name in WHOLE_BATCH:
        return
    for inputs, _ in entry.sets():
        count = len(next(iter(inputs.values())))
        together = library.run(k, inputs)
        for row in range(min(count, 3)):
            alone = library.run(k, {n: a[row : row + 1] for n, a in inputs.items()})
            for name, array in together.items():
                if len(array) == count:
                    message = f"row {row} of {count}, output {name}: depends on the other rows"
                    assert array[row : row + 1].tobytes() == alone[name].tobytes(), message


def check_group(group: list[Entry], folder: Path) -> None:
    models = [load(entry.path) for entry in group]
    library = Compiled(models, folder, weights="dat")
    failures = []
    for k, entry in enumerate(group):
        try:
            assert_agrees(entry, library, k)
            assert_rows_stand_alone(entry, models[k], library, k)
        except (AssertionError, RuntimeError) as error:
            failures.append(f"{entry.name}: {error}")
    assert not failures, f"{len(failures)} of {len(group)}:\n" + "\n".join(failures)


def test_the_zoo_is_complete() -> None:
    assert (len(UNITS), len(NETWORKS)) == (78, 34)
    named = HEAVY | WHOLE_BATCH | {*FAST}
    assert named <= {entry.name for entry in NETWORKS}
    assert {entry.meta["family"] for entry in QUICK} == {*QUICK_FAMILIES}


@pytest.mark.parametrize("group", groups(UNITS, 26))
def test_units(group: list[Entry], tmp_path: Path) -> None:
    check_group(group, tmp_path)


@pytest.mark.parametrize("group", groups(QUICK, 10))
def test_dense_convolutional_and_recurrent_networks(group: list[Entry], tmp_path: Path) -> None:
    check_group(group, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("group", groups(REST, 1))
def test_large_networks(group: list[Entry], tmp_path: Path) -> None:
    check_group(group, tmp_path)


def assert_same_code(original: Model, stored: Model) -> None:
    """Text and constants are equal, so what they compute is equal too."""
    one, two = (m.header(stem="m", standalone=False) for m in (original, stored))
    assert one.text == two.text
    assert one.constants.keys() == two.constants.keys()
    for name, array in one.constants.items():
        assert array.dtype == two.constants[name].dtype
        assert array.tobytes() == two.constants[name].tobytes(), name


@pytest.mark.parametrize("group", groups([*UNITS, *QUICK], 1000))
def test_root_files_give_the_same_code(group: list[Entry], tmp_path: Path) -> None:
    for entry in group:
        model = load(entry.path)
        assert_same_code(model, load(model.save(tmp_path / f"{entry.name}.root")))


@pytest.mark.slow
@pytest.mark.parametrize("group", groups(REST, 1))
def test_root_files_of_large_networks_give_the_same_code(
    group: list[Entry], tmp_path: Path
) -> None:
    for entry in group:
        model = load(entry.path)
        assert_same_code(model, load(model.save(tmp_path / f"{entry.name}.root")))


def test_a_root_file_runs_like_the_original(tmp_path: Path) -> None:
    entry = next(e for e in QUICK if e.name == "synth_rnnip_bilstm_gru")
    path = load(entry.path).save(tmp_path / "stored.root")
    assert_agrees(entry, Compiled([load(path)], tmp_path, weights="dat"), 0)


FAST = ["cms_deepflavourv04_12x_training", "cms_hlt_particlenetak4_v01", "exatrkx_gnn"]
"""Networks with many exponentials, divisions and maxima."""


def fast_jobs(folder: Path) -> list[fast_math_models.Job]:
    """The stored inputs of a network, each for a Session of its own."""
    entry = Entry(folder, json.loads((folder / "meta.json").read_text()))
    network = load(entry.path)
    return [(network, inputs) for inputs, _ in entry.sets()]


@pytest.mark.slow
@pytest.mark.parametrize("build", [(), ("-mavx2", "-mfma"), ("-march=x86-64-v4",)])
@pytest.mark.parametrize("name", FAST)
def test_fast_math(name: str, build: tuple[str, ...], tmp_path: Path) -> None:
    (entry,) = [e for e in NETWORKS if e.name == name]
    jobs = partial(fast_jobs, entry.folder)
    results = fast_math_models.run("g++", ("-Ofast", *build), tmp_path, jobs, "dat")
    for found, (_, expected) in zip(results, entry.sets(), strict=True):
        assert not isinstance(found, str), found
        for port, want in expected.items():
            assert difference(found[port], want) <= entry.tolerance
