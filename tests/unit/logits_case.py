"""Stored logits of made-up models."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clipshift.evaluation.logits import store


def said(
    rows: Path, scores: np.ndarray, labels: np.ndarray, keys: Sequence[str] = (), **record: Any
) -> Path:
    """Logits of (N, C) scores; the table of their predictions."""
    keys = keys or [f"k{i:04d}" for i in range(len(scores))]
    identity: dict[str, Any] = {
        "run": rows.stem, "split": rows.stem.split("-")[0], "seed": 0, "model": "m", "head": "own",
        "objective": "clip", "samples_seen": 100, "training_images": 40, "precision": "fp32",
        "batch": 8, "checkpoint_sha256": f"sha of {rows.stem}",
        "classes": [f"c{i}" for i in range(scores.shape[1])],
    }  # fmt: skip
    store(rows, keys, scores, dict(zip(keys, labels.tolist(), strict=True)), identity | record)
    return rows


def right(
    rows: Path, correct: np.ndarray, classes: Sequence[str] = ("a", "b"), **record: Any
) -> Path:
    """Logits of a model that is right about some images, in shuffled order."""
    n = len(correct)
    order = np.random.default_rng(n).permutation(n)
    labels = np.arange(n) % 2
    scores = np.zeros((n, len(classes)), np.float32)
    scores[np.arange(n), np.where(correct, labels, 1 - labels)] = 1
    keys = [f"k{i:04d}" for i in order]
    return said(rows, scores[order], labels[order], keys, classes=list(classes), **record)
