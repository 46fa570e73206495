"""Image files in folders: class folders (linked or not), nested ones, or a flat folder."""

import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from clipshift.datasets.formats.base import Dataset, Unit
from clipshift.datasets.listing import Listing, file_places, list_folder
from clipshift.datasets.records import Record, Rejected


class ImageFolder(Dataset):
    """The label of an image is the first folder of its path; a flat folder has no labels.

    Classes are in the order of the folders' names, by number where all of them are numbers
    (ImageNetV2), as torchvision's ImageFolder would do if it sorted numbers.
    """

    name = "image_folder"
    about = "image files, in class folders or flat (torchvision's ImageFolder, ImageNet)"

    @classmethod
    def recognise(cls, path: Path) -> str | None:
        if not path.is_dir():
            return None
        listing = list_folder(path)
        return f"{len(listing.files):,} image files" if listing.files else None

    @cached_property
    def _listing(self) -> Listing:
        listing = list_folder(self.path)
        self.left_out.update(listing.other)
        if listing.tars:
            self.left_out["tar"] += len(listing.tars)
        return listing

    def units(self) -> list[Unit]:
        listing = self._listing
        files = tuple(listing.folder / name for name in listing.files)
        return [Unit("files", files, len(files))]

    def records(self, unit: Unit) -> Iterator[Record | Rejected]:
        for record in file_places(self._listing):
            if isinstance(record, Record) and "/" in record.key:
                label = record.key.partition("/")[0]
                yield Record(record.key, record.place, label=label)
            else:
                yield record

    def classes(self) -> list[str] | None:
        folders = {name.partition("/")[0] for name in self._listing.files if "/" in name}
        numbers = all(re.fullmatch(r"\d+", name) for name in folders)
        return sorted(folders, key=(lambda n: (int(n), n)) if numbers else None) or None
