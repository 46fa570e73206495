"""Training images by random access: where each lies in its tar, and the batch of every step.

Batch and augmentation are functions of (seed, step, place in the batch) alone, so a training that
continues at a checkpoint sees what the undisturbed one saw, with any number of processes.
"""

import os
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset, Sampler

from clipshift.core.device import available_cores
from clipshift.core.errors import ClipshiftError
from clipshift.datasets.archives import open_tar
from clipshift.datasets.images import WHITE, Colour, Undecodable, check, decode
from clipshift.datasets.records import Record, Rejected
from clipshift.datasets.tars import SECOND, image_places

# Distinct for up to this many views of images in one training.
_VIEWS = 2**40
# Images that are checked before more are read.
_AT_ONCE = 256


@dataclass(frozen=True)
class Index:
    """Where N images lie, in the order of their keys.

    tar: (N,) int32 index of `tars`; offset, size: (N,) int64 bytes.
    """

    tars: list[Path]
    tar: np.ndarray
    offset: np.ndarray
    size: np.ndarray


def index_tars(tars: Sequence[Path], keys: Sequence[str]) -> Index:
    """Find some images in tars; reads headers only.

    Args:
        keys: sorted; those wanted.

    Raises:
        ClipshiftError: a key is in no tar, or in two.
    """
    places = np.full((len(keys), 3), -1, np.int64)  # tar, offset, size
    for number, path in enumerate(tars):
        for record in image_places(path):
            if isinstance(record, Rejected):
                continue
            row = bisect_left(keys, record.key)
            if row < len(keys) and keys[row] == record.key:
                if places[row, 0] >= 0:
                    raise ClipshiftError(f"{path}: the key {record.key!r} is there twice")
                places[row] = number, record.place.offset, record.place.size
    missing = np.flatnonzero(places[:, 0] < 0)
    if len(missing):
        raise ClipshiftError(
            f"{len(missing)} images to train on are in none of {len(tars)} tars, e.g. "
            f"{keys[missing[0]]!r}"
        )
    return Index(list(tars), places[:, 0].astype(np.int32), places[:, 1], places[:, 2])


def undecodable(tars: Sequence[Path], keys: Sequence[str]) -> dict[str, str]:
    """Those of some images that cannot be decoded: key -> reason. Reads each image once.

    Args:
        keys: sorted; those wanted.
    """

    def wanted(key: str) -> bool:
        row = bisect_left(keys, key)
        return row < len(keys) and keys[row] == key

    def reason(record: Record | Rejected) -> str | None:
        if isinstance(record, Rejected):
            return None if record.reason == SECOND else record.reason
        try:
            check(record.place.read())
        except Undecodable as why:
            return str(why)
        return None

    found: dict[str, str] = {}
    with ThreadPoolExecutor(available_cores()) as pool:
        for tar in tars:
            records = (record for record in image_places(tar) if wanted(record.key))
            while some := list(islice(records, _AT_ONCE)):
                for record, why in zip(some, pool.map(reason, some), strict=True):
                    if why:
                        found[record.key] = why
    return found


class ImageViews(Dataset[tuple[Any, int]]):
    """Views of images: item (row, number) is (view, row), the view drawn by its number.

    Args:
        view: from an image to what the model sees; draws from torch's generator.
        seed: of the training.
    """

    def __init__(
        self, index: Index, view: Callable[[Image.Image], Any], seed: int,
        background: Colour = WHITE,
    ):  # fmt: skip
        self._index, self._view, self._seed = index, view, seed
        self._background = background
        self._open: dict[int, BinaryIO] = {}

    def __len__(self) -> int:
        return len(self._index.tar)

    def __getitem__(self, place: tuple[int, int]) -> tuple[Any, int]:
        row, number = place
        try:
            image = decode(self._read(row), self._background)
        except Undecodable as reason:  # it was decoded before the training began
            tar = self._index.tars[int(self._index.tar[row])]
            raise ClipshiftError(
                f"{tar}: the image at byte {self._index.offset[row]}: {reason}; the tar has "
                "changed in mid-training: bring it back, and the training continues"
            ) from reason
        torch.manual_seed(self._seed * _VIEWS + number)
        return self._view(image), row

    def _read(self, row: int) -> bytes:
        number = int(self._index.tar[row])
        if number not in self._open:
            self._open[number] = open_tar(self._index.tars[number])
        size, offset = int(self._index.size[row]), int(self._index.offset[row])
        return os.pread(self._open[number].fileno(), size, offset)


class Batches(Sampler[list[tuple[int, int]]]):
    """The batches of steps [first, last): pass after pass over all images, each in a new order.

    With several processes every one gets its part of each batch.
    """

    def __init__(
        self, images: int, batch: int, seed: int, first: int, last: int,
        rank: int = 0, ranks: int = 1,
    ):  # fmt: skip
        self._images, self._batch, self._seed = images, batch, seed
        self._steps, self._rank, self._ranks = range(first, last), rank, ranks
        self._order: tuple[int, np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self._steps)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for step in self._steps:
            start = step * self._batch
            mine = range(start + self._rank, start + self._batch, self._ranks)
            yield [(self._row(number), number) for number in mine]

    def _row(self, number: int) -> int:
        turn, place = divmod(number, self._images)
        if self._order is None or self._order[0] != turn:
            rng = np.random.default_rng([self._seed, turn])
            self._order = (turn, rng.permutation(self._images))
        return int(self._order[1][place])
