"""Evaluate one model by one head: any run of the study, any head of `causes.heads` or its own.

`python -m clipshift.causes.evaluate --record FILE --weights FILE --set NAME=FOLDER,WORD...
--evaluation JSON [--subsets JSON] [--answers JSON] [--head NAME --block JSON]
[--chosen FILE --tar WORD... --classes WORD] --out FILE` writes the evaluation JSON and the
predictions of `clipshift.evaluate`, with the objective, the head and the number of training
pictures, and further test sets of fewer classes.
"""

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import TypeAdapter

from clipshift.causes.contract import classes_of
from clipshift.causes.heads import Answers, Labelled, Model, Scorer, features, load, scorer
from clipshift.config.causes import Head, Subset
from clipshift.config.study import Evaluation
from clipshift.errors import ClipshiftError, run
from clipshift.evaluate import SCHEMA_VERSION, measure
from clipshift.files import named_paths, read_json, sha256_file, write_json, write_parquet
from clipshift.labels import check_labels
from clipshift.tars import add_data, read_tars, tars_of

IMAGENET = 1000
Sets = Mapping[str, tuple[Path, Sequence[Path]]]


def restricted(
    subset: Subset, names: Sequence[str], scores: np.ndarray, labels: np.ndarray
) -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray]:
    """A test set of fewer classes: its names, (n, C') scores, (n,) labels, (N,) which pictures.

    Raises:
        ClipshiftError: it names a class that the set lacks.
    """
    if isinstance(subset.classes, str):
        columns = published(subset.classes)
        if len(names) != IMAGENET:
            raise ClipshiftError(f"causes.subsets: {subset.of} has other classes than ImageNet")
    else:
        if odd := [c for c in subset.classes if list(names).count(c) != 1]:
            raise ClipshiftError(f"causes.subsets: no or several classes of {subset.of} are {odd}")
        columns = [i for i, name in enumerate(names) if name in subset.classes]
    here = np.isin(labels, columns)
    mine = np.searchsorted(columns, labels[here])
    return [names[i] for i in columns], scores[here][:, columns], mine, here


def published(name: str) -> list[int]:
    """The classes of ImageNet-A or -R among ImageNet's, in the order of their labels."""
    text = files("clipshift").joinpath("data/imagenet_class_indices.json").read_text()
    return list(json.loads(text)[name])


def answers_of(rule: str | dict[str, list[int]] | None, names: Sequence[str]) -> Answers:
    """Per class of a set the classes of the training that stand for it.

    Raises:
        ClipshiftError: the rule does not know all classes of the set.
    """
    if rule is None:
        return None
    if isinstance(rule, str):
        places = published(rule)
        if len(places) != len(names):
            raise ClipshiftError(f"causes.answers: {rule} has {len(places)} classes, a set of "
                                 f"{len(names)} is not it")  # fmt: skip
        return [[i] for i in places]
    if unknown := [name for name in names if not rule.get(name)]:
        raise ClipshiftError(f"causes.answers: no class stands for {unknown[:5]}")
    return [rule[name] for name in names]


def evaluate(
    model: Model, score: Scorer, sets: Sets, subsets: Mapping[str, Subset], batch: int,
    answers: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Any], pa.Table]:  # fmt: skip
    """Results of every test set and subset, and the predictions."""
    results: dict[str, Any] = {}
    tables = []

    def add(name: str, names: Sequence[str], keys: Sequence[str], scores: np.ndarray,
            labels: np.ndarray, said: dict[str, Any]) -> None:  # fmt: skip
        results[name] = measure(scores, labels) | {"classes": list(names)} | said
        top = scores.argmax(1)
        columns = {
            "test_set": [name] * len(keys),
            "key": list(keys),
            "label": labels.astype(np.int32),
            "predicted": top.astype(np.int32),
            "correct": top == labels,
            "score": scores.max(1).astype(np.float32),
        }
        tables.append(pa.table(columns))

    for name, (folder, tars) in sets.items():
        names, truth = check_labels(folder, tars)
        keys, x = features(model, read_tars(tars), batch)
        scores, said = score(x, names, answers_of((answers or {}).get(name), names))
        labels = np.array([truth[key] for key in keys])
        add(name, names, keys, scores, labels, said)
        for other, subset in subsets.items():
            if subset.of == name:
                fewer, part, mine, here = restricted(subset, names, scores, labels)
                add(
                    other,
                    fewer,
                    [k for k, h in zip(keys, here, strict=True) if h],
                    part,
                    mine,
                    said,
                )
    return results, pa.concat_tables(tables)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--record", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--set", action="append", required=True, metavar="NAME=FOLDER,WORD")
    parser.add_argument("--evaluation", required=True, help="JSON of the evaluation block")
    parser.add_argument("--subsets", default="{}", help="JSON of causes.subsets")
    parser.add_argument("--answers", type=json.loads, default={}, help="JSON of causes.answers")
    parser.add_argument("--head", help="name of the head (default: the model's own)")
    parser.add_argument("--block", help="JSON of the head's block")
    parser.add_argument("--chosen", type=Path, help="labelled training pictures, for a probe")
    parser.add_argument("--tar", action="append", default=[], help="their tars")
    parser.add_argument("--classes", default="[]", help="JSON of the classes, or a file of them")
    add_data(parser)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    record = read_json(args.record)
    evaluation = Evaluation.model_validate_json(args.evaluation)
    head: Any = TypeAdapter(Head).validate_json(args.block) if args.block else None
    sets = {
        name: (folder, tars_of([str(word)], args.data))
        for name, (folder, word) in named_paths(args.set).items()
    }
    subsets = TypeAdapter(dict[str, Subset]).validate_json(args.subsets)
    labelled = Labelled(args.chosen, tars_of(args.tar, args.data), classes_of(args.classes))
    with tempfile.TemporaryDirectory() as scratch:
        model = load(record, args.weights, Path(scratch))
    score = scorer(model, head, evaluation, labelled)
    results, predictions = evaluate(
        model, score, sets, subsets, evaluation.batch, args.answers
    )  # fmt: skip
    table = args.out.with_suffix(".predictions.parquet")
    write_parquet(table, predictions)
    identity = {key: record[key] for key in ("run", "split", "seed", "model", "samples_seen")}
    value = {
        "schema_version": SCHEMA_VERSION,
        **identity,
        "head": args.head or "own",
        "objective": record.get("controlled", {}).get("objective", "clip"),
        "training_images": record["split_samples"],
        "checkpoint_sha256": sha256_file(args.weights),
        "precision": evaluation.precision,
        "batch": evaluation.batch,
        "interval": "Clopper-Pearson, 95 %",
        "sets": results,
        "predictions": table.name,
    }
    write_json(args.out, value)


if __name__ == "__main__":
    run(main)
