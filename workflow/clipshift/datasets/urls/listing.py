"""The list of a downloaded pool: every URL once, with its key and its shard.

It holds `key, url, caption, shard`, in the order of shard and key; the `.json` beside it holds the
counts. A key is the hash of the URL, and the shard follows from the key, so neither the order of
the list nor further URLs change where a URL belongs.
"""

import json
from collections import Counter
from pathlib import Path

import duckdb
import pyarrow as pa

from clipshift.core.counts import StepCounts
from clipshift.core.database import database, literal
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import atomic_path, write_json
from clipshift.core.step import step

# Rows of a row group: what a job that wants one shard reads at least.
GROUP = 20_000
# Beyond it the list is sorted on disk.
MEMORY = "4GB"
# The same as `shards.url_hash`.
KEY = "substr(sha256(url), 1, 32)"
FAULT = """CASE WHEN coalesce(url, '') = '' THEN 'no URL'
    WHEN NOT regexp_matches(url, '^https?://', 'i') THEN 'not http or https' END"""


@step(version=1)
def write_list(
    pool: str, files: list[Path], columns: tuple[str, str], shards: int, urls: Path
) -> None:
    """Write the list of a pool and its counts.

    Args:
        columns: of the URLs and of the captions.
        urls: the list.

    Of a URL that is listed twice the caption that comes first in the alphabet stays.

    Raises:
        ClipshiftError: a file is unreadable, lacks a column, or none holds a URL.
    """
    step_counts = StepCounts("urls", pool)
    with database(MEMORY) as db:
        parts = " UNION ALL ".join(_rows(db, file, columns) for file in files)
        db.execute(f"CREATE TEMP TABLE given AS SELECT *, {FAULT} AS fault FROM ({parts})")
        counts = db.execute("SELECT fault, count(*) FROM given GROUP BY fault").fetchall()
        step_counts.came_in = sum(n for _, n in counts)
        step_counts.rejected = Counter({fault: n for fault, n in counts if fault})
        with atomic_path(urls) as part:
            db.execute(
                f"""COPY (
                    SELECT key, url, caption, ('0x' || key[1:8])::UBIGINT % {shards} AS shard
                    FROM (SELECT {KEY} AS key, url, coalesce(min(caption), '') AS caption
                          FROM given WHERE fault IS NULL GROUP BY url)
                    ORDER BY shard, key
                ) TO {literal(part)} (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {GROUP})"""
            )
        step_counts.went_out = db.execute(f"SELECT count(*) FROM '{urls}'").fetchall()[0][0]
    if not step_counts.went_out:
        urls.unlink()
        raise ClipshiftError(f"{', '.join(map(str, files))}: no URL in the column {columns[0]!r}")
    if twice := step_counts.came_in - step_counts.rejected.total() - step_counts.went_out:
        step_counts.rejected["listed twice"] = twice
    write_json(urls.with_suffix(".json"), step_counts.as_json())
    print(json.dumps(step_counts.as_json(), indent=2))


def _rows(db: duckdb.DuckDBPyConnection, file: Path, columns: tuple[str, str]) -> str:
    """A query of a file's URLs and captions."""
    parquet = file.suffix == ".parquet"
    options = "" if parquet else ", all_varchar = true"
    source = f"read_{'parquet' if parquet else 'csv'}({literal(file)}{options})"
    try:
        named = [row[0] for row in db.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()]
    except duckdb.Error as error:
        raise ClipshiftError(f"{file} is not readable: {error}") from error
    if lacking := [c for c in columns if c not in named]:
        raise ClipshiftError(
            f"{file} lacks the columns {lacking}; it has {named}. `url_column` and "
            "`caption_column` name them"
        )
    url, caption = (f'"{column}"::VARCHAR' for column in columns)
    return f"SELECT trim({url}) AS url, trim({caption}) AS caption FROM {source}"


def read_shard(urls: Path, shard: int) -> pa.Table:
    """`key, url, caption` of a shard, in the order of keys."""
    with database() as db:
        query = "SELECT key, url, caption FROM read_parquet(?) WHERE shard = ? ORDER BY key"
        return db.sql(query, params=[str(urls), shard]).to_arrow_table()
