"""Convolution by Winograd's algorithm: its matrices, every tile against direct convolution, its choice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from compiled import Compiled
from kernel_names import kernel_name
from operator_case import Case

from sofie_root.frontends.onnx import from_proto
from sofie_root.model import Model
from sofie_root.program.choice import VARIABLE, default_choice
from sofie_root.program.interpret import interpret
from sofie_root.program.lower import lower
from sofie_root.program.operation import Operation
from sofie_root.schedule.inline import Decisions
from sofie_root.targets.cpu.choose import choose_forms
from sofie_root.targets.cpu.kernels import winograd
from sofie_root.targets.cpu.target import CPU

KERNELS = ((3,), (5,), (3, 3), (5, 5), (1, 3), (3, 5))


@pytest.mark.parametrize("r", [1, 3, 5])
@pytest.mark.parametrize("m", [1, 2, 4])
def test_matrices(m: int, r: int) -> None:
    if (m == 1) != (r == 1):
        return
    forward, weights, back = winograd.transforms(m, r)
    d, g = np.random.default_rng(m + r).normal(size=(2, m + r - 1))
    y = back @ ((weights @ g[:r]) * (forward @ d))
    np.testing.assert_allclose(y, np.correlate(d, g[:r], "valid"), rtol=1e-12, atol=1e-12)
    for matrix in (forward, back):
        np.testing.assert_array_equal(matrix.astype(np.float32), matrix)


@pytest.mark.parametrize("outputs", [1, 16, 17, 32, 40, 64, 70])
def test_packed_weights(outputs: int) -> None:
    w = np.random.default_rng(0).normal(size=(outputs, 3, 3, 3)).astype(np.float32)
    plain = winograd.unpack(winograd.pack(w, (2, 2), transformed=False), outputs, (3, 9))
    np.testing.assert_array_equal(plain.transpose(2, 0, 1), w.reshape(outputs, 3, 9))
    u = winograd.unpack(winograd.pack(w, (2, 2)), outputs, (16, 3))
    g = winograd.transforms(2, 3)[1]
    expected = np.einsum("ia,jb,ocab->ijco", g, g, w).reshape(16, 3, outputs)
    np.testing.assert_allclose(u, expected, rtol=1e-6, atol=1e-6)


def test_tiles() -> None:
    assert winograd.tiles((3, 3)) == [(2, 2), (4, 4)]
    assert winograd.tiles((1, 5)) == [(1, 2), (1, 4)]
    assert winograd.tiles((3,)) == [(2,), (4,)]
    assert not any(map(winograd.tiles, [(1, 1), (1,), (7, 7), (3, 4), (3, 3, 3)]))


def test_cost_follows_the_layer() -> None:
    def best(channels: int, size: int, kernel: int) -> tuple[int, ...]:
        sizes, area = (kernel, kernel), (size, size)
        return min(
            winograd.tiles(sizes),
            key=lambda tile: winograd.cost(channels, channels, sizes, area, tile),
        )

    assert best(64, 56, 3) == best(64, 100, 5) == (4, 4)
    assert best(512, 7, 3) == (2, 2)  # few tiles: what counts is to read the weights


def _cases() -> list[tuple[Case, tuple[int, ...]]]:
    """Every kernel and tile; planes smaller than a tile, channels that fill no vector, and a batch."""
    rng = np.random.default_rng(0)
    found = []
    for kernel in KERNELS:
        for tile in winograd.tiles(kernel):
            for n, channels, outputs, sizes in ((1, 16, 32, (5, 3)), (2, 5, 35, (14, 23))):
                rank = len(kernel)
                x = rng.normal(size=(n, channels, *sizes[:rank])).astype(np.float32)
                w = rng.normal(size=(outputs, channels, *kernel)).astype(np.float32)
                bias = rng.normal(size=outputs).astype(np.float32)
                pads = [k // 2 for k in kernel] + [2] * rank
                name = f"{len(found)}_{kernel}_{tile}"
                given: tuple[np.ndarray | None, ...] = (x, w, bias)
                constants = frozenset((1, 2))
                case = Case(name, "Conv", given, {"pads": pads}, constants, tolerance=1e-4)
                found.append((case, tile))
    return found


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setenv(VARIABLE, "always")
    return monkeypatch


def _model(
    case: Case,
    tile: tuple[int, ...],
    symbolic: bool,
    always: pytest.MonkeyPatch,
    transformed: bool = True,
) -> Model:
    """The model, scheduled with this tile (which it remembers)."""
    model = Model(from_proto(case.model(symbolic)))
    with always.context() as forced:
        forced.setattr(winograd, "tiles", lambda _: [tile])
        forced.setattr(winograd, "_stores_transformed", lambda *_: transformed)
        kernels = [s for s in model.schedule.steps if isinstance(s, Operation)]
    (kernel,) = kernels
    assert isinstance(kernel, winograd.Winograd)
    assert kernel.tile == tile
    return model


@pytest.mark.parametrize("transformed", [True, False])
@pytest.mark.parametrize(("case", "tile"), _cases(), ids=str)
def test_reference(
    case: Case, tile: tuple[int, ...], transformed: bool, always: pytest.MonkeyPatch
) -> None:
    always.setattr(winograd, "tiles", lambda _: [tile])
    always.setattr(winograd, "_stores_transformed", lambda *_: transformed)
    program = lower(from_proto(case.model()), default_choice(), CPU)
    choose_forms(program, Decisions())
    (kernel,) = [s for s in program.statements if isinstance(s, Operation)]
    assert isinstance(kernel, winograd.Winograd)
    case.check(list(interpret(program, case.feeds).values()), "interpreted")


def test_generated_code(tmp_path: Path, always: pytest.MonkeyPatch) -> None:
    cases = _cases()
    models = [
        _model(case, tile, k % 3 == 0, always, transformed=k % 4 > 1)
        for k, (case, tile) in enumerate(cases)
    ]
    library = Compiled(models, tmp_path)
    for k, (case, _) in enumerate(cases):
        case.check(list(library.run(k, case.feeds).values()), "generated")


def test_rows_of_a_batch_do_not_depend_on_it(tmp_path: Path, always: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(7, 20, 9, 10)).astype(np.float32)
    w = rng.normal(size=(40, 20, 3, 3)).astype(np.float32)
    case = Case("batch", "Conv", (x, w), {"pads": [1] * 4}, frozenset((1,)))
    library = Compiled([_model(case, (4, 4), True, always)], tmp_path)
    whole = library.run(0, {"x0": x})["y0"]
    for n in range(7):
        np.testing.assert_array_equal(library.run(0, {"x0": x[n : n + 1]})["y0"][0], whole[n])


@pytest.mark.usefixtures("always")
def test_exact_forbids_it() -> None:
    model = Model(from_proto(_cases()[0][0].model()))
    exact = model.scheduled(default_choice(exact=True))
    used = [
        [kernel_name(s) for s in scheduled.steps if isinstance(s, Operation)]
        for scheduled in (model.schedule, exact)
    ]
    assert used[0] == ["winograd"]
    assert "winograd" not in used[1]
