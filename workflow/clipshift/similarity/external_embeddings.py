"""Embeddings that the user already has, in clip-retrieval's layout, as if they had been made here.

`python -m clipshift.similarity.external_embeddings index --folder WORD --join COLUMN --out FILE` lists where
each vector lies; `... shard --index FILE --table FILE --shard NAME --out FOLDER` picks the vectors
of one shard of ours. Parts of such a folder need not agree with our shards: rows find their vectors
by key or URL, never by position.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from clipshift.core.counts import Ledger
from clipshift.core.database import database
from clipshift.core.errors import ClipshiftError, run
from clipshift.core.files import (
    atomic_path,
    read_parquet,
    write_json,
    write_npy_parts,
    write_parquet,
)
from clipshift.datasets.tar_paths import add_data, located
from clipshift.similarity.embeddings import (
    FAULTS,
    check_layout,
    faults,
    list_shards,
    norms_of,
    shard_paths,
)

# What a name in the folder's metadata is compared with in our sample table.
JOINS = {"image_path": "key", "url": "locator"}
# Vectors in memory at a time.
ROWS = 65_536
# A row group of the index is one range of names, of which a shard reads a few.
GROUP = 100_000


def index(folder: Path, join: str, out: Path) -> int:
    """List all vectors of a folder, `name, part, row`, in the order of names; returns how many.

    Only headers and one column of the metadata are read; duckdb sorts on disk what memory does not
    hold.

    Raises:
        ClipshiftError: no part, a part without metadata or with other rows, parts of different
            dimensions, a missing column, or a name that occurs twice.
    """
    if not folder.is_dir():
        raise ClipshiftError(f"{folder} is no folder; `encoders.*.folders` names it, below `data`")
    parts = list_shards(folder)
    dimensions = {part: _open(folder, part).shape[1] for part in parts}
    if len(set(dimensions.values())) > 1:
        raise ClipshiftError(f"{folder} mixes vectors of the dimensions {dimensions}")
    files = [str(shard_paths(folder, part)[1]) for part in parts]
    with atomic_path(out) as path, database() as db:
        read = "read_parquet($files, filename = true, file_row_number = true, union_by_name = true)"
        try:
            db.execute(
                f"COPY (SELECT CAST({join} AS VARCHAR) AS name,"
                " list_position($files, filename) - 1 AS part, file_row_number AS row"
                f" FROM {read} ORDER BY ALL)"
                f" TO '{path}' (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {GROUP})",
                {"files": files},
            )
        except (duckdb.BinderException, duckdb.InvalidInputException) as error:
            raise ClipshiftError(
                f"{folder}/metadata: no readable column {join!r} in every file ({error}); the "
                f"encoder's `join` may name another of {sorted(JOINS)}"
            ) from error
        twice = db.execute(
            f"SELECT name FROM (SELECT name, lag(name) OVER (ORDER BY name) AS before"
            f" FROM read_parquet('{path}')) WHERE name = before OR name IS NULL LIMIT 1"
        ).fetchone()
        if twice:
            raise ClipshiftError(f"{folder}/metadata: {join} {twice[0]!r} occurs twice, or is null")
        count: int = db.execute(f"SELECT count(*) FROM read_parquet('{path}')").fetchall()[0][0]
    write_json(
        out.with_suffix(".json"),
        {"parts": parts, "vectors": count, "dimension": dimensions[parts[0]], "join": join},
    )
    return count


def _open(folder: Path, part: str) -> np.ndarray:
    """The mapped vectors of a part, whose layout and number of rows are checked."""
    image, table = shard_paths(folder, part)
    try:
        vectors: np.ndarray = np.load(image, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ClipshiftError(f"{image} is not a readable npy file: {error}") from error
    if not table.exists():
        raise ClipshiftError(f"{table} is missing: {image.name} needs the names of its rows")
    try:
        rows = pq.read_metadata(table).num_rows
    except (pa.ArrowException, OSError) as error:
        raise ClipshiftError(f"{table} is not a readable parquet file: {error}") from error
    check_layout(vectors, rows, image)
    return vectors


def pick(folder: Path, listed: Path, table: Path, shard: str, out: Path) -> Ledger:
    """Write one shard from the vectors of its samples, in the order of the sample table.

    Samples without a usable vector are counted and left out. Vectors are stored as float16.

    Raises:
        ClipshiftError: no sample has one.
    """
    about = json.loads(listed.with_suffix(".json").read_text())
    rows = read_parquet(table, ["key", "caption", "url_hash", "sha256", "locator"])
    names = rows[JOINS[about["join"]]].combine_chunks()
    ledger = Ledger("embed", shard, came_in=len(rows))
    part, row = _places(listed, names)
    vectors = [_open(folder, name) for name in about["parts"]]
    usable = part >= 0
    ledger.rejected["no vector in the folder"] = int((~usable).sum())
    for chunk in _chunks(np.flatnonzero(usable)):
        fault = faults(norms_of(_gather(vectors, part[chunk], row[chunk])))
        for number, what in enumerate(FAULTS):
            ledger.rejected[what] += int((fault == number).sum())
        usable[chunk[fault >= 0]] = False
    ledger.rejected = +ledger.rejected
    kept = np.flatnonzero(usable)
    ledger.went_out = len(kept)
    if not ledger.went_out:
        raise ClipshiftError(
            f"{folder}: none of the {len(rows)} samples of {table} has a usable vector there "
            f"({dict(ledger.rejected)}); rows are joined by {about['join']}"
        )
    image, metadata = shard_paths(out, shard)
    halves = (_gather(vectors, part[c], row[c]).astype(np.float16) for c in _chunks(kept))
    write_npy_parts(image, np.dtype(np.float16), (len(kept), about["dimension"]), halves)
    mine = rows.select(["caption", "url_hash", "sha256"]).take(pa.array(kept))
    write_parquet(metadata, mine.add_column(0, "image_path", rows["key"].take(pa.array(kept))))
    write_json(out / "account" / f"account_{shard}.json", ledger.as_json())
    return ledger


def _places(listed: Path, names: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """(N,) part and row of each name; -1 where the folder has none."""
    mine = pa.table({"name": names.cast(pa.string()), "place": np.arange(len(names))})
    found = [np.full(len(names), -1), np.full(len(names), -1)]
    with database() as db:
        db.register("mine", mine)
        low, high = db.execute("SELECT min(name), max(name) FROM mine").fetchall()[0]
        reader = db.execute(
            f"SELECT place, part, row FROM read_parquet('{listed}') JOIN mine USING (name)"
            " WHERE name BETWEEN $1 AND $2",
            [low, high],
        ).fetchnumpy()
    for array, name in zip(found, ("part", "row"), strict=True):
        array[reader["place"]] = reader[name]
    return found[0], found[1]


def _chunks(places: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(places), ROWS):
        yield places[start : start + ROWS]


def _gather(vectors: Sequence[np.ndarray], part: np.ndarray, row: np.ndarray) -> np.ndarray:
    """(n, D) in the stored type, widened where parts differ in it."""
    found = np.empty((len(part), vectors[0].shape[1]), np.result_type(*vectors))
    for number in np.unique(part):
        mine = part == number
        found[mine] = vectors[number][row[mine]]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("index")
    listing.add_argument("--join", choices=list(JOINS), required=True)
    picking = commands.add_parser("shard")
    picking.add_argument("--index", type=Path, required=True)
    picking.add_argument("--table", type=Path, required=True)
    picking.add_argument("--shard", required=True)
    for command in (listing, picking):
        command.add_argument(
            "--folder", required=True, help="a word, see clipshift.datasets.tar_paths"
        )
        command.add_argument("--out", type=Path, required=True)
        add_data(command)
    args = parser.parse_args()
    folder = located(args.folder, args.data)
    if args.command == "index":
        print(f"{index(folder, args.join, args.out)} vectors")
        return
    print(
        json.dumps(pick(folder, args.index, args.table, args.shard, args.out).as_json(), indent=2)
    )


if __name__ == "__main__":
    run(main)
