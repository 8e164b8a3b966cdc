"""`make demo`: a trained jet tagger in an RDataFrame event loop.

Simulates a file of jets, turns ``tagger.onnx`` into C++, scores every jet in a multi-threaded event
loop, and draws what came out: ``tutorials/output/tagger.png``.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
import warnings
from pathlib import Path

warnings.filterwarnings("ignore", message=r"(?s).*This distribution of ROOT is in alpha stage")

import numpy as np
import ROOT
from features import DERIVED, FEATURES
from make_events import HIGGS_MASS, write_events
from plots import draw
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

import sofie_root

HERE = Path(__file__).resolve().parent
OUTPUT = HERE / "output"

console = Console(highlight=False)


def main() -> None:
    """Run the demo."""
    parser = argparse.ArgumentParser(description="Score simulated jets with a trained tagger.")
    parser.add_argument("--events", type=int, default=500_000, help="number of jets")
    parser.add_argument("--threads", type=int, default=2, help="threads of the event loop")
    args = parser.parse_args()

    file = simulate(args.events)
    model = load()
    signal, background = run(model, file, args.events, args.threads)
    report(signal, background)


def simulate(events: int) -> Path:
    """Write the events that the tagger has never seen."""
    say("Events", f"simulating {events} jets, half of them H -> bb and half QCD")
    path = OUTPUT / "events.root"
    columns = (TextColumn("  "), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=events)
        write_events(path, events, seed=1, progress=lambda done: progress.advance(task, done))
    console.print(f"   {shown(path)}, {path.stat().st_size / 1e6:.0f} MB, TTree Events")
    return path


def load() -> sofie_root.Model:
    """Read the tagger and, where ONNX Runtime is installed, compare with it."""
    say("Model", "reading tutorials/tagger.onnx, one jet at a time")
    model = sofie_root.load(HERE / "tagger.onnx", dims={"N": 1})
    console.print(str(model), soft_wrap=True, markup=False)
    if importlib.util.find_spec("onnxruntime"):
        console.print("   comparing the generated C++ with ONNX Runtime:")
        console.print(str(model.check(reference="onnxruntime")), soft_wrap=True, markup=False)
    return model


def run(
    model: sofie_root.Model, file: Path, events: int, threads: int
) -> tuple[ROOT.TH2D, ROOT.TH2D]:
    """Score every event; return score against jet mass for signal and background."""
    say("Event loop", f"RDataFrame on {threads} threads, one inference session for each")
    ROOT.gROOT.SetBatch(True)
    ROOT.EnableImplicitMT(threads)
    df = ROOT.RDataFrame("Events", str(file))
    ROOT.RDF.Experimental.AddProgressBar(ROOT.RDF.AsRNode(df))
    for name, expression in DERIVED.items():
        df = df.Define(name, expression)

    start = time.perf_counter()
    df = sofie_root.define(df, "score", model, FEATURES)
    console.print(f"   tagger generated and compiled in {time.perf_counter() - start:.1f} s")

    axes = (1000, 0, 1, 100, 0, 250)
    booked = [
        df.Filter(cut).Histo2D((name, "", *axes), "score", "FatJet_mass")
        for name, cut in (("signal", "isSignal"), ("background", "!isSignal"))
    ]
    start = time.perf_counter()
    ROOT.RDF.RunGraphs(booked)
    seconds = time.perf_counter() - start
    console.print(
        f"   {events} events in {seconds:.1f} s, {events / seconds:,.0f} events/s, with reading,"
        " histograms and RDataFrame's own just-in-time compilation"
    )
    return booked[0].GetValue(), booked[1].GetValue()


def report(signal: ROOT.TH2D, background: ROOT.TH2D) -> None:
    """Print how well the tagger separates and draw it."""
    efficiency = [passing(histogram) for histogram in (signal, background)]
    area = -np.trapezoid(efficiency[0], efficiency[1])
    cut = int(np.argmax(efficiency[1] <= 0.01))
    threshold = signal.GetXaxis().GetBinLowEdge(cut + 1)
    say("Result", f"area under the ROC curve {area:.4f}")
    console.print(
        f"   a cut at score > {threshold:.3f} keeps {efficiency[0][cut]:.1%} of the signal"
        f" and {efficiency[1][cut]:.1%} of the background"
    )
    path = OUTPUT / "tagger.png"
    draw(path, signal, background, efficiency, area, cut, HIGGS_MASS)
    console.print(f"   scores, ROC curve and jet mass: [bold]{shown(path)}[/bold]")


def passing(histogram: ROOT.TH2D) -> np.ndarray:
    """Return the fraction of events at or above each bin of the score."""
    projection = histogram.ProjectionX(f"{histogram.GetName()}_score", 0, -1)
    counts = np.array([projection.GetBinContent(i) for i in range(1, projection.GetNbinsX() + 2)])
    return counts[::-1].cumsum()[::-1] / counts.sum()


def say(title: str, text: str) -> None:
    """Announce a step."""
    console.print(f"\n[bold cyan]{title}[/bold cyan]: {text}")


def shown(path: Path) -> Path:
    """Return the path as one would type it here."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


if __name__ == "__main__":
    main()
