"""The refinement of a block and a tile on a CPU: one compiled pass over the screen's products.

The same steps as `refine` (torch, any device) takes, a row at a time: between two
similarities of a row nothing leaves the first cache, and a floor rises with every pair that is
computed.
"""

from typing import Any

import numba
import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.extending import intrinsic

# A sum of products of float16 values is exact in any order; of float32 values right to D 2^-53.
_ORDER = {"reassoc", "contract"}


# Whether float16 vectors are widened by instructions (x86 since 2012; elsewhere without a flag).
HALVES = bool(binding.get_host_cpu_features().get("f16c", True))


@intrinsic
def _stored(_context: Any, value: Any) -> Any:
    """A stored value as a float: float32, or the bits of a float16, which numba does not know."""
    if isinstance(value, types.Float):
        return value(value), lambda _context, _builder, _signature, args: args[0]

    def widen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.fpext(builder.bitcast(args[0], ir.HalfType()), ir.FloatType())

    return types.float32(types.uint16), widen


@numba.njit(nogil=True, fastmath=_ORDER, cache=True)
def _dot(a: np.ndarray, b: np.ndarray) -> float:
    total = 0.0
    for i in range(a.shape[0]):
        total += np.float64(a[i]) * np.float64(_stored(b[i]))  # type: ignore[call-arg]
    return total


@numba.njit(nogil=True, cache=True)
def _improve(value: np.ndarray, first: np.ndarray, r: int, new: float, place: int) -> None:
    """Raise the maximum of row r; of equals the lowest place stays."""
    if new > value[r] or (new == value[r] and place < first[r]):
        value[r], first[r] = new, place


@numba.njit(nogil=True, cache=True)
def refine(  # noqa: PLR0912 (calls between compiled functions would pass everything on)
    products: np.ndarray, tops: np.ndarray, scale: np.ndarray, errors: np.ndarray, rows: np.ndarray,
    tile_scale: np.ndarray, bounds: np.ndarray, own: np.ndarray, low: np.ndarray,
    middle: np.ndarray, limits: np.ndarray, columns: np.ndarray, index: np.ndarray, slack: float,
    value: np.ndarray, first: np.ndarray, margin: np.ndarray, margin_first: np.ndarray,
) -> int:  # fmt: skip
    """Raise the maxima of a block's rows by a tile's columns.

    Args:
        products: (n, B, W) int32 or float32, of n strips of W columns; tops: (B, G), of each group.
        scale, errors, rows: of the rows, (B,), (B, 3) and (B, D) float32.
        tile_scale, bounds, own, low, middle: of the tile, see `columns.Tile`.
        limits: (T,) float64; columns: (T, D) float32, or the bits of float16; index: (T,) int64, -1
            for padding.
        value, first, margin, margin_first: (B,) float64 and int64, changed in place.

    Returns:
        The number of pairs that were computed in float64.
    """
    groups, strip = low.shape[0], products.shape[2]
    width = products.shape[0] * strip // groups
    computed = 0
    for r in range(products.shape[1]):
        e0, e1, e2 = np.float64(errors[r, 0]), np.float64(errors[r, 1]), np.float64(errors[r, 2])
        size = np.float64(scale[r])
        # The groups of the most promising column for either maximum.
        best, best_margin = 0, 0
        most, most_margin = -np.inf, -np.inf
        for g in range(groups):
            estimate = np.float64(tops[r, g]) * (size * tile_scale[g])
            if estimate > most:
                most, best = estimate, g
            if estimate - middle[g] > most_margin:
                most_margin, best_margin = estimate - middle[g], g
        # Seeds: those columns, so that most others need not be computed.
        seed = other = -1
        for which in range(2):
            g = best if which == 0 else best_margin
            wide = e0 * bounds[0, g] + e1 * bounds[1, g] + e2 * bounds[2, g] + slack
            bound = np.float64(tops[r, g]) * (size * tile_scale[g]) + wide
            if bound < value[r] and bound - low[g] < margin[r]:
                continue
            at, base = size * tile_scale[g], g * width
            part = products[base // strip, r, base % strip : base % strip + width]
            found, chosen = -np.inf, -1
            for j in range(width):
                guess = part[j] * at - (limits[base + j] if which == 1 else 0.0)
                if guess > found and index[base + j] >= 0:
                    found, chosen = guess, base + j
            if chosen < 0 or chosen == seed:
                continue
            seed, other = chosen, seed
            computed += 1
            s = _dot(rows[r], columns[chosen])
            _improve(value, first, r, s, index[chosen])
            _improve(margin, margin_first, r, s - limits[chosen], index[chosen])
        # Every other column whose bound reaches what the row has.
        for g in range(groups):
            wide = e0 * bounds[0, g] + e1 * bounds[1, g] + e2 * bounds[2, g] + slack
            bound = np.float64(tops[r, g]) * (size * tile_scale[g]) + wide
            if bound < value[r] and bound - low[g] < margin[r]:
                continue
            at, base = size * tile_scale[g], g * width
            part = products[base // strip, r, base % strip : base % strip + width]
            for j in range(width):
                t = base + j
                guess = part[j] * at
                need = min(value[r], margin[r] + limits[t])
                if guess + wide < need or t in (seed, other) or index[t] < 0:
                    continue
                if guess + e0 * own[t, 0] + e1 * own[t, 1] + e2 * own[t, 2] + slack < need:
                    continue
                computed += 1
                s = _dot(rows[r], columns[t])
                _improve(value, first, r, s, index[t])
                _improve(margin, margin_first, r, s - limits[t], index[t])
    return computed


@numba.njit(nogil=True, cache=True)
def above(
    products: np.ndarray, tops: np.ndarray, scale: np.ndarray, errors: np.ndarray, rows: np.ndarray,
    tile_scale: np.ndarray, bounds: np.ndarray, own: np.ndarray, columns: np.ndarray,
    wanted: np.ndarray, taken: np.ndarray, slack: float, floor: float, found: np.ndarray,
    similarity: np.ndarray,
) -> int:  # fmt: skip
    """All pairs of a block and a tile more similar than `floor`.

    Args:
        wanted, taken: (B,) and (T,) bool, the rows and the columns that count.
        found: (P, 2) int64, row and column; similarity: (P,) float64. Both are filled as far as
            they reach.

    Returns:
        The number of pairs, which may exceed P: call again with more room.
    """
    groups, strip = tops.shape[1], products.shape[2]
    width = products.shape[0] * strip // groups
    count = 0
    for r in range(products.shape[1]):
        if not wanted[r]:
            continue
        e0, e1, e2 = np.float64(errors[r, 0]), np.float64(errors[r, 1]), np.float64(errors[r, 2])
        for g in range(groups):
            at, base = np.float64(scale[r]) * tile_scale[g], g * width
            wide = e0 * bounds[0, g] + e1 * bounds[1, g] + e2 * bounds[2, g] + slack
            if np.float64(tops[r, g]) * at + wide < floor:
                continue
            part = products[base // strip, r, base % strip : base % strip + width]
            for j in range(width):
                t = base + j
                bound = part[j] * at + e0 * own[t, 0] + e1 * own[t, 1] + e2 * own[t, 2] + slack
                if bound < floor or not taken[t]:
                    continue
                s = _dot(rows[r], columns[t])
                if s > floor:
                    if count < found.shape[0]:
                        found[count, 0], found[count, 1] = r, t
                        similarity[count] = s
                    count += 1
    return count
