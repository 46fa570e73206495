"""Accuracies that know what they were measured on, and the points (id, shift) made of them.

An accuracy on all 1,000 classes and one on the 200 classes of ImageNet-R are different quantities.
Every accuracy carries its axis, and points of different axes never come together silently.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from clipshift.core.errors import ClipshiftError
from clipshift.stats.intervals import clopper_pearson


@dataclass(frozen=True)
class Axis:
    """What was measured: a set of images, and the classes among which the model chose."""

    name: str
    classes: str = "its own classes"

    def __str__(self) -> str:
        return f"{self.name} ({self.classes})"


@dataclass(frozen=True)
class Accuracy:
    """An accuracy as a fraction, its interval, and what it was measured on."""

    axis: Axis
    value: float
    low: float
    high: float


def accuracy(axis: Axis, value: float, n: int, level: float = 0.95) -> Accuracy:
    """An accuracy over n test images with its Clopper-Pearson interval.

    >>> round(accuracy(Axis("val"), 0.5, 10).low, 3)
    0.187
    """
    # Tables of percentages are rounded: 100 % of n must not exceed n.
    low, high = clopper_pearson(min(max(value * n, 0.0), float(n)), n, level)
    return Accuracy(axis, value, low, high)


def average(axis: Axis, parts: Sequence[Accuracy]) -> Accuracy:
    """The mean of accuracies on several sets, which must be independent of one another.

    Its interval recovers the variance from the parts' own limits (MOVER, Zou and Donner 2008), so
    that it stays skew near 0 and 1.
    """
    value = sum(p.value for p in parts) / len(parts)
    below = sum((p.value - p.low) ** 2 for p in parts) ** 0.5 / len(parts)
    above = sum((p.high - p.value) ** 2 for p in parts) ** 0.5 / len(parts)
    return Accuracy(axis, value, max(0.0, value - below), min(1.0, value + above))


@dataclass(frozen=True)
class Points:
    """Models on one shift: (N, K) accuracies on K in-distribution axes, (N,) on the shift.

    All float64 fractions, in the order of the models' names; `x_low` and so on are the ends of the
    intervals.
    """

    axes: tuple[Axis, ...]
    shift: Axis
    models: tuple[str, ...]
    x: np.ndarray
    x_low: np.ndarray
    x_high: np.ndarray
    y: np.ndarray
    y_low: np.ndarray
    y_high: np.ndarray

    @classmethod
    def of(cls, rows: Iterable[tuple[str, Sequence[Accuracy], Accuracy]]) -> "Points":
        """Points of (model, accuracies in distribution, accuracy under shift), in any order.

        Raises:
            ClipshiftError: no row; a model twice; or rows that were measured on different axes.
        """
        ordered = sorted(rows, key=lambda row: row[0])
        if not ordered:
            raise ClipshiftError("there are no models to make points of")
        first, x, y = ordered[0]
        axes, shift = tuple(a.axis for a in x), y.axis
        # Sorted by name, so that a model that comes twice is its own neighbour.
        for before, (model, accuracies, under) in zip([None, *ordered], ordered, strict=False):
            if before and before[0] == model:
                raise ClipshiftError(f"the model {model!r} is there twice; name them apart")
            refuse_mix(
                (axes, shift), f"{first!r}", (tuple(a.axis for a in accuracies), under.axis), model
            )
        xs = [row[1] for row in ordered]
        return cls(
            axes,
            shift,
            tuple(row[0] for row in ordered),
            *(np.array([[getattr(a, k) for a in x] for x in xs]) for k in ENDS),
            *(np.array([getattr(row[2], k) for row in ordered]) for k in ENDS),
        )

    @classmethod
    def joined(cls, parts: Sequence["Points"]) -> "Points":
        """All points of some parts, which must be on the same axes and of different models."""
        return cls.of(row for part in parts for row in part.rows())

    def rows(self) -> Iterator[tuple[str, list[Accuracy], Accuracy]]:
        """The points as `of` takes them."""
        for i, model in enumerate(self.models):
            ends = zip(self.axes, self.x[i], self.x_low[i], self.x_high[i], strict=True)
            x = [Accuracy(axis, float(v), float(a), float(b)) for axis, v, a, b in ends]
            y = (float(end[i]) for end in (self.y, self.y_low, self.y_high))
            yield model, x, Accuracy(self.shift, *y)

    def only(self, kept: np.ndarray) -> "Points":
        """The points where (N,) bool `kept` holds."""
        arrays = (self.x, self.x_low, self.x_high, self.y, self.y_low, self.y_high)
        models = tuple(m for m, k in zip(self.models, kept, strict=True) if k)
        return Points(self.axes, self.shift, models, *(array[kept] for array in arrays))


ENDS = ("value", "low", "high")

Measured = tuple[tuple[Axis, ...], Axis]


def refuse_mix(one: Measured, who: str, other: Measured, model: str) -> None:
    """Raise unless both were measured on the same axes, naming what differs.

    Raises:
        ClipshiftError: with both axes and the remedy.
    """
    for a, b in zip((*one[0], one[1]), (*other[0], other[1]), strict=False):
        if a != b:
            raise ClipshiftError(
                f"{who} was measured on {a}, but {model!r} on {b}: accuracies on different "
                f"classes lie on different lines. Measure {model!r} on {a}, or take another line"
            )
    if len(one[0]) != len(other[0]):
        raise ClipshiftError(
            f"{who} has {len(one[0])} in-distribution axes, but {model!r} has {len(other[0])}"
        )
