"""Write a labelled set in CLIP_benchmark's webdataset layout.

`python -m clipshift.datasets.labelled_set --name NAME --set JSON ... --out FOLDER`: `{test|train}/0.tar`,
`{test|train}/nshards.txt`, `classnames.txt`, `dataset_type.txt`, and our `samples.parquet` and
`manifest.json`. The prompt templates are written apart, so that another prompt rebuilds no set.
"""

import argparse
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from clipshift.core.counts import Ledger
from clipshift.core.errors import ClipshiftError, run
from clipshift.core.files import write_json, write_text
from clipshift.datasets.select import (
    add_arguments,
    copy_samples,
    read_arguments,
    read_sources,
    select,
)
from clipshift.datasets.shards import Sample, shard_entry, write_table, write_tar
from clipshift.study.config.data import Holdout, TestSet


def build(
    name: str, spec: TestSet, classes: Mapping[str, Sequence[str]], holdout: Holdout,
    folders: Mapping[str, Path], out: Path,
) -> Ledger:  # fmt: skip
    """Write the set and return its account.

    Raises:
        ClipshiftError: a class has fewer items than `minimum_per_class`, or its paths match none
            of the sources.
    """
    if strange := [c for c in spec.classes or [] if c not in classes]:
        raise ClipshiftError(f"sets.{name}.classes: no path of {strange} matches its sources")
    names = [c for c in classes if spec.classes is None or c in spec.classes]
    selection = select(read_sources(folders), spec.take, classes, holdout)
    ledger = Ledger("set", name, came_in=len(selection.rows) + len(selection.rejected))
    ledger.rejected = Counter(selection.rejected.values())
    rows = []
    for row in selection.rows:
        if row["class_name"] in names:
            rows.append(row)
        else:
            ledger.rejected["no class of the set"] += 1
    counts = Counter(row["class_name"] for row in rows)
    short = {c: counts[c] for c in names if counts[c] < spec.minimum_per_class}
    if short:
        raise ClipshiftError(
            f"set {name}: fewer than {spec.minimum_per_class} items in {short}. Take more sources, "
            f"hold out more concepts, or name the set's own `classes`"
        )
    tar = out / spec.split / "0.tar"
    index = {c: str(i).encode() for i, c in enumerate(names)}
    labels = {row["key"]: index[row["class_name"]] for row in rows}
    ledger.went_out = write_tar(
        tar,
        (
            Sample(s.key, {"jpg": s.image, "cls": labels[s.key]})
            for s in copy_samples(rows, folders)
        ),
    )
    write_text(tar.parent / "nshards.txt", "1\n")
    write_text(out / "classnames.txt", "\n".join(names) + "\n")
    write_text(out / "dataset_type.txt", "multiclass\n")
    write_table(out / "samples.parquet", rows)
    manifest = {
        "account": ledger.as_json(),
        "shards": [shard_entry(tar, ledger.went_out)],
        "classes": {c: counts[c] for c in names},
    }
    write_json(out / "manifest.json", manifest)
    return ledger


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", required=True)
    parser.add_argument("--set", required=True, help="JSON of the set block")
    parser.add_argument("--out", type=Path, required=True)
    add_arguments(parser)
    args = parser.parse_args()
    classes, holdout, folders = read_arguments(args)
    spec = TestSet.model_validate_json(args.set)
    ledger = build(args.name, spec, classes, holdout, folders, args.out)
    print(json.dumps(ledger.as_json(), indent=2))


if __name__ == "__main__":
    run(main)
