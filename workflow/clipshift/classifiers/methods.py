"""What classifiers learn from embeddings: `fit` gives arrays, `logits` uses them.

One interface for all kinds: labels 0..K-1 in, (N, K) logits out. Logits are raw; calibration is
for `forms`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from clipshift.study.config.domains import Centroid, Knn, Linear

Arrays = dict[str, np.ndarray]

# Added to every class's count of neighbours: no logit is infinite.
HALF = 0.5
# Rows of a shard whose neighbours are looked for at once.
ROWS = 4096


def fit(spec: Linear | Centroid | Knn, x: np.ndarray, y: np.ndarray, classes: int) -> Arrays:
    """Learn from embeddings.

    Args:
        x: (N, D) float, rows L2-normalised.
        y: (N,) int, 0 to classes - 1, each class at least once.
    """
    if isinstance(spec, Linear):
        return _fit_linear(spec, x, y)
    if isinstance(spec, Centroid):
        return {"means": _unit(np.stack([x[y == c].mean(0) for c in range(classes)]))}
    return {"vectors": x.astype(np.float16), "labels": y.astype(np.int64)}


def logits(spec: Any, arrays: Mapping[str, np.ndarray], x: np.ndarray, classes: int) -> np.ndarray:
    """(N, K) float64 logits of embeddings (N, D); the largest is the class.

    The centroid's are cosines to the class means: the largest is the *nearest* mean. (The paper's
    code once took the farthest.)
    """
    if isinstance(spec, Knn):
        return _neighbours(spec, arrays, x, classes)
    if "means" in arrays:
        return x @ arrays["means"].T.astype(np.float64)
    scores: np.ndarray = x @ arrays["weights"].T.astype(np.float64) + arrays["bias"]
    return scores


def _fit_linear(spec: Linear, x: np.ndarray, y: np.ndarray) -> Arrays:
    """Logistic regression by lbfgs; of two classes, the logit is the second one's."""
    from sklearn.linear_model import LogisticRegression

    weight = "balanced" if spec.weighted else None
    model = LogisticRegression(C=spec.c, class_weight=weight, max_iter=2000)
    model.fit(x, y)
    weights, bias = model.coef_, model.intercept_
    if len(weights) == 1:
        weights = np.concatenate([np.zeros_like(weights), weights])
        bias = np.concatenate([[0.0], bias])
    return {"weights": weights.astype(np.float32), "bias": bias.astype(np.float32)}


def _neighbours(
    spec: Knn, arrays: Mapping[str, np.ndarray], x: np.ndarray, classes: int
) -> np.ndarray:
    from sklearn.neighbors import NearestNeighbors

    base = arrays["vectors"].astype(np.float64)
    search = NearestNeighbors(n_neighbors=min(spec.k, len(base)), algorithm="brute").fit(base)
    parts = []
    for start in range(0, len(x), ROWS):
        near = search.kneighbors(x[start : start + ROWS], return_distance=False)  # (n, k)
        votes = arrays["labels"][near]
        parts.append(np.stack([(votes == c).sum(1) for c in range(classes)], axis=1))
    counts = np.concatenate(parts) if parts else np.zeros((0, classes))
    log: np.ndarray = np.log(counts + HALF)
    return log


def _unit(rows: np.ndarray) -> np.ndarray:
    unit: np.ndarray = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit.astype(np.float32)
