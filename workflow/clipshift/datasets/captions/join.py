"""ImageNet-Captions: captions by class and file name for a folder of images that the user has.

`shard`: one shard of a pool (tar, table, counts) and its fields (title, description, tags, label).
`report`: what was matched over all shards.

The JSON is a list of `{filename, wnid, title, description, tags}` (Fang et al. 2022). It is read
as a stream; a shard holds its own entries only. A label is the place of the class folder among all,
in the order of WordNet ids. Counts are reported, never assumed.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from clipshift.core.counts import StepCounts
from clipshift.core.database import database, listed
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_json, sha256_bytes, write_json, write_parquet
from clipshift.core.step import step
from clipshift.datasets.captions.schema import FIELDS
from clipshift.datasets.pool import shard_of
from clipshift.datasets.prompts import imagenet_names
from clipshift.datasets.shards import shard_entry, url_hash, write_table, write_tar
from clipshift.datasets.tar_paths import data_folder
from clipshift.datasets.tars import Sample

IMAGENET = 1000
_COLUMNS = {
    "filename": "VARCHAR", "wnid": "VARCHAR", "title": "VARCHAR", "description": "VARCHAR",
    "tags": "VARCHAR[]",
}  # fmt: skip
ROWS = 10_000
Entry = dict[str, Any]


def entries(captions: Path) -> Iterator[Entry]:
    """Entries of the JSON, in its order, a batch in memory at a time; absent keys are None.

    Raises:
        ClipshiftError: it is no JSON list of such entries.
    """
    with database() as db:
        try:
            db.execute(
                f"SELECT * FROM read_json({listed([captions])}, format = 'array', columns = $1, "
                "hive_partitioning = false)",
                [_COLUMNS],
            )
            while batch := db.fetchmany(ROWS):
                yield from (dict(zip(_COLUMNS, values, strict=True)) for values in batch)
        except duckdb.Error as error:
            raise ClipshiftError(
                f"{captions} is no list of {{{', '.join(_COLUMNS)}}}: {error}"
            ) from error


def class_folders(images: Path, expected: int) -> dict[str, int]:
    """WordNet id -> label: the class folders in the order of their names.

    Raises:
        ClipshiftError: another number of folders, so that labels would shift.
    """
    names = sorted(entry.name for entry in images.iterdir() if entry.is_dir())
    if len(names) != expected:
        raise ClipshiftError(
            f"{images} has {len(names)} class folders, expected {expected}: labels are their "
            "places in order, so all must be there, also those without captions"
        )
    return {name: label for label, name in enumerate(names)}


@step(version=1)
def shard(
    pool: str, captions: Path, images: Path, classes: int, shard: int, shards: int, tar: Path,
    fields: Path,
) -> None:  # fmt: skip
    """Write one shard: the entries whose key belongs to it and whose image is there.

    Args:
        captions, images: the JSON and the folder, below the folder of the user's data.
        classes: how many class folders there must be.
        tar: to write; table and counts go beside it.
        fields: the table of fields to write.
    """
    captions, images = data_folder() / captions, data_folder() / images
    step_counts = StepCounts("pool", tar.stem)
    labels = class_folders(images, classes)
    mine: dict[str, Entry] = {}
    for entry in entries(captions):
        filename, wnid = entry["filename"], entry["wnid"]
        if not filename or not wnid:
            # No key says whose shard it is: the first counts it.
            step_counts.came_in += shard == 0
            step_counts.rejected["no file name or class"] += shard == 0
            continue
        key = Path(filename).stem.replace(".", "_")
        if shard_of(key, shards) != shard:
            continue
        step_counts.came_in += 1
        if reason := _reason(entry, key, mine, labels, images):
            step_counts.rejected[reason] += 1
        else:
            mine[key] = entry
    rows: list[dict[str, Any]] = []
    texts: list[dict[str, Any]] = []
    named = imagenet_names() if classes == IMAGENET else list(labels)

    def samples() -> Iterator[Sample]:
        for key in sorted(mine):
            entry = mine[key]
            wnid = entry["wnid"]
            path = images / wnid / entry["filename"]
            data = path.read_bytes()
            text = {f: (entry[f] or "").strip() for f in ("title", "description")}
            text["tags"] = ", ".join(filter(None, entry["tags"] or []))
            texts.append({"key": key, "label": labels[wnid]} | text)
            rows.append(_row(pool, key, wnid, entry["filename"], named[labels[wnid]], data, text))
            caption = rows[-1]["caption"].encode()
            yield Sample(key, {"jpg": data, "txt": caption})

    step_counts.went_out = write_tar(tar, samples())
    step_counts.rejected = +step_counts.rejected
    write_table(tar.with_suffix(".parquet"), rows)
    write_parquet(fields, pa.Table.from_pylist(texts, schema=FIELDS))
    counts = Counter(row["category"] for row in rows)
    entry = {
        "account": step_counts.as_json(),
        "shard": shard_entry(tar, step_counts.went_out),
        "classes": dict(sorted(counts.items())),
        "folders": sorted(labels) if shard == 0 else [],
    }
    write_json(tar.with_suffix(".json"), entry)


def _reason(
    entry: Entry, key: str, mine: dict[str, Entry], labels: dict[str, int], images: Path
) -> str | None:
    if entry["wnid"] not in labels:
        return "no such class folder"
    if key in mine:
        same = (mine[key]["wnid"], mine[key]["filename"]) == (entry["wnid"], entry["filename"])
        return "listed twice" if same else "another image of this file name"
    if not (images / entry["wnid"] / entry["filename"]).is_file():
        return "image missing"
    return None


def _row(
    name: str, key: str, wnid: str, filename: str, class_name: str, data: bytes,
    text: dict[str, str],
) -> dict[str, Any]:  # fmt: skip
    locator = f"{name}/{wnid}/{filename}"
    return {
        "key": key,
        "url_hash": url_hash(locator),
        "sha256": sha256_bytes(data),
        "caption": ", ".join(filter(None, (text["title"], text["description"], text["tags"]))),
        "source": name,
        "family": name,
        "concept": wnid,
        "category": wnid,
        "class_name": class_name,
        "held_out": False,
        "domain": "photo",
        "licence": "",
        "author": "",
        "locator": locator,
    }


@step(version=1)
def report(counts: list[Path], out: Path) -> None:
    """Write what was matched over all shards: counts, and the images of each class."""
    total = StepCounts("join", counts[0].parent.name)
    by_class: Counter[str] = Counter()
    folders: list[str] = []
    for path in counts:
        entry = read_json(path)
        total.add(StepCounts.from_json(entry["account"]))
        by_class.update(entry["classes"])
        folders += entry["folders"]
    sizes = sorted(by_class.values())
    found = {
        "account": total.as_json(),
        "classes": len(by_class),
        "classes_without_pictures": [wnid for wnid in folders if wnid not in by_class],
        "pictures_per_class": {
            "min": sizes[0] if sizes else 0,
            "mean": round(sum(sizes) / len(sizes), 1) if sizes else 0,
            "max": sizes[-1] if sizes else 0,
        },
    }
    write_json(out, found)
