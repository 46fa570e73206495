"""Exact similarity between a pool and test images, by blocks.

The similarity of two images is the dot product of their stored embeddings: float16 vectors,
L2-normalised before rounding. Every float16 is a multiple of 2^-24, so every product is a multiple
of 2^-48, and a sum of products of two such vectors never exceeds 2^4 in size. A float64 holds all
multiples of 2^-48 below 2^5 exactly. Hence a float64 product of float16 embeddings has **no
rounding error**, in any order of summation: the numbers, and every comparison of them, do not
depend on block sizes, threads, BLAS or device. For float32 embeddings the error is at most
D * 2^-53.
"""

from collections.abc import Sequence

import numpy as np
import torch

from clipshift.core.device import pick_device

# Memory of one block of similarities, bytes.
BLOCK_BYTES = 256 << 20


def first_max(s: torch.Tensor, dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Maximum along `dim` and the first index that has it."""
    index = s.argmax(dim)
    return s.gather(dim, index.unsqueeze(dim)).squeeze(dim), index


class Nearest:
    """Per test row the k nearest pool rows so far, and how many lie above each value of a grid.

    Attributes:
        similarity: (k, M) float64, descending; -inf where there is none. On the device.
        row: (k, M) int64; equal similarities in the order of rows; -1 where there is none.
        count: (M, G) int64, rows with a similarity > grid[g].
    """

    def __init__(self, tests: int, k: int, grid: Sequence[float], where: torch.device) -> None:
        """Nothing seen yet; `grid` ascends."""
        self.k = k
        self.grid = torch.tensor(list(grid), dtype=torch.float64, device=where)
        self.similarity = torch.full((k, tests), -torch.inf, dtype=torch.float64, device=where)
        self.row = torch.full((k, tests), -1, dtype=torch.int64, device=where)
        self.count = torch.zeros((tests, len(grid)), dtype=torch.int64, device=where)

    def add(self, s: torch.Tensor, rows: torch.Tensor) -> None:
        """Take in a block (B, M) of similarities; ascending `rows` (B,), after all earlier ones."""
        self._merge(s, rows)
        self._tally(s)

    def _merge(self, s: torch.Tensor, rows: torch.Tensor) -> None:
        columns = (s.amax(0) > self.similarity[-1]).nonzero().squeeze(1)
        # In slices, since most columns improve in the first blocks and the copy must stay small.
        for some in torch.split(columns, max(1, s.shape[1] // 8)):
            values = torch.cat([self.similarity[:, some], s[:, some]])  # earlier rows come first
            before = self.row[:, some]
            for rank in range(self.k):
                value, index = first_max(values, 0)
                # Taken: it must not come again.
                values.scatter_(0, index[None], -torch.inf)
                old = before.gather(0, index.clamp(max=self.k - 1)[None])[0]
                new = rows[(index - self.k).clamp(min=0)]
                self.similarity[rank, some] = value
                self.row[rank, some] = torch.where(index < self.k, old, new)
        self.row[self.similarity == -torch.inf] = -1

    def _tally(self, s: torch.Tensor) -> None:
        size = len(self.grid)
        if not size:
            return
        # In parts, since the levels of a whole block would double its memory.
        for part in torch.split(s, max(1, len(s) // 16)):
            # How many grid values lie strictly below each similarity.
            level = torch.bucketize(part, self.grid, out_int32=True)
            # One histogram for all columns: each has G + 1 levels of its own.
            level += torch.arange(part.shape[1], dtype=torch.int32, device=s.device) * (size + 1)
            counts = torch.bincount(level.flatten(), minlength=part.shape[1] * (size + 1))
            per_level = counts.view(-1, size + 1)[:, 1:]
            # More similar than grid[g] are the levels from g + 1 on: sums from the right.
            self.count += per_level.flip(1).cumsum(1).flip(1)


def nearest(
    pool: np.ndarray,
    tests: np.ndarray,
    k: int,
    grid: Sequence[float] = (),
    keep: np.ndarray | None = None,
    device: str = "auto",
    block_bytes: int = BLOCK_BYTES,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The k nearest pool rows of every test row, exactly, one block of pool rows at a time.

    Args:
        pool: (N, D) float16 or float32, rows L2-normalised; may be memory-mapped.
        tests: (M, D), the same.
        grid: similarities, ascending, above which pool rows are counted.
        keep: (N,) bool, the pool rows that count; all where None.

    Returns:
        similarity (M, k), row (M, k) and count (M, G) as in `Nearest`.

    Raises:
        ValueError: dimensions differ, or there are no test rows.
    """
    _comparable(pool, tests)
    where = pick_device(device)
    queries = torch.from_numpy(np.asarray(tests, dtype=np.float64)).to(where).T  # (D, M)
    best = Nearest(len(tests), k, grid, where)
    chosen = np.arange(len(pool)) if keep is None else np.flatnonzero(keep)
    step = max(1, block_bytes // (8 * (len(tests) + pool.shape[1])))
    for start in range(0, len(chosen), step):
        part = chosen[start : start + step]
        block = torch.from_numpy(np.asarray(pool[part], dtype=np.float64)).to(where)
        best.add(block @ queries, torch.from_numpy(part).to(where))
    return (
        best.similarity.T.cpu().numpy(), best.row.T.cpu().numpy(), best.count.cpu().numpy(),
    )  # fmt: skip


def _comparable(pool: np.ndarray, tests: np.ndarray) -> None:
    if pool.ndim != 2 or tests.ndim != 2 or pool.shape[1] != tests.shape[1]:
        raise ValueError(f"embeddings of different dimensions: {pool.shape} and {tests.shape}")
    if not len(tests):
        raise ValueError(f"nothing to compare: {len(pool)} pool rows, 0 test rows")
