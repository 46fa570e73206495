"""The images of a path of the user's, whatever they lie in: files, tars, or a data set's format."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from clipshift.core.errors import ClipshiftError
from clipshift.core.sniff import file_or_folder
from clipshift.datasets.formats import open_dataset
from clipshift.datasets.formats.base import Dataset
from clipshift.datasets.formats.huggingface import HuggingFace
from clipshift.datasets.listing import Listing, list_folder, places
from clipshift.datasets.records import Record, Rejected
from clipshift.datasets.tars import SUFFIXES_OF_TARS

Units = Iterator[tuple[str, Iterator[Record | Rejected]]]


@dataclass(frozen=True)
class Images:
    """Where images lie.

    Attributes:
        listing, dataset: one of them, by which they are read.
        folder: that `names`, the files that are read, are relative to.
        other: what lies there and is not read, counted.
        said: one line about every guess.
        units: named pieces of work in order, each with its records.
    """

    folder: Path
    names: list[str]
    other: Counter[str]
    said: list[str]
    units: Callable[[], Units]
    listing: Listing | None = None
    dataset: Dataset | None = None


def open_images(path: Path) -> Images:
    """List the images of a path: files and tars of a folder, else what a format recognises.

    Raises:
        ClipshiftError: nothing there is read.
    """
    listing = _plain(file_or_folder(path))
    if listing is None:
        return _of_dataset(path)
    found = listing
    said = []
    if path.is_dir() and any(name in found.other for name in ("parquet", "arrow")):
        said = _beside(path)
    return Images(
        found.folder, [*found.files, *found.tars], found.other, said,
        lambda: places(found), listing=found,
    )  # fmt: skip


def _plain(path: Path) -> Listing | None:
    """A folder of image files and tars, or one tar; None: something else."""
    if path.is_file():
        tar = path.name.lower().endswith(SUFFIXES_OF_TARS)
        return Listing(path.parent, tars=[path.name]) if tar else None
    try:
        return list_folder(path)
    except ClipshiftError:
        return None


def _beside(path: Path) -> list[str]:
    try:
        why = HuggingFace.recognise(path)
    except ClipshiftError:  # a table that is none of ours
        return []
    return [f"{path} also holds {why}, which are not read; name one of them"] if why else []


def _of_dataset(path: Path) -> Images:
    dataset = open_dataset(path)
    units = dataset.units()
    files = list(dict.fromkeys(file for unit in units for file in unit.files))
    folder = path if path.is_dir() else path.parent
    names = [str(f.relative_to(folder) if f.is_relative_to(folder) else f) for f in files]
    return Images(
        folder, names, dataset.left_out, dataset.said,
        lambda: ((unit.name, dataset.records(unit)) for unit in units), dataset=dataset,
    )  # fmt: skip
