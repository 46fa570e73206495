"""Embeddings that the user already has, in clip-retrieval's layout, as if they had been made here.

`index` lists where each vector lies (`name, part, row`), `pick` takes the vectors of one shard of
ours. Parts of such a folder need not agree with our shards: rows find their vectors by key or URL,
never by position.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from clipshift.core.counts import StepCounts
from clipshift.core.database import (
    count,
    database,
    is_nested,
    literal,
    parquet,
    reading,
    text_of,
)
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import (
    atomic_path,
    read_json,
    read_parquet,
    write_json,
    write_npy_parts,
    write_parquet,
)
from clipshift.core.parquet import parquet_file, require_columns, schema_of
from clipshift.core.step import step
from clipshift.datasets.identity import AGREE, Joined, digest, form, urls_of
from clipshift.datasets.identity import join as join_rows
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

# Column of the folder's metadata -> what it is of a sample.
JOINS = {"image_path": "key", "url": "url"}
# What else the metadata may know of a sample, and what the columns are called.
WITNESSES = {
    "uid": ("uid",),
    "url": ("URL", "url"),
    "sha256": ("sha256",),
    "caption": ("TEXT", "caption"),
}
NO_VECTOR = "no vector in the folder"
# Vectors in memory at a time.
ROWS = 65_536
# A row group of the index is one range of names, of which a shard reads a few.
GROUP = 100_000


@step(version=2)
def index(folder: str, join: str, out: Path) -> None:
    """List all vectors of a folder in the order of names; beside the list, a JSON of its parts.

    Only headers and some columns of the metadata are read; duckdb sorts on disk what memory does
    not hold. Digests of all else that the metadata know of a sample are witnesses of the join.

    Args:
        folder: a word, see `clipshift.datasets.tar_paths`.
        join: column of the metadata that holds the names, one of JOINS.

    Raises:
        ClipshiftError: no part, a part without metadata or with other rows, parts of different
            dimensions, a missing column, or a key that is null or occurs twice.
    """
    place = located(folder, data_folder())
    if not place.is_dir():
        raise ClipshiftError(f"{place} is no folder; `encoders.*.folders` names it, below `data`")
    parts = list_shards(place)
    dimensions = {part: _open(place, part).shape[1] for part in parts}
    if len(set(dimensions.values())) > 1:
        raise ClipshiftError(f"{place} mixes vectors of the dimensions {dimensions}")
    files = [shard_paths(place, part)[1] for part in parts]
    with atomic_path(out) as path, database() as db:
        found = _write_index(db, files, join, path)
    write_json(
        out.with_suffix(".json"),
        {"parts": parts, "dimension": dimensions[parts[0]], "join": join} | found,
    )


def _write_index(
    db: duckdb.DuckDBPyConnection, files: list[Path], join: str, path: Path
) -> dict[str, Any]:
    """Write the list `name, part, row` and its witnesses; the counts."""
    source = parquet(files, ", union_by_name = true")
    kind = JOINS[join]
    for file in files:
        if join not in (there := schema_of(file).names):
            raise ClipshiftError(
                f"{file} lacks the column {join!r}; it has {there}. The encoder's `join` may name "
                f"another of {sorted(JOINS)}"
            )
        require_columns(file, schema_of(file), [join])
    with reading(files):
        types = dict(row[:2] for row in db.execute(f"DESCRIBE SELECT * FROM {source}").fetchall())
        columns = {
            k: c for k, names in WITNESSES.items() for c in names
            if c in types and k != kind and not is_nested(types[c])
        }  # fmt: skip
        asked = "".join(
            f", {digest(k, text_of(c, types[c], files[0]))} AS {k}" for k, c in columns.items()
        )
        name = form(kind, text_of(join, types[join], files[0], key=True))
        db.execute(
            f"COPY (SELECT {name} AS name, file_index::INTEGER AS part,"
            f" file_row_number AS row{asked} FROM {source} ORDER BY name, part, row)"
            f" TO {literal(path)} (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {GROUP})"
        )
    written = parquet([path])
    repeats = (
        "FROM (SELECT name, part, lag(name) OVER w AS before, lag(part) OVER w AS other"
        f" FROM {written} WINDOW w AS (ORDER BY name, part, row))"
    )
    if kind == "key":
        null = db.execute(f"SELECT part FROM {written} WHERE name IS NULL LIMIT 1").fetchone()
        if null:
            raise ClipshiftError(f"{files[null[0]]}: {join} is null in a row; every row needs it")
        twice = db.execute(
            f"SELECT name, other, part {repeats} WHERE name = before LIMIT 1"
        ).fetchone()
        if twice:
            raise ClipshiftError(
                f"{files[twice[1]]} and {files[twice[2]].name}: {join} {twice[0]!r} occurs twice; "
                "keys must be unique, as those of one download are (`join: url` needs none)"
            )
    return {
        "vectors": count(db, f"FROM {written}"),
        f"without_{join}": count(db, f"FROM {written} WHERE name IS NULL"),
        "repeats": count(db, f"{repeats} WHERE name = before"),
        "witnesses": sorted(columns),
    }


def _open(folder: Path, part: str) -> np.ndarray:
    """The mapped vectors of a part, whose layout and number of rows are checked."""
    image, table = shard_paths(folder, part)
    vectors = load_npy(image)
    if not table.exists():
        raise ClipshiftError(f"{table} is missing: {image.name} needs the names of its rows")
    with parquet_file(table) as metadata:
        rows = metadata.metadata.num_rows
    check_layout(vectors, rows, image)
    return vectors


@step(version=2)
def pick(
    folder: str, listed: Path, table: Path, shard: str, out: Path, agree: float = AGREE
) -> None:
    """Write one shard from the vectors of its samples, in the order of the sample table.

    Samples without a usable vector are counted and left out. Vectors are stored as float16.

    Args:
        folder: a word, see `clipshift.datasets.tar_paths`.
        listed: what `index` wrote of it.
        agree: see `clipshift.datasets.identity.check`.
        table: the sample table of the shard.
        out: an embedding folder.

    Raises:
        ClipshiftError: no sample has one, or too many rows are of other samples.
    """
    place = located(folder, data_folder())
    about = read_json(listed.with_suffix(".json"))
    own = ["uid"] if "uid" in schema_of(table).names else []
    rows = read_parquet(table, ["key", "caption", "url_hash", "sha256", "locator", *own])
    step_counts = StepCounts("embed", shard, came_in=len(rows))
    part, row, joined = _places(listed, rows, about, agree)
    vectors = _Vectors(place, about["parts"])
    usable = part >= 0
    for reason, number in joined.reasons.items():
        step_counts.rejected[NO_VECTOR if reason.endswith(" is not there") else reason] = number
    for chunk in _chunks(np.flatnonzero(usable)):
        fault = faults(norms_of(vectors.gather(part[chunk], row[chunk])))
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
    halves = (vectors.gather(part[c], row[c]).astype(np.float16) for c in _chunks(kept))
    write_npy_parts(image, np.dtype(np.float16), (len(kept), about["dimension"]), halves)
    mine = rows.select(["caption", "url_hash", "sha256"]).take(pa.array(kept))
    write_parquet(metadata, mine.add_column(0, "image_path", rows["key"].take(pa.array(kept))))
    counts = step_counts.as_json() | {"joined": joined.counts}
    write_json(out / "account" / f"account_{shard}.json", counts)


def _places(
    listed: Path, rows: pa.Table, about: dict[str, Any], agree: float
) -> tuple[np.ndarray, np.ndarray, Joined]:
    """(N,) part and row of each sample's vector, -1 where it has none; and how they were found."""
    kind = JOINS[about["join"]]
    mine = rows.drop_columns(["url_hash", "locator"]).append_column("url", urls_of(rows))
    with database() as db:
        db.register("mine", mine)
        name = form(kind, kind)
        db.execute(f"CREATE TABLE names AS SELECT DISTINCT {name} AS name FROM mine")
        low, high = db.execute("SELECT min(name), max(name) FROM names").fetchall()[0]
        near = db.sql(
            f"SELECT * FROM {parquet([listed])} SEMI JOIN names USING (name)"
            " WHERE name BETWEEN $1 AND $2 ORDER BY name, part, row",
            params=[low, high],
        ).to_arrow_table()
    near = near.rename_columns([kind if c == "name" else c for c in near.column_names])
    joined = join_rows(mine, near, kind, str(listed), agree, about["witnesses"])
    has = joined.partner >= 0
    part, row = np.full(len(rows), -1), np.full(len(rows), -1)
    part[has], row[has] = (
        near[column].to_numpy()[joined.partner[has]] for column in ("part", "row")
    )
    return part, row, joined


def _chunks(places: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(places), ROWS):
        yield places[start : start + ROWS]


class _Vectors:
    """The vectors of all parts of a folder; a part is open only while it is read."""

    def __init__(self, folder: Path, parts: Sequence[str]) -> None:
        self.files = [shard_paths(folder, part)[0] for part in parts]
        opened = (_open(folder, part) for part in parts)
        shapes = [(vectors.shape[1], vectors.dtype) for vectors in opened]
        self.dimension = shapes[0][0]
        self.dtype = np.result_type(*(dtype for _, dtype in shapes))

    def gather(self, part: np.ndarray, row: np.ndarray) -> np.ndarray:
        """(n, D) in the stored type, widened where parts differ in it."""
        found = np.empty((len(part), self.dimension), self.dtype)
        for number in np.unique(part):
            mine = part == number
            found[mine] = load_npy(self.files[number])[row[mine]]
        return found
