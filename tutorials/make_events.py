"""Simulate a toy sample of large-radius jets and write it as a nanoAOD-like TTree.

Signal is the decay of a boosted Higgs boson to two b quarks: two prongs whose distance follows from
mass and momentum.  Background is a QCD jet: one quark or gluon that radiates, mostly soft and
collinear.  Both become particles, are smeared, and are measured with the usual substructure
observables, so the columns are correlated as those of jets are.  Both classes share one
transverse-momentum spectrum.

    python tutorials/make_events.py --events 200000 --output tutorials/output/events.root
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import uproot

HIGGS_MASS = 125.0  # GeV, as every momentum below
JET_RADIUS = 0.8
PARTICLES = 40  # the most a jet can have
PRONGS = 4
CHUNK = 10_000

Array = np.ndarray[Any, np.dtype[Any]]


def main() -> None:
    """Write the sample that the command line asks for."""
    parser = argparse.ArgumentParser(description="Simulate jets and write them to a TTree.")
    parser.add_argument("--events", type=int, default=200_000, help="number of jets")
    parser.add_argument("--seed", type=int, default=1, help="same seed, same events")
    parser.add_argument("--output", type=Path, default=Path("tutorials/output/events.root"))
    args = parser.parse_args()
    write_events(args.output, args.events, args.seed)
    print(f"{args.output}: {args.events} jets, {args.output.stat().st_size / 1e6:.0f} MB")


def write_events(
    path: Path, events: int, seed: int, progress: Callable[[int], object] = lambda done: None
) -> None:
    """Write `events` jets, half of them signal on average, to the TTree ``Events`` in `path`.

    Calls `progress` with the number of jets just written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with uproot.recreate(path, compression=uproot.ZSTD(1)) as file:
        tree = None
        for columns in simulate(events, seed):
            if tree is None:
                tree = file.mktree("Events", {k: ak.type(v).content for k, v in columns.items()})
            tree.extend(columns)
            progress(len(columns["event"]))


def simulate(events: int, seed: int) -> Iterator[dict[str, ak.Array]]:
    """Yield chunks of columns; an entry is an event with one large-radius jet."""
    for first in range(0, events, CHUNK):
        rng = np.random.default_rng([seed, first])
        size = min(CHUNK, events - first)
        is_signal = rng.random(size) < 0.5
        jet_pt = np.minimum(400 * rng.random(size, np.float32) ** -0.2, 1500)  # falls as pt**-6
        jet_eta = rng.normal(0, 1, size).clip(-2.4, 2.4).astype(np.float32)
        prongs = np.where(
            is_signal[:, None, None], higgs_prongs(rng, jet_pt), qcd_prongs(rng, size)
        )
        pt, place = make_particles(rng, jet_pt, prongs[..., 0].real, prongs[..., 1])
        columns = {
            "event": np.arange(first, first + size, dtype=np.uint64),
            "isSignal": is_signal,
            "FatJet_eta": jet_eta,
            **{f"FatJet_{name}": values for name, values in measure(pt, place).items()},
        }
        counts = (pt > 0).sum(1)
        particles = ak.unflatten(pt[pt > 0], counts)  # hardest first
        yield {k: ak.Array(v) for k, v in columns.items()} | {"PFCand": ak.zip({"pt": particles})}


# In what follows a place in the (eta, phi) plane, relative to the jet's axis, is a complex number.
# Prongs are arrays [jet, prong, 2]: the share of the jet's momentum, and the place.


def higgs_prongs(rng: np.random.Generator, jet_pt: Array) -> Array:
    """Decay a Higgs isotropically to b quarks; each radiates one gluon inside the other's reach."""
    size = len(jet_pt)
    share = 0.05 + 0.9 * rng.random(size)
    distance = HIGGS_MASS / (jet_pt * np.sqrt(share * (1 - share))) * unit(rng, size)
    prongs = []
    for part, place in ((share, (1 - share) * distance), (1 - share, -share * distance)):
        gluon = 0.01 * 30 ** rng.random(size)
        reach = abs(distance) * 0.05 * 10 ** rng.random(size) * unit(rng, size)
        prongs += [(part * (1 - gluon), place), (part * gluon, place + reach)]
    return np.moveaxis(np.array(prongs, np.complex64), 2, 0)


def qcd_prongs(rng: np.random.Generator, size: int) -> Array:
    """Let a parton emit up to three times, flat in log z and log angle; gluons emit more."""
    emissions = rng.poisson(np.where(rng.random(size) < 0.5, 2.2, 1.0))
    left = np.ones(size)
    prongs = []
    for prong in range(1, PRONGS):
        z = np.where(emissions >= prong, 0.02 * 25 ** rng.random(size), 0)
        prongs.append((left * z, 0.02 * 40 ** rng.random(size) * unit(rng, size)))
        left = left * (1 - z)
    return np.moveaxis(np.array([(left, np.zeros(size)), *prongs], np.complex64), 2, 0)


def make_particles(
    rng: np.random.Generator, jet_pt: Array, share: Array, place: Array
) -> tuple[Array, Array]:
    """Turn prongs into detected particles, hardest first; absent ones have pt 0."""
    size = len(jet_pt)
    shape = (size, PARTICLES)
    # Fragmentation: a prong has at least one particle, the others go by the root of its momentum.
    edges = np.cumsum(np.sqrt(share), axis=1)
    draw = rng.random(shape, np.float32) * edges[:, -1:]
    owner = sum((draw > edges[:, [prong]]).astype(np.int64) for prong in range(PRONGS - 1))
    owner[:, :PRONGS] = np.where(share > 0, np.arange(PRONGS), 0)
    pt = rng.standard_gamma(0.6, shape, np.float32) + np.float32(0.005)
    multiplicity = rng.poisson(20 + 4 * np.log(jet_pt / 300)) + 2 * (share > 0).sum(1)
    pt[np.arange(PARTICLES) >= multiplicity[:, None]] = 0
    total = [np.where(owner == prong, pt, 0).sum(1) for prong in range(PRONGS)]
    scale = share * jet_pt[:, None] / np.maximum(np.stack(total, axis=1), 1e-6)
    pt *= np.take_along_axis(scale, owner, 1)
    # Hadronisation gives a particle about 0.5 GeV across its prong.
    kick = rng.standard_normal((*shape, 2), np.float32).view(np.complex64)[..., 0]
    place = np.take_along_axis(place, owner, 1) + kick * (0.5 / np.maximum(pt, 0.5))
    # Pile-up: soft particles anywhere in the cone take the last places.
    soft = np.arange(PARTICLES)[::-1] < rng.poisson(5, size)[:, None]
    pt = np.where(soft, rng.standard_exponential(shape, np.float32) + np.float32(0.5), pt)
    anywhere = JET_RADIUS * np.sqrt(rng.random(shape, np.float32)) * unit(rng, shape)
    place = np.where(soft, anywhere, place)
    # Detector: 8 % momentum resolution, a threshold, and the cone.
    pt *= 1 + np.float32(0.08) * rng.standard_normal(shape, np.float32)
    pt[(pt < 0.5) | (abs(place) > JET_RADIUS)] = 0
    order = np.argsort(-pt, axis=1)
    return np.take_along_axis(pt, order, 1), np.take_along_axis(place, order, 1)


def measure(pt: Array, place: Array) -> dict[str, Array]:
    """Compute the observables of jets from their particles."""
    total = pt.sum(1)
    z = pt / total[:, None]
    place = place - (z * place).sum(1, keepdims=True)
    radius = abs(place)
    # Two subjets by k-means in the plane, weighted with momentum; a third axis where most is left.
    first = place[:, :1]
    second = furthest(z, place, abs(place - first))
    for _ in range(3):
        is_first = abs(place - first) < abs(place - second)
        first, second = centre(z * is_first, place), centre(z * ~is_first, place)
    to_two = np.minimum(abs(place - first), abs(place - second))
    to_three = np.minimum(to_two, abs(place - furthest(z, place, to_two)))
    share = (z * is_first).sum(1)
    zg = np.minimum(share, 1 - share)
    # One soft-drop step (z > 0.1, beta = 0): drop the softer subjet if it is too soft.
    harder = np.where((share > 0.5)[:, None], is_first, ~is_first)
    groomed = np.where((zg > 0.1)[:, None], pt, pt * harder)
    c2, d2 = energy_correlations(z, place)
    return {
        "pt": total,
        "mass": invariant_mass(pt, place),
        "msoftdrop": invariant_mass(groomed, place),
        "tau1": (z * radius).sum(1) / JET_RADIUS,
        "tau2": (z * to_two).sum(1) / JET_RADIUS,
        "tau3": (z * to_three).sum(1) / JET_RADIUS,
        "zg": zg,
        "rg": abs(first - second)[:, 0],
        "ptD": np.sqrt((z * z).sum(1)),
        "width": (z * radius**2).sum(1) / JET_RADIUS**2,
        "lha": (z * np.sqrt(radius / JET_RADIUS)).sum(1),
        "C2": c2,
        "D2": d2,
        "nConstituents": (pt > 0).sum(1, dtype=np.int32),
    }


def unit(rng: np.random.Generator, shape: int | tuple[int, ...]) -> Array:
    """Return random directions."""
    return np.exp(2j * np.pi * rng.random(shape, np.float32)).astype(np.complex64)


def centre(weight: Array, place: Array) -> Array:
    """Return the weighted mean place."""
    return (weight * place).sum(1, keepdims=True) / np.maximum(weight.sum(1, keepdims=True), 1e-6)


def furthest(z: Array, place: Array, distance: Array) -> Array:
    """Return the place that carries most momentum times distance."""
    return np.take_along_axis(place, np.argmax(z * distance, axis=1)[:, None], 1)


def invariant_mass(pt: Array, place: Array) -> Array:
    """Return the mass of massless particles, in the frame where the jet has eta 0."""
    transverse = (pt * np.exp(1j * place.imag)).sum(1)
    along = (pt * np.sinh(place.real)).sum(1)
    energy = (pt * np.cosh(place.real)).sum(1)
    return np.sqrt(np.maximum(energy**2 - along**2 - abs(transverse) ** 2, 0))


def energy_correlations(z: Array, place: Array) -> tuple[Array, Array]:
    """Return C2 and D2 (beta = 1), from sums of momenta times distances over pairs and triples."""
    weighted = abs(place[:, :, None] - place[:, None, :]) * z[:, None, :]
    e2 = (z * weighted.sum(2)).sum(1) / 2
    e3 = ((weighted @ weighted) * weighted.swapaxes(1, 2)).sum((1, 2)) / 6
    return e3 / e2**2, e3 / e2**3


if __name__ == "__main__":
    main()
