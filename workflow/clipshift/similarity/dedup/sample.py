"""A seeded sample of a pool's points that depends on their keys only."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from clipshift.similarity.embeddings import Embeddings, open_shard


def draw(folder: Path, shards: Sequence[str], size: int, seed: str) -> Embeddings:
    """The `size` points with the smallest hashes of seed and key, in the order of the hashes.

    Memory: twice the sample's hashes, its vectors, and the keys of one shard.
    """
    # Twice over the shards: vectors are read when all hashes are known.
    digests = np.empty(0, dtype="S16")
    place = np.empty((0, 2), dtype=np.int64)  # shard, row
    for number, shard in enumerate(shards):
        hashes = _digests(open_shard(folder, shard).keys, seed)
        rows = np.stack([np.full(len(hashes), number), np.arange(len(hashes))], axis=1)
        digests, place = np.concatenate([digests, hashes]), np.concatenate([place, rows])
        # Sorting a large sample takes seconds: not for every shard.
        if len(digests) > 2 * size or number == len(shards) - 1:
            smallest = np.argsort(digests, kind="stable")[:size]
            digests, place = digests[smallest], place[smallest]
    keys = [""] * len(place)
    vectors: np.ndarray | None = None
    for number, shard in enumerate(shards):
        part = open_shard(folder, shard)
        if vectors is None:
            vectors = np.empty((len(place), part.vectors.shape[1]), dtype=part.vectors.dtype)
        positions = np.flatnonzero(place[:, 0] == number)
        positions = positions[np.argsort(place[positions, 1])]  # rows in the order of the file
        rows = place[positions, 1]
        vectors[positions] = part.vectors[rows]
        for i, row in zip(positions, rows, strict=True):
            keys[i] = part.keys[row]
    assert vectors is not None
    return Embeddings(vectors, keys)


def _digests(keys: Sequence[str], seed: str) -> np.ndarray:
    """(N,) 16 bytes each. A trailing zero byte is lost by numpy, on both sides of a comparison."""
    return np.array(
        [hashlib.blake2b(f"{seed}:{key}".encode(), digest_size=16).digest() for key in keys],
        dtype="S16",
    )
