"""The sample table of a group of img2dataset's tars, from img2dataset's own tables.

Reads the `.parquet` and `_stats.json` beside each tar, and a few images. Rows of our table are in
the order of the tars; the `.json` beside it holds the counts and the number of rows of each tar.

img2dataset's `sha256` is of the bytes that were downloaded, which it resizes or encodes anew unless
told otherwise. Where the first images of a tar have it, it is the table's `sha256`; else that is
null, and the column `sha256_of_download` has it. DataComp's `uid` is a column where there is one.
"""

import json
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from clipshift.core.brace_ranges import spread
from clipshift.core.columns import text
from clipshift.core.counts import StepCounts
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import atomic, read_parquet, sha256_bytes, write_json
from clipshift.core.parquet import batches, schema_of
from clipshift.core.step import step
from clipshift.datasets.keys import refuse_repeats
from clipshift.datasets.records import Record
from clipshift.datasets.shards import SAMPLE_SCHEMA, url_hash
from clipshift.datasets.tar_paths import data_folder, located
from clipshift.datasets.tars import image_places
from clipshift.study.config.folders import STORED

LOG = logging.getLogger(__name__)

# Rows in memory at a time.
ROWS = 65_536
COLUMNS = ["key", "status", "url", "caption"]
# Of the columns that img2dataset may leave out or that its input may have, those that we keep.
OPTIONAL = ["sha256", "uid"]
# Images of a tar whose hash is compared with that of the table.
PROBED = 16
SUCCESS = "success"


@step(version=2)
def group(pool: str, tars: str, table: Path) -> None:
    """`write_group` of the tars of a word (see `clipshift.datasets.tar_paths`)."""
    paths = spread(str(located(tars, data_folder())))
    step_counts = write_group(pool, paths, table, stored=tars.startswith(STORED))
    LOG.info(json.dumps(step_counts.as_json(), indent=2))


def write_group(name: str, tars: Sequence[Path], out: Path, stored: bool = False) -> StepCounts:
    """Write the table of a group of tars and its counts.

    Args:
        tars: by number; those without a table are counted as missing. Where no download of a tar
            succeeded, its failures are counted like all others.
        stored: only the tables were fetched; the tars stay in object storage.

    Raises:
        ClipshiftError: no tar of the group is there, one is unfinished, a key occurs twice, or a
            table is not as img2dataset writes it.
    """
    step_counts = StepCounts("pool", out.stem)
    sizes: dict[str, int] = {}
    there = [tar for tar in tars if tar.with_suffix(".parquet").exists()]
    if not there:
        raise ClipshiftError(
            f"{tars[0]} to {tars[-1].name}: none of these tars has its table (.parquet); lower "
            "`tars` or `shards`"
        )
    for tar in there:
        _check_finished(tar, stored)
    columns = [columns_of(tar.with_suffix(".parquet")) for tar in there]
    of_images = [not stored and _hashes_are_of_images(tar) for tar in there]
    schema = SAMPLE_SCHEMA
    for column, wanted in (
        ("sha256_of_download", not all(of_images)),
        ("uid", any("uid" in names for names in columns)),
    ):
        schema = schema.append(pa.field(column, pa.string())) if wanted else schema
    with (
        atomic(out) as stream,
        pq.ParquetWriter(stream, schema, compression="zstd") as writer,
    ):
        for tar, names, of_image in zip(there, columns, of_images, strict=True):
            table = tar.with_suffix(".parquet")
            sizes[tar.stem] = 0
            for batch in _batches(table, names):
                step_counts.came_in += len(batch)
                step_counts.rejected += _failures(batch)
                samples = batch.filter(pc.equal(batch["status"], SUCCESS))
                rows = _rows(name, samples if of_image else _renamed(samples), table, schema)
                writer.write_batch(rows)
                sizes[tar.stem] += len(rows)
    step_counts.went_out = sum(sizes.values())
    missing = [tar.stem for tar in tars if tar not in there]
    shard = {"name": out.stem, "samples": step_counts.went_out, "tars": sizes, "missing": missing}
    write_json(out.with_suffix(".json"), {"account": step_counts.as_json(), "shard": shard})
    try:
        refuse_repeats([out], there[0].parent)
    except ClipshiftError:
        out.unlink()
        out.with_suffix(".json").unlink()
        raise
    return step_counts


def _hashes_are_of_images(tar: Path) -> bool:
    """Whether the table's `sha256` is that of the tar's images, as far as the first ones tell."""
    table = tar.with_suffix(".parquet")
    if "sha256" not in columns_of(table):
        return True
    images = islice((r for r in image_places(tar) if isinstance(r, Record)), PROBED)
    found = {r.key: sha256_bytes(r.place.read()) for r in images}
    listed = read_parquet(table, ["key", "sha256"])
    keys, listed_hashes = (text(listed[c], c, table) for c in listed.column_names)
    rows = pc.index_in(pa.array(list(found), pa.string()), keys)
    hashes = listed_hashes.take(rows).to_pylist()
    return all(said in (None, own) for said, own in zip(hashes, found.values(), strict=True))


def _renamed(batch: pa.RecordBatch) -> pa.RecordBatch:
    names = ["sha256_of_download" if c == "sha256" else c for c in batch.schema.names]
    return batch.rename_columns(names)


def _check_finished(tar: Path, stored: bool) -> None:
    stats = tar.with_name(f"{tar.stem}_stats.json")
    for file, remedy in (
        (stats, "img2dataset did not finish this tar: run it again, it takes up unfinished ones"),
        (tar, "the table has lost its tar: download it again"),
    ):
        if not (file.exists() or (stored and file == tar)):
            raise ClipshiftError(f"{file} is missing; {remedy}")


def columns_of(table: Path) -> list[str]:
    """The columns of a table that we read.

    Raises:
        ClipshiftError: it lacks some, or is no table.
    """
    names = schema_of(table).names
    if lacking := [c for c in COLUMNS if c not in names]:
        raise ClipshiftError(
            f"{table} lacks the columns {lacking}; it has {names}. img2dataset writes url and "
            "caption with --url_col and --caption_col"
        )
    return [c for c in (*COLUMNS, *OPTIONAL) if c in names]


def _batches(table: Path, names: list[str]) -> Iterator[pa.RecordBatch]:
    """Some rows at a time, with the columns that we read, as text."""
    for batch in batches(table, ROWS, names):
        texts = [text(column, name, table) for name, column in zip(names, batch, strict=True)]
        yield pa.RecordBatch.from_arrays(texts, names)


def _failures(batch: pa.RecordBatch) -> Counter[str]:
    """Rows that are no sample, by status."""
    counts = pc.value_counts(pc.fill_null(batch["status"], "no status")).to_pylist()
    return Counter({c["values"]: c["counts"] for c in counts if c["values"] != SUCCESS})


def _rows(name: str, batch: pa.RecordBatch, table: Path, schema: pa.Schema) -> pa.RecordBatch:
    """Samples of img2dataset as rows of our sample table.

    Raises:
        ClipshiftError: a sample without key or URL.
    """
    for column in ("key", "url"):
        if lacking := batch[column].null_count:
            raise ClipshiftError(f"{table}: {lacking} downloaded rows have no {column}")
    filled: dict[str, Any] = {
        column: batch[column]
        for column in ("key", "sha256", "sha256_of_download", "uid")
        if column in batch.schema.names
    }
    url = batch["url"]
    filled |= {
        "url_hash": [url_hash(text) for text in url.to_pylist()],
        "caption": pc.fill_null(batch["caption"], ""),
        "source": [name] * len(batch),
        "held_out": [False] * len(batch),
        "locator": url,
    }
    filled |= {c: batch[c] for c in OPTIONAL if c in batch.schema.names}
    arrays = [
        pa.array(filled[f.name], f.type)
        if isinstance(filled.get(f.name), list)
        else filled.get(f.name, pa.nulls(len(batch), f.type))
        for f in schema
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)
