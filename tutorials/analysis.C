/// The tagger in an RDataFrame from C++. Where `make demo` has left its events:
///
///     cd tutorials/output
///     sofie-root convert ../tagger.onnx -o tagger.hxx --weights root --dims N=1
///     export ROOT_INCLUDE_PATH=$PWD:$(sofie-root config --incdir)
///     root -l -b -q ../analysis.C
///
/// The ROOT wheel from PyPI has the `root` command as well. For full speed of interpreted code set
/// EXTRA_CLING_ARGS="-O2 -march=native -fopenmp-simd -mllvm -optimize-regalloc" before.

#include <TCanvas.h>
#include <TH1D.h>
#include <TLegend.h>
#include <TROOT.h>
#include <TStyle.h>

#include <ROOT/RDFHelpers.hxx>
#include <ROOT/RDataFrame.hxx>
#include <iostream>
#include <sofie/SofieFunctor.hxx>
#include <string>
#include <vector>

#include "tagger.hxx"

void analysis(const std::string& file = "events.root", unsigned threads = 2) {
  ROOT::EnableImplicitMT(threads);
  ROOT::RDataFrame events("Events", file);
  ROOT::RDF::Experimental::AddProgressBar(ROOT::RDF::RNode(events));

  // One Session per slot; each input of the model is a column of float.
  SofieFunctor<TMVA_SOFIE_tagger::Session> functor(events.GetNSlots());
  const std::vector<std::string> columns{"FatJet_pt",   "FatJet_eta", "FatJet_mass",  "FatJet_msoftdrop",
                                         "FatJet_tau1", "tau21",      "tau32",        "FatJet_zg",
                                         "FatJet_rg",   "FatJet_ptD", "FatJet_width", "FatJet_lha",
                                         "FatJet_C2",   "FatJet_D2",  "leadFraction", "nConstituents"};
  auto scored = events.Define("tau21", "FatJet_tau2 / FatJet_tau1")
                    .Define("tau32", "FatJet_tau3 / FatJet_tau2")
                    .Define("leadFraction", "PFCand_pt[0] / FatJet_pt")
                    .Define("nConstituents", "float(FatJet_nConstituents)")
                    .DefineSlot("score", functor, columns);

  auto signal = scored.Filter("isSignal").Histo1D({"signal", ";tagger score;jets", 50, 0, 1}, "score");
  auto background =
      scored.Filter("!isSignal").Histo1D({"background", ";tagger score;jets", 50, 0, 1}, "score");
  std::cout << signal->GetEntries() << " signal jets, mean score " << signal->GetMean() << "; "
            << background->GetEntries() << " background jets, mean score " << background->GetMean() << "\n";

  gStyle->SetOptStat(0);
  TCanvas canvas("scores", "", 800, 700);
  canvas.SetLogy();
  signal->SetLineColor(kAzure + 1);
  background->SetLineColor(kRed + 1);
  signal->SetLineWidth(3);
  background->SetLineWidth(3);
  signal->DrawCopy();
  background->DrawCopy("same");
  TLegend legend(0.35, 0.75, 0.7, 0.88);
  legend.SetBorderSize(0);
  legend.AddEntry(signal.GetPtr(), "H #rightarrow b#bar{b}", "l");
  legend.AddEntry(background.GetPtr(), "QCD", "l");
  legend.Draw();
  canvas.SaveAs("analysis.png");
}
