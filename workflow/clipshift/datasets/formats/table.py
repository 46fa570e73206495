"""One table of local image files with captions or labels: csv, tsv, jsonl or parquet."""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote, urlsplit

from clipshift.core.errors import ClipshiftError
from clipshift.core.parquet import parquet_file
from clipshift.datasets.formats import tables
from clipshift.datasets.formats.base import FIELDS, KEY_OF_UNIT, Dataset, Unit
from clipshift.datasets.formats.tar_samples import fields_of
from clipshift.datasets.records import Place, Record, Rejected, printable


class Table(Dataset):
    """Paths are relative to the table's folder, absolute, or `file://`.

    The key is the column `key`, else the path as the table has it: of an image that is listed
    again the first row stays.
    """

    name = "table"
    rank = 70
    about = "csv, tsv, jsonl or parquet of local image files with captions or labels (open_clip)"

    @classmethod
    def recognise(cls, path: Path) -> str | None:
        suffix = tables.kind(path) if path.is_file() else None
        return f"a {suffix.removeprefix('.')} table" if suffix else None

    @cached_property
    def _columns(self) -> dict[str, str]:
        names = tables.columns_of(self.path)
        found, said = tables.guess(names, self.columns, FIELDS, self.path)
        if "image" not in found and names == [str(i) for i in range(len(names))]:
            row = tables.first_row(self.path)
            paths = [n for n in names if tables.is_place(row.get(n))]
            if len(paths) == 1:
                found["image"] = paths[0]
                rest = [n for n in names if n not in found.values()]
                if len(rest) == 1 and not {"caption", "label"} & set(found):
                    found["caption"] = rest[0]
                self.tell(f"no header; columns by their numbers: {found}")
        if "image" not in found:
            raise ClipshiftError(
                f"{self.path}: which column holds the paths of the images? Name it, "
                f"image=COLUMN; columns: {names}"
            )
        for line in said:
            self.tell(line)
        return found

    def units(self) -> list[Unit]:
        _ = self._columns
        samples = None
        if tables.kind(self.path) == ".parquet":
            with parquet_file(self.path) as file:
                samples = int(file.metadata.num_rows)
        return [Unit(printable(self.path.name), (self.path,), samples)]

    def read(self, unit: Unit) -> Iterator[Record | Rejected]:
        columns = self._columns
        named_keys = "key" in columns and columns["key"] != KEY_OF_UNIT
        for number, row in tables.rows_of(self.path, list(columns.values())):
            where = f"{printable(str(self.path))}#row {number}"
            values = row if isinstance(row, str) else fields_of(row, columns)
            if isinstance(values, str):
                yield Rejected("", where, values)
                continue
            path = values.pop("image")
            key = values.pop("key", None) if named_keys else path
            if path is None:
                yield Rejected(key or "", where, "row names no image file")
                continue
            file = locate(path, self.path.parent)
            if isinstance(file, str):
                yield Rejected(key or "", where, file)
            else:
                yield Record(key or "", Place(file), **values)


def locate(text: str, folder: Path) -> Path | str:
    """The image file that a table names; or why there is none.

    Args:
        folder: that relative paths begin in.
    """
    if tables.URL.match(text):
        return "a URL, not a file"
    if text.startswith("file://"):
        text = unquote(urlsplit(text).path)
    try:
        file = folder / text
        if not file.exists() and "\\" in text:
            file = folder / text.replace("\\", "/")
        if file.is_file():
            return file
        return "no regular file" if file.exists() else "image file is missing"
    except (OSError, ValueError):
        return "not a path"
