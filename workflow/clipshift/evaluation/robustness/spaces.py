"""The spaces in which accuracies are lines: logit, probit, or as they are."""

from typing import Literal

import numpy as np
from scipy.special import expit, logit, ndtr, ndtri

Space = Literal["logit", "probit", "linear"]


def forward(space: Space, accuracy: np.ndarray) -> np.ndarray:
    """Accuracies, fractions, in a space; 0 and 1 are infinite in logit and probit space.

    >>> forward("logit", np.array([0.0, 0.5, 1.0])).tolist()
    [-inf, 0.0, inf]
    """
    with np.errstate(divide="ignore"):
        transformed = {"logit": logit, "probit": ndtri, "linear": np.asarray}[space](accuracy)
    value: np.ndarray = np.asarray(transformed, dtype=np.float64)
    return value


def inverse(space: Space, value: np.ndarray) -> np.ndarray:
    """Back to fractions; a line of linear space may leave [0, 1].

    >>> inverse("probit", np.array([-np.inf, 0.0])).tolist()
    [0.0, 0.5]
    """
    accuracy = {"logit": expit, "probit": ndtr, "linear": np.asarray}[space](value)
    back: np.ndarray = np.asarray(accuracy, dtype=np.float64)
    return back
