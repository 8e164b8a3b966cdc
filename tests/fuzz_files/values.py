"""Numbers, texts and bytes that programs stumble over."""

from __future__ import annotations

import random
from typing import Any

INTEGERS = [
    0, 1, -1, 2, -2, 3, 5, 7, 8, 16, 63, 64, 65, 100, 255, 256, 1000, 1024, 4096, 65535, 65536, 10**6, 10**9,
    2**31 - 1, 2**31, -(2**31), 2**32, 2**40, 10**12, 2**53, 2**61, 2**62, 2**63 - 1, -(2**63), -5, -100,
]  # fmt: skip
FLOATS = [
    0.0, -0.0, 1.0, -1.0, 0.5, 1e-30, 1e30, 1e-45, 1e308, float("nan"), float("inf"), float("-inf"), 2.0, 3.7,
]  # fmt: skip
TEXTS = [
    "", " ", "x", "y", "N", "\0", "a\nb", "\\", '"', "*/", "//", "a" * 3000, "ü粒", "\u202e", "%s%n",
    '1; static inline int pwn = std::system("id");', "x:0:0", "y:0:0", "y0:0:0", "s:state:0",
    "../../etc/passwd", "NaN", "None", "linear", "nearest", "SAME_UPPER", "reverse", "float", "int",
    "double", "class", "std",
]  # fmt: skip


def integer(rng: random.Random, around: int | None = None) -> int:
    """A number that is near another one, or an odd one."""
    if around is not None and rng.random() < 0.4:
        return around + rng.choice([-2, -1, 1, 2, around])
    return rng.choice(INTEGERS) if rng.random() < 0.85 else rng.randrange(-(2**63), 2**63)


def damaged(rng: random.Random, data: bytes, other: bytes = b"") -> bytes:
    """Bytes with a few of them changed, missing, doubled, or taken from elsewhere."""
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 4, 16])):
        if not changed:
            return bytes(changed) + rng.randbytes(rng.randrange(9))
        at = rng.randrange(len(changed))
        kind = rng.randrange(8)
        if kind == 0:
            changed[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            changed[at] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)])
        elif kind == 2:
            del changed[at:]
        elif kind == 3:
            del changed[at : at + rng.choice([1, 2, 4, 8, 64, 1000])]
        elif kind == 4:
            changed[at:at] = rng.randbytes(rng.choice([1, 2, 4, 8, 64]))
        elif kind == 5:
            width = rng.choice([1, 2, 4, 8])
            number = integer(rng) % (1 << 8 * width)
            order: Any = rng.choice(["little", "big"])
            changed[at : at + width] = number.to_bytes(width, order)
        elif kind == 6:
            length = rng.choice([1, 4, 16, 100])
            changed[at:at] = changed[at : at + length] * rng.choice([1, 2, 50])
        else:
            source = other or data
            start = rng.randrange(len(source)) if source else 0
            length = rng.choice([4, 32, 500])
            changed[at : at + length] = source[start : start + length]
    return bytes(changed)
