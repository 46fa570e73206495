"""All pairs within one array: each row against the rows before it, for de-duplication.

The rows are also the columns. A block of rows meets the tiles before it whole, of its own tile the
strips before its own, and its own strip by a plain float64 product, of which only the lower
triangle counts.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from clipshift.core.device import pick_device
from clipshift.similarity.blocks import first_max
from clipshift.similarity.engine import plan
from clipshift.similarity.engine.block import Plan, Scratch, above, maxima, screen
from clipshift.similarity.engine.queries import ColumnSet, Shape
from clipshift.similarity.engine.running_max import Best
from clipshift.similarity.engine.scan import Refinement, Screen
from clipshift.similarity.engine.screen import Kind, Projection, encode_rows
from clipshift.similarity.engine.workers import in_order

# Called with (P,) rows, (P,) earlier rows and (P,) similarities, some of the pairs at a time.
OnPairs = Callable[[np.ndarray, np.ndarray, np.ndarray], None]

# Below this many rows the plain product is as quick.
SMALL = 1500
# Columns that are made ready at a time: what bounds the memory of a large array.
CHUNK = 65_536
# Rows and columns of one plain product.
PLAIN = 1024
CPU = Shape(block=128, tile=8192, strip=128)
GPU = Shape(block=2048, tile=16384, strip=2048)


Pairs = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class _Span:
    """Rows [start, stop), and the columns that they meet: whole tiles, strips of the next.

    `own`: also the rows themselves, each against those before it.
    """

    start: int
    stop: int
    tiles: int
    strips: int
    own: bool


@dataclass(frozen=True)
class _Found:
    """Of the rows from `start` on: the best earlier row, and pairs above the floor."""

    start: int
    best: Best
    pairs: list[Pairs]


class Earlier:
    """Made ready once for many arrays that are alike, e.g. the clusters of a pool."""

    def __init__(
        self, sample: np.ndarray, device: str = "auto", screen: Screen = "auto",
        refinement: Refinement = "auto", k: int | None = None,
    ) -> None:  # fmt: skip
        """`sample` (S, D) of the rows; what is known of them decides the speed only."""
        self.where = pick_device(device)
        self.small = SMALL if screen == "auto" else 0
        self.compiled = refinement != "torch" and self.where.type == "cpu"
        fixed = screen if screen in ("int8", "float32") else None
        self.kind: Kind = fixed or plan.best_kind(self.where)
        self.projection: Projection | None = None
        if screen != "none" and len(sample) > max(1, self.small):
            self.projection = plan.choose(sample[::2], [sample[1::2]], CPU.tile, self.kind, k)

    def find(
        self, vectors: np.ndarray, on_pairs: OnPairs | None = None, floor: float = 1.0,
        listed: np.ndarray | None = None, chunk: int = CHUNK,
    ) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
        """For each row the largest similarity to an earlier row, and the first such row.

        Args:
            vectors: (N, D) float16, rows L2-normalised, in the order that decides who is earlier;
                may be memory-mapped.
            on_pairs: gets the pairs more similar than `floor`.
            listed: (N,) bool, the rows whose pairs are wanted; all where None.

        Returns:
            (N,) float64 and (N,) int64; -inf and -1 for row 0, which has no earlier row.
        """
        value = np.full(len(vectors), -np.inf)
        index = np.full(len(vectors), -1, dtype=np.int64)
        wanted = np.ones(len(vectors), dtype=bool) if listed is None else listed
        for block in self._all(vectors, floor if on_pairs else None, wanted, chunk):
            part = slice(block.start, block.start + len(block.best.value))
            new, at = block.best.value.numpy(), block.best.index.numpy()
            better = new > value[part]  # strict: columns come in order
            value[part] = np.where(better, new, value[part])
            index[part] = np.where(better, at, index[part])
            for pairs in block.pairs:
                if on_pairs is not None and len(pairs[0]):
                    on_pairs(*pairs)
        return value, index

    def _all(
        self, vectors: np.ndarray, floor: float | None, listed: np.ndarray, chunk: int
    ) -> Iterator[_Found]:
        if self.projection is None or len(vectors) < self.small:
            for start in range(0, len(vectors), PLAIN):
                stop = min(start + PLAIN, len(vectors))
                for since in range(0, stop, PLAIN):
                    yield self._triangle(vectors, start, stop, since, floor, listed)
            return
        for first in range(0, len(vectors), chunk):
            yield from self._chunk(vectors, first, chunk, self.projection, floor, listed)

    def _chunk(
        self,
        vectors: np.ndarray,
        first: int,
        chunk: int,
        p: Projection,
        floor: float | None,
        listed: np.ndarray,
    ) -> Iterator[_Found]:
        """All rows from `first` on against the columns [first, first + chunk)."""
        columns = ColumnSet(np.asarray(vectors[first : first + chunk]))
        shape = CPU if self.where.type == "cpu" else GPU
        tile_plan = plan.with_tiles(p, [columns], self.where, self.compiled, self.kind, shape)

        def work(span: _Span, scratch: Scratch) -> list[_Found]:
            results = [self._block(tile_plan, vectors, first, span, floor, listed, scratch)]
            if span.own:
                results.append(
                    self._triangle(vectors, span.start, span.stop, span.start, floor, listed)
                )
            return results

        for parts in in_order(
            work, _spans(tile_plan, first, len(vectors), shape.block), self.where
        ):
            yield from parts

    def _block(
        self, tile_plan: Plan, vectors: np.ndarray, first: int, span: _Span, floor: float | None,
        listed: np.ndarray, scratch: Scratch,
    ) -> _Found:  # fmt: skip
        """Rows against the tiles and strips before them."""
        x = torch.from_numpy(np.array(vectors[span.start : span.stop])).float().to(self.where)
        b = len(x)
        if self.where.type != "cpu":
            # Integer products of GPUs want whole multiples of rows; zeros decide nothing.
            x = torch.nn.functional.pad(x, (0, 0, 0, -b % 32))
        coded = encode_rows(x, tile_plan.matrix, tile_plan.projection, tile_plan.kind)
        stored = x if tile_plan.compiled else x.double()
        # Without thresholds the margin is the similarity: the second maxima are not read.
        best, same = Best.empty(len(x), self.where), Best.empty(len(x), self.where)
        pairs: list[Pairs] = []
        parts = tile_plan.tiles[: span.tiles]
        if span.strips:
            parts = [*parts, tile_plan.tiles[span.tiles].leading(span.strips)]
        for tile in parts:
            screened = screen(coded, stored, tile, scratch)
            maxima(tile_plan, screened, best, same)
            if floor is not None:
                index = tile.index.cpu().numpy()
                rows = np.zeros(len(x), dtype=bool)
                rows[:b] = listed[span.start : span.stop]
                taken = (index >= 0) & listed[first + np.maximum(index, 0)]
                r, c, s = above(tile_plan, screened, floor, rows, taken)
                pairs.append((r + span.start, index[c] + first, s))
        moved = Best.empty(b, torch.device("cpu"))
        moved.join(Best(best.value[:b].cpu(), best.index[:b].cpu()), first)
        return _Found(span.start, moved, pairs)

    def _triangle(
        self,
        vectors: np.ndarray,
        start: int,
        stop: int,
        since: int,
        floor: float | None,
        listed: np.ndarray,
    ) -> _Found:
        """Rows [start, stop) against the earlier ones of at most PLAIN from `since` on."""
        until = min(since + PLAIN, stop)
        x, y = (
            torch.from_numpy(vectors[a:b].astype(np.float64)).to(self.where)
            for a, b in ((start, stop), (since, until))
        )
        s = x @ y.T  # (B, B')
        late = torch.arange(since, until)[None] >= torch.arange(start, stop)[:, None]
        s = s.masked_fill(late.to(self.where), -torch.inf)
        value, index = first_max(s, 1)
        pairs: list[Pairs] = []
        if floor is not None:
            close = (s > floor).cpu() & torch.from_numpy(listed[start:stop])[:, None]
            r, c = (close & torch.from_numpy(listed[since:until])).nonzero(as_tuple=True)
            value_of = s.cpu()[r, c].numpy()
            pairs = [(r.numpy() + start, c.numpy() + since, value_of)]
        return _Found(start, Best(value.cpu(), index.cpu() + since), pairs)


def _spans(tile_plan: Plan, first: int, rows: int, block: int) -> Iterator[_Span]:
    """The rows of a chunk strip by strip, then all rows after it."""
    start = first
    for k, tile in enumerate(tile_plan.tiles):
        width = tile.codes.shape[2]
        for strip, at in enumerate(range(0, tile.size, width)):
            stop = min(at + width, tile.size)
            yield _Span(start + at, start + stop, k, strip, own=True)
        start += tile.size
    for at in range(start, rows, block):
        yield _Span(at, min(at + block, rows), len(tile_plan.tiles), 0, own=False)
