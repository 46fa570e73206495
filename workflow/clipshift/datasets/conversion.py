"""Data in any format as samples of our own: safe keys, classes, captions, rows of the table."""

import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import sha256_bytes
from clipshift.datasets.formats import open_dataset
from clipshift.datasets.formats.base import KEY_OF_UNIT, Dataset, Unit, label_index
from clipshift.datasets.images import SUFFIXES, Undecodable
from clipshift.datasets.parts import Part
from clipshift.datasets.pool import shard_of
from clipshift.datasets.records import Record, Rejected
from clipshift.datasets.shards import url_hash
from clipshift.study.config.folders import ANY, Readable

# Longest part of a key that is kept of one that is made safe.
KEPT = 80


class Found(NamedTuple):
    """A sample of the user's and the key that we give it."""

    key: str
    unit: Unit
    record: Record


def opened(spec: Readable, data: Path) -> Dataset:
    """The data set of a block of the configuration; raises `ClipshiftError` as `open_dataset`."""
    name = None if spec.format == ANY else spec.format
    return open_dataset(data / spec.folder, name, spec.columns)


def chosen_units(dataset: Dataset, pattern: str) -> list[Unit]:
    """The units that are read.

    Raises:
        ClipshiftError: no name fits the pattern.
    """
    units = dataset.units()
    chosen = [u for u in units if any(fnmatchcase(n, pattern) for n in (u.name, Path(u.name).name))]
    if not chosen:
        names = ", ".join(unit.name for unit in units[:3])
        raise ClipshiftError(
            f"{dataset.path}: none of its {len(units)} units fits {pattern!r} (the key `units`); "
            f"they are {names or 'none'}{' ...' * (len(units) > 3)}"
        )
    return chosen


def safe_key(dataset: str, key: str) -> str:
    """A key that webdataset keeps whole: letters, digits, `_` and `-`.

    One that has other characters gets a hash of itself and of its data set, so that two stay two,
    and the same file names in a pool and in a set do not meet.

    >>> safe_key("web", "000000012"), safe_key("web", "cat/a b.jpg")
    ('000000012', 'cat_a_b-4ebeaeb9')
    """
    stem, _, suffix = key.rpartition(".")
    safe = re.sub("[^A-Za-z0-9_-]+", "_", stem if suffix.lower() in SUFFIXES else key)[:KEPT]
    return safe if safe == key else f"{safe}-{sha256_bytes(f'{dataset}/{key}'.encode())[:8]}"


def find(
    name: str,
    dataset: Dataset,
    units: Sequence[Unit],
    part: Part,
    shard: int = 0,
    shards: int = 1,
) -> Iterator[Found | Rejected]:
    """The samples of a shard in the order of the data, and what is none with its reason.

    Args:
        name: of the pool or the set.

    Raises:
        ClipshiftError: two units share a key.
    """
    seen: dict[str, Unit] = {}
    for unit in units:
        for record in dataset.records(unit):
            key = safe_key(name, record.key)
            if shard_of(key, shards) != shard:
                continue
            if isinstance(record, Rejected):
                yield record
            elif reason := part.refused(record):
                yield Rejected(record.key, str(record.place), reason)
            elif key in seen:
                raise ClipshiftError(
                    f"{dataset.path}: {seen[key].name} and {unit.name} share the key "
                    f"{record.key!r}; choose the `units` to read, or add `columns: {{key: "
                    f"{KEY_OF_UNIT}}}`"
                )
            else:
                seen[key] = unit
                yield Found(key, unit, record)


def stored_bytes(record: Record) -> bytes:
    """The bytes of its image as they are stored.

    Raises:
        Undecodable: there are none.
    """
    try:
        data = record.place.read()
    except FileNotFoundError:
        raise Undecodable("image missing") from None
    except OSError as error:
        raise Undecodable(f"image cannot be read: {error.strerror}") from None
    if not data:
        raise Undecodable("empty file")
    return data


def caption_of(record: Record, class_name: str | None, template: str | None) -> str:
    """Its own caption, or that of a template.

    Raises:
        Undecodable: the template asks for a class or a caption that it lacks.
    """
    if template is None:
        return record.caption or ""
    for part, text in (("{class}", class_name), ("{caption}", record.caption)):
        if part in template and not text:
            raise Undecodable(f"no {part[1:-1]} for the caption's template")
    return template.replace("{class}", class_name or "").replace("{caption}", record.caption or "")


def row_of(
    dataset: str, found: Found, data: bytes, caption: str, class_name: str | None
) -> dict[str, Any]:
    """Its row of the sample table (`uid` beside, where the data have it)."""
    record, unit = found.record, found.unit
    where = [dataset, record.key] if unit.name == "files" else [dataset, unit.name, record.key]
    locator = "/".join(where)
    named = class_name or ""
    return {
        "key": found.key,
        "url_hash": url_hash(record.url or locator),
        "sha256": sha256_bytes(data),
        "caption": caption,
        "source": dataset,
        "family": dataset,
        "concept": named,
        "category": named,
        "class_name": class_name,
        "held_out": False,
        "domain": "",
        "licence": "",
        "author": "",
        "locator": locator,
        "uid": record.uid,
    }


class Classes:
    """The classes of labelled data: the place of a label, and the name for prompts.

    Args:
        own: labels in their order, as the data have them.
        names: of the same classes, for prompts.
        numbered: a label of digits is a place.
    """

    def __init__(self, own: Sequence[str], names: Sequence[str], numbered: bool):
        self.own, self.names, self.numbered = list(own), list(names), numbered

    def index(self, label: str) -> int:
        """Its place; raises `ClipshiftError` for what is no class, or two."""
        whole = re.fullmatch(r"([0-9]+)\.0*", label) if self.numbered else None
        return label_index(whole[1] if whole else label, self.own, self.numbered)

    def name(self, label: str) -> str:
        return self.names[self.index(label)]
