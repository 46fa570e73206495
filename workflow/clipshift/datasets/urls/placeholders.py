"""Placeholders of a downloaded pool: pictures whose very bytes came from many URLs.

`python -m clipshift.datasets.urls.placeholders --at-least N --out FILE TABLES...` writes `sha256, urls,
example`, and `FILE.json`, which also says how many repeated pictures stay below the threshold.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from clipshift.core.brace_ranges import spread
from clipshift.core.database import database
from clipshift.core.errors import run
from clipshift.core.files import write_json, write_parquet

REASON = "placeholder: the same bytes from many URLs"
SCHEMA = pa.schema([("sha256", pa.string()), ("urls", pa.int64()), ("example", pa.string())])
# Of those below the threshold, as many are spelled out.
SHOWN = 20


def find(fetched: Sequence[Path], at_least: int | None, out: Path) -> int:
    """Write the placeholders of a pool and return their number.

    Args:
        fetched: of every shard, as `fetch` writes them.
        at_least: URLs that make a picture a placeholder; None: none is one.
    """
    with database() as db:
        files = ", ".join(f"'{path}'" for path in fetched)
        db.execute(
            f"""CREATE TEMP TABLE repeated AS
            SELECT sha256, count(*) AS urls, min(url) AS example
            FROM read_parquet([{files}]) WHERE reason IS NULL
            GROUP BY sha256 HAVING count(*) > 1"""
        )
        limit = "NULL" if at_least is None else str(at_least)
        above = f"coalesce(urls >= {limit}, false)"
        order = "ORDER BY urls DESC, sha256"
        rows, below = (
            db.sql(f"FROM repeated WHERE {which} {order}").to_arrow_table()
            for which in (above, f"NOT {above}")
        )
    write_parquet(out, rows.cast(SCHEMA))
    record = {
        "at_least": at_least,
        "placeholders": rows.to_pylist()[:SHOWN],
        "found": len(rows),
        "urls_of_placeholders": sum(rows["urls"].to_pylist()),
        "repeated_below": len(below),
        "repeated_below_examples": below.to_pylist()[:SHOWN],
    }
    write_json(out.with_suffix(".json"), record)
    return len(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--at-least", type=int)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("fetched", nargs="+", help="tables, or numbered ranges of them")
    args = parser.parse_args()
    fetched = [path for word in args.fetched for path in spread(word)]
    print(f"{find(fetched, args.at_least, args.out)} placeholders")


if __name__ == "__main__":
    run(main)
