"""timm's data sets in webdataset form: tars of splits that `_info.json` lists."""

from functools import cached_property
from pathlib import Path
from typing import NotRequired

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from clipshift.core.errors import ClipshiftError
from clipshift.datasets.formats import class_names
from clipshift.datasets.formats.base import Unit
from clipshift.datasets.formats.json_files import parse
from clipshift.datasets.formats.webdataset import TarDataset
from clipshift.datasets.listing import kind_of, walk
from clipshift.datasets.records import printable
from clipshift.datasets.tars import SUFFIXES_OF_TARS

FILES = ("_info.json", "info.json")


class Split(TypedDict):
    """What `_info.json` says of a split."""

    filenames: list[str]
    shard_lengths: NotRequired[list[int]]


class Info(TypedDict):
    """The part of `_info.json` that is read."""

    splits: NotRequired[dict[str, Split]]


_FORM = TypeAdapter(Info)


class TimmWebdataset(TarDataset):
    """The label is the member `cls`. Tars that are listed and not there are counted."""

    name = "timm_webdataset"
    rank = 20
    about = "tars per split with _info.json, e.g. imagenet1k-train-0000.tar (timm)"

    @classmethod
    def recognise(cls, path: Path) -> str | None:
        for name in FILES:
            if (path / name).is_file() and _splits(path / name):
                return f"{name} lists tars of splits"
        return None

    @cached_property
    def _units(self) -> list[Unit]:
        info = next((self.path / n for n in FILES if (self.path / n).is_file()), None)
        splits = _splits(info) if info else {}
        units = []
        for split, entry in splits.items():
            unknown: list[int | None] = [None] * len(entry["filenames"])
            lengths = entry.get("shard_lengths") or unknown
            if len(lengths) != len(entry["filenames"]):
                raise ClipshiftError(
                    f"{info}: the split {split!r} lists {len(entry['filenames'])} tars and the "
                    f"lengths of {len(lengths)}; get the file again"
                )
            named = list(zip(entry["filenames"], lengths, strict=True))
            there = [
                Unit(printable(f"{split}/{name}"), (self.path / name,), length)
                for name, length in named
                if (self.path / name).is_file()
            ]
            if missing := len(named) - len(there):
                self.left_out["tar that is listed and not there"] += missing
                self.tell(f"{missing:,} of {len(named):,} tars of {split!r} are not there")
            units += there
        if not units:
            raise ClipshiftError(f"{self.path}: none of the tars that {FILES[0]} lists is there")
        used = {str(unit.files[0].relative_to(self.path)) for unit in units}
        for path in walk(self.path, self.left_out):
            if path not in used and path not in (*FILES, class_names.FILE):
                tar = path.lower().endswith(SUFFIXES_OF_TARS)
                self.left_out["tar that is not listed" if tar else kind_of(path)] += 1
        return units

    def units(self) -> list[Unit]:
        return self._units

    def classes(self) -> list[str] | None:
        return class_names.class_names_beside(self.path)


def _splits(file: Path) -> dict[str, Split]:
    """Entries of the splits that list tars, in the order of the file."""
    try:
        return parse(file, _FORM).get("splits", {})
    except ClipshiftError:
        if file.name == FILES[0]:
            raise
        return {}  # `info.json` is a name that others use too
