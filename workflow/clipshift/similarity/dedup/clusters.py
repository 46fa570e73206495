"""Clusters of a pool's embeddings, so that not all pairs need be compared.

Centroids (C, D) float16 come from faiss k-means on a seeded sample. Per shard, (N,) int32 holds the
cluster of each row.
"""

import logging
from pathlib import Path

import numpy as np

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import write_npy
from clipshift.core.step import step
from clipshift.similarity.dedup.sample import draw
from clipshift.similarity.embeddings import read_shard
from clipshift.similarity.engine.queries import ColumnSet
from clipshift.similarity.engine.scan import scan

LOG = logging.getLogger(__name__)


def fit(vectors: np.ndarray, clusters: int, iterations: int, seed: int) -> np.ndarray:
    """Centroids (clusters, D) float16 of spherical k-means, L2-normalised before rounding.

    Args:
        vectors: (N, D), rows L2-normalised, in an order that depends on keys only.

    On a CPU one thread computes, so that the same sample gives the same bytes; a GPU, where faiss
    finds one, may differ from it in the last digits. Rounded centroids make the assignment exact,
    and with it the same everywhere.

    Raises:
        ClipshiftError: fewer vectors than clusters.
    """
    import faiss

    if len(vectors) < clusters:
        raise ClipshiftError(
            f"{clusters} clusters cannot be fitted on {len(vectors)} points; lower `clusters`"
        )
    gpu = getattr(faiss, "get_num_gpus", int)() > 0
    if not gpu:
        faiss.omp_set_num_threads(1)
    # Without these bounds faiss draws a sample of its own from many points per centroid, and
    # complains of few.
    kmeans = faiss.Kmeans(
        vectors.shape[1], clusters, niter=iterations, seed=seed, spherical=True, gpu=gpu,
        min_points_per_centroid=1, max_points_per_centroid=len(vectors),
    )  # fmt: skip
    kmeans.train(vectors.astype(np.float32))
    centroids = np.asarray(kmeans.centroids, dtype=np.float64)
    norms = np.linalg.norm(centroids, axis=1, keepdims=True)
    return np.asarray(centroids / np.where(norms > 0, norms, 1), dtype=np.float16)


def assign(vectors: np.ndarray, centroids: np.ndarray, device: str = "auto") -> np.ndarray:
    """(N,) int32: the nearest centroid of each row; of equals the first."""
    if not len(vectors):
        return np.empty(0, dtype=np.int32)
    (maxima,), _ = scan(vectors, [ColumnSet(centroids)], device)
    return maxima.index.astype(np.int32)


@step(version=1)
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
