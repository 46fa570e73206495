"""Per test image its nearest training images, and how many lie above each value of a grid.

`python -m clipshift.neighbours --base FOLDER --shards NAME... --tests FOLDER [--split FILE] ...`
writes `test_key, rank, key, similarity float64` (rank 0 is the nearest) and, beside it,
`{name}.density.parquet` with `test_key, above, count`. With a split, only the pool points that it
keeps count, so a training set can be looked at before and after its pruning.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from clipshift.database import database
from clipshift.embeddings import Embeddings, in_key_order, read_all, read_shard
from clipshift.errors import ClipshiftError, run
from clipshift.files import write_parquet
from clipshift.similarity import nearest


class Neighbours:
    """The k nearest points of each test image so far; of equals the lowest keys.

    Attributes:
        similarity: (M, k) float64, descending; -inf where there is none.
        keys: (M, k) str; empty where there is none.
        count: (M, G) int64.
    """

    def __init__(self, tests: int, k: int, grid: Sequence[float]) -> None:
        self.similarity = np.full((tests, k), -np.inf)
        self.keys = np.full((tests, k), "", dtype="U1")
        self.count = np.zeros((tests, len(grid)), dtype=np.int64)
        self.grid = grid

    def add(
        self, points: Embeddings, tests: Embeddings, keep: np.ndarray | None, device: str = "auto"
    ) -> None:
        """Compare some points (in any order of files, no key twice) with all test images."""
        k = self.similarity.shape[1]
        found, row, count = nearest(points.vectors, tests.vectors, k, self.grid, keep, device)
        names = np.array([*points.keys, ""])  # row -1 is nobody
        similarity = np.concatenate([self.similarity, found], axis=1)
        keys = np.concatenate([self.keys, names[row]], axis=1)
        order = np.lexsort((keys, -similarity), axis=1)[:, :k]
        self.similarity = np.take_along_axis(similarity, order, axis=1)
        self.keys = np.take_along_axis(keys, order, axis=1)
        self.count += count

    def tables(self, test_keys: Sequence[str]) -> tuple[pa.Table, pa.Table]:
        """Neighbours (rows of nobody left out) and density, in the order of `test_keys`."""
        tests, k = self.similarity.shape
        there = (self.similarity > -np.inf).ravel()
        names = np.array(test_keys, dtype=object)
        near = {
            "test_key": pa.array(np.repeat(names, k)[there], pa.string()),
            "rank": np.tile(np.arange(k, dtype=np.int16), tests)[there],
            "key": pa.array(self.keys.ravel()[there], pa.string()),
            "similarity": self.similarity.ravel()[there],
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
            f"SELECT key FROM read_parquet('{split}') WHERE kept AND key BETWEEN $1 AND $2",
            [low, high],
        ).fetchnumpy()["key"]
    return np.isin(np.array(points.keys), np.asarray(kept, dtype=str))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", type=Path, required=True, help="embedding folder")
    parser.add_argument("--shards", nargs="+", required=True)
    parser.add_argument("--tests", type=Path, required=True, help="embedding folder")
    parser.add_argument("--split", type=Path, help="only the points that this split keeps")
    parser.add_argument("--k", type=int, required=True)
    parser.add_argument("--grid", type=float, nargs="+", required=True, help="ascending")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--density", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    if args.grid != sorted(set(args.grid)):
        raise ClipshiftError(f"--grid must ascend: {args.grid}")
    tests = in_key_order(read_all(args.tests))
    found = Neighbours(len(tests.keys), args.k, args.grid)
    for shard in tqdm(args.shards, desc=f"neighbours {args.out}", mininterval=5, file=sys.stderr):
        points = in_key_order(read_shard(args.base, shard, mmap=True))
        keep = kept_rows(points, args.split) if args.split else None
        found.add(points, tests, keep, args.device)
    near, density = found.tables(tests.keys)
    write_parquet(args.density, density)
    write_parquet(args.out, near)


if __name__ == "__main__":
    run(main)
