"""Tars of the samples that some splits keep: the pool is read once, and their trainings read less.

One job for each shard of the pool. Its samples are dealt to tars in a seeded order, so that every
tar is a random part of the shard, and of each split; within a tar they are in the order of the
pool. A table has their keys in the order of the tars, as a pool's has. Memory follows from the keys
of one shard.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clipshift.core.counts import StepCounts
from clipshift.core.database import database, parquet
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_json, read_parquet, write_json, write_parquet
from clipshift.core.step import step
from clipshift.datasets.select import seeded_order
from clipshift.datasets.shards import rows_of_tars, tar_writer
from clipshift.datasets.tar_paths import data_folder, tars_of
from clipshift.datasets.tars import Sample, read_tar

# Of the order in which samples are dealt to tars.
SEED = 0
# Tars of a shard, which are written at the same time: fewer than the files a process may open.
TARS = 256
TEXT = "txt"


@step(version=1)
def shard(tars: list[str], table: Path, splits: list[Path], samples: int, out: Path) -> None:
    """Copy what some splits keep of a shard of the pool.

    Args:
        tars: of the shard, as words; table: its sample table, with its counts beside.
        samples: of a tar, at most.
        out: table `key`; the tars `{shard}-{number}.tar` and, last, the record go beside it.

    Raises:
        ClipshiftError: a tar is damaged or not there, or lacks a sample of the table.
    """
    keys, kept = _kept(table, splits)
    wanted = np.logical_or.reduce(list(kept.values()))
    number = min(TARS, -(-int(wanted.sum()) // samples))
    places = _dealt(keys, wanted, number)
    for earlier in out.parent.glob(f"{out.stem}-*.tar"):
        earlier.unlink()
    paths = [out.with_name(f"{out.stem}-{i:05d}.tar") for i in range(number)]
    there = {tar.stem: tar for tar in tars_of(tars, data_folder())}
    written: list[list[str]] = [[] for _ in paths]
    lacking: Counter[str] = Counter()
    with ExitStack() as stack:
        add = [stack.enter_context(tar_writer(path)) for path in paths]
        start = 0
        for name, rows in rows_of_tars(table).items():
            of_tar = zip(keys[start : start + rows], places[start : start + rows], strict=True)
            place_of = {str(key): int(place) for key, place in of_tar if place >= 0}
            start += rows
            if place_of and name not in there:
                raise ClipshiftError(f"{table}: splits keep samples of {name}.tar, which is gone")
            for sample in _read(there[name], place_of) if place_of else ():
                place = place_of[sample.key]
                add[place](_stored(sample, lacking))
                written[place].append(sample.key)
    listed = [key for part in written for key in part]
    write_parquet(out, pa.table({"key": pa.array(listed, pa.string())}))
    counts = StepCounts("reshard", out.stem, len(keys), len(listed))
    counts.rejected["kept by no split"] = len(keys) - len(listed)
    sizes = {path.stem: len(part) for path, part in zip(paths, written, strict=True)}
    record = {
        "account": counts.as_json(),
        "shard": {"name": out.stem, "samples": len(listed), "tars": sizes},
        "kept": {name: int(of_split.sum()) for name, of_split in kept.items()},
        "without_image": dict(lacking),
        "bytes": sum(path.stat().st_size for path in paths),
    }
    write_json(out.with_suffix(".json"), record)


@step(version=1)
def sum_shards(reshard: str, counts: list[Path], out: Path) -> None:
    """Write the manifest: the tars of all shards, and of each split how many samples it keeps of
    them and its share, so much of what its trainings read is used."""
    records = [read_json(path) for path in counts]
    account = StepCounts("reshard", reshard)
    kept: Counter[str] = Counter()
    lacking: Counter[str] = Counter()
    for record in records:
        account.add(StepCounts.from_json(record["account"]))
        kept.update(record["kept"])
        lacking.update(record["without_image"])
    manifest = {
        "account": account.as_json(),
        "tars": {name: n for r in records for name, n in r["shard"]["tars"].items()},
        "splits": {
            name: {"samples": n, "share": round(n / max(1, account.went_out), 6)}
            for name, n in kept.items()
        },
        "without_image": dict(lacking),
        "bytes": sum(record["bytes"] for record in records),
    }
    write_json(out, manifest)


def _kept(table: Path, splits: Sequence[Path]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """(N,) keys of a table in its order, and (N,) bool of each split: whether it keeps them."""
    column = read_parquet(table, ["key"])["key"]
    ends = pc.min_max(column).as_py()
    keys = np.array(column.to_pylist(), np.str_)
    kept = {}
    with database() as db:
        for split in splits:
            # A split is in the order of keys: little of it is read.
            query = f"SELECT key FROM {parquet([split])} WHERE kept AND key BETWEEN ? AND ?"
            near = db.execute(query, [ends["min"], ends["max"]]).fetchnumpy()["key"]
            kept[split.stem] = np.isin(keys, np.array(near, np.str_))
    return keys, kept


def _dealt(keys: np.ndarray, wanted: np.ndarray, number: int) -> np.ndarray:
    """(N,) int: the tar of each key that is wanted, else -1; tars differ by one sample at most."""
    rows = np.flatnonzero(wanted)
    hashes = np.array([seeded_order(SEED, str(key)) for key in keys[rows]], np.uint64)
    places = np.full(len(keys), -1)
    order = rows[np.lexsort((keys[rows], hashes))]
    places[order] = np.arange(len(order)) % max(1, number)
    return places


def _read(tar: Path, keys: Collection[str]) -> Iterator[Sample]:
    """Some samples of a tar, in its order.

    Raises:
        ClipshiftError: it is damaged, or lacks one.
    """
    left = set(keys)
    for sample in read_tar(tar):
        if sample.key in left:
            left.remove(sample.key)
            yield sample
    if left:
        raise ClipshiftError(
            f"{tar} lacks {len(left)} of the {len(keys)} samples that splits keep of it, e.g. "
            f"{min(left)!r}; bring back the tar that the splits were made of, or make the pool's "
            "tables and the splits again"
        )


def _stored(sample: Sample, lacking: Counter[str]) -> Sample:
    """Its first image and its caption, byte for byte; without an image, what trainings account
    for: a text."""
    text = {TEXT: sample.parts[TEXT]} if TEXT in sample.parts else {}
    if sample.has_image:
        return Sample(sample.key, {sample.image_suffix: sample.image} | text)
    lacking[sample.refused or "no image in the sample"] += 1
    return Sample(sample.key, text or {TEXT: b""})
