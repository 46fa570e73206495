"""Domain classifiers, one kind a module: a block of the configuration, and what it learns.

One interface for all kinds: labels 0..K-1 in, (N, K) logits out. Logits are raw; calibration is
for `reductions`. What a block answers is in `clipshift.study.config.classifier_base`.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from clipshift.study.config.classifier_base import ClassifierBase, Model

SELECTS = "Selects this kind of classifier."


def logits(spec: "ClassifierBase", model: "Model", x: Any) -> "np.ndarray":
    """(N, K) float64 logits of embeddings (N, D) or encoded images; the largest is the class."""
    return model(x if spec.tunes else x.astype("float64"))


def linear_logits(arrays: "Mapping[str, np.ndarray]", x: "np.ndarray") -> "np.ndarray":
    """(N, K) float64 logits of embeddings (N, D), by weights (K, D) and bias (K,)."""
    scores: np.ndarray = x @ arrays["weights"].T.astype("float64") + arrays["bias"]
    return scores
