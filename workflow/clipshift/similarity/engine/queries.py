"""The column side of a scan: test images, sorted by threshold, cut into tiles and groups.

A *group* is GROUP neighbouring columns. The screen keeps one number per row and group, the largest
product; since the columns of a set are sorted by their threshold, those of a group have nearly the
same, and that one number bounds both the largest similarity and the largest margin in the group.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from clipshift.similarity.engine.screen import Kind, Projection, encode_columns

GROUP = 32


@dataclass(frozen=True)
class ColumnSet:
    """Vectors that rows are compared with, and a threshold for each.

    Attributes:
        vectors: (M, D) float16 or float32, rows L2-normalised, in the order of their keys.
        thresholds: (M,) float64; None: the margin is the similarity.
    """

    vectors: np.ndarray
    thresholds: np.ndarray | None = None


@dataclass(frozen=True)
class Tile:
    """Up to TILE columns of one set, on the device; T is a multiple of GROUP, G = T / GROUP.

    Attributes:
        of: index of the set.
        size: columns without padding.
        codes: (n, K, W) int8 or float32, n strips of W columns, T = n W.
        scale: (G,) float32, of the codes of a group.
        errors: (T, 3) float32, per column the norm, error and norm outside the span.
        bounds: (3, G) float32, the largest of them in the group.
        low: (G,) float32, at most the lowest threshold of the group.
        middle: (G,) float32, a threshold of the group.
        near: (T,) float32, the thresholds rounded (the largest float32 for padding).
        limits: (T,) float64, the thresholds (inf for padding).
        vectors: (T, D), the stored vectors, as stored for the compiled kernel, else float64.
        index: (T,) int64, the column's place in its set; -1 for padding.
    """

    of: int
    size: int
    codes: torch.Tensor
    scale: torch.Tensor
    errors: torch.Tensor
    bounds: torch.Tensor
    low: torch.Tensor
    middle: torch.Tensor
    near: torch.Tensor
    limits: torch.Tensor
    vectors: torch.Tensor
    index: torch.Tensor

    def leading(self, strips: int) -> "Tile":
        """The tile of the first strips alone."""
        width = strips * self.codes.shape[2]
        groups = width // GROUP
        return Tile(
            self.of, min(self.size, width), self.codes[:strips], self.scale[:groups],
            self.errors[:width], self.bounds[:, :groups].contiguous(), self.low[:groups],
            self.middle[:groups], self.near[:width], self.limits[:width], self.vectors[:width],
            self.index[:width],
        )  # fmt: skip


@dataclass(frozen=True)
class Shape:
    """Sizes that suit a device.

    Attributes:
        block: rows of one block.
        tile: columns of one tile: a block's products of a tile stay in the last cache.
        strip: columns of one product: it stays in a core's own cache while it is reduced.
    """

    block: int
    tile: int
    strip: int


def cut(
    sets: Sequence[ColumnSet], p: Projection, kind: Kind, where: torch.device, shape: Shape,
    dtype: torch.dtype,
) -> list[Tile]:  # fmt: skip
    """The tiles of all sets, in the order of the sets; `dtype` of their vectors."""
    tiles = []
    for place, columns in enumerate(sets):
        m = len(columns.vectors)
        limits = np.zeros(m) if columns.thresholds is None else columns.thresholds
        # Ascending thresholds: the columns of a group have nearly the same, and the largest margins
        # are found first.
        order = np.argsort(limits, kind="stable")
        for part in np.array_split(order, -(-m // shape.tile)):
            tiles.append(
                _tile(
                    place, columns.vectors[part], limits[part], part, p, kind, where, shape, dtype
                )
            )
    return tiles


def _tile(
    place: int, vectors: np.ndarray, limits: np.ndarray, index: np.ndarray, p: Projection,
    kind: Kind, where: torch.device, shape: Shape, dtype: torch.dtype,
) -> Tile:  # fmt: skip
    # Strips of one width, a multiple of GROUP; what the last one lacks is padding.
    strips = -(-len(vectors) // shape.strip)
    strip = -(-len(vectors) // (strips * GROUP)) * GROUP
    pad = strips * strip - len(vectors)
    wide = np.zeros((len(vectors) + pad, vectors.shape[1]))
    wide[: len(vectors)] = vectors
    coded = encode_columns(wide, p, kind, GROUP)
    errors = torch.stack([coded.norm, coded.error, coded.outside], 1)  # (T, 3)
    exact = np.concatenate([limits, np.full(pad, np.inf)])
    # Finite, so that no difference of two infinities is NaN.
    near = torch.from_numpy(np.minimum(exact, np.finfo(np.float32).max).astype(np.float32))
    return Tile(
        of=place,
        size=len(vectors),
        codes=coded.codes.view(strips, strip, -1).transpose(1, 2).contiguous().to(where),
        scale=coded.scale.to(where),
        errors=errors.to(where),
        bounds=errors.view(-1, GROUP, 3).amax(1).T.contiguous().to(where),
        low=near.view(-1, GROUP).amin(1).to(where),
        middle=near.view(-1, GROUP)[:, GROUP // 2].contiguous().to(where),
        near=near.to(where),
        limits=torch.from_numpy(exact).to(where),
        vectors=torch.from_numpy(wide).to(where, dtype),
        index=torch.from_numpy(np.concatenate([index, np.full(pad, -1)])).to(where),
    )
