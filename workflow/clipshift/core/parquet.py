"""Foreign parquet files, read a few rows at a time: damage is said by the file's name."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from clipshift.core.errors import ClipshiftError
from clipshift.core.readable import reading, require_unicode


@contextmanager
def parquet_file(path: Path) -> Iterator[pq.ParquetFile]:
    """An open parquet file; its block reads it and does nothing else (see `batches`).

    Raises:
        ClipshiftError: it is none, or it is damaged, now or when it is read.
    """
    require_unicode(path)
    with reading(path, "parquet"), pq.ParquetFile(path) as file:
        yield file


def schema_of(path: Path) -> pa.Schema:
    """The columns of a file.

    Raises:
        ClipshiftError: as `parquet_file`.
    """
    with parquet_file(path) as file:
        _ = file.schema_arrow.names  # decoded here: they may be damaged
        return file.schema_arrow


def batches(
    path: Path, rows: int, columns: Sequence[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """The rows of a file, `rows` at most in memory.

    Raises:
        ClipshiftError: a column is missing, or as `parquet_file`.
    """
    with parquet_file(path) as file:
        require_columns(path, file.schema_arrow, columns or ())
        for batch in file.iter_batches(
            rows, columns=list(columns) if columns is not None else None
        ):
            batch.validate(full=True)  # text that is not UTF-8; offsets out of its memory
            yield batch


def require_columns(path: Path, schema: pa.Schema, columns: Sequence[str]) -> None:
    """Raise `ClipshiftError` where a table lacks columns, or has two of a name."""
    there: list[str] = schema.names
    if missing := [c for c in columns if c not in there]:
        raise ClipshiftError(f"{path} lacks the columns {missing}; it has {there}")
    if twice := [c for c in columns if there.count(c) > 1]:
        raise ClipshiftError(f"{path}: two columns are called {twice[0]!r}; rename one")


def read_rows(
    path: Path, at_once: int, columns: Sequence[str] | None = None
) -> Iterator[dict[str, Any]]:
    """The same row by row, as objects."""
    with reading(path, "parquet"):
        for batch in batches(path, at_once, columns):
            yield from batch.to_pylist()
