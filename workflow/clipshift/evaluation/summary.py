"""What is reported of a run, or of the seeds of a split and model: accuracies on every test set.

No model is run: all numbers are queries over stored logits (`views`). Test images whose bytes the
model was trained on are counted, and the accuracy without them stands beside the other.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipshift.core.files import read_json, write_json, write_text
from clipshift.core.step import step
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

LOG = logging.getLogger(__name__)

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
    """The same per split, from files, with the counts of its points.

    Args:
        files: split -> its `counts`, and `sets`: test set -> the prediction tables of its runs.
    """
    return {
        split: condition(
            split,
            {s: seeds_of([Path(p) for p in paths]) for s, paths in inputs["sets"].items()},
        )
        | points(Path(inputs["counts"]))
        for split, inputs in files.items()
    }


def points(counts: Path) -> dict[str, int]:
    """Points of a split, by its counts."""
    split = read_json(counts)
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
        **({"epoch": record["epoch"]} if "epoch" in record else {}),
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


def export(folder: Path, lines: Path, result: Value) -> None:
    """The same numbers as CLIP_benchmark's JSON files, one a set, and open_clip's jsonl."""
    metrics = {
        name: {
            "acc1": r["top1"],
            "acc5": r["top5"],
            "mean_per_class_recall": r["mean_per_class_recall"],
        }
        for name, r in result["sets"].items()
    }
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
    # open_clip's names of its zero-shot metrics, which its scripts look for.
    line = {"name": result["run"], "epoch": None}
    for name, values in metrics.items():
        line |= {
            f"{name}-zeroshot-val-top1": values["acc1"],
            f"{name}-zeroshot-val-top5": values["acc5"],
        }
    write_text(lines, json.dumps(line) + "\n")


@dataclass(frozen=True)
class Files:
    """Files of a test set: its sample table, and the rows of each evaluation."""

    table: Path
    rows: list[Path]


@step(version=2)
def write_summary(
    name: str, joined: bool, sets: dict[str, Files], subsets: dict[str, Subset], split: Path,
    guard: Path, chosen: Path | None, counts: Path | None, records: list[Path], result: Path,
    clip_benchmark: Path | None = None, open_clip: Path | None = None,
) -> None:  # fmt: skip
    """Write what is reported of one evaluation, or of several, joined.

    Args:
        split: what the runs were trained on; guard: its list of test images, if it is there;
            chosen: the part of it that a corpus could use; counts: of its points.
        records: of the trainings.
        clip_benchmark, open_clip: folder and file of the exports, where they are asked for.
    """
    views = {n: seeds_of(files.rows) for n, files in sets.items()}
    seen = trained_on(
        split,
        chosen,
        [list(read_json(path).get("left_out", {})) for path in records],
        {n: files.table for n, files in sets.items()},
        guard,
    )
    for n, subset in subsets.items():
        restricted_runs = (restricted(path, subset) for path in sets[subset.of].rows)
        views[n] = {p.record["seed"]: p for p in restricted_runs}
    if joined:
        summary = condition(name, views) | (points(counts) if counts else {})
    else:
        summary = single({n: next(iter(seeds.values())) for n, seeds in views.items()})
    for n, keys in seen.items():
        if keys:
            entry = contaminated(split.stem, views[n], keys)
            summary["sets"][n]["trained_on"] = entry
            LOG.info(f"{n}: {entry['images']} images were trained on; to train without them: "
                  f"{entry['again']}")  # fmt: skip
    write_json(result, summary)
    if clip_benchmark and open_clip:
        export(clip_benchmark, open_clip, summary)
