"""What open_clip's trainer reads: of each kept sample its key, one image and one text.

A training's list of tars (`shards.json`) says which samples of each are kept: all of a copy, those
of a list of keys where the user's own tars are read in place. They are read in this process,
through the one parser of tars; webdataset opens, parses and decodes nothing. Each pass over a tar
is compared with its list, so that no kept sample is missed silently.

Every sample has a row, its place among all that the training keeps, by which it is counted.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_json, read_parquet, write_json
from clipshift.datasets.images import SUFFIXES, WHITE, Colour, Undecodable, colour, decode, portable
from clipshift.datasets.records import Rejected
from clipshift.datasets.tars import Sample, members, read_tar

TEXT = "txt"
# Folder of lists of what was left out, in a training's work folder.
LEFT_OUT = "undecodable"
# Unseen keys that a record names.
NAMED = 10


class Shard(NamedTuple):
    """A tar to train on.

    Attributes:
        first: the row of its first kept sample; rows: how many it has.
        keep: the file of its kept keys, sorted; of a copy, whose samples are all kept, None.
        labelled: whether labels, by a template, are the texts.
    """

    tar: str
    first: int
    rows: int
    keep: str | None = None
    labelled: bool = False


class Shards:
    """The tars of a training, read from `shards.json` (see `write_shards`)."""

    def __init__(self, path: Path):
        self.work = path.parent
        self._settings = read_json(path)
        self.shards = [Shard(*shard) for shard in self._settings["shards"]]
        self._background = colour(self._settings["background"])

    @property
    def rows(self) -> int:
        """Samples that are kept."""
        return sum(shard.rows for shard in self.shards)

    @property
    def names(self) -> list[str]:
        """Of the shards, for webdataset to shuffle and share: their numbers."""
        return [str(number) for number in range(len(self.shards))]

    def source(self, shards: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """The first stage of a pipeline: named shards to samples with their bytes.

        Raises:
            ClipshiftError: a tar is damaged or gone, or not what its list says.
        """
        for shard in shards:
            for row, sample in self.read(int(shard["url"])):
                yield {"__key__": sample.key, "__row__": row, **sample.parts}

    def read(self, number: int) -> Iterator[tuple[int, Sample]]:
        """Rows and samples of a tar, each of an image under a suffix of its kind and `txt`.

        Raises:
            ClipshiftError: as `source`.
        """
        shard = self.shards[number]
        if not shard.rows:  # it may not even be there
            return
        try:
            yield from self._copied(shard) if shard.keep is None else self._kept(shard)
        except OSError as error:
            raise ClipshiftError(
                f"{shard.tar} cannot be read: {error.strerror or error}; bring it back, and the "
                "training continues from its last checkpoint"
            ) from error

    def _copied(self, shard: Shard) -> Iterator[tuple[int, Sample]]:
        count = 0
        for sample in read_tar(Path(shard.tar)):
            yield shard.first + count, sample  # it holds nothing else
            count += 1
        if count != shard.rows:
            raise ClipshiftError(
                f"{shard.tar} holds {count} samples, copied were {shard.rows}; delete "
                f"{self.work} to start anew"
            )

    def _kept(self, shard: Shard) -> Iterator[tuple[int, Sample]]:
        listed = Path(shard.keep or "")
        keep = np.load(listed)
        texts = listed.with_suffix(".parquet")
        captions = read_parquet(texts, ["key", "caption"])["caption"] if texts.exists() else None
        met = np.zeros(len(keep), bool)
        left_out: dict[str, str] = {}
        for sample in read_tar(Path(shard.tar)):
            at = int(np.searchsorted(keep, sample.key))
            if at == len(keep) or keep[at] != sample.key:
                continue
            met[at] = True
            try:
                image = trainable(sample, self._background).parts
                if captions is not None:
                    text = captions[at].as_py().encode()
                else:
                    text = self._label(sample) if shard.labelled else text_of(sample)
            except Undecodable as reason:
                left_out[sample.key] = str(reason)
                # At once: a reader may have enough before the tar ends.
                write_json(self.work / LEFT_OUT / f"{shard.first}.json", left_out)
                continue
            yield shard.first + at, Sample(sample.key, image | {TEXT: text})
        if not met.all():
            raise ClipshiftError(
                f"{shard.tar} lacks {int((~met).sum())} of the {len(keep)} samples that the split "
                f"keeps of it, e.g. {str(keep[int(np.argmin(met))])!r}; bring back the tar that "
                "the split was made of, or make the pool's tables and the split again"
            )

    def _label(self, sample: Sample) -> bytes:
        """The template's text of a sample's label."""
        names, label = self._settings["classnames"], sample.parts.get("cls", b"")
        if not label.isdigit() or int(label) >= len(names):
            raise Undecodable(f"its label is none of the {len(names)} classes")
        text: str = self._settings["template"].replace("{class}", names[int(label)])
        return text.encode()

    def account(self, seen: np.ndarray) -> dict[str, Any]:
        """For the record: how many distinct samples were trained on, and which were not.

        Args:
            seen: (rows,) bool, by row.
        """
        left_out = undecodable(self.work / LEFT_OUT)
        unseen = int((~seen).sum())
        first: list[str] = []
        for shard in self.shards:
            mine = seen[shard.first : shard.first + shard.rows]
            if mine.all():
                continue
            rows = np.flatnonzero(~mine)
            keys = [key for key in self._keys(shard, rows) if key not in left_out]
            unseen -= len(rows) - len(keys)
            first += keys[: NAMED - len(first)]
        return accounted(self.rows - len(left_out), unseen, first)

    def _keys(self, shard: Shard, rows: np.ndarray) -> list[str]:
        if shard.keep is not None:
            return [str(key) for key in np.load(shard.keep)[rows]]
        found = (m.key for m in members(Path(shard.tar)) if not isinstance(m, Rejected))
        keys = list(dict.fromkeys(found))
        return [keys[row] for row in rows]


def accounted(kept: int, unseen: int, first: list[str]) -> dict[str, Any]:
    """`keys` of a record: distinct samples kept, those trained on, and the first that were not."""
    return {"kept": kept, "seen": kept - unseen, "unseen": unseen, "first_unseen": first}


def write_shards(
    path: Path, shards: Iterable[Shard], background: str = "#ffffff",
    classnames: Path | None = None, template: str = "",
) -> None:  # fmt: skip
    """Write the list of a training's tars, `shards.json` in its work folder.

    Args:
        classnames, template: for the tars whose labels are the texts.
    """
    settings: dict[str, Any] = {"shards": list(shards), "background": background}
    settings["classnames"] = classnames.read_text().splitlines() if classnames else []
    write_json(path, settings | {"template": template})


def trainable(sample: Sample, background: Colour = WHITE) -> Sample:
    """The first image of a sample, under a suffix of its kind, as any decoder sees it as
    `images.decode` does.

    Raises:
        Undecodable: the image, or there is none.
    """
    name, data = portable(sample.image, sample.image_suffix, background)
    return Sample(sample.key, {name: data})


def text_of(sample: Sample) -> bytes:
    """Its caption.

    Raises:
        Undecodable: it has none, or it is not UTF-8.
    """
    if TEXT not in sample.parts:
        raise Undecodable("no caption in the sample")
    try:
        sample.parts[TEXT].decode()
    except UnicodeDecodeError:
        raise Undecodable("caption is not UTF-8") from None
    return sample.parts[TEXT]


def undecodable(folder: Path) -> dict[str, str]:
    """What reading left out so far, by the lists in a folder: key -> reason."""
    found: dict[str, str] = {}
    for path in sorted(folder.glob("*.json")):
        found |= read_json(path)
    return dict(sorted(found.items()))


def decoded(sample: dict[str, Any]) -> dict[str, Any]:
    """A sample of `Shards.source` with its image and text for their bytes."""
    made = dict(sample)
    for suffix, data in sample.items():
        if suffix == TEXT:
            made[suffix] = data.decode()
        elif suffix in SUFFIXES:
            try:
                made[suffix] = decode(data)
            except Undecodable as reason:  # it was looked at when it was read
                raise ClipshiftError(f"the sample {sample['__key__']!r}: {reason}") from reason
    return made


class Seen:
    """Which rows were trained on, a bit each."""

    def __init__(self, rows: int):
        self._bits = np.zeros(-(-rows // 8), np.uint8)
        self._rows = rows

    def add(self, rows: np.ndarray) -> None:
        np.bitwise_or.at(self._bits, rows >> 3, (1 << (rows & 7)).astype(np.uint8))

    def merge(self, path: Path) -> None:
        """Add what a file holds, if it is there."""
        if path.exists():
            self._bits |= np.load(path)

    @property
    def bits(self) -> np.ndarray:
        return self._bits

    def rows(self) -> np.ndarray:
        """(rows,) bool."""
        return np.unpackbits(self._bits, count=self._rows, bitorder="little").astype(bool)
