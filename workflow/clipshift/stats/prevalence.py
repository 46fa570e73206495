"""True shares behind what an imperfect classifier counted, with intervals.

Rogan and Gladen (1978) for one detector; here its form for several classes, the inversion of the
confusion matrix (Buonaccorsi 2010, chapter 2), as a maximum likelihood estimate, so that no share
is negative. Intervals draw both sources of chance, as in Lang and Reiczigel (2014): the counts of
the data set and those of the labelled images.
"""

import numpy as np

# Iterations of the EM; shares of these few classes settle long before.
ITERATIONS = 300
# Jeffreys' prior: a cell that was never seen in a few labelled images is not impossible.
PRIOR = 0.5


def true_shares(observed: np.ndarray, confusion: np.ndarray) -> np.ndarray:
    """Maximum likelihood of the true shares (EM).

    Args:
        observed: (..., V) counts or shares of the decisions.
        confusion: (..., V, T) share of each decision among images of each true class.

    Returns:
        (..., T) shares, summing to one.

    >>> true_shares(np.array([0.9, 0.1]), np.eye(2)).round(3).tolist()
    [0.9, 0.1]
    """
    q = observed / observed.sum(-1, keepdims=True)  # (..., V)
    classes = confusion.shape[-1]
    p = np.full((*np.broadcast_shapes(q.shape[:-1], confusion.shape[:-2]), classes), 1 / classes)
    for _ in range(ITERATIONS):
        joint = confusion * p[..., None, :]  # (..., V, T)
        total = joint.sum(-1, keepdims=True)
        # A decision that no class can give has total 0; its terms are 0 and need no quotient.
        p = (q[..., None] * joint / np.where(total > 0, total, 1)).sum(-2)
        p /= p.sum(-1, keepdims=True)
    return p


def corrected(
    counts: np.ndarray, labelled: np.ndarray, draws: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Corrected shares with 95 % intervals.

    The decisions on a class are taken to be as likely in the data set as among the labelled
    images; where they are not, the correction is wrong and its interval does not know.

    Args:
        counts: (V,) decisions counted in a data set.
        labelled: (V, T) decisions counted among labelled images of each true class, each class
            at least once.

    Returns:
        (T,) shares, lower and upper ends.
    """
    rng = np.random.default_rng(seed)
    columns = [rng.dirichlet(column + PRIOR, size=draws) for column in labelled.T]
    confusion = np.stack(columns, axis=-1)  # (draws, V, T)
    drawn = true_shares(rng.dirichlet(counts + PRIOR, size=draws), confusion)  # (draws, T)
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    shares = true_shares(counts.astype(float), labelled / labelled.sum(0))
    # The draws add the prior and the estimate does not: it may lie outside their quantiles.
    return shares, np.minimum(low, shares), np.maximum(high, shares)
