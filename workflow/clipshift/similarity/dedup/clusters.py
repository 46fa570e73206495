"""Clusters of a pool's embeddings, so that not all pairs need be compared.

`python -m clipshift.similarity.dedup.clusters fit ...` writes the centroids (faiss k-means on a seeded
sample), `... assign ...` the cluster of each row of one shard.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from clipshift.core.errors import ClipshiftError, run
from clipshift.core.files import write_npy
from clipshift.similarity.dedup.sample import draw
from clipshift.similarity.embeddings import read_shard
from clipshift.similarity.engine.queries import ColumnSet
from clipshift.similarity.engine.scan import scan


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
    (found,), _ = scan(vectors, [ColumnSet(centroids)], device)
    return found.index.astype(np.int32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    fitting = commands.add_parser("fit")
    fitting.add_argument("--shards", nargs="+", required=True)
    for name in ("clusters", "sample", "iterations", "seed"):
        fitting.add_argument(f"--{name}", type=int, required=True)
    assigning = commands.add_parser("assign")
    assigning.add_argument("--shard", required=True)
    assigning.add_argument("--centroids", type=Path, required=True)
    assigning.add_argument("--device", default="auto")
    for command in (fitting, assigning):
        command.add_argument("--pool", type=Path, required=True, help="embedding folder")
        command.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    if args.command == "fit":
        sample = draw(args.pool, args.shards, args.sample, f"clusters:{args.seed}").vectors
        print(f"{args.clusters} clusters on {len(sample)} points", file=sys.stderr)
        write_npy(args.out, fit(sample, args.clusters, args.iterations, args.seed))
        return
    centroids = np.load(args.centroids, allow_pickle=False)
    pool = read_shard(args.pool, args.shard, mmap=True)
    write_npy(args.out, assign(pool.vectors, centroids, args.device))


if __name__ == "__main__":
    run(main)
