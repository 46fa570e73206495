"""Stored neighbours and densities against plain float64, for `clipshift verify`.

Of every row: the pair that it names has the stored similarity. Of a sample of the test images: no
other point belongs among the nearest, and the counts are right.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clipshift.apps.margins.numbers import Check, fault, pairs, read_whole, slip_of, spans
from clipshift.similarity.embeddings import Embeddings

NEAR = pa.schema(
    [("test_key", pa.string()), ("rank", pa.int16()), ("key", pa.string()),
     ("similarity", pa.float64())]
)  # fmt: skip
DENSITY = pa.schema([("test_key", pa.string()), ("above", pa.float64()), ("count", pa.int64())])
BLOCK = 1 << 23  # similarities at a time


class NearCheck:
    """Neighbours of one test set: the tables are opened, shards are added, then `finish`."""

    def __init__(
        self, near: Path, density: Path, tests: Embeddings, k: int, grid: list[float], points: int,
        sample: int, seed: int,
    ) -> None:  # fmt: skip
        self.near, self.density, self.tests, self.grid = near, density, tests, np.array(grid)
        m, self.k = len(tests.keys), min(k, points)
        names = np.array(tests.keys, dtype=object)
        table = read_whole(near, NEAR)
        ranks = np.tile(np.arange(self.k, dtype=np.int16), m)
        if len(table) != m * self.k or not np.array_equal(table["rank"].to_numpy(), ranks):
            fault(near, f"does not hold the ranks 0 to {self.k - 1} of {m} test images")
        if table["test_key"].to_pylist() != np.repeat(names, self.k).tolist():
            fault(near, "is of other test images (test_key)")
        self.keys = table["key"].combine_chunks()
        self.similarity = table["similarity"].to_numpy().reshape(m, self.k)
        self._check_order(np.array(self.keys.to_pylist(), dtype=object).reshape(m, self.k))
        self.known = np.zeros(m * self.k, dtype=bool)
        if grid:
            counts = read_whole(density, DENSITY)
            right = counts["test_key"].to_pylist() == np.repeat(names, len(grid)).tolist()
            if not right or counts["above"].to_pylist() != grid * m:
                fault(density, f"is not of the similarities {grid} of {m} test images "
                      "(above, test_key)")  # fmt: skip
            self.count = counts["count"].to_numpy().reshape(m, len(grid))
            inside = (self.count >= 0).all() and (self.count <= points).all()
            if not inside or (np.diff(self.count) > 0).any():
                fault(density, "holds counts that no pool has (count)")
        rng = np.random.default_rng([seed, m])
        self.some = np.sort(rng.choice(m, min(sample, m), replace=False))
        self.wide = tests.vectors[self.some].astype(np.float64)
        self.closer = np.zeros(len(self.some), dtype=np.int64)
        self.low = np.zeros((len(self.some), len(grid)), dtype=np.int64)
        self.high = self.low.copy()
        self.pairs = 0

    def _check_order(self, keys: np.ndarray) -> None:
        falls = self.similarity[:, :-1] > self.similarity[:, 1:]
        tied = (self.similarity[:, :-1] == self.similarity[:, 1:]) & (keys[:, :-1] < keys[:, 1:])
        wrong = ~(falls | tied)
        if wrong.any():
            test = int(np.flatnonzero(wrong.any(1))[0])
            fault(self.near, f"is not in the order of ranks for the test image "
                  f"{self.tests.keys[test]!r} (similarity, key)")  # fmt: skip

    def add(self, vectors: np.ndarray, keys: pa.ChunkedArray) -> None:
        """Take in a shard of the pool."""
        slip = slip_of(vectors, self.tests.vectors)
        self._check_named(vectors, keys, slip)
        last = self.similarity[self.some, -1] if self.k else np.full(len(self.some), -np.inf)
        for part in spans(len(vectors), max(1, min(8192, BLOCK // len(self.some)))):
            s = self.wide @ vectors[part].astype(np.float64).T
            self.pairs += s.size
            self.closer += (s > last[:, None] + 2 * slip).sum(1)
            for g, above in enumerate(self.grid):
                self.low[:, g] += (s > above + slip).sum(1)
                self.high[:, g] += (s > above - slip).sum(1)

    def _check_named(self, vectors: np.ndarray, keys: pa.ChunkedArray, slip: float) -> None:
        found = pc.index_in(self.keys, value_set=keys.combine_chunks())
        here = np.flatnonzero(found.is_valid().to_numpy(zero_copy_only=False))
        rows = found.drop_null().to_numpy()
        self.known[here] = True
        check = Check(self.near, self.keys, slip)
        for part in spans(len(here)):
            stored = self.similarity.ravel()[here[part]]
            own = pairs(vectors[rows[part]], self.tests.vectors[here[part] // self.k])
            check.close("similarity", stored, own, here[part], of="key")

    def finish(self) -> None:
        """Raises `ClipshiftError` where a point is missing among the nearest, or a count wrong."""
        if not self.known.all():
            row = int(np.flatnonzero(~self.known)[0])
            fault(self.near, f"names in row {row} the key {self.keys[row].as_py()!r}, which the "
                  "pool does not have")  # fmt: skip
        for test in np.flatnonzero(self.closer >= max(self.k, 1)):
            fault(self.near, f"lacks a nearer point of the test image "
                  f"{self.tests.keys[self.some[test]]!r}")  # fmt: skip
        if len(self.grid):
            count = self.count[self.some]
            wrong = (count < self.low) | (count > self.high)
            for test, g in np.argwhere(wrong):
                fault(self.density, f"has for the test image {self.tests.keys[self.some[test]]!r} "
                      f"above {self.grid[g]:g} the count {count[test, g]}, not "
                      f"{self.low[test, g]}")  # fmt: skip
