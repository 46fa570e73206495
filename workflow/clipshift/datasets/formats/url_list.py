"""Lists of URLs, whose images are not here yet."""

from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from clipshift.core.errors import ClipshiftError
from clipshift.core.parquet import schema_of
from clipshift.datasets.formats import tables
from clipshift.datasets.formats.base import Dataset, Unit
from clipshift.datasets.formats.tables import is_place
from clipshift.datasets.images import SUFFIXES
from clipshift.datasets.listing import kind_of, natural, walk
from clipshift.datasets.records import Record, Rejected, printable
from clipshift.datasets.tars import SUFFIXES_OF_TARS

_LISTS = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".txt")


class UrlList(Dataset):
    """Recognised so that it can be said how it is downloaded; it has no records."""

    name = "url_list"
    rank = 60
    about = "csv, tsv, jsonl or parquet of URLs without images (LAION, CC3M, COYO)"

    @classmethod
    def recognise(cls, path: Path) -> str | None:
        if path.is_file():
            column = _url_column(path)
            return f"the column {column!r} holds URLs and none holds files" if column else None
        names = sorted(p.name for p in path.iterdir() if tables.kind(p) in _LISTS and p.is_file())
        if names and _url_column(path / names[0]) and not _holds_images(path):
            return f"tables of URLs, {names[0]} is the first of {len(names):,}"
        return None

    @cached_property
    def _files(self) -> list[Path]:
        if self.path.is_file():
            return [self.path]
        names = sorted(walk(self.path, self.left_out), key=natural)
        found = [n for n in names if "/" not in n and tables.kind(Path(n)) in _LISTS]
        self.left_out.update(kind_of(n) for n in names if n not in set(found))
        return [self.path / name for name in found]

    def units(self) -> list[Unit]:
        return [Unit(printable(file.name), (file,)) for file in self._files]

    def read(self, unit: Unit) -> Iterator[Record | Rejected]:
        (file,) = unit.files
        column = _url_column(file) or "URL"
        columns = tables.columns_of(file)
        caption = tables.guess(columns, {}, ["caption"], file)[0].get("caption", "CAPTION")
        raise ClipshiftError(
            f"{file} lists URLs; its images are not here. Download them as a pool of the study, "
            f"`pools.NAME.urls` with `url_column: {column}` and `caption_column: {caption}`, or "
            "with img2dataset, and give the folder that it writes"
        )


def _holds_images(folder: Path) -> bool:
    names = walk(folder, Counter())
    return any(kind_of(n) in SUFFIXES or n.lower().endswith(SUFFIXES_OF_TARS) for n in names)


def _url_column(path: Path) -> str | None:
    """The column of URLs of a table that holds neither images nor paths of files."""
    if tables.kind(path) not in _LISTS or path.stat().st_size == 0:
        return None
    parquet = tables.kind(path) == ".parquet"
    if parquet and any(tables.holds_bytes(f.type) for f in schema_of(path)):
        return None
    row = tables.first_row(path)
    urls = [name for name, value in row.items() if tables.URL.match(str(value).strip())]
    if not urls:
        return None
    named = tables.guess(list(row), {}, ["image", "url"], path)[0]
    image = named.get("image")
    # Captions may look like names of files: only a column without a name is judged by its cells.
    files = [n for n, value in row.items() if n.isdigit() and n not in urls and is_place(value)]
    if files or (image and image not in urls and row[image]):
        return None
    return named["url"] if named.get("url") in urls else urls[0]
