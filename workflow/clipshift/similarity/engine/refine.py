"""The refinement of a block and a tile in torch, on any device.

Two maxima are wanted of every row, of the similarity and of the margin. A pair whose upper bound
is below what its row is known to have cannot be one. So: a seed for either maximum, computed in
float64; the groups whose bound reaches it; in them the columns whose own bound does; those in
float64.
"""

from dataclasses import dataclass

import torch

from clipshift.similarity.engine.exact import dots
from clipshift.similarity.engine.queries import GROUP, Tile
from clipshift.similarity.engine.running_max import Best
from clipshift.similarity.engine.screen import SLACK, Codes


@dataclass(frozen=True)
class Screened:
    """The screen's products of a block and a tile.

    Attributes:
        products: (n, B, W) int32 or float32, of n strips of W columns.
        tops: (B, G), the largest of each group.
        rows: codes of the rows; vectors: (B, D) float64.
    """

    tile: Tile
    products: torch.Tensor
    tops: torch.Tensor
    rows: Codes
    vectors: torch.Tensor

    def group(self, r: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
        """(C, GROUP) float32 estimates of the columns of group g[i] for row r[i]."""
        n, b, w = self.products.shape
        per = w // GROUP
        part = self.products.view(n, b, per, GROUP)[g // per, r, g % per]
        return part * (self.rows.scale[r] * self.tile.scale[g])[:, None]


def refine(screened: Screened, similarity: Best, margin: Best) -> int:
    """Raise the maxima of the block's rows by the tile's columns; returns the pairs computed."""
    rows, tile = screened.rows, screened.tile
    estimate = screened.tops * (rows.scale[:, None] * tile.scale)  # (B, G)
    errors = torch.stack([rows.error, rows.norm, rows.outside], 1)  # (B, 3)
    bound = torch.addmm(estimate, errors, tile.bounds).add_(SLACK)  # (B, G)
    all_rows = torch.arange(len(errors), device=errors.device)
    computed = 0
    for seed in _seeds(screened, estimate, all_rows):
        computed += _compute(screened, all_rows, seed, similarity, margin)
    # Read after the seeds, which have raised them.
    floors = similarity.value.float(), margin.value.float()
    r, c = _candidates(screened, estimate, bound, errors, floors)
    return computed + _compute(screened, r, c, similarity, margin)


def _seeds(
    screened: Screened, estimate: torch.Tensor, all_rows: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(B,) the most promising column for either maximum."""
    tile = screened.tile
    group = estimate.argmax(1)
    similar = group * GROUP + screened.group(all_rows, group).argmax(1)
    group = (estimate - tile.middle).argmax(1)
    limits = tile.near.view(-1, GROUP)[group]
    return similar, group * GROUP + (screened.group(all_rows, group) - limits).argmax(1)


def _candidates(
    screened: Screened, estimate: torch.Tensor, bound: torch.Tensor, errors: torch.Tensor,
    floors: tuple[torch.Tensor, torch.Tensor],
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    """Rows (ascending) and columns of the pairs whose bound reaches a floor."""
    tile = screened.tile
    similarity, margin = floors
    limits = tile.near
    reach = bound >= similarity[:, None]
    reach |= bound - tile.low >= margin[:, None]
    r, g = reach.nonzero(as_tuple=True)
    guess = screened.group(r, g)  # (C, GROUP)
    # The group's half-width holds for each of its columns; their own, smaller one comes last.
    width = (bound - estimate)[r, g][:, None]
    need = torch.minimum(similarity[r][:, None], margin[r][:, None] + limits.view(-1, GROUP)[g])
    at, inside = (guess + width >= need).nonzero(as_tuple=True)
    r, c = r[at], g[at] * GROUP + inside
    column_bound = guess[at, inside] + (errors[r] * tile.errors[c]).sum(1) + SLACK
    reach = column_bound >= torch.minimum(similarity[r], margin[r] + limits[c])
    return r[reach], c[reach]


def _compute(
    screened: Screened, r: torch.Tensor, c: torch.Tensor, similarity: Best, margin: Best
) -> int:
    tile = screened.tile
    # Not padding.
    real = tile.index[c] >= 0
    r, c = r[real], c[real]
    value = dots(screened.vectors, tile.vectors, r, c)
    similarity.improve(r, value, tile.index[c])
    margin.improve(r, value - tile.limits[c], tile.index[c])
    return len(r)


def above(
    screened: Screened, floor: float, wanted: torch.Tensor, taken: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rows, columns and similarities of the pairs more similar than `floor`.

    Args:
        wanted, taken: (B,) and (T,) bool, the rows and the columns that count.
    """
    rows, tile = screened.rows, screened.tile
    errors = torch.stack([rows.error, rows.norm, rows.outside], 1)
    estimate = screened.tops * (rows.scale[:, None] * tile.scale)
    bound = torch.addmm(estimate, errors, tile.bounds).add_(SLACK)
    r, g = ((bound >= floor) & wanted[:, None]).nonzero(as_tuple=True)
    width = (bound - estimate)[r, g][:, None]
    at, inside = (screened.group(r, g) + width >= floor).nonzero(as_tuple=True)
    r, c = r[at], g[at] * GROUP + inside
    r, c = r[taken[c]], c[taken[c]]
    value = dots(screened.vectors, tile.vectors, r, c)
    close = value > floor
    return r[close], c[close], value[close]
