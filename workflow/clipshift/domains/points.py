"""Operating points of one classifier, and its precision and recall on every labelled set.

`python -m clipshift.domains.points --parts JSON --precision P --learned NAME=LABELS,SCORES...
--measured NAME=LABELS,SCORES... --out FILE.json` reads scores and labels only: another precision
computes no score again. `FILE.parquet` holds the precision-recall curves.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from clipshift.config.domains import DETECTED, DOMAINS, Parts
from clipshift.domains.parts import TEST, VALIDATION, read_labelled
from clipshift.errors import ClipshiftError, run
from clipshift.files import named_paths, read_parquet, write_json, write_parquet
from clipshift.intervals import clopper_pearson

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


def sides(
    learned: Mapping[str, Sequence[Path]], others: Mapping[str, Sequence[Path]], parts: Parts
) -> dict[str, dict[str, Side]]:
    """Labelled set -> domain -> truth and scores.

    The learned data sets give the parts `validation` and `test`; their training part is not
    measured. Data sets without a label are absent.

    Args:
        learned, others: name -> its labels, then its scores.
    """
    groups: dict[str, tuple[Sequence[str], np.ndarray, list[Path]]] = {}
    tested = [files[0] for files in others.values()]
    labelled = read_labelled([files[0] for files in learned.values()], tested, parts)
    scored = [file for files in learned.values() for file in files[1:]]
    for part in (VALIDATION, TEST):
        mine = labelled.of(part)
        groups[part] = [str(k) for k in mine.keys], mine.labels, scored
    for name, (table, *files) in others.items():
        rows = read_parquet(table, ["key", "label"]).sort_by("key")
        if len(rows):
            groups[name] = rows["key"].to_pylist(), rows["label"].to_numpy(), files
    found: dict[str, dict[str, Side]] = {}
    for name, (keys, labels, files) in groups.items():
        by_domain = {d: read_scores(files, keys, d) for d in DETECTED}
        found[name] = {
            d: (labels == DOMAINS.index(d), s) for d, s in by_domain.items() if s is not None
        }
    return found


def points(found: dict[str, dict[str, Side]], precision: float) -> dict[str, Any]:
    """Per detected domain its threshold, and what it reaches on every labelled set."""
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
            "sets": {
                name: measured(*by_domain[domain], threshold) for name, by_domain in found.items()
            },
        }
    return result


def curves(found: dict[str, dict[str, Side]]) -> pa.Table:
    """Precision-recall curves of every labelled set that shows both sides of the question."""
    parts = []
    for name, by_domain in found.items():
        for domain, (truth, scores) in by_domain.items():
            if not truth.any() or truth.all():
                continue
            precision, recall, thresholds = curve(truth, scores)
            columns = {
                "set": pa.array([name] * len(thresholds), pa.string()),
                "domain": pa.array([domain] * len(thresholds), pa.string()),
                "threshold": pa.array(thresholds, pa.float32()),
                "precision": pa.array(precision, pa.float64()),
                "recall": pa.array(recall, pa.float64()),
            }
            parts.append(pa.table(columns))
    return pa.concat_tables(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", required=True, help="JSON of domains.parts")
    parser.add_argument("--precision", type=float, required=True)
    parser.add_argument("--learned", action="append", required=True, metavar="NAME=LABELS,SCORES")
    parser.add_argument("--measured", action="append", default=[], metavar="NAME=LABELS,SCORES")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    parts = Parts.model_validate_json(args.parts)
    found = sides(named_paths(args.learned), named_paths(args.measured), parts)
    result = points(found, args.precision)
    write_json(args.out, {"precision": args.precision, "domains": result})
    write_parquet(args.out.with_suffix(".parquet"), curves(found))
    for domain, entry in result.items():
        if not entry["attained"]:
            print(
                f"{domain}: no threshold reaches a precision of {args.precision} on the validation "
                f"part (the best is {entry['best_precision']}); this detector accepts nothing"
            )
    print(json.dumps({d: e["threshold"] for d, e in result.items()}))


if __name__ == "__main__":
    run(main)
