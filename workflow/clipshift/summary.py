"""Join the evaluations of a split's seeds.

`python -m clipshift.summary --name SPLIT --account FILE --out FILE RUN.json...`
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from clipshift.errors import ClipshiftError, run
from clipshift.files import read_json, read_parquet, write_json
from clipshift.intervals import clopper_pearson


def summarise(name: str, runs: Sequence[Path], account: Path, out: Path) -> None:
    """Join the seeds of a split: mean accuracy with the interval over test images, and every seed.

    Raises:
        ClipshiftError: the runs were evaluated on different images, or saw different numbers of
            samples.
    """
    results = [read_json(path) for path in runs]
    if len({r["samples_seen"] for r in results}) > 1:
        raise ClipshiftError(f"{name}: its models saw different numbers of samples")
    sets = {}
    for test_set in results[0]["sets"]:
        seeds = [r["sets"][test_set] for r in results]
        if len({s["n"] for s in seeds}) > 1:
            raise ClipshiftError(
                f"{name}: its models were tested on different images of {test_set}"
            )
        n = seeds[0]["n"]
        top1 = float(np.mean([s["top1"] for s in seeds]))
        low, high = clopper_pearson(top1 * n, n)
        sets[test_set] = {
            "n": n,
            "top1": top1,
            "top1_low": low,
            "top1_high": high,
            "mean_per_class_recall": float(np.mean([s["mean_per_class_recall"] for s in seeds])),
            **{
                key: seeds[0][key]
                for key in ("chance", "majority", "classes", "templates", "words")
            },
            "top1_of_seeds": {
                str(r["seed"]): s["top1"] for r, s in zip(results, seeds, strict=True)
            },
        }
    split = read_json(account)
    shared = ("model", "samples_seen", "precision", "batch")
    write_json(
        out,
        {
            "schema_version": results[0]["schema_version"],
            "split": name,
            "interval": "Clopper-Pearson, 95 %, of the mean over seeds with n test images",
            "runs": {r["run"]: r["checkpoint_sha256"] for r in results},
            "predictions": [r["predictions"] for r in results],
            **{key: results[0][key] for key in shared},
            "points_kept": split["points_kept"],
            "points_pruned": split["candidates"] - split["points_kept"],
            "training_samples": split["out"],
            "sets": sets,
        },
    )


def correctness(predictions: Sequence[Path], test_set: str) -> np.ndarray:
    """(S, N) bool: correctness per seed and image of one set, images in the order of keys."""
    return correct_images(predictions, test_set)[1]


def correct_images(predictions: Sequence[Path], test_set: str) -> tuple[list[str], np.ndarray]:
    """The keys of one set, sorted, and (S, N) bool: correctness per seed and image.

    Raises:
        ClipshiftError: the files speak of different images.
    """
    tables = [read_parquet(path, ["test_set", "key", "correct"]) for path in predictions]
    mine = [t.filter(pc.equal(t["test_set"], test_set)).sort_by("key") for t in tables]
    for path, table in zip(predictions, mine, strict=True):
        if not table["key"].equals(mine[0]["key"]):
            raise ClipshiftError(f"{path}: other images of {test_set} than in {predictions[0]}")
    return mine[0]["key"].to_pylist(), np.stack([table["correct"].to_numpy() for table in mine])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", required=True)
    parser.add_argument("--account", type=Path, required=True, help="JSON account of the split")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("runs", type=Path, nargs="+")
    args = parser.parse_args()
    summarise(args.name, args.runs, args.account, args.out)


if __name__ == "__main__":
    run(main)
