"""Attention in one kernel: which graphs become one, and its numbers against NumPy and the plain form."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from compiled import FLAGS, Compiled
from cpp_program import compile_program, run_program
from onnx import TensorProto, helper, numpy_helper

from sofie_root.frontends.onnx import from_proto
from sofie_root.model import Model
from sofie_root.program.choice import VARIABLE
from sofie_root.program.operations import matmul as operations

Array = np.ndarray


@dataclass(frozen=True)
class Attention:
    """An attention graph: inputs q, k, v ``[batch, length, heads * size]`` and a bias.

    Attributes:
        bias: shape of what is added to the scores, by letters B, H, Q, K and 1; empty: nothing.
        mask: the same for a BOOL tensor with which -inf is chosen.
        scale: ``"none"``, ``"div"`` of the scores, ``"q"`` (queries are divided), ``"both"``.
        turned: whether the last product is ``V^T P^T``.
        flat: heads and batch are one axis, as PyTorch's MultiheadAttention has them.
        joined: whether q, k and v are slices of one input (only where the lengths agree).
    """

    batch: int = 1
    heads: int = 2
    queries: int = 5
    keys: int = 7
    size: int = 4
    width: int = 4
    bias: str = ""
    mask: str = ""
    scale: str = "div"
    turned: bool = False
    flat: bool = False
    joined: bool = False
    symbolic: bool = False

    def shape(self, letters: str) -> tuple[int, ...]:
        sizes = {"B": self.batch, "H": self.heads, "Q": self.queries, "K": self.keys, "1": 1}
        return tuple(sizes[letter] for letter in letters)

    def model(self) -> onnx.ModelProto:
        """The graph."""
        nodes: list[onnx.NodeProto] = []
        constants: list[onnx.TensorProto] = []
        b, h, m, n, d, w = (
            self.batch, self.heads, self.queries, self.keys, self.size, self.width,
        )  # fmt: skip

        def op(kind: str, *names: str, **attrs: object) -> str:
            out = f"{kind}_{len(nodes)}"
            nodes.append(helper.make_node(kind, names, [out], name=out, **attrs))
            return out

        def const(value: object, dtype: object = np.float32) -> str:
            name = f"c{len(constants)}"
            constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
            return name

        def ints(*values: int) -> str:
            return const(values, np.int64)

        def heads(x: str, size: int, perm: list[int]) -> str:
            if self.flat:  # [batch, L, heads * size] -> [L, batch * heads, size] -> heads outside
                x = op("Transpose", x, perm=[1, 0, 2])
                x = op("Reshape", x, ints(0, -1, size))
                return op("Transpose", x, perm=[[1, 0, 2], [1, 2, 0]][perm[-1] == 1])
            x = op("Reshape", x, ints(0, 0, h, size))
            return op("Transpose", x, perm=perm)

        length = ("Lq", "Lk") if self.symbolic else (m, n)
        first = "N" if self.symbolic else b
        if self.joined:
            inputs = {"qkv": [first, length[0], h * (2 * d + w)]}
            ends = [0, h * d, 2 * h * d, h * (2 * d + w)]
            q, k, v = (
                op("Slice", "qkv", ints(ends[i]), ints(ends[i + 1]), ints(2)) for i in range(3)
            )
        else:
            inputs = {
                "q": [first, length[0], h * d],
                "k": [first, length[1], h * d],
                "v": [first, length[1], h * w],
            }
            q, k, v = inputs
        root = const(np.sqrt(d))
        if self.scale in ("q", "both"):
            q = op("Div", q, root) if self.scale == "q" else op("Mul", q, const(d**-0.25))
        if self.scale == "both":
            k = op("Mul", const(d**-0.25), k)
        q, k = heads(q, d, [0, 2, 1, 3]), heads(k, d, [0, 2, 3, 1])
        v = heads(v, w, [0, 2, 3, 1] if self.turned else [0, 2, 1, 3])
        x = op("MatMul", q, k)
        if self.scale == "div":
            x = op("Div", x, root)
        given = list(inputs)
        names = dict(zip("BHQK", (first, h, *length), strict=True))
        if self.bias:
            inputs["bias"] = [names.get(letter, 1) for letter in self.bias]
            x = op("Add", x, "bias")
        types = dict.fromkeys(inputs, TensorProto.FLOAT)
        if self.mask:
            inputs["mask"] = [names.get(letter, 1) for letter in self.mask]
            types["mask"] = TensorProto.BOOL
            x = op("Where", "mask", x, const(-np.inf))
        p = op("Softmax", x, axis=-1)
        if self.turned:
            y = op("MatMul", v, op("Transpose", p, perm=[0, 2, 1] if self.flat else [0, 1, 3, 2]))
            y = op("Transpose", y, perm=[0, 2, 1] if self.flat else [0, 1, 3, 2])
        else:
            y = op("MatMul", p, v)
        if self.flat:
            y = op("Transpose", y, perm=[1, 0, 2])
            y = op(
                "Reshape", y, op("Concat", _size(op, ints, given[0], 1), ints(-1, h * w), axis=0)
            )
        else:
            y = op("Reshape", op("Transpose", y, perm=[0, 2, 1, 3]), ints(0, 0, h * w))
        y = op("Relu", y)
        graph = helper.make_graph(
            nodes,
            "attention",
            [helper.make_tensor_value_info(k, types[k], s) for k, s in inputs.items()],
            [helper.make_empty_tensor_value_info(y)],
            constants,
        )
        opset = helper.make_opsetid("", 18)
        return helper.make_model(graph, opset_imports=[opset], ir_version=10)

    def feeds(self, seed: int = 0) -> dict[str, Array]:
        """Random inputs; every third key is masked, and all of them in the last row."""
        rng = np.random.default_rng(seed)
        b, h, d, w = self.batch, self.heads, self.size, self.width
        if self.joined:
            made = {"qkv": rng.normal(size=(b, self.queries, h * (2 * d + w)))}
        else:
            made = {
                "q": rng.normal(size=(b, self.queries, h * d)),
                "k": rng.normal(size=(b, self.keys, h * d)),
                "v": rng.normal(size=(b, self.keys, h * w)),
            }
        if self.bias:
            bias = rng.normal(size=self.shape(self.bias))
            bias[..., 1::3] = -np.inf
            if self.bias[-2:] == "QK" and self.queries > 2:
                bias[..., -1, :] = -np.inf
            made["bias"] = bias
        made = {name: x.astype(np.float32) for name, x in made.items()}
        if self.mask:
            made["mask"] = rng.random(self.shape(self.mask)) < 0.7
            made["mask"][..., 0] = True
        return made

    def expected(self, feeds: dict[str, Array]) -> Array:
        """The same in NumPy, in double precision."""
        b, h, d, w = self.batch, self.heads, self.size, self.width
        if self.joined:
            parts = np.split(feeds["qkv"], [h * d, 2 * h * d], axis=-1)
        else:
            parts = [feeds[name] for name in "qkv"]
        q, k, v = (
            x.astype(np.float64).reshape(b, -1, h, size).transpose(0, 2, 1, 3)
            for x, size in zip(parts, (d, d, w), strict=True)
        )
        x = q @ k.transpose(0, 1, 3, 2)
        if self.scale != "none":
            x = x / np.sqrt(d)
        if "bias" in feeds:
            bias = feeds["bias"].astype(np.float64)
            x = x + (bias.reshape(b, h, *bias.shape[1:]) if self._joins_heads else bias)
        if "mask" in feeds:
            x = np.where(feeds["mask"], x, -np.inf)
        with np.errstate(invalid="ignore"):
            e = np.exp(x - x.max(axis=-1, keepdims=True))
        y = (e / e.sum(axis=-1, keepdims=True)) @ v
        y = y.transpose(0, 2, 1, 3).reshape(b, self.queries, h * w)
        if self.flat:
            y = y.transpose(1, 0, 2)
        return np.maximum(y, 0)

    @property
    def _joins_heads(self) -> bool:
        return False


def _size(op: object, ints: object, name: str, axis: int) -> str:
    shape = op("Shape", name)  # type: ignore[operator]
    return op("Slice", shape, ints(axis), ints(axis + 1))  # type: ignore[operator,no-any-return]


SIZES = [
    Attention(queries=m, keys=n, size=d, width=w)
    for m, n, d, w in (
        (1, 1, 1, 1), (1, 5, 17, 3), (5, 1, 5, 16), (17, 40, 17, 17), (40, 17, 40, 5),
        (40, 40, 48, 48), (15, 128, 16, 32), (128, 65, 5, 40), (29, 33, 128, 1),
    )
]  # fmt: skip
FORMS = [
    Attention(scale="none"),
    Attention(scale="q"),
    Attention(scale="both", batch=3),
    Attention(turned=True, batch=2, width=5),
    Attention(bias="QK", queries=17),
    Attention(bias="1HQK", batch=2),
    Attention(bias="B11K", batch=3, keys=33),
    Attention(bias="BHQK", batch=2, heads=3, scale="q", keys=17),
    Attention(mask="B11K", batch=3, keys=20),
    Attention(mask="QK", bias="HQ1", keys=40),
    Attention(joined=True, queries=40, keys=40, heads=4, batch=2),
    Attention(flat=True, scale="q", batch=2, heads=3, queries=9, keys=9, size=16, width=16),
    Attention(flat=True, scale="q", batch=2, heads=3, joined=True, queries=9, keys=9),
    Attention(flat=True, turned=True, batch=3),
]
CASES = [*SIZES, *FORMS]
CASES += [replace(c, symbolic=True) for c in CASES]


def _attentions(model: Model) -> list[operations.Attention]:
    steps = model.schedule.steps
    return [s for s in steps if isinstance(s, operations.Attention)]


def _models(cases: list[Attention], monkeypatch: pytest.MonkeyPatch, kernels: str) -> list[Model]:
    monkeypatch.setenv(VARIABLE, kernels)
    models = [Model(from_proto(case.model())) for case in cases]
    for case, model in zip(cases, models, strict=True):
        # One key is no softmax: there is nothing to reduce.
        assert len(_attentions(model)) == (
            kernels != "never" and (case.keys > 1 or case.symbolic)
        ), case
    return models


ISA = {"native": ("-march=native",), "avx2": ("-mavx2", "-mfma"), "generic": ()}


def test_attention_always_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the cost model chooses is what is chosen when kernels are forced."""
    for case in CASES:
        texts = []
        for kernels in ("auto", "always"):
            (model,) = _models([case], monkeypatch, kernels)
            texts.append(model.header(stem="m", standalone=False).text)
        assert texts[0] == texts[1], case


@pytest.mark.parametrize("kernels", ["always", "never"])
def test_numbers(kernels: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = _models(CASES, monkeypatch, kernels)
    library = Compiled(models, tmp_path)
    for k, case in enumerate(CASES):
        feeds = case.feeds()
        (name,) = models[k].outputs
        actual = library.run(k, feeds)[name]
        np.testing.assert_allclose(
            actual, case.expected(feeds), 2e-5, 2e-6, err_msg=f"{case} {kernels}"
        )


@pytest.mark.parametrize("isa", ["avx2", "generic"])
def test_other_instruction_sets(isa: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = _models(CASES[: len(CASES) // 2], monkeypatch, "always")
    flags = [f for f in FLAGS if not f.startswith("-m")]
    library = Compiled(models, tmp_path, flags=(*flags, *ISA[isa]))
    for k, case in enumerate(CASES[: len(models)]):
        feeds = case.feeds()
        (name,) = models[k].outputs
        actual = library.run(k, feeds)[name]
        np.testing.assert_allclose(
            actual, case.expected(feeds), 2e-5, 2e-6, err_msg=f"{case} {isa}"
        )


def test_a_masked_row_is_nan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = Attention(bias="QK", queries=17, keys=20)
    feeds = case.feeds()
    for kernels in ("always", "never"):
        (model,) = _models([case], monkeypatch, kernels)
        (actual,) = Compiled([model], tmp_path).run(0, feeds).values()
        assert np.isnan(actual[0, -1]).all(), kernels
        assert np.isfinite(actual[0, :-1]).all(), kernels


def test_a_row_has_the_bits_that_it_has_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither other events nor other queries change a result."""
    case = Attention(batch=5, heads=3, queries=33, keys=21, size=8, width=12, symbolic=True)
    library = Compiled(_models([case], monkeypatch, "always"), tmp_path)
    feeds = case.feeds()
    (whole,) = library.run(0, feeds).values()
    for n in range(case.batch):
        (alone,) = library.run(0, {name: x[n : n + 1] for name, x in feeds.items()}).values()
        np.testing.assert_array_equal(alone[0], whole[n])
    for m in (1, 2, 3, 7, 13, 14, 15, 20, 27, 28, 29):
        (fewer,) = library.run(0, {**feeds, "q": feeds["q"][:, :m]}).values()
        np.testing.assert_array_equal(fewer, whole[:, :m])


def test_heads_are_read_and_written_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left of the transposes and of the scaling around a fused projection."""
    cases = [c for c in CASES if c.joined]
    for case, model in zip(cases, _models(cases, monkeypatch, "auto"), strict=True):
        (kernel,) = _attentions(model)
        assert [o.buffer for o in kernel.inputs] == ["qkv"] * 3
        assert len(model.schedule.steps) <= 3, f"{case}\n{model.schedule}"


@pytest.mark.parametrize("read", ["scores", "weights"])
def test_what_is_read_elsewhere_is_stored(read: str) -> None:
    proto = Attention().model()
    kind = {"scores": "Div", "weights": "Softmax"}[read]
    (name,) = [n.output[0] for n in proto.graph.node if n.op_type == kind]
    proto.graph.output.append(helper.make_empty_tensor_value_info(name))
    assert not _attentions(Model(from_proto(proto)))


def test_another_axis_is_no_attention() -> None:
    proto = Attention(queries=6, keys=6).model()
    (softmax,) = [n for n in proto.graph.node if n.op_type == "Softmax"]
    softmax.attribute[0].i = -2
    assert not _attentions(Model(from_proto(proto)))


BOUNDS = """
#include <sofie/cpu/attention.hxx>
#include <cstdio>
#include <cstdlib>
#include <vector>
using F = std::vector<float>;
static F random(std::size_t n) {
  F x(n);
  for (float& e : x) e = static_cast<float>(std::rand()) / static_cast<float>(RAND_MAX) - 0.5f;
  return x;
}
// Vectors of exactly the elements that may be touched, so that the sanitizer sees any other.
static bool check(std::size_t b, std::size_t m, std::size_t n, std::size_t k, std::size_t d, bool turned) {
  const F q = random(b * m * k), key = random(b * n * k), v = random(b * n * d);
  F out(b * m * d);
  const std::size_t q_sk = turned ? m : 1;
  F workspace(sofie::attention_workspace(m, n, k, d, q_sk));
  sofie::attention(sofie::fixed<1>{}, b, m, n, k, d, q.data(), 0, m * k, turned ? 1 : k, q_sk, key.data(),
                   0, n * k, turned ? n : 1, turned ? 1 : k, v.data(), 0, n * d, turned ? 1 : d,
                   turned ? n : 1, out.data(), 0, m * d, turned ? 1 : d, turned ? m : 1, workspace.data(),
                   [](auto acc, std::size_t, std::size_t, auto) { return acc * 0.5f; });
  for (std::size_t e = 0; e < b; ++e) {
    for (std::size_t i = 0; i < m; ++i) {
      std::vector<double> p(n);
      double sum = 0;
      for (std::size_t j = 0; j < n; ++j) {
        double x = 0;
        for (std::size_t l = 0; l < k; ++l)
          x += double(q[e * m * k + (turned ? l * m + i : i * k + l)]) *
               double(key[e * n * k + (turned ? l * n + j : j * k + l)]);
        sum += p[j] = std::exp(0.5 * x);
      }
      for (std::size_t c = 0; c < d; ++c) {
        double y = 0;
        for (std::size_t j = 0; j < n; ++j)
          y += p[j] * double(v[e * n * d + (turned ? c * n + j : j * d + c)]);
        const float have = out[e * m * d + (turned ? c * m + i : i * d + c)];
        if (!(std::fabs(double(have) - (n ? y / sum : 0.)) < 1e-5)) {
          std::printf("%zu %zu %zu %zu %zu: %g\\n", b, m, n, k, d, double(have));
          return false;
        }
      }
    }
  }
  return true;
}
int main() {
  const std::size_t sizes[] = {0, 1, 5, 16, 17, 40};
  for (std::size_t m : sizes)
    for (std::size_t n : sizes)
      for (std::size_t k : {0u, 1u, 5u, 16u, 17u})
        for (std::size_t d : {1u, 5u, 16u, 17u, 32u})
          for (bool turned : {false, true})
            if (!check(2, m, n, k, d, turned)) return 1;
  return check(1, 128, 128, 40, 128, false) ? 0 : 1;
}
"""


@pytest.mark.parametrize("isa", ISA)
def test_bounds(isa: str, tmp_path: Path) -> None:
    flags = ("-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", *ISA[isa])
    run_program(compile_program(tmp_path, BOUNDS, flags))


def test_a_softmax_of_an_input_is_no_attention() -> None:
    nodes = [
        helper.make_node("Softmax", ["x"], ["p"]),
        helper.make_node("MatMul", ["p", "v"], ["y"]),
    ]
    inputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [2, 3, 3]) for n in "xv"]
    graph = helper.make_graph(nodes, "m", inputs, [helper.make_empty_tensor_value_info("y")])
    assert not _attentions(Model(from_proto(helper.make_model(graph))))
