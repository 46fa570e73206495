"""Tables of controlled trainings, as csv, and the seeds of a model joined.

`python -m clipshift.causes.tables join --out FILE RUN.json...`: mean accuracy over the seeds, as
`clipshift.summary` does for a split. `... all`: `causes_runs` (a row a run and head),
`causes_models` (a row a split, model, head and test set, with the interval), `causes_corpora` (what
each training read).
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clipshift.errors import ClipshiftError, run
from clipshift.files import read_json, write_csv, write_json
from clipshift.intervals import clopper_pearson

Value = dict[str, Any]
# Of an entry of a test set: the same for all seeds.
_SHARED = ("chance", "majority", "classes", "templates", "words", "head")
_IDENTITY = ("split", "model", "head", "objective", "samples_seen", "training_images")


def joined(results: Sequence[Value]) -> Value:
    """The mean over seeds of one split, model and head, with the interval over test images.

    Raises:
        ClipshiftError: the runs differ in more than their seed.
    """
    first = results[0]
    for key in (*_IDENTITY, "precision", "batch"):
        if len({json.dumps(r[key]) for r in results}) > 1:
            raise ClipshiftError(f"{[r['run'] for r in results]} differ in {key!r}")
    sets = {}
    for name, entry in first["sets"].items():
        seeds = [r["sets"][name] for r in results]
        if len({s["n"] for s in seeds}) > 1:
            raise ClipshiftError(f"{first['run']}: its seeds were tested on other images of {name}")
        top1 = float(np.mean([s["top1"] for s in seeds]))
        low, high = clopper_pearson(top1 * entry["n"], entry["n"])
        sets[name] = {
            "n": entry["n"],
            "top1": top1,
            "top1_low": low,
            "top1_high": high,
            "mean_per_class_recall": float(np.mean([s["mean_per_class_recall"] for s in seeds])),
            "top1_of_seeds": {
                str(r["seed"]): s["top1"] for r, s in zip(results, seeds, strict=True)
            },
        } | {key: entry[key] for key in _SHARED}
    return {key: first[key] for key in ("schema_version", *_IDENTITY, "precision", "batch")} | {
        "interval": "Clopper-Pearson, 95 %, of the mean over seeds with n test images",
        "runs": {r["run"]: r["checkpoint_sha256"] for r in results},
        "predictions": [r["predictions"] for r in results],
        "sets": sets,
    }


def described(result: Value, models: Mapping[str, Value]) -> Value:
    """What distinguishes a model, for a row: objective, corpus, start of its towers, head."""
    spec = models.get(result["model"], {})
    text = spec.get("text")
    tower = "" if result["objective"] != "clip" else "random"
    if text:
        tower = "pretrained, frozen" if text["frozen"] else "pretrained"
    start = (text or spec).get("start")
    return {
        "split": result["split"],
        "model": result["model"],
        "objective": result["objective"],
        "corpus": spec.get("corpus", ""),
        "text_tower": tower,
        "starts_from": "{split}-{model}-s{seed}".format(**start) if start else "",
        "head": result["head"],
        "training_images": result["training_images"],
        "samples_seen": result["samples_seen"],
    }


def accuracies(result: Value) -> Value:
    """Columns of every test set: n, top-1 and its interval."""
    return {
        f"{name}_{key}": entry[key]
        for name, entry in result["sets"].items()
        for key in ("n", "top1", "top1_low", "top1_high")
    }


def run_rows(results: Sequence[Value], models: Mapping[str, Value]) -> list[Value]:
    """One row per run and head."""
    return [
        {"run": r["run"], "seed": r["seed"]} | described(r, models) | accuracies(r) for r in results
    ]


def model_rows(results: Sequence[Value], models: Mapping[str, Value]) -> list[Value]:
    """One row per split, model, head and test set."""
    return [
        described(r, models)
        | {"seeds": len(r["runs"]), "test_set": name}
        | {k: e[k] for k in ("n", "top1", "top1_low", "top1_high", "mean_per_class_recall")}
        | {"top1_of_seeds": " ".join(f"{v:.6f}" for v in e["top1_of_seeds"].values())}
        | {k: e[k] for k in ("chance", "majority")}
        for r in results
        for name, e in r["sets"].items()
    ]


def corpus_rows(accounts: Sequence[Path]) -> list[Value]:
    """Per split and corpus: pictures in, used, and left out by each reason."""
    rows = []
    for path in accounts:
        account = read_json(path)
        split, corpus = path.stem.split("-")
        same = {"split": split, "corpus": corpus, "points": account["in"], "used": account["out"]}
        reasons = account["rejected"] or {"": 0}
        rows += [same | {"reason": why, "left_out": n} for why, n in reasons.items()]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    join = commands.add_parser("join")
    join.add_argument("runs", type=Path, nargs="+")
    every = commands.add_parser("all")
    every.add_argument("--runs", type=Path, nargs="+", required=True)
    every.add_argument("--joined", type=Path, nargs="+", required=True)
    every.add_argument("--accounts", type=Path, nargs="+", required=True)
    every.add_argument("--models", type=json.loads, required=True, help="JSON of causes.models")
    every.add_argument("--out-models", type=Path, required=True)
    every.add_argument("--out-corpora", type=Path, required=True)
    for command in (join, every):
        command.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    results = [read_json(path) for path in args.runs]
    if args.command == "join":
        write_json(args.out, joined(results))
        return
    write_csv(args.out, run_rows(results, args.models))
    write_csv(args.out_models, model_rows([read_json(p) for p in args.joined], args.models))
    write_csv(args.out_corpora, corpus_rows(args.accounts))


if __name__ == "__main__":
    run(main)
