"""The one parser of tars: webdataset's rules of keys, and all damage named.

The key of a member is its path up to the first dot of its last part (folders are kept, a leading
`./` is not); the suffix is what follows, in lower case. Members of the same key that follow each
other are a sample. Members without a key (`._x.jpg`, `README`, `__meta__`) are skipped, as
webdataset does. A compressed tar is decompressed into a temporary file without a name.
"""

import io
import re
import tarfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from clipshift.core.errors import ClipshiftError
from clipshift.datasets.archives import DAMAGE, damaged, open_tar
from clipshift.datasets.images import SUFFIXES, Undecodable
from clipshift.datasets.records import Place, Record, Rejected, printable

# webdataset's rules: `base_plus_ext` and `skip_meta` of its tariterators.
_NAME = re.compile(r"((?:.*/|)[^./][^./]*)[.]([^/]*)", re.DOTALL)
_META = re.compile(r"__[^/]*__($|/)")

# Why a further image of a sample is not read.
SECOND = "second image of a sample"
SUFFIXES_OF_TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")


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
        return self.suffix.rpartition(".")[2] in SUFFIXES


@dataclass(frozen=True)
class Sample:
    """One sample of a tar: its key and its parts by suffix, in the order of the tar."""

    key: str
    parts: dict[str, bytes]

    @property
    def image(self) -> bytes:
        """Bytes of its first image.

        Raises:
            Undecodable: it has none.
        """
        return self.parts[self.image_suffix]

    @property
    def has_image(self) -> bool:
        return any(suffix.rpartition(".")[2] in SUFFIXES for suffix in self.parts)

    @property
    def image_suffix(self) -> str:
        """Suffix of its first image; raises as `image`."""
        for suffix in self.parts:
            if suffix.rpartition(".")[2] in SUFFIXES:
                return suffix
        raise Undecodable("no image in the sample")


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
        with tarfile.open(fileobj=stream, mode="r:", errors="surrogateescape") as archive:
            while info := archive.next():
                archive.members = []  # type: ignore[attr-defined]  # it keeps every header otherwise
                if info.isdir():
                    continue
                name = printable(info.name)
                if not info.isreg():
                    yield Rejected(name, f"{printable(str(path))}#{name}", "no regular file")
                    continue
                if (named := split_name(name)) is None:
                    continue
                last = named[0]
                yield Member(*named, name, info.offset_data, info.size)
            if not _is_terminated(stream, archive.offset):
                raise tarfile.ReadError("no end-of-archive mark")
    except DAMAGE as error:
        raise damaged(path, error, last) from error


def read_tar(path: Path) -> Iterator[Sample]:
    """Samples of a tar, in order, one in memory at a time.

    Raises:
        ClipshiftError: the tar is truncated or damaged, or a member occurs twice in a sample.
    """
    key: str | None = None
    parts: dict[str, bytes] = {}
    with closing(open_tar(path)) as stream:
        for member in members(path, stream):
            if isinstance(member, Rejected):
                named = split_name(member.key)
                if named is None:
                    continue
                new, suffix, data = named[0], "", b""  # a sample of nothing but a link has no part
            else:
                stream.seek(member.offset)
                new, suffix, data = member.key, member.suffix, stream.read(member.size)
                if len(data) < member.size:
                    raise damaged(path, EOFError("unexpected end of data"), key)
            if key is not None and new != key:
                yield Sample(key, parts)
                parts = {}
            key = new
            if suffix in parts:
                raise ClipshiftError(
                    f"{path}: the sample {key!r} has two members with the suffix {suffix!r}; "
                    "write the tar again"
                )
            if suffix:
                parts[suffix] = data
    if key is not None:
        yield Sample(key, parts)


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
        else:
            found = True
            yield Record(key, Place(path, member.name, member.offset, member.size))
    if key is not None and not found:
        yield Rejected(key, where, "no image in the sample")


def _is_terminated(stream: BinaryIO, end: int) -> bool:
    """Whether nothing but zeros, two blocks at least, follows the last member's end."""
    size = stream.seek(0, io.SEEK_END)
    stream.seek(end)
    blank = all(not any(chunk) for chunk in iter(lambda: stream.read(1 << 20), b""))
    return blank and size - end >= 1024
