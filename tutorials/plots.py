"""Drawing for the demo, with ROOT's own canvas."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import ROOT

BLUE, RED, GREY = "#3f90da", "#bd1f01", "#717581"  # a palette that colour-blind readers can tell


def draw(
    path: Path,
    signal: ROOT.TH2D,
    background: ROOT.TH2D,
    efficiency: list[np.ndarray],
    area: float,
    cut: int,
    mass: float,
) -> None:
    """Draw the scores, the ROC curve, and the jet mass after the cut at score bin `cut`."""
    ROOT.gErrorIgnoreLevel = ROOT.kWarning
    ROOT.gStyle.SetOptStat(0)
    ROOT.gStyle.SetPadTickX(1)
    ROOT.gStyle.SetPadTickY(1)
    ROOT.gStyle.SetLegendBorderSize(0)
    canvas = ROOT.TCanvas("tagger", "", 2100, 700)
    canvas.Divide(3, 1, 0.002, 0.002)
    keep = [
        draw_scores(canvas.cd(1), signal, background),
        draw_roc(canvas.cd(2), efficiency, area, cut),
        draw_mass(canvas.cd(3), signal, background, cut, mass),
    ]
    canvas.SaveAs(str(path))
    del keep


def draw_scores(pad: ROOT.TPad, signal: ROOT.TH2D, background: ROOT.TH2D) -> list[ROOT.TObject]:
    """Draw the score of both classes, normalised."""
    prepare(pad, log=True)
    histograms = []
    for source, colour in ((background, RED), (signal, BLUE)):
        histogram = source.ProjectionX(f"{source.GetName()}_draw", 0, -1)
        histogram.Rebin(20)
        histogram.Scale(1 / histogram.Integral())
        style(histogram, colour)
        histograms.append(histogram)
    first = histograms[0]
    title(first, "tagger score", "fraction of jets")
    first.SetMaximum(20)
    first.SetMinimum(2e-4)
    first.Draw("hist")
    histograms[1].Draw("hist same")
    box = legend(0.25, 0.76, 0.9, 0.9)
    box.AddEntry(histograms[1], "signal: H #rightarrow b#bar{b}", "f")
    box.AddEntry(first, "background: QCD", "f")
    box.Draw()
    return [*histograms, box]


def draw_roc(
    pad: ROOT.TPad, efficiency: list[np.ndarray], area: float, cut: int
) -> list[ROOT.TObject]:
    """Draw background rejection against signal efficiency."""
    prepare(pad, log=True)
    keep, reject = (np.asarray(e, np.float64) for e in efficiency)
    seen = (reject > 1e-4) & (keep > 0)
    x, y = keep[seen].copy(), 1 / reject[seen]
    curve = ROOT.TGraph(len(x), x, y)
    curve.SetLineColor(ROOT.TColor.GetColor(BLUE))
    curve.SetLineWidth(4)
    guess = np.linspace(0.01, 1, 100)
    chance = ROOT.TGraph(len(guess), guess, 1 / guess)
    chance.SetLineColor(ROOT.TColor.GetColor(GREY))
    chance.SetLineStyle(2)
    chance.SetLineWidth(3)
    point = ROOT.TGraph(1, keep[cut : cut + 1].copy(), 1 / reject[cut : cut + 1])
    point.SetMarkerStyle(20)
    point.SetMarkerSize(2)
    point.SetMarkerColor(ROOT.TColor.GetColor(RED))
    frame = pad.DrawFrame(0, 0.8, 1, 2e4)
    title(frame, "signal efficiency", "background rejection 1/#varepsilon_{b}")
    chance.Draw("L same")
    curve.Draw("L same")
    point.Draw("P same")
    box = legend(0.3, 0.7, 0.92, 0.9)
    box.AddEntry(curve, f"tagger, area {area:.4f}", "l")
    box.AddEntry(point, "cut of the plot to the right", "p")
    box.AddEntry(chance, "guessing", "l")
    box.Draw()
    return [curve, chance, point, frame, box]


def draw_mass(
    pad: ROOT.TPad, signal: ROOT.TH2D, background: ROOT.TH2D, cut: int, mass: float
) -> list[ROOT.TObject]:
    """Draw the jet mass of a realistic mixture (1 % signal) before and after the cut."""
    prepare(pad, log=True)
    scale = 0.01 * background.Integral() / signal.Integral()
    drawn = []
    for tag, first, colour in (("all", 0, GREY), ("cut", cut + 1, RED)):
        total = background.ProjectionY(f"{tag}_mass", first, -1)
        total.Add(signal.ProjectionY(f"{tag}_signal", first, -1), scale)
        total.Rebin(2)
        style(total, colour)
        drawn.append(total)
    only = signal.ProjectionY("only_signal", cut + 1, -1)
    only.Scale(scale)
    only.Rebin(2)
    style(only, BLUE)
    drawn.append(only)
    before = drawn[0]
    title(before, "jet mass [GeV]", "jets / 5 GeV")
    before.SetMinimum(0.7)
    before.SetMaximum(before.GetMaximum() * 200)
    before.Draw("hist")
    drawn[1].Draw("hist same")
    only.Draw("hist same")
    line = ROOT.TLine(mass, 0.7, mass, before.GetMaximum() / 300)
    line.SetLineStyle(2)
    line.Draw()
    box = legend(0.3, 0.68, 0.92, 0.9)
    box.SetHeader("QCD with 1 % H #rightarrow b#bar{b}")
    box.AddEntry(before, "all jets", "f")
    box.AddEntry(drawn[1], "after the cut", "f")
    box.AddEntry(only, "of which signal", "f")
    box.Draw()
    return [*drawn, line, box]


def prepare(pad: ROOT.TPad, log: bool) -> None:
    """Set margins and scale."""
    pad.SetMargin(0.15, 0.04, 0.13, 0.05)
    pad.SetLogy(log)


def style(histogram: ROOT.TH1, colour: str) -> None:
    """Give a histogram a line and a light filling."""
    number = ROOT.TColor.GetColor(colour)
    histogram.SetLineColor(number)
    histogram.SetLineWidth(3)
    histogram.SetFillColorAlpha(number, 0.25)


def title(histogram: ROOT.TH1, x: str, y: str) -> None:
    """Name the axes."""
    histogram.SetTitle("")
    for axis, text in ((histogram.GetXaxis(), x), (histogram.GetYaxis(), y)):
        axis.SetTitle(text)
        axis.SetTitleSize(0.05)
        axis.SetLabelSize(0.042)
    histogram.GetYaxis().SetTitleOffset(1.4)


def legend(x1: float, y1: float, x2: float, y2: float) -> ROOT.TLegend:
    """Make a legend without a frame."""
    box = ROOT.TLegend(x1, y1, x2, y2)
    box.SetFillStyle(0)
    box.SetTextSize(0.042)
    return box
