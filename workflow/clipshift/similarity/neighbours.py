"""Per test image its nearest training images, and how many lie above each value of a grid.

`near` holds `test_key, rank, key, similarity float64` (rank 0 is the nearest), `density` holds
`test_key, above, count`. With a split, only the pool points that it keeps count, so a training set
can be looked at before and after its pruning.
"""

import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from clipshift.core.database import database, parquet
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import write_parquet
from clipshift.core.step import step
from clipshift.similarity.blocks import nearest
from clipshift.similarity.embeddings import Embeddings, in_key_order, read_all, read_shard

MOST = np.iinfo(np.int16).max  # ranks, as they are stored


class Neighbours:
    """The k nearest points of each test image so far; of equals the lowest keys.

    Attributes:
        similarity: (M, k) float64, descending; -inf where there is none.
        keys: (M, k) str; empty where there is none.
        count: (M, G) int64.
    """

    def __init__(self, tests: int, k: int, grid: Sequence[float]) -> None:
        """Nothing seen yet.

        Raises:
            ClipshiftError: the grid does not ascend, or there are more ranks than are stored.
        """
        if k > MOST:
            raise ClipshiftError(f"{k} nearest points of each test image; at most {MOST} are kept")
        if not all(low < high for low, high in pairwise([-np.inf, *grid, np.inf])):
            raise ClipshiftError(f"the grid of similarities must ascend: {list(grid)}")
        self.similarity = np.full((tests, k), -np.inf)
        # As objects: text of numpy is as long as the longest key, and loses zeros at its end.
        self.keys = np.full((tests, k), "", dtype=object)
        self.count = np.zeros((tests, len(grid)), dtype=np.int64)
        self.grid = grid

    def add(
        self, points: Embeddings, tests: Embeddings, keep: np.ndarray | None, device: str = "auto"
    ) -> None:
        """Compare some points (in any order of files, no key twice) with all test images."""
        k = self.similarity.shape[1]
        new, row, count = nearest(points.vectors, tests.vectors, k, self.grid, keep, device)
        names = np.array([*points.keys, ""], dtype=object)  # row -1 is nobody
        similarity = np.concatenate([self.similarity, new], axis=1)
        keys = np.concatenate([self.keys, names[row]], axis=1)
        # By falling similarity, equal ones by key: a stable order however points come in.
        order = np.lexsort((keys, -similarity), axis=1)[:, :k]
        self.similarity = np.take_along_axis(similarity, order, axis=1)
        self.keys = np.take_along_axis(keys, order, axis=1)
        self.count += count

    def tables(self, test_keys: Sequence[str]) -> tuple[pa.Table, pa.Table]:
        """Neighbours (rows of nobody left out) and density, in the order of `test_keys`."""
        tests, k = self.similarity.shape
        valid = (self.similarity > -np.inf).ravel()
        names = np.array(test_keys, dtype=object)
        near = {
            "test_key": pa.array(np.repeat(names, k)[valid], pa.string()),
            "rank": np.tile(np.arange(k, dtype=np.int16), tests)[valid],
            "key": pa.array(self.keys.ravel()[valid], pa.string()),
            "similarity": self.similarity.ravel()[valid],
        }
        density = {
            "test_key": pa.array(np.repeat(names, len(self.grid)), pa.string()),
            "above": np.tile(np.array(self.grid, dtype=np.float64), tests),
            "count": self.count.ravel(),
        }
        return pa.table(near), pa.table(density)


def kept_rows(points: Embeddings, split: Path) -> np.ndarray:
    """(N,) bool: which points a split keeps. Reads only the split's rows in the keys' range."""
    low, high = min(points.keys), max(points.keys)
    with database() as db:
        kept = db.execute(
            f"SELECT key FROM {parquet([split])} WHERE kept AND key BETWEEN $1 AND $2",
            [low, high],
        ).fetchnumpy()["key"]
    wanted = set(kept)
    return np.fromiter((key in wanted for key in points.keys), bool, len(points.keys))


@step(version=1)
def neighbours(
    base: Path, shards: list[str], tests: Path, split: Path | None, k: int, grid: list[float],
    near: Path, density: Path,
) -> None:  # fmt: skip
    """`near` and `density` of the test images, see above.

    Args:
        base, tests: embedding folders.
        split: only the pool points that it keeps count.
        grid: ascending similarities.
    """
    images = in_key_order(read_all(tests))
    best = Neighbours(len(images.keys), k, grid)
    for shard in tqdm(shards, desc=f"neighbours {near}", mininterval=5, file=sys.stderr):
        points = in_key_order(read_shard(base, shard, mmap=True))
        best.add(points, images, kept_rows(points, split) if split else None)
    tables = best.tables(images.keys)
    write_parquet(density, tables[1])
    write_parquet(near, tables[0])
