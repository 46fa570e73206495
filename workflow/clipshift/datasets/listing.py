"""What a folder holds: image files and tars, links followed, and everything else counted."""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from string import digits as DIGITS

from clipshift.core.errors import ClipshiftError
from clipshift.datasets.images import SUFFIXES
from clipshift.datasets.records import Place, Record, Rejected, printable
from clipshift.datasets.tars import SUFFIXES_OF_TARS, image_places


@dataclass
class Listing:
    """What a folder holds.

    Attributes:
        files, tars: paths relative to the folder, sorted.
        other: files that are neither, counted by suffix; and what could not be followed.
    """

    folder: Path
    files: list[str] = field(default_factory=list)
    tars: list[str] = field(default_factory=list)
    other: Counter[str] = field(default_factory=Counter)


def walk(folder: Path, other: Counter[str]) -> Iterator[str]:
    """Paths of all regular files below a folder, relative to it; each folder's in order.

    Links are followed, but for those to a folder that they lie in.

    Args:
        other: counts what is no regular file, and what macOS leaves beside files.

    Raises:
        ClipshiftError: a folder cannot be read.
    """
    yield from _walk(str(folder), "", (os.path.realpath(folder),), other)


def _walk(folder: str, prefix: str, above: tuple[str, ...], other: Counter[str]) -> Iterator[str]:
    """The files of one folder, then those of its folders.

    Args:
        prefix: begins the names that are given.
        above: where the folder and those on the way to it really are.
    """
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise ClipshiftError(f"{error.filename} cannot be read: {error.strerror}") from error
    folders = []
    for entry in entries:
        if _holds(entry.is_dir):
            folders.append(entry)
        elif entry.name.startswith("._") or entry.name == ".DS_Store":
            other["macOS's own file"] += 1
        elif _holds(entry.is_file):
            yield prefix + entry.name
        else:
            other["broken link" if entry.is_symlink() else "no regular file"] += 1
    for entry in folders:
        link = entry.is_symlink()
        real = os.path.realpath(entry.path) if link else f"{above[-1].rstrip('/')}/{entry.name}"
        if link and any(_contains(real, place) for place in above):
            other["link to a folder above it"] += 1
        else:
            yield from _walk(entry.path, f"{prefix}{entry.name}/", (*above, real), other)


def _holds(test: Callable[[], bool]) -> bool:
    """Whether a test of an entry holds; not for a link to itself, or one that may not be read."""
    try:
        return test()
    except OSError:
        return False


def kind_of(name: str) -> str:
    """What a file is counted as that is not read: its suffix."""
    return printable(Path(name).suffix.lower().removeprefix(".")) or "no suffix"


def natural(name: str) -> tuple[tuple[int, int | str], ...]:
    """Key of the natural order: numbers in names by their value.

    >>> sorted(["10.tar", "2.tar", "a/1.tar"], key=natural)
    ['2.tar', '10.tar', 'a/1.tar']
    """
    parts = re.findall(r"[0-9]+|[^0-9]+", name)
    return (*((0, int(p)) if p[0] in DIGITS else (1, p) for p in parts), (1, name))


def list_folder(folder: Path) -> Listing:
    """The images and tars of a folder (see `walk`).

    Raises:
        ClipshiftError: there is neither an image nor a tar, or a folder cannot be read.
    """

    listing = Listing(folder)
    for path in walk(folder, listing.other):
        suffix = Path(path).suffix.lower().removeprefix(".")
        if path.lower().endswith(SUFFIXES_OF_TARS):
            listing.tars.append(path)
        elif suffix in SUFFIXES:
            listing.files.append(path)
        else:
            listing.other[kind_of(path)] += 1
    if not listing.files and not listing.tars:
        raise ClipshiftError(
            f"{folder} holds no image ({', '.join(sorted(SUFFIXES))}) and no tar; it holds "
            f"{dict(sorted(listing.other.items())) or 'nothing'}"
        )
    listing.files.sort()
    listing.tars.sort()
    return listing


def places(listing: Listing) -> Iterator[tuple[str, Iterator[Record | Rejected]]]:
    """The folder's units of work: one for all files, one for each tar, named and in order.

    A file's key is its path relative to the folder. Where two tars of the folder share a key,
    every key of the folder's tars is `TAR/KEY`.
    """
    if listing.files:
        yield "files", file_places(listing)
    prefix = _shared_keys(listing)
    for name in listing.tars:
        stem = printable(name)[: -len(tar_suffix(name))]
        yield printable(name), _renamed(image_places(listing.folder / name), stem, prefix)


def tar_suffix(name: str) -> str:
    """The suffix of a tar's name, compression included."""
    return max((s for s in SUFFIXES_OF_TARS if name.lower().endswith(s)), key=len, default="")


def file_places(listing: Listing) -> Iterator[Record | Rejected]:
    """A record for every image file of the folder."""
    for name in listing.files:
        path = listing.folder / name
        if printable(name) == name:
            yield Record(name, Place(path))
        else:
            yield Rejected(printable(name), printable(str(path)), "name is not UTF-8")


def _contains(folder: str, path: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def _shared_keys(listing: Listing) -> bool:
    """Whether two tars of the folder hold the same key."""
    if len(listing.tars) < 2:
        return False
    seen: set[int] = set()
    for tar in listing.tars:
        records = image_places(listing.folder / tar)
        keys = {hash(r.key) for r in records if isinstance(r, Record)}
        if seen & keys:
            return True
        seen |= keys
    return False


def _renamed(
    found: Iterator[Record | Rejected], stem: str, prefix: bool
) -> Iterator[Record | Rejected]:
    for record in found:
        key = f"{stem}/{record.key}" if prefix else record.key
        if isinstance(record, Rejected):
            yield Rejected(key, record.place, record.reason)
        else:
            yield Record(key, record.place)
