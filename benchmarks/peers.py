"""What others would do for the same margins, each as a function of pool rows (N, D) float16.

Every peer returns (N, S) float32, per set the largest margin of a row, or what it can say of it.
"""

from collections.abc import Iterator, Sequence

import faiss
import numpy as np
import torch
from faiss.contrib.exhaustive_search import knn_ground_truth

from clipshift.similarity.engine.queries import ColumnSet

ROWS = 16_384
BLOCK = 1024


def blocks(pool: np.ndarray, rows: int = ROWS) -> Iterator[np.ndarray]:
    for start in range(0, len(pool), rows):
        yield np.asarray(pool[start : start + rows], dtype=np.float32)


def appended(columns: ColumnSet) -> np.ndarray:
    """(M, D + 1): per-image thresholds become one, q' = [q, -s], x' = [x, 1], threshold 0."""
    assert columns.thresholds is not None
    limits = -columns.thresholds[:, None].astype(np.float32)
    return np.hstack([columns.vectors.astype(np.float32), limits])


def _with_one(rows: np.ndarray) -> np.ndarray:
    return np.hstack([rows, np.ones((len(rows), 1), np.float32)])


def faiss_flat(pool: np.ndarray, sets: Sequence[ColumnSet]) -> np.ndarray:
    """IndexFlatIP, for what ours gives: one search for the margins, one for the similarities."""
    faiss_flat_similarities(pool, sets)
    return faiss_flat_margins(pool, sets)


def faiss_flat_margins(pool: np.ndarray, sets: Sequence[ColumnSet]) -> np.ndarray:
    """IndexFlatIP, one search: half of what ours gives."""
    indexes = [faiss.IndexFlatIP(pool.shape[1] + 1) for _ in sets]
    for index, columns in zip(indexes, sets, strict=True):
        index.add(appended(columns))
    found = []
    for rows in blocks(pool):
        wide = _with_one(rows)
        found.append(np.hstack([index.search(wide, 1)[0] for index in indexes]))
    return np.concatenate(found)


def faiss_flat_similarities(pool: np.ndarray, sets: Sequence[ColumnSet]) -> np.ndarray:
    """The other search: the largest similarities."""
    indexes = [faiss.IndexFlatIP(pool.shape[1]) for _ in sets]
    for index, columns in zip(indexes, sets, strict=True):
        index.add(columns.vectors.astype(np.float32))
    return np.concatenate(
        [np.hstack([i.search(rows, 1)[0] for i in indexes]) for rows in blocks(pool)]
    )


def torch_blocked(pool: np.ndarray, sets: Sequence[ColumnSet]) -> np.ndarray:
    """A plain blocked float32 matmul with both reductions."""
    sides = []
    for columns in sets:
        limits = torch.tensor(columns.thresholds, dtype=torch.float32)
        sides.append((torch.from_numpy(columns.vectors.astype(np.float32)).T, limits))
    found = []
    for rows in blocks(pool, BLOCK):
        x = torch.from_numpy(rows)
        margins = []
        for queries, limits in sides:
            s = x @ queries
            s.max(1)
            s -= limits
            margins.append(s.max(1).values)
        found.append(torch.stack(margins, 1).numpy())
    return np.concatenate(found)


def faiss_exhaustive(pool: np.ndarray, sets: Sequence[ColumnSet]) -> np.ndarray:
    """faiss.contrib's exhaustive search, the pool as queries."""
    wide = _with_one(np.asarray(pool, dtype=np.float32))
    return np.hstack(
        [
            knn_ground_truth(wide, iter([appended(c)]), 1, faiss.METRIC_INNER_PRODUCT, ngpu=0)[0]
            for c in sets
        ]
    )


def top_candidates(pool: np.ndarray, sets: Sequence[ColumnSet], k: int = 1000) -> np.ndarray:
    """The published procedure: per test image the k nearest pool points, those above its threshold.

    A point beyond the k-th of every image is missed; its margin here is -inf.
    """
    index = faiss.IndexFlatIP(pool.shape[1])
    for rows in blocks(pool):
        index.add(rows)
    found = np.full((len(pool), len(sets)), -np.inf, np.float32)
    for which, columns in enumerate(sets):
        assert columns.thresholds is not None
        for start in range(0, len(columns.vectors), BLOCK):
            part = slice(start, start + BLOCK)
            similarity, row = index.search(columns.vectors[part].astype(np.float32), k)
            gap = similarity - columns.thresholds[part, None].astype(np.float32)
            np.maximum.at(found[:, which], row.ravel(), gap.ravel())
    return found


PEERS = {
    "faiss_flat": faiss_flat,
    "faiss_flat_margins": faiss_flat_margins,
    "torch_blocked": torch_blocked,
    "faiss_exhaustive": faiss_exhaustive,
    "top_candidates": top_candidates,
}
