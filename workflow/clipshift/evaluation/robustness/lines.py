"""Lines of baseline models: ordinary least squares in logit, probit or linear space.

T(acc_shift) = c_0 + sum_k c_k T(acc_id_k), after Taori et al. 2020 and Miller et al. 2021; with
several in-distribution sets after Shi et al. 2023. The band of a line is the percentile bootstrap
over families of its models: what another draw of baseline models would have given. The epochs of
one network are one family; drawn as if each were a network of its own, they make the band several
times too narrow.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from clipshift.core.errors import ClipshiftError
from clipshift.evaluation.robustness.points import Axis, Points
from clipshift.evaluation.robustness.spaces import Space, forward, inverse

ENDLESS = "accuracy of 0 or 1, which no {space} has"
LEFT_OUT = "left out by name"
# Draws with fewer different models than coefficients have no line.
SINGULAR = 1e10
# Squares of rounding errors: models that are all the same have no variance to explain.
NOTHING = 1e-20
# Letters of an axis that a message shows.
NAMED = 100


@dataclass(frozen=True)
class Piece:
    """A line over a part of the first axis, (low, high]; coefficients in the transformed space.

    coefficients: (K + 1,) float64, the intercept first; drawn: (D, K + 1), those of the bootstrap;
    families: how many of them the models belong to; least, most: (K,) ends of the models'
    accuracies; r2: of the transformed accuracies, NaN where the models do not differ under shift;
    spread: root mean square distance of the plain ones.
    """

    low: float
    high: float
    coefficients: np.ndarray
    drawn: np.ndarray
    models: tuple[str, ...]
    families: int
    least: np.ndarray
    most: np.ndarray
    r2: float
    spread: float

    def inside(self, x: np.ndarray) -> np.ndarray:
        """(N,) bool: which rows of (N, K) belong to this piece."""
        within: np.ndarray = (x[:, 0] > self.low) & (x[:, 0] <= self.high)
        return within


@dataclass(frozen=True)
class Line:
    """A fitted line: one piece, or two around a pivot; `left_out` counts models by reason."""

    space: Space
    axes: tuple[Axis, ...]
    shift: Axis
    pieces: tuple[Piece, ...]
    left_out: Counter[str]
    level: float

    def predict(self, x: np.ndarray, at: np.ndarray | None = None) -> np.ndarray:
        """(N,) accuracies expected under shift of models with (N, K) accuracies in distribution.

        Args:
            at: (N, K), which piece of the line to take (default: that of `x`); the interval of a
                model beside the pivot must not jump to the other piece.
        """
        z = forward(self.space, x)
        expected = np.empty(len(x))
        for piece in self.pieces:
            inside = piece.inside(x if at is None else at)
            expected[inside] = inverse(self.space, _apply(piece.coefficients, z[inside]))
        return expected

    def band(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Ends (N,) of the line's bootstrap interval at (N, K) accuracies."""
        z = forward(self.space, x)
        ends = np.empty((2, len(x)))
        tail = (1 - self.level) / 2
        for piece in self.pieces:
            inside = piece.inside(x)
            # (D, N): quantiles are taken of accuracies, not of coefficients, which vary together.
            drawn = inverse(self.space, np.stack([_apply(c, z[inside]) for c in piece.drawn]))
            ends[:, inside] = np.quantile(drawn, [tail, 1 - tail], axis=0)
        return ends[0], ends[1]

    def extrapolates(self, x: np.ndarray) -> np.ndarray:
        """(N,) bool: which of (N, K) lie outside the models that the line was fitted to."""
        outside = np.zeros(len(x), dtype=bool)
        for piece in self.pieces:
            inside = piece.inside(x)
            out = (x[inside] < piece.least) | (x[inside] > piece.most)
            outside[inside] = out.any(1)
        return outside


def fit(
    points: Points,
    space: Space = "logit",
    pivot: float | None = None,
    leave_out: frozenset[str] = frozenset(),
    families: Mapping[str, str] = {},
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Line:
    """Fit the line of baseline models.

    Args:
        points: the baseline models; their order does not matter.
        pivot: accuracy on the first axis at which one line ends and another begins (ImageNet-A).
        leave_out: names of models to leave out, e.g. the one that the shift was made against.
        families: model -> its family, which the bootstrap draws as a whole (default: each model is
            a family of its own).
        draws, seed: of the bootstrap; each piece is drawn by itself.

    Raises:
        ClipshiftError: too few models, or no spread among them.
    """
    named = np.array([m in leave_out for m in points.models], dtype=bool)
    ends = np.column_stack([forward(space, points.x), forward(space, points.y)])
    endless = ~np.isfinite(ends).all(1)
    left_out = Counter(
        {LEFT_OUT: int(named.sum()), ENDLESS.format(space=space): int((endless & ~named).sum())}
    )
    kept = points.only(~named & ~endless)
    ranges = [(-np.inf, np.inf)] if pivot is None else [(-np.inf, pivot), (pivot, np.inf)]
    pieces = []
    for number, (low, high) in enumerate(ranges):
        inside = (kept.x[:, 0] > low) & (kept.x[:, 0] <= high)
        rng = np.random.default_rng([seed, number])
        pieces.append(_piece(kept.only(inside), families, space, low, high, draws, rng))
    # + leaves out reasons that no model has.
    return Line(space, points.axes, points.shift, tuple(pieces), +left_out, level)


def _piece(
    points: Points, families: Mapping[str, str], space: Space, low: float, high: float, draws: int,
    rng: np.random.Generator,
) -> Piece:  # fmt: skip
    n, k = points.x.shape
    # An axis may name a thousand classes.
    where = f"{points.shift!s:.{NAMED}} against {', '.join(f'{a!s:.{NAMED}}' for a in points.axes)}"
    if np.isfinite([low, high]).any():
        where += f", between {low} and {high}"
    if n < k + 2:
        raise ClipshiftError(
            f"the line of {where} has {n} models with accuracies between 0 and 1; it needs at "
            f"least {k + 2}. Take more baseline models, or `space: linear`"
        )
    design = np.column_stack([np.ones(n), forward(space, points.x)])  # (N, K + 1)
    target = forward(space, points.y)  # (N,)
    # Centred columns keep the normal equations well conditioned: accuracies of good models lie
    # far from the origin of logit space.
    centre = np.r_[0.0, design[:, 1:].mean(0)]
    names, family = np.unique([families.get(m, m) for m in points.models], return_inverse=True)
    f = len(names)
    chosen = rng.multinomial(f, np.full(f, 1 / f), size=draws)  # (D, F): how often each family
    weights = np.concatenate([np.ones((1, n)), chosen[:, family]])  # the fit itself, then the draws
    # (1 + D, K + 1, K + 1) and (1 + D, K + 1).
    normal = np.einsum("dn,ni,nj->dij", weights, design - centre, design - centre)
    moment = np.einsum("dn,ni,n->di", weights, design - centre, target)
    # One weighted least-squares problem for each draw, all solved at once.
    solvable = np.linalg.cond(normal) < SINGULAR
    if not solvable[0]:
        raise ClipshiftError(
            f"the models of the line of {where} do not differ enough: it has no slope"
        )
    solved = np.linalg.solve(normal[solvable], moment[solvable][..., None])[..., 0]
    solved[:, 0] -= solved[:, 1:] @ centre[1:]  # back to the axes' own origin
    residual = target - design @ solved[0]
    total = float(((target - target.mean()) ** 2).sum())
    plain = points.y - inverse(space, design @ solved[0])
    return Piece(
        low=low,
        high=high,
        coefficients=solved[0],
        drawn=solved[1:],
        models=points.models,
        families=f,
        least=points.x.min(0),
        most=points.x.max(0),
        r2=1 - float(residual @ residual) / total if total > NOTHING else float("nan"),
        spread=float(np.sqrt((plain**2).mean())),
    )


def _apply(coefficients: np.ndarray, z: np.ndarray) -> np.ndarray:
    """(N,) values of a line at (N, K); a flat slope is blind to an infinite place."""
    terms = np.where(coefficients[1:] == 0, 0.0, z) * coefficients[1:]
    value: np.ndarray = coefficients[0] + terms.sum(1)
    return value
