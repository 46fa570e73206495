"""The list of a downloaded pool: every URL once, with its key and its shard.

It holds `key, url, caption, shard`, in the order of shard and key; the `.json` beside it holds the
counts, and how each file was read. A key is the hash of the URL, and the shard follows from the
key, so neither the order of the list nor further URLs change where a URL belongs.
"""

import json
import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from clipshift.core.counts import StepCounts
from clipshift.core.csv_file import CsvFile, open_csv
from clipshift.core.database import count, database, literal, parquet, reading, text_of
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import atomic_path, write_json
from clipshift.core.parquet import require_columns, schema_of
from clipshift.core.sniff import regular_file
from clipshift.core.step import step
from clipshift.datasets.identity import form, is_url
from clipshift.datasets.records import printable

LOG = logging.getLogger(__name__)

# Rows of a row group: what a job that wants one shard reads at least.
GROUP = 20_000
# Beyond it the list is sorted on disk.
MEMORY = "4GB"
# Rows of a table of text in memory.
ROWS = 65_536
# Numbers of rows that are left out, as many as are spelled out for each reason.
SHOWN = 5
# The same as `shards.url_hash`.
KEY = "substr(sha256(url), 1, 32)"
FAULT = """CASE WHEN url IS NULL THEN 'no URL'
    WHEN NOT regexp_matches(url, '^https?://', 'i') THEN 'not http or https' END"""
NOT_UTF_8 = "URL is not UTF-8"


@step(version=2)
def write_list(
    pool: str, files: list[Path], columns: tuple[str, str], shards: int, urls: Path
) -> None:
    """Write the list of a pool and its counts.

    Args:
        columns: of the URLs and of the captions; where a file has no header, numbers from 0.
        urls: the list.

    Captions stay as they are. Of a URL that is listed twice the caption that comes first in the
    alphabet stays.

    Raises:
        ClipshiftError: a file is unreadable, lacks a column, or none holds a URL.
    """
    step_counts = StepCounts("urls", pool)
    with database(MEMORY) as db:
        db.execute("CREATE TEMP TABLE given (url VARCHAR, caption VARCHAR)")
        read = {printable(str(file)): _read(db, file, columns, step_counts) for file in files}
        faults = f"SELECT {FAULT} AS fault, count(*) FROM given GROUP BY fault"
        for fault, rows in db.execute(faults).fetchall():
            step_counts.came_in += rows
            step_counts.rejected[fault] += rows if fault else 0
        step_counts.rejected = +step_counts.rejected
        with atomic_path(urls) as part:
            db.execute(
                f"""COPY (
                    SELECT key, url, caption, ('0x' || key[1:8])::UBIGINT % {shards} AS shard
                    FROM (SELECT {KEY} AS key, url, coalesce(min(caption), '') AS caption
                          FROM given WHERE {FAULT} IS NULL GROUP BY url)
                    ORDER BY shard, key
                ) TO {literal(part)} (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {GROUP})"""
            )
        step_counts.went_out = count(db, f"FROM {parquet([urls])}")
    if not step_counts.went_out:
        urls.unlink()
        raise ClipshiftError(
            f"{', '.join(map(str, files))}: no URL in the column {columns[0]!r} "
            f"({dict(step_counts.rejected) or 'no row'})"
        )
    if twice := step_counts.came_in - step_counts.rejected.total() - step_counts.went_out:
        step_counts.rejected["listed twice"] = twice
    write_json(urls.with_suffix(".json"), step_counts.as_json() | {"files": read})
    LOG.info(json.dumps(step_counts.as_json() | {"files": read}, indent=2))


def _read(
    db: duckdb.DuckDBPyConnection, file: Path, columns: tuple[str, str], step_counts: StepCounts
) -> dict[str, Any]:
    """Add a file's URLs and captions to the table `given`; how it was read."""
    if file.suffix.lower() == ".parquet":
        _read_parquet(db, file, columns)
        return {"columns": list(columns)}
    table = open_csv(file, is_url)
    places, said = _places(table, columns)
    left_out: dict[str, list[int]] = {}
    notes: Counter[str] = Counter()
    for batch in _batches(table, places, left_out, notes):
        db.register("batch", batch)
        db.execute(f"INSERT INTO given SELECT {form('url', 'url')}, caption FROM batch")
        db.unregister("batch")
    for reason, rows in left_out.items():
        step_counts.came_in += notes[reason]
        step_counts.rejected[reason] += notes.pop(reason)
        said.setdefault("first_rows_left_out", {})[reason] = rows
    return said | dict(notes)


def _batches(
    table: CsvFile, places: tuple[int, int], left_out: dict[str, list[int]], notes: Counter[str]
) -> Iterator[pa.Table]:
    """`url, caption` of the good rows. The others are counted in `notes`, with their numbers."""
    urls: list[str] = []
    captions: list[str] = []
    for number, row in table.rows():
        fault = row if isinstance(row, str) else None
        if not isinstance(row, str):
            url, caption = (row[place] for place in places)
            fault = NOT_UTF_8 if printable(url) != url else None
        if fault:
            notes[fault] += 1
            left_out.setdefault(fault, [])
            left_out[fault] += [number] if len(left_out[fault]) < SHOWN else []
            continue
        readable = printable(caption)
        notes["captions_with_escaped_bytes"] += readable != caption
        urls.append(url)
        captions.append(readable)
        if len(urls) == ROWS:
            yield pa.table({"url": urls, "caption": captions})
            urls, captions = [], []
    if urls:
        yield pa.table({"url": urls, "caption": captions})


def _places(table: CsvFile, columns: tuple[str, str]) -> tuple[tuple[int, int], dict[str, Any]]:
    """Places of URL and caption in a row; and what to say of it.

    Raises:
        ClipshiftError: a column is not there, or it is not plain which is which.
    """
    if all(column in table.columns for column in columns):
        url, caption = map(table.columns.index, columns)
        return (url, caption), {"columns": list(columns)}
    if table.header:
        raise lacking(table.path, columns, table.columns)
    _, first = next(row for row in table.rows() if not isinstance(row[1], str))
    urls = [i for i, cell in enumerate(first) if is_url(cell)]
    if len(first) != 2 or len(urls) != 1:
        raise ClipshiftError(
            f"{table.path} has no header, and {len(first)} columns of which {len(urls)} hold a URL "
            "in the first row: give their numbers, from 0, as `url_column` and `caption_column`"
        )
    said = f"no header: column {urls[0]} holds the URLs, column {1 - urls[0]} the captions"
    return (urls[0], 1 - urls[0]), {"columns": said}


def _read_parquet(db: duckdb.DuckDBPyConnection, file: Path, columns: tuple[str, str]) -> None:
    regular_file(file)
    source = parquet([file])
    with reading([file]):
        described = db.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()
        types = {row[0]: row[1] for row in described}
        if not set(columns) <= set(types):
            raise lacking(file, columns, list(types))
        require_columns(file, schema_of(file), columns)
        url, caption = (text_of(column, types[column], file) for column in columns)
        db.execute(f"INSERT INTO given SELECT {form('url', url)}, {caption} FROM {source}")


def lacking(file: Path, columns: tuple[str, str], there: list[str]) -> ClipshiftError:
    lacks = [c for c in columns if c not in there]
    return ClipshiftError(
        f"{file} lacks the columns {lacks}; it has {there}. `url_column` and "
        "`caption_column` name them"
    )


def read_shard(urls: Path, shard: int) -> pa.Table:
    """`key, url, caption` of a shard, in the order of keys."""
    with database() as db:
        query = f"SELECT key, url, caption FROM {parquet([urls])} WHERE shard = ? ORDER BY key"
        return db.sql(query, params=[shard]).to_arrow_table()
