"""The images that may be labelled: what a pool holds, in the order of the page.

A pool is a folder of tars (the project's shards, img2dataset's output, CLIP_benchmark's sets) or of
image files. Where a tar has its table beside it, keys come from the table and the tar is opened
only for an image that is looked at, so that a sample of a large pool costs no pass over its tars.
"""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from clipshift.core import columns
from clipshift.core.counts import StepCounts
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_parquet
from clipshift.core.parquet import batches, schema_of
from clipshift.datasets.any_images import open_images
from clipshift.datasets.formats.base import Dataset, Unit
from clipshift.datasets.listing import Listing
from clipshift.datasets.records import Place, Record, printable
from clipshift.datasets.select import seeded_order
from clipshift.datasets.tars import image_places

BATCH = 65_536  # rows of a table in memory at a time
MOST = 2_000_000  # images listed without a sample
OUTSIDE = "leads out of the folder"
SUCCESS = "success"  # img2dataset's status of an image that is there


class Unreadable(Exception):
    """An image cannot be read; the text says why."""


@dataclass(frozen=True)
class Item:
    """One image: its key, the file or tar that holds it, and what a table says of it."""

    key: str
    file: Path
    place: Place | None = None  # None: in a tar or a table, not looked up yet
    concept: str | None = None
    source: str | None = None
    unit: Unit | None = None  # of a data set, which says itself where its images lie


@dataclass
class Catalogue:
    """The images in order.

    Attributes:
        root: the folder, resolved; nothing outside it is ever read but what a data set's own
            table names.
        step_counts: found, listed, and why the rest is not.
        dataset: where the images are those of a format.
    """

    root: Path
    items: list[Item]
    step_counts: StepCounts
    dataset: Dataset | None = None
    position: dict[str, int] = field(default_factory=dict)
    _tars: dict[Path, dict[str, Place]] = field(default_factory=dict)
    _near: dict[str, Place] = field(default_factory=dict)  # of a page's images in tables

    def __post_init__(self) -> None:
        self.position = {item.key: at for at, item in enumerate(self.items)}

    def item(self, key: str) -> Item | None:
        """The image of this key; None for anything that is not a key of the pool."""
        at = self.position.get(key)
        return None if at is None else self.items[at]

    def read(self, item: Item) -> bytes:
        """The image's bytes.

        Raises:
            Unreadable: it is gone, or its path leads out of the pool by now.
        """
        if item.unit is None and not is_inside(item.file, self.root):
            raise Unreadable(OUTSIDE)
        try:
            return (item.place or self._look_up(item)).read()
        except ClipshiftError as error:
            raise Unreadable(str(error)) from error
        except OSError as error:
            raise Unreadable(f"cannot be read: {error.strerror}") from error

    def prefetch(self, keys: Sequence[str]) -> None:
        """Find images that lie in tables in one pass over each; those found before are dropped."""
        units: dict[Unit, set[str]] = {}
        for item in map(self.item, keys):
            if item is not None and item.unit is not None and item.place is None:
                units.setdefault(item.unit, set()).add(item.key)
        if not units or self.dataset is None:
            return
        self._near = {
            record.key: record.place
            for unit, wanted in units.items()
            for record in self.dataset.records(unit)
            if isinstance(record, Record) and record.key in wanted
        }

    def _look_up(self, item: Item) -> Place:
        """Where in its tar or table an image lies; a tar's headers are read once."""
        if item.unit is not None:
            if item.key not in self._near:
                self.prefetch([item.key])
            if item.key not in self._near:
                raise Unreadable("is no longer in its table")
            return self._near[item.key]
        if item.file not in self._tars:
            self._tars[item.file] = {
                record.key: record.place
                for record in image_places(item.file)
                if isinstance(record, Record) and record.key in self.position
            }
        place = self._tars[item.file].get(item.key)
        if place is None:
            raise Unreadable("is in the table, but not in its tar")
        return place


def open_catalogue(folder: Path, sample: int | None = None, seed: int = 0) -> Catalogue:
    """List a pool by key, or a sample of it.

    Args:
        sample: so many images, drawn by a hash of seed and key: the same in whatever order
            they are found, and a larger sample holds a smaller one.

    Raises:
        ClipshiftError: no image, a key that occurs twice, or too many images for no sample.
    """
    root = folder.resolve()
    step_counts = StepCounts("label", folder.name)
    images = open_images(folder)
    if images.listing is not None:
        every = _items(images.listing, root, step_counts)
    else:
        every = _dataset_items(images.dataset)
    found = _count(every, step_counts)
    if sample is None:
        items = sorted(_limited(found, folder), key=lambda item: item.key)
    else:
        drawn = heapq.nsmallest(sample, found, key=lambda i: (seeded_order(seed, i.key), i.key))
        items = sorted(drawn, key=lambda item: item.key)
    for first, second in pairwise(items):
        if first.key == second.key:
            raise ClipshiftError(
                f"the key {first.key!r} is in {first.file} and in {second.file}; give a folder "
                "in which keys are unique"
            )
    left_out = step_counts.came_in - sum(step_counts.rejected.values()) - len(items)
    if left_out:
        step_counts.rejected["not in the sample"] = left_out
    step_counts.went_out = len(items)
    if not items:
        raise ClipshiftError(
            f"{folder} holds no image that could be shown: {dict(step_counts.rejected)}"
        )
    return Catalogue(root, items, step_counts, images.dataset)


def is_inside(path: Path, root: Path) -> bool:
    """Whether a path, all links followed, lies below `root` (which is resolved)."""
    return path.resolve().is_relative_to(root)


def _count(items: Iterable[Item | str], step_counts: StepCounts) -> Iterator[Item]:
    for item in items:
        step_counts.came_in += 1
        if isinstance(item, str):
            step_counts.rejected[item] += 1
        else:
            yield item


def _limited(items: Iterable[Item], folder: Path) -> Iterator[Item]:
    for number, item in enumerate(items):
        if number == MOST:
            raise ClipshiftError(
                f"{folder} holds more than {MOST:,} images; give --sample N to label some of them"
            )
        yield item


def _dataset_items(dataset: Dataset | None) -> Iterator[Item | str]:
    """Every image of a data set, or the reason why it is none; bytes are read when looked at."""
    for unit in dataset.units() if dataset else ():
        for record in dataset.records(unit) if dataset else ():
            if isinstance(record, Record):
                place = None if record.place.data is not None else record.place
                yield Item(record.key, record.place.file, place, record.label, None, unit)
            else:
                yield record.reason


def _items(listing: Listing, root: Path, step_counts: StepCounts) -> Iterator[Item | str]:
    """Every image, or the reason why it is none."""
    for name in listing.files:
        path = listing.folder / name
        if printable(name) != name:
            yield "name is not UTF-8"
        elif not is_inside(path, root):
            yield OUTSIDE
        elif not path.is_file():
            yield "no regular file"
        else:
            yield Item(name, path, Place(path))
    whole = root / "samples.parquet"
    about = _about(whole) if whole.exists() and is_inside(whole, root) else {}
    for name in listing.tars:
        tar = listing.folder / name
        if not is_inside(tar, root):
            yield f"its tar {OUTSIDE}"
            continue
        table = tar.with_suffix(".parquet")
        if table.exists() and is_inside(table, root):
            yield from _table_items(tar, table)
            continue
        for record in image_places(tar):
            if isinstance(record, Record):
                concept, source = about.get(record.key, (None, None))
                yield Item(record.key, tar, record.place, concept, source)
            else:
                yield record.reason


def _about(table: Path) -> dict[str, tuple[str | None, str | None]]:
    """{key: (concept, source)} of the sample table of a set."""
    found = read_parquet(table, ["key", "concept", "source"])
    key, *about = (columns.text(found[c], c, table).to_pylist() for c in found.column_names)
    return dict(zip(key, zip(*about, strict=True), strict=True))


def _table_items(tar: Path, table: Path) -> Iterator[Item | str]:
    """A tar's images by the table beside it."""
    there = schema_of(table).names
    asked = ["key", *(c for c in ("concept", "source", "status") if c in there)]
    for batch in batches(table, BATCH, asked):
        cells = {c: columns.text(batch[c], c, table).to_pylist() for c in asked}
        for row in range(len(batch)):
            about = {column: values[row] for column, values in cells.items()}
            status = about.get("status", SUCCESS)
            if status != SUCCESS:
                yield status or "no status"
            elif about["key"] is None:
                raise ClipshiftError(f"{table}: an image has no key; every row needs its own")
            else:
                yield Item(about["key"], tar, None, about.get("concept"), about.get("source"))
