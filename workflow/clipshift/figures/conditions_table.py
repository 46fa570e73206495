"""Tables of controlled trainings, as csv.

`causes_runs` has a row per run and head, `causes_models` a row per split, model, head and test set
with the interval, `causes_corpora` what each training read.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clipshift.core.files import read_json, write_csv
from clipshift.core.step import step

Value = dict[str, Any]


def described(result: Value, models: Mapping[str, Value]) -> Value:
    """What distinguishes a model, for a row: objective, corpus, start of its towers, head."""
    spec = models.get(result["model"], {})
    text = spec.get("text")
    tower = "" if result["objective"] != "clip" else "random"
    if text:
        tower = "pretrained, frozen" if text["frozen"] else "pretrained"
    start = (text or spec).get("start")
    file = (text or {}).get("weights", "")
    return {
        "split": result["split"],
        "model": result["model"],
        "objective": result["objective"],
        "corpus": spec.get("corpus", ""),
        "text_tower": tower,
        "starts_from": "{split}-{model}-s{seed}".format(**start) if start else file,
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


def corpus_rows(counts: Sequence[Path]) -> list[Value]:
    """Per split and corpus: images in, used, and left out by each reason."""
    rows = []
    for path in counts:
        step_counts = read_json(path)
        split, corpus = path.stem.split("-")
        same = {
            "split": split,
            "corpus": corpus,
            "points": step_counts["in"],
            "used": step_counts["out"],
        }
        reasons = step_counts["rejected"] or {"": 0}
        rows += [same | {"reason": why, "left_out": n} for why, n in reasons.items()]
    return rows


@step(version=2)
def tables(
    runs: list[Path], joined: list[Path], counts: list[Path], models: dict[str, Value],
    of_runs: Path, of_models: Path, of_corpora: Path,
) -> None:  # fmt: skip
    """The three tables.

    Args:
        runs: evaluations of single runs.
        joined: those of all seeds together.
        counts: of the images that the trainings read.
        models: the block `causes.models`.
    """
    write_csv(of_runs, run_rows([read_json(path) for path in runs], models))
    write_csv(of_models, model_rows([read_json(path) for path in joined], models))
    write_csv(of_corpora, corpus_rows(counts))
