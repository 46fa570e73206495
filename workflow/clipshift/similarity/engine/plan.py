"""Choosing the screen of a scan: kind of codes, axes, and how many of them."""

from collections.abc import Sequence

import numpy as np
import torch

from clipshift.similarity.engine.block import Plan
from clipshift.similarity.engine.queries import ColumnSet, Shape, cut
from clipshift.similarity.engine.screen import (
    STEP,
    Codes,
    Kind,
    Projection,
    encode_columns,
    encode_rows,
    integers_are_exact,
    integers_are_fast,
    principal_axes,
    projection,
)

CPU = Shape(block=1024, tile=8192, strip=512)
GPU = Shape(block=4096, tile=16384, strip=16384)

# Columns that the axes are fitted on, and rows and columns on which numbers of axes are compared.
FIT = 32_768
TRIAL_ROWS, TRIAL_COLUMNS = 128, 2048
# Nanoseconds, measured on one core with AVX-512: a coordinate of a screened pair, of a projection,
# and of a pair computed in float64. Only their ratios matter, and only for speed.
SCREENED = {"int8": 0.0023, "float32": 0.02}
PROJECTED = 0.025
COMPUTED = 0.8


def shape_of(where: torch.device) -> Shape:
    return CPU if where.type == "cpu" else GPU


def make(
    sample: np.ndarray, sets: Sequence[ColumnSet], where: torch.device, compiled: bool,
    kind: Kind | None = None, k: int | None = None, like: Plan | None = None,
) -> Plan:  # fmt: skip
    """The plan of a scan.

    Args:
        sample: (S, D) some of the rows; what is known of them decides the speed only.
        kind, k: fixed, or chosen where None.
        like: a plan for similar rows and columns, whose projection is taken over.
    """
    kind = kind or best_kind(where)
    vectors = [s.vectors for s in sets]
    total = sum(len(v) for v in vectors)
    p = like.projection if like else choose(sample, vectors, total, kind, k)
    return with_tiles(p, sets, where, compiled, kind, shape_of(where))


def best_kind(where: torch.device) -> Kind:
    return "int8" if integers_are_fast(where) and integers_are_exact(where) else "float32"


def with_tiles(
    p: Projection, sets: Sequence[ColumnSet], where: torch.device, compiled: bool, kind: Kind,
    shape: Shape,
) -> Plan:  # fmt: skip
    dtype = _stored(sets) if compiled else torch.float64
    tiles = cut(sets, p, kind, where, shape, dtype)
    matrix = torch.from_numpy(p.matrix.astype(np.float32)).to(where)
    return Plan(p, matrix, tiles, len(sets), kind, compiled)


def _stored(sets: Sequence[ColumnSet]) -> torch.dtype:
    """How the compiled refinement keeps the vectors: in half the bytes where it can."""
    from clipshift.similarity.engine import kernel  # compiles, or loads what it compiled before

    half = all(s.vectors.dtype == np.float16 for s in sets)
    return torch.float16 if half and kernel.HALVES else torch.float32


def choose(
    sample: np.ndarray, columns: Sequence[np.ndarray], total: int, kind: Kind, k: int | None = None
) -> Projection:
    """The projection for rows like `sample` and the columns of some sets, `total` of them."""
    sample = sample[np.isfinite(sample).all(1)]  # a bad row is named when its block is read
    some = np.concatenate([spread(vectors, FIT // len(columns)) for vectors in columns])
    axes = principal_axes(some, sample)
    if k is None:
        k = _number_of_axes(axes, sample, columns, total, kind)
    return projection(axes, k)


def spread(vectors: np.ndarray, most: int) -> np.ndarray:
    """At most `most` of the vectors, evenly spread."""
    if len(vectors) <= most:
        return vectors
    return vectors[np.linspace(0, len(vectors) - 1, max(1, most)).astype(np.int64)]


def runs(vectors: np.ndarray, most: int, length: int = 32) -> np.ndarray:
    """At most `most` of the vectors in short runs: of a mapped file few pages are touched."""
    if len(vectors) <= most:
        return np.array(vectors)
    starts = np.linspace(0, len(vectors) - length, max(1, most // length)).astype(np.int64)
    return np.concatenate([vectors[start : start + length] for start in starts])


def _number_of_axes(
    axes: np.ndarray, sample: np.ndarray, sets: Sequence[np.ndarray], total: int, kind: Kind
) -> int:
    """The number with the least expected work for a row, from a trial on a few rows and columns."""
    d = axes.shape[0]
    rows = torch.from_numpy(spread(sample, TRIAL_ROWS).astype(np.float32))
    some = [spread(vectors, TRIAL_COLUMNS // len(sets)) for vectors in sets]
    ends = np.cumsum([len(s) for s in some])
    columns = np.concatenate(some)
    truth = rows @ torch.from_numpy(columns.astype(np.float32)).T  # (R, C)
    costs: dict[int, float] = {}
    for k in reversed(_choices(d)):
        p = projection(axes, k)
        coded = encode_rows(rows, torch.from_numpy(p.matrix.astype(np.float32)), p, kind)
        bound = _bounds(coded, encode_columns(columns, p, kind, 1))
        open_pairs = sum(
            int((bound[:, a:b] >= truth[:, a:b].amax(1, keepdim=True)).sum())
            for a, b in zip([0, *ends[:-1]], ends, strict=True)
        )
        # The margins leave about as many pairs open again.
        computed = 2 * open_pairs / len(rows)
        # Nanoseconds for one row: screen all columns, project it, compute what stays open.
        costs[k] = total * k * SCREENED[kind] + d * k * PROJECTED + computed * d * COMPUTED
        if costs[k] > 1.05 * min(costs.values()):
            break  # fewer axes leave ever more pairs open
    return min(costs, key=lambda k: costs[k])


def _choices(d: int) -> list[int]:
    """Multiples of STEP in steps of about an eighth, and D itself."""
    numbers, k = [], 2 * STEP
    while k < d:
        numbers.append(k)
        k = max(k + STEP, k * 9 // 8 // STEP * STEP)
    return [*numbers, d]


def _bounds(rows: Codes, columns: Codes) -> torch.Tensor:
    """(S, M) upper bounds of all pairs."""
    estimate = (rows.codes.float() * rows.scale[:, None]) @ (
        columns.codes.float() * columns.scale[:, None]
    ).T
    # Crosswise, see `screen`: the error of one side meets the norm of the other.
    left = torch.stack([rows.error, rows.norm, rows.outside], 1)  # (S, 3)
    right = torch.stack([columns.norm, columns.error, columns.outside], 1)  # (M, 3)
    return estimate + left @ right.T


def whole_axes(p: Projection) -> tuple[int, int]:
    """K and D."""
    return p.matrix.shape[1], p.matrix.shape[0]
