"""Exact maxima over all pairs of many rows and some columns: the engine's front door.

`scan` works on any array of rows, also a memory-mapped one, a block at a time: memory depends on
the columns and the block, never on the number of rows. On a CPU each worker thread takes blocks of
its own and the operating system reads ahead of them; a GPU gets one worker and larger blocks.
Results do not depend on blocks, workers or device (docs/engine.md).
"""

import mmap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from clipshift.core.device import pick_device
from clipshift.similarity.embeddings import NORM_TOLERANCE
from clipshift.similarity.engine import plan
from clipshift.similarity.engine.block import Plan, Scratch, scan_block
from clipshift.similarity.engine.brute_force import scan_plain
from clipshift.similarity.engine.queries import ColumnSet
from clipshift.similarity.engine.running_max import Best, Counts
from clipshift.similarity.engine.workers import in_order

Screen = Literal["auto", "int8", "float32", "none"]
Refinement = Literal["auto", "compiled", "torch"]

# Below this many pairs a plain float64 product is done before a screen is made.
SMALL = 200_000_000
# Rows are given out in pieces of this many, e.g. the row groups of a table.
PIECE = 65_536
SAMPLE = 4096


class BadVector(ValueError):
    """A row that is no unit vector.

    Attributes:
        row: its place; norm: as found; why: for people.
    """

    def __init__(self, row: int, norm: float) -> None:
        self.row, self.norm = row, norm
        self.why = "of norm zero" if norm == 0 else "not L2-normalised"
        if not np.isfinite(norm):
            self.why = "NaN or infinite"
        super().__init__(f"row {row} is {self.why} (norm {norm:.4f})")


@dataclass(frozen=True)
class Maxima:
    """Of some rows against one set, arrays (n,).

    Attributes:
        value, index: float64 and int64, largest similarity and the first column that has it.
        margin, margin_index: the same of similarity minus threshold.
    """

    value: np.ndarray
    index: np.ndarray
    margin: np.ndarray
    margin_index: np.ndarray


@dataclass(frozen=True)
class Piece:
    """Maxima of rows[start:stop] against each set, and how they were found."""

    start: int
    stop: int
    maxima: list[Maxima]
    counts: Counts


class Scanner:
    """The column side, made ready once for any number of arrays of rows.

    Attributes:
        kind: codes of the screen, or "none".
        axes: (K, D) of the screen, or (D, D).
    """

    def __init__(
        self, sets: Sequence[ColumnSet], sample: np.ndarray, rows: int, device: str = "auto",
        screen: Screen = "auto", refinement: Refinement = "auto", k: int | None = None,
        like: Plan | None = None,
    ) -> None:  # fmt: skip
        """Prepare `sets` for `rows` rows of which `sample` (S, D) are some.

        Args:
            k: number of axes of the screen; chosen where None.
            like: a plan for similar rows and columns, whose projection is taken over.

        Raises:
            ValueError: dimensions differ, or a set is empty.
        """
        self.where = pick_device(device)
        self.sets = list(sets)
        self.d = sample.shape[1]
        _comparable(self.sets, self.d)
        pairs = rows * sum(len(s.vectors) for s in self.sets)
        self.plan: Plan | None = None
        if screen != "none" and (screen != "auto" or pairs >= SMALL) and len(sample):
            compiled = self.where.type == "cpu" and refinement != "torch"
            kind = None if screen == "auto" else screen
            some = plan.spread(sample, SAMPLE)
            self.plan = plan.make(some, self.sets, self.where, compiled, kind, k, like)
        self.block = plan.shape_of(self.where).block

    @property
    def kind(self) -> str:
        return self.plan.kind if self.plan else "none"

    @property
    def axes(self) -> tuple[int, int]:
        return plan.whole_axes(self.plan.projection) if self.plan else (self.d, self.d)

    def scan(self, rows: np.ndarray, workers: int | None = None) -> Iterator[Piece]:
        """Maxima of `rows` (N, D), float16 or float32, in pieces and in order.

        Args:
            workers: threads on a CPU; as many as torch would use where None.

        Raises:
            ValueError: dimensions differ; `BadVector`: a row is no unit vector.
        """
        if rows.ndim != 2 or rows.shape[1] != self.d:
            raise ValueError(f"rows of shape {rows.shape}, columns of dimension {self.d}")
        counts = Counts()
        done: list[list[Maxima]] = []

        def work(
            span: tuple[int, int], scratch: Scratch
        ) -> tuple[int, list[tuple[list[Maxima], Counts]]]:
            return span[1], self._block(rows, *span, scratch)

        # Blocks of the next piece are under way while the caller is busy with this one.
        for last, parts in in_order(work, self._spans(len(rows)), self.where, workers):
            for maxima, some in parts:
                done.append(maxima)
                counts.add(some)
            if last % PIECE == 0 or last == len(rows):
                _release(rows)
                yield Piece((last - 1) // PIECE * PIECE, last, self._joined(done), counts)
                counts, done = Counts(), []

    def _spans(self, n: int) -> Iterator[tuple[int, int]]:
        """Blocks of n rows, none of which reaches over the end of a piece."""
        first = 0
        while first < n:
            last = min(first + self.block, first // PIECE * PIECE + PIECE, n)
            yield first, last
            first = last

    def _joined(self, blocks: list[list[Maxima]]) -> list[Maxima]:
        return [
            Maxima(*(np.concatenate([getattr(b[i], name) for b in blocks]) for name in _FIELDS))
            for i in range(len(self.sets))
        ]

    def _block(
        self, rows: np.ndarray, first: int, last: int, scratch: Scratch
    ) -> list[tuple[list[Maxima], Counts]]:
        """One block; halved and tried again where the device's memory does not suffice."""
        try:
            return [self._maxima(rows, first, last, scratch)]
        except torch.OutOfMemoryError:
            if last - first < 2:
                raise
            scratch.tensors.clear()
            if self.where.type == "cuda":
                torch.cuda.empty_cache()
            self.block = min(self.block, (last - first) // 2)
            middle = (first + last) // 2
            return [
                part
                for a, b in ((first, middle), (middle, last))
                for part in self._block(rows, a, b, scratch)
            ]

    def _maxima(
        self, rows: np.ndarray, first: int, last: int, scratch: Scratch
    ) -> tuple[list[Maxima], Counts]:
        n = last - first
        # Integer products of GPUs want whole multiples of rows; zeros decide nothing.
        padded = n if self.where.type == "cpu" else -(-n // 32) * 32
        x = torch.zeros(padded, self.d)
        x[:n] = torch.from_numpy(np.array(rows[first:last])).float()
        x = x.to(self.where)
        _check(x[:n], first)
        if self.plan is None:
            similarity, margin = scan_plain(x[:n].double(), self.sets)
            pairs = n * sum(len(s.vectors) for s in self.sets)
            counts = Counts(pairs, pairs)
        else:
            similarity, margin, counts = scan_block(self.plan, x, scratch)
            # The padding rows met as many columns as the others, and are no pairs.
            counts.pairs = counts.pairs // padded * n
        maxima = [
            Maxima(*(t[:n].cpu().numpy() for t in (s.value, s.index, m.value, m.index)))
            for s, m in zip(similarity, margin, strict=True)
        ]
        return maxima, counts


def _release(rows: np.ndarray) -> None:
    """Let go of a mapped file's pages, which would count as this process's memory.

    They stay in the system's cache, from where a page that is needed again comes back.
    """
    mapped = getattr(rows, "_mmap", None)
    if mapped is not None and hasattr(mapped, "madvise"):
        mapped.madvise(mmap.MADV_DONTNEED)


def _check(x: torch.Tensor, first: int) -> None:
    norms = torch.linalg.vector_norm(x, dim=1)
    bad = ~((norms - 1).abs() <= NORM_TOLERANCE)  # also NaN
    if bad.any():
        at = int(bad.nonzero()[0, 0])
        raise BadVector(first + at, float(norms[at]))


_FIELDS = ("value", "index", "margin", "margin_index")


def scan(
    rows: np.ndarray, sets: Sequence[ColumnSet], device: str = "auto", screen: Screen = "auto",
    refinement: Refinement = "auto", workers: int | None = None, k: int | None = None,
) -> tuple[list[Maxima], Counts]:  # fmt: skip
    """Maxima of all rows against each set, in memory; see `Scanner` for rows that do not fit."""
    scanner = Scanner(sets, rows, len(rows), device, screen, refinement, k)
    counts = Counts()
    pieces = []
    for piece in scanner.scan(rows, workers):
        pieces.append(piece.maxima)
        counts.add(piece.counts)
    empty = [np.empty(0), np.empty(0, np.int64)] * 2
    if not pieces:
        return [Maxima(*empty) for _ in sets], counts
    return [
        Maxima(*(np.concatenate([getattr(p[i], name) for p in pieces]) for name in _FIELDS))
        for i in range(len(sets))
    ], counts


def best_over(
    rows: np.ndarray, parts: Sequence[np.ndarray], device: str = "auto", screen: Screen = "auto"
) -> tuple[np.ndarray, np.ndarray]:
    """Largest similarity of each row to columns that come in parts: (N,) value and place.

    The place counts on from part to part; of equals the first.
    """
    best = Best.empty(len(rows), torch.device("cpu"))
    seen, like = 0, None
    for part in parts:
        if len(part):
            scanner = Scanner([ColumnSet(part)], rows, len(rows), device, screen, like=like)
            # Any axes give valid bounds: those of the first part serve the others, unfitted.
            like = scanner.plan
            pieces = [piece.maxima[0] for piece in scanner.scan(rows)]
            value, index = (np.concatenate([getattr(m, f) for m in pieces]) for f in _FIELDS[:2])
            best.join(Best(torch.from_numpy(value), torch.from_numpy(index)), seen)
        seen += len(part)
    return best.value.numpy(), best.index.numpy()


def _comparable(sets: Sequence[ColumnSet], d: int) -> None:
    for columns in sets:
        if columns.vectors.ndim != 2 or columns.vectors.shape[1] != d:
            raise ValueError(f"columns of shape {columns.vectors.shape}, rows of dimension {d}")
        if not len(columns.vectors):
            raise ValueError("nothing to compare: a set of 0 columns")
