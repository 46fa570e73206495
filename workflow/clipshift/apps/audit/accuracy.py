"""Accuracy on all, clean and overlapping test items, and whether the last two differ."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import fisher_exact

from clipshift.apps.audit.predictions import Predictions
from clipshift.stats.intervals import clopper_pearson


def holm(p: list[float]) -> list[float]:
    """Holm's step-down adjustment (1979).

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    adjusted, highest = [0.0] * len(p), 0.0
    for rank, index in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        highest = max(highest, min(1.0, (len(p) - rank) * p[index]))
        adjusted[index] = highest
    return adjusted


def subset(correct: np.ndarray) -> dict[str, Any]:
    """n, correct, accuracy and its 95 % Clopper-Pearson interval (null where n is 0)."""
    n, hits = len(correct), int(correct.sum())
    low, high = clopper_pearson(hits, n) if n else (None, None)
    return {"n": n, "correct": hits, "accuracy": hits / n if n else None, "low": low, "high": high}


def by_threshold(
    predictions: Predictions, similarity: np.ndarray, thresholds: Sequence[float]
) -> dict[str, Any]:
    """Accuracy per subset and threshold.

    Args:
        similarity: (M,) float64, each test item's largest similarity to a training item.

    The test of a difference is Fisher's exact one, two-sided, Holm-adjusted over the thresholds
    that leave both subsets non-empty; null at the others.
    """
    correct, nearest = predictions.correct[predictions.known], similarity[predictions.known]
    rows = []
    for threshold in thresholds:
        over = nearest > threshold
        clean, overlapping = subset(correct[~over]), subset(correct[over])
        row: dict[str, Any] = {
            "threshold": threshold, "clean": clean, "overlapping": overlapping,
            "difference": None, "p": None, "p_holm": None,
        }  # fmt: skip
        if clean["n"] and overlapping["n"]:
            table = [[s["correct"], s["n"] - s["correct"]] for s in (clean, overlapping)]
            row["difference"] = clean["accuracy"] - overlapping["accuracy"]
            row["p"] = float(fisher_exact(table).pvalue)
        rows.append(row)
    tested = [row for row in rows if row["p"] is not None]
    for row, adjusted in zip(tested, holm([r["p"] for r in tested]), strict=True):
        row["p_holm"] = adjusted
    return {
        "rows": predictions.rows,
        "used": int(predictions.known.sum()),
        "unused": predictions.unused,
        "rows_left_out": dict(sorted(predictions.left_out.items())),
        "test_items_without": int((~predictions.known).sum()),
        "all": subset(correct),
        "thresholds": rows,
    }
