"""Placeholders of a downloaded pool: images whose very bytes came from many URLs.

The table holds `sha256, urls, example`; the `.json` beside it also says how many repeated images
stay below the threshold.
"""

import logging
from pathlib import Path

import pyarrow as pa

from clipshift.core.database import database, parquet
from clipshift.core.files import Files, write_json, write_parquet
from clipshift.core.step import step

LOG = logging.getLogger(__name__)

REASON = "placeholder: the same bytes from many URLs"
SCHEMA = pa.schema([("sha256", pa.string()), ("urls", pa.int64()), ("example", pa.string())])
# Of those below the threshold, as many are spelled out.
SHOWN = 20


@step(version=1)
def find(fetched: Files, at_least: int | None, table: Path) -> None:
    """Write the placeholders of a pool.

    Args:
        fetched: tables of every shard, as `fetch` writes them.
        at_least: URLs that make an image a placeholder; None: none is one.
    """
    with database() as db:
        db.execute(
            f"""CREATE TEMP TABLE repeated AS
            SELECT sha256, count(*) AS urls, min(url) AS example
            FROM {parquet(fetched)} WHERE reason IS NULL
            GROUP BY sha256 HAVING count(*) > 1"""
        )
        limit = "NULL" if at_least is None else str(at_least)
        above = f"coalesce(urls >= {limit}, false)"
        order = "ORDER BY urls DESC, sha256"
        rows, below = (
            db.sql(f"FROM repeated WHERE {which} {order}").to_arrow_table()
            for which in (above, f"NOT {above}")
        )
    write_parquet(table, rows.cast(SCHEMA))
    record = {
        "at_least": at_least,
        "placeholders": rows.to_pylist()[:SHOWN],
        "found": len(rows),
        "urls_of_placeholders": sum(rows["urls"].to_pylist()),
        "repeated_below": len(below),
        "repeated_below_examples": below.to_pylist()[:SHOWN],
    }
    write_json(table.with_suffix(".json"), record)
    LOG.info(f"{len(rows)} placeholders")
