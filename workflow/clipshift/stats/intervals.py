"""Confidence intervals of accuracies."""

import numpy as np
from scipy.stats import beta

# Counts of drawn images that are held at the same time (32 MB).
DRAWN = 4_000_000


def clopper_pearson(correct: float, n: int, level: float = 0.95) -> tuple[float, float]:
    """Exact binomial interval of a proportion (Clopper and Pearson 1934).

    `correct` may be fractional: the mean over seeds of the number of correct images. The interval
    then speaks of the choice of test images only, and is wider than it need be, since a mean
    over seeds varies less than one seed.

    >>> clopper_pearson(0, 10)[0], round(clopper_pearson(5, 10)[0], 3)
    (0.0, 0.187)
    """
    if not 0 <= correct <= n or n < 1:
        raise ValueError(f"{correct} of {n} is no proportion")
    tail = (1 - level) / 2
    # A beta distribution needs positive parameters: the ends of [0, 1] are set by hand.
    low = float(beta.ppf(tail, correct, n - correct + 1)) if correct > 0 else 0.0
    high = float(beta.ppf(1 - tail, correct + 1, n - correct)) if correct < n else 1.0
    return low, high


def paired_difference(
    a: np.ndarray, b: np.ndarray, seed: int = 0, draws: int = 10_000, level: float = 0.95
) -> tuple[float, float, float]:
    """Difference of two accuracies on the same images: mean and percentile bootstrap interval.

    Args:
        a, b: (S, N) and (S', N) bool or float, correctness per seed and image, images aligned.

    Images are drawn with replacement, and so are the seeds of either side, so the interval covers
    both the choice of images and, as far as a few seeds can tell, the chance of training.
    """
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"{a.shape[1]} and {b.shape[1]} images are not the same set")
    rng = np.random.default_rng(seed)
    n = a.shape[1]
    both = np.concatenate([a, b]).astype(float).T  # (N, S + S')
    share = np.full(n, 1 / n)
    step = max(1, DRAWN // n)  # the draws of all images at once would take gigabytes
    # To draw n images with replacement is to draw how often each comes: (k, N) counts, whose
    # product with the correctness gives the means of k draws at once.
    parts = [min(step, draws - start) for start in range(0, draws, step)]
    drawn = np.concatenate(
        [rng.multinomial(n, share, size=k) @ both / n for k in parts]
    )  # (draws, S + S')
    sides = []
    for side, per_seed in zip((a, b), np.split(drawn, [len(a)], axis=1), strict=True):  # (draws, S)
        chosen = rng.integers(0, len(side), size=per_seed.shape)
        sides.append(np.take_along_axis(per_seed, chosen, axis=1).mean(1))
    difference = sides[0] - sides[1]
    tail = (1 - level) / 2
    low, high = np.quantile(difference, [tail, 1 - tail])
    return float(a.mean() - b.mean()), float(low), float(high)
