"""What img2dataset leaves, in each of its forms: `webdataset`, `files` and `parquet`."""

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from clipshift.core.errors import ClipshiftError
from clipshift.core.parquet import read_rows, schema_of
from clipshift.datasets.formats import tables
from clipshift.datasets.formats.base import FIELDS, KEY_OF_UNIT, Dataset, Unit
from clipshift.datasets.formats.tar_samples import (
    TarSample,
    as_text,
    fields_of,
    places_of,
    record_of,
    suffixes_of,
    tar_samples,
)
from clipshift.datasets.images import SUFFIXES
from clipshift.datasets.listing import kind_of, walk
from clipshift.datasets.records import Place, Record, Rejected, printable

_NAME = re.compile(r"(\d+)(\.tar|\.parquet|_stats\.json|)", re.ASCII)
IMAGES = 64  # rows of images in memory at a time


@dataclass
class Shard:
    """What there is of a number: its suffixes, "" for a folder of files."""

    number: str
    has: set[str] = field(default_factory=set)

    @property
    def form(self) -> str | None:
        """webdataset, files or parquet; None: a table without images, or stats alone."""
        return next(
            (n for n, s in (("webdataset", ".tar"), ("files", "")) if s in self.has),
            "parquet" if ".parquet" in self.has else None,
        )


class Img2dataset(Dataset):
    """Numbers of any width; gaps and shards that are not finished are counted, and `said`.

    Rows of the table that are not downloaded are rejected with their status. `sha256` and `md5` are
    of the bytes that were downloaded, not of the image that is stored.
    """

    name = "img2dataset"
    rank = 30
    about = "NNNNN.tar with NNNNN.parquet, NNNNN/ or NNNNN.parquet (img2dataset; LAION, DataComp)"

    @classmethod
    def recognise(cls, path: Path) -> str | None:
        if not path.is_dir():
            return None
        shards = _shards(path)
        finished = [s for s in shards if "_stats.json" in s.has and s.form]
        pairs = [s for s in shards if ".parquet" in s.has and s.has & {".tar", ""}]
        if found := finished or pairs:
            return f"{len(found):,} numbered shards, each as {found[0].form} with table or stats"
        return None

    @cached_property
    def _finished(self) -> list[Shard]:
        shards = _shards(self.path)
        known = {shard.number + suffix for shard in shards for suffix in shard.has}
        for entry in sorted(os.scandir(self.path), key=lambda e: e.name):
            if entry.name in known:
                continue
            if entry.is_dir():
                self.left_out.update(map(kind_of, walk(Path(entry.path), self.left_out)))
            else:
                self.left_out[kind_of(entry.name)] += 1
        with_images = [s for s in shards if s.form]
        if lone := len(shards) - len(with_images):
            self.left_out["stats without a shard"] += lone
        finished = [s for s in with_images if "_stats.json" in s.has]
        if not finished:
            self.tell("no shard has its _stats.json: all are taken as finished")
            finished = with_images
        if unfinished := len(with_images) - len(finished):
            self.left_out["unfinished shard (no _stats.json)"] += unfinished
            self.tell(f"{unfinished:,} shards are not finished (no _stats.json)")
        if not finished:
            raise ClipshiftError(f"{self.path} holds no shard of img2dataset")
        if (gaps := int(finished[-1].number) + 1 - len({int(s.number) for s in finished})) > 0:
            self.tell(f"{gaps:,} numbers below {finished[-1].number} have no finished shard")
        if bare := sum(".parquet" not in s.has for s in finished):
            self.tell(f"{bare:,} shards have no table: what failed there is not known")
        if {s.form for s in finished} - {"parquet"}:
            self._drop_bare_tables(finished)
        if len(forms := sorted({s.form for s in finished if s.form})) > 1:
            raise ClipshiftError(
                f"{self.path} mixes the forms {' and '.join(forms)}; give each a folder of its own"
            )
        return [s for s in finished if s.form]

    def _drop_bare_tables(self, shards: list[Shard]) -> None:
        """Leave out tables without images whose tar or folder is not there."""
        bare = [
            shard
            for shard in shards
            if shard.form == "parquet" and not self._image_column(self._table(shard))
        ]
        for shard in bare:
            shard.has.discard(".parquet")
        if bare:
            self.left_out["table without its images"] += len(bare)
            self.tell(f"{len(bare):,} tables have no images")

    def _table(self, shard: Shard) -> Path:
        return self.path / f"{shard.number}.parquet"

    def units(self) -> list[Unit]:
        return [self._unit(shard) for shard in self._finished]

    def _unit(self, shard: Shard) -> Unit:
        names = [
            shard.number + {"webdataset": ".tar", "files": ""}.get(str(shard.form), ".parquet")
        ]
        if shard.form != "parquet" and ".parquet" in shard.has:
            names.append(self._table(shard).name)
        return Unit(shard.number, tuple(self.path / name for name in names))

    def read(self, unit: Unit) -> Iterator[Record | Rejected]:
        images, *table = unit.files
        if images.suffix == ".parquet":
            yield from self._parquet(images)
            return
        places = places_of(self.columns)
        found = self._samples(images, set() if table else suffixes_of(places))
        if not table:
            yield from (s if isinstance(s, Rejected) else record_of(s, places) for s in found)
            return
        rows, failed = self._rows(table[0])
        none = True
        for sample in found:
            if isinstance(sample, Rejected):
                yield sample
            elif (row := rows.pop(sample.key, None)) is None:
                where = str(sample.place or sample.tar)
                yield Rejected(sample.key, where, "not a downloaded row of the table")
            elif sample.place is None:
                yield Rejected(sample.key, sample.tar, "no image in the sample")
            else:
                none = False
                key = row.pop("key", sample.key)
                yield Record(**{**row, "key": key or "", "place": sample.place})
        yield from failed
        where = printable(str(images))
        yield from (Rejected(key, where, "downloaded, but the image is missing") for key in rows)
        if none:
            self.tell(f"{images.name} has no downloaded image")

    def _samples(self, images: Path, suffixes: set[str]) -> Iterator[TarSample | Rejected]:
        if images.suffix == ".tar":
            return tar_samples(images, suffixes, self.columns.get("image"))
        return _file_samples(images, suffixes)

    def _layout(self, table: Path) -> tuple[dict[str, str], str]:
        """Columns of the fields, and that of the keys by which a row is found."""
        names = tables.columns_of(table)
        if lacking := [c for c in ("key", "status") if c not in names]:
            raise ClipshiftError(
                f"{table} lacks the columns {lacking} of img2dataset; it has {names}"
            )
        named = {f: c for f, c in self.columns.items() if f != "image"}
        fields = [f for f in FIELDS if f not in ("key", "image", "label") or f in named]
        found, _ = tables.guess(names, named, fields, table)
        if self.columns.get("key") in (None, KEY_OF_UNIT, "key"):
            found.pop("key", None)
        return found, "key"

    def _rows(self, table: Path) -> tuple[dict[str, dict[str, Any]], list[Rejected]]:
        """The fields of the downloaded rows by img2dataset's keys, and the other rows."""
        columns, keys = self._layout(table)
        rows: dict[str, dict[str, Any]] = {}
        failed = []
        wanted = [*dict.fromkeys((keys, "status", *columns.values()))]
        for number, row in tables.rows_of(table, wanted):
            assert not isinstance(row, str)  # of a parquet
            key = as_text(row[keys]) or ""
            where = f"{printable(str(table))}#row {number}"
            fields = fields_of(row, columns)
            if row["status"] != "success":
                failed.append(Rejected(key, where, str(row["status"] or "no status")))
            elif isinstance(fields, str) or not key or key in rows:
                reason = fields if isinstance(fields, str) else "key occurs twice"
                failed.append(Rejected(key, where, reason if key else "no key"))
            else:
                rows[key] = fields
        return rows, failed

    def _image_column(self, table: Path) -> str | None:
        held = [f.name for f in schema_of(table) if tables.holds_bytes(f.type)]
        named = self.columns.get("image")
        if named:
            return named if named in held else None
        return next((name for name in held if name in SUFFIXES), None)

    def _parquet(self, table: Path) -> Iterator[Record | Rejected]:
        image = self._image_column(table)
        if image is None:
            raise ClipshiftError(
                f"{table} holds no images, and there is neither {table.stem}.tar nor "
                f"{table.stem}/ beside it; copy the folder whole"
            )
        columns, keys = self._layout(table)
        wanted = [*dict.fromkeys((keys, "status", image, *columns.values()))]
        for number, row in enumerate(read_rows(table, IMAGES, wanted), 1):
            where = f"{printable(str(table))}#row {number}"
            key = as_text(row[keys]) or ""
            fields = fields_of(row, columns)
            data = row[image]
            if row["status"] != "success":
                yield Rejected(key, where, str(row["status"] or "no status"))
            elif isinstance(fields, str) or not data:
                reason = "no image in the row"
                yield Rejected(key, where, fields if isinstance(fields, str) else reason)
            else:
                place = Place(table, f"row {number}", size=len(data), data=data)
                key = fields.pop("key", key)
                yield Record(**{**fields, "key": key or "", "place": place})


def _shards(folder: Path) -> list[Shard]:
    """What there is by number, in numeric order."""
    found: dict[str, Shard] = {}
    for entry in os.scandir(folder):
        match = _NAME.fullmatch(entry.name)
        if match and (entry.is_file() if match[2] else entry.is_dir()):
            found.setdefault(match[1], Shard(match[1])).has.add(match[2])
    # A folder that is a number and nothing else is a class of somebody's, not a shard.
    shards = [s for s in found.values() if s.has != {""}]
    return sorted(shards, key=lambda s: (int(s.number), s.number))


def _file_samples(folder: Path, suffixes: set[str]) -> Iterator[TarSample | Rejected]:
    """The samples of a folder of files `KEY.jpg`, `KEY.txt`, `KEY.json`, in the order of keys."""
    samples: dict[str, TarSample] = {}
    other: Counter[str] = Counter()
    for name in sorted(walk(folder, other)):
        stem, _, suffix = printable(name).rpartition(".")
        path = folder / name
        sample = samples.setdefault(stem, TarSample(stem, printable(str(folder))))
        if suffix.lower() in SUFFIXES and sample.place is None:
            sample.place = Place(path)
        elif suffix.lower() in SUFFIXES:
            yield Rejected(stem, printable(str(path)), "second image of a sample")
        elif suffix.lower() in suffixes:
            sample.data[suffix.lower()] = path.read_bytes()
    for reason, count in sorted(other.items()):
        yield from (Rejected("", printable(str(folder)), reason) for _ in range(count))
    yield from samples.values()
