"""The refinement of a block and a tile on a CPU: one compiled pass over the screen's products.

The same steps as `refine` (torch, any device) takes, for a few rows at a time. What a step will
read is known a step before, and is asked for then: the products of a group, the vector of a
column. Loops over groups and columns have no branches, so that they become vector instructions;
their float32 arithmetic is within the screen's SLACK.
"""

from typing import Any

import numba
import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.extending import intrinsic

from clipshift.similarity.engine.queries import GROUP
from clipshift.similarity.engine.screen import SLACK

# A sum of products of float16 values is exact in any order; of float32 values right to D 2^-53.
_ORDER = {"reassoc", "contract"}
# Maxima of float32, none of which is NaN.
_MAXIMA = {"nnan", "nsz"}
# Rows under way at once: enough to wait for none.
_BATCH = 8
_LINE = 64  # bytes that memory gives at a time


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


@intrinsic
def _ask(_context: Any, array: Any, _place: Any) -> Any:
    """Have the memory of a contiguous array's element brought near; a hint without effect."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        at = builder.bitcast(builder.gep(data, [args[1]]), ir.IntType(8).as_pointer())
        prefetch = builder.module.declare_intrinsic(
            "llvm.prefetch",
            [at.type],
            ir.FunctionType(ir.VoidType(), [at.type, *[ir.IntType(32)] * 3]),
        )
        builder.call(prefetch, [at, *(ir.IntType(32)(n) for n in (0, 3, 1))])  # read, near, data
        return context.get_dummy_value()

    return types.void(array, types.int64), emit


@numba.njit(nogil=True, fastmath=_ORDER, cache=True)
def _dot(a: np.ndarray, b: np.ndarray) -> float:
    total = 0.0
    for i in range(a.shape[0]):
        total += np.float64(a[i]) * np.float64(_stored(b[i]))  # type: ignore[call-arg]
    return total


@numba.njit(nogil=True, fastmath=_MAXIMA, cache=True)
def _first_max(values: np.ndarray) -> int:
    most = values[0]
    for i in range(values.shape[0]):
        most = max(most, values[i])
    at = 0
    while at < values.shape[0] - 1 and values[at] != most:
        at += 1
    return at


@numba.njit(nogil=True, cache=True)
def _improve(value: np.ndarray, first: np.ndarray, r: int, new: float, place: int) -> None:
    """Raise the maximum of row r; of equals the lowest place stays."""
    if new > value[r] or (new == value[r] and place < first[r]):
        value[r], first[r] = new, place


@numba.njit(nogil=True, cache=True)
def _ask_group(products: np.ndarray, r: int, g: int) -> None:
    _, block, strip = products.shape
    base = g * GROUP
    at = ((base // strip) * block + r) * strip + base % strip
    for i in range(0, GROUP, _LINE // products.itemsize):
        _ask(products, at + i)  # type: ignore[call-arg]


@numba.njit(nogil=True, cache=True)
def _ask_vector(vectors: np.ndarray, t: int) -> None:
    d = vectors.shape[1]
    for i in range(0, d, _LINE // vectors.itemsize):
        _ask(vectors, t * d + i)  # type: ignore[call-arg]


@numba.njit(nogil=True, fastmath=_ORDER, cache=True)
def _bound_groups(
    tops: np.ndarray, r: int, scale: np.ndarray, errors: np.ndarray, tile_scale: np.ndarray,
    bounds: np.ndarray, middle: np.ndarray, slack: np.float32, k: int, estimate: np.ndarray,
    margin: np.ndarray, bound: np.ndarray,
) -> None:  # fmt: skip
    """Of each group the largest estimates of similarity and margin, and the largest bound."""
    size, e0, e1, e2 = scale[r], errors[r, 0], errors[r, 1], errors[r, 2]
    for g in range(middle.shape[0]):
        value = np.float32(tops[r, g]) * (size * tile_scale[g])
        estimate[k, g] = value
        margin[k, g] = value - middle[g]
        bound[k, g] = value + (e0 * bounds[0, g] + e1 * bounds[1, g] + e2 * bounds[2, g] + slack)


@numba.njit(nogil=True, cache=True)
def _open_groups(
    bound: np.ndarray, k: int, low: np.ndarray, value: np.float32, margin: np.float32,
    groups: np.ndarray,
) -> int:  # fmt: skip
    """List the groups whose bound reaches a floor; returns their number."""
    count = 0
    for g in range(low.shape[0]):
        groups[k, count] = g
        count += int((bound[k, g] >= value) | (bound[k, g] - low[g] >= margin))
    return count


@numba.njit(nogil=True, cache=True)
def _open_columns(
    part: np.ndarray, at: np.float32, wide: np.float32, near: np.ndarray, base: int,
    value: np.float32, margin: np.float32, guess: np.ndarray, hit: np.ndarray,
) -> None:  # fmt: skip
    """Estimates of the columns of a group, and which of them may reach a floor."""
    for j in range(GROUP):
        guess[j] = np.float32(part[j]) * at
        hit[j] = np.uint8(guess[j] + wide >= min(value, margin + near[base + j]))


@numba.njit(nogil=True, cache=True)
def refine(  # noqa: PLR0912, PLR0915 (stages of one loop, over the same notes)
    products: np.ndarray, tops: np.ndarray, scale: np.ndarray, errors: np.ndarray, rows: np.ndarray,
    tile_scale: np.ndarray, bounds: np.ndarray, own: np.ndarray, low: np.ndarray,
    middle: np.ndarray, near: np.ndarray, limits: np.ndarray, columns: np.ndarray,
    index: np.ndarray, value: np.ndarray, first: np.ndarray, margin: np.ndarray,
    margin_first: np.ndarray,
) -> int:  # fmt: skip
    """Raise the maxima of a block's rows by a tile's columns.

    Args:
        products: (n, B, W) int32 or float32, of n strips of W columns; tops: (B, G), of each group.
        scale, errors, rows: of the rows, (B,), (B, 3) and (B, D) float32.
        tile_scale, bounds, low, middle, near: of the tile, see `queries.Tile`; own: its `errors`.
        limits: (T,) float64; columns: (T, D) float32, or the bits of float16; index: (T,) int64, -1
            for padding.
        value, first, margin, margin_first: (B,) float64 and int64, changed in place.

    Returns:
        The number of pairs that were computed in float64.
    """
    groups, strip, slack = low.shape[0], products.shape[2], np.float32(SLACK)
    # Notes on the rows under way.
    estimate, other = np.empty((_BATCH, groups), np.float32), np.empty((_BATCH, groups), np.float32)
    bound = np.empty((_BATCH, groups), np.float32)
    opened, count = np.empty((_BATCH, groups + 1), np.int32), np.empty(_BATCH, np.int64)
    places = np.empty((_BATCH, groups * GROUP + 1), np.int32)
    reach = np.empty((_BATCH, groups * GROUP + 1), np.float32)
    seeds, guess = np.empty((_BATCH, 2), np.int64), np.empty(GROUP, np.float32)
    hit = np.empty(GROUP, np.uint8)
    computed = 0
    for start in range(0, products.shape[1], _BATCH):
        n = min(_BATCH, products.shape[1] - start)
        # The groups of the most promising column for either maximum, -1 for none.
        for k in range(n):
            r = start + k
            _bound_groups(
                tops, r, scale, errors, tile_scale, bounds, middle, slack, k, estimate, other, bound
            )
            for which in range(2):
                g = _first_max(estimate[k] if which == 0 else other[k])
                if bound[k, g] < value[r] and bound[k, g] - low[g] < margin[r]:
                    g = -1
                else:
                    _ask_group(products, r, g)
                seeds[k, which] = g
        # Those columns, the seeds.
        for k in range(n):
            r = start + k
            for which in range(2):
                g = seeds[k, which]
                if g < 0:
                    continue
                at, base = scale[r] * tile_scale[g], g * GROUP
                for j in range(GROUP):
                    limit = near[base + j] if which == 1 else np.float32(0)
                    product = products[base // strip, r, base % strip + j]
                    guess[j] = np.float32(product) * at - limit
                # Padding is never a maximum, and the same column is not computed twice.
                t = base + _first_max(guess)
                if index[t] < 0 or (which == 1 and t == seeds[k, 0]):
                    t = -1
                else:
                    _ask_vector(columns, t)
                seeds[k, which] = t
        # Computed, so that most others need not be; and the groups that still reach a floor.
        for k in range(n):
            r = start + k
            for which in range(2):
                t = seeds[k, which]
                if t >= 0:
                    s = _dot(rows[r], columns[t])
                    _improve(value, first, r, s, index[t])
                    _improve(margin, margin_first, r, s - limits[t], index[t])
                    computed += 1
            count[k] = _open_groups(
                bound, k, low, np.float32(value[r]), np.float32(margin[r]), opened
            )
            for i in range(count[k]):
                _ask_group(products, r, int(opened[k, i]))
        # The columns that do, by the group's bound and then by their own.
        for k in range(n):
            r = start + k
            v, m = np.float32(value[r]), np.float32(margin[r])
            some = 0
            for i in range(count[k]):
                g = int(opened[k, i])
                at, wide = scale[r] * tile_scale[g], bound[k, g] - estimate[k, g]
                base = g * GROUP
                # A strip holds whole groups, so that a group's products lie side by side.
                part = products[base // strip, r, base % strip : base % strip + GROUP]
                _open_columns(part, at, wide, near, base, v, m, guess, hit)
                for j in range(GROUP):
                    # Written always, kept by the count: a loop without branches.
                    places[k, some], reach[k, some] = base + j, guess[j]
                    some += int(hit[j])
            e0, e1, e2 = errors[r, 0], errors[r, 1], errors[r, 2]
            left = 0
            for i in range(some):
                t = int(places[k, i])
                top = reach[k, i] + (e0 * own[t, 0] + e1 * own[t, 1] + e2 * own[t, 2] + slack)
                if top < min(v, m + near[t]) or index[t] < 0:
                    continue
                if t != seeds[k, 0] and t != seeds[k, 1]:
                    places[k, left], reach[k, left] = t, top
                    left += 1
                    _ask_vector(columns, t)
            count[k] = left
        # Computed, unless a floor has risen since.
        for k in range(n):
            r = start + k
            for i in range(count[k]):
                t = int(places[k, i])
                if reach[k, i] < min(np.float32(value[r]), np.float32(margin[r]) + near[t]):
                    continue
                s = _dot(rows[r], columns[t])
                _improve(value, first, r, s, index[t])
                _improve(margin, margin_first, r, s - limits[t], index[t])
                computed += 1
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
