"""One block of rows against all tiles: the screen's products, then their refinement."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from clipshift.similarity.engine.queries import GROUP, Tile
from clipshift.similarity.engine.refine import Screened, refine
from clipshift.similarity.engine.refine import above as refine_above
from clipshift.similarity.engine.running_max import Best, Counts
from clipshift.similarity.engine.screen import SLACK, Codes, Kind, Projection, encode_rows, multiply


@dataclass(frozen=True)
class Plan:
    """What all blocks of a scan share.

    Attributes:
        matrix: the projection's, (D, K) float32 on the device.
        compiled: refine with the compiled kernel (CPU only).
    """

    projection: Projection
    matrix: torch.Tensor
    tiles: list[Tile]
    sets: int
    kind: Kind
    compiled: bool


@dataclass
class Scratch:
    """Buffers of one worker, used again for every block."""

    tensors: dict[tuple[object, ...], torch.Tensor] = field(default_factory=dict)

    def get(self, shape: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
        """A buffer of products of codes like `like`."""
        dtype = torch.int32 if like.dtype == torch.int8 else torch.float32
        key = (shape, dtype)
        if key not in self.tensors:
            self.tensors[key] = torch.empty(shape, dtype=dtype, device=like.device)
        return self.tensors[key]


def scan_block(
    plan: Plan, x: torch.Tensor, scratch: Scratch
) -> tuple[list[Best], list[Best], Counts]:
    """Maxima of similarity and of margin, per set, of (B, D) float32 stored rows on the device."""
    similarity = [Best.empty(len(x), x.device) for _ in range(plan.sets)]
    margin = [Best.empty(len(x), x.device) for _ in range(plan.sets)]
    rows = encode_rows(x, plan.matrix, plan.projection, plan.kind)
    # The compiled kernel widens stored values as it reads them, torch needs them widened.
    vectors = x if plan.compiled else x.double()
    counts = Counts()
    for tile in plan.tiles:
        screened = screen(rows, vectors, tile, scratch)
        counts.computed += maxima(plan, screened, similarity[tile.of], margin[tile.of])
        counts.pairs += len(x) * tile.size
        counts.bound = max(counts.bound, _widest(rows, tile))
    return similarity, margin, counts


def screen(rows: Codes, vectors: torch.Tensor, tile: Tile, scratch: Scratch) -> Screened:
    """Products of the codes, strip by strip, and the largest of each group."""
    n, _, w = tile.codes.shape
    b = len(rows.codes)
    products = scratch.get((n, b, w), tile.codes)  # strips first: each is written in one piece
    tops = scratch.get((n, b, w // GROUP), tile.codes)
    for strip, codes in enumerate(tile.codes):
        multiply(rows.codes, codes, products[strip])
        torch.amax(products[strip].view(b, -1, GROUP), 2, out=tops[strip])
    # (n, B, W / GROUP) -> (B, G), groups in the order of the columns.
    return Screened(tile, products, tops.transpose(0, 1).reshape(b, -1), rows, vectors)


def maxima(plan: Plan, screened: Screened, similarity: Best, margin: Best) -> int:
    """Raise the maxima of a block by a tile; returns the pairs computed in float64."""
    return (_compiled if plan.compiled else refine)(screened, similarity, margin)


def _widest(rows: Codes, tile: Tile) -> float:
    """The largest distance between an estimate and its bound."""
    largest = torch.stack([rows.error.amax(), rows.norm.amax(), rows.outside.amax()])
    return float(largest @ tile.bounds.amax(1)) + SLACK


def above(
    plan: Plan, screened: Screened, floor: float, wanted: np.ndarray, taken: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, columns and similarities of the pairs more similar than `floor`.

    Args:
        wanted, taken: (B,) and (T,) bool, the rows and the columns that count.
    """
    if not plan.compiled:
        device = screened.tops.device
        masks = (torch.from_numpy(mask).to(device) for mask in (wanted, taken))
        r, c, value = (t.cpu().numpy() for t in refine_above(screened, floor, *masks))
        return r, c, value
    from clipshift.similarity.engine import kernel

    rows, tile = screened.rows, screened.tile
    errors = torch.stack([rows.error, rows.norm, rows.outside], 1)
    arguments = _arrays(
        screened.products, screened.tops, rows.scale, errors, screened.vectors, tile.scale,
        tile.bounds, tile.errors, tile.vectors,
    )  # fmt: skip
    call: Any = kernel.above
    # The kernel counts on when its arrays are full, so that a second call has room for all.
    room = 4096
    while True:
        pairs, similarity = np.empty((room, 2), dtype=np.int64), np.empty(room)
        count = call(*arguments, wanted, taken, SLACK, floor, pairs, similarity)
        if count <= room:
            return pairs[:count, 0], pairs[:count, 1], similarity[:count]
        room = count


def _compiled(screened: Screened, similarity: Best, margin: Best) -> int:
    from clipshift.similarity.engine import kernel  # compiles, or loads what it compiled before

    rows, tile = screened.rows, screened.tile
    errors = torch.stack([rows.error, rows.norm, rows.outside], 1)
    arguments = (
        screened.products, screened.tops, rows.scale, errors, screened.vectors, tile.scale,
        tile.bounds, tile.errors, tile.low, tile.middle, tile.near, tile.limits, tile.vectors,
        tile.index, similarity.value, similarity.index, margin.value, margin.index,
    )  # fmt: skip
    call: Any = kernel.refine
    return int(call(*_arrays(*arguments)))


def _arrays(*tensors: torch.Tensor) -> list[np.ndarray]:
    """For the compiled kernel, to which a float16 is its bits."""
    half = torch.float16
    return [(t.view(torch.uint16) if t.dtype == half else t).numpy() for t in tensors]
