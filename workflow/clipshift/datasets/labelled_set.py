"""Write a labelled set in CLIP_benchmark's webdataset layout.

The folder of a set holds `{test|train}/0.tar`, `{test|train}/nshards.txt`, `classnames.txt`,
`dataset_type.txt`, and our `samples.parquet` and `manifest.json`. The prompt templates are written
apart, so that another prompt rebuilds no set.
"""

import difflib
import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from clipshift.core.counts import StepCounts
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import write_json, write_text
from clipshift.core.step import step
from clipshift.datasets.select import copy_samples, read_sources, select
from clipshift.datasets.shards import shard_entry, write_table, write_tar
from clipshift.datasets.tars import Sample
from clipshift.study.config.data import Holdout, TestSet

LOG = logging.getLogger(__name__)


def _unmatched(paths: Sequence[str], sources: Mapping[str, Path]) -> str:
    """The paths of classes that no item of the sources has, with categories that are near."""
    categories = {
        row["category"]
        for rows in read_sources(sources).values()
        for row in rows
        if row["category"]
    }
    folders = {c.rsplit("/", n)[0] for c in categories for n in range(c.count("/") + 1)}
    lines = []
    for path in paths:
        if not any(c == path or c.startswith(path + "/") for c in categories):
            near = difflib.get_close_matches(path, sorted(folders), n=3)
            near = near or sorted(f for f in folders if f.count("/") == path.count("/"))[:5]
            lines.append(f"no item has the path {path}; there are {', '.join(near) or 'none'}")
    return "".join(f". In `classes`, {line}" for line in lines)


@step(version=1)
def build(
    testset: str, spec: TestSet, classes: dict[str, list[str]], holdout: Holdout,
    sources: dict[str, Path], out: Path,
) -> None:  # fmt: skip
    """Write the set.

    Args:
        classes: category paths of each class; their order is that of the labels.
        sources: folder of each source.
        out: folder.

    Raises:
        ClipshiftError: a class has fewer items than `minimum_per_class`, or its paths match none
            of the sources.
    """
    if strange := [c for c in spec.classes or [] if c not in classes]:
        raise ClipshiftError(f"sets.{testset}.classes: no path of {strange} matches its sources")
    names = [c for c in classes if spec.classes is None or c in spec.classes]
    selection = select(read_sources(sources), spec.take, classes, holdout)
    step_counts = StepCounts("set", testset, came_in=len(selection.rows) + len(selection.rejected))
    step_counts.rejected = Counter(selection.rejected.values())
    rows = []
    for row in selection.rows:
        if row["class_name"] in names:
            rows.append(row)
        else:
            step_counts.rejected["no class of the set"] += 1
    counts = Counter(row["class_name"] for row in rows)
    short = {c: counts[c] for c in names if counts[c] < spec.minimum_per_class}
    if short:
        raise ClipshiftError(
            f"set {testset}: fewer than {spec.minimum_per_class} items in {short}. Take more "
            f"sources, hold out more concepts, or name the set's own `classes`"
            + _unmatched([path for c in short for path in classes[c]], sources)
        )
    tar = out / spec.split / "0.tar"
    index = {c: str(i).encode() for i, c in enumerate(names)}
    labels = {row["key"]: index[row["class_name"]] for row in rows}
    step_counts.went_out = write_tar(
        tar,
        (
            Sample(s.key, {"jpg": s.image, "cls": labels[s.key]})
            for s in copy_samples(rows, sources)
        ),
    )
    write_text(tar.parent / "nshards.txt", "1\n")
    write_text(out / "classnames.txt", "\n".join(names) + "\n")
    write_text(out / "dataset_type.txt", "multiclass\n")
    write_table(out / "samples.parquet", rows)
    manifest = {
        "account": step_counts.as_json(),
        "shards": [shard_entry(tar, step_counts.went_out)],
        "classes": {c: counts[c] for c in names},
    }
    write_json(out / "manifest.json", manifest)
    LOG.info(json.dumps(manifest["account"], indent=2))
