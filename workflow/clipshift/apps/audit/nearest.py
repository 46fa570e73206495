"""Every similarity between a training set and a test set, reduced in one pass that can be resumed.

Both directions are needed: per test item its nearest training items, per training item its nearest
test item. One product gives both, so this is not two calls of `clipshift.similarity.blocks`, whose
arithmetic (exact, see there) and rule for ties (the first row) it keeps.
"""

import io
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from clipshift.apps.audit.inputs import Side, half
from clipshift.core.device import pick_device
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import atomic, sha256_bytes
from clipshift.similarity.blocks import Nearest, first_max

# Stands for the similarity of images of equal bytes: above that of any two vectors, which rounding
# may lift over 1. What is shown is 1 (`shown`).
IDENTICAL = 1.0625
# The smallest difference of two similarities of float16 vectors.
LEAST = 2.0**-48
# A checkpoint is written after so many training rows.
CHECKPOINT_ROWS = 32_768


def shown(similarity: np.ndarray) -> np.ndarray:
    """Similarities as they are written: none above 1."""
    capped: np.ndarray = np.minimum(similarity, 1.0)
    return capped


@dataclass(frozen=True)
class Tests:
    """What the test items know after the training rows [0, next_row).

    Attributes:
        similarity, row: (M, k) float64 descending and int64; -inf and -1 where there is none.
        count: (M, G) int64, training rows with a similarity > grid[g].
    """

    next_row: int
    similarity: np.ndarray
    row: np.ndarray
    count: np.ndarray


@dataclass(frozen=True)
class Trains:
    """What the training rows [start, start + n) know.

    Attributes:
        similarity, test: (n,) float64 and int64, the largest similarity to a test item, and whose.
        margin, margin_test: (n,) the same for s - limit, the test item's similarity to the
            reference set; equal to the former without one.
    """

    start: int
    similarity: np.ndarray
    test: np.ndarray
    margin: np.ndarray
    margin_test: np.ndarray


def sweep(
    train: Side,
    tests: np.ndarray,
    k: int,
    grid: np.ndarray,
    limits: np.ndarray | None,
    folder: Path,
    device: str,
    block_bytes: int,
    twins: Mapping[str, list[int]] = MappingProxyType({}),
    check: Callable[[], None] = lambda: None,
) -> Tests:
    """Compare all training rows with all tests; continues at the last checkpoint in `folder`.

    Args:
        tests: (M, D) float16.
        grid: (G,) float64, ascending; similarities above which training rows are counted.
        limits: (M,) float64, each test item's similarity to the reference set.
        twins: SHA-256 -> test rows; pairs of equal bytes are IDENTICAL.
        check: called before a checkpoint is written; raises where an input changed meanwhile.

    Writes `folder/tests.npz` and `folder/train-{row}.npz`, each row in exactly one of them. What
    `folder` holds must come from the same arguments (device and block size apart).
    """
    state = _resume(folder) or Tests(
        0,
        np.full((len(tests), k), -np.inf),
        np.full((len(tests), k), -1, dtype=np.int64),
        np.zeros((len(tests), len(grid)), dtype=np.int64),
    )
    if state.next_row == train.rows:
        return state
    engine = _Engine(tests, k, grid, limits, state, device, block_bytes)
    waiting: list[Trains] = []
    with tqdm(
        total=train.rows, initial=state.next_row, desc=f"compare {train.name}",
        unit=" items", unit_scale=True, mininterval=2, file=sys.stderr,
    ) as progress:  # fmt: skip
        for first, vectors, same in train.pieces(state.next_row, twins):
            waiting.append(engine.take(first, vectors, same, progress))
            done = first + len(vectors)
            if done - waiting[0].start >= CHECKPOINT_ROWS or done == train.rows:
                check()
                # In this order: a kill between the two writes the first again.
                _save_trains(folder, waiting)
                state = engine.state(done)
                _save(folder / "tests.npz", vars(state))
                waiting = []
    return state


def trains(folder: Path) -> list[Path]:
    """Files of `Trains` in the order of rows."""
    return sorted(folder.glob("train-*.npz"))


def load_trains(path: Path) -> Trains:
    """Raises `ClipshiftError` where the file is not what was written."""
    data = _load(path)
    return Trains(int(data["start"]), *(data[n] for n in list(Trains.__annotations__)[1:]))


class _Engine:
    """The reductions of one pass, on the device."""

    def __init__(
        self,
        tests: np.ndarray,
        k: int,
        grid: np.ndarray,
        limits: np.ndarray | None,
        state: Tests,
        device: str,
        block_bytes: int,
    ) -> None:
        self.where = pick_device(device)
        self.queries = torch.from_numpy(tests.astype(np.float64)).to(self.where).T  # (D, M)
        self.limits = None if limits is None else torch.from_numpy(limits).to(self.where)
        self.nearest = Nearest(len(tests), k, grid.tolist(), self.where)
        self.nearest.similarity.copy_(torch.from_numpy(state.similarity.T.copy()))
        self.nearest.row.copy_(torch.from_numpy(state.row.T.copy()))
        self.nearest.count.copy_(torch.from_numpy(state.count.copy()))
        self.step = max(1, block_bytes // (8 * sum(tests.shape)))
        shape = (self.step, tests.shape[0])
        self.buffer = torch.empty(shape, dtype=torch.float64, device=self.where)

    def take(
        self, first: int, vectors: np.ndarray, same: np.ndarray, progress: "tqdm[None]"
    ) -> Trains:
        n = len(vectors)
        # Made before the blocks' buffers: small arrays kept between large ones that come and go
        # would keep the allocator from using the large ones' memory again.
        values, tests = np.empty((2, n)), np.empty((2, n), dtype=np.int64)
        for start in range(0, n, self.step):
            part = slice(start, min(start + self.step, n))
            block = torch.from_numpy(half(vectors[part]).astype(np.float64)).to(self.where)
            pairs = same[(same[:, 0] >= start) & (same[:, 0] < part.stop)] - (start, 0)
            self._block(first + start, block, pairs, values[:, part], tests[:, part])
            progress.update(len(block))
        return Trains(first, values[0], tests[0], values[1], tests[1])

    def state(self, next_row: int) -> Tests:
        found = self.nearest
        parts = (found.similarity.T, found.row.T, found.count)
        return Tests(next_row, *(p.cpu().numpy().copy() for p in parts))

    def _block(
        self, first: int, block: torch.Tensor, same: np.ndarray, values: np.ndarray,
        tests: np.ndarray,
    ) -> None:  # fmt: skip
        """Reduce one block (B, D); `values` and `tests` (2, B) take similarity and margin."""
        s = torch.mm(block, self.queries, out=self.buffer[: len(block)])  # (B, M)
        if len(same):
            s[tuple(torch.from_numpy(same.T.copy()).to(self.where))] = IDENTICAL
        self.nearest.add(s, torch.arange(first, first + len(s), device=self.where))
        for which in (0, 1):
            value, test = first_max(s, 1)
            if which and self.limits is not None:
                value = _margin(value, self.limits[test])
            values[which], tests[which] = value.cpu().numpy(), test.cpu().numpy()
            if self.limits is None:
                values[1], tests[1] = values[0], tests[0]
                return
            s -= self.limits


def _margin(value: torch.Tensor, limit: torch.Tensor) -> torch.Tensor:
    """Margins to write; an identical item is at 1, and closer than anything that is none."""
    identical = (value + limit == IDENTICAL) & (limit < IDENTICAL)
    return torch.where(identical, (1 - limit.clamp(max=1)).clamp(min=LEAST), value)


def _resume(folder: Path) -> Tests | None:
    """The state of the last checkpoint; None where there is none, or a file of it is damaged."""
    if not (folder / "tests.npz").exists():
        return None
    try:
        data = _load(folder / "tests.npz")
        next_row, start = int(data["next_row"]), 0
        for path in trains(folder):
            part = load_trains(path)
            if part.start >= next_row:
                path.unlink()  # of a kill before its checkpoint
            elif part.start == start:
                start += len(part.test)
        if start != next_row:
            raise ClipshiftError(f"{folder} lacks a file of the rows from {start} on")
    except ClipshiftError as error:
        print(f"{error}; all its similarities are computed again", file=sys.stderr)
        shutil.rmtree(folder)
        return None
    return Tests(next_row, *(data[n] for n in ("similarity", "row", "count")))


def _save_trains(folder: Path, parts: list[Trains]) -> None:
    fields = [name for name in Trains.__annotations__ if name != "start"]
    joined: dict[str, Any] = {
        name: np.concatenate([getattr(p, name) for p in parts]) for name in fields
    }
    whole = replace(parts[0], **joined)
    _save(folder / f"train-{whole.start:012d}.npz", vars(whole))


def _save(path: Path, arrays: dict[str, np.ndarray | int]) -> None:
    """Write an npz behind its own SHA-256."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    data = buffer.getvalue()
    with atomic(path) as stream:
        stream.write(bytes.fromhex(sha256_bytes(data)) + data)


def _load(path: Path) -> dict[str, np.ndarray]:
    data = path.read_bytes() if path.is_file() else b""
    if sha256_bytes(data[32:]) != data[:32].hex():
        raise ClipshiftError(f"{path} is damaged")
    with np.load(io.BytesIO(data[32:]), allow_pickle=False) as arrays:
        return dict(arrays)
