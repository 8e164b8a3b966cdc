"""The benchmark, without looking at its times: models, counted operations, peers, reports."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sofie_root
from rootbench import events, findings, models, plots, report, revisions, run, timing
from rootbench.__main__ import main
from rootbench.macs import count
from rootbench.peers import CONTENDERS, Job, NotMeasured
from rootbench.worker import compare, generate, summary
from rootbench.zoo_folder import ABSENT, ZOO


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Models and libraries go to a folder of the test."""
    monkeypatch.setenv("ROOTBENCH_WORK", str(tmp_path / "work"))
    return tmp_path / "work"


def prepared(name: str) -> Job:
    (case,) = models.select([name])
    return run.prepare(case)


def test_names_are_unique_and_fit_in_a_path() -> None:
    folders = [case.name.replace("/", "_").lower() for case in models.catalogue()]
    assert len(set(folders)) == len(folders)


def test_default_set_leaves_the_heaviest_out() -> None:
    default = {case.name for case in models.select([])}
    everything = {case.name for case in models.select([], everything=True)}
    assert everything - default == {"conv14_b32"}
    assert {case.name for case in models.select(["linear50*"])} == {
        "linear50x10_b1",
        "linear50x10_b32",
        "linear50x10_b256",
    }


@pytest.mark.parametrize(
    ("name", "macs"),
    [
        ("linear50x10_b32", 32 * 10 * 50 * 50),
        ("conv5x5_1to2", 2 * 25 * 100 * 100),
        ("lstm", 40 * 4 * 64 * (32 + 64) + 64 * 8),
        ("convtranspose", 16 * 32 * 32 * 8 * 16),
        ("interaction_50", 10 * (4 + 64 + 64) * 64 + 40 * (4 + 64 + 64) * 64 + 40 * 64
         + 2 * 40 * (3 * 64 + 64 + 64) * 64 + 2 * 10 * (2 * 64 + 64 + 64) * 64),
    ],
)  # fmt: skip
def test_macs_of_our_models(name: str, macs: int) -> None:
    assert generate(prepared(name), "")["macs"] == macs


@pytest.mark.skipif(not ZOO.is_dir(), reason=ABSENT)
@pytest.mark.parametrize("name", ["cms_hlt_particlenetak4_v00", "synth_rnnip_bilstm_gru"])
def test_macs_agree_with_those_the_zoo_states(name: str) -> None:
    (case,) = models.select([f"zoo/{name}"])
    model = sofie_root.load(ZOO / "models" / name / "model.onnx")
    assert count(model.graph, {s: case.dims[s] for s in model.symbols}) == case.macs


def test_sizes_that_the_data_decide_are_not_counted(tmp_path: Path) -> None:
    from rootbench.net import Net

    net = Net("chosen")
    x = net.input("x", 8)
    rows = net("Transpose", net("NonZero", x))
    kept = net("Gather", net.weight(8, 4, fan_in=8), net("Squeeze", rows, net.ints(1)), axis=0)
    model = net.model({net.linear(kept, 4, 3): [None, 3]})
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    assert count(sofie_root.load(tmp_path / "m.onnx").graph, {}) is None


@pytest.mark.parametrize("name", ["linear50x10_b1", "interaction_50"])
@pytest.mark.parametrize("contender", ["onnxruntime", "sofie-g++", "openvino"])
def test_timed_call_computes_the_outputs(name: str, contender: str) -> None:
    if contender == "openvino":
        pytest.importorskip("openvino", reason="OpenVINO is not installed: pip install openvino")
    job = prepared(name)
    generate(job, "")
    opened = CONTENDERS[contender].open(job)
    for array in opened.outputs().values():
        array.fill(0)
    assert timing.warm(opened.call, 2) > 0
    assert max(compare(opened, job).values()) < 1e-5
    assert timing.flushed(opened.call, np.zeros(1 << 12, np.uint8), 3).shape == (3,)


@pytest.mark.parametrize("name", ["lstm", "gru", "conv3d", "gn2", "particlenet", "interaction_50"])
def test_pytorch_module_computes_the_outputs(name: str) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch")
    job = prepared(name)
    opened = CONTENDERS["pytorch"].open(job)
    assert max(compare(opened, job).values()) < 1e-5


def other_revision(folder: Path, old: str, new: str) -> Path:
    """A copy of the sources with one change, as another revision would have it."""
    for part in ("sofie_root", "cpp"):
        shutil.copytree(revisions.ROOT / part, folder / part)
    changed = [f for f in folder.rglob("*.py") if old in f.read_text()]
    (file,) = changed
    file.write_text(file.read_text().replace(old, new, 1))
    return folder


def test_revisions_with_the_same_code_are_not_timed(tmp_path: Path) -> None:
    job = prepared("linear50x10_b1")
    found = revisions.compare_model(job, [revisions.ROOT, revisions.ROOT], 1e-5, 0.0, 2)
    assert (found.before, found.ratio, found.wrong, found.difference) == (None, 1.0, (), 0.0)


@pytest.mark.parametrize("name", ["linear50x10_b1", "interaction_50"])
def test_revisions_are_timed_and_their_outputs_compared(name: str, tmp_path: Path) -> None:
    job = prepared(name)
    trees = [revisions.ROOT, other_revision(tmp_path, 'VERSION = "', 'VERSION = "9')]
    found = revisions.compare_model(job, trees, 1e-5, 0.0, 2)
    assert found.before is not None
    assert found.wrong == ()
    assert found.difference == 0
    wrong = other_revision(
        tmp_path / "wrong",
        'unary("Relu", 14, "relu", NUMERIC)',
        'unary("Relu", 14, "abs", NUMERIC)',
    )
    found = revisions.compare_model(job, [revisions.ROOT, wrong], 1e-5, 0.0, 2)
    assert found.wrong == ("after",)
    assert found.difference > 1e-3


def test_median_interval_covers_the_median_and_narrows() -> None:
    rng = np.random.default_rng(1)
    draws = rng.standard_normal((400, 101))
    intervals = np.array([revisions.median_interval(d) for d in draws])
    covered = np.mean((intervals[:, 0] <= 0) & (intervals[:, 1] >= 0))
    assert 0.92 < covered < 0.99
    assert revisions.median_interval(np.array([2.0])) == (2.0, 2.0)


def test_unknown_revision_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "no-such-revision"]) == 1
    assert "git knows no revision 'no-such-revision'" in capfd.readouterr().err


def test_onnxruntime_refuses_with_its_own_words() -> None:
    job = prepared("linear50x10_b1")
    job.model.write_bytes(b"no model")
    with pytest.raises(NotMeasured, match="CreateSession: "):
        CONTENDERS["onnxruntime"].open(job)


def test_failing_call_is_an_error() -> None:
    failing = timing.PythonCall(lambda _: 3)
    with pytest.raises(timing.CallError, match="status 3"):
        timing.warm(timing.Call(timing.address(failing), 0), 1)


def test_summary_of_times() -> None:
    assert summary([4.0, 1.0, 2.0, 3.0, 5.0]) == {"median": 3.0, "min": 1.0, "spread": 2.0}


def test_whole_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ["--models", "linear50x10_b1", "--no-cling", "--peers", "onnxruntime,lwtnn"]
    code = main([*arguments, "--seconds", "0.01", "--min-rounds", "2", "--output", str(tmp_path)])
    assert code == 0
    found = json.loads((tmp_path / "bench.json").read_text())
    case = found["cases"]["linear50x10_b1"]
    assert set(case["measure"]["results"]) == {"sofie-g++", "onnxruntime"}
    assert case["generate"]["weight_bytes"] >= 10 * 51 * 50 * 4
    assert case["probe"]["sofie-g++"]["first_call_s"] > 0
    assert case["probe"]["sofie-g++"]["allocations"] == 0
    assert case["probe"]["onnxruntime"]["allocations"] > 0
    assert case["measure"]["roof"]["bytes"] > case["generate"]["weight_bytes"]
    text = capfd.readouterr().out
    assert "lwtnn, all models: not measured: no installation given: set ROOTBENCH_LWTNN" in text


def fake(max_rel: float = 0.0, ours: float = 500.0, memory: int = 1000) -> dict[str, Any]:
    """The results of a run with one model."""

    def timed(ns: float) -> dict[str, Any]:
        times = {"median": ns, "min": ns / 2, "spread": ns / 10}
        return {"warm": times, "flushed": times, "batch": 1, "max_rel": max_rel}

    names = {"sofie-g++": timed(ours), "sofie-cling": timed(600.0), "onnxruntime": timed(2000.0),
             "openvino": timed(1000.0)}  # fmt: skip
    roof = {"bytes": 1000, "gbytes_per_s": 100.0, "bytes_ns": 10.0, "flops_ns": 100.0}
    case = {
        "bar": 0.28,
        "series": ["10 x Linear 50: batch", 1],
        "generate": {"macs": 25000, "weight_bytes": 900, "arena_bytes": 64, "reuse": 2.0,
                     "live_bytes": [32, 64, 32]},
        "probe": {"sofie-g++": {"memory_bytes": memory, "allocations": 0},
                  "onnxruntime": {"memory_bytes": 9000}, "lwtnn": {"error": "not installed"}},
        "measure": {"rounds": 9, "results": names, "roof": roof},
    }  # fmt: skip
    machine = {"command": "python -m rootbench", "date": "today", "commit": "c0ffee", "cpu": "fast",
               "cores": 2, "core": 1, "load_average": 0.0, "system": "Linux", "compiler": "g++",
               "python": "3", "versions": {}, "peak_gflops": 100.0, "contenders": ["sofie-g++"],
               "dram_gbytes_per_s": 20.0, "library_bytes": {"onnxruntime": 8500}}  # fmt: skip
    return {"machine": machine, "cases": {"small|one": case}}


def row(sheet: report.Sheet) -> dict[str, str]:
    """The only row of a table, by the titles of its columns."""
    (cells,) = sheet.rows
    return dict(zip(sheet.header, cells, strict=True))


def test_report_has_times_bars_and_rates(tmp_path: Path) -> None:
    report.write_markdown(fake(), tmp_path / "RESULTS.md")
    text = (tmp_path / "RESULTS.md").read_text()
    assert (
        "| small\\|one | 0.28 | 0.25 | yes | 0.50 | openvino | 0.5 us | 0.6 us | 2 us | 1 us |"
        in text
    )
    assert "lwtnn, all models: not measured: not installed" in text
    assert "bars met: 1 of 1" in text
    hardware = row(report.hardware(fake()))
    assert [hardware[k] for k in ("GFLOP/s", "onnxruntime's", "of FMA peak")] == [
        "100", "25", "20 %"]  # fmt: skip
    assert hardware["floor / onnxruntime"] == "0.05"
    rounds = row(report.rounds(fake()))
    assert rounds["min: sofie-g++"] == "0.25 us"
    assert rounds["spread: openvino"] == "10 %"
    assert "exact ratio" not in report.times(fake()).header  # nobody has one


def test_bar_that_is_missed() -> None:
    slow = fake(ours=1100.0)
    times = row(report.times(slow))
    assert [times[k] for k in ("ratio", "met", "to the faster")] == ["0.55", "no", "1.10"]
    said = findings.summary(slow)
    assert "bars met: 0 of 1; not: small|one (0.55, bar 0.28)" in said
    assert any(s.endswith("0 of 1; not: small|one (1.10 of openvino)") for s in said)


def test_peer_with_wrong_outputs_is_nobody_to_beat() -> None:
    wrong = fake()
    wrong["cases"]["small|one"]["measure"]["results"]["openvino"]["max_rel"] = 0.5
    times = row(report.times(wrong))
    assert [times[k] for k in ("to the faster", "which is")] == ["0.25", "onnxruntime"]
    assert "openvino, small|one: WRONG by 5.0e-01; its time counts nothing" in findings.problems(
        wrong
    )


@pytest.mark.parametrize(
    ("bytes_", "smaller", "strictly"), [(400, 1, 1), (1000, 1, 0), (10_000, 0, 0)]
)
def test_memory_is_compared_with_the_peers(bytes_: int, smaller: int, strictly: int) -> None:
    found = fake(memory=bytes_)
    assert row(report.memory(found))["smaller"] == ("yes" if smaller else "no")
    sentences = [s for s in findings.summary(found) if s.startswith("memory")]
    for sentence, models_ in zip(sentences, (smaller, strictly), strict=True):
        assert f": {models_} of 1" in sentence


def test_plots_are_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    found = fake()
    second = fake()["cases"]["small|one"] | {"series": ["10 x Linear 50: batch", 32]}
    found["cases"]["two"] = second
    drawn = [path.name for path in plots.draw(found, tmp_path)]
    assert drawn == ["ratio_per_model.png", "10_x_linear_50_batch.png", "arena_over_time.png"]


def test_wrong_outputs_are_marked_and_fail(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    file.write_text(json.dumps(fake(max_rel=0.5)))
    assert main(["--report", str(file), "--output", str(tmp_path)]) == 1
    file.write_text(json.dumps(fake()))
    assert main(["--report", str(file), "--output", str(tmp_path)]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--models", "nonsense"], "no model is called 'nonsense'; there are: linear50x10_b1"),
        (["--peers", "abacus", "--quick"], "no peer is called 'abacus'; there are: onnxruntime"),
    ],
)
def test_errors_name_what_there_is(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 1
    assert message in capsys.readouterr().err


OPENVINO_STAND_IN = r"""
#include <cstdarg>
#include <cstdio>
#include <cstring>
struct Tensor { float data[6]; };
struct Request { Tensor input, output; };
struct Shape { long rank[2]; long (*dims)[2]; };
static char error[200] = "";
extern "C" {
const char* ov_get_last_err_msg() { return error; }
int ov_core_create(void** core) { *core = error; return 0; }
int ov_core_read_model(void*, const char* path, const char* weights, void** model) {
  std::FILE* file = std::fopen(path, "rb");
  *model = file;
  return file == nullptr || weights != nullptr;
}
int ov_core_compile_model(void*, void*, const char* device, std::size_t count, void** compiled, ...) {
  va_list words;
  va_start(words, compiled);
  bool f32 = false, one_thread = false;
  for (std::size_t k = 0; k < count; k += 2) {
    const char* key = va_arg(words, const char*);
    const char* value = va_arg(words, const char*);
    f32 |= !std::strcmp(key, "INFERENCE_PRECISION_HINT") && !std::strcmp(value, "f32");
    one_thread |= !std::strcmp(key, "INFERENCE_NUM_THREADS") && !std::strcmp(value, "1");
  }
  va_end(words);
  *compiled = error;
  return !(f32 && one_thread && count % 2 == 0 && !std::strcmp(device, "CPU"));
}
int ov_compiled_model_create_infer_request(void*, void** r) { *r = new Request(); return 0; }
int ov_infer_request_get_input_tensor_by_index(Request* r, std::size_t k, Tensor** tensor) {
  std::strcpy(error, "no such input");
  *tensor = &r->input;
  return k != 0;
}
int ov_infer_request_get_output_tensor_by_index(Request* r, std::size_t k, Tensor** tensor) {
  *tensor = &r->output;
  return k != 0;
}
int ov_tensor_get_byte_size(Tensor*, std::size_t* size) { *size = sizeof(Tensor); return 0; }
int ov_tensor_data(Tensor* tensor, void** data) { *data = tensor->data; return 0; }
int ov_model_reshape_by_port_indexes(void*, std::size_t*, Shape* shapes, std::size_t) {
  return shapes[0].rank[1] != 2 || shapes[0].dims[1][0] != 3;
}
int calls = 0;
int ov_infer_request_infer(Request* r) {
  /* called */
  for (int k = 0; k < 6; ++k) r->output.data[k] = 2 * r->input.data[k];
  return 0;
}
}
"""


def summing(*names: str) -> Any:
    """A model that adds inputs [2, 3]."""
    from rootbench.net import Net

    net = Net("sum")
    for name in dict.fromkeys(names):
        net.input(name, 2, 3)
    return net.model({net("Add", *names): [2, 3]})


def test_openvino_is_called_as_its_header_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a library that has its functions and doubles its input: OpenVINO itself is optional."""
    source = tmp_path / "openvino_c.cpp"
    source.write_text(OPENVINO_STAND_IN)
    monkeypatch.setenv("ROOTBENCH_OPENVINO", str(timing.compile_shared(source)))

    def sum_of(*names: str) -> Job:
        return run.prepare(models.Case("sum", lambda: summing(*names)))

    job = sum_of("x", "x")
    opened = CONTENDERS["openvino"].open(job)
    timing.warm(opened.call, 2)
    assert compare(opened, job) == {"y": 0.0}
    with pytest.raises(NotMeasured, match="no such input"):
        CONTENDERS["openvino"].open(sum_of("x", "z"))


def measured(cases: list[models.Case], **options: Any) -> dict[str, Any]:
    """Runs the benchmark, unpinned, and without looking at the clock for long."""
    settings = run.Settings(core=None, seconds=0.01, min_rounds=2, **options)
    kept: list[int] = []
    found = run.run(
        cases,
        settings,
        on_step=lambda name, what: None,
        on_result=lambda so_far: kept.append(len(so_far["cases"])),
    )
    assert kept == list(range(1, len(cases) + 1))  # an interrupted run has what was measured
    return found


def test_model_that_fails_does_not_cost_the_others() -> None:
    def broken() -> Any:
        raise RuntimeError("cannot be built")

    cases = [models.Case("broken", broken, bar=0.5), *models.select(["linear50x10_b1"])]
    found = measured(cases, contenders=("lwtnn",))
    assert found["cases"]["broken"]["error"] == "RuntimeError: cannot be built"
    assert "ROOTBENCH_LWTNN" in found["cases"]["linear50x10_b1"]["probe"]["lwtnn"]["error"]


@pytest.mark.parametrize("calls", [4, 8])
def test_peer_that_crashes_is_left_out(
    calls: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One that survives its first call, and later takes the process with it."""
    source = tmp_path / "openvino_c.cpp"
    crash = f"if (++calls > {calls}) __builtin_trap();"
    source.write_text(OPENVINO_STAND_IN.replace("/* called */", crash))
    monkeypatch.setenv("ROOTBENCH_OPENVINO", str(timing.compile_shared(source)))
    cases = [models.Case("sum", lambda: summing("x", "x"))]
    (case,) = measured(cases, contenders=("onnxruntime", "openvino"))["cases"].values()
    assert set(case["measure"]["results"]) == {"onnxruntime"}
    assert "the process ended with code -" in case["probe"]["openvino"]["error"]


def test_model_that_takes_too_long_is_left() -> None:
    (case,) = measured(models.select(["linear50x10_b1"]), contenders=("onnxruntime",), limit=0.01)[
        "cases"
    ].values()
    assert "--limit 0 seconds" in case["probe"]["onnxruntime"]["error"]


def test_interrupted_run_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    cases = models.select(["linear50x10_b1"])
    first = measured(cases, contenders=("onnxruntime",))
    settings = run.Settings(contenders=("onnxruntime",), core=None)
    monkeypatch.setattr(run, "_case", lambda *_: pytest.fail("measured again"))
    again = run.run(cases, settings, lambda *_: None, lambda _: None, earlier=first)
    assert again["cases"] == first["cases"]
    first["machine"]["commit"] = "another"
    with pytest.raises(timing.BenchError, match="--resume needs the same commit"):
        run.run(cases, settings, lambda *_: None, lambda _: None, earlier=first)


def test_exact_takes_part_only_where_it_differs() -> None:
    job = prepared("linear50x10_b1")
    assert not generate(job, "")["exact_differs"]
    with pytest.raises(NotMeasured):
        CONTENDERS["sofie-exact"].open(job)


def test_event_loops_take_turns() -> None:
    asked = []

    def process(settings: str) -> dict[str, Any]:
        asked.append(json.loads(settings))
        return {"read": 1e6, "model": 1e5 * max(asked[-1]["slots"], 1)}

    found = events.event_loops(prepared("linear50x10_b1"), process, 0.001, 1000.0)
    assert [a["slots"] for a in asked] == [0, 1, 2] * events.TURNS
    assert {a["events"] for a in asked} == {1000}
    sheet = report.event_loops({"cases": {"m": {"events": found}}})
    assert [cells[1] for cells in sheet.rows] == ["no multithreading", "1", "2"]
    assert [cells[4] for cells in sheet.rows] == ["1.00", "1.00", "2.00"]


def test_slots_share_the_file_of_an_event_loop(root: Any, tmp_path: Path) -> None:
    samples = [np.zeros((1, 3), np.float32), np.zeros((1, 2, 2), np.float32)]
    path = events.written(tmp_path / "events.root", 400, samples, root)
    file = root.TFile.Open(str(path))
    tree = file.Get("Events")
    clusters = tree.GetClusterIterator(0)
    starts = []
    while not starts or starts[-1] < tree.GetEntries():
        starts.append(clusters.Next())
    assert starts == [*range(0, 400, 400 // events.CLUSTERS), 400]
    tree.GetEntry(7)
    assert [len(tree.x0), len(tree.x1)] == [3, 4]
    file.Close()


def test_file_of_the_user(tmp_path: Path) -> None:
    from rootbench.net import Net

    net = Net("sized")
    x = net.input("x", "N", 3)
    path = tmp_path / "sized.onnx"
    path.write_bytes(net.model({net("Add", x, x): ["N", 3]}).SerializeToString())
    (case,) = models.select([str(path)], dims={"N": 5})
    job = run.prepare(case)
    assert job.expected["y"].shape == (5, 3)
    assert sofie_root.load(job.model).symbols == ()  # every contender gets the size
    assert sofie_root.load(run.prepare(case, symbolic=True).model).symbols == ("N",)
