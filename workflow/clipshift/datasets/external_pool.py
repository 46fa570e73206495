"""The sample table of a group of img2dataset's tars, from img2dataset's own tables.

Reads the `.parquet` and `_stats.json` beside each tar, never an image. Rows of our table are in the
order of the tars; the `.json` beside it holds the counts and the number of rows of each tar.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from clipshift.core.brace_ranges import spread
from clipshift.core.counts import StepCounts
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import atomic, write_json
from clipshift.core.step import step
from clipshift.datasets.keys import refuse_repeats
from clipshift.datasets.shards import SAMPLE_SCHEMA, url_hash
from clipshift.datasets.tar_paths import data_folder, located
from clipshift.study.config.folders import STORED

# Rows in memory at a time.
ROWS = 65_536
COLUMNS = ["key", "status", "url", "caption", "sha256"]
OPTIONAL = ["uid"]
SUCCESS = "success"


@step(version=2)
def group(pool: str, tars: str, table: Path) -> None:
    """`write_group` of the tars of a word (see `clipshift.datasets.tar_paths`)."""
    paths = spread(str(located(tars, data_folder())))
    step_counts = write_group(pool, paths, table, stored=tars.startswith(STORED))
    print(json.dumps(step_counts.as_json(), indent=2))


def write_group(name: str, tars: Sequence[Path], out: Path, stored: bool = False) -> StepCounts:
    """Write the table of a group of tars and its counts.

    Args:
        tars: by number; those without a table are counted as missing.
        stored: only the tables were fetched; the tars stay in object storage.

    Raises:
        ClipshiftError: no tar of the group is there, one is unfinished, a table is not as
            img2dataset writes it, or a key occurs twice.
    """
    step_counts = StepCounts("pool", out.stem)
    sizes: dict[str, int] = {}
    missing = []
    with (
        atomic(out) as stream,
        pq.ParquetWriter(stream, SAMPLE_SCHEMA, compression="zstd") as writer,
    ):
        for tar in tars:
            table = tar.with_suffix(".parquet")
            if not table.exists():
                missing.append(tar.stem)
                continue
            _check_finished(tar, stored)
            sizes[tar.stem] = 0
            for batch in _batches(table):
                step_counts.came_in += len(batch)
                step_counts.rejected += _failures(batch)
                rows = _rows(name, batch.filter(pc.equal(batch["status"], SUCCESS)), table)
                writer.write_batch(rows)
                sizes[tar.stem] += len(rows)
    step_counts.went_out = sum(sizes.values())
    if not step_counts.went_out:
        out.unlink()
        raise ClipshiftError(f"{tars[0]} to {tars[-1].name}: no sample was downloaded")
    shard = {"name": out.stem, "samples": step_counts.went_out, "tars": sizes, "missing": missing}
    write_json(out.with_suffix(".json"), {"account": step_counts.as_json(), "shard": shard})
    refuse_repeats([out])
    return step_counts


def _check_finished(tar: Path, stored: bool) -> None:
    stats = tar.with_name(f"{tar.stem}_stats.json")
    for file, remedy in (
        (stats, "img2dataset did not finish this tar: run it again, it takes up unfinished ones"),
        (tar, "the table has lost its tar: download it again"),
    ):
        if not (file.exists() or (stored and file == tar)):
            raise ClipshiftError(f"{file} is missing; {remedy}")


def _batches(table: Path) -> Iterator[pa.RecordBatch]:
    """Some rows at a time, with the columns that we read."""
    try:
        with pq.ParquetFile(table) as file:
            if lacking := [c for c in COLUMNS if c not in file.schema_arrow.names]:
                raise ClipshiftError(
                    f"{table} lacks the columns {lacking}; it has {file.schema_arrow.names}. "
                    "img2dataset writes sha256 with --compute_hash sha256 (its default), and url "
                    "and caption with --url_col and --caption_col"
                )
            own = [c for c in OPTIONAL if c in file.schema_arrow.names]
            yield from file.iter_batches(ROWS, columns=[*COLUMNS, *own])
    except (pa.ArrowException, OSError) as error:
        raise ClipshiftError(
            f"{table} is not a readable parquet file ({error}); download its tar again"
        ) from error


def _failures(batch: pa.RecordBatch) -> Counter[str]:
    """Rows that are no sample, by status."""
    counts = pc.value_counts(pc.fill_null(batch["status"], "no status")).to_pylist()
    return Counter({c["values"]: c["counts"] for c in counts if c["values"] != SUCCESS})


def _rows(name: str, batch: pa.RecordBatch, table: Path) -> pa.RecordBatch:
    """Samples of img2dataset as rows of our sample table.

    Raises:
        ClipshiftError: a sample without key, URL or hash of its image.
    """
    for column in ("key", "url", "sha256"):
        if lacking := batch[column].null_count:
            remedy = "; run img2dataset with --compute_hash sha256" if column == "sha256" else ""
            raise ClipshiftError(f"{table}: {lacking} downloaded rows have no {column}{remedy}")
    text = {column: batch[column].cast(pa.string()) for column in ("key", "url", "sha256")}
    filled: dict[str, Any] = {
        "key": text["key"],
        "url_hash": [url_hash(url) for url in text["url"].to_pylist()],
        "sha256": text["sha256"],
        "caption": pc.fill_null(batch["caption"].cast(pa.string()), ""),
        "source": [name] * len(batch),
        "held_out": [False] * len(batch),
        "locator": text["url"],
    }
    filled |= {c: batch[c].cast(pa.string()) for c in OPTIONAL if c in batch.schema.names}
    arrays = [
        pa.array(filled[f.name], f.type)
        if isinstance(filled.get(f.name), list)
        else filled.get(f.name, pa.nulls(len(batch), f.type))
        for f in SAMPLE_SCHEMA
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=SAMPLE_SCHEMA)
