"""Rank correlation with bootstrap intervals, and the interval of a mean over a few runs."""

from collections.abc import Callable

import numpy as np
from scipy.stats import rankdata
from scipy.stats import t as student

LEVEL = 0.95


def spearman(x: np.ndarray, y: np.ndarray) -> float | None:
    """Spearman's rho with mid-ranks for ties; None where either side does not vary.

    >>> spearman(np.array([1, 2, 3]), np.array([4, 6, 5]))
    0.5
    """
    if len(x) < 2:
        return None
    a, b = (rankdata(v) - (len(v) + 1) / 2 for v in (x, y))
    norm = float(np.sqrt((a @ a) * (b @ b)))
    # Rounded, since the last bits depend on the order of summation: equal rhos stay equal.
    return round(float(a @ b) / norm, 12) if norm else None


def bootstrap(
    statistic: Callable[[np.ndarray, np.random.Generator], float | None],
    n: int,
    draws: int,
    seed: int,
) -> tuple[float, float] | None:
    """Percentile interval (95 %) of a statistic of n rows drawn with replacement.

    Args:
        statistic: from (n,) drawn row numbers, and the generator for what else it draws.

    Returns:
        None where the statistic is undefined in more than half of the draws; the others are left
        out.
    """
    rng = np.random.default_rng(seed)
    drawn = (statistic(rng.integers(0, n, n), rng) for _ in range(draws))
    values = [v for v in drawn if v is not None]
    if 2 * len(values) <= draws:
        return None
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def mean_interval(values: list[float]) -> dict[str, float | None]:
    """Mean, sample standard deviation and Student's t interval (95 %); None for fewer than two.

    >>> mean_interval([1.0, 3.0])["sd"] == 2**0.5
    True
    """
    mean = float(np.mean(values))
    if len(values) < 2:
        return {"mean": mean, "sd": None, "low": None, "high": None}
    sd = float(np.std(values, ddof=1))
    half = float(student.ppf((1 + LEVEL) / 2, len(values) - 1)) * sd / len(values) ** 0.5
    return {"mean": mean, "sd": sd, "low": mean - half, "high": mean + half}
