"""Embeddings that the user already has, in clip-retrieval's layout, as if they had been made here.

`index` lists where each vector lies (`name, part, row`), `pick` takes the vectors of one shard of
ours. Parts of such a folder need not agree with our shards: rows find their vectors by key or URL,
never by position.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from clipshift.core.counts import StepCounts
from clipshift.core.database import count, database, literal
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import (
    atomic_path,
    read_json,
    read_parquet,
    unreadable,
    write_json,
    write_npy_parts,
    write_parquet,
)
from clipshift.core.step import step
from clipshift.datasets.tar_paths import data_folder, located
from clipshift.similarity.embeddings import (
    FAULTS,
    check_layout,
    faults,
    list_shards,
    norms_of,
    shard_paths,
)
from clipshift.similarity.vector_files import load_npy

# What a name in the folder's metadata is compared with in our sample table.
JOINS = {"image_path": "key", "url": "locator"}
# Vectors in memory at a time.
ROWS = 65_536
# A row group of the index is one range of names, of which a shard reads a few.
GROUP = 100_000


@step(version=1)
def index(folder: str, join: str, out: Path) -> None:
    """List all vectors of a folder in the order of names; beside the list, a JSON of its parts.

    Only headers and one column of the metadata are read; duckdb sorts on disk what memory does not
    hold.

    Args:
        folder: a word, see `clipshift.datasets.tar_paths`.
        join: column of the metadata that holds the names, one of JOINS.

    Raises:
        ClipshiftError: no part, a part without metadata or with other rows, parts of different
            dimensions, a missing column, or a name that occurs twice.
    """
    place = located(folder, data_folder())
    if not place.is_dir():
        raise ClipshiftError(f"{place} is no folder; `encoders.*.folders` names it, below `data`")
    parts = list_shards(place)
    dimensions = {part: _open(place, part).shape[1] for part in parts}
    if len(set(dimensions.values())) > 1:
        raise ClipshiftError(f"{place} mixes vectors of the dimensions {dimensions}")
    files = [str(shard_paths(place, part)[1]) for part in parts]
    with atomic_path(out) as path, database() as db:
        read = "read_parquet($files, filename = true, file_row_number = true, union_by_name = true)"
        try:
            db.execute(
                f"COPY (SELECT CAST({join} AS VARCHAR) AS name,"
                " list_position($files, filename) - 1 AS part, file_row_number AS row"
                f" FROM {read} ORDER BY ALL)"
                f" TO {literal(path)} (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {GROUP})",
                {"files": files},
            )
        except (duckdb.BinderException, duckdb.InvalidInputException) as error:
            raise ClipshiftError(
                f"{place}/metadata: no readable column {join!r} in every file ({error}); the "
                f"encoder's `join` may name another of {sorted(JOINS)}"
            ) from error
        twice = db.execute(
            f"SELECT name FROM (SELECT name, lag(name) OVER (ORDER BY name) AS before"
            f" FROM read_parquet({literal(path)})) WHERE name = before OR name IS NULL LIMIT 1"
        ).fetchone()
        if twice:
            raise ClipshiftError(f"{place}/metadata: {join} {twice[0]!r} occurs twice, or is null")
        rows = count(db, f"FROM read_parquet({literal(path)})")
    write_json(
        out.with_suffix(".json"),
        {"parts": parts, "vectors": rows, "dimension": dimensions[parts[0]], "join": join},
    )


def _open(folder: Path, part: str) -> np.ndarray:
    """The mapped vectors of a part, whose layout and number of rows are checked."""
    image, table = shard_paths(folder, part)
    vectors = load_npy(image)
    if not table.exists():
        raise ClipshiftError(f"{table} is missing: {image.name} needs the names of its rows")
    try:
        rows = pq.read_metadata(table).num_rows
    except (pa.ArrowException, OSError) as error:
        raise unreadable(table, "parquet", error) from error
    check_layout(vectors, rows, image)
    return vectors


@step(version=1)
def pick(folder: str, listed: Path, table: Path, shard: str, out: Path) -> None:
    """Write one shard from the vectors of its samples, in the order of the sample table.

    Samples without a usable vector are counted and left out. Vectors are stored as float16.

    Args:
        folder: a word, see `clipshift.datasets.tar_paths`.
        listed: what `index` wrote of it.
        table: the sample table of the shard.
        out: an embedding folder.

    Raises:
        ClipshiftError: no sample has one.
    """
    place = located(folder, data_folder())
    about = read_json(listed.with_suffix(".json"))
    rows = read_parquet(table, ["key", "caption", "url_hash", "sha256", "locator"])
    names = rows[JOINS[about["join"]]].combine_chunks()
    step_counts = StepCounts("embed", shard, came_in=len(rows))
    part, row = _places(listed, names)
    vectors = [_open(place, name) for name in about["parts"]]
    usable = part >= 0
    step_counts.rejected["no vector in the folder"] = int((~usable).sum())
    for chunk in _chunks(np.flatnonzero(usable)):
        fault = faults(norms_of(_gather(vectors, part[chunk], row[chunk])))
        for number, what in enumerate(FAULTS):
            step_counts.rejected[what] += int((fault == number).sum())
        usable[chunk[fault >= 0]] = False
    step_counts.rejected = +step_counts.rejected
    kept = np.flatnonzero(usable)
    step_counts.went_out = len(kept)
    if not step_counts.went_out:
        raise ClipshiftError(
            f"{place}: none of the {len(rows)} samples of {table} has a usable vector there "
            f"({dict(step_counts.rejected)}); rows are joined by {about['join']}"
        )
    image, metadata = shard_paths(out, shard)
    halves = (_gather(vectors, part[c], row[c]).astype(np.float16) for c in _chunks(kept))
    write_npy_parts(image, np.dtype(np.float16), (len(kept), about["dimension"]), halves)
    mine = rows.select(["caption", "url_hash", "sha256"]).take(pa.array(kept))
    write_parquet(metadata, mine.add_column(0, "image_path", rows["key"].take(pa.array(kept))))
    write_json(out / "account" / f"account_{shard}.json", step_counts.as_json())


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
