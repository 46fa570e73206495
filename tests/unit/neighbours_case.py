"""Neighbours files made from embeddings by brute force, for the tests of the figures."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from clipshift.core.files import write_parquet
from clipshift.similarity.embeddings import Embeddings, in_key_order

GRID = tuple(np.round(np.arange(0.3, 1.0, 0.1), 1).tolist())


def neighbour_tables(
    base: Embeddings, tests: Embeddings, k: int, grid: Sequence[float] = GRID
) -> tuple[pa.Table, pa.Table]:
    """`test_key, rank, key, similarity` and `test_key, above, count`; ties go to the lowest key."""
    base, tests = in_key_order(base), in_key_order(tests)
    s = tests.vectors.astype(np.float64) @ base.vectors.astype(np.float64).T  # (M, N)
    k = min(k, len(base.keys))
    order = np.argsort(-s, axis=1, kind="stable")[:, :k]
    nearest = pa.table(
        {
            "test_key": np.repeat(tests.keys, k),
            "rank": np.tile(np.arange(k, dtype=np.int16), len(tests.keys)),
            "key": np.array(base.keys)[order].ravel(),
            "similarity": np.take_along_axis(s, order, 1).ravel(),
        }
    )
    density = pa.table(
        {
            "test_key": np.repeat(tests.keys, len(grid)),
            "above": np.tile(np.array(grid, dtype=np.float64), len(tests.keys)),
            "count": np.stack([(s > g).sum(1) for g in grid], 1).ravel().astype(np.int64),
        }
    )
    return nearest, density


def write_neighbours(
    path: Path, base: Embeddings, tests: Embeddings, k: int = 5, grid: Sequence[float] = GRID
) -> Path:
    """Both files of a base and a test set; `path` is that of the neighbours."""
    nearest, density = neighbour_tables(base, tests, k, grid)
    write_parquet(path, nearest)
    write_parquet(path.with_suffix(".density.parquet"), density)
    return path
