"""Run a model once over test sets, and store what it says: logits, keys, labels, and how.

`python -m clipshift.evaluation.logits --record FILE --weights FILE --set NAME=FOLDER,WORD...
--evaluation JSON [--head NAME --block JSON] [--answers NAME=FILE...] [--chosen FILE --tar WORD...
--classes WORD] --name NAME --out FOLDER` writes per set `FOLDER/{set}/NAME.npy`, (N, C) float32,
`.parquet`, a row per image in the same order (`views.SCHEMA`), and `.json`, how they were made.
What is stored of a set is the same whatever other sets the job has.
"""

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import TypeAdapter

from clipshift.core.errors import ClipshiftError, run
from clipshift.core.files import (
    named_paths,
    read_json,
    sha256_file,
    write_json,
    write_npy,
    write_parquet,
)
from clipshift.datasets.captions.schema import classes_of
from clipshift.datasets.labels import check_labels
from clipshift.datasets.tar_paths import add_data, read_tars, tars_of
from clipshift.evaluation import protocols
from clipshift.evaluation.views import SCHEMA, SCHEMA_VERSION, ranked
from clipshift.study.config.causes import Head, LinearHead, PromptHead

# The name of a model's own protocol.
OWN = "own"


@dataclass(frozen=True)
class How:
    """How a model is evaluated.

    Attributes:
        protocol: its name; head: its block (None: the model's own).
        answers: test set -> JSON of its entry in `causes.answers`.
        labelled: what a linear probe learns from.
    """

    batch: int
    precision: str = "fp32"
    protocol: str = OWN
    head: PromptHead | LinearHead | None = None
    answers: Mapping[str, Path] = field(default_factory=dict)
    labelled: protocols.Labelled = field(default_factory=lambda: protocols.Labelled(None, [], []))


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


def evaluate(
    record: Path, weights: Path, sets: Mapping[str, tuple[Path, Sequence[Path]]], how: How,
    name: str, out: Path,
) -> None:  # fmt: skip
    """Run one model over test sets, and store what it says of each.

    Args:
        record: of its training.
        sets: name -> folder, tars.
        name: of the evaluation: the files are `out/{set}/{name}.npy` and so on.
    """
    trained = read_json(record)
    with tempfile.TemporaryDirectory(prefix="clipshift-") as scratch:
        model = protocols.load(trained, weights, Path(scratch))
    score = protocols.scorer(model, how.head, how.batch, how.labelled)
    identity = {key: trained[key] for key in ("run", "split", "seed", "model", "samples_seen")}
    identity |= {
        "head": how.protocol,
        "objective": trained.get("controlled", {}).get("objective", "clip"),
        "training_images": trained["split_samples"],
        "checkpoint_sha256": sha256_file(weights),
        "precision": how.precision,
        "batch": how.batch,
    }
    text = protocols.reads_text(model, how.head)
    for test_set, (folder, tars) in sets.items():
        names, labels = check_labels(folder, tars)
        asked = protocols.asked(folder, names, how.answers.get(test_set), text)
        keys, x = protocols.features(model, read_tars(tars), how.batch)
        scores, said = score(x, asked)
        entry = {"schema_version": SCHEMA_VERSION, **identity, "test_set": test_set}
        entry |= {"classes": names, "protocol": said.pop("head"), **said}
        store(out / test_set / f"{name}.parquet", keys, scores, labels, entry)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--record", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--set", action="append", required=True, metavar="NAME=FOLDER,WORD")
    parser.add_argument("--answers", action="append", default=[], metavar="NAME=FILE")
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--precision", required=True)
    parser.add_argument("--head", default=OWN, help="name of the protocol")
    parser.add_argument("--block", help="JSON of the protocol's block (default: the model's own)")
    parser.add_argument("--chosen", type=Path, help="labelled training pictures, for a probe")
    parser.add_argument("--tar", action="append", default=[], help="their tars")
    parser.add_argument("--classes", default="[]", help="JSON of the classes, or a file of them")
    add_data(parser)
    parser.add_argument("--name", required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    tars, classes = tars_of(args.tar, args.data), classes_of(args.classes)
    how = How(
        args.batch,
        args.precision,
        args.head,
        TypeAdapter(Head).validate_json(args.block) if args.block else None,
        {name: file for name, (file,) in named_paths(args.answers).items()},
        protocols.Labelled(args.chosen, tars, classes),
    )
    sets = {
        name: (folder, tars_of([str(word)], args.data))
        for name, (folder, word) in named_paths(args.set).items()
    }
    evaluate(args.record, args.weights, sets, how, args.name, args.out)


if __name__ == "__main__":
    run(main)
