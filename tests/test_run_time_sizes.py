"""Sizes and indices that only the run tells, as an attacker would choose them: refused, never undefined.

Every call runs with each tensor between guard pages; under sanitizers in every instruction set where slow
tests run.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cpp_program import compile_program, run_program
from guarded import ISAS, SANITIZE, Call, Crash, Guarded, Refused
from onnx import helper
from onnx_models import model, node, value
from operator_case import Case
from small_models import mlp

from sofie_root.errors import BudgetError, InputError
from sofie_root.frontends.onnx import from_proto
from sofie_root.model import Model
from sofie_root.program.interpret import evaluate

Array = np.ndarray[Any, Any]
LEAST, MOST = -(2**63), 2**63 - 1
FAR = (LEAST, -(2**44), -(2**32), 2**42, 2**44, 2**48, 2**62, MOST)
"""Numbers with which arithmetic overflows."""
WILD = (np.nan, np.inf, -np.inf, 1e30, -1e30)

X = np.arange(20, dtype=np.float32).reshape(4, 5)
IMAGE = np.arange(2 * 3 * 6 * 5, dtype=np.float32).reshape(2, 3, 6, 5)
NONE = np.zeros((0, 5), np.float32)


@dataclass(frozen=True)
class Attack:
    """A case, and contents of its inputs that must be refused, or that have a result.

    Attributes:
        case: the operator and what is well-formed.
        wrong: for an input (by position), contents that are refused.
        odd: contents that are unusual but have a result: what it is.
    """

    case: Case
    wrong: tuple[tuple[int, Any], ...] = ()
    odd: tuple[tuple[dict[int, Any], Array | None], ...] = ()


def attack(
    op_type: str, *inputs: Any, wrong: Any = (), odd: Any = (), lists: Any = None, **how: Any
) -> Attack:
    arrays = tuple(None if x is None else np.asarray(x) for x in inputs)
    named = frozenset(range(1, len(inputs))) if lists is None else frozenset(lists)
    keys = {k: how.pop(k) for k in ("outputs", "opset", "constants") if k in how}
    if "constants" in keys:
        keys["constants"] = frozenset(keys["constants"])
    return Attack(
        Case(op_type, op_type, arrays, how, lists=named, **keys), tuple(wrong), tuple(odd)
    )


def each(position: int, *contents: Any) -> tuple[tuple[int, Any], ...]:
    return tuple((position, c) for c in contents)


def far(position: int, shape: tuple[int, ...] = (1,), *more: int) -> tuple[tuple[int, Any], ...]:
    """Every number of ``FAR``, and more, everywhere in an input of this shape."""
    return tuple((position, np.full(shape, v)) for v in (*FAR, *more))


def spread(*values: Any) -> Array:
    return np.array(values, np.float32)


ATTACKS = [
    attack(
        "Reshape",
        X,
        [2, 10],
        wrong=each(
            1,
            [100, 100],
            [100000, 1000],
            [-1, -1],
            [-5, -4],
            [2**32, 2**32],
            [7, -1],
            [-1, 2**63 - 1],
            [LEAST, 1],
            [-1, 2**62],
            [2**44, 2**44],
        ),
        odd=[({1: [-1, 4]}, X.reshape(5, 4)), ({1: [0, -1]}, X)],
    ),
    attack("Reshape", X, [2, 2, 5], wrong=each(1, [2, 2, 0], [4, 5, 0], [-1, -1, 20])),
    attack(
        "Reshape", NONE, [5, 0], allowzero=1, wrong=each(1, [1, 1], [2**32, 2**32], [0, 2**63 - 1])
    ),
    attack(
        "Expand",
        X[:1],
        [4, 5],
        wrong=(*each(1, [4, 4], [-1, 5], [1, 0], [2**62, 5], [2**44, 5]), *far(1, (2,))),
        odd=[({1: [0, 5]}, X[:0]), ({1: [1, 1]}, X[:1])],
    ),
    attack(
        "Tile",
        X,
        [2, 2],
        wrong=(*each(1, [-1, 1], [2**62, 4], [2**61, 8], [4, 2**62]), *far(1, (2,))),
        odd=[({1: [0, 1]}, X[:0])],
    ),
    attack(
        "Slice",
        X,
        [0],
        [4],
        odd=[
            ({1: [s], 2: [e]}, X[slice(s, e)])
            for s in (LEAST, LEAST + 1, -(2**62), -5, -1, 0, 3, 4, 99, 2**62, MOST)
            for e in (LEAST, -(2**62), -4, -1, 0, 4, 5, 2**62, MOST)
        ],
    ),
    attack(
        "Slice",
        X,
        [0, 0],
        [4, 5],
        [0, 1],
        [1, 1],
        wrong=(*each(4, [0, 1], [1, 0]), *each(3, [0, 2], [0, 0], [-3, 1], [0, -2]), *far(3, (2,))),
        odd=[
            ({4: [MOST, 2**62]}, X[:1, :1]),
            ({4: [1, 2**32]}, X[:, :1]),
            ({1: [-1, MOST], 2: [LEAST, LEAST], 4: [-1, LEAST]}, X[::-1, 4:]),
            ({1: [-9, LEAST], 2: [LEAST, -(2**62)], 4: [-1, -1]}, X[:1, :1]),
        ],
    ),
    attack("Slice", NONE, [0], [0], [0], [1], odd=[({1: [-1], 2: [-9], 4: [-1]}, NONE)]),
    attack(
        "Pad",
        X,
        [1, 0, 1, 0],
        wrong=(
            *each(
                1,
                [-5, 0, 0, 0],
                [-2, 0, -3, 0],
                [LEAST, 0, 0, 0],
                [LEAST, 0, MOST, 0],
                [3, 0, -7, 0],
            ),
            *far(1, (4,)),
        ),
        odd=[({1: [-4, 0, 4, 0]}, np.zeros_like(X))],
    ),
    attack("Pad", X, [1, 2], None, [0], wrong=(*each(3, [2], [-3]), *far(3), *far(1, (2,)))),
    *(
        attack(
            "Pad",
            NONE,
            [0, 1, 0, 1],
            mode=mode,
            wrong=each(1, [1, 0, 1, 0], [2, 0, -1, 0], [0, 2**44, 0, 2**44]),
            odd=[({1: [0, 2, 0, 0]}, np.zeros((0, 7), np.float32))],
        )
        for mode in ("reflect", "edge", "wrap")
    ),
    attack(
        "Split",
        X,
        [2, 2],
        outputs=2,
        wrong=each(1, [5, -1], [4, 1], [2**62, 2], [MOST, MOST], [-1, -1]),
    ),
    attack(
        "ConstantOfShape",
        [2, 3],
        lists=[0],
        wrong=(*each(0, [2, -1], [2**32, 2**32]), *far(0, (2,))),
    ),
    attack("Range", 0, 5, 1, wrong=(*each(2, 0), *each(1, 2**62, MOST), *each(0, LEAST))),
    attack(
        "Range",
        np.float32(0),
        np.float32(5),
        np.float32(1),
        wrong=(*each(2, np.float32(0), np.float32(1e-30)), *each(1, *spread(np.inf, 1e30))),
    ),
    attack("OneHot", [1, 2], 4, spread(0, 1), wrong=far(1, (), -1)),
    attack("TopK", X, [3], outputs=2, wrong=far(1, (1,), -1, 6)),
    attack("Gather", X, [0, 3], wrong=far(1, (2,), 4, -5)),
    attack("GatherElements", X, [[0, 3]], wrong=far(1, (1, 2), 4, -5)),
    attack("GatherND", X, [[3, 4]], wrong=far(1, (1, 2), 5, -6)),
    attack("ScatterElements", X, [[0, 3]], X[:1, :2], wrong=far(1, (1, 2), 4, -5)),
    attack("ScatterND", X, [[3]], X[:1], reduction="add", wrong=far(1, (1, 1), 4, -5)),
    attack("TensorScatter", X[None], X[None, :2], [0], opset=24, axis=1, wrong=far(2, (1,), 3)),
    attack("Compress", X, [True, False, True], axis=0, odd=[({1: [False] * 3}, X[:0])]),
    attack("Trilu", X, 0, odd=[({1: np.array(v)}, np.triu(X, min(max(v, -9), 9))) for v in FAR]),
    attack("CumSum", X, 0, wrong=far(1, (), 2, -3)),
    attack(
        "ReverseSequence",
        X,
        [1, 4, 2, 3],
        batch_axis=0,
        time_axis=1,
        wrong=far(1, (4,), 6, -1),
        odd=[({1: [0, 1, 0, 1]}, X)],
    ),
    attack("ReduceSum", X, [1], wrong=far(1, (1,), 2, -3)),
    attack("ReduceMax", X, [0, 1], keepdims=0, wrong=(*each(1, [1, 1], [0, -2]), *far(1, (2,)))),
    attack("Squeeze", X[:1], [0], wrong=far(1, (1,), 1, 2)),
    attack("Unsqueeze", X, [0, 1], wrong=(*each(1, [1, 1], [0, 4]), *far(1, (2,)))),
    attack(
        "Resize",
        IMAGE,
        None,
        spread(1, 1, 2, 2),
        lists=[2],
        wrong=(*each(2, spread(1, 1, -1, 2)), *((2, spread(1, 1, w, 2)) for w in (np.inf, 1e30))),
    ),
    attack(
        "Resize",
        IMAGE,
        None,
        None,
        [2, 3, 9, 4],
        mode="linear",
        lists=[3],
        wrong=(*each(3, [2, 3, -1, 4], [2**32, 3, 2**32, 4]), *far(3, (4,))),
    ),
    attack(
        "Resize", IMAGE[:, :, :0], None, None, [2, 3, 0, 5], lists=[3], wrong=each(3, [2, 3, 4, 5])
    ),
    attack(
        "GridSample",
        IMAGE,
        np.zeros((2, 2, 2, 2), np.float32),
        lists=[],
        opset=16,
        odd=[({1: np.full((2, 2, 2, 2), w, np.float32)}, None) for w in WILD],
    ),
    attack(
        "GridSample",
        IMAGE,
        np.zeros((2, 2, 2, 2), np.float32),
        lists=[],
        opset=20,
        mode="cubic",
        padding_mode="reflection",
        odd=[({1: np.full((2, 2, 2, 2), w, np.float32)}, None) for w in WILD],
    ),
    *(
        attack(
            "RoiAlign",
            IMAGE,
            spread(0, 0, 4, 4)[None],
            [1],
            lists=[],
            opset=16,
            sampling_ratio=ratio,
            output_height=2,
            output_width=2,
            mode=mode,
            wrong=far(2, (1,), 2, -1),
            odd=[
                ({1: np.full((1, 4), w, np.float32)}, np.zeros((1, 3, 2, 2), np.float32))
                for w in WILD
            ]
            + [
                ({1: spread(*c)[None]}, None)
                for c in (
                    (0, 0, 1e30, 1e30),
                    (-1e6, 0, 1e6, 5),
                    (0, np.nan, 9, 9),
                    (-np.inf, 0, np.inf, 5),
                    (5, 5, 1, 1),
                )
            ],
        )
        for ratio in (0, 2)
        for mode in ("avg", "max")
    ),
    attack(
        "NonMaxSuppression",
        np.zeros((1, 40, 4), np.float32),
        np.zeros((1, 1, 40), np.float32),
        [3],
        spread(0.5),
        lists=[],
        odd=[
            ({1: np.resize(spread(np.nan, 1, np.nan, 3, -1, np.inf, np.nan), (1, 1, 40))}, None),
            ({2: [LEAST]}, np.zeros((0, 3), np.int64)),
            ({0: np.full((1, 40, 4), np.nan, np.float32)}, None),
        ],
    ),
    attack(
        "MaxUnpool",
        IMAGE[:1, :1, :2, :2],
        [[[[0, 1], [2, 3]]]],
        lists=[],
        kernel_shape=[2, 2],
        strides=[2, 2],
        wrong=far(1, (1, 1, 2, 2), 16, -17),
    ),
    attack(
        "MaxUnpool",
        IMAGE[:1, :1, :2, :2],
        [[[[0, 1], [2, 3]]]],
        [1, 1, 4, 4],
        lists=[2],
        kernel_shape=[2, 2],
        strides=[2, 2],
        wrong=far(2, (4,), -1),
    ),
    attack(
        "Col2Im",
        np.ones((1, 12, 12), np.float32),
        [5, 4],
        [2, 2],
        constants=[2],
        wrong=far(1, (2,), 0, -1, 1, 6),
    ),
    attack(
        "Col2Im",
        np.ones((1, 12, 12), np.float32),
        [5, 4],
        [2, 2],
        constants=[1],
        wrong=(*far(2, (2,), 0, -1, 9), *each(2, [5, 5])),
    ),
    attack("DFT", IMAGE[..., :1], np.int64(6), opset=17, axis=1, wrong=far(1, (), 0, -1)),
    attack("DFT", IMAGE[0, ..., None], None, np.int64(1), opset=20, wrong=far(2, (), 3, -1, 4)),
    attack(
        "STFT",
        np.ones((1, 40, 1), np.float32),
        np.int64(5),
        np.ones(8, np.float32),
        lists=[1],
        wrong=(*far(1, (), 0, -1)[:3], *each(1, 0, -1)),
        odd=[({1: 2**40}, None)],
    ),
    *(
        attack(
            op_type,
            np.ones((3, 2, 4), np.float32),
            np.ones((1, gates * 3, 4), np.float32),
            np.ones((1, gates * 3, 3), np.float32),
            None,
            np.array([3, 1], np.int32),
            lists=[],
            constants=[1, 2],
            hidden_size=3,
            outputs=2,
            wrong=each(4, *(np.array([1, v], np.int32) for v in (4, -1, -(2**31), 2**31 - 1))),
        )
        for op_type, gates in (("RNN", 1), ("GRU", 3), ("LSTM", 4))
    ),
]


def _window_model(op_type: str) -> Model:
    proto = model([node(op_type, ["n"], ["y"])], [value("n", [], np.int64)], ["y"])
    return Model(from_proto(proto))


def _loop_model() -> Model:
    """A state that doubles with each iteration, and the trips as input."""
    body = helper.make_graph(
        [node("Identity", ["go"], ["again"]), node("Concat", ["s", "s"], ["t"], axis=0)],
        "body",
        [value("i", [], np.int64), value("go", [], np.bool_), value("s", ["n"])],
        [helper.make_empty_tensor_value_info("again"), helper.make_empty_tensor_value_info("t")],
    )
    nodes = [
        node("Loop", ["trips", "", "x"], ["y"], body=body),
        node("Reshape", ["y", "to"], ["z"]),
    ]
    inputs = [value("trips", [], np.int64), value("x", [2]), value("to", [2], np.int64)]
    return Model(from_proto(model(nodes, inputs, ["z"])))


def feeds(given: Case, changes: dict[int, Any]) -> dict[str, Array]:
    found = dict(given.feeds)
    for k, content in changes.items():
        found[f"x{k}"] = np.asarray(content, given.feeds[f"x{k}"].dtype)
    return found


def calls() -> list[tuple[Call, Any]]:
    """Every call and what it must give: Refused, an array, or None for anything but a crash."""
    made: list[tuple[Call, Any]] = []
    for k, a in enumerate(ATTACKS):
        made.append((Call(k, a.case.feeds), None))
        made += [(Call(k, feeds(a.case, {p: c})), Refused) for p, c in a.wrong]
        made += [(Call(k, feeds(a.case, changes)), want) for changes, want in a.odd]
    extra = len(ATTACKS)
    made += [(Call(extra, {"n": np.array(n)}), Refused) for n in FAR if n > 0]
    x = spread(1, 2)
    for trips, to, want in (
        (3, [4, 4], np.resize(x, (4, 4))), (-5, [1, 2], x[None]), (LEAST, [2, 1], x[:, None]),
        (3, [4, 5], Refused), (2, [2**32, 2**32], Refused),
    ):  # fmt: skip
        inputs = {"trips": np.array(trips), "x": x, "to": np.array(to)}
        made.append((Call(extra + 1, inputs), want))
    for n in (2**43, 2**44, 2**58, 2**60, 2**62, 2**63, 2**64 - 1):
        made.append((Call(extra + 2, {"x": np.zeros((1, 16), np.float32)}, {"N": n}), Refused))
    return made


def models() -> list[Model]:
    cases = [Model(from_proto(a.case.model(symbolic=True))) for a in ATTACKS]
    return [*cases, _window_model("HannWindow"), _loop_model(), mlp()]


def assert_refused(folder: Path, flags: tuple[str, ...], side: int) -> None:
    expected = calls()
    failures = []
    found = Guarded(models(), folder, flags, side).run([call for call, _ in expected])
    for (call, want), result in zip(expected, found, strict=True):
        what = f"{_name(call.model)} { ({k: v.tolist() for k, v in call.inputs.items() if v.size < 9}) }"
        if isinstance(result, Crash) and "allocation-size-too-big" in result.text:
            continue  # std::bad_alloc, for which the address sanitizer ends the process
        if isinstance(result, Crash):
            failures.append(f"{what} crashed: {result.text[:3000]}")
        elif want is Refused:
            if not isinstance(result, Refused):
                failures.append(f"{what} gave {[y.shape for y in result.values()]}")
        elif isinstance(result, Refused):
            failures.append(f"{what} was refused: {result.text}")
        elif want is not None:
            (y, *_) = result.values()
            if y.shape != want.shape or not np.allclose(y, want):
                failures.append(f"{what} gave {y.tolist()}, expected {want.tolist()}")
    assert not failures, f"{len(failures)} of {len(expected)}:\n" + "\n".join(failures[:20])


def _name(k: int) -> str:
    return ATTACKS[k].case.op_type if k < len(ATTACKS) else f"model {k - len(ATTACKS)}"


def test_attacks(tmp_path: Path) -> None:
    assert_refused(tmp_path, ("-O0", *ISAS["avx512"]), 1)


@pytest.mark.slow
@pytest.mark.parametrize("side", [1, 2])
@pytest.mark.parametrize("isa", ISAS)
def test_attacks_under_sanitizers(isa: str, side: int, tmp_path: Path) -> None:
    assert_refused(tmp_path, (*SANITIZE, *ISAS[isa]), side)


@pytest.mark.parametrize("given", ATTACKS, ids=lambda a: a.case.op_type)
def test_interpreter_refuses(given: Attack) -> None:
    for symbolic in (False, True):
        graph = from_proto(given.case.model(symbolic))
        for position, content in given.wrong:
            with pytest.raises((InputError, IndexError, BudgetError)):
                evaluate(graph, feeds(given.case, {position: content}))
        for changes, want in given.odd:
            (y, *_) = evaluate(graph, feeds(given.case, changes)).values()
            if want is not None:
                np.testing.assert_allclose(y, want)


PROGRAM = """
#include "model.hxx"
#include <cstdio>
int main() {
  TMVA_SOFIE_model::Session session;
  const std::vector<float> x(2 * 16, 0.5f);
  const std::vector<float> first = session.infer(2, x.data());
  for (const int bits : {44, 58, 60, 62, 63}) {
    try {
      session.infer(std::size_t(1) << bits, x.data());
      std::printf("2^%d was accepted\\n", bits);
    } catch (const std::runtime_error& error) {
      std::printf("%s\\n", error.what());
    }
  }
  // Sizes are right, but there is not that much memory: the Session is as good as before.
  std::vector<float> y(2 * 5);
  try {
    session.prepare(std::size_t(1) << 38);
  } catch (const std::bad_alloc&) {
  }
  session.infer_to(2, x.data(), y.data());
  std::printf("%d\\n", y == first);
}
"""


def test_sizes_of_the_caller(tmp_path: Path) -> None:
    mlp().generate(tmp_path / "model.hxx", standalone=False)
    program = compile_program(tmp_path, PROGRAM, ("-O1",))
    *messages, last = run_program(program).splitlines()
    assert last == "1"
    assert len(messages) == 5
    for message in messages:
        assert message.startswith("32*N (N is axis 0 of 'x') is 32 * "), message
