"""Sizes that change from call to call: what is refused, with which words, and that nothing leaks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cpp_program import compile_program, run_program
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_models import by_runtime, model, node, tensor, value

from sofie_root.errors import InputError, SofieError
from sofie_root.frontends.onnx import from_proto
from sofie_root.model import Model, load
from sofie_root.runtime.session import Session

FIVE = np.arange(5, dtype=np.float32)


def network() -> Model:
    """Demands N == M, N divisible by 4, P == 5 and K >= 2; the size of one output depends on x."""
    nodes = [
        node("Add", ["x", "y"], ["sum"], name="add"),
        node("Reshape", ["x", "rows_of_4"], ["r"], name="split"),
        node("MatMul", ["r", "z"], ["product"], name="product"),
        node("Add", ["w", "five"], ["shifted"], name="shift"),
        node("Greater", ["x", "zero"], ["positive"]),
        node("Compress", ["x", "positive"], ["chosen"], name="choose"),
        node("Softmax", ["chosen"], ["soft"]),
        node("TopK", ["z", "two"], ["largest", ""], name="top"),
    ]
    constants = [
        tensor("rows_of_4", np.array([-1, 4])),
        tensor("five", FIVE),
        tensor("zero", np.float32(0)),
        tensor("two", np.array([2])),
    ]
    inputs = [value("x", ["N"]), value("y", ["M"]), value("z", [4, "K"]), value("w", ["P"])]
    outputs = ["sum", "product", "shifted", "soft", "largest"]
    return Model(from_proto(model(nodes, inputs, outputs, constants), "sizes"))


def expected(x: Any, y: Any, z: Any, w: Any) -> dict[str, Any]:
    chosen = np.exp(x[x > 0])
    return {
        "sum": x + y,
        "product": x.reshape(-1, 4) @ z,
        "shifted": w + FIVE,
        "soft": chosen / chosen.sum(),
        "largest": -np.sort(-z, axis=1)[:, :2],
    }


def arrays(n: int, k: int, m: int | None = None, p: int = 5, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    shapes = {"x": (n,), "y": (n if m is None else m,), "z": (4, k), "w": (p,)}
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


BAD = [
    (
        {"n": 8, "m": 12, "k": 3},
        r"Add 'add': .*M == N, or one of them is 1 \(M is axis 0 of 'y', N is axis 0 of 'x'\) .* 12 and 8",
    ),
    (
        {"n": 6, "k": 3},
        r"Reshape 'split': .*N.* == .*N.* \(N is axis 0 of 'x'\).*(4 and 6|6 and 4)",
    ),
    (
        {"n": 8, "k": 3, "p": 6},
        r"Add 'shift': .*P is 1 or 5 \(P is axis 0 of 'w'\).*6 and 5",
    ),
    ({"n": 8, "k": 1}, r"TopK 'top': .*2 <= K \(K is axis 1 of 'z'\) does not hold: 2 and 1"),
]
"""Sizes that contradict what the graph demands, and what is said about it."""


@pytest.fixture(scope="module", params=["cling", "compiler"])
def session(request: pytest.FixtureRequest) -> Session:
    return network().session(request.param)


@pytest.mark.parametrize(("sizes", "message"), BAD)
def test_python_says_what_does_not_hold(
    session: Session, sizes: dict[str, int], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        session.run(arrays(**sizes))
    good = arrays(8, 3)  # an error spoils nothing
    found = session.run(good)
    for name, want in expected(**good).items():
        np.testing.assert_allclose(found[name], want, rtol=1e-5, atol=1e-6)


def test_one_symbol_of_several_inputs() -> None:
    nodes = [node("Add", ["a", "b"], ["y"])]
    proto = model(nodes, [value("a", ["N", 2]), value("b", ["N", 2])], [value("y", ["N", 2])])
    session = Model(from_proto(proto)).session("cling")
    three, four = np.zeros((3, 2), np.float32), np.zeros((4, 2), np.float32)
    with pytest.raises(InputError, match=r"'b'.* N is 4 on axis 0, but 3 on axis 0 of 'a'"):
        session(three, four)
    with pytest.raises(InputError, match=r"'a'.* axis 1 is 4, not 2"):
        session(four.reshape(2, 4), four)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_sizes_go_up_and_down(session: Session, data: st.DataObject) -> None:
    n = 4 * data.draw(st.integers(0, 30))
    given_ = arrays(n, data.draw(st.integers(2, 20)), seed=data.draw(st.integers(0, 5)))
    found = session.run(given_)
    for name, want in expected(**given_).items():
        np.testing.assert_allclose(found[name], want, rtol=1e-4, atol=1e-5)


def test_a_demand_is_checked_once() -> None:
    """Many nodes demand the same of N and M."""
    nodes = [node("Add", ["x", "y"], ["a"])]
    nodes += [node("Mul", ["y", "x"], ["b"]), node("Sub", ["a", "b"], ["c"])]
    proto = model(nodes, [value("x", ["N"]), value("y", ["M"])], ["c"])
    assert (
        Model(from_proto(proto))
        .header()
        .text.partition("struct Session")[2]
        .count("check_broadcast")
        == 1
    )


def test_fixed_sizes_of_a_root_file_keep_its_demands(tmp_path: Path) -> None:
    network().save(tmp_path / "m.root")
    with pytest.raises(SofieError, match=r"Add 'add': .*8.*12"):
        load(tmp_path / "m.root", dims={"N": 8, "M": 12})
    fixed = load(tmp_path / "m.root", dims={"N": 8, "K": 3})
    assert fixed.symbols == ("M", "P")
    demands = {frozenset((str(e.a), str(e.b))) for e in fixed.graph.equalities}
    assert demands == {frozenset(("broadcast(8, M)", "8")), frozenset(("broadcast(5, P)", "5"))}


PROGRAM = """
#include "sizes.hxx"
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <exception>
%s

int main() {
  TMVA_SOFIE_sizes::Session session;
  std::vector<float> soft;
  const auto call = [&](std::size_t n, std::size_t m, std::size_t k, std::size_t p) {
    // Of exactly these sizes, so that a sanitizer sees what is read or written beside them.
    const auto make = [](std::size_t size) {
      float* const p = static_cast<float*>(std::malloc(size * sizeof(float)));
      for (std::size_t i = 0; i < size; ++i) p[i] = std::sin(float(i + size));
      return p;
    };
    float* memory[] = {make(n), make(m), make(4 * k), make(p),
                       make(n), make(n / 4 * k), make(5), make(8)};
    float total = 0;
    try {
      session.infer_to(n, m, k, p, memory[0], memory[1], memory[2], memory[3], memory[4], memory[5],
                       memory[6], soft, memory[7]);
      for (std::size_t i = 0; i < n; ++i) total += memory[4][i];
      for (float s : soft) total += s;
    } catch (const std::exception& error) {
      std::printf("%%s\\n", error.what());
    }
    for (float* m : memory) std::free(m);
    return total;
  };
  call(400, 400, 50, 5);  // the largest
  const long before = allocations();
  float total = 0;
  for (std::size_t round = 0; round < 300; ++round) {
    total += call(round %% 101 * 4, round %% 101 * 4, 2 + round * 7 %% 49, 5);
  }
  const long during = allocations() - before;
  call(8, 12, 3, 5);
  call(6, 6, 3, 5);
  call(8, 8, 3, 6);
  call(8, 8, 1, 5);
  const float again = call(400, 400, 50, 5);
  std::printf("%%ld %%d\\n", during, std::isfinite(total) && std::isfinite(again));
}
"""

COUNTING = """
#include <new>
static long count = 0;
static long allocations() { return count; }
static void* counted(void* p) { ++count; if (p == nullptr) throw std::bad_alloc(); return p; }
void* operator new(std::size_t n) { return counted(std::malloc(n ? n : 1)); }
void* operator new(std::size_t n, std::align_val_t a) {
  const std::size_t s = static_cast<std::size_t>(a);
  return counted(std::aligned_alloc(s, (n + s - 1) / s * s));
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }
void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }
"""


def assert_program(folder: Path, counting: str, flags: tuple[str, ...]) -> None:
    """The messages of all bad calls in order, then that nothing was allocated and all was finite."""
    network().generate(folder / "sizes.hxx", standalone=False)
    program = compile_program(folder, PROGRAM % counting, flags)
    *messages, last = run_program(program).splitlines()
    assert last == "0 1"
    assert len(messages) == len(BAD)
    for (_, pattern), message in zip(BAD, messages, strict=True):
        assert re.search(pattern, message), message


def test_cpp_says_what_does_not_hold_and_allocates_nothing_when_warm(tmp_path: Path) -> None:
    flags = ("-O1", "-march=native", "-Wno-mismatched-new-delete")
    assert_program(tmp_path, COUNTING, flags)


@pytest.mark.slow
def test_sanitizers_see_nothing(tmp_path: Path) -> None:
    flags = ("-O1", "-g1", "-march=native", "-fsanitize=address,undefined", "-fno-sanitize-recover")
    assert_program(tmp_path, "static long allocations() { return 0; }", flags)


@pytest.mark.parametrize(
    ("op_type", "shapes", "attributes"),
    [
        ("Add", [("N", 3), ("M", "K")], {}),
        ("Where", [("N", "K"), ("M", 3), ("K",)], {}),
        ("MatMul", [("N", 2, 3), ("M", 3, 4)], {}),
        ("Gemm", [("N", 3), (3, 4), ("M", "K")], {}),
        ("PRelu", [("N", 3), ("K",)], {}),
        ("Einsum", [("N", 3), ("M", "K")], {"equation": "ij,ij->i"}),
        ("Einsum", [("N", 3, 2), ("M", 2, 4)], {"equation": "bij,bjk->bik"}),
        ("LayerNormalization", [("N", 3), ("K",)], {}),
        ("Max", [("N", 3), ("M", 1), ("K",)], {}),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_a_size_that_is_1_when_the_model_runs_broadcasts(
    op_type: str, shapes: list[tuple[Any, ...]], attributes: dict[str, Any]
) -> None:
    names = [f"x{k}" for k in range(len(shapes))]
    dtypes = [np.bool_ if (op_type, k) == ("Where", 0) else np.float32 for k in range(len(shapes))]
    inputs = [value(n, list(s), t) for n, s, t in zip(names, shapes, dtypes, strict=True)]
    proto = model([node(op_type, names, ["y"], **attributes)], inputs, ["y"])
    session = Model(from_proto(proto)).session("cling")
    taken = 0
    for n, m, k in [
        (4, 4, 3),
        (1, 4, 3),
        (4, 1, 1),
        (1, 1, 1),
        (17, 1, 3),
        (1, 33, 1),
        (0, 1, 3),
        (4, 3, 3),
    ]:
        sizes = {"N": n, "M": m, "K": k}
        arrays = {
            name: np.random.default_rng(1)
            .normal(size=[sizes.get(d, d) for d in shape])
            .astype(dtype)
            for name, shape, dtype in zip(names, shapes, dtypes, strict=True)
        }
        try:
            expected = by_runtime(proto, arrays)["y"]
        except Exception:  # what ONNX Runtime raises is not public
            with pytest.raises(InputError, match=r"broadcast|does not hold"):
                session.run(arrays)
            continue
        taken += 1
        np.testing.assert_allclose(session.run(arrays)["y"], expected, rtol=1e-4, atol=1e-5)
    assert taken > 1
