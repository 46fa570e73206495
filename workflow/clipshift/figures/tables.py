"""Tables of a study, as csv: accuracies, and differences of accuracy on the same images."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clipshift.core.files import read_json, write_csv
from clipshift.core.step import step
from clipshift.evaluation.views import Predictions, measure, same_images
from clipshift.stats.intervals import clopper_pearson, paired_difference

# What an interval of a difference covers: with one seed nothing is known of training.
BOTH, IMAGES = "images and training", "images"


def accuracy_rows(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row per split and test set."""
    return [
        {
            "split": result["name"],
            "test_set": name,
            "points_kept": result["points_kept"],
            "points_pruned": result["points_pruned"],
            "training_samples": result["training_samples"],
            "seeds": len(result["runs"]),
            "n": entry["n"],
            "top1": entry["top1"],
            "top1_low": entry["top1_low"],
            "top1_high": entry["top1_high"],
            "mean_per_class_recall": entry["mean_per_class_recall"],
            "chance": entry["chance"],
            "majority": entry["majority"],
            **trained_on(entry),
        }
        for result in results
        for name, entry in result["sets"].items()
    ]


def trained_on(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Test images whose bytes the models were trained on, and the accuracy without them."""
    contaminated = entry.get("trained_on") or {"images": 0, "without": None}
    without = contaminated["without"] or {"n": None, "top1": None}
    return {
        "images_trained_on": contaminated["images"],
        "n_without": without["n"],
        "top1_without": without["top1"],
    }


def contrast_rows(
    contrasts: Sequence[tuple[str, str, str]], files: Mapping[str, Mapping[str, Sequence[str]]]
) -> list[dict[str, Any]]:
    """One row per contrast: accuracy of a split less that of another, on one test set.

    Args:
        files: split -> test set -> the predictions of its runs.
    """
    rows = []
    for a, b, test_set in contrasts:
        # Read together, so that both splits are checked to speak of the same images.
        runs = same_images([Path(p) for p in [*files[a][test_set], *files[b][test_set]]])
        correct = np.stack([run.correct for run in runs])
        first, second = np.split(correct, [len(files[a][test_set])])
        mean, low, high = paired_difference(first, second)
        rows.append(
            {
                "split": a,
                "less_split": b,
                "test_set": test_set,
                "n": first.shape[1],
                "seeds": len(first),
                "difference": mean,
                "low": low,
                "high": high,
                "interval_of": IMAGES if len(first) == len(second) == 1 else BOTH,
                "note": _note(runs[0], first, second),
            }
        )
    return rows


def _note(run: Predictions, *sides: np.ndarray) -> str:
    """Says where two splits cannot differ, because both answer no better than without training.

    Args:
        sides: (S, N) correctness of each split.
    """
    entry, n = measure(run), sides[0].shape[1]
    lows = [clopper_pearson(min(float(side.mean()) * n, n), n)[0] for side in sides]
    for name, level in (("chance", "chance"), ("the largest class", "majority")):
        if max(lows) <= entry[level]:
            return f"neither split is above {name} ({100 * entry[level]:.1f} %)"
    return ""


@step(version=3)
def accuracy(evaluations: list[Path], out: Path) -> None:
    """Split x test set, with n and intervals."""
    write_csv(out, accuracy_rows([read_json(path) for path in evaluations]))


@step(version=4)
def contrasts(
    contrasts: list[tuple[str, str, str]], files: dict[str, dict[str, list[str]]], out: Path
) -> None:
    """Differences between splits, see `contrast_rows`."""
    write_csv(out, contrast_rows(contrasts, files))
