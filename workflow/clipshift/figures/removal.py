"""What similarity-gap pruning removes, counted from stored margins at any tolerance.

A point is removed iff its margin is larger than the tolerance (`splits`, recipe `pruned`). Only
points that de-duplication left are counted. The query runs in a database on disk: margins of a
large pool do not fit in memory.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from clipshift.core.brace_ranges import sharded
from clipshift.core.database import database, parquet
from clipshift.core.errors import ClipshiftError
from clipshift.study.layout.figures import Files


@contextmanager
def margins_of(files: dict[str, Files], candidates: Files) -> Iterator[Any]:
    """A database with the table `candidate`: `key`, and `m0`, `m1`, ... of each entry of `files`.

    Args:
        files: pattern and number of the margins' shards, by a name of the caller's.
        candidates: what splits choose from: `key, dropped`, or an embedding's metadata.

    Raises:
        ClipshiftError: a candidate has no margin.
    """
    with database() as db:
        first = sharded(candidates)[0]
        scored = "dropped" in pq.read_schema(first).names
        key, stays = ("key", "NOT dropped") if scored else ("image_path AS key", "true")
        source = f"{_source(candidates)} WHERE {stays}"
        joins, columns = [], ["d.key"]
        for i, entry in enumerate(files.values()):
            joins.append(f"JOIN {_source(entry)} t{i} ON t{i}.key = d.key")
            columns.append(f"t{i}.margin AS m{i}")
        db.execute(
            f"CREATE TABLE candidate AS SELECT {', '.join(columns)} FROM "
            f"(SELECT {key} FROM {source}) d {' '.join(joins)}"
        )
        total = int(db.execute(f"SELECT count(*) FROM {source}").fetchall()[0][0])
        if count(db) != total:
            raise ClipshiftError(
                f"{total - count(db)} of the {total} points of {first} and the tables after it "
                f"have no margins in {sharded(next(iter(files.values())))[0]} and the shards after "
                "it; delete the margins of this pool and run again"
            )
        yield db


def _source(files: dict[str, Any]) -> str:
    return parquet([Path(file) for file in sharded(files)])


def count(db: Any, condition: str = "true") -> int:
    """Candidates that meet a condition on their margins."""
    return int(db.execute(f"SELECT count(*) FROM candidate WHERE {condition}").fetchone()[0])


def removed(columns: Sequence[int], tolerance: float) -> str:
    """The condition that a candidate is removed by any of the margins' columns."""
    # repr is the shortest text that reads back as the same float.
    return "(" + " OR ".join(f"m{i} > {tolerance!r}" for i in columns) + ")"
