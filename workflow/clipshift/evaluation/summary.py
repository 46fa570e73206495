"""What is reported of a run, or of the seeds of a split and model: accuracies on every test set.

`python -m clipshift.evaluation.summary --name NAME --set NAME=TABLE,ROWS... --split FILE [--account
FILE] [--chosen FILE] [--subsets JSON] --record FILE... [--exports] --out FILE`. Nothing is run: all
of it are queries over stored logits (`views`). Test images whose bytes the model was trained on are
counted, and the accuracy without them stands beside the other.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from clipshift.core.errors import run
from clipshift.core.files import named_paths, read_json, write_json, write_text
from clipshift.evaluation.views import (
    IDENTITY,
    SCHEMA_VERSION,
    SHARED,
    Predictions,
    Value,
    entry,
    joined,
    measure,
    restricted,
    seeds_of,
)
from clipshift.splits.guard import trained_on
from clipshift.study.config.causes import Subset

AGAIN = "snakemake --forcerun guard -- results/eval/{split}.json"


def condition(name: str, sets: Mapping[str, Mapping[int, Predictions]]) -> Value:
    """The seeds of one condition joined: per view the mean accuracy, and every seed.

    Args:
        sets: view -> seed -> predictions.
    """
    first = next(iter(sets.values()))
    records = [p.record for p in first.values()]
    return {
        "schema_version": SCHEMA_VERSION,
        "name": name,
        **{key: records[0].get(key) for key in (*IDENTITY, *SHARED)},
        "interval": "Clopper-Pearson, 95 %, of the mean over seeds with n test images",
        "runs": {r["run"]: r["checkpoint_sha256"] for r in records},
        "sets": {
            view: joined({seed: entry(p) for seed, p in seeds.items()})
            for view, seeds in sets.items()
        },
    }


def read_conditions(files: Mapping[str, Any]) -> dict[str, Value]:
    """The same per split, from files, with what the split's account says of its points.

    Args:
        files: split -> its `account`, and `sets`: test set -> the prediction tables of its runs.
    """
    return {
        split: condition(
            split,
            {s: seeds_of([Path(p) for p in paths]) for s, paths in own["sets"].items()},
        )
        | points(Path(own["account"]))
        for split, own in files.items()
    }


def points(account: Path) -> dict[str, int]:
    """Points of a split, by its account."""
    split = read_json(account)
    return {
        "points_kept": split["points_kept"],
        "points_pruned": split["candidates"] - split["points_kept"],
        "training_samples": split["out"],
    }


def single(sets: Mapping[str, Predictions]) -> Value:
    """One run: per view its accuracies."""
    record = next(iter(sets.values())).record
    return {
        "schema_version": SCHEMA_VERSION,
        "run": record["run"],
        "seed": record["seed"],
        **{key: record.get(key) for key in (*IDENTITY, "checkpoint_sha256", *SHARED)},
        "interval": "Clopper-Pearson, 95 %",
        "sets": {view: entry(p) for view, p in sets.items()},
    }


def contaminated(split: str, seeds: Mapping[int, Predictions], keys: set[str]) -> Value:
    """What to say of a test set some of whose images were trained on.

    Args:
        keys: of the images that any of the runs was trained on.
    """
    rest = {seed: p.of(keys, inside=False) for seed, p in seeds.items()}
    left = len(next(iter(rest.values())).keys)
    without = joined({seed: measure(p) for seed, p in rest.items()}) if left else None
    shown = ("n", "top1", "top1_low", "top1_high")
    return {
        "images": len(keys),
        "without": without and {key: without[key] for key in shown},
        "again": AGAIN.format(split=split),
    }


def export(out: Path, result: Value) -> None:
    """The same numbers as CLIP_benchmark's JSON files, one a set, and open_clip's jsonl."""
    metrics = {
        name: {
            "acc1": r["top1"],
            "acc5": r["top5"],
            "mean_per_class_recall": r["mean_per_class_recall"],
        }
        for name, r in result["sets"].items()
    }
    folder = out.parent / "clip_benchmark" / out.stem
    for name, values in metrics.items():
        value = {
            "dataset": f"wds/{name}",
            "model": result["model"],
            "pretrained": result["run"],
            "task": "zeroshot_classification",
            "metrics": values,
            "language": "en",
        }
        file = "wds-{}_{run}_{model}_en_zeroshot_classification.json".format(name, **result)
        write_json(folder / file, value)
    line = {"name": result["run"], "epoch": None}
    for name, values in metrics.items():
        line |= {
            f"{name}-zeroshot-val-top1": values["acc1"],
            f"{name}-zeroshot-val-top5": values["acc5"],
        }
    write_text(out.with_suffix(".results.jsonl"), json.dumps(line) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", required=True)
    parser.add_argument("--set", action="append", required=True, metavar="NAME=TABLE,ROWS[,ROWS]")
    parser.add_argument("--subsets", default="{}", help="JSON of causes.subsets")
    parser.add_argument("--split", type=Path, required=True, help="what the runs were trained on")
    parser.add_argument("--guard", type=Path, help="its list of test images, if it is there")
    parser.add_argument("--chosen", type=Path, help="the part of it that a corpus could use")
    parser.add_argument("--account", type=Path, help="of the split: join its seeds")
    parser.add_argument("--record", type=Path, nargs="+", required=True)
    parser.add_argument("--join", action="store_true", help="several runs, not one")
    parser.add_argument("--exports", action="store_true")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    subsets = TypeAdapter(dict[str, Subset]).validate_json(args.subsets)
    files = named_paths(args.set)
    sets = {name: seeds_of(rows) for name, (_, *rows) in files.items()}
    seen = trained_on(
        args.split,
        args.chosen,
        [list(read_json(path).get("left_out", {})) for path in args.record],
        {name: table for name, (table, *_) in files.items()},
        args.guard,
    )
    views: dict[str, dict[int, Predictions]] = dict(sets)
    for name, subset in subsets.items():
        rows = files[subset.of][1:]
        views[name] = {p.record["seed"]: p for p in (restricted(path, subset) for path in rows)}
    if args.join:
        result = condition(args.name, views)
        result |= points(args.account) if args.account else {}
    else:
        result = single({name: next(iter(seeds.values())) for name, seeds in views.items()})
    for name, keys in seen.items():
        if keys:
            said = contaminated(args.split.stem, sets[name], keys)
            result["sets"][name]["trained_on"] = said
            print(f"{name}: {said['images']} images were trained on; to train without them: "
                  f"{said['again']}")  # fmt: skip
    write_json(args.out, result)
    if args.exports:
        export(args.out, result)


if __name__ == "__main__":
    run(main)
