"""Rows of tables in csv, tsv, jsonl and parquet, a few in memory at a time, and their columns."""

import bz2
import csv
import gzip
import io
import json
import lzma
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, TextIO, cast

import pyarrow as pa
import pyarrow.parquet as pq

from clipshift.core.errors import ClipshiftError
from clipshift.core.sniff import explain
from clipshift.datasets.formats.base import KEY_OF_UNIT, Columns
from clipshift.datasets.images import SUFFIXES

TEXT = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".txt")
PACKED = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
# Names of columns, in lower case, in the order of preference.
NAMES = {
    "key": ("key",),
    "image": (
        "filepath", "file_path", "file_name", "filename", "image_path", "img_path", "image_file",
        "impath", "path", "file", "image", "img",
    ),
    "caption": (
        "caption", "title", "text", "alt_text", "alt", "description", "sentence", "captions",
        "top_caption",
    ),
    "label": ("label", "class", "class_name", "category", "target", "cls", "wnid", "labels"),
    "url": ("url", "image_url", "img_url", "link"),
    "uid": ("uid",),
    "sha256": ("sha256",),
    "md5": ("md5",),
}  # fmt: skip
ROWS = 1_000  # of a parquet in memory; fewer where they hold images
URL = re.compile(r"https?://", re.IGNORECASE)

Row = dict[str, Any] | str  # or why it cannot be read

csv.field_size_limit(1 << 30)


def kind(path: Path) -> str | None:
    """The suffix of a table without that of its compression; None: not a table."""
    suffixes = [s.lower() for s in path.suffixes]
    if suffixes and suffixes[-1] in PACKED:
        suffixes.pop()
    last = suffixes[-1] if suffixes else ""
    return last if last in (*TEXT, ".parquet") else None


def rows_of(path: Path, wanted: Sequence[str] | None = None) -> Iterator[tuple[int, Row]]:
    """Number (from 1) and values of each row; or, instead of the values, what is wrong with it.

    Columns of a csv without a header are named `0`, `1` and so on.

    Args:
        wanted: columns; others may be left out.

    Raises:
        ClipshiftError: not a table, or a damage after which no row is certain.
    """
    if kind(path) == ".parquet":
        start = 1
        with parquet_file(path) as file:
            named = [c for c in wanted or () if c in file.schema_arrow.names] or None
            for batch in file.iter_batches(ROWS, columns=named):
                yield from enumerate(batch.to_pylist(), start)
                start += len(batch)
        return
    with _text(path) as stream:
        try:
            parse = _json_rows if "json" in str(kind(path)) else _csv_rows
            yield from parse(path, stream)
        except UnicodeDecodeError as error:
            raise ClipshiftError(
                f"{path}: not UTF-8 ({error.reason}); convert it, e.g. `iconv -f latin1 -t utf-8`"
            ) from error
        except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
            raise ClipshiftError(f"{path} is damaged ({error}); get it again") from error


def columns_of(path: Path) -> list[str]:
    """Names of the columns: of a parquet by its schema, else of the first row that can be read."""
    if kind(path) == ".parquet":
        with parquet_file(path) as file:
            return [str(name) for name in file.schema_arrow.names]
    for _, row in rows_of(path):
        if not isinstance(row, str):
            return list(row)
    raise ClipshiftError(f"{path} {explain(path) or 'holds no row'}")


def first_row(path: Path) -> dict[str, Any]:
    """The first row that can be read; empty: none."""
    if kind(path) == ".parquet":
        with parquet_file(path) as file:
            plain = [f.name for f in file.schema_arrow if not holds_bytes(f.type)]
            batch = next(file.iter_batches(1, columns=plain), None)
            return dict(batch.to_pylist()[0]) if batch is not None and len(batch) else {}
    return next((row for _, row in rows_of(path) if not isinstance(row, str)), {})


@contextmanager
def parquet_file(path: Path) -> Iterator[pq.ParquetFile]:
    """An open parquet file.

    Raises:
        ClipshiftError: it is none, or it is damaged, now or when it is read.
    """
    try:
        with pq.ParquetFile(path) as file:
            yield file
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        what = explain(path)
        if what and what != "is a parquet file":
            raise ClipshiftError(f"{path} is no parquet file; it {what}") from error
        raise ClipshiftError(f"{path} is not a readable parquet file: {error}") from error


def guess(
    names: Sequence[str], columns: Columns, fields: Sequence[str], where: Path
) -> tuple[dict[str, str], list[str]]:
    """Which column each field is read from, and what to say about it.

    Args:
        columns: the user's; a name that is not there is an error.

    Raises:
        ClipshiftError: as above.
    """
    found: dict[str, str] = {}
    said = []
    for name in fields:
        asked = columns.get(name)
        if asked and not (name == "key" and asked == KEY_OF_UNIT):
            if asked not in names:
                raise ClipshiftError(
                    f"{where} has no column {asked!r} for {name!r}; it has {list(names)}"
                )
            found[name] = asked
            continue
        candidates = [n for common in NAMES[name] for n in names if n.casefold().strip() == common]
        if candidates:
            found[name] = candidates[0]
            others = f" (or {', '.join(candidates[1:])})" if candidates[1:] else ""
            said.append(f"{name} = column {candidates[0]!r}{others}")
    return found, said


def holds_bytes(type_: pa.DataType) -> bool:
    """Whether cells of a type can be images: bytes, or Hugging Face's struct with `bytes`."""
    if pa.types.is_struct(type_):
        return any(f.name == "bytes" and holds_bytes(f.type) for f in type_)
    return bool(pa.types.is_binary(type_) or pa.types.is_large_binary(type_))


@contextmanager
def _text(path: Path) -> Iterator[TextIO]:
    """Its text, decompressed, without the mark of its encoding (UTF-8; UTF-16 with a mark)."""
    packed: Any = PACKED.get(path.suffix.lower())
    try:
        binary = packed(path, "rb") if packed else path.open("rb")
    except OSError as error:
        raise ClipshiftError(f"{path} cannot be read: {error.strerror}") from error
    with binary:
        what = explain(path)
        if what and not packed:
            raise ClipshiftError(f"{path} is no table of text; it {what}")
        buffered = io.BufferedReader(cast(io.RawIOBase, binary), 1 << 20)
        try:
            head = buffered.peek(2)[:2]
        except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
            raise ClipshiftError(f"{path} is damaged ({error}); get it again") from error
        encoding = "utf-16" if head in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
        yield io.TextIOWrapper(buffered, encoding, newline="")


def _json_rows(path: Path, stream: TextIO) -> Iterator[tuple[int, Row]]:
    number = 0
    first = stream.readline()
    if first.lstrip()[:1] == "[":  # one array, in memory whole
        try:
            values = json.loads(first + stream.read())
        except ValueError as error:
            raise ClipshiftError(f"{path} is neither JSON nor lines of JSON: {error}") from error
        for number, value in enumerate(values, 1):
            yield number, value if isinstance(value, dict) else "row is no JSON object"
        return
    for line in chain([first], stream):
        if not line.strip():
            continue
        number += 1
        try:
            value = json.loads(line)
        except ValueError:
            yield number, "row is not JSON"
            continue
        yield number, value if isinstance(value, dict) else "row is no JSON object"


def _csv_rows(path: Path, stream: TextIO) -> Iterator[tuple[int, Row]]:
    head = stream.readline()
    if head[:4] == "sep=":  # Excel's own line
        head = stream.readline()
    separator = max("\t;|,", key=lambda c: (head.count(c), c == ",")) if head else ","
    if ".tsv" in [s.lower() for s in path.suffixes]:
        separator = "\t"
    reader = csv.reader(chain([head] if head else [], stream), delimiter=separator, strict=True)
    header: list[str] | None = None
    number = 0
    try:
        for row in reader:
            if not row or not any(cell.strip() for cell in row):
                continue
            if header is None:
                header = _header(path, row)
                if header == row:
                    continue
            number += 1
            if len(row) == len(header):
                yield number, dict(zip(header, row, strict=True))
            else:
                yield number, f"row has not the {len(header)} fields of the header"
    except csv.Error as error:
        raise ClipshiftError(
            f"{path}, line {reader.line_num}: not csv ({error}); a field with quotes is written "
            'in quotes, with each quote of its own doubled ("a ""b"" c")'
        ) from error


def _header(path: Path, row: list[str]) -> list[str]:
    """The names of the columns: the row itself, or numbers where it is a row of data."""
    if any(is_place(cell) for cell in row):
        return [str(i) for i in range(len(row))]
    if len(set(row)) < len(row):
        raise ClipshiftError(f"{path}: two columns have the same name; its header is {row}")
    return row


def is_place(cell: Any) -> bool:
    """Whether a cell holds a URL or the path of an image file."""
    text = str(cell).strip()
    if URL.match(text) or text.startswith("file://"):
        return True
    return Path(text).suffix.lower().removeprefix(".") in SUFFIXES and len(text) < 4096
