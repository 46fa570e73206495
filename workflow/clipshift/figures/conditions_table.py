"""Tables of controlled trainings, as csv.

`python -m clipshift.figures.conditions_table ...` writes `causes_runs` (a row a run and head), `causes_models`
(a row a split, model, head and test set, with the interval), `causes_corpora` (what each training
read).
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clipshift.core.errors import run
from clipshift.core.files import read_json, write_csv

Value = dict[str, Any]


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
    parser.add_argument("--runs", type=Path, nargs="+", required=True)
    parser.add_argument("--joined", type=Path, nargs="+", required=True)
    parser.add_argument("--accounts", type=Path, nargs="+", required=True)
    parser.add_argument("--models", type=json.loads, required=True, help="JSON of causes.models")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--out-models", type=Path, required=True)
    parser.add_argument("--out-corpora", type=Path, required=True)
    args = parser.parse_args()
    runs, joined = ([read_json(path) for path in paths] for paths in (args.runs, args.joined))
    write_csv(args.out, run_rows(runs, args.models))
    write_csv(args.out_models, model_rows(joined, args.models))
    write_csv(args.out_corpora, corpus_rows(args.accounts))


if __name__ == "__main__":
    run(main)
