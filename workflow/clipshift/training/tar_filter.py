"""Which samples of the user's own tars a training keeps: one sorted list of keys per tar.

They are written once per training, so a process that reads a tar holds the list of that one.
"""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from clipshift.core.database import count, database, parquet
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_parquet, write_npy, write_parquet
from clipshift.datasets.records import Rejected
from clipshift.datasets.shards import rows_of_tars
from clipshift.datasets.tars import members
from clipshift.training.shards import Shard


def prepare(
    split: Path, tables: Sequence[Path], tars: Sequence[Path], out: Path,
    without: Collection[str] = (),
) -> int:  # fmt: skip
    """Write the kept keys of each tar of a pool, and of the reference set.

    Args:
        tables: sample tables of the pool's shards, with their counts (rows of each tar) beside.
        tars: of the pool.
        out: gets `pool/{tar}.npy` and `reference.npy`, sorted keys; where the split's table has
            captions, `pool/{tar}.parquet`, too: `key, caption` of the same keys.
        without: kept samples that are left out all the same.

    Returns:
        the number of samples kept, pool and reference together.

    Raises:
        ClipshiftError: a kept sample is in no table, or its tar is not there.
    """
    there = {tar.stem for tar in tars}
    found = 0
    captioned = "caption" in pq.read_schema(split).names
    with database() as db:
        source = f"FROM {parquet([split])} WHERE kept"
        if without:
            db.execute("CREATE TABLE without AS SELECT unnest($1) AS key", [sorted(without)])
            source += " AND key NOT IN (FROM without)"
        total = count(db, source)
        reference = _keys(db, f"SELECT key {source} AND reason = 'reference' ORDER BY key")
        write_npy(out / "reference.npy", reference)
        for table in tables:
            named = read_parquet(table, ["key"])["key"]
            keys = np.array(named.to_pylist(), dtype=np.str_)
            ends = pc.min_max(named).as_py()
            # The split is in the order of keys: little of it is read for each table.
            within = f"SELECT key {source} AND key BETWEEN ? AND ?"
            kept = np.isin(keys, _keys(db, within, [ends["min"], ends["max"]]))
            start = 0
            for name, rows in rows_of_tars(table).items():
                mine = np.sort(keys[start : start + rows][kept[start : start + rows]])
                start += rows
                found += len(mine)
                if len(mine) and name not in there:
                    raise ClipshiftError(f"{split} keeps samples of {name}.tar, which is not there")
                write_npy(out / "pool" / f"{name}.npy", mine)
                if captioned and len(mine):
                    ends = [mine[0], mine[-1]]
                    texts = f"SELECT key, caption {source} AND key BETWEEN ? AND ? ORDER BY key"
                    near: Any = db.execute(texts, list(map(str, ends))).to_arrow_table()
                    here = pc.is_in(near["key"], pa.array(mine.tolist()))
                    write_parquet(out / "pool" / f"{name}.parquet", near.filter(here))
    if found + len(reference) != total:
        raise ClipshiftError(
            f"{split} keeps {total} samples, of which {total - found - len(reference)} are in none "
            f"of the {len(tables)} tables of the pool; delete the split and run again"
        )
    return total


def _keys(db: duckdb.DuckDBPyConnection, query: str, values: Sequence[str] = ()) -> np.ndarray:
    return np.array(db.execute(query, list(values)).fetchnumpy()["key"], dtype=np.str_)


def pool_shards(tars: Sequence[Path], keep: Path) -> list[Shard]:
    """The tars of a pool with their lists of kept keys, which `prepare` wrote into `keep`.

    Args:
        tars: also those that are not there, as their order is that of the training.
    """
    shards: list[Shard] = []
    first = 0
    for tar in tars:
        listed = keep / "pool" / f"{tar.stem}.npy"
        rows = len(np.load(listed, mmap_mode="r")) if listed.exists() else 0
        shards.append(Shard(str(tar.absolute()), first, rows, str(listed.resolve())))
        first += rows
    return shards


def reference_shards(
    tars: Sequence[Path], keep: Path, first: int, labelled: Sequence[bool]
) -> list[Shard]:
    """The tars of a reference set with their lists, made of the one that `prepare` wrote.

    Args:
        first: row of the first sample.
        labelled: of each tar, whether its labels are the texts.

    Raises:
        ClipshiftError: a kept sample is in none of the tars, or in two.
    """
    wanted = np.load(keep / "reference.npy")
    found = 0
    shards: list[Shard] = []
    for number, (tar, by_label) in enumerate(zip(tars, labelled, strict=True)):
        listed = keep / f"reference/{number:05d}.npy"
        there = {m.key for m in members(tar) if not isinstance(m, Rejected)}
        mine = wanted[np.isin(wanted, np.array(sorted(there), np.str_))]
        write_npy(listed, mine)
        shards.append(
            Shard(str(tar.absolute()), first + found, len(mine), str(listed.resolve()), by_label)
        )
        found += len(mine)
    if found != len(wanted):
        raise ClipshiftError(
            f"the split keeps {len(wanted)} samples of the reference set, of which its "
            f"{len(tars)} tars hold {found}; bring back the tars that the split was made of"
        )
    return shards
