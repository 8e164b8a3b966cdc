"""Changes of ``.dat`` files: fields of the header and of the table, sealed with a right checksum."""

from __future__ import annotations

import random
import struct

import numpy as np
import xxhash

from sofie_root.storage.weights import dat_bytes

from .values import damaged, integer

HASH = bytes(range(32))

ASKED = {
    "a": np.arange(15, dtype=np.float32).reshape(3, 5),
    "b": np.array([True, False]),
    "scalar": np.array(-7, np.int64),
    "empty": np.zeros((0, 4)),
    "h": np.array([1, 2], np.float16),
    "big": np.arange(1000, dtype=np.float64),
}
"""Tensors that the reader in ``read_weights.cpp`` asks for."""


def sealed(image: bytes) -> bytes:
    """The bytes with the checksum that they must have."""
    if len(image) < 8:
        return image
    body = image[:-8]
    return body + struct.pack("<Q", xxhash.xxh64_intdigest(body))


def mutated(rng: random.Random) -> tuple[bytes, str]:
    """A file that a reader may be given, and what is wrong with it."""
    names = list(ASKED)
    if rng.random() < 0.3:
        rng.shuffle(names)
    image = bytearray(dat_bytes({n: ASKED[n] for n in names}, HASH))
    table = int.from_bytes(image[48:56], "little")
    done = []
    for _ in range(rng.choice([0, 1, 1, 2, 3, 8])):
        width, at = rng.choice([(4, rng.randrange(8, 64, 4)), (8, rng.randrange(8, 64, 8))])
        if rng.random() < 0.7:
            at = 64 + rng.randrange(0, max(table, 8), width)
        old = int.from_bytes(image[at : at + width], "little")
        image[at : at + width] = (integer(rng, old) % (1 << 8 * width)).to_bytes(width, "little")
        done.append(f"u{8 * width} at {at}")
    data = bytes(image)
    if rng.random() < 0.4:
        data = damaged(rng, data)
        done.append("bytes")
    if rng.random() < 0.3:
        cut = rng.randrange(0, len(data) + 65, 64) + 8
        data = data[:cut].ljust(cut, b"\0")
        if rng.random() < 0.8:
            data = data[:56] + struct.pack("<Q", len(data)) + data[64:] if len(data) >= 64 else data
        done.append(f"cut to {cut}")
    if rng.random() < 0.9:
        data = sealed(data)
    return data, ", ".join(done) or "nothing"
