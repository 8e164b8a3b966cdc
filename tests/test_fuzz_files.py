"""The mutation fuzzer for files: that it notices what it is there for, and some of its mutations.

``cd tests; python -m fuzz_files`` runs it for longer.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from pathlib import Path

import pytest
from cpp_program import require_compiler
from fuzz_files import description, protobuf
from fuzz_files.attempt import mutation
from fuzz_files.compile import build_reader, check_headers, read_weights, run_headers
from fuzz_files.seeds import Seeds
from fuzz_files.workers import Tally, Workers
from onnx import ModelProto
from small_models import mlp

from sofie_root.budget import stage
from sofie_root.errors import SofieError
from sofie_root.storage import root_file

COUNT = 400
"""Mutations in `make test`."""


class Faulty:
    """What a worker calls here: everything that must be noticed, by its number."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __call__(self, number: int) -> str:
        if number == 1:
            raise IndexError("a fault")
        if number == 2:
            while True:
                pass
        if number == 3:
            with stage():
                return str(len(bytearray(3 << 30)))
        if number == 4:
            os.kill(os.getpid(), signal.SIGSEGV)
        if number == 5:
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGPROF])
            time.sleep(1000)
        if number == 6:
            try:
                while True:
                    pass
            except Exception:  # an error of any kind would be taken for a damaged file
                return "refused"
        return "accepted"


def test_faults_are_noticed(tmp_path: Path) -> None:
    """Errors, endless loops, too much memory, crashes, and silence; each with its number."""
    workers = Workers("test_fuzz_files:Faulty", {"folder": str(tmp_path)}, 2, 0.5, 512 << 20)
    tally = Tally()
    found = [f for answer in workers.run(iter(range(1, 12))) if (f := tally.add(answer))]
    faults = {f.number: f.fault for f in found}
    assert faults.pop(1) == "IndexError: a fault"
    assert {faults.pop(n) for n in (2, 6) if n in faults} == {"takes more than 0.5 s"}
    assert "memory" in faults.pop(3).lower()
    assert "died with status -11" in faults.pop(4)
    assert "says nothing" in faults.pop(5)
    assert not faults
    assert tally.tried == 11
    assert tally.outcomes == {"accepted": 5, "FAULT": 6}


@pytest.fixture(scope="module")
def seeds() -> Seeds:
    return Seeds()


def test_mutations_are_those_of_their_number(seeds: Seeds) -> None:
    for targets in (("onnx",), ("onnx-bytes",), ("dat",)):
        for number in range(10):
            one, two = (mutation(made, 5, number, targets) for made in (seeds, Seeds()))
            assert one == two
    # uproot writes the date and a random identifier into each file.
    one, two = (mutation(made, 5, 3, ("root",)) for made in (seeds, Seeds()))
    assert (one.what, len(one.data)) == (two.what, len(two.data))


def test_mutations_reach_everything(seeds: Seeds) -> None:
    """Every kind of message is changed in ONNX, and every part of a description."""
    rng = random.Random(0)
    changed, parts = set(), set()
    for _ in range(600):
        proto, other = seeds.proto(rng), seeds.proto(rng)
        changed.add(protobuf.change(proto, rng, other, ["x"]).split(".")[0])
        assert ModelProto.FromString(proto.SerializeToString()) is not None
    assert changed >= {
        "ModelProto", "GraphProto", "NodeProto", "AttributeProto", "TensorProto", "ValueInfoProto",
        "TypeProto", "Tensor", "TensorShapeProto", "Dimension", "OperatorSetIdProto",
    }  # fmt: skip
    document = description.document_of(seeds.graph(rng))
    for _ in range(900):
        copied = description.document_of(seeds.graph(rng))
        parts.add(description.change(copied, rng, document).split("/")[0])
    assert parts >= {"nodes", "types", "constants", "inputs", "outputs", "metadata", "format"}


def test_only_sofie_errors_come_out(tmp_path: Path) -> None:
    """The fuzzer itself, over all kinds of files, with limits of memory and time."""
    arguments = {"seed": 1, "keep": str(tmp_path)}
    workers = Workers("fuzz_files.attempt:Attempt", arguments, 2)
    tally = Tally()
    for answer in workers.run(iter(range(1, COUNT + 1))):
        tally.add(answer)
    assert tally.tried == COUNT
    assert not tally.findings, [
        f"{f.fault}: python -m fuzz_files --seed 1 --number {f.number}"
        for f in tally.findings.values()
    ]
    assert tally.outcomes["accepted"] > COUNT / 10
    assert tally.outcomes["ModelError"] > COUNT / 10
    require_compiler("g++")
    headers = sorted(tmp_path.glob("*.hxx"))
    assert check_headers(headers[:: len(headers) // 20]) == []


def test_damaged_weights_in_cpp(tmp_path: Path) -> None:
    """The reader of generated headers, with both sanitizers, accepts nothing that Python refuses."""
    require_compiler("g++")
    accepted, problems = read_weights(build_reader(tmp_path), tmp_path, 1, 2000)
    assert not problems
    assert 50 < accepted < 1500


OUT_OF_BOUNDS = """
#include <tuple>
#include <vector>
namespace bad {
struct Session {
  static constexpr std::size_t kSymbols = 1;
  struct Input0 {
    using type = float;
    static constexpr std::size_t rank = 1;
    static constexpr std::int64_t shape[1] = {-1};
  };
  using Inputs = std::tuple<Input0>;
  std::vector<float> infer(std::size_t n, const float* x) { return {x[n < 3 ? 0 : n]}; }
};
}
"""


def test_sanitizers_watch_accepted_models(tmp_path: Path) -> None:
    require_compiler("g++")
    (tmp_path / "bad.hxx").write_text(OUT_OF_BOUNDS)
    (tmp_path / "good.hxx").write_text(mlp().header("good", "embedded", standalone=False).text)
    headers = [tmp_path / "bad.hxx", tmp_path / "good.hxx"]
    verdicts, problems = run_headers(headers, tmp_path)
    assert verdicts == {"sanitizer": 1, "ran": 1}
    assert len(problems) == 1
    assert "bad: sanitizer" in problems[0]
    assert "heap-buffer-overflow" in problems[0]


def test_errors_of_mutations_are_readable(seeds: Seeds) -> None:
    rng = random.Random(3)
    errors = []
    for _ in range(60):
        graph = seeds.graph(rng)
        document = description.document_of(graph)
        description.change(document, rng, document)
        trees = list(graph.constants.values())
        try:
            with contextlib.suppress(IndexError), stage():  # that of the list of constants
                root_file.graph_of(document, lambda k, *_, t=trees: t[k])
        except SofieError as error:
            errors.append(str(error))
    assert len(errors) > 10
    assert not [e for e in errors if "Traceback" in e or not 10 < len(e) < 20_000]
