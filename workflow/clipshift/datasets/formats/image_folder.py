"""Image files in folders: class folders (linked or not), nested ones, splits, or a flat folder."""

import re
from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from clipshift.core.errors import ClipshiftError
from clipshift.core.sniff import explain
from clipshift.datasets.formats import side_tables
from clipshift.datasets.formats.base import KEY_OF_UNIT, Dataset, Unit
from clipshift.datasets.images import SUFFIXES
from clipshift.datasets.listing import Listing, file_places, kind_of, list_folder, natural, walk
from clipshift.datasets.records import Record, Rejected, printable

_SPLITS = {"train", "training", "val", "valid", "validation", "test", "testing", "dev", "eval"}
_TABLES = {".csv", ".tsv", ".jsonl"}
_NAMED = 3  # tables that are named one by one
_LEVEL = re.compile(r"folder:([1-9])")


class ImageFolder(Dataset):
    """The key of an image is its path, its label the first folder of it, or of its split.

    Classes are in the order of the folders' names, by number where all of them are numbers
    (ImageNetV2; torchvision's ImageFolder would sort 10 before 2). `label=folder:2` takes the
    second folder (DOMAIN/CLASS/file). `metadata.csv` or `.jsonl` in a folder says captions and
    labels of its files; `label=file:PATH` reads labels from lines of `FILE LABEL`.
    """

    name = "image_folder"
    rank = 90
    about = (
        "image files, in class folders or flat (torchvision's ImageFolder, ImageNet, imagefolder)"
    )

    @classmethod
    def recognise(cls, path: Path) -> str | None:
        if not path.is_dir():
            return None
        names = walk(path, Counter())
        first = next((name for name in names if kind_of(name) in SUFFIXES), None)
        return f"image files, e.g. {printable(first)}" if first else None

    @cached_property
    def _listing(self) -> Listing:
        listing = list_folder(self.path)
        if not listing.files:
            raise ClipshiftError(f"{self.path} holds no image file")
        first = self.path / listing.files[0]
        if (what := explain(first)) and "git-lfs" in what:
            raise ClipshiftError(f"{first} {what}")
        self.left_out.update(listing.other)
        if listing.tars:
            self.left_out["tar"] += len(listing.tars)
        self.left_out -= Counter(kind_of(name) for name in self._metadata.files)
        self._say(listing)
        return listing

    def _say(self, listing: Listing) -> None:
        level = self._level(listing.files)
        depths = Counter(name.count("/") for name in listing.files)
        if self._splits(listing.files):
            self.tell(f"splits: {', '.join(self._splits(listing.files))}")
        if (loose := sum(n for depth, n in depths.items() if depth < level)) < len(listing.files):
            classes = {
                name.split("/")[level - 1] for name in listing.files if name.count("/") >= level
            }
            self.tell(f"labels: folder {level} of the path, {len(classes):,} names")
            if loose:
                self.tell(f"{loose:,} image files lie in no class folder: they have no label")
            if min(depths) > level:
                self.tell(f"there are folders below: label=folder:{level + 1} takes the next level")
        beside = [p.name for p in sorted(self.path.iterdir()) if p.suffix.lower() in _TABLES]
        for name in [n for n in beside if n not in self._metadata.files][:_NAMED]:
            self.tell(f"{printable(name)} is not read: give its path to read it as a table")
        if self._metadata.files:
            self.tell(f"captions or labels: {', '.join(self._metadata.files)}")

    @cached_property
    def _metadata(self) -> side_tables.SideTables:
        asked = self.columns.get("label", "")
        columns = {f: c for f, c in self.columns.items() if f != "label" or ":" not in asked}
        tables = side_tables.metadata(self.path, columns)
        for line in tables.said:
            self.tell(line)
        unused = {f: c for f, c in columns.items() if (f, c) != ("key", KEY_OF_UNIT)}
        if unused and not tables.files:
            raise ClipshiftError(
                f"{self.path} has no metadata.csv or .jsonl with file_name: no columns {unused}"
            )
        return tables

    @cached_property
    def _labels(self) -> dict[str, str]:
        asked = self.columns.get("label", "")
        if not asked.startswith("file:"):
            return {}
        return side_tables.label_file(self.path / asked.removeprefix("file:"))

    def _splits(self, files: list[str]) -> list[str]:
        """Folders that are splits; none where the first folders are anything else."""
        folders = {name.partition("/")[0] if "/" in name else "" for name in files}
        return sorted(folders) if {f.lower() for f in folders} <= _SPLITS else []

    def _level(self, files: list[str]) -> int:
        """Which folder of the path is the label, from 1."""
        asked = self.columns.get("label", "")
        if match := _LEVEL.fullmatch(asked):
            return int(match[1])
        if asked.startswith("folder:"):
            raise ClipshiftError(f"label={asked}: expected folder:1 to folder:9")
        return 2 if self._splits(files) else 1

    def units(self) -> list[Unit]:
        listing = self._listing
        if not (splits := self._splits(listing.files)):
            files = tuple(listing.folder / name for name in listing.files)
            return [Unit("files", files, len(files))]
        of_split: dict[str, list[Path]] = {split: [] for split in splits}
        for name in listing.files:
            of_split[name.partition("/")[0]].append(listing.folder / name)
        return [Unit(split, tuple(files), len(files)) for split, files in of_split.items()]

    def read(self, unit: Unit) -> Iterator[Record | Rejected]:
        listing, level = self._listing, self._level(self._listing.files)
        names = [str(file.relative_to(listing.folder)) for file in unit.files]
        for found in file_places(Listing(listing.folder, files=names)):
            if isinstance(found, Rejected):
                yield found
                continue
            parts = found.key.split("/")
            label = parts[level - 1] if len(parts) > level else None
            said = self._metadata.rows.get(found.key, {})
            if said.get("label") or self._labels:
                label = said.get("label") or side_tables.label_of(self._labels, found.key)
            values = {**said, "label": label, "key": said.get("key", found.key) or ""}
            yield Record(place=found.place, **values)
        yield from self._missing(unit)

    def _missing(self, unit: Unit) -> Iterator[Rejected]:
        """Entries of the tables that name no file, with the first unit."""
        if unit.name == self.units()[0].name:
            files = set(map(printable, self._listing.files))
            for key, where in self._metadata.places.items():
                if key not in files:
                    yield Rejected(key, where, "image file is missing")
            yield from self._metadata.rejected

    def classes(self) -> list[str] | None:
        if self._labels or any(row.get("label") for row in self._metadata.rows.values()):
            return None
        level = self._level(self._listing.files)
        folders = {n.split("/")[level - 1] for n in self._listing.files if n.count("/") >= level}
        numbers = all(re.fullmatch("[0-9]+", name) for name in folders)
        return sorted(folders, key=natural if numbers else None) or None
