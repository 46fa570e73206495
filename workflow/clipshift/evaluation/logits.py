"""Run a model once over test sets, and store what it says: logits, keys, labels, and how.

Per set an `.npy`, (N, C) float32, a `.parquet`, a row per image in the same order
(`views.SCHEMA`), and a `.json`, how they were made. What is stored of a set is the same whatever
other sets the job has.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from clipshift.core.counts import TOLERATED, tolerate
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_json, sha256_file, write_json, write_npy, write_parquet
from clipshift.core.step import step
from clipshift.datasets.images import colour
from clipshift.datasets.labels import check_labels
from clipshift.datasets.tar_paths import data_folder, read_tars, tars_of
from clipshift.evaluation import protocols
from clipshift.evaluation.views import SCHEMA, SCHEMA_VERSION, ranked
from clipshift.study.config.causes import Head

# The name of a model's own protocol.
OWN = "own"


@dataclass(frozen=True)
class How:
    """How a model is evaluated.

    Attributes:
        protocol: its name; head: its block (None: the model's own).
        background: behind transparent pixels; undecodable: the share of a test set's images that
            may be left out (see `core.counts.tolerate`).
        epoch: after which the model is evaluated, from 1; 0: at its end.
    """

    batch: int
    precision: str = "fp32"
    protocol: str = OWN
    head: Head | None = None
    background: str = "#ffffff"
    undecodable: float = TOLERATED
    epoch: int = 0


@dataclass(frozen=True)
class Files:
    """Files of a test set.

    Attributes:
        folder: of the set; tars: a word, see `tar_paths`.
        answers: its entry in `causes.answers`, where the protocol reads it.
        rows: the table to write, see `store`.
    """

    folder: Path
    tars: str
    answers: Path | None
    rows: Path


def store(
    rows: Path, keys: Sequence[str], scores: np.ndarray, labels: Mapping[str, int],
    record: dict[str, Any],
) -> None:  # fmt: skip
    """Write the logits of one model on one test set, in the order of keys.

    Args:
        rows: the parquet; the logits and the record lie beside it.
        scores: (N, C), rows as `keys`.
        record: must name the `classes`.

    Raises:
        ClipshiftError: a score is NaN or infinite (the model diverged).
    """
    if not np.isfinite(scores).all():
        raise ClipshiftError(
            f"{record.get('run', rows.stem)} gives NaN or infinite scores: its training diverged; "
            "train it with a lower learning rate, or another seed"
        )
    order = np.argsort(np.array(keys))
    logits = scores[order].astype(np.float32)
    names = [keys[i] for i in order]
    label = np.array([labels[key] for key in names])
    predicted, rank = ranked(logits, label)
    columns = (names, label, predicted, rank, logits.max(1))
    arrays = [pa.array(c, f.type) for c, f in zip(columns, SCHEMA, strict=True)]
    write_npy(rows.with_suffix(".npy"), logits)
    write_parquet(rows, pa.Table.from_arrays(arrays, schema=SCHEMA))
    write_json(rows.with_suffix(".json"), record)


@step(version=1)
def evaluate(
    record: Path, weights: Path, tests: dict[str, Files], how: How,
    probe: protocols.Labelled | None = None,
) -> None:  # fmt: skip
    """Run one model over test sets, and store what it says of each.

    Images that cannot be decoded are left out; the record names them.

    Args:
        record: of its training.
        weights: of the model, or the folder of those after every epoch.
        probe: what a linear probe learns from.

    Raises:
        ClipshiftError: too many images of a set cannot be decoded.
    """
    background = colour(how.background)
    trained = read_json(record)
    if how.epoch:
        weights = weights / f"{how.epoch}.pt"
        trained["samples_seen"] = trained["epochs"][str(how.epoch)]["samples_seen"]
    with tempfile.TemporaryDirectory(prefix="clipshift-") as scratch:
        model = protocols.load(trained, weights, Path(scratch), how.precision)
    score = protocols.scorer(model, how.head, how.batch, probe, background)
    identity = {key: trained[key] for key in ("run", "split", "seed", "model", "samples_seen")}
    identity |= {"epoch": how.epoch} if how.epoch else {}
    identity |= {
        "head": how.protocol,
        "objective": trained.get("controlled", {}).get("objective", "clip"),
        "training_images": trained["split_samples"],
        "checkpoint_sha256": sha256_file(weights),
        "precision": how.precision,
        "batch": how.batch,
    }
    text = protocols.reads_text(model, how.head)
    for test_set, files in tests.items():
        tars = tars_of([files.tars], data_folder())
        names, labels = check_labels(files.folder, tars)
        asked = protocols.asked(files.folder, names, files.answers, text)
        seen = protocols.features(model, read_tars(tars), how.batch, background)
        tolerate(seen.left_out, len(labels), f"images of the set {test_set}", how.undecodable)
        scores, said = score(seen.x, asked)
        said |= {"left_out": seen.left_out} if seen.left_out else {}
        entry = {"schema_version": SCHEMA_VERSION, **identity, "test_set": test_set}
        entry |= {"classes": names, "protocol": said.pop("head"), **said}
        store(files.rows, seen.keys, scores, labels, entry)
