"""Evaluate the runs of a split on original and clean sets, with all class names and with fewer.

`python -m clipshift.domains.rescore --name SPLIT --run RECORD,WEIGHTS... --known FILE... --set
NAME=FOLDER,WORD... --clean NAME=FILE... --evaluation JSON --out FILE.json` writes per clean set
four accuracies from one pass over the pictures, and `FILE.predictions.parquet`. Fewer class names
make a set easier, so nothing is compared across variants without saying so.
"""

import argparse
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from clipshift import models
from clipshift.config.study import Evaluation, Training
from clipshift.errors import ClipshiftError, run
from clipshift.evaluate import measure, predict, prompts_of
from clipshift.files import atomic, named_paths, read_json, read_parquet, write_json
from clipshift.intervals import clopper_pearson
from clipshift.labels import check_labels
from clipshift.tars import add_data, tars_of

# Which pictures, and which class names.
VARIANTS = {
    "original": "all pictures, all class names",
    "original_restricted": "pictures of the classes that the clean set has, their names only",
    "clean": "pictures of the clean set, all class names",
    "clean_restricted": "pictures of the clean set, the names of its classes only",
}
PREDICTIONS = pa.schema(
    [
        ("run", pa.string()),
        ("clean_set", pa.string()),
        ("variant", pa.string()),
        ("key", pa.string()),
        ("label", pa.int32()),
        ("predicted", pa.int32()),
        ("correct", pa.bool_()),
    ]
)


@dataclass(frozen=True)
class Scored:
    """One model's zero-shot scores of a whole set.

    Attributes:
        keys: (N,) in the order of the tars; labels: (N,) class indices.
        scores: (N, C) float32; names: of the C classes.
    """

    keys: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    names: list[str]


def variants(scored: Scored, kept: set[str]) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Name, rows (n,) and classes (c,) of each variant of a clean set.

    Raises:
        ClipshiftError: the clean set keeps a picture that the set does not hold.
    """
    if missing := sorted(kept - set(scored.keys.tolist())):
        raise ClipshiftError(f"the clean set keeps {missing[0]!r}, which the set does not hold")
    everyone = np.arange(len(scored.keys))
    clean = np.flatnonzero(np.isin(scored.keys, sorted(kept)))
    whole, left = np.arange(scored.scores.shape[1]), np.unique(scored.labels[clean])
    yield "original", everyone, whole
    yield "original_restricted", np.flatnonzero(np.isin(scored.labels, left)), left
    yield "clean", clean, whole
    yield "clean_restricted", clean, left


def evaluate(
    scored: Scored, kept: set[str], run_name: str, clean_set: str
) -> tuple[dict[str, Any], pa.Table]:
    """Accuracies of every variant of a clean set, and the predictions behind them."""
    results, tables = {}, []
    for variant, rows, classes in variants(scored, kept):
        scores = scored.scores[np.ix_(rows, classes)]
        labels = np.searchsorted(classes, scored.labels[rows])
        entry = measure(scores, labels)
        results[variant] = entry | {"classes": [scored.names[c] for c in classes]}
        predicted = classes[scores.argmax(1)].astype(np.int32)
        truth = scored.labels[rows].astype(np.int32)
        same = [run_name] * len(rows), [clean_set] * len(rows), [variant] * len(rows)
        columns = [*same, scored.keys[rows].tolist(), truth, predicted, predicted == truth]
        arrays = [pa.array(c, f.type) for c, f in zip(columns, PREDICTIONS, strict=True)]
        tables.append(pa.Table.from_arrays(arrays, schema=PREDICTIONS))
    return results, pa.concat_tables(tables)


def check_known(scored: Scored, name: str, file: Path) -> bool:
    """Whether an earlier evaluation of the same model knows this set; it must agree.

    Raises:
        ClipshiftError: it predicts otherwise: another model, prompt or set.
    """
    table = read_parquet(file, ["test_set", "key", "predicted"])
    table = table.filter(pc.equal(table["test_set"], name))
    if not len(table):
        return False
    theirs = dict(zip(table["key"].to_pylist(), table["predicted"].to_pylist(), strict=True))
    ours = dict(zip(scored.keys.tolist(), scored.scores.argmax(1).tolist(), strict=True))
    if theirs != ours:
        raise ClipshiftError(
            f"{file} predicts other classes for {name} than its model does now; delete it and run "
            "again"
        )
    return True


def score(clip: models.Clip, folder: Path, tars: Sequence[Path], how: Evaluation) -> Scored:
    """Scores of a whole set, as the evaluation of every model computes them."""
    templates = (folder / "zeroshot_classification_templates.txt").read_text().splitlines()
    names, labels = check_labels(folder, tars)
    keys, scores = predict(clip, prompts_of(names, templates, how.words), tars, how.batch)
    return Scored(np.array(keys), np.array([labels[key] for key in keys]), scores, names)


def evaluate_split(
    name: str, runs: Sequence[tuple[Path, Path]], known: Sequence[Path],
    sets: Mapping[str, tuple[Path, Sequence[Path]]], cleaned: Mapping[str, Path],
    how: Evaluation, out: Path,
) -> None:  # fmt: skip
    """Evaluate every run of a split and join them; see the module.

    Args:
        runs: record and weights of each; known: their earlier predictions.
        sets: name -> folder and tars; cleaned: clean set -> its list.
    """
    lists = {c: read_json(file.with_suffix(".json")) for c, file in cleaned.items()}
    kept = {c: _kept(file) for c, file in cleaned.items()}
    seeds: dict[int, dict[str, dict[str, Any]]] = {}
    with (
        atomic(out.with_suffix(".predictions.parquet")) as stream,
        pq.ParquetWriter(stream, PREDICTIONS, compression="zstd") as writer,
    ):
        for (record, weights), earlier in zip(runs, known, strict=True):
            trained = read_json(record)
            training = Training.model_validate(trained["training"])
            with tempfile.TemporaryDirectory(prefix="clipshift-") as scratch:
                clip = models.load("clipshift-eval", training.model, weights, Path(scratch))
            results = seeds.setdefault(trained["seed"], {})
            for set_name, (folder, tars) in sets.items():
                scored = score(clip, folder, tars, how)
                check_known(scored, set_name, earlier)
                for clean_set in (c for c in cleaned if lists[c]["set"] == set_name):
                    entry, rows = evaluate(scored, kept[clean_set], trained["run"], clean_set)
                    results[clean_set] = entry
                    writer.write_table(rows)
    joined = {
        c: {v: _join([s[c][v] for s in seeds.values()], list(seeds)) for v in VARIANTS}
        for c in cleaned
    }
    result = {
        "split": name,
        "runs": [read_json(record)["run"] for record, _ in runs],
        "interval": "Clopper-Pearson, 95 %, of the mean over seeds with n test images",
        "variants": VARIANTS,
        "sets": {
            c: {"set": lists[c]["set"], "domain": lists[c]["domain"]} | joined[c] for c in cleaned
        },
    }
    write_json(out, result)


def _kept(file: Path) -> set[str]:
    table = read_parquet(file, ["key", "kept"])
    return set(table.filter(table["kept"])["key"].to_pylist())


def _join(entries: list[dict[str, Any]], seeds: list[int]) -> dict[str, Any]:
    """The mean over seeds with its interval over images, and every seed."""
    n = entries[0]["n"]
    top1 = float(np.mean([e["top1"] for e in entries]))
    low, high = clopper_pearson(min(top1 * n, n), n)
    return {
        "n": n,
        "top1": top1,
        "top1_low": low,
        "top1_high": high,
        "mean_per_class_recall": float(np.mean([e["mean_per_class_recall"] for e in entries])),
        "top1_of_seeds": {str(s): e["top1"] for s, e in zip(seeds, entries, strict=True)},
        **{key: entries[0][key] for key in ("chance", "majority", "classes")},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", required=True)
    parser.add_argument("--run", action="append", required=True, metavar="RECORD,WEIGHTS")
    parser.add_argument("--known", type=Path, nargs="+", required=True)
    parser.add_argument("--set", action="append", required=True, metavar="NAME=FOLDER,WORD")
    parser.add_argument("--clean", action="append", required=True, metavar="NAME=FILE")
    add_data(parser)
    parser.add_argument("--evaluation", required=True, help="JSON of the evaluation block")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    sets = {
        name: (folder, tars_of([str(word)], args.data))
        for name, (folder, word) in named_paths(args.set).items()
    }
    cleaned = {name: file for name, (file,) in named_paths(args.clean).items()}
    runs = [(Path(a), Path(b)) for a, _, b in (word.partition(",") for word in args.run)]
    how = Evaluation.model_validate_json(args.evaluation)
    evaluate_split(args.name, runs, args.known, sets, cleaned, how, args.out)


if __name__ == "__main__":
    run(main)
