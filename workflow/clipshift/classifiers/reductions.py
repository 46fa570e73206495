"""Forms of a domain classifier: which models it is made of, and log-odds per domain out of them.

Every form ends in the same numbers: per image and domain, the calibrated log-odds of the domain.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, logsumexp

from clipshift.core.errors import ClipshiftError
from clipshift.study.config.classifier_base import DOMAINS, ClassifierBase

WHOLE = "domains"


@dataclass(frozen=True)
class Problem:
    """One model of a form.

    Attributes:
        rows: (M,) places of the labelled images that it learns from; one may come twice.
        targets: (M,) int, its classes.
        classes: their number.
    """

    name: str
    rows: np.ndarray
    targets: np.ndarray
    classes: int


# Of a model that learns from no label.
NOTHING = Problem(WHOLE, np.arange(0), np.arange(0), len(DOMAINS))


def problems(own: ClassifierBase, labels: np.ndarray, part: str = "train") -> list[Problem]:
    """The models of a classifier over some labelled images.

    `one_vs_rest` sets the images of a domain (1) against all others, ambiguous ones among them (0).
    `density_ratio` sets the images of a domain (target) against all labelled images, these
    among them (source): the logit difference of such a classifier estimates log p(x | domain) /
    p(x), up to a constant (Sugiyama, Suzuki and Kanamori 2012, chapter 4).

    Args:
        labels: (N,) int, places in `DOMAINS`.
        part: of the labelled concepts that these are, for messages.

    Raises:
        ClipshiftError: a label that no image has, or that all have.
    """
    present = {name for i, name in enumerate(DOMAINS) if (labels == i).any()}
    absent = [d for d in own.detected if d not in present]
    if absent:
        raise ClipshiftError(
            f"no labelled image of the part {part!r} is {' or '.join(absent)}: label more, shift "
            "the shares of the parts, or use another `form`"
        )
    if len(present) == 1:
        raise ClipshiftError(
            f"every labelled image of the part {part!r} is {own.detected[0]}: label others, or "
            "shift the shares of the parts"
        )
    everyone = np.arange(len(labels))
    if own.form == "ternary":
        return [Problem(WHOLE, everyone, labels.astype(int), len(DOMAINS))]
    models = []
    for name in own.detected:
        in_domain = labels == DOMAINS.index(name)
        if own.form == "one_vs_rest":
            models.append(Problem(name, everyone, in_domain.astype(int), 2))
        else:
            rows = np.concatenate([everyone, np.flatnonzero(in_domain)])
            targets = np.concatenate(
                [np.zeros(len(labels), int), np.ones(int(in_domain.sum()), int)]
            )
            models.append(Problem(name, rows, targets, 2))
    return models


def names(own: ClassifierBase) -> list[tuple[str, int]]:
    """Name and number of classes of the models of a classifier."""
    if own.form == "ternary":
        return [(WHOLE, len(DOMAINS))]
    return [(name, 2) for name in own.detected]


def log_odds(form: str, logits: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Domain -> (N,) float32 log-odds, from the calibrated logits of each model.

    >>> two = log_odds("ternary", {WHOLE: np.log(np.array([[0.5, 0.25, 0.25]]))})
    >>> float(two["natural"][0])
    0.0
    """
    if form == "ternary":
        z = logits[WHOLE]
        known = [i for i in range(len(DOMAINS)) if not np.isneginf(z[:, i]).all() or not len(z)]
        # log p - log(1 - p): the softmax's normaliser cancels.
        rest = {i: logsumexp(np.delete(z, i, axis=1), axis=1) for i in known}
        return {DOMAINS[i]: (z[:, i] - rest[i]).astype(np.float32) for i in known}
    return {name: (z[:, 1] - z[:, 0]).astype(np.float32) for name, z in logits.items()}


def log_loss(logits: np.ndarray, targets: np.ndarray, temperature: float = 1.0) -> float:
    """Mean negative log-likelihood of (N, K) logits divided by a temperature."""
    log = log_softmax(logits / temperature, axis=1)
    return float(-log[np.arange(len(targets)), targets].mean())


def temperature(logits: np.ndarray, targets: np.ndarray) -> float:
    """The temperature that fits the validation part best (Guo et al. 2017, section 4.2).

    It moves no decision between classes, and the order of a binary model's scores not at all.
    """
    best = minimize_scalar(
        # Over the logarithm, so that the search is as fine below 1 as above.
        lambda log_t: log_loss(logits, targets, float(np.exp(log_t))),
        bounds=(np.log(1e-3), np.log(1e3)),
        method="bounded",
    )
    return float(np.exp(best.x))
