"""Operating points of one classifier, and its precision and recall on labelled images.

Thresholds are chosen on the validation part of the labelled images. The file holds them, and what
they reach on the validation and the test part. Only scores are read: another precision computes
none again. Figures and tables compute what thresholds reach on test sets (`read_sides`,
`measured`, `curve`).
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from clipshift.classifiers.folds import TEST, VALIDATION
from clipshift.core.counts import tolerate
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import Files, read_parquet, write_json
from clipshift.core.step import step
from clipshift.stats.intervals import clopper_pearson, lower_bound
from clipshift.study.config.classifier_base import DETECTED, DOMAINS
from clipshift.study.config.domains import images_needed

LOG = logging.getLogger(__name__)

Side = tuple[np.ndarray, np.ndarray]  # is it of the domain (N,) bool; score (N,) float


def curve(truth: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision and recall of `score >= threshold`, and the thresholds, ascending."""
    from sklearn.metrics import precision_recall_curve

    precision, recall, thresholds = precision_recall_curve(truth, scores)
    # scikit-learn appends the point (1, 0), which has no threshold.
    return precision[:-1], recall[:-1], thresholds


def operating_point(
    truth: np.ndarray, scores: np.ndarray, precision: float, confidence: float | None = None
) -> float | None:
    """The lowest threshold with at least this precision; None where no threshold reaches it.

    With `confidence` the one-sided lower confidence bound of the precision (Clopper-Pearson) has
    to reach it. The lowest threshold that is precise on a few thousand images is so partly by
    chance: on other images its precision is below the target in half of the cases.

    >>> float(operating_point(np.array([0, 1, 0, 1]), np.array([0.1, 0.2, 0.3, 0.4]), 0.6))
    0.2
    >>> operating_point(np.array([1, 0]), np.array([0.1, 0.2]), 0.98) is None
    True
    """
    if not truth.any():
        return None
    reached, _, thresholds = curve(truth, scores)
    if confidence is not None:
        accepted = len(scores) - np.searchsorted(np.sort(scores), thresholds)
        reached = lower_bound(np.rint(reached * accepted), accepted, confidence)
    # Precision is not monotone in the threshold: the lowest that reaches it accepts most.
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
    for name, total in (("precision", entry["accepted"]), ("recall", entry["positives"])):
        low, high = clopper_pearson(right, total) if total else (None, None)
        entry |= {name: right / total if total else None, f"{name}_low": low, f"{name}_high": high}
    return entry


def read_scores(files: Sequence[Path], keys: Sequence[str], domain: str) -> np.ndarray | None:
    """(N,) float32 scores of some keys, found by key; None where the form knows no such domain.

    Raises:
        ClipshiftError: a labelled image has no score.
    """
    score_of: dict[str, float | None] = {}
    wanted = pa.array(sorted(keys), pa.string())
    for file in files:
        rows = read_parquet(file, ["key", domain])
        # File by file: the scores of a whole pool are never in memory.
        rows = rows.filter(pa.compute.is_in(rows["key"], value_set=wanted))
        score_of |= dict(zip(rows["key"].to_pylist(), rows[domain].to_pylist(), strict=True))
    if missing := set(keys) - score_of.keys():
        raise ClipshiftError(
            f"{len(missing)} labelled images, e.g. {min(missing)!r}, have no score in {files[0]}"
        )
    values = [score_of[key] for key in keys]
    return None if None in values else np.array(values, dtype=np.float32)


def read_sides(table: Path, scores: Sequence[Path], part: str | None = None) -> dict[str, Side]:
    """Detected domain -> truth and scores of labelled images.

    Domains that the classifier's form does not know are absent, and all of them where no image
    has a label.

    Args:
        table: a table of labels; or, with `part`, of the parts that a classifier was fitted on.
    """
    rows = read_parquet(table, ["key", "label", *["part"] * (part is not None)]).sort_by("key")
    if part is not None:
        rows = rows.filter(pa.compute.equal(rows["part"], part))
    rows = rows.filter(pa.compute.is_in(rows["key"], value_set=_scored(rows["key"], scores)))
    keys, labels = rows["key"].to_pylist(), rows["label"].to_numpy()
    by_domain = {d: read_scores(scores, keys, d) for d in DETECTED * bool(keys)}
    return {d: (labels == DOMAINS.index(d), s) for d, s in by_domain.items() if s is not None}


def _scored(keys: pa.ChunkedArray, scores: Sequence[Path]) -> pa.Array:
    """Those of some keys that have scores: all but the few whose images cannot be decoded."""
    there: set[str] = set()
    for file in scores:
        found = read_parquet(file, ["key"])["key"]
        there.update(found.filter(pa.compute.is_in(found, value_set=keys.unique())).to_pylist())
    missing = dict.fromkeys(set(keys.to_pylist()) - there, "no score")
    tolerate(missing, len(keys), f"labelled images of {', '.join(map(str, scores[:1]))}")
    return pa.array(sorted(there), pa.string())


def points(
    sides: Mapping[str, Mapping[str, Side]], precision: float, confidence: float | None = None
) -> dict[str, Any]:
    """Per detected domain its threshold, and what it reaches on every part.

    `bound_holds` says whether it was chosen by the lower confidence bound; where the labels are
    too few for that, it is the `point_estimate`, which stands beside it in any case.
    """
    result: dict[str, Any] = {}
    for domain in DETECTED:
        if domain not in sides[VALIDATION]:
            continue
        truth, scores = sides[VALIDATION][domain]
        estimate = operating_point(truth, scores, precision)
        held = None if confidence is None else operating_point(truth, scores, precision, confidence)
        threshold = estimate if held is None else held
        best = float(curve(truth, scores)[0].max()) if truth.any() else None
        result[domain] = {
            "threshold": threshold,
            "attained": threshold is not None,
            "bound_holds": held is not None,
            "point_estimate": {
                "threshold": estimate,
                "parts": {n: measured(*one[domain], estimate) for n, one in sides.items()},
            },
            "best_precision": best,
            "parts": {name: measured(*one[domain], threshold) for name, one in sides.items()},
        }
    return result


@step(version=3)
def write_points(
    parts: Path, scores: Files, precision: float, confidence: float | None, out: Path
) -> None:
    """Write the operating points of a classifier.

    Args:
        parts: how its labelled images were used.
        scores: of the data sets that it learned from.
    """
    sides = {part: read_sides(parts, scores, part) for part in (VALIDATION, TEST)}
    result = points(sides, precision, confidence)
    record = {"precision": precision, "confidence": confidence, "domains": result}
    write_json(out, record)
    for domain, entry in result.items():
        if not entry["attained"]:
            LOG.info(
                f"{domain}: no threshold reaches a precision of {precision} on the validation "
                f"part (the best is {entry['best_precision']}); this detector accepts nothing"
            )
        elif confidence is not None and not entry["bound_holds"]:
            LOG.info(
                f"{domain}: the validation part has {entry['parts'][VALIDATION]['positives']} "
                f"{domain} images, too few for a lower bound of {precision} at {confidence} "
                f"confidence (at least {images_needed(precision, confidence)} accepted without an "
                "error); the threshold is the point estimate, whose precision is lower on other "
                "images in half of the cases"
            )
