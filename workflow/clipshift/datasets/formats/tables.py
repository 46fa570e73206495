"""Rows of tables in csv, tsv, jsonl and parquet, a few in memory at a time, and their columns."""

import bz2
import gzip
import io
import lzma
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, TextIO, cast

import pyarrow as pa

from clipshift.core import parquet
from clipshift.core.csv_file import open_csv
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import parse_json
from clipshift.core.sniff import explain, regular_file
from clipshift.datasets.formats.base import KEY_OF_UNIT, Columns
from clipshift.datasets.images import SUFFIXES
from clipshift.datasets.records import printable

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
        there = parquet.schema_of(path).names
        named = [c for c in wanted or () if c in there] or None
        yield from enumerate(parquet.read_rows(path, ROWS, named), 1)
        return
    if "json" not in str(kind(path)):
        yield from _csv_rows(path)
        return
    with _text(path) as stream:
        try:
            yield from _json_rows(path, stream)
        except UnicodeDecodeError as error:
            raise ClipshiftError(
                f"{path}: not UTF-8 ({error.reason}); convert it, e.g. `iconv -f latin1 -t utf-8`"
            ) from error
        except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
            raise ClipshiftError(f"{path} is damaged ({error}); get it again") from error


def columns_of(path: Path) -> list[str]:
    """Names of the columns: of a parquet by its schema, else of the first row that can be read."""
    if kind(path) == ".parquet":
        return [str(name) for name in parquet.schema_of(path).names]
    if "json" not in str(kind(path)):
        return open_csv(path, is_place).columns
    for _, row in rows_of(path):
        if not isinstance(row, str):
            return list(row)
    raise ClipshiftError(f"{path} {explain(path) or 'holds no row'}")


def first_row(path: Path) -> dict[str, Any]:
    """The first row that can be read; empty: none."""
    if kind(path) == ".parquet":
        plain = [f.name for f in parquet.schema_of(path) if not holds_bytes(f.type)]
        return next(parquet.read_rows(path, 1, plain), {})
    return next((row for _, row in rows_of(path) if not isinstance(row, str)), {})


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
    regular_file(path)
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
            values = parse_json(first + stream.read())
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
            value = parse_json(line)
        except ValueError:
            yield number, "row is not JSON"
            continue
        yield number, value if isinstance(value, dict) else "row is no JSON object"


def _csv_rows(path: Path) -> Iterator[tuple[int, Row]]:
    file = open_csv(path, is_place)
    for number, row in file.rows():
        if isinstance(row, str):
            yield number, row
        elif any(cell.strip() for cell in row):
            yield number, dict(zip(file.columns, map(printable, row), strict=True))


def is_place(cell: Any) -> bool:
    """Whether a cell holds a URL or the path of an image file."""
    text = str(cell).strip()
    if URL.match(text) or text.startswith("file://"):
        return True
    return Path(text).suffix.lower().removeprefix(".") in SUFFIXES and len(text) < 4096
