"""How many seeds a difference of two conditions needs, before anything is trained.

The interval is `intervals.paired_difference`: Student's t with the degrees of freedom of Hillis
(2007), power by the noncentral t distribution, which is a little too low at two seeds.
"""

from scipy.optimize import brentq
from scipy.stats import nct
from scipy.stats import t as student

# More seeds than anybody trains.
MOST = 200


def power(
    difference: float, seeds: int, n: int, training: float, disagreement: float, level: float = 0.95
) -> float:
    """Chance that the interval of a true difference does not contain zero.

    Args:
        difference: of two accuracies, a fraction.
        seeds: of each condition; n: test images.
        training: standard deviation of an accuracy over seeds, of training alone.
        disagreement: share of the images that two models of different conditions answer
            differently, one rightly and one wrongly; the images' part in the variance.
    """
    images, seed = disagreement / n, 2 * training**2 / seeds
    variance = images + seed
    spread = images**2 / (n - 1)
    if seeds > 1:
        spread += seed**2 / (2 * seeds - 2)
    freedom = variance**2 / spread
    limit = student.ppf((1 + level) / 2, freedom)
    return float(nct.sf(limit, freedom, difference / variance**0.5))


def seeds_needed(
    difference: float, n: int, training: float, disagreement: float, chance: float = 0.8
) -> int | None:
    """The fewest seeds with which a difference shows with some chance; None: no number of them.

    At least two: one seed knows nothing of the variance of training.
    """
    for seeds in range(2, MOST + 1):
        if power(difference, seeds, n, training, disagreement) >= chance:
            return seeds
    return None


def smallest(
    seeds: int, n: int, training: float, disagreement: float, chance: float = 0.8
) -> float | None:
    """The smallest difference that shows with some seeds and chance; None: not even 1."""

    def lacking(difference: float) -> float:
        return power(difference, seeds, n, training, disagreement) - chance

    return float(brentq(lacking, 0, 1, xtol=1e-5)) if lacking(1) > 0 else None
