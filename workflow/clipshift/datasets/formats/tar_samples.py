"""Samples of tars with the text of their members, for all formats that are made of tars."""

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clipshift.datasets.archives import open_tar
from clipshift.datasets.formats.base import KEY_OF_UNIT, Columns
from clipshift.datasets.records import Place, Record, Rejected, printable
from clipshift.datasets.tars import members

# Where a field is read from unless the user names it; `json:FIELD` is a field of the json member.
DEFAULTS = {
    "caption": ("txt", "json:caption"),
    "label": ("cls", "json:label"),
    "url": ("json:url",),
    "uid": ("json:uid",),
    "sha256": ("json:sha256",),
    "md5": ("json:md5",),
}


# Fields of which a sample has one value; captions and labels may be lists.
_SINGLE = ("key", "image", "url", "uid", "sha256", "md5")


@dataclass
class TarSample:
    """The image of a sample and the bytes of its other members by suffix."""

    key: str
    tar: str
    place: Place | None = None
    data: dict[str, bytes] = field(default_factory=dict)


def places_of(columns: Columns) -> dict[str, tuple[str, ...]]:
    """Where each field is read from, in the order of preference.

    >>> places_of({"caption": "json:blip"})["caption"]
    ('json:blip',)
    """
    named = {f: (place,) for f, place in columns.items() if f != "image"}
    if columns.get("key") == KEY_OF_UNIT:
        del named["key"]
    return DEFAULTS | named


def tar_samples(
    tar: Path, suffixes: set[str], image: str | None = None, unread: set[str] | None = None
) -> Iterator[TarSample | Rejected]:
    """The samples of a tar.

    Args:
        suffixes: of the members whose bytes are kept.
        image: the suffix of the image; None: the first member with a suffix of images.
        unread: gets the suffixes of all other members.

    Raises:
        ClipshiftError: the tar is truncated or damaged.
    """
    where = printable(str(tar))
    sample: TarSample | None = None
    with closing(open_tar(tar)) as stream:
        for member in members(tar, stream):
            if isinstance(member, Rejected):
                yield member
                continue
            if sample is None or member.key != sample.key:
                if sample is not None:
                    yield sample
                sample = TarSample(member.key, where)
            read = member.suffix == image if image else member.is_image
            if member.too_large and (read or member.suffix in suffixes):
                yield Rejected(member.key, f"{where}#{member.name}", member.too_large)
            elif member.suffix in sample.data:
                yield Rejected(member.key, f"{where}#{member.name}", "member occurs twice")
            elif read:
                if sample.place is None:
                    sample.place = Place(tar, member.name, member.offset, member.size)
                elif not image:
                    place = f"{where}#{member.name}"
                    yield Rejected(member.key, place, "second image of a sample")
            elif member.suffix in suffixes:
                stream.seek(member.offset)
                sample.data[member.suffix] = stream.read(member.size)
            elif unread is not None:
                unread.add(member.suffix)
    if sample is not None:
        yield sample


def suffixes_of(places: dict[str, tuple[str, ...]]) -> set[str]:
    """Suffixes of the members that hold the fields."""
    return {place.partition(":")[0] for alternatives in places.values() for place in alternatives}


def record_of(sample: TarSample, places: dict[str, tuple[str, ...]]) -> Record | Rejected:
    """The record of a sample, with its fields from the first place that has them."""
    if sample.place is None:
        return Rejected(sample.key, sample.tar, "no image in the sample")
    where = str(sample.place)
    try:
        text = {suffix: data.decode() for suffix, data in sample.data.items()}
        entry = json.loads(text["json"]) if "json" in text else {}
    except UnicodeDecodeError:
        return Rejected(sample.key, where, "text is not UTF-8")
    except (ValueError, RecursionError):
        return Rejected(sample.key, where, "its json is not JSON")
    if not isinstance(entry, dict):
        return Rejected(sample.key, where, "its json is no object")
    parts = text | {f"json:{name}": value for name, value in entry.items()}
    chosen = {
        name: next((p for p in alternatives if as_text(parts.get(p)) is not None), "")
        for name, alternatives in places.items()
    }
    found = fields_of(parts, chosen)
    if isinstance(found, str):
        return Rejected(sample.key, where, found)
    if not found.setdefault("key", sample.key):
        return Rejected(sample.key, where, "no key")
    return Record(place=sample.place, **found)


def fields_of(row: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, Any] | str:
    """The fields of a row of a table as text; or why it has none."""
    label = row.get(columns.get("label", ""))
    if isinstance(label, (list, tuple)) and len(label) > 1:
        return "several labels"
    for name, column in columns.items():
        value = row.get(column)
        if isinstance(value, dict) or (isinstance(value, (list, tuple)) and name in _SINGLE):
            return f"{name} is no text"
    fields = {name: as_text(row.get(column)) for name, column in columns.items()}
    try:
        for text in fields.values():
            (text or "").encode()
    except UnicodeEncodeError:  # JSON may hold halves of characters
        return "text is not Unicode"
    return fields


def as_text(value: Any) -> str | None:
    """A value of a field as text without blanks around it; None: it is missing, or empty.

    >>> as_text(" a "), as_text(3), as_text(3.0), as_text(float("nan")), as_text(["a", "b"])
    ('a', '3', '3', None, 'a')
    """
    if isinstance(value, (list, tuple)):
        value = value[0] if value else None
    if isinstance(value, bytes):
        value = value.decode(errors="backslashreplace")
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, dict):
        value = json.dumps(value, ensure_ascii=False, sort_keys=True)
    return str(value).strip() or None
