"""Tables of strangers: their files, their columns by role, their labels by value."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from clipshift.apps.labelling.options import ROLES
from clipshift.apps.labelling.table import LABELS
from clipshift.core.csv_file import open_csv
from clipshift.core.database import count, identifier, listed
from clipshift.core.errors import ClipshiftError
from clipshift.datasets.identity import is_url
from clipshift.datasets.records import printable

# Suffix -> duckdb's reader; tables of text are read by `csv_file`.
READERS = {
    ".parquet": "read_parquet",
    ".csv": None,
    ".tsv": None,
    ".json": "read_json",
    ".jsonl": "read_json",
}
# Rows of a table of text in memory.
ROWS = 65_536
# How the paper and its data call the three.
WORDS = {
    "natural": 0, "rendition": 1, "renditions": 1, "stylistic": 1, "ambiguous": 2, "ambigious": 2,
}  # fmt: skip


@dataclass(frozen=True)
class Source:
    """Files of one kind and layout.

    Attributes:
        scan: what a query reads them from.
        columns: {name: duckdb's type}.
        left_out: rows that are none, by reason.
        class_names: {column: names} where the files give names to numbers (Hugging Face's
            ClassLabel).
    """

    name: str
    files: tuple[Path, ...]
    scan: str
    columns: dict[str, str]
    class_names: dict[str, list[str]]
    left_out: Counter[str]

    def column(self, role: str, given: dict[str, str]) -> str | None:
        """The column of a role: the one that is given, or the first known name.

        Raises:
            ClipshiftError: the given column is not there.
        """
        if role in given:
            if given[role] not in self.columns:
                raise ClipshiftError(
                    f"{self.files[0]}: --column {role}={given[role]}: there is no such column; "
                    f"it has {list(self.columns)}"
                )
            return given[role]
        lower = {name.lower(): name for name in self.columns}
        return next((lower[name] for name in ROLES[role] if name in lower), None)

    def lacks(self, roles: tuple[str, ...]) -> ClipshiftError:
        """What to tell where none of some roles has a column."""
        known = "; ".join(f"{role}: {', '.join(ROLES[role])}" for role in roles)
        return ClipshiftError(
            f"{self.files[0]} has no column for {' or '.join(roles)} (known names: {known}). "
            f"It has {list(self.columns)}; name the column: --column {roles[0]}=NAME"
        )


def source_of(name: str, folder: Path, db: duckdb.DuckDBPyConnection) -> Source:
    """The tables below a folder, or one table, with their common columns.

    Raises:
        ClipshiftError: no table, tables of several kinds or of different columns, or one that
            cannot be read.
    """
    every = [folder] if folder.is_file() else sorted(p for p in folder.rglob("*") if p.is_file())
    files = [p for p in every if p.suffix.lower() in READERS and not p.name.startswith(".")]
    if any(p.suffix.lower() == ".parquet" for p in files):
        # Beside tables lie descriptions (img2dataset's statistics, a data set's card) as JSON.
        files = [p for p in files if p.suffix.lower() == ".parquet"]
    if not files:
        raise ClipshiftError(f"{folder} holds no table ({', '.join(READERS)})")
    if len({READERS[p.suffix.lower()] for p in files}) > 1:
        raise ClipshiftError(f"{folder} mixes csv and json; give one of the files")
    columns: dict[str, str] = {}
    left_out: Counter[str] = Counter()
    scans = []
    for file in files:
        scans.append(_scan(file, db, left_out))
        found = _describe(file, scans[-1], db)
        if columns and set(found) != set(columns):
            odd = sorted(set(found) ^ set(columns))
            raise ClipshiftError(
                f"{file} and {files[0]} differ in the columns {odd}; give folders of one layout"
            )
        columns = columns or found
    one = READERS[files[0].suffix.lower()]
    scan = (
        _call(one, files)
        if one
        else "(" + " UNION ALL BY NAME ".join(f"FROM {scan}" for scan in scans) + ")"
    )
    return Source(name, tuple(files), scan, columns, _class_names(files[0]), left_out)


def _call(reader: str, files: Sequence[Path]) -> str:
    return f"{reader}({listed(files)}, hive_partitioning = false)"


def _scan(file: Path, db: duckdb.DuckDBPyConnection, left_out: Counter[str]) -> str:
    """What a query reads one file from; a table of text becomes one of the database."""
    if reader := READERS[file.suffix.lower()]:
        return _call(reader, [file])
    table = open_csv(file, is_url)
    name = f"text_{count(db, 'FROM duckdb_tables()')}"
    columns = ", ".join(f"{identifier(column)} VARCHAR" for column in table.columns)
    db.execute(f"CREATE TABLE {name} ({columns})")
    rows: list[list[str | None]] = []
    for _, row in table.rows():
        if isinstance(row, str):
            left_out[row] += 1
            continue
        rows.append([printable(cell) or None for cell in row])
        if len(rows) == ROWS:
            _insert(db, name, table.columns, rows)
            rows = []
    _insert(db, name, table.columns, rows)
    return name


def _insert(
    db: duckdb.DuckDBPyConnection, table: str, columns: list[str], rows: list[list[str | None]]
) -> None:
    if rows:
        batch = pa.Table.from_arrays(
            [pa.array(cells, pa.string()) for cells in zip(*rows, strict=True)], columns
        )
        db.register("batch", batch)
        db.execute(f"INSERT INTO {table} FROM batch")
        db.unregister("batch")


def _describe(file: Path, scan: str, db: duckdb.DuckDBPyConnection) -> dict[str, str]:
    try:
        rows = db.execute(f"DESCRIBE SELECT * FROM {scan}").fetchall()
    except duckdb.Error as error:
        raise ClipshiftError(f"{file} cannot be read as a table: {error}") from error
    return {row[0]: row[1] for row in rows}


def _class_names(file: Path) -> dict[str, list[str]]:
    if file.suffix.lower() != ".parquet":
        return {}
    try:
        metadata = pq.read_schema(file).metadata or {}
    except (pa.ArrowException, OSError) as error:
        raise ClipshiftError(f"{file} is not a readable parquet file: {error}") from error
    try:
        features = (
            json.loads(metadata.get(b"huggingface", b"{}")).get("info", {}).get("features", {})
        )
        return {
            name: feature["names"]
            for name, feature in features.items()
            if isinstance(feature, dict) and feature.get("names")
        }
    except (ValueError, AttributeError):
        return {}


def label_of(value: Any, names: list[str] | None, given: dict[str, int]) -> int | None:
    """The label that a value stands for, None where it is none that is known.

    Args:
        names: of the values 0, 1 ..., where the file gives some.
        given: what the user says of values.

    >>> [label_of(v, None, {}) for v in (0, "1", "Stylistic", "ambigious", "cat", True)]
    [0, 1, 1, 2, None, None]
    >>> label_of(0, ["rendition", "natural"], {}), label_of("photo", None, {"photo": 0})
    (1, 0)
    """
    if isinstance(value, bool):
        return None
    text = str(value).strip().lower()
    if text in given:
        return given[text]
    text = text.removesuffix(".0")
    if text.isdigit():
        if names is not None:
            return WORDS.get(names[int(text)].strip().lower()) if int(text) < len(names) else None
        return int(text) if int(text) < len(LABELS) else None
    return WORDS.get(text)
