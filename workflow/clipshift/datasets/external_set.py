"""Check a labelled set that the user has in CLIP_benchmark's layout, and write its table.

The table is `samples.parquet`; `classnames.txt`, `dataset_type.txt` and `manifest.json` lie beside
it. The tars are read once and stay where they are.
"""

import json
import logging
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from clipshift.core.counts import StepCounts
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import atomic, sha256_bytes, write_json, write_text
from clipshift.core.step import step
from clipshift.datasets import prompts
from clipshift.datasets.class_lists import check_order
from clipshift.datasets.formats.class_names import read_class_names
from clipshift.datasets.images import Undecodable
from clipshift.datasets.shards import SAMPLE_SCHEMA, url_hash
from clipshift.datasets.tar_paths import data_folder, set_tars
from clipshift.datasets.tars import read_tar
from clipshift.study.config.folders import FolderSet

LOG = logging.getLogger(__name__)


@step(version=1)
def build(testset: str, spec: FolderSet, out: Path) -> None:
    """Write the table and the manifest of a set.

    Raises:
        ClipshiftError: samples, classes or their order are not as the configuration says.
    """
    folder = data_folder() / spec.folder
    names = class_names(spec, folder)
    tars = set_tars(folder / spec.split)
    counts: Counter[int] = Counter()
    keys: set[str] = set()
    rejected: Counter[str] = Counter()
    shards = []
    with (
        atomic(out / "samples.parquet") as stream,
        pq.ParquetWriter(stream, SAMPLE_SCHEMA, compression="zstd") as writer,
    ):
        for tar in tars:
            found = list(_rows(testset, spec.split, tar, names, keys, rejected))
            counts.update(label for label, _ in found)
            rows = [row for _, row in found]
            shards.append({"name": tar.name, "samples": len(rows), "bytes": tar.stat().st_size})
            writer.write_table(pa.Table.from_pylist(rows, schema=SAMPLE_SCHEMA))
    expect(folder, "samples", spec.samples, len(keys))
    expect(folder, "classes with a sample", spec.classes, len(counts))
    write_text(out / "classnames.txt", "\n".join(names) + "\n")
    write_text(out / "dataset_type.txt", "multiclass\n")
    went_out = len(keys) - rejected.total()
    step_counts = StepCounts("set", testset, len(keys), went_out, rejected)
    classes: Counter[str] = Counter()
    for label, class_name in enumerate(names):
        classes[class_name] += counts[label]
    manifest = {"account": step_counts.as_json(), "shards": shards, "classes": dict(classes)}
    write_json(out / "manifest.json", manifest)
    LOG.info(json.dumps(manifest["account"], indent=2))


def class_names(spec: FolderSet, folder: Path) -> list[str]:
    """The names of the classes, in the order of the labels. OpenAI's list has two names twice.

    Raises:
        ClipshiftError: another number of classes, or not the order of ImageNet.
    """
    file = folder / "classnames.txt"
    if not file.is_file():
        raise ClipshiftError(f"{file} is missing; a set of CLIP_benchmark's has it")
    names = read_class_names(file)
    expect(file, "classes", spec.classes, len(names))
    if spec.names == "openai_imagenet":
        # Of a study that `scale` made smaller, the first ones.
        given, names = names, prompts.imagenet_names()[: spec.classes]
        expect(file, "classes of ImageNet", len(names), len(given))
        check_order(given, names, file)
    return names


def expect(where: Path, what: str, expected: int, found: int) -> None:
    if expected != found:
        raise ClipshiftError(
            f"{where}: expected {expected} {what}, found {found}. Correct the set's block of the "
            "configuration, or get the whole set"
        )


def _rows(
    name: str, split: str, tar: Path, names: list[str], keys: set[str], rejected: Counter[str]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Label and row of each sample of a tar; `keys` gathers those seen, none comes twice, and
    `rejected` counts those without an image."""
    for sample in read_tar(tar):
        if sample.key in keys:
            raise ClipshiftError(f"{tar}: the key {sample.key!r} occurs twice")
        keys.add(sample.key)
        text = sample.parts.get("cls", b"none").decode(errors="replace").strip()
        whole = re.fullmatch(r"([0-9]{1,9})(\.0*)?", text)
        if not whole or int(whole[1]) >= len(names):
            raise ClipshiftError(
                f"{tar}: sample {sample.key!r} has the label {text[:40]}, expected a class from "
                f"0 to {len(names) - 1}"
            )
        label = int(whole[1])
        try:
            image = sample.image
        except Undecodable as reason:
            rejected[str(reason)] += 1
            continue
        locator = f"{name}/{split}/{tar.name}/{sample.key}"
        named = names[label]
        blank = dict.fromkeys(("domain", "licence", "author"), "")
        yield (
            label,
            blank
            | {
                "key": sample.key,
                "url_hash": url_hash(locator),
                "sha256": sha256_bytes(image),
                "caption": named,
                "source": name,
                "family": name,
                "concept": named,
                "category": named,
                "class_name": named,
                "held_out": False,
                "locator": locator,
            },
        )
