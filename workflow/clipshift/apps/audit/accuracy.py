"""Accuracy on all, clean and overlapping test items, and whether the last two differ."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import fisher_exact

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_parquet
from clipshift.stats.intervals import clopper_pearson

TRUE, FALSE = {"true", "1", "1.0", "t", "yes"}, {"false", "0", "0.0", "f", "no"}


@dataclass(frozen=True)
class Predictions:
    """Predictions aligned with the test items.

    Attributes:
        known: (M,) bool, whether the item has a prediction.
        correct: (M,) bool, False where unknown.
        labels: the item's class as text, empty where unknown.
        rows, unused: rows read, and those whose key is no test item.
    """

    known: np.ndarray
    correct: np.ndarray
    labels: list[str]
    rows: int
    unused: int


def read_predictions(path: Path, keys: list[str], test_set: str | None) -> Predictions:
    """Read predictions and align them with the test keys.

    Raises:
        ClipshiftError: columns are missing, a key occurs twice, a value is not true or false, or
            no key is a test item's.
    """
    columns = _columns(path)
    name = next((c for c in ("key", "test_key") if c in columns), None)
    if name is None:
        raise ClipshiftError(f"{path} has neither a column key nor test_key: {sorted(columns)}")
    if "correct" not in columns and not {"label", "predicted"} <= set(columns):
        raise ClipshiftError(
            f"{path} needs the column correct, or label and predicted; it has {sorted(columns)}"
        )
    if test_set is not None:
        if "test_set" not in columns:
            raise ClipshiftError(f"{path} has no column test_set, by which --test-set chooses")
        chosen = [i for i, value in enumerate(columns["test_set"]) if str(value) == test_set]
        columns = {c: [values[i] for i in chosen] for c, values in columns.items()}
        if not chosen:
            raise ClipshiftError(f"{path} has no row with the test_set {test_set!r}")
    row_of = _rows_by_key(path, columns[name], "test_set" in columns and test_set is None)
    rows = np.array([row_of.get(key, -1) for key in keys])
    known = rows >= 0
    if not known.any():
        raise ClipshiftError(
            f"{path}: none of its {len(row_of)} keys is a test item's (the first is "
            f"{next(iter(row_of), None)!r}, the first test item is {keys[0]!r})"
        )
    correct = np.array(
        [bool(k) and _correct(path, columns, int(r)) for k, r in zip(known, rows, strict=True)]
    )
    return Predictions(
        known, correct, _labels(columns, rows), len(row_of), len(row_of) - int(known.sum())
    )


def _columns(path: Path) -> dict[str, list[Any]]:
    if path.suffix.lower() == ".csv":
        try:
            with path.open(newline="", encoding="utf-8-sig") as stream:
                reader = csv.DictReader(stream, strict=True)
                rows = list(reader)
        except (csv.Error, UnicodeDecodeError) as error:
            raise ClipshiftError(f"{path} is not a readable csv file: {error}") from error
        for line, row in enumerate(rows, 2):
            if None in row or None in row.values():
                raise ClipshiftError(
                    f"{path}: row {line} has another number of fields than the header"
                )
        return {str(name): [row[name] for row in rows] for name in reader.fieldnames or []}
    found: dict[str, list[Any]] = read_parquet(path).to_pydict()
    return found


def _rows_by_key(path: Path, keys: list[Any], several_sets: bool) -> dict[str, int]:
    row_of: dict[str, int] = {}
    for row, key in enumerate(map(str, keys)):
        if key in row_of:
            remedy = "choose one by --test-set" if several_sets else "each key must occur once"
            raise ClipshiftError(
                f"{path}: the key {key!r} occurs twice (rows {row_of[key]} and {row}); {remedy}"
            )
        row_of[key] = row
    return row_of


def _correct(path: Path, columns: dict[str, list[Any]], row: int) -> bool:
    if "correct" not in columns:
        return str(columns["label"][row]) == str(columns["predicted"][row])
    text = str(columns["correct"][row]).strip().lower()
    if text not in TRUE | FALSE:
        raise ClipshiftError(f"{path}: row {row} has correct = {text!r}, neither true nor false")
    return text in TRUE


def _labels(columns: dict[str, list[Any]], rows: np.ndarray) -> list[str]:
    name = next((c for c in ("class_name", "class", "label") if c in columns), None)
    if name is None:
        return [""] * len(rows)
    return [str(columns[name][row]) if row >= 0 else "" for row in rows]


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
        "test_items_without": int((~predictions.known).sum()),
        "all": subset(correct),
        "thresholds": rows,
    }
