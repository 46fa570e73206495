"""Panels of accuracy under shift against accuracy in distribution, on transformed axes.

Axes are those of the line's space, so that it is straight and error bars are transformed with it;
ticks are in percent. Accuracies of 0 and 1, which have no place there, stand at the panel's edge.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from clipshift.evaluation.robustness.lines import Line
from clipshift.evaluation.robustness.points import Points
from clipshift.evaluation.robustness.spaces import Space, forward, inverse
from clipshift.figures.style import COLOURS, GREY

BROWN = "#8C510A"
TICKS = (0.1, 0.3, 1, 3, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 97, 99, 99.5)
# The least distance of two ticks, as a share of the axis.
APART = 0.115
MARGIN = 0.07
PANEL, ALONE = (2.25, 2.15), (3.6, 2.6)  # size of one of several panels, and of the only one
# A name of a point takes so much of a panel, across and down.
ROOM = np.array([0.14, 0.075])


class Look(NamedTuple):
    """How a group of points is drawn: marker and colour, filled or hollow, size, bars or none."""

    marker: str
    colour: str
    filled: bool = True
    size: float = 4.5
    bars: bool = True
    alpha: float = 1.0


# Groups differ by shape and by fill, and have a dark edge, so that they stay apart in grey.
LOOKS = (
    Look("s", COLOURS[5]),
    Look("^", "black", filled=False),
    Look("D", COLOURS[2]),
    Look("v", COLOURS[3]),
    Look("P", BROWN, size=5.5),
    Look("X", COLOURS[1], size=5.5),
)
BASELINE = Look("o", COLOURS[4], size=2.8, bars=False, alpha=0.7)


def limits(space: Space, values: Sequence[np.ndarray]) -> tuple[float, float]:
    """Ends of an axis, in the space, around all finite places of some accuracies."""
    places = np.concatenate([forward(space, np.ravel(v)) for v in values])
    places = places[np.isfinite(places)]
    low, high = float(places.min()), float(places.max())
    room = MARGIN * (high - low)
    return low - room, high + room


def percent_ticks(axis: Any, space: Space, x: tuple[float, float], y: tuple[float, float]) -> None:
    """Set both limits, with ticks at round percentages that are not too close to each other."""
    for ends, set_limits, set_ticks in (
        (x, axis.set_xlim, axis.set_xticks),
        (y, axis.set_ylim, axis.set_yticks),
    ):
        set_limits(ends)
        places: list[float] = []
        labels: list[str] = []
        for tick in _by_roundness(ends, space):
            place = float(forward(space, np.array(tick / 100)))
            near = any(abs(place - other) < APART * (ends[1] - ends[0]) for other in places)
            if ends[0] <= place <= ends[1] and not near:
                places.append(place)
                labels.append(f"{tick:g}")
        set_ticks(places, labels)


def _by_roundness(ends: tuple[float, float], space: Space) -> list[float]:
    """Ticks, the rounder first; where fewer than three are inside, every percent counts."""
    few = sum(ends[0] <= forward(space, np.array(t / 100)) <= ends[1] for t in TICKS) < 3
    ticks = [float(t) for t in (range(1, 100) if few else TICKS)]
    return sorted(ticks, key=lambda t: (t % 50 != 0, t not in (10, 90), t % 10 != 0, abs(t - 50)))


def diagonal(axis: Any, label: str | None = "no drop (y = x)") -> None:
    """The dashed line of equal accuracies."""
    axis.axline((0, 0), slope=1, color=GREY, lw=0.9, ls=(0, (4, 3)), zorder=1, label=label)


def draw_line(
    axis: Any, line: Line, ends: tuple[float, float], label: str | None, colour: str = COLOURS[0]
) -> None:
    """A line with its band between two ends of the first axis (in its space); dotted outside.

    With several in-distribution axes there is no one line in a plane: nothing is drawn.
    """
    if len(line.axes) > 1:
        return
    for number, piece in enumerate(line.pieces):
        # A hair inside: a piece is open at its lower end.
        low, high = forward(line.space, np.clip([piece.low, piece.high], 0, 1))
        z = np.linspace(max(ends[0], low), min(ends[1], high), 200)[1:]
        if z[0] >= z[-1]:
            continue
        x = inverse(line.space, z)[:, None]
        y = forward(line.space, line.predict(x))
        below, above = (forward(line.space, end) for end in line.band(x))
        inside = ~line.extrapolates(x)
        shown = label if number == 0 else None
        axis.fill_between(z, below, above, color=colour, alpha=0.22, lw=0, zorder=1.5)
        axis.plot(z, np.where(inside, y, np.nan), color=colour, lw=1.3, zorder=2.5, label=shown)
        axis.plot(z, np.where(inside, np.nan, y), color=colour, lw=1.1, ls=":", zorder=2.5)


def draw_points(
    axis: Any,
    points: Points,
    space: Space,
    look: Look,
    label: str | None,
    lowest: tuple[float, float],
) -> None:
    """Points with their transformed intervals; those without a place stand at `lowest`."""
    x, y = (forward(space, v) for v in (points.x[:, 0], points.y))
    ends = (
        (x, points.x_low[:, 0]),
        (x, points.x_high[:, 0]),
        (y, points.y_low),
        (y, points.y_high),
    )
    with np.errstate(invalid="ignore"):  # a bar to an end without a place is not drawn
        spread = [np.abs(forward(space, end) - place) for place, end in ends]
    # After the bars: a point at -inf moves to the edge, its bar has no length.
    x, y = np.maximum(x, lowest[0]), np.maximum(y, lowest[1])
    style = {
        "marker": look.marker,
        "ms": look.size,
        "ls": "none",
        "color": look.colour,
        "mfc": look.colour if look.filled else "white",
        "mec": "black" if look.filled and look.bars else look.colour,
        "mew": 0.5 if look.filled and look.bars else 0.8,
        "alpha": look.alpha,
        "zorder": 4 if look.bars else 2,
        "label": label,
    }
    if not look.bars:
        axis.plot(x, y, **style)
        return
    bars = [np.where(np.isfinite(s), s, 0) for s in spread]
    axis.errorbar(x, y, xerr=bars[:2], yerr=bars[2:], elinewidth=0.7, ecolor=look.colour, **style)


def mark(axis: Any, points: Points, space: Space, marks: dict[str, str]) -> None:
    """Short names beside some points, leaving out those that would lie on another (set limits)."""
    taken: list[np.ndarray] = []
    for i, model in enumerate(points.models):
        if model not in marks:
            continue
        at = np.array([float(forward(space, v)) for v in (points.x[i, 0], points.y[i])])
        place = axis.transAxes.inverted().transform(axis.transData.transform(at))
        if any((np.abs(place - other) < ROOM).all() for other in taken):
            continue
        taken.append(place)
        right = place[0] > 1 - ROOM[0] / 2  # no room there: below the point
        axis.annotate(
            marks[model], at, xytext=(3, -10.5) if right else (4.5, -7.5),
            textcoords="offset points", ha="right" if right else "left", fontsize=6.5, zorder=5,
        )  # fmt: skip
