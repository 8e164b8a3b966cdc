"""Operator cases, small models and the zoo with every tensor between guard pages, under sanitizers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from guarded import ISAS, SANITIZE, Call, Guarded
from operator_case import Case
from small_models import SMALL, attention
from test_compiled_operators import EVERY
from test_zoo import EACH_NETWORK, Entry, difference

from sofie_root.frontends.onnx import from_proto
from sofie_root.model import Model, load
from sofie_root.program.interpret import evaluate

GROUP = 40
"""Cases in one program."""

GROUPS = [EVERY[k : k + GROUP] for k in range(0, len(EVERY), GROUP)]
SIZES = [(3, 2), (1, 1), (0, 3), (17, 5), (2, 0), (33, 18), (16, 1)]


def check_group(
    group: list[tuple[Case, bool]], folder: Path, flags: tuple[str, ...], side: int
) -> None:
    models = [Model(from_proto(case.model(symbolic))) for case, symbolic in group]
    program = Guarded(models, folder, flags, side)
    found = program.run([Call(k, case.feeds) for k, (case, _) in enumerate(group)])
    failures = []
    for (case, symbolic), result in zip(group, found, strict=True):
        if not isinstance(result, dict):
            failures.append(f"{case.id} (symbolic: {symbolic}): {result.text[:3000]}")
            continue
        try:
            case.check([result[name] for name in case.output_names], "between guard pages")
        except AssertionError as error:
            failures.append(str(error))
    assert not failures, f"{len(failures)} of {len(group)}:\n" + "\n".join(failures[:5])


def test_a_read_beside_a_tensor_is_seen(tmp_path: Path) -> None:
    """The net itself: sizes that are not true make a Session read behind its input."""
    network = SMALL["mlp"]() if "mlp" in SMALL else next(iter(SMALL.values()))()
    (name, type_), *_ = network.inputs.items()
    inputs = {name: np.ones([1, *type_.shape[1:]], np.float32)}
    program = Guarded([network], tmp_path, ("-O0", *ISAS["avx512"]))
    good, bad = program.run([Call(0, inputs), Call(0, inputs, {"N": 40})])
    assert isinstance(good, dict)
    assert not isinstance(bad, dict)
    assert "ended by signal 11" in bad.text


@pytest.mark.slow
@pytest.mark.parametrize("side", [1, 2])
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("group", GROUPS, ids=lambda g: g[0][0].id)
def test_operators(group: list[tuple[Case, bool]], isa: str, side: int, tmp_path: Path) -> None:
    check_group(group, tmp_path, (*SANITIZE, *ISAS[isa]), side)


@pytest.mark.slow
@pytest.mark.parametrize("side", [1, 2])
@pytest.mark.parametrize("isa", ISAS)
def test_small_models(isa: str, side: int, tmp_path: Path) -> None:
    networks = [make() for make in (*SMALL.values(), attention)]
    calls = []
    for k, network in enumerate(networks):
        for pair in SIZES:
            sizes = dict(zip(network.symbols, pair, strict=False))
            inputs = {}
            for name, type_ in network.inputs.items():
                shape = [d if isinstance(d, int) else sizes[str(d)] for d in type_.shape]
                numbers = np.linspace(-2, 3, int(np.prod(shape))).reshape(shape)
                inputs[name] = np.asarray(numbers + 5 * type_.dtype.is_integer, type_.dtype.numpy)
            calls.append(Call(k, inputs))
    program = Guarded(networks, tmp_path, (*SANITIZE, *ISAS[isa]), side)
    for call, result in zip(calls, program.run(calls), strict=True):
        assert isinstance(result, dict), result.text
        with np.errstate(all="ignore"):
            expected = evaluate(networks[call.model].graph, call.inputs)
        for name, want in expected.items():
            np.testing.assert_allclose(result[name], want, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("entry", EACH_NETWORK)
def test_zoo(entry: Entry, isa: str, tmp_path: Path) -> None:
    network = load(entry.path)
    sets = list(entry.sets())
    program = Guarded([network], tmp_path, (*SANITIZE, *ISAS[isa]))
    results = program.run([Call(0, inputs) for inputs, _ in sets])
    for result, (_, expected) in zip(results, sets, strict=True):
        assert isinstance(result, dict), result.text
        for name, want in expected.items():
            assert difference(result[name], want) <= entry.tolerance
