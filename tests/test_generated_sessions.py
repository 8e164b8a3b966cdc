"""What compiled Sessions promise: no allocation, threads, rows that do not depend on the batch, weights."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compiled import FLAGS, Compiled
from cpp_program import compile_program, run_program
from onnx_models import model, node, random, tensor, value
from small_models import attention, cnn, control, evil, mlp, parsed, rnn, selection, weight

from sofie_root.errors import StorageError
from sofie_root.model import Model
from sofie_root.runtime.session import open_header
from sofie_root.storage.weights import write_dat

TESTS = Path(__file__).parent
OPTIMISED = [*(f for f in FLAGS if f != "-O1"), "-O3", "-fno-math-errno", "-fno-trapping-math"]
"""As models are compiled when they run."""

NAMED = {
    "mlp": (mlp(), [(40,), (1,), (40,), (17,), (0,), (40,)]),
    "cnn": (cnn("N"), [(9,), (2,), (1,), (9,)]),
    "fixed": (cnn(), [(), (), ()]),
    "rnn": (rnn(), [(12, 7), (12, 1), (1, 7), (5, 5), (12, 7)]),
    "attention": (attention(), [(6, 30), (1, 30), (6, 1), (2, 3), (6, 30)]),
    "selection": (selection(), [(900,), (3,), (0,), (900,)]),
    "control": (control(), [(60,), (1,), (60,), (0,), (7,)]),
    "evil": (evil(), [(50,), (1,), (50,)]),
}
"""Models, and sizes of their symbols in turn, the largest first."""

# -- allocation ------------------------------------------------------------------------------------

COUNT_ALLOCATIONS = """
#include <cstdio>
#include <cstdlib>
static long allocations = 0;
extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);
void* malloc(std::size_t n) noexcept { ++allocations; return __libc_malloc(n); }
void* calloc(std::size_t n, std::size_t s) noexcept { ++allocations; return __libc_calloc(n, s); }
void* realloc(void* p, std::size_t n) noexcept { ++allocations; return __libc_realloc(p, n); }
void* aligned_alloc(std::size_t a, std::size_t n) noexcept { ++allocations; return __libc_memalign(a, n); }
int posix_memalign(void** p, std::size_t a, std::size_t n) noexcept {
  ++allocations;
  *p = __libc_memalign(a, n);
  return 0;
}
}
template <class Session>
void count(const char* name, std::initializer_list<typename harness::Caller<Session>::Dims> dims) {
  harness::Caller<Session> call;
  for (const auto& d : dims) {
    const long before = allocations;
    call(d);
    std::printf("%s %ld\\n", name, allocations - before);
  }
}
"""
"""Replaces the C library's allocation; ``operator new`` of the C++ library ends there too."""


def sizes(dims: Sequence[tuple[int, ...]]) -> str:
    return "{" + ", ".join("{" + ", ".join(map(str, d)) + "}" for d in dims) + "}"


def includes(folder: Path) -> str:
    for name, (network, _) in NAMED.items():
        network.generate(folder / f"{name}.hxx", standalone=False)
    lines = [f'#include "{name}.hxx"' for name in NAMED]
    return "\n".join([*lines, f'#include "{TESTS / "harness.hxx"}"', ""])


def test_a_warm_session_allocates_nothing(tmp_path: Path) -> None:
    calls = [
        f'count<TMVA_SOFIE_{name}::Session>("{name}", {sizes(dims)});'
        for name, (_, dims) in NAMED.items()
    ]
    main = "int main() {\n  " + "\n  ".join(calls) + "\n}\n"
    program = compile_program(tmp_path, includes(tmp_path) + COUNT_ALLOCATIONS + main)
    found: dict[str, list[int]] = {}
    for line in run_program(program).splitlines():
        name, number = line.split()
        found.setdefault(name, []).append(int(number))
    assert list(found) == list(NAMED)
    assert found["mlp"][0] == 1  # the arena, so the count is one that counts
    for name, numbers in found.items():
        assert len(numbers) == len(NAMED[name][1])
        assert not any(numbers[1:]), f"{name}: {numbers}"


# -- threads ---------------------------------------------------------------------------------------

THREADS = """
#include <atomic>
#include <cstdio>
#include <thread>
template <class Session>
void check(const char* name, std::initializer_list<typename harness::Caller<Session>::Dims> list) {
  using Dims = typename harness::Caller<Session>::Dims;
  const std::vector<Dims> dims = list;
  std::vector<std::vector<unsigned char>> expected;
  for (const Dims& d : dims) {
    harness::Caller<Session> call;
    call(d);
    expected.push_back(call.result());
  }
  std::atomic<int> wrong{0}, ready{0};
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      ++ready;
      while (ready < 4) {
      }
      for (int round = 0; round < 10; ++round) {
        harness::Caller<Session> call;  // Sessions are made while others run
        for (std::size_t k = 0; k < 20; ++k) {
          const std::size_t n = (k + t) % dims.size();
          call(dims[n]);
          if (call.result() != expected[n]) ++wrong;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::printf("%s %d\\n", name, wrong.load());
}
"""


def test_sessions_in_several_threads_give_the_same_bits(tmp_path: Path) -> None:
    calls = [
        f'check<TMVA_SOFIE_{name}::Session>("{name}", {sizes(dims)});'
        for name, (_, dims) in NAMED.items()
    ]
    main = "int main() {\n  " + "\n  ".join(calls) + "\n}\n"
    source = includes(tmp_path) + THREADS + main
    program = compile_program(tmp_path, source, ["-O1", "-march=native", "-pthread"])
    assert run_program(program) == "".join(f"{name} 0\n" for name in NAMED)


def test_sessions_share_weights(tmp_path: Path) -> None:
    path = mlp().generate(tmp_path / "m.hxx")
    source = f"""#include "m.hxx"
#include <cstdio>
#include <thread>
using TMVA_SOFIE_m::Session;
using TMVA_SOFIE_m::Weights;
int main() {{
  const std::string file = "{path.with_suffix(".dat")}";
  std::vector<std::unique_ptr<Session>> sessions(32);
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < 8; ++t) {{
    threads.emplace_back([&, t] {{
      for (std::size_t k = 0; k < 4; ++k) sessions[4 * t + k] = std::make_unique<Session>(file);
    }});
  }}
  for (auto& thread : threads) thread.join();
  std::weak_ptr<const Weights> watch;
  {{
    auto shared = TMVA_SOFIE_m::sofie::shared_weights<Weights>(file);
    watch = shared;
    std::printf("%ld\\n", shared.use_count());
  }}
  Session moved = std::move(*sessions[0]);
  std::printf("%ld\\n", watch.use_count());
  sessions.clear();
  std::printf("%ld\\n", watch.use_count());
}}
"""
    program = compile_program(tmp_path, source, ["-O1", "-pthread"], headers=False)
    # 32 Sessions and the one that asks hold one object; the last Session frees it.
    assert run_program(program).split() == ["33", "32", "1"]


# -- rows and batches ------------------------------------------------------------------------------

BATCHES = (1, 2, 3, 5, 8, 13, 15, 16, 17, 29, 33, 64)


def elementwise() -> Model:
    """Functions of single elements: neighbours share a vector, and the last vector is partial."""
    functions = ("Exp", "Tanh", "Sigmoid", "Erf", "Softplus", "Gelu", "Sin", "Atan", "HardSwish")
    nodes, names = [], []
    for k, function in enumerate(functions):
        nodes.append(node(function, ["x"], [f"f{k}"], name=function))
        names.append(f"f{k}")
    nodes += [
        node("Sum", names, ["sum"], name="sum"),
        node("Mul", ["sum", "w"], ["scaled"], name="scale"),
        node("Div", ["scaled", "x"], ["y"], name="divide"),
    ]
    inputs, outputs = [value("x", ["N", 7])], [value("y", ["N", 7])]
    return parsed(model(nodes, inputs, outputs, [tensor("w", weight(7))]), "elementwise")


def normalised(dtype: Any = np.float32) -> Model:
    """Layer, instance and batch normalisation, reductions and log-softmax of rows."""
    number = {np.float32: "float", np.float64: "double"}[dtype]
    tensors = [
        tensor(n, weight(6, start=k).astype(dtype) + dtype(k == 3))
        for k, n in enumerate(("scale", "shift", "mean", "var"))
    ] + [tensor("axes", np.array([2])), tensor("w", weight(9, 5).astype(dtype))]
    nodes = [
        node("BatchNormalization", ["x", "scale", "shift", "mean", "var"], ["b"], name="bn"),
        node("InstanceNormalization", ["b", "scale", "shift"], ["i"], name="in"),
        node("MatMul", ["i", "w"], ["m"], name="matmul"),
        node("ReduceMean", ["m", "axes"], ["mean_of"], name="mean"),
        node("Sub", ["m", "mean_of"], ["c"], name="centre"),
        node("ReduceL2", ["c", "axes"], ["norm"], name="norm", keepdims=0),
        node("LogSoftmax", ["norm"], ["y"], name="logsoftmax"),
    ]
    inputs, outputs = [value("x", ["N", 6, 9], dtype)], [value("y", ["N", 6], dtype)]
    return parsed(model(nodes, inputs, outputs, tensors), f"normalised_{number}")


def convolutions() -> Model:
    """One-dimensional, depthwise, pointwise, strided and transposed convolutions, and pooling."""
    tensors = [
        tensor("wide", weight(8, 5, 3)),
        tensor("depth", weight(8, 1, 3)),
        tensor("point", weight(20, 8, 1)),
        tensor("up", weight(20, 3, 2)),
        tensor("b", weight(20)),
    ]
    nodes = [
        node("Conv", ["x", "wide"], ["a"], name="wide", pads=[1, 1]),
        node("LeakyRelu", ["a"], ["a1"], name="leaky"),
        node("Conv", ["a1", "depth"], ["d"], name="depth", group=8, strides=[2]),
        node("Conv", ["d", "point", "b"], ["p"], name="point"),
        node("Elu", ["p"], ["p1"], name="elu"),
        node("AveragePool", ["p1"], ["q"], name="pool", kernel_shape=[3], pads=[1, 1]),
        node("ConvTranspose", ["q", "up"], ["t"], name="up", strides=[2]),
        node("GlobalMaxPool", ["t"], ["g"], name="max"),
        node("GlobalAveragePool", ["t"], ["h"], name="mean"),
        node("Concat", ["g", "h", "t"], ["y"], name="concat", axis=2),
    ]
    outputs = [value("y", ["N", 3, None])]
    return parsed(model(nodes, [value("x", ["N", 5, 19])], outputs, tensors), "convolutions")


def images() -> Model:
    """Two-dimensional convolutions of many channels, strided, dilated, grouped and pointwise."""
    tensors = [
        tensor("first", weight(40, 3, 5, 5)),
        tensor("group", weight(24, 10, 3, 3)),
        tensor("point", weight(33, 24, 1, 1)),
        tensor("wide", weight(18, 33, 3, 3)),
    ]
    nodes = [
        node("Conv", ["x", "first"], ["a"], name="first", strides=[2, 2], pads=[2] * 4),
        node("Relu", ["a"], ["a1"], name="relu"),
        node("Conv", ["a1", "group"], ["b"], name="group", group=4, pads=[1] * 4),
        node("Tanh", ["b"], ["b1"], name="tanh"),
        node("Conv", ["b1", "point"], ["c"], name="point"),
        node("Conv", ["c", "wide"], ["d"], name="wide", dilations=[2, 2]),
        node("GlobalAveragePool", ["d"], ["y"], name="mean"),
    ]
    inputs, outputs = [value("x", ["N", 3, 17, 14])], [value("y", ["N", 18, 1, 1])]
    return parsed(model(nodes, inputs, outputs, tensors), "images")


ROWS: list[tuple[Model, tuple[int, ...], int]] = [
    (mlp((16, 32, 5)), (16,), 0),
    (mlp((7, 50, 50, 50, 3)), (7,), 0),
    (mlp((3, 200, 17, 1)), (3,), 0),
    (mlp((1100, 33, 64, 130)), (1100,), 0),
    (cnn("N"), (2, 8, 8), 0),
    (convolutions(), (5, 19), 0),
    (images(), (3, 17, 14), 0),
    (attention(), (9, 12), 0),
    (attention(), (1, 12), 0),
    (rnn(), (4, 3), 1),
    (elementwise(), (7,), 0),
    (normalised(np.float32), (6, 9), 0),
    (normalised(np.float64), (6, 9), 0),
]
"""Models, the shape of one row, and the axis of the batch in input and outputs."""


def assert_rows_alone_are_rows_of_a_batch(
    run: Any, network: Model, shape: tuple[int, ...], axis: int
) -> list[str]:
    """What differs between a row in a batch and the same row alone."""
    (name,) = network.inputs
    dtype = network.inputs[name].dtype.numpy
    x = random((max(BATCHES), *shape), dtype)
    alone = [run({name: np.expand_dims(row, axis)}) for row in x]
    different = []
    for count in BATCHES:
        outputs = run({name: np.ascontiguousarray(np.moveaxis(x[:count], 0, axis))})
        for output, found in outputs.items():
            at = found.ndim - 2 if axis else 0
            expected = np.concatenate([one[output] for one in alone[:count]], at)
            assert np.isfinite(expected).all()
            if found.tobytes() != expected.tobytes():
                apart = np.max(np.abs(found - expected))
                different.append(f"{network.name}, {output}, batch {count}: by {apart:.1e}")
    return different


@pytest.mark.parametrize("flags", [FLAGS, OPTIMISED], ids=["O1", "O3"])
def test_a_row_does_not_depend_on_its_batch(tmp_path: Path, flags: list[str]) -> None:
    library = Compiled([network for network, _, _ in ROWS], tmp_path, flags=flags)
    different = []
    for k, (network, shape, axis) in enumerate(ROWS):
        different += assert_rows_alone_are_rows_of_a_batch(
            lambda inputs, k=k: library.run(k, inputs), network, shape, axis
        )
    assert not different, "\n".join(different)


def test_a_row_does_not_depend_on_its_batch_in_cling() -> None:
    for network, shape, axis in (ROWS[1], ROWS[7], ROWS[10]):
        session = network.session(jit="cling")
        assert not assert_rows_alone_are_rows_of_a_batch(session.run, network, shape, axis)


# -- weights ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", [mlp(), rnn(), evil()], ids=lambda m: m.name[:9])
def test_weights_from_any_place_give_the_same_bits(tmp_path: Path, network: Model) -> None:
    inputs = [
        random((2, *(3 for _ in t.shape[1:-1]), t.shape[-1])) for t in network.inputs.values()
    ]
    results = []
    for kind in ("dat", "root", "embedded"):
        folder = tmp_path / kind
        folder.mkdir()
        header = network.generate(folder / "m.hxx", kind)  # type: ignore[arg-type]
        files = sorted(path.suffix for path in folder.iterdir())
        assert files == sorted({".hxx", f".{kind}"} - {".embedded"})
        session = open_header(header, jit="cling")
        outputs = session(*inputs)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        results.append([(o.shape, o.tobytes()) for o in outputs])
    assert results[0] == results[1] == results[2]


def test_a_session_refuses_other_weights(tmp_path: Path) -> None:
    network = mlp()
    path = network.generate(tmp_path / "m.hxx")
    good = path.with_suffix(".dat")
    header = network.header(stem="m")
    source = """#include "m.hxx"
#include <cstdio>
int main(int count, char** files) {
  for (int k = 1; k < count; ++k) {
    try {
      TMVA_SOFIE_m::Session session(files[k]);
      std::puts("taken");
    } catch (const std::runtime_error& error) {
      std::puts(error.what());
    }
  }
}
"""
    program = compile_program(tmp_path, source, headers=False)
    image = good.read_bytes()
    arrays = dict(header.constants)
    bad: dict[str, str] = {"absent": "cannot be opened"}

    def write(name: str, data: bytes, message: str) -> None:
        (tmp_path / name).write_bytes(data)
        bad[name] = message

    def pack(name: str, constants: dict[str, np.ndarray], message: str) -> None:
        write_dat(tmp_path / name, constants, header.model_hash)
        bad[name] = message

    write("empty", b"", "expected a header of 64 bytes, found 0 bytes")
    write("cut", image[: len(image) // 2], f"expected {len(image)} bytes, found {len(image) // 2}")
    write("longer", image + b"\0" * 64, f"expected {len(image)} bytes, found {len(image) + 64}")
    write("text", b"weights", "this is no weights file|found 7 bytes")
    write("flipped", image[:-100] + b"\xff" + image[-99:], "expected checksum [0-9]+, found [0-9]+")
    cnn().generate(tmp_path / "cnn.hxx")
    bad["cnn.dat"] = "another model: expected model hash [0-9a-f]{64}, found [0-9a-f]{64}"
    network.save(tmp_path / "m.root")
    bad["m.root"] = "is a ROOT file, but this header reads .dat files"
    pack(
        "shape",
        arrays | {"b1": arrays["b1"][:31]},
        r"'b1': expected float\[32\], found float\[31\]",
    )
    pack("dtype", arrays | {"b1": arrays["b1"].astype(float)}, r"'b1': .*, found double\[32\]")
    pack("missing", {k: v for k, v in arrays.items() if k != "b2"}, "'b2': .*, found no tensor")
    lines = run_program(program, str(good), *(str(tmp_path / name) for name in bad)).splitlines()
    assert lines[0] == "taken"
    for line, (name, message) in zip(lines[1:], bad.items(), strict=True):
        assert line.startswith(f"weights file '{tmp_path / name}': ")
        assert re.search(message, line), line


def test_weights_in_a_root_file_are_refused_likewise(tmp_path: Path) -> None:
    header = mlp().generate(tmp_path / "m.hxx", "root")
    cnn().generate(tmp_path / "cnn.hxx", "root")
    mlp().save(tmp_path / "plain.root")
    for name, message in {
        "cnn.root": "another model: expected model hash",
        "plain.root": "expected TTree 'header/dat'",
    }.items():
        with pytest.raises(StorageError, match=f"{name}.*{message}"):
            open_header(header, weights=tmp_path / name, jit="cling")
