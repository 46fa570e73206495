"""Zero-shot evaluation of one trained model.

`python -m clipshift.evaluate --record FILE --weights FILE --set NAME=FOLDER,WORD... --out FILE`
writes `{run}.json`, per-sample predictions as parquet, and the same numbers for CLIP_benchmark and
open_clip.
"""

import argparse
import io
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from sklearn.metrics import recall_score

from clipshift import models
from clipshift.config.study import Evaluation, Training
from clipshift.errors import ClipshiftError, run
from clipshift.files import (
    named_paths,
    read_json,
    sha256_file,
    write_json,
    write_parquet,
    write_text,
)
from clipshift.intervals import clopper_pearson
from clipshift.labels import check_labels
from clipshift.tars import add_data, read_tars, tars_of

# Of the evaluation JSON; raised when a reader would have to change.
SCHEMA_VERSION = 1


def predict(
    clip: models.Clip, prompts: Sequence[Sequence[str]], tars: Path | Sequence[Path], batch: int
) -> tuple[list[str], np.ndarray]:
    """Zero-shot logits of every picture of a set.

    Each prompt's embedding is normalised, averaged over the prompts of its class, and normalised.

    Args:
        prompts: per class, in index order, its prompts.

    Returns:
        keys, and (N, C) float32 cosine similarities to the classes.
    """
    keys: list[str] = []
    pictures: list[torch.Tensor] = []
    scores = []
    with torch.inference_mode():
        classifier = text_classifier(clip, prompts)  # (D, C)

        def flush() -> None:
            batched = torch.stack(pictures).to(clip.device)  # (B, 3, H, W)
            features = clip.model.encode_image(batched, normalize=True)  # (B, D)
            scores.append((features @ classifier).cpu().numpy())
            pictures.clear()

        for sample in read_tars(tars):
            keys.append(sample.key)
            pictures.append(clip.preprocess(Image.open(io.BytesIO(sample.image)).convert("RGB")))
            if len(pictures) == batch:
                flush()
        if pictures:
            flush()
    return keys, np.concatenate(scores)


def text_classifier(clip: models.Clip, prompts: Sequence[Sequence[str]]) -> torch.Tensor:
    """(D, C): per class the normalised mean of its prompts' normalised embeddings."""
    means = []
    for texts in prompts:
        tokens = clip.tokenizer(list(texts)).to(clip.device)
        means.append(clip.model.encode_text(tokens, normalize=True).mean(0))
    return torch.nn.functional.normalize(torch.stack(means), dim=1).T


def prompts_of(
    names: Sequence[str], templates: Sequence[str], words: dict[str, list[str]]
) -> list[list[str]]:
    """Per class, every word of it in every template."""
    return [
        [t.replace("{c}", w) for w in words.get(name, [name]) for t in templates] for name in names
    ]


def measure(scores: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Top-1, top-5, mean per-class recall, with n and the Clopper-Pearson interval of top-1.

    Args:
        scores: (N, C) float; ties go to the lower class index.
        labels: (N,) int, class indices.

    Raises:
        ClipshiftError: a score is NaN (the model diverged).
    """
    if not np.isfinite(scores).all():
        raise ClipshiftError("the model gives NaN or infinite scores: its training diverged")
    ranked = np.argsort(-scores, axis=1, kind="stable")  # (N, C)
    hits = ranked == labels[:, None]
    n, correct = len(labels), int(hits[:, 0].sum())
    low, high = clopper_pearson(correct, n)
    recall = recall_score(labels, ranked[:, 0], average="macro", labels=np.unique(labels))
    return {
        "n": n,
        "correct": correct,
        "top1": correct / n,
        "top1_low": low,
        "top1_high": high,
        "top5": float(hits[:, :5].any(1).mean()) if scores.shape[1] > 5 else None,
        "mean_per_class_recall": float(recall),
        "chance": 1 / scores.shape[1],
        "majority": float(np.bincount(labels).max() / n),  # always naming the largest class
    }


def evaluate_run(
    record: Path,
    weights: Path,
    sets: dict[str, tuple[Path, Path | Sequence[Path]]],
    evaluation: Evaluation,
    out: Path,
) -> None:
    """Evaluate one model on `sets` (name -> folder, tars) and write `out` and its companions."""
    trained = read_json(record)
    training = Training.model_validate(trained["training"])
    with tempfile.TemporaryDirectory() as scratch:
        clip = models.load("clipshift-eval", training.model, weights, Path(scratch))
    results: dict[str, Any] = {}
    tables = []
    for name, (folder, tars) in sets.items():
        templates = (folder / "zeroshot_classification_templates.txt").read_text().splitlines()
        names, labels = check_labels(folder, tars)
        prompts = prompts_of(names, templates, evaluation.words)
        keys, scores = predict(clip, prompts, tars, evaluation.batch)
        truth = np.array([labels[key] for key in keys])
        results[name] = measure(scores, truth) | {
            "classes": names,
            "templates": templates,
            "words": {c: evaluation.words.get(c, [c]) for c in names},
        }
        top = scores.argmax(1)
        tables.append(
            pa.table(
                {
                    "test_set": [name] * len(keys),
                    "key": keys,
                    "label": truth.astype(np.int32),
                    "predicted": top.astype(np.int32),
                    "correct": top == truth,
                    "score": scores.max(1),
                }
            )
        )
    predictions = out.with_suffix(".predictions.parquet")
    write_parquet(predictions, pa.concat_tables(tables))
    identity = {key: trained[key] for key in ("run", "split", "seed", "model", "samples_seen")}
    write_json(
        out,
        {
            "schema_version": SCHEMA_VERSION,
            **identity,
            "checkpoint_sha256": sha256_file(weights),
            "precision": evaluation.precision,
            "batch": evaluation.batch,
            "interval": "Clopper-Pearson, 95 %",
            "sets": results,
            "predictions": predictions.name,
        },
    )
    _export(out, identity, results)


def _export(out: Path, identity: dict[str, Any], results: dict[str, Any]) -> None:
    """The same numbers as CLIP_benchmark's JSON files, one a set, and open_clip's jsonl."""
    metrics = {
        name: {
            "acc1": r["top1"],
            "acc5": r["top5"],
            "mean_per_class_recall": r["mean_per_class_recall"],
        }
        for name, r in results.items()
    }
    folder = out.parent / "clip_benchmark" / out.stem
    for name, values in metrics.items():
        entry = {
            "dataset": f"wds/{name}",
            "model": identity["model"],
            "pretrained": identity["run"],
            "task": "zeroshot_classification",
            "metrics": values,
            "language": "en",
        }
        file = "wds-{}_{run}_{model}_en_zeroshot_classification.json".format(name, **identity)
        write_json(folder / file, entry)
    line = {"name": identity["run"], "epoch": None}
    for name, values in metrics.items():
        line |= {
            f"{name}-zeroshot-val-top1": values["acc1"],
            f"{name}-zeroshot-val-top5": values["acc5"],
        }
    write_text(out.with_suffix(".results.jsonl"), json.dumps(line) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--record", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--set", action="append", required=True, metavar="NAME=FOLDER,WORD")
    add_data(parser)
    parser.add_argument("--evaluation", required=True, help="JSON of the evaluation block")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    sets: dict[str, tuple[Path, Path | Sequence[Path]]] = {
        name: (folder, tars_of([str(word)], args.data))
        for name, (folder, word) in named_paths(args.set).items()
    }
    evaluation = Evaluation.model_validate_json(args.evaluation)
    evaluate_run(args.record, args.weights, sets, evaluation, args.out)


if __name__ == "__main__":
    run(main)
