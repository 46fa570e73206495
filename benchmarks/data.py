"""Synthetic embeddings with the spectrum and the thresholds of CLIP on a web-scale pool.

A common mean (two random images have a similarity of about 0.25), concepts shared by pool and tests
(the nearest of 20,000 test images is at about 0.7), and variances that fall as k^-1.2 along the
axes: the leading half holds 95 % (`decay` 0.5: 90 %). The reference set is drawn from the same
source, of a size at which 4 % of the pool lie above the thresholds of a test set of 6,000: what
was removed from LAION-200M by its most similar test set.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa

from clipshift.core.files import write_npy_parts, write_parquet
from clipshift.similarity.embeddings import shard_paths, write_shard

# Sizes of ImageNet's six test sets, scaled to 20,000 images.
SETS = {"val": 6000, "sketch": 6100, "r": 3600, "v2": 1200, "a": 900, "objectnet": 2200}
CONCEPTS = 4000
CHUNK = 50_000


class Source:
    """Draws unit vectors; every chunk has its own seed, so that any size starts alike."""

    def __init__(self, dim: int, decay: float = 0.6, mean: float = 0.5) -> None:
        rng = np.random.default_rng(7)
        self.spectrum = ((1.0 + np.arange(dim)) ** -decay).astype(np.float32)
        self.spectrum /= np.linalg.norm(self.spectrum)
        basis = np.linalg.qr(rng.standard_normal((dim, dim)))[0]
        self.basis = np.ascontiguousarray(basis.T, dtype=np.float32)
        self.concepts = rng.standard_normal((CONCEPTS, dim)).astype(np.float32) * self.spectrum
        centre = rng.standard_normal(dim)
        centre[:2] *= 12  # CLIP's embeddings have a few coordinates that are always large
        self.mean, self.centre = mean, (centre / np.linalg.norm(centre)).astype(np.float32)

    def chunk(self, seed: tuple[int, int], rows: int) -> np.ndarray:
        """(rows, dim) float16."""
        rng = np.random.default_rng(seed)
        own = rng.standard_normal((rows, len(self.spectrum)), dtype=np.float32) * self.spectrum
        z = (0.75 * self.concepts[rng.integers(0, CONCEPTS, rows)] + 0.9 * own) @ self.basis
        z /= np.linalg.norm(z, axis=1, keepdims=True)
        x = z * np.float32(np.sqrt(1 - self.mean**2)) + self.mean * self.centre
        return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float16)

    def rows(self, seed: int, rows: int) -> np.ndarray:
        """(rows, dim) float16 in memory."""
        sizes = [min(CHUNK, rows - start) for start in range(0, rows, CHUNK)]
        return np.concatenate([self.chunk((seed, i), n) for i, n in enumerate(sizes)])


def write_folder(folder: Path, source: Source, seed: int, rows: int, prefix: str) -> None:
    """An embedding folder of one shard, written a chunk at a time."""
    vectors, metadata = shard_paths(folder, "00000")
    sizes = [min(CHUNK, rows - start) for start in range(0, rows, CHUNK)]
    parts = (source.chunk((seed, i), n) for i, n in enumerate(sizes))
    write_npy_parts(vectors, np.dtype(np.float16), (rows, len(source.spectrum)), parts)
    write_parquet(metadata, pa.table({"image_path": [f"{prefix}{i:09d}" for i in range(rows)]}))


def write_tests(folder: Path, source: Source, share: float = 1.0) -> dict[str, Path]:
    """The six test sets as folders; `share` of their images."""
    found = {}
    for i, (name, size) in enumerate(SETS.items()):
        vectors = source.rows(100 + i, max(1, round(size * share)))
        keys = [f"{name}{j:06d}" for j in range(len(vectors))]
        write_shard(folder / name, "00000", vectors, pa.table({"image_path": keys}))
        found[name] = folder / name
    return found
