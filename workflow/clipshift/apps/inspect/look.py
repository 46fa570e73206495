"""What a data set holds: format, samples, classes, captions, sizes; read for a few seconds."""

import heapq
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from PIL import Image

from clipshift.datasets.formats import open_dataset, recognise
from clipshift.datasets.formats.base import Dataset
from clipshift.datasets.images import Undecodable, decode
from clipshift.datasets.records import Record, Rejected
from clipshift.datasets.select import seeded_order

DECODED = 32  # images that are decoded, drawn by a hash of their keys
WITNESSES = ("url", "uid", "sha256", "md5")


@dataclass
class Found:
    """What was read of a data set.

    Attributes:
        why: what its format was recognised by.
        units, read: pieces there are, and those read to their end; `samples` are of those read.
        rejected: reason -> how many are no samples.
        labels: label -> samples; `captions`, `witnesses`: samples that have one.
        domains: first folder -> samples, where keys have two folders or more.
        images: some images, decoded; `broken`: key -> why it could not be.
    """

    dataset: Dataset
    why: str
    units: int = 0
    read: int = 0
    samples: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    captions: int = 0
    caption: str = ""
    witnesses: Counter[str] = field(default_factory=Counter)
    domains: Counter[str] = field(default_factory=Counter)
    images: dict[str, Image.Image] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)

    @property
    def about(self) -> int:
        """Samples, estimated where not all were read."""
        return self.samples if self.whole else round(self.samples / self.read * self.units)

    @property
    def whole(self) -> bool:
        """Whether all of it was read."""
        return self.read == self.units


def look(
    path: Path, name: str | None = None, columns: Mapping[str, str] | None = None,
    seconds: float = 5, exclude: Sequence[str] = (),
) -> Found:  # fmt: skip
    """Read a data set, unit after unit, for some seconds; the first unit is read to its end.

    Args:
        name: of the format; None: the one that recognises the path.
        columns: the user's names of fields.
        exclude: patterns of keys that are not counted.

    Raises:
        ClipshiftError: no format reads it.
    """
    why = "as told" if name else recognise(path)[1]
    found = Found(open_dataset(path, name, columns), why)
    units = found.dataset.units()
    found.units = len(units)
    until = time.monotonic() + seconds
    drawn: list[tuple[int, str, Record]] = []
    for unit in units:
        if found.read and time.monotonic() > until:
            break
        for record in found.dataset.records(unit):
            if any(fnmatchcase(record.key, pattern) for pattern in exclude):
                continue
            _count(found, record)
            if isinstance(record, Record):
                entry = (-seeded_order(0, record.key), record.key, record)
                (heapq.heappushpop if len(drawn) == DECODED else heapq.heappush)(drawn, entry)
        found.read += 1
    for _, key, record in sorted(drawn, reverse=True):
        try:
            found.images[key] = decode(record.place.read())
        except (Undecodable, OSError) as error:
            found.broken[key] = str(error)
    return found


def _count(found: Found, record: Record | Rejected) -> None:
    if isinstance(record, Rejected):
        found.rejected[record.reason] += 1
        return
    found.samples += 1
    if record.label is not None:
        found.labels[record.label] += 1
    if record.caption:
        found.captions += 1
        found.caption = found.caption or record.caption
    for name in WITNESSES:
        found.witnesses[name] += getattr(record, name) is not None
    if record.key.count("/") >= 2:
        found.domains[record.key.partition("/")[0]] += 1
