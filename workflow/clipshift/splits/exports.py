"""Kept points of a split for other tools: a key list, DataComp's subset, sizes of each tar."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from clipshift.core.database import Paths, count, parquet
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_json, write_json, write_npy_parts

_UID = re.compile(r"[0-9a-f]{32}")
_KEPT = "FROM split WHERE kept"


def create_tars(db: duckdb.DuckDBPyConnection, tables: Paths) -> None:
    """Table `tars`: (file, first, name), the tars behind some sample tables and their first rows.

    A table of a folder has several, whose rows are in their order; the others have their own.
    """
    rows: list[dict[str, Any]] = []
    for file, table in enumerate(tables):
        beside = table.with_suffix(".json")
        tars = read_json(beside)["shard"].get("tars") if beside.exists() else None
        first = 0
        for name, samples in (tars or {table.stem: 0}).items():
            rows.append({"file": file, "first": first, "name": name})
            first += samples
    columns = [("file", pa.uint64()), ("first", pa.int64()), ("name", pa.string())]
    given = pa.Table.from_pylist(rows, schema=pa.schema(columns))
    db.register("given", given)
    # Of tars that begin in one row all but the last are empty.
    db.execute(
        "CREATE TABLE tars AS SELECT file, first, last(name ORDER BY place) AS name "
        "FROM (SELECT *, row_number() OVER () AS place FROM given) GROUP BY file, first"
    )
    db.unregister("given")


def identity_of(db: duckdb.DuckDBPyConnection, tables: Paths) -> str:
    """SQL: `sha256` and `uid` of the pool's samples.

    Where nobody knows the hash of the stored image, that of its download stands in: equal bytes
    are equal images. `uid` is null where the pool has no ids of its own.
    """
    source = parquet(tables, ", union_by_name = true")
    columns = [row[0] for row in db.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()]
    download = "sha256_of_download" in columns
    sha256 = "coalesce(p.sha256, p.sha256_of_download)" if download else "p.sha256"
    uid = "lower(trim(p.uid))" if "uid" in columns else "NULL::VARCHAR"
    return f"{sha256} AS sha256, {uid} AS uid"


def export(db: duckdb.DuckDBPyConnection, out: Path) -> dict[str, Any]:
    """Write the exports of the table `split` beside `out`; the counts of DataComp's subset.

    Raises:
        ClipshiftError: a uid is not 32 hex digits.
    """
    width = count(db, _KEPT, "max(length(key))")
    keys = f"SELECT key {_KEPT} ORDER BY key"
    _stream_npy(db, keys, count(db, _KEPT), np.dtype(f"<U{width}"), out.with_suffix(".keys.npy"))
    sizes = db.execute(
        "SELECT shard || '.tar', count(*) FILTER (kept) FROM split WHERE shard IS NOT NULL "
        "GROUP BY shard ORDER BY shard"
    ).fetchall()
    write_json(out.with_suffix(".sizes.json"), dict(sizes))
    return _subset(db, out)


def has_uids(db: duckdb.DuckDBPyConnection) -> bool:
    """Whether the pool of the table `split` has ids of its own."""
    return count(db, "FROM split WHERE uid IS NOT NULL") > 0


def _subset(db: duckdb.DuckDBPyConnection, out: Path) -> dict[str, Any]:
    """Write DataComp's subset: each id once, for there an entry that is repeated is a weight.

    Where the pool has ids of its own, those; points without one (the reference set) are no part of
    such a pool and are left out.
    """
    own = has_uids(db)
    name = "uid" if own else "url_hash"
    entries = count(db, _KEPT, f"count(DISTINCT {name})")
    with_key = f"{name}, min(key) {_KEPT} AND {name} IS NOT NULL"
    ids = f"SELECT {with_key} GROUP BY {name} ORDER BY {name}"
    _stream_npy(db, ids, entries, np.dtype("u8,u8"), out.with_suffix(".subset_u8u8.npy"))
    with_id = count(db, f"{_KEPT} AND {name} IS NOT NULL")
    return {
        "ids": "uid of the pool" if own else "hashes of URLs: the pool has no uid",
        "entries": entries,
        "repeats": with_id - entries,
        "without_id": count(db, _KEPT) - with_id,
    }


def _stream_npy(
    db: duckdb.DuckDBPyConnection, query: str, rows: int, dtype: np.dtype, out: Path
) -> None:
    """Write the first column of a query as npy, batch by batch."""
    db.execute(query)

    def parts() -> Iterator[np.ndarray]:
        while batch := db.fetchmany(100_000):
            values: list[Any] = [row[0] for row in batch]
            if dtype.names:
                values = [_pair(*row) for row in batch]
            yield np.array(values, dtype=dtype)

    write_npy_parts(out, dtype, (rows,), parts())


def _pair(uid: str, key: str) -> tuple[int, int]:
    """An id as DataComp's resharder looks for it: two numbers of 64 bits."""
    if not _UID.fullmatch(uid):
        raise ClipshiftError(
            f"the uid {uid!r} of the sample {key!r} is not 32 hex digits, as DataComp's are; "
            "drop or rename the column `uid` of the pool's tables"
        )
    return int(uid[:16], 16), int(uid[16:], 16)
