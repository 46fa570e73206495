"""Plain webdataset: any tars whose members are named KEY.SUFFIX."""

from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from clipshift.core.errors import ClipshiftError
from clipshift.datasets.formats import class_names
from clipshift.datasets.formats.base import Dataset, Unit
from clipshift.datasets.formats.tar_samples import places_of, record_of, suffixes_of, tar_samples
from clipshift.datasets.listing import Listing, list_folder, natural, walk
from clipshift.datasets.records import Record, Rejected, printable
from clipshift.datasets.tars import SUFFIXES_OF_TARS


class TarDataset(Dataset):
    """What the formats that are made of tars share: how a tar is read."""

    numbered = True

    def read(self, unit: Unit) -> Iterator[Record | Rejected]:
        (tar,) = unit.files
        places = places_of(self.columns)
        asked = {f for f in self.columns if f in places and f != "key"}
        unread: set[str] = set()
        for sample in tar_samples(tar, suffixes_of(places), self.columns.get("image"), unread):
            found = sample if isinstance(sample, Rejected) else record_of(sample, places)
            asked -= {f for f in asked if isinstance(found, Record) and getattr(found, f)}
            yield found
        for suffix in sorted(unread):
            self.tell(f"members with the suffix {suffix!r} are not read")
        for name in sorted(asked):
            self.tell(f"{unit.name}: no sample has {name} = {self.columns[name]}")


class Webdataset(TarDataset):
    """The caption is the member `txt`, the label `cls`, else these fields of the member `json`.

    A column names another member (`caption=alt.txt`) or field of the json (`caption=json:blip`).
    """

    name = "webdataset"
    rank = 80
    about = "tars of samples, KEY.jpg with KEY.txt, KEY.cls or KEY.json (webdataset)"

    @classmethod
    def recognise(cls, path: Path) -> str | None:
        if path.is_file():
            return "a tar" if path.name.lower().endswith(SUFFIXES_OF_TARS) else None
        tars = sum(name.lower().endswith(SUFFIXES_OF_TARS) for name in walk(path, Counter()))
        return f"{tars:,} tars" if tars else None

    @cached_property
    def _listing(self) -> Listing:
        if self.path.is_file():
            return Listing(self.path.parent, tars=[self.path.name])
        listing = list_folder(self.path)
        if not listing.tars:
            raise ClipshiftError(f"{self.path} holds no tar")
        self.left_out.update(listing.other)
        if (self.path / class_names.FILE).is_file():
            self.left_out -= Counter({"txt": 1})
        if listing.files:
            self.left_out["image file beside tars"] += len(listing.files)
        return listing

    def units(self) -> list[Unit]:
        folder = self._listing.folder
        return [
            Unit(printable(name), (folder / name,))
            for name in sorted(self._listing.tars, key=natural)
        ]

    def classes(self) -> list[str] | None:
        return class_names.class_names_beside(self._listing.folder)
