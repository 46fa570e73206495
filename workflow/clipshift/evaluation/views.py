"""Queries over stored logits: predictions, accuracies with intervals, subsets, seeds joined.

A *view* is a test set seen by some of its images and some of its classes: the whole set, the axis
of fewer classes, a clean set. Every accuracy that is reported is one of a view, computed here from
what the model said once; ties go to the lower class index, and NaN never was stored.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_json, read_parquet
from clipshift.stats.intervals import clopper_pearson
from clipshift.study.config.causes import Subset

Value = dict[str, Any]
# Of stored logits and of what is said of them; raised when a reader would have to change.
SCHEMA_VERSION = 2
# A row per image, beside its logits.
SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("label", pa.int32()),
        ("predicted", pa.int32()),
        ("rank", pa.int32()),  # classes before the true one; 0 where it is predicted
        ("score", pa.float32()),  # of the predicted class
    ]
)
IMAGENET = 1000
# What all seeds of a condition share.
IDENTITY = ("split", "model", "head", "objective", "samples_seen", "training_images")
SHARED = ("precision", "batch")


@dataclass(frozen=True)
class Predictions:
    """What a model says of the images of a view, in the order of their keys.

    Attributes:
        keys: (n,) str; label, predicted: (n,) class indices of the whole set; rank: (n,) how many
            classes of the view come before the true one.
        classes: of the view, by name, in index order.
        record: how the logits were made (see `logits`).
    """

    keys: np.ndarray
    label: np.ndarray
    predicted: np.ndarray
    rank: np.ndarray
    classes: list[str]
    record: Value

    @property
    def correct(self) -> np.ndarray:
        """(n,) bool."""
        top1: np.ndarray = self.rank == 0
        return top1

    def of(self, keys: Collection[str], inside: bool = True) -> "Predictions":
        """Those of some images, or of the others; the classes stay."""
        selected = np.isin(self.keys, list(keys), invert=not inside)
        return Predictions(
            self.keys[selected], self.label[selected], self.predicted[selected],
            self.rank[selected], self.classes, self.record,
        )  # fmt: skip


def ranked(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N,) predicted class, and (N,) rank of the true one, from (N, C) scores.

    Of equal scores the lower class index comes first.

    >>> [x.tolist() for x in ranked(np.array([[1.0, 1.0, 0.0]] * 2), np.array([1, 0]))]
    [[0, 0], [1, 0]]
    """
    true = scores[np.arange(len(scores)), labels][:, None]  # (N, 1)
    # (N, C): of equal scores those of lower classes come first, as argmax has it.
    before = np.arange(scores.shape[1])[None, :] < labels[:, None]
    rank = (scores > true).sum(1) + ((scores == true) & before).sum(1)
    return scores.argmax(1), rank


def read(rows: Path) -> Predictions:
    """The view of a whole set, from the table that lies beside its logits."""
    table = read_parquet(rows, ["key", "label", "predicted", "rank"])
    record = read_json(rows.with_suffix(".json"))
    label, predicted, rank = (table[c].to_numpy() for c in ("label", "predicted", "rank"))
    keys = np.array(table["key"].to_pylist(), dtype=str)
    return Predictions(keys, label, predicted, rank, record["classes"], record)


def view(
    rows: Path, images: Collection[str] | None, classes: Collection[int] | Collection[list[int]]
) -> Predictions:
    """A view of some classes, from the logits; the classes of its images must be among them.

    Args:
        images: keys; None: all images of the classes.
        classes: their indices in the set; those of a list are one class, its largest score counts.
    """
    whole = read(rows)
    groups = sorted(c if isinstance(c, list) else [c] for c in classes)
    place = np.full(len(whole.classes), -1)  # of each class of the set among those of the view
    for number, group in enumerate(groups):
        place[group] = number
    selected = place[whole.label] >= 0
    if images is not None:
        selected &= np.isin(whole.keys, list(images))
    # Rows first: of a mapped file only the pages of the chosen images are read.
    logits = np.load(rows.with_suffix(".npy"), mmap_mode="r")[selected]
    scores = np.stack([logits[:, group].max(1) for group in groups], axis=1)
    label = place[whole.label[selected]]
    predicted, rank = ranked(scores, label)
    first = np.array([group[0] for group in groups])
    names = [" or ".join(whole.classes[i] for i in group) for group in groups]
    return Predictions(
        whole.keys[selected], first[label], first[predicted], rank, names, whole.record
    )


def measure(p: Predictions) -> Value:
    """Top-1, top-5, mean per-class recall, with n and the Clopper-Pearson interval of top-1."""
    n, correct = len(p.keys), int(p.correct.sum())
    low, high = clopper_pearson(correct, n)
    # Classes without images have no recall, and no part in its mean.
    _, place, counts = np.unique(p.label, return_inverse=True, return_counts=True)
    right = np.bincount(place, weights=p.correct, minlength=len(counts))
    return {
        "n": n,
        "correct": correct,
        "top1": correct / n,
        "top1_low": low,
        "top1_high": high,
        "top5": float((p.rank < 5).mean()) if len(p.classes) > 5 else None,
        "mean_per_class_recall": float((right / counts).mean()),
        "chance": 1 / len(p.classes),
        "majority": float(counts.max() / n),  # always naming the largest class
    }


def entry(p: Predictions) -> Value:
    """The accuracies of a view, and what they were measured on."""
    shown = ("templates", "words", "left_out")
    shared = {key: p.record[key] for key in shown if key in p.record}
    return measure(p) | {"classes": p.classes} | shared


def joined(entries: Mapping[int, Value]) -> Value:
    """The mean over seeds of the accuracy on a view, with its interval over test images.

    Args:
        entries: seed -> the accuracies of its run.
    """
    seeds = list(entries.values())
    n, top1 = seeds[0]["n"], float(np.mean([e["top1"] for e in seeds]))
    low, high = clopper_pearson(min(top1 * n, n), n)
    same = ("chance", "majority", "classes", "templates", "words", "left_out")
    return {
        "n": n,
        "top1": top1,
        "top1_low": low,
        "top1_high": high,
        "mean_per_class_recall": float(np.mean([e["mean_per_class_recall"] for e in seeds])),
        "top1_of_seeds": {str(seed): e["top1"] for seed, e in entries.items()},
    } | {key: seeds[0][key] for key in same if key in seeds[0]}


def seeds_of(paths: Sequence[Path]) -> dict[int, Predictions]:
    """Seed -> the predictions of its run on one test set, checked to speak of one thing.

    Raises:
        ClipshiftError: the runs differ in more than their seed, or in their test images.
    """
    runs = same_images(paths)
    first = runs[0]
    for path, one in zip(paths, runs, strict=True):
        for key in (*IDENTITY, *SHARED):
            if one.record.get(key) != first.record.get(key):
                raise ClipshiftError(
                    f"{path}: {key} is {one.record.get(key)!r}, but {first.record.get(key)!r} in "
                    f"{paths[0]}: these differ in more than the seed; delete both and run again"
                )
    return {one.record["seed"]: one for one in runs}


def same_images(paths: Sequence[Path]) -> list[Predictions]:
    """The predictions of some runs on one test set.

    Raises:
        ClipshiftError: the files speak of different images.
    """
    runs = [read(path) for path in paths]
    for path, one in zip(paths, runs, strict=True):
        if not np.array_equal(one.keys, runs[0].keys):
            raise ClipshiftError(f"{path}: other images than in {paths[0]}; delete both")
    return runs


def correct_images(paths: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """The keys of one test set, sorted, and (S, N) bool: correctness per run and image.

    Raises:
        ClipshiftError: the files speak of different images.
    """
    runs = same_images([Path(path) for path in paths])
    return runs[0].keys.tolist(), np.stack([one.correct for one in runs])


def restricted(rows: Path, subset: Subset) -> Predictions:
    """The view of a test set's subset of classes: their images, and their names as answers.

    Raises:
        ClipshiftError: it names a class that the set lacks.
    """
    names = read_json(rows.with_suffix(".json"))["classes"]
    if isinstance(subset.classes, str):
        if len(names) != IMAGENET:
            raise ClipshiftError(f"causes.subsets: {subset.of} has other classes than ImageNet")
        places = published(subset.classes)
        return view(rows, None, list(places.values()) if isinstance(places, dict) else places)
    if odd := [c for c in subset.classes if names.count(c) != 1]:
        raise ClipshiftError(f"causes.subsets: no or several classes of {subset.of} are {odd}")
    return view(rows, None, [i for i, name in enumerate(names) if name in subset.classes])


def published(name: str) -> list[int] | dict[str, list[int]]:
    """The classes of ImageNet-A or -R among ImageNet's, in the order of their labels.

    Of ObjectNet: class, in lower case -> the one to three of ImageNet's that stand for it.
    """
    text = files("clipshift").joinpath("data/imagenet_class_indices.json").read_text()
    places: list[int] | dict[str, list[int]] = json.loads(text)[name]
    return places
