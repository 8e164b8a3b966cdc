"""Models of the zoo under the address and undefined-behaviour sanitizers, with memory of exact size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cpp_program import compile_program, run_program
from small_models import SMALL, attention
from test_zoo import EACH_NETWORK, Entry, difference

from sofie_root.model import Model, load

SANITIZE = ("-O1", "-g1", "-march=native", "-fsanitize=address,undefined", "-fno-sanitize-recover")

MAIN = """
#include "model.hxx"
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>

static std::vector<char> content(const std::string& path) {{
  std::ifstream file(path, std::ios::binary);
  return {{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()}};
}}
/// The file in memory of exactly its size, so that a read beyond it is seen.
static void* exact(const std::string& path) {{
  const std::vector<char> bytes = content(path);
  void* memory = std::malloc(bytes.size());
  if (!bytes.empty()) std::memcpy(memory, bytes.data(), bytes.size());
  return memory;
}}
template <class T>
static void save(const std::string& path, const std::vector<T>& data) {{
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(data.data()), std::streamsize(data.size() * sizeof(T)));
}}
/// Arguments: a folder per call, and the sizes of the symbols in it.
int main(int count, char** arguments) {{
  static TMVA_SOFIE_model::Session session;
  for (int k = 1; k < count; k += 1 + {symbols}) {{
    const std::string folder = arguments[k];
    std::size_t dims[{symbols} + 1] = {{}};
    for (int s = 0; s < {symbols}; ++s) dims[s] = std::strtoul(arguments[k + 1 + s], nullptr, 10);
    static_cast<void>(dims);
    void* in[] = {{{loads}}};
    auto result = session.infer({arguments});
{saves}
    for (void* p : in) std::free(p);
  }}
}}
"""


def program(network: Model, folder: Path) -> Path:
    network.generate(folder / "model.hxx", standalone=False)
    inputs, outputs = network.inputs.values(), network.outputs
    sizes = [f"dims[{k}]" for k in range(len(network.symbols))]
    pointers = [f"static_cast<const {t.dtype.cpp}*>(in[{k}])" for k, t in enumerate(inputs)]
    results = (
        ["result"] if len(outputs) == 1 else [f"std::get<{k}>(result)" for k in range(len(outputs))]
    )
    text = MAIN.format(
        symbols=len(network.symbols),
        loads=", ".join(f'exact(folder + "/in{k}")' for k in range(len(pointers))),
        arguments=", ".join(sizes + pointers),
        saves="\n".join(f'    save(folder + "/out{k}", {r});' for k, r in enumerate(results)),
    )
    return compile_program(folder, text, SANITIZE)


def run_sets(
    network: Model, sets: list[dict[str, np.ndarray]], folder: Path
) -> list[dict[str, np.ndarray]]:
    """The outputs of each set of inputs through one Session, flat."""
    arguments: list[str] = []
    for number, inputs in enumerate(sets):
        place = folder / f"set{number}"
        place.mkdir()
        sizes: dict[str, int] = {}
        for k, (name, type_) in enumerate(network.inputs.items()):
            (place / f"in{k}").write_bytes(inputs[name].astype(type_.dtype.numpy).tobytes())
            for dim, size in zip(type_.shape, inputs[name].shape, strict=True):
                sizes.setdefault(str(dim), size)
        arguments += [str(place), *(str(sizes[s]) for s in network.symbols)]
    run_program(program(network, folder), *arguments, cwd=folder)
    return [
        {
            name: np.fromfile(folder / f"set{number}" / f"out{k}", type_.dtype.numpy)
            for k, (name, type_) in enumerate(network.outputs.items())
        }
        for number in range(len(sets))
    ]


@pytest.mark.slow
@pytest.mark.parametrize("entry", EACH_NETWORK)
def test_zoo(entry: Entry, tmp_path: Path) -> None:
    network = load(entry.path)
    sets = list(entry.sets())
    found = run_sets(network, [inputs for inputs, _ in sets], tmp_path)
    for outputs, (_, expected) in zip(found, sets, strict=True):
        for name, want in expected.items():
            assert difference(outputs[name], want.reshape(-1)) <= entry.tolerance


@pytest.mark.slow
@pytest.mark.parametrize("make", [*SMALL.values(), attention], ids=lambda make: make.__name__)
def test_small_models(make: object, tmp_path: Path) -> None:
    """All sizes from none to a few: partial vectors, empty tensors, growing and shrinking."""
    network: Model = make()  # type: ignore[operator]
    sets = []
    for n, m in [(3, 2), (1, 1), (0, 3), (17, 5), (2, 0), (33, 18), (16, 1)]:
        sizes = dict(zip(network.symbols, (n, m), strict=False))
        inputs = {}
        for name, type_ in network.inputs.items():
            shape = [d if isinstance(d, int) else sizes[str(d)] for d in type_.shape]
            numbers = np.linspace(-2, 3, int(np.prod(shape))).reshape(shape)
            inputs[name] = np.asarray(numbers + 5 * type_.dtype.is_integer, type_.dtype.numpy)
        sets.append(inputs)
    for inputs, outputs in zip(sets, run_sets(network, sets, tmp_path), strict=True):
        for name, expected in _interpreted(network, inputs).items():
            np.testing.assert_allclose(outputs[name], expected.reshape(-1), rtol=1e-4, atol=1e-5)


def _interpreted(network: Model, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    from sofie_root.program.interpret import evaluate

    with np.errstate(all="ignore"):
        return dict(evaluate(network.graph, inputs))
