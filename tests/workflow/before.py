"""Numbers of a finished study against those of the code before logits were stored.

`python -m tests.workflow.before RECORD.json [--directory DIR]` compares a finished study with a
record of the earlier one: margins, thresholds, splits and weights byte for byte, accuracies,
intervals and predictions by value.
"""

import argparse
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from clipshift.core.files import read_json, read_parquet
from clipshift.evaluation.by_domain import clean_view
from clipshift.evaluation.views import Predictions, measure, read
from clipshift.study.config.domains import Variant

# Sums of a few numbers in another order: the last digits of a float may differ.
TOLERANCE = 1e-12
DIGITS = 16


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:DIGITS]


def predictions(p: Predictions) -> str:
    """A hash of what was predicted, by key."""
    columns = (p.keys.tolist(), p.label.tolist(), p.predicted.tolist())
    rows = sorted(zip(*columns, strict=True))
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:DIGITS]


def files(results: Path, record: Mapping[str, Any]) -> Iterator[str]:
    """Files that must be the same bytes, and are not."""
    places = {
        "margins": "margins/{}.parquet",
        "thresholds": "thresholds/{}",
        "splits": "splits/{}.parquet",
        "models": "models/{}/model.pt",
    }
    for kind, pattern in places.items():
        for name, digest in record[kind].items():
            file = results / pattern.format(name)
            if not file.exists() or sha256(file) != digest:
                yield f"{file}: not the bytes of before"


def accuracies(results: Path, record: Mapping[str, Any]) -> Iterator[str]:
    """Accuracies, intervals and predictions that differ."""
    for kind in ("runs", "conditions"):
        for name, sets in record[kind].items():
            found = read_json(results / f"eval/{name}.json")["sets"]
            for test_set, before in sets.items():
                for key, value in before.items():
                    if key == "predictions":
                        rows = results / f"logits/{test_set}/{name}.parquet"
                        if rows.exists() and predictions(read(rows)) != value:
                            yield f"{rows}: other predictions"
                    elif not same(found[test_set][key], value):
                        yield f"{name} on {test_set}: {key} {value} -> {found[test_set][key]}"


def clean_sets(results: Path, record: Mapping[str, Any]) -> Iterator[str]:
    """Study B's accuracies on original and clean sets, with all class names and with fewer."""
    (home,) = results.glob("domains/*")
    for views in record["clean"].values():
        for view, before in views.items():
            name, variant = view.split("/")
            assert variant in get_args(Variant)
            table = read_parquet(home / f"clean/{name}.parquet", ["key", "kept"])
            kept = set(table.filter(table["kept"])["key"].to_pylist())
            for run, digest in before["predictions"].items():
                rows = results / f"logits/{before['set']}/{run}.parquet"
                seen = clean_view(rows, kept, variant)  # type: ignore[arg-type]
                found = measure(seen)
                top1 = before["top1_of_seeds"][run.rpartition("-s")[2]]
                ours = (found["n"], found["chance"], found["top1"])
                theirs = (before["n"], before["chance"], top1)
                if predictions(seen) != digest or not all(map(same, ours, theirs)):
                    yield f"{run} on {view}: {theirs} -> {ours}"


def same(a: Any, b: Any) -> bool:
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, float) and isinstance(b, float):
        return abs(a - b) <= TOLERANCE
    return bool(a == b)


def differences(results: Path, record: Mapping[str, Any]) -> list[str]:
    """Everything that is not as before."""
    return [
        *files(results, record),
        *accuracies(results, record),
        *clean_sets(results, record),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("record", type=Path)
    parser.add_argument("--directory", type=Path, default=Path())
    args = parser.parse_args()
    record = json.loads(args.record.read_text())
    record.pop("processor", None)
    found = differences(args.directory / "results", record)
    print("\n".join(found) or f"as before: { {kind: len(of) for kind, of in record.items()} }")
    raise SystemExit(bool(found))


if __name__ == "__main__":
    main()
