"""Plain webdataset: any tars whose members are named KEY.SUFFIX."""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from clipshift.datasets.formats.base import Dataset, Unit
from clipshift.datasets.listing import Listing, list_folder
from clipshift.datasets.records import Place, Record, Rejected
from clipshift.datasets.tars import SUFFIXES_OF_TARS, members, open_tar


class Webdataset(Dataset):
    """The caption is the member `txt`, the label `cls`; other members are not read."""

    name = "webdataset"
    about = "tars of samples, KEY.jpg with KEY.txt or KEY.cls (webdataset)"

    @classmethod
    def recognise(cls, path: Path) -> str | None:
        if path.is_file():
            return "a tar" if path.name.lower().endswith(SUFFIXES_OF_TARS) else None
        listing = list_folder(path)
        return f"{len(listing.tars):,} tars" if listing.tars else None

    @cached_property
    def _listing(self) -> Listing:
        if self.path.is_file():
            return Listing(self.path.parent, tars=[self.path.name])
        listing = list_folder(self.path)
        self.left_out.update(listing.other)
        if listing.files:
            self.left_out["image file beside tars"] += len(listing.files)
        return listing

    def units(self) -> list[Unit]:
        folder = self._listing.folder
        return [Unit(name, (folder / name,)) for name in self._listing.tars]

    def records(self, unit: Unit) -> Iterator[Record | Rejected]:
        (tar,) = unit.files
        with open_tar(tar) as stream:
            key: str | None = None
            place: Place | None = None
            text: dict[str, str] = {}
            for member in members(tar, stream):
                if isinstance(member, Rejected):
                    yield member
                    continue
                if key is not None and member.key != key:
                    yield _record(key, place, text, tar)
                    place, text = None, {}
                key = member.key
                if member.is_image and place is None:
                    place = Place(tar, member.name, member.offset, member.size)
                elif member.is_image:
                    where = f"{tar}#{member.name}"
                    yield Rejected(member.key, where, "second image of a sample")
                elif member.suffix in ("txt", "cls"):
                    stream.seek(member.offset)
                    text[member.suffix] = stream.read(member.size).decode(errors="replace").strip()
            if key is not None:
                yield _record(key, place, text, tar)


def _record(key: str, place: Place | None, text: dict[str, str], tar: Path) -> Record | Rejected:
    if place is None:
        return Rejected(key, str(tar), "no image in the sample")
    return Record(key, place, caption=text.get("txt"), label=text.get("cls"))
