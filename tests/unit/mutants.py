"""Seeded mutants of files: what disks, editors and downloads do to text."""

import random

TOKENS = (
    b"\0", b"\t", b"\n", b"\xff", b"\xef\xbb\xbf", b"- ", b": ", b"{", b"[", b"]", b"}", b'"', b"'",
    b",", b";", b"&a *a", b"<<: ", b"!!set ", b"---\n", b"? ", b"NaN", b"null", b"-1", b"1e999",
    b"2024-13-45", b"9" * 5000, b"[" * 3000, b"x" * 200_000,
)  # fmt: skip


def mutant(data: bytes, rng: random.Random) -> bytes:
    """Bits flipped, a part cut off, doubled or zeroed, a token put in, or another encoding."""
    b = bytearray(data)
    start, end = sorted(rng.randrange(len(b)) for _ in range(2))
    kind = rng.randrange(7)
    if kind == 0:
        for _ in range(rng.choice((1, 8, 64))):
            b[rng.randrange(len(b))] ^= 1 << rng.randrange(8)
    elif kind == 1:
        del b[start:]
    elif kind == 2:
        b[start:start] = b[start : min(end, start + 200)]
    elif kind == 3:
        b[start : min(end, start + 100)] = b""
    elif kind == 4:
        b = bytearray(
            data.decode().encode(rng.choice(("utf-16", "utf-32", "utf-8-sig", "utf-16-be")))
        )
    else:
        b[start:start] = rng.choice(TOKENS)
    return bytes(b)
