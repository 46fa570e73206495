"""Effective robustness of models against a line, with intervals.

The interval of rho = y - beta(x) is made of three independent parts, each by its own limits: the
model's accuracy under shift and its accuracies in distribution (binomial, Clopper-Pearson; the
latter carried through the line), and the line (bootstrap over its models). They are joined by MOVER
(Zou and Donner 2008): each side is the root of the sum of the squared distances to the limits on
that side, so that skew limits stay skew. It speaks of the choice of test images and of baseline
models. It does not contain the chance of training, nor how far single models scatter about the line
(`Piece.spread`): a model within that spread is an ordinary one, however narrow its interval.
"""

from dataclasses import dataclass

import numpy as np

from clipshift.evaluation.robustness.lines import Line
from clipshift.evaluation.robustness.points import Points, refuse_mix


@dataclass(frozen=True)
class Rho:
    """One model: accuracies, what the line predicts, and rho with its interval; all fractions."""

    model: str
    x: tuple[float, ...]
    y: float
    predicted: float
    line_low: float
    line_high: float
    rho: float
    low: float
    high: float
    extrapolated: bool

    @property
    def percent(self) -> dict[str, float]:
        """What tables say of a model, in %: under shift, and rho with its interval."""
        return {
            "shift_accuracy": 100 * self.y, "predicted": 100 * self.predicted,
            "rho": 100 * self.rho, "rho_low": 100 * self.low, "rho_high": 100 * self.high,
        }  # fmt: skip


def effective_robustness(line: Line, points: Points) -> list[Rho]:
    """rho of every model, in the order of their names.

    Raises:
        ClipshiftError: the points were measured on other axes than the line.
    """
    refuse_mix((line.axes, line.shift), "the line", (points.axes, points.shift), points.models[0])
    predicted = line.predict(points.x)
    line_low, line_high = line.band(points.x)
    # A higher line lowers rho, so the line's upper end counts below.
    below = (points.y - points.y_low) ** 2 + (line_high - predicted).clip(0) ** 2
    above = (points.y_high - points.y) ** 2 + (predicted - line_low).clip(0) ** 2
    for k in range(points.x.shape[1]):
        ends = np.stack([_moved(line, points, k, end) for end in (points.x_low, points.x_high)])
        # The slope's sign says which end of x raises the line.
        below += (ends.max(0) - predicted).clip(0) ** 2
        above += (predicted - ends.min(0)).clip(0) ** 2
    rho = points.y - predicted
    columns = {
        "y": points.y,
        "predicted": predicted,
        "line_low": line_low,
        "line_high": line_high,
        "rho": rho,
        "low": rho - below**0.5,
        "high": rho + above**0.5,
    }
    outside = line.extrapolates(points.x)
    return [
        Rho(
            model=model,
            x=tuple(float(value) for value in points.x[i]),
            extrapolated=bool(outside[i]),
            **{name: float(column[i]) for name, column in columns.items()},
        )
        for i, model in enumerate(points.models)
    ]


def _moved(line: Line, points: Points, k: int, end: np.ndarray) -> np.ndarray:
    """What the line predicts with axis k at one end of its interval."""
    x = points.x.copy()
    x[:, k] = end[:, k]
    return line.predict(x, at=points.x)
