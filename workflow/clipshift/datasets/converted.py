"""Pools and labelled sets of the user's in any format, copied into files of the project's layout.

Images are copied as they are stored. A sample's shard follows from its key; a shard's samples are
in the order of the data. What is no sample is counted by its reason.
"""

import json
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from clipshift.core.counts import StepCounts
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import write_json, write_parquet, write_text
from clipshift.core.job_logs import note
from clipshift.core.step import step
from clipshift.datasets.class_lists import classes_of
from clipshift.datasets.conversion import (
    Classes,
    Found,
    caption_of,
    chosen_units,
    find,
    opened,
    row_of,
    stored_bytes,
)
from clipshift.datasets.external_set import expect
from clipshift.datasets.images import Undecodable
from clipshift.datasets.parts import Part
from clipshift.datasets.shards import SAMPLE_SCHEMA, shard_entry, write_tar
from clipshift.datasets.tar_paths import data_folder
from clipshift.datasets.tars import Sample
from clipshift.study.config.folders import ConvertedPool, FolderSet

LOG = logging.getLogger(__name__)

Rows = list[dict[str, Any]]


@step(version=1)
def pool_shard(pool: str, spec: ConvertedPool, shard: int, tar: Path) -> None:
    """Write a shard of a pool: tar, table and counts.

    Raises:
        ClipshiftError: the data cannot be read, or two samples share a key.
    """
    data = data_folder()
    dataset = opened(spec, data)
    units = chosen_units(dataset, spec.units)
    part = Part(spec, dataset, units)
    classes = None
    names = data / spec.class_names if spec.class_names else None
    if names or dataset.classes():
        classes = classes_of(dataset, units, names)
    counts = StepCounts("pool", tar.stem)
    rows: Rows = []

    def samples() -> Iterator[Sample]:
        for found in find(pool, dataset, units, part, shard, spec.shards):
            counts.came_in += 1
            try:
                if not isinstance(found, Found):
                    raise Undecodable(found.reason)
                image = stored_bytes(found.record)
                name = _class_name(found.record.label, classes)
                caption = caption_of(found.record, name, spec.template)
            except Undecodable as reason:
                counts.rejected[str(reason)] += 1
                continue
            rows.append(row_of(pool, found, image, caption, name))
            yield Sample(found.key, {"jpg": image, "txt": caption.encode()})

    counts.went_out = write_tar(tar, samples())
    _write_table(tar.with_suffix(".parquet"), rows)
    entry: dict[str, Any] = {
        "account": counts.as_json(),
        "shard": shard_entry(tar, counts.went_out),
    }
    if blank := sum(not row["caption"] for row in rows):
        entry["without_caption"] = blank
    if shard == 0:
        entry |= {"format": dataset.name, "not_read": dict(sorted(dataset.left_out.items()))}
        _tell(f"pools.{pool}", dataset.said)
    write_json(tar.with_suffix(".json"), entry)
    LOG.info(json.dumps(entry, indent=2))


def _class_name(label: str | None, classes: Classes | None) -> str | None:
    """The name of a label; where no list of classes is known, the label itself."""
    if not label or classes is None:
        return label or None
    try:
        return classes.name(label)
    except ClipshiftError as error:
        raise Undecodable("label of no class") from error


@step(version=1)
def labelled_set(testset: str, spec: FolderSet, out: Path) -> None:
    """Write a labelled set in CLIP_benchmark's layout (see `clipshift.datasets.labelled_set`).

    Args:
        out: folder.

    Raises:
        ClipshiftError: the data cannot be read; samples or classes are not as configured; a
            sample has no label, or that of no class.
    """
    data = data_folder()
    dataset = opened(spec, data)
    units = chosen_units(dataset, spec.units)
    names = data / spec.class_names if spec.class_names else None
    classes = classes_of(dataset, units, names, spec.names == "openai_imagenet")
    if classes is None:
        raise ClipshiftError(f"{dataset.path}: no sample has a label; give `columns: {{label: X}}`")
    expect(dataset.path, "classes", spec.classes, len(classes.names))
    part = Part(spec, dataset, units)
    counts = StepCounts("set", testset)
    rows: Rows = []
    by_class: Counter[int] = Counter()

    def samples() -> Iterator[Sample]:
        for found in find(testset, dataset, units, part):
            counts.came_in += 1
            try:
                if not isinstance(found, Found):
                    raise Undecodable(found.reason)
                if not found.record.label:
                    raise Undecodable("no label")
                image = stored_bytes(found.record)
            except Undecodable as reason:
                counts.rejected[str(reason)] += 1
                continue
            try:
                label = classes.index(found.record.label)
            except ClipshiftError as error:
                raise ClipshiftError(f"{found.record.place}: {error}") from None
            by_class[label] += 1
            name = classes.names[label]
            rows.append(row_of(testset, found, image, name, name))
            yield Sample(found.key, {"jpg": image, "cls": str(label).encode()})

    tar = out / spec.written_split / "0.tar"
    counts.went_out = write_tar(tar, samples())
    left = f" (left out: {dict(counts.rejected)})" if counts.rejected else ""
    expect(dataset.path, f"samples{left}", spec.samples, counts.went_out)
    without = [name for label, name in enumerate(classes.names) if not by_class[label]]
    if not spec.part:  # a small class may have no sample in a part
        expect(dataset.path, "classes with a sample", spec.classes, len(by_class))
    write_text(tar.parent / "nshards.txt", "1\n")
    write_text(out / "classnames.txt", "\n".join(classes.names) + "\n")
    write_text(out / "dataset_type.txt", "multiclass\n")
    _write_table(out / "samples.parquet", rows)
    totals: Counter[str] = Counter()
    for label, name in enumerate(classes.names):
        totals[name] += by_class[label]
    manifest = {
        "account": counts.as_json(),
        "shards": [shard_entry(tar, counts.went_out)],
        "classes": dict(totals),
        "format": dataset.name,
        "not_read": dict(sorted(dataset.left_out.items())),
    }
    _tell(f"sets.{testset}", [*dataset.said, *_of_part(part, without)])
    write_json(out / "manifest.json", manifest)
    LOG.info(json.dumps(manifest["account"], indent=2))


def _of_part(part: Part, without: Sequence[str]) -> list[str]:
    """What a part of the classes holds, and which have none of it."""
    sizes = [f"part of each class: {part}"] if part.sizes else []
    return sizes + ([f"no sample of the classes {', '.join(without)}"] if without else [])


def _tell(block: str, lines: Sequence[str]) -> None:
    for line in lines:
        note(f"{block}: {line}")


def _write_table(path: Path, rows: Rows) -> None:
    """The sample table, with `uid` where the data have it."""
    has_uid = any(row["uid"] for row in rows)
    schema = SAMPLE_SCHEMA.append(pa.field("uid", pa.string())) if has_uid else SAMPLE_SCHEMA
    write_parquet(path, pa.Table.from_pylist(rows, schema=schema))
