"""Train the jet tagger of these tutorials and export it to ONNX.

Needs PyTorch, which nothing else here does (`pip install torch onnxscript`).  The result,
``tagger.onnx``, is kept in the repository, so run this only to change the network:

    python tutorials/train_tagger.py
"""

from __future__ import annotations

import argparse
from pathlib import Path

import awkward as ak
import numpy as np
import onnx
import torch
from features import FEATURES
from make_events import simulate
from torch import nn

HERE = Path(__file__).parent


def main() -> None:
    """Train, validate, export."""
    parser = argparse.ArgumentParser(description="Train the tagger and export it to ONNX.")
    parser.add_argument("--events", type=int, default=300_000)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--output", type=Path, default=HERE / "tagger.onnx")
    args = parser.parse_args()
    torch.manual_seed(7)
    torch.use_deterministic_algorithms(True)

    train_x, train_y = load(args.events, seed=100)  # other seeds than the tutorials' samples
    test_x, test_y = load(args.events // 3, seed=200)
    model = Tagger(train_x.mean(0), train_x.std(0))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    batches = len(train_x) // 1000
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, args.epochs * batches)
    for epoch in range(args.epochs):
        model.train()
        total = 0.0
        for batch in torch.randperm(len(train_x))[: batches * 1000].view(batches, 1000):
            loss = nn.functional.binary_cross_entropy(model(train_x[batch]), train_y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        model.eval()
        with torch.no_grad():
            score = model(test_x)[:, 0].numpy()
        area = roc_area(score, test_y[:, 0].numpy() > 0.5)
        print(f"epoch {epoch + 1:2}  loss {total / batches:.4f}  test AUC {area:.4f}", flush=True)

    export(model, args.output)
    print(f"{args.output}: {args.output.stat().st_size / 1000:.0f} kB")


class Tagger(nn.Module):
    """Standardise, three hidden layers with batch normalisation, a probability."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, mean: torch.Tensor, std: torch.Tensor) -> None:
        """Keep the inputs' mean and spread, so that the graph takes raw columns."""
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        layers: list[nn.Module] = []
        for inputs, outputs in ((len(FEATURES), 64), (64, 64), (64, 32)):
            layers += [nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(32, 1), nn.Sigmoid())

    def forward(self, jet: torch.Tensor) -> torch.Tensor:
        """Return the probability that each jet is a Higgs boson."""
        return self.layers((jet - self.mean) / self.std)


def load(events: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Simulate jets and return the tagger's inputs and targets."""
    parts = []
    for chunk in simulate(events, seed):
        columns = {name: ak.to_numpy(chunk[name]) for name in chunk if name != "PFCand"}
        columns["FatJet_tau21"] = columns["FatJet_tau2"] / columns["FatJet_tau1"]
        columns["FatJet_tau32"] = columns["FatJet_tau3"] / columns["FatJet_tau2"]
        lead = ak.to_numpy(chunk["PFCand"].pt[:, 0])
        columns["FatJet_leadFraction"] = lead / columns["FatJet_pt"]
        parts.append(np.stack([columns[name] for name in (*FEATURES, "isSignal")], axis=1))
    table = torch.from_numpy(np.concatenate(parts).astype(np.float32))
    return table[:, :-1].contiguous(), table[:, -1:].contiguous()


def roc_area(score: np.ndarray, is_signal: np.ndarray) -> float:
    """Return the probability that a signal jet scores above a background jet."""
    rank = np.argsort(np.argsort(score))
    signal = int(is_signal.sum())
    pairs = signal * (len(score) - signal)
    return float((rank[is_signal].sum() - signal * (signal - 1) / 2) / pairs)


def export(model: nn.Module, path: Path) -> None:
    """Write one ONNX file with a symbolic batch N and without the exporter's notes."""
    batch = torch.export.Dim("N")
    program = torch.onnx.export(
        model,
        (torch.zeros(2, len(FEATURES)),),
        input_names=["jet"],
        output_names=["score"],
        dynamic_shapes=({0: batch},),
        dynamo=True,
    )
    proto = program.model_proto
    for entry in (*proto.graph.node, *proto.graph.value_info, proto.graph):
        del entry.metadata_props[:]  # stack traces with the paths of one machine
        entry.doc_string = ""
    proto.doc_string = ""
    proto.graph.name = "tagger"
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, path)


if __name__ == "__main__":
    main()
