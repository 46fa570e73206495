"""Tables of strangers: their files, their columns by role, their labels by value."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from clipshift.apps.labelling.options import ROLES
from clipshift.apps.labelling.table import LABELS
from clipshift.core.csv_file import open_csv
from clipshift.core.database import count, identifier, parquet, reading, text_of
from clipshift.core.errors import ClipshiftError
from clipshift.core.parquet import schema_of
from clipshift.core.sniff import regular_file
from clipshift.datasets.formats import tables
from clipshift.datasets.identity import is_url
from clipshift.datasets.records import printable

KINDS = {
    ".parquet": "parquet", ".csv": "csv", ".tsv": "csv", ".json": "json", ".jsonl": "json",
}  # fmt: skip
# Types of the columns of tables that are no parquet.
TEXT, NESTED = "VARCHAR", "VARCHAR[]"
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
        twice: names of several columns, in lower case.
        class_names: {column: names} where the files give names to numbers (Hugging Face's
            ClassLabel).
    """

    name: str
    files: tuple[Path, ...]
    scan: str
    columns: dict[str, str]
    class_names: dict[str, list[str]]
    left_out: Counter[str]
    twice: set[str]

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

    def text(self, column: str, key: bool = False) -> str:
        """SQL: one of the columns as text (see `database.text_of`).

        Raises:
            ClipshiftError: it is none, or two columns have its name: to a query, case is nothing.
        """
        if column.lower() in self.twice:
            raise ClipshiftError(
                f"{self.files[0]}: two columns are called {column!r} but for case; rename one"
            )
        return text_of(column, self.columns[column], self.files[0], key)

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
    if not folder.is_dir():
        regular_file(folder)
    every = [folder] if folder.is_file() else sorted(p for p in folder.rglob("*") if p.is_file())
    files = [p for p in every if p.suffix.lower() in KINDS and not p.name.startswith(".")]
    if any(p.suffix.lower() == ".parquet" for p in files):
        # Beside tables lie descriptions (img2dataset's statistics, a data set's card) as JSON.
        files = [p for p in files if p.suffix.lower() == ".parquet"]
    if not files:
        raise ClipshiftError(f"{folder} holds no table ({', '.join(KINDS)})")
    if len({KINDS[p.suffix.lower()] for p in files}) > 1:
        raise ClipshiftError(f"{folder} mixes csv and json; give one of the files")
    columns: dict[str, str] = {}
    left_out: Counter[str] = Counter()
    twice: set[str] = set()
    scans = []
    for file in files:
        scans.append(_scan(file, db, left_out))
        found = _describe(file, scans[-1], db)
        if KINDS[file.suffix.lower()] == "parquet":
            names = Counter(name.lower() for name in schema_of(file).names)
            twice |= {name for name, count in names.items() if count > 1}
        if columns and set(found) != set(columns):
            odd = sorted(set(found) ^ set(columns))
            raise ClipshiftError(
                f"{file} and {files[0]} differ in the columns {odd}; give folders of one layout"
            )
        columns = columns or found
    if KINDS[files[0].suffix.lower()] == "parquet":
        scan = parquet(files)
    else:
        scan = "(" + " UNION ALL BY NAME ".join(f"FROM {scan}" for scan in scans) + ")"
    return Source(name, tuple(files), scan, columns, _class_names(files[0]), left_out, twice)


def _scan(file: Path, db: duckdb.DuckDBPyConnection, left_out: Counter[str]) -> str:
    """What a query reads one file from; a table of text becomes one of the database."""
    kind = KINDS[file.suffix.lower()]
    if kind == "parquet":
        return parquet([file])
    columns = _json_columns(file) if kind == "json" else _csv_columns(file)
    name = f"text_{count(db, 'FROM duckdb_tables()')}"
    with reading([file]):
        typed = (f"{identifier(column)} {type_}" for column, type_ in columns.items())
        db.execute(f"CREATE TABLE {name} ({', '.join(typed)})")
    rows: list[dict[str, str | None]] = []
    for row in _json_rows(file) if kind == "json" else _csv_rows(file):
        if isinstance(row, str):
            left_out[row] += 1
            continue
        rows.append(row)
        if len(rows) == ROWS:
            _insert(db, name, columns, rows)
            rows = []
    _insert(db, name, columns, rows)
    return name


def _insert(
    db: duckdb.DuckDBPyConnection, table: str, columns: dict[str, str],
    rows: list[dict[str, str | None]],
) -> None:  # fmt: skip
    if rows:
        cells = ([row.get(column) for row in rows] for column in columns)
        batch = pa.Table.from_arrays([pa.array(c, pa.string()) for c in cells], list(columns))
        db.register("batch", batch)
        db.execute(f"INSERT INTO {table} FROM batch")
        db.unregister("batch")


def _csv_columns(file: Path) -> dict[str, str]:
    return dict.fromkeys(open_csv(file, is_url).columns, TEXT)


def _csv_rows(file: Path) -> Iterator[dict[str, str | None] | str]:
    table = open_csv(file, is_url)
    for _, row in table.rows():
        if isinstance(row, str):
            yield row
        else:
            cells = (printable(cell) or None for cell in row)
            yield dict(zip(table.columns, cells, strict=True))


def _json_columns(file: Path) -> dict[str, str]:
    """Names and types: those with lists or structures hold nothing that is read."""
    found: dict[str, str] = {}
    for _, row in tables.rows_of(file):
        for name, value in row.items() if isinstance(row, dict) else ():
            nested = isinstance(value, list | dict)
            found[name] = NESTED if nested else found.get(name, TEXT)
    if not found:
        raise ClipshiftError(f"{file} holds no row")
    lower = Counter(name.lower() for name in found)
    if twice := [name for name in found if lower[name.lower()] > 1]:
        raise ClipshiftError(f"{file}: columns {twice} differ in case only; rename one")
    return found


def _json_rows(file: Path) -> Iterator[dict[str, str | None] | str]:
    """Rows with their values as the file spells them: no date or UUID is made of a text."""
    for _, row in tables.rows_of(file):
        yield row if isinstance(row, str) else {name: _spelled(row[name]) for name in row}


def _spelled(value: Any) -> str | None:
    if value is None or isinstance(value, list | dict):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, str) else json.dumps(value)


def _describe(file: Path, scan: str, db: duckdb.DuckDBPyConnection) -> dict[str, str]:
    with reading([file]):
        rows = db.execute(f"DESCRIBE SELECT * FROM {scan}").fetchall()
    return {row[0]: row[1] for row in rows}


def _class_names(file: Path) -> dict[str, list[str]]:
    if file.suffix.lower() != ".parquet":
        return {}
    metadata = schema_of(file).metadata or {}
    try:
        features = (
            json.loads(metadata.get(b"huggingface", b"{}")).get("info", {}).get("features", {})
        )
        return {
            name: list(map(str, feature["names"]))
            for name, feature in features.items()
            if isinstance(feature, dict) and isinstance(feature.get("names"), list)
        }
    except (ValueError, AttributeError, RecursionError):
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
