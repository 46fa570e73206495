"""Labelled images split by concept: training, validation and test parts never share one."""

from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_parquet
from clipshift.datasets.select import seeded_order
from clipshift.study.config.classifier_base import DOMAINS
from clipshift.study.config.domains import Parts

TRAIN, VALIDATION, TEST = "train", "validation", "test"


def part_of(concept: str, parts: Parts) -> str:
    """The part of a concept: it follows from the concept and the seed alone."""
    # Not the number that holds concepts out for test sets: the parts must not depend on it.
    place = seeded_order(parts.seed, f"part/{concept}") / 2**64
    if place < parts.test:
        return TEST
    return VALIDATION if place < parts.test + parts.validation else TRAIN


@dataclass(frozen=True)
class Labelled:
    """Labelled images in the order of keys.

    Attributes:
        keys: (N,) str, of one or several data sets.
        labels: (N,) int8, places in `DOMAINS`.
        parts: (N,) str.
        dropped: images of concepts that a test set shows, by label; they are in no part.
    """

    keys: np.ndarray
    labels: np.ndarray
    parts: np.ndarray
    dropped: Mapping[str, int]

    def of(self, part: str) -> "Labelled":
        selected = self.parts == part
        return Labelled(self.keys[selected], self.labels[selected], self.parts[selected], {})

    def without(self, keys: Collection[str]) -> "Labelled":
        rest = ~np.isin(self.keys, list(keys))
        return Labelled(self.keys[rest], self.labels[rest], self.parts[rest], self.dropped)

    def table(self) -> pa.Table:
        """What each image is used for, as a table `key, label, part`."""
        parts = pa.array(self.parts.tolist(), pa.string())
        keys = pa.array(self.keys.tolist(), pa.string())
        return pa.table({"key": keys, "label": pa.array(self.labels, pa.int8()), "part": parts})

    def counts(self) -> dict[str, dict[str, int]]:
        """Part -> label -> images."""
        return {
            part: {
                name: int(((self.parts == part) & (self.labels == i)).sum())
                for i, name in enumerate(DOMAINS)
            }
            for part in (TRAIN, VALIDATION, TEST)
        }


def concepts(rows: Iterable[Mapping[str, Any]]) -> set[str]:
    """The concepts that some labelled images show."""
    return {_concept(row) for row in rows}


def read_labelled(files: Sequence[Path], outside: Set[str], parts: Parts) -> Labelled:
    """Read label tables and split their images into parts.

    Args:
        outside: concepts of test sets; they enter no part, so that every test set shows concepts
            that no classifier learned from.

    Raises:
        ClipshiftError: a key has labels in two data sets.
    """
    rows: dict[str, tuple[int, str]] = {}
    dropped: dict[str, int] = dict.fromkeys(DOMAINS, 0)
    for file in files:
        for row in _rows(file):
            if row["key"] in rows:
                raise ClipshiftError(f"{file}: the key {row['key']!r} has a label elsewhere, too")
            concept = _concept(row)
            if concept in outside:
                dropped[DOMAINS[row["label"]]] += 1
            else:
                rows[row["key"]] = (row["label"], part_of(concept, parts))
    keys = sorted(rows)
    return Labelled(
        np.array(keys, dtype=str),
        np.array([rows[key][0] for key in keys], dtype=np.int8),
        np.array([rows[key][1] for key in keys], dtype=str),
        dropped,
    )


def _rows(file: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = read_parquet(file, ["key", "label", "concept"]).to_pylist()
    return rows


def _concept(row: Mapping[str, Any]) -> str:
    """Of a row of labels; an image without a concept is its own."""
    return str(row["concept"] or row["key"])


def training(labelled: Labelled, size: int | None, balanced: bool, seed: int) -> Labelled:
    """The training part, or what of it a classifier is to learn from, chosen by a seeded hash."""
    # Hashes order the images, so that a smaller size is part of a larger one.
    part = labelled.of(TRAIN)
    names = [str(key) for key in part.keys]
    order = sorted(range(len(names)), key=lambda i: (seeded_order(seed, names[i]), i))
    if balanced:
        counts = np.bincount(part.labels, minlength=len(DOMAINS))
        least = int(counts[counts > 0].min())
        taken = [i for d in range(len(DOMAINS)) for i in _first(order, part.labels, d, least)]
        # By their hashes again, so that `size` cuts all domains alike.
        order = sorted(taken, key=lambda i: (seeded_order(seed, names[i]), i))
    chosen = np.sort(np.array(order[:size] if size else order, dtype=int))
    return Labelled(part.keys[chosen], part.labels[chosen], part.parts[chosen], {})


def _first(order: Sequence[int], labels: np.ndarray, domain: int, count: int) -> list[int]:
    return [i for i in order if labels[i] == domain][:count]
