"""The sixteen inputs of the tagger, in the order in which it was trained."""

FEATURES = (
    "FatJet_pt",
    "FatJet_eta",
    "FatJet_mass",
    "FatJet_msoftdrop",
    "FatJet_tau1",
    "FatJet_tau21",
    "FatJet_tau32",
    "FatJet_zg",
    "FatJet_rg",
    "FatJet_ptD",
    "FatJet_width",
    "FatJet_lha",
    "FatJet_C2",
    "FatJet_D2",
    "FatJet_leadFraction",
    "FatJet_nConstituents",
)

# Inputs that are not in the file, as RDataFrame expressions of columns that are.
DERIVED = {
    "FatJet_tau21": "FatJet_tau2 / FatJet_tau1",
    "FatJet_tau32": "FatJet_tau3 / FatJet_tau2",
    "FatJet_leadFraction": "PFCand_pt[0] / FatJet_pt",
}
