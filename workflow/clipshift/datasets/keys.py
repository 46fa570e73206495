"""Keys that are null, or occur twice, over any number of files: found, and named with the files."""

from collections.abc import Sequence
from pathlib import Path

from clipshift.core.database import database, parquet
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_json

# A row's place: file and row in one number.
_PLACE = "(file_index::BIGINT << 40) + file_row_number::BIGINT"
_ROW = (1 << 40) - 1


def first_fault(
    tables: Sequence[Path], column: str = "key"
) -> tuple[str | None, list[tuple[Path, int]]] | None:
    """The first key that is null or occurs twice, and the table and row of its first and last."""
    with database() as db:
        found = db.execute(
            f"SELECT {column}, min({_PLACE}), max({_PLACE}) FROM {parquet(tables)} "
            f"GROUP BY {column} HAVING count(*) > 1 OR {column} IS NULL "
            f"ORDER BY {column} NULLS FIRST LIMIT 1"
        ).fetchone()
    if not found:
        return None
    key, *places = found
    return key, [(tables[place >> 40], place & _ROW) for place in places]


def refuse_repeats(tables: Sequence[Path], folder: Path | None = None) -> None:
    """Refuse sample tables of a pool that share a key.

    Args:
        folder: of the tars, where it is known.

    Raises:
        ClipshiftError: a key is null or occurs twice; its tars are named.
    """
    if fault := first_fault(tables):
        key, places = fault
        tars = list(dict.fromkeys(tar_of(table, row, folder) for table, row in places))
        what = "a key is null" if key is None else f"the key {key!r} occurs twice"
        raise ClipshiftError(
            f"{' and '.join(tars)}: {what}; a sample is found by its key. Were two downloads put "
            "into one folder? Make each a pool of its own, or read the folder as one that is "
            "copied: `format: webdataset`, `columns: {key: unit/key}`, `shards` and no `tars`"
        )


def tar_of(table: Path, row: int, folder: Path | None = None) -> str:
    """The tar of a row: one of several behind the table of a folder, else the table's own."""
    beside = table.with_suffix(".json")
    tars = read_json(beside)["shard"].get("tars", {}) if beside.exists() else {}
    for name, rows in tars.items():
        if row < rows:
            return str(folder / f"{name}.tar") if folder else f"{name}.tar of {table}"
        row -= rows
    return str(table.with_suffix(".tar"))
