"""Clusters of a pool's embeddings, so that not all pairs need be compared.

Centroids (C, D) float16 come from k-means on a seeded sample. Per shard, (N,) int32 holds the
cluster of each row.
"""

import logging
from pathlib import Path

import numpy as np
import torch

from clipshift.core.device import pick_device
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import write_npy
from clipshift.core.step import step
from clipshift.similarity.dedup.sample import draw
from clipshift.similarity.embeddings import read_shard
from clipshift.similarity.engine.queries import ColumnSet
from clipshift.similarity.engine.scan import Scanner, scan

# Centroids are rounded to multiples of its inverse while they are fitted: products with float16
# values are then multiples of 2^-44, whose sums are exact in float64.
GRID = 2**20
LOG = logging.getLogger(__name__)


class Points:
    """Points for faiss's k-means, which asks for some of them and for their nearest centroids.

    Args:
        vectors: (N, D) float16, rows L2-normalised.
    """

    def __init__(self, vectors: np.ndarray, seed: int = 0, device: str = "auto") -> None:
        self._vectors, self._seed, self._device = vectors, seed, device

    def count(self) -> int:
        return len(self._vectors)

    def dim(self) -> int:
        return int(self._vectors.shape[1])

    def get_subset(self, rows: np.ndarray) -> np.ndarray:
        """(K, D) float64, the first centroids: as many points as `rows`, drawn as faiss's compiled
        k-means draws them."""
        import faiss

        order = np.empty(self.count(), dtype=np.int32)
        faiss.rand_perm(  # type: ignore[attr-defined]
            faiss.swig_ptr(order), self.count(), self._seed + 1
        )
        return np.asarray(self._vectors[order[: len(rows)]], dtype=np.float64)

    def assign_to(
        self, centroids: np.ndarray, weights: None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Nearest centroid (N,) int64, distance (N,), and sum of each centroid's points (C, D).

        The engine decides exactly which centroid is nearest, and sums of float16 values are exact
        in float64: the clusters depend on no thread, block or device.
        """
        where = pick_device(self._device)
        columns = [ColumnSet(np.asarray(np.rint(_unit(centroids) * GRID) / GRID, np.float32))]
        scanner = Scanner(columns, self._vectors, self.count(), self._device)
        sums = torch.zeros(centroids.shape, dtype=torch.float64, device=where)
        nearest, similarity = [], []
        for piece in scanner.scan(self._vectors):
            (maxima,) = piece.maxima
            rows = torch.from_numpy(self._vectors[piece.start : piece.stop]).to(where)
            sums.index_add_(0, torch.from_numpy(maxima.index).to(where), rows.double())
            nearest.append(maxima.index)
            similarity.append(maxima.value)
        return np.concatenate(nearest), 1 - np.concatenate(similarity), sums.cpu().numpy()


def fit(
    vectors: np.ndarray, clusters: int, iterations: int, seed: int, device: str = "auto"
) -> np.ndarray:
    """Centroids (clusters, D) float16 of spherical k-means, L2-normalised before rounding.

    faiss's loop, with the engine's assignment: the same sample gives the same bytes everywhere.

    Args:
        vectors: (N, D), rows L2-normalised, in an order that depends on keys only.

    Raises:
        ClipshiftError: fewer vectors than clusters.
    """
    from faiss.contrib.clustering import kmeans

    if len(vectors) < clusters:
        raise ClipshiftError(
            f"{clusters} clusters cannot be fitted on {len(vectors)} points; lower `clusters`"
        )
    points = Points(vectors.astype(np.float16, copy=False), seed, device)
    centroids = kmeans(clusters, points, niter=iterations, seed=seed)  # type: ignore[no-untyped-call]
    return _unit(centroids).astype(np.float16)


def _unit(centroids: np.ndarray) -> np.ndarray:
    """(C, D) float64, L2-normalised."""
    norms = np.linalg.norm(centroids, axis=1, keepdims=True)
    return np.asarray(centroids / np.where(norms > 0, norms, 1))


def assign(vectors: np.ndarray, centroids: np.ndarray, device: str = "auto") -> np.ndarray:
    """(N,) int32: the nearest centroid of each row; of equals the first."""
    if not len(vectors):
        return np.empty(0, dtype=np.int32)
    (maxima,), _ = scan(vectors, [ColumnSet(centroids)], device)
    return maxima.index.astype(np.int32)


@step(version=2)
def fit_pool(
    pool: Path, shards: list[str], clusters: int, sample: int, iterations: int, seed: int, out: Path
) -> None:
    """Write centroids that are fitted on at most `sample` points of an embedding folder."""
    vectors = draw(pool, shards, sample, f"clusters:{seed}").vectors
    LOG.info(f"{clusters} clusters on {len(vectors)} points")
    write_npy(out, fit(vectors, clusters, iterations, seed))


@step(version=1)
def assign_shard(pool: Path, shard: str, centroids: Path, out: Path) -> None:
    """Write the cluster of each row of a shard of an embedding folder."""
    vectors = read_shard(pool, shard, mmap=True).vectors
    write_npy(out, assign(vectors, np.load(centroids, allow_pickle=False)))
