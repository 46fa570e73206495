"""CLIP_benchmark's layout of labelled sets: `SPLIT/nshards.txt`, `SPLIT/N.tar`, class names."""

import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from clipshift.core.errors import ClipshiftError
from clipshift.core.sniff import regular_file
from clipshift.datasets.formats import class_names
from clipshift.datasets.formats.base import Unit
from clipshift.datasets.formats.webdataset import TarDataset
from clipshift.datasets.listing import kind_of, natural, walk
from clipshift.datasets.records import Record, Rejected, printable

COUNT = "nshards.txt"


class ClipBenchmark(TarDataset):
    """The path is the set's folder or that of one split; tars beyond `nshards.txt` are left out.

    A label that is no index of a class is a rejected sample.
    """

    name = "clip_benchmark"
    rank = 10
    about = "SPLIT/0.tar … with nshards.txt and classnames.txt (CLIP_benchmark, wds_* of the Hub)"

    @classmethod
    def recognise(cls, path: Path) -> str | None:
        if not path.is_dir():
            return None
        found = _splits(path)
        return f"{COUNT} in {', '.join(n or 'the folder' for n in found)}" if found else None

    @cached_property
    def _tars(self) -> dict[str, Path]:
        """Tars by the name of their unit."""
        splits = _splits(self.path)
        if not splits:
            raise ClipshiftError(f"{self.path} has no split with {COUNT}")
        if len(splits) > 1:
            self.tell(f"several splits: {', '.join(splits)}")
        found = {}
        for split in splits:
            folder = self.path / split
            name = printable(split or folder.resolve().name)
            for i in range(_shards(folder / COUNT)):
                if not (folder / f"{i}.tar").is_file():
                    raise ClipshiftError(
                        f"{folder / f'{i}.tar'} is missing; {COUNT} counts it. Get the whole set"
                    )
                found[f"{name}/{i}.tar"] = folder / f"{i}.tar"
        used = {str(tar.relative_to(self.path)) for tar in found.values()}
        used |= {str(Path(split, COUNT)) for split in splits} | {class_names.FILE}
        for path in walk(self.path, self.left_out):
            if path not in used:
                beyond = path.endswith(".tar")
                self.left_out[f"tar beyond {COUNT}" if beyond else kind_of(path)] += 1
        return found

    def units(self) -> list[Unit]:
        return [Unit(name, (tar,)) for name, tar in self._tars.items()]

    def read(self, unit: Unit) -> Iterator[Record | Rejected]:
        names = self._names
        for found in super().read(unit):
            if names is None or isinstance(found, Rejected):
                yield found
            elif found.label is None:
                yield Rejected(found.key, str(found.place), "no label")
            elif not found.label.isascii() or not found.label.isdigit():
                yield Rejected(found.key, str(found.place), "label is no number")
            elif int(found.label) >= len(names):
                yield Rejected(found.key, str(found.place), "label is beyond the classes")
            else:
                yield found

    @cached_property
    def _names(self) -> list[str] | None:
        folders = (self.path,) if "" not in _splits(self.path) else (self.path, self.path.parent)
        return class_names.class_names_beside(*folders)

    def classes(self) -> list[str] | None:
        return self._names


def _splits(folder: Path) -> list[str]:
    """Folders of splits, relative to a set's; "": the folder is one itself."""
    if (folder / COUNT).is_file():
        return [""]
    return sorted((p.parent.name for p in folder.glob(f"*/{COUNT}")), key=natural)


def _shards(file: Path) -> int:
    text = regular_file(file).read_bytes().decode("utf-8-sig", "replace").strip()
    if not re.fullmatch("[0-9]{1,6}", text) or not int(text):
        raise ClipshiftError(f"{file}: expected the number of tars, found {text[:40]!r}")
    return int(text)
