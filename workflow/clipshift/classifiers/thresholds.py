"""Operating points of one classifier, and its precision and recall on labelled pictures.

`python -m clipshift.classifiers.thresholds --parts FILE --scores FILE... --precision P --out FILE.json`
chooses thresholds on the validation part of what the classifier was fitted on, and says what they
reach there and on the test part. It reads scores only: another precision computes none again. What
they reach on test sets is asked by those who show it (`read_sides`, `measured`, `curve`).
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from clipshift.classifiers.folds import TEST, VALIDATION
from clipshift.core.brace_ranges import spread
from clipshift.core.errors import ClipshiftError, run
from clipshift.core.files import read_parquet, write_json
from clipshift.stats.intervals import clopper_pearson
from clipshift.study.config.domains import DETECTED, DOMAINS

Side = tuple[np.ndarray, np.ndarray]  # is it of the domain (N,) bool; score (N,) float


def curve(truth: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision and recall of `score >= threshold`, and the thresholds, ascending."""
    from sklearn.metrics import precision_recall_curve

    precision, recall, thresholds = precision_recall_curve(truth, scores)
    return precision[:-1], recall[:-1], thresholds


def operating_point(truth: np.ndarray, scores: np.ndarray, precision: float) -> float | None:
    """The lowest threshold with at least this precision; None where no threshold reaches it.

    >>> float(operating_point(np.array([0, 1, 0, 1]), np.array([0.1, 0.2, 0.3, 0.4]), 0.6))
    0.2
    >>> operating_point(np.array([1, 0]), np.array([0.1, 0.2]), 0.98) is None
    True
    """
    if not truth.any():
        return None
    reached, _, thresholds = curve(truth, scores)
    good = np.flatnonzero(reached >= precision)
    return float(thresholds[good[0]]) if good.size else None


def measured(truth: np.ndarray, scores: np.ndarray, threshold: float | None) -> dict[str, Any]:
    """Precision and recall at a threshold with Clopper-Pearson intervals.

    Precision is null where nothing is accepted, recall where nothing is of the domain.
    """
    accepted = np.zeros(len(truth), bool) if threshold is None else scores >= threshold
    right = int((accepted & truth).sum())
    entry: dict[str, Any] = {"n": len(truth), "accepted": int(accepted.sum()), "right": right}
    entry["positives"] = int(truth.sum())
    for name, of in (("precision", entry["accepted"]), ("recall", entry["positives"])):
        low, high = clopper_pearson(right, of) if of else (None, None)
        entry |= {name: right / of if of else None, f"{name}_low": low, f"{name}_high": high}
    return entry


def read_scores(files: Sequence[Path], keys: Sequence[str], domain: str) -> np.ndarray | None:
    """(N,) float32 scores of some keys, found by key; None where the form knows no such domain.

    Raises:
        ClipshiftError: a labelled picture has no score.
    """
    found: dict[str, float | None] = {}
    wanted = pa.array(sorted(keys), pa.string())
    for file in files:
        rows = read_parquet(file, ["key", domain])
        rows = rows.filter(pa.compute.is_in(rows["key"], value_set=wanted))
        found |= dict(zip(rows["key"].to_pylist(), rows[domain].to_pylist(), strict=True))
    if missing := set(keys) - found.keys():
        raise ClipshiftError(
            f"{len(missing)} labelled pictures, e.g. {min(missing)!r}, have no score in "
            f"{files[0]}; they were not embedded, so take them out of the labels"
        )
    values = [found[key] for key in keys]
    return None if None in values else np.array(values, dtype=np.float32)


def read_sides(table: Path, scores: Sequence[Path], part: str | None = None) -> dict[str, Side]:
    """Detected domain -> truth and scores of labelled pictures.

    Domains that the classifier's form does not know are absent, and all of them where no picture
    has a label.

    Args:
        table: a table of labels; or, with `part`, of the parts that a classifier was fitted on.
    """
    rows = read_parquet(table, ["key", "label", *["part"] * (part is not None)]).sort_by("key")
    if part is not None:
        rows = rows.filter(pa.compute.equal(rows["part"], part))
    keys, labels = rows["key"].to_pylist(), rows["label"].to_numpy()
    by_domain = {d: read_scores(scores, keys, d) for d in DETECTED * bool(keys)}
    return {d: (labels == DOMAINS.index(d), s) for d, s in by_domain.items() if s is not None}


def points(found: Mapping[str, Mapping[str, Side]], precision: float) -> dict[str, Any]:
    """Per detected domain its threshold, and what it reaches on every part."""
    result: dict[str, Any] = {}
    for domain in DETECTED:
        if domain not in found[VALIDATION]:
            continue
        truth, scores = found[VALIDATION][domain]
        threshold = operating_point(truth, scores, precision)
        best = float(curve(truth, scores)[0].max()) if truth.any() else None
        result[domain] = {
            "threshold": threshold,
            "attained": threshold is not None,
            "best_precision": best,
            "parts": {
                name: measured(*by_domain[domain], threshold) for name, by_domain in found.items()
            },
        }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", type=Path, required=True, help="the classifier's parts")
    parser.add_argument("--scores", nargs="+", required=True, help="of what it was fitted on")
    parser.add_argument("--precision", type=float, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    scores = [path for word in args.scores for path in spread(word)]
    found = {part: read_sides(args.parts, scores, part) for part in (VALIDATION, TEST)}
    result = points(found, args.precision)
    write_json(args.out, {"precision": args.precision, "domains": result})
    for domain, entry in result.items():
        if not entry["attained"]:
            print(
                f"{domain}: no threshold reaches a precision of {args.precision} on the validation "
                f"part (the best is {entry['best_precision']}); this detector accepts nothing"
            )
    print(json.dumps({d: e["threshold"] for d, e in result.items()}))


if __name__ == "__main__":
    run(main)
