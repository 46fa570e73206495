"""The one gate for tars: webdataset's rules of keys, bounds, and all damage named.

The key of a member is its path up to the first dot of its last part (folders are kept, a leading
`./` is not); the suffix is what follows, in lower case. Members of the same key that follow each
other are a sample. Members without a key (`._x.jpg`, `README`, `__meta__`) are skipped, as
webdataset does. A compressed tar is decompressed into a temporary file without a name.

Only images and texts come into memory, up to a size. Other members, of which a reader might make
objects or programs (pickles, arrays, archives), are named and counted, and never handed on.
"""

import logging
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from clipshift.core.errors import ClipshiftError
from clipshift.datasets.archives import DAMAGE, damaged, open_tar
from clipshift.datasets.headers import headers
from clipshift.datasets.images import SUFFIXES, Undecodable
from clipshift.datasets.records import MAX_BYTES, Place, Record, Rejected, printable

LOG = logging.getLogger(__name__)

# webdataset's rules: `base_plus_ext` and `skip_meta` of its tariterators.
_NAME = re.compile(r"((?:.*/|)[^./][^./]*)[.]([^/]*)", re.DOTALL)
_META = re.compile(r"__[^/]*__($|/)")

# Why a further image of a sample is not read.
SECOND = "second image of a sample"
SUFFIXES_OF_TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
# Last suffixes of the members that are read as text.
TEXTS = frozenset(("txt", "text", "caption", "json", "cls"))
MAX_TEXT = 16 << 20  # bytes of a text; those of JSON may take twenty times as much when parsed


@dataclass(frozen=True, slots=True)
class Member:
    """A regular file in a tar that has a key. `offset` is that of its bytes."""

    key: str
    suffix: str
    name: str
    offset: int
    size: int

    @property
    def is_image(self) -> bool:
        """Whether its last suffix is that of an image."""
        return _kind(self.suffix) in SUFFIXES

    @property
    def too_large(self) -> str | None:
        """Why it is not read, for its size; None: it is small enough."""
        most = MAX_BYTES if self.is_image else MAX_TEXT
        return f"larger than {most >> 20} MiB" if self.size > most else None


@dataclass(frozen=True)
class Sample:
    """One sample of a tar: its key and its images and texts by suffix, in the order of the tar.

    Attributes:
        refused: why an image of it was not read.
    """

    key: str
    parts: dict[str, bytes]
    refused: str | None = None

    @property
    def image(self) -> bytes:
        """Bytes of its first image.

        Raises:
            Undecodable: it has none.
        """
        return self.parts[self.image_suffix]

    @property
    def has_image(self) -> bool:
        return any(_kind(suffix) in SUFFIXES for suffix in self.parts)

    @property
    def image_suffix(self) -> str:
        """Suffix of its first image; raises as `image`."""
        for suffix in self.parts:
            if _kind(suffix) in SUFFIXES:
                return suffix
        raise Undecodable(self.refused or "no image in the sample")


def _kind(suffix: str) -> str:
    return suffix.rpartition(".")[2]


def split_name(name: str) -> tuple[str, str] | None:
    """Key and suffix of a member's name; None: webdataset skips it.

    >>> split_name("a/b.c/0001.seg.PNG"), split_name("./0001.jpg"), split_name("a/._0001.jpg")
    (('a/b.c/0001', 'seg.png'), ('0001', 'jpg'), None)
    """
    name = name.removeprefix("./")
    match = None if _META.match(name) else _NAME.fullmatch(name)
    return (match[1], match[2].lower()) if match else None


def members(path: Path, stream: BinaryIO | None = None) -> Iterator[Member | Rejected]:
    """Every member with a key in order, from the headers alone; special files are rejected.

    Args:
        stream: the open tar (see `open_tar`), for a caller that reads the members' bytes.

    Raises:
        ClipshiftError: the tar is truncated or damaged (named with the last whole sample).
    """
    if stream is None:
        with closing(open_tar(path)) as own:
            yield from members(path, own)
        return
    last: str | None = None
    try:
        for header in headers(stream):
            if header.is_folder:
                continue
            name = printable(header.name)
            if header.odd:
                yield Rejected(name, f"{printable(str(path))}#{name}", header.odd)
                continue
            if (named := split_name(name)) is None:
                continue
            last = named[0]
            yield Member(*named, name, header.offset, header.size)
    except DAMAGE as error:
        raise damaged(path, error, last) from error


def read_tar(path: Path) -> Iterator[Sample]:
    """Samples of a tar, in order, one in memory at a time, with their images and texts.

    Raises:
        ClipshiftError: the tar is truncated or damaged, a key is in two places, or a member occurs
            twice in a sample.
    """
    sample: Sample | None = None
    keys: set[int] = set()
    unread: Counter[str] = Counter()
    with closing(open_tar(path)) as stream:
        for member in members(path, stream):
            named = split_name(member.key) if isinstance(member, Rejected) else None
            if isinstance(member, Member):
                named = member.key, member.suffix
            if named is None:
                continue
            key, suffix = named
            if sample is None or key != sample.key:
                if sample is not None:
                    yield sample
                if hash(key) in keys:
                    raise ClipshiftError(
                        f"{path}: the key {key!r} occurs twice: other samples lie between its "
                        "members; write the tar again with the members of each key together"
                    )
                keys.add(hash(key))
                sample = Sample(key, {})
            if suffix in sample.parts:
                raise ClipshiftError(
                    f"{path}: the sample {key!r} has two members with the suffix {suffix!r}; "
                    "write the tar again"
                )
            if isinstance(member, Member) and not (why := _unread(member, sample)):
                stream.seek(member.offset)
                sample.parts[suffix] = stream.read(member.size)
                continue
            reason = member.reason if isinstance(member, Rejected) else str(why)
            unread[reason] += 1
            if _kind(suffix) in SUFFIXES:
                sample = Sample(key, sample.parts, reason)
    if sample is not None:
        yield sample
    _tell(path, unread)


def _unread(member: Member, sample: Sample) -> str | None:
    """Why a member does not come into memory; None: it does."""
    if _kind(member.suffix) not in SUFFIXES | TEXTS:
        return f"the suffix {member.suffix!r}"
    if sum(map(len, sample.parts.values())) + member.size > MAX_BYTES:
        return member.too_large or f"a sample larger than {MAX_BYTES >> 20} MiB"
    return member.too_large


_TOLD: set[tuple[Path, str]] = set()


def _tell(path: Path, unread: Counter[str]) -> None:
    """Say once in a process what members of a tar were not read."""
    what = ", ".join(f"{count} for {why}" for why, count in sorted(unread.items()))
    if what and (path, what) not in _TOLD:
        _TOLD.add((path, what))
        LOG.info(f"{path}: members are not read: {what}")


def image_places(path: Path) -> Iterator[Record | Rejected]:
    """The first image of every sample of a tar, from the members' headers alone.

    Further images of a sample, and samples without one, are rejected.

    Raises:
        ClipshiftError: the tar is truncated or damaged.
    """
    where = printable(str(path))
    key: str | None = None
    found = False
    for member in members(path):
        if isinstance(member, Rejected):
            yield member
            continue
        if member.key != key:
            if key is not None and not found:
                yield Rejected(key, where, "no image in the sample")
            key, found = member.key, False
        if not member.is_image:
            continue
        if found:
            yield Rejected(key, f"{where}#{member.name}", SECOND)
        elif member.too_large:
            yield Rejected(key, f"{where}#{member.name}", member.too_large)
        else:
            found = True
            yield Record(key, Place(path, member.name, member.offset, member.size))
    if key is not None and not found:
        yield Rejected(key, where, "no image in the sample")
