"""Events that fail: who is named, what stands in for the result, who counts, and who warns."""

from __future__ import annotations

import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import headers
import numpy as np
import pytest
from cpp_program import compile_program

import sofie_root
from sofie_root.errors import DataFrameError
from sofie_root.runtime.booking import Booking
from sofie_root.runtime.dataframe import SofieFunctor, define
from sofie_root.runtime.distributed import distribute
from sofie_root.runtime.session import open_header

COLUMNS = ["two", "two", "grows"]


def frame(root: Any, events: int = 10) -> Any:
    """Every fifth event, from the third on, is one that the model of particles takes."""
    df = root.RDataFrame(events).Define("two", "ROOT::RVecF{1, 2}")
    return df.Define("grows", "ROOT::RVecF(rdfentry_ % 5, 1.f)")


def heard(action: Callable[[], Any], capfd: pytest.CaptureFixture[str]) -> tuple[Any, list[str]]:
    """What an action returns, and ROOT's warnings: Python's, or on stderr once ROOT uses threads."""
    capfd.readouterr()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = action()
    lines = capfd.readouterr().err.splitlines()
    printed = [line for line in lines if "Warning in <SofieFunctor>" in line]
    return result, printed + [str(w.message) for w in caught]


def test_an_exception_says_where_and_on_what(root: Any) -> None:
    session = open_header(headers.particles(), jit="cling")
    df = frame(root).Filter("rdfentry_ > 5")
    with pytest.raises(Exception, match="entry 6 in slot 0") as error:
        define(df, "y", session, COLUMNS).AsNumpy(["y"])
    for word in ("'mask' [N, 1, n_pf]", "column 'two'", "has 2 values: 1, 2;", "has 1 value: 1"):
        assert word in str(error.value)
    functor = SofieFunctor(session, df, COLUMNS)
    with pytest.raises(Exception, match=r"event 0 of slot 0 \(counted from 0\).*'grows'"):
        df.DefineSlot("y", functor, COLUMNS).AsNumpy(["y"])


@pytest.mark.parametrize(("on_error", "expected"), [("nan", np.nan), (-7, -7)])
def test_a_value_stands_in_for_events_that_fail(
    root: Any, capfd: pytest.CaptureFixture[str], on_error: Any, expected: float
) -> None:
    session = open_header(headers.particles(), jit="cling")
    df = frame(root)
    functor = SofieFunctor(session, df, COLUMNS, on_error=on_error)
    booked = df.DefineSlot("y", functor, COLUMNS)
    found, said = heard(lambda: booked.AsNumpy(["y"])["y"], capfd)
    good = session(np.float32([[[1, 2], [1, 2]]]), np.ones((1, 1, 2), np.float32))[0]
    for event, values in enumerate(found):
        right = good if event % 5 == 2 else [expected, expected]
        np.testing.assert_array_equal(np.asarray(values), right)
    assert functor.failed == 8
    assert len(said) == 1
    assert "8 of 10 events failed and got" in said[0]
    assert "event 0 of slot 0" in said[0]


def test_one_warning_for_all_threads_and_copies(
    root: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    session = open_header(headers.particles(), jit="cling")
    root.EnableImplicitMT(2)
    try:
        df = frame(root, 1000)
        functor = SofieFunctor(session, df, COLUMNS, on_error="nan")
        booked = df.DefineSlot("y", functor, COLUMNS).DefineSlot("z", functor, COLUMNS)
        sums = [booked.Filter("y[0] > 0").Count(), booked.Filter("z[0] > 0").Count()]
        _, said = heard(lambda: [s.GetValue() for s in sums], capfd)
    finally:
        root.DisableImplicitMT()
    assert [s.GetValue() for s in sums] == [200, 200]
    assert functor.failed == 1600
    assert len(said) == 1
    assert "1600 of 2000 events failed" in said[0]


def test_no_warning_where_nothing_fails(root: Any, capfd: pytest.CaptureFixture[str]) -> None:
    session = open_header(headers.particles(), jit="cling")
    df = frame(root).Filter("rdfentry_ % 5 == 2")
    functor = SofieFunctor(session, df, COLUMNS, on_error="nan")
    booked = df.DefineSlot("y", functor, COLUMNS)
    found, said = heard(lambda: booked.AsNumpy(["y"])["y"], capfd)
    assert (len(found), functor.failed, said) == (2, 0, [])


def test_a_loop_ends_as_early_as_without(root: Any, capfd: pytest.CaptureFixture[str]) -> None:
    """The warning comes by itself, and does not make a Range run to the end."""
    session = open_header(headers.particles(), jit="cling")
    root.gInterpreter.ProcessLine("int sofie_root_test_events = 0;")
    df = frame(root, 1000).Define("count", "++sofie_root_test_events")
    df = define(df, "y", session, COLUMNS, on_error="nan").Filter("count > 0")
    found, said = heard(lambda: df.Range(3).AsNumpy(["y"])["y"], capfd)
    assert (len(found), int(root.sofie_root_test_events)) == (3, 3)
    assert ["2 of 3 events" in text for text in said] == [True]


def test_what_integers_cannot_be_is_refused_when_booking(root: Any) -> None:
    session = open_header(headers.typed(), jit="cling")
    df = root.RDataFrame(2).Define("i", "int(rdfentry_)").Define("bad", "int(5 * rdfentry_)")
    given = ["bad", "i", "i", "i", "i", "i"]
    for on_error, words in (
        ("nan", "'picked' is of integers, and there is no NaN"),
        (0.5, "'picked' is of integers, and 0.5"),
        (3e9, "'picked' is of integers"),
        ("ignore", "'raise', 'nan' or a number, not 'ignore'"),
    ):
        for book in (define, lambda df, _, *a, **k: SofieFunctor(a[0], df, a[1], **k)):
            with pytest.raises(DataFrameError, match=words):
                book(df, "y", session, given, on_error=on_error)
    with pytest.raises(DataFrameError, match="'positive' is of integers"):
        define(df, "m", open_header(headers.several(), jit="cling"), ["i"] * 3, on_error="nan")


def test_shipped_code_names_entries_too(root: Any, capfd: pytest.CaptureFixture[str]) -> None:
    """What the workers of a distributed data frame get."""
    model = sofie_root.Model(gather_of_ten())
    df = root.RDataFrame(20).Define("i", "Long64_t(rdfentry_)")
    types = ["Long64_t"]
    expression = distribute(model, Booking("", [0], ["i"], types))
    with pytest.raises(Exception, match=r"entry 10 in slot 0: .*column 'i' \(Long64_t\) = 10"):
        df.Define("y", expression).AsNumpy(["y"])
    expression = distribute(model, Booking("", [0], ["i"], types, on_error="nan"))
    found = df.Define("y", expression).AsNumpy(["y"])["y"]
    np.testing.assert_array_equal(found[:10], 0.5 * np.arange(10))
    assert np.isnan(found[10:]).all()


def gather_of_ten() -> Any:
    """``y = x / 2`` by a table of ten; x[1] is an integer, and 10 is outside."""
    from onnx_models import model, node, tensor, value

    from sofie_root.frontends.onnx import from_proto

    table = tensor("table", 0.5 * np.arange(10, dtype=np.float32))
    nodes = [node("Gather", ["table", "x"], ["y"])]
    inputs, outputs = [value("x", [1], np.int64)], [value("y", [1])]
    return from_proto(model(nodes, inputs, outputs, [table]), "ten")


PROGRAM = """
#include <sofie/SofieFunctor.hxx>
#include <cstdio>
#include <thread>
using V = ROOT::RVecF;
using Particles = TMVA_SOFIE_particles::Session;
int main() {
  const V two{1, 2}, one{1};
  try {
    SofieFunctor<Particles, V, V, V>(1, "", {"px", "py", "mask"}).at(0, 12345, two, two, one);
  } catch (const std::exception& error) {
    std::puts(error.what());
  }
  {
    SofieFunctor<Particles, V, V, V> functor(2, "", {}, sofie::OnError::value(-1));
    const auto copy = functor;
    const auto with_entry = functor.with_entry();
    std::thread other([&] { for (int k = 0; k < 100; ++k) copy(1, two, two, k % 2 ? two : one); });
    for (int k = 0; k < 10; ++k) with_entry(0, k, two, two, one);
    other.join();
    const auto bad = functor(0, two, two, one), good = functor(0, two, two, two);
    std::printf("%llu failed; %g %g, then %g\\n", static_cast<unsigned long long>(functor.failed()), bad[0],
                bad[1], good[1]);
    std::puts("end of scope");
    std::fflush(stdout);
  }
  {  // several outputs: numbers get the value, what is known of arrays decides their length
    SofieFunctor<TMVA_SOFIE_echo::Session, V> echo(1, "", {}, sofie::OnError::nan());
    const auto bad = echo(0, V{-1, 2, 3});
    std::printf("%zu %g\\n", bad.size(), bad[2]);
    SofieFunctor<TMVA_SOFIE_nonzero::Session, V> dynamic(1, "", {}, sofie::OnError::value(0));
  }
  try {
    SofieFunctor<TMVA_SOFIE_typed::Session> functor(1, "", {}, sofie::OnError::nan());
  } catch (const std::invalid_argument& error) {
    std::puts(error.what());
  }
}
"""


def test_from_cpp(root: Any, tmp_path: Path) -> None:
    models = [headers.particles(), headers.nonzero(), headers.typed()]
    models.append(headers.echo("echo", ["n"], {"x": ("n",)}))
    libraries = str(root.gROOT.GetLibDir())
    flags = ["-O0", "-pthread", "-isystem", str(root.gROOT.GetIncludeDir()), f"-L{libraries}"]
    flags += ["-Wl,--no-as-needed", "-lROOTVecOps", "-lCore", f"-Wl,-rpath,{libraries}"]
    program = compile_program(tmp_path, "\n".join([*models, PROGRAM]), flags)
    done = subprocess.run([str(program)], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    raised, failed, end, echoed, refused = done.stdout.splitlines()
    assert raised.startswith("entry 12345 in slot 0: mask has 1 elements, but n_pf is 2")
    assert raised.endswith("px has 2 values: 1, 2; py has 2 values: 1, 2; mask has 1 value: 1")
    assert failed == "61 failed; -1 -1, then 1.66667"
    assert end == "end of scope"
    assert echoed == "3 nan"
    assert "'picked' is of integers" in refused
    said = [
        line for line in done.stderr.splitlines() if line.startswith("Warning in <SofieFunctor>")
    ]
    assert len(said) == 2
    assert "61 of 112 events failed and got -1" in said[0]
    assert "1 of 1 events failed and got nan" in said[1]
