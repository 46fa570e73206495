"""Images of a folder: files and webdataset tars, read one at a time.

A file's key is its path relative to the folder. A sample's key is webdataset's `__key__`: the
member's name up to the first dot of its last part; where two tars of a folder share a key, every
key of the folder's tars is `TAR/KEY`.
"""

import io
import os
import tarfile
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from clipshift.core.errors import ClipshiftError
from clipshift.datasets.shards import is_terminated

SUFFIXES = frozenset(
    (
        "jpg", "jpeg", "jpe", "jfif", "png", "webp", "gif", "bmp", "dib", "tif", "tiff",
        "ppm", "pgm", "pbm", "pnm", "avif", "jp2", "tga",
    )
)  # fmt: skip
# Never eps: Pillow would start Ghostscript on a stranger's file.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "AVIF", "JPEG2000", "TGA")


@dataclass(frozen=True)
class Place:
    """Where an image's bytes lie: a whole file, or `size` bytes from `offset` of a tar."""

    key: str
    file: Path
    member: str = ""
    offset: int = 0
    size: int = -1

    def read(self) -> bytes:
        with self.file.open("rb") as stream:
            stream.seek(self.offset)
            return stream.read(self.size)

    def __str__(self) -> str:
        return f"{self.file}#{self.member}" if self.member else str(self.file)


@dataclass(frozen=True)
class Rejected:
    """An image that was left out: its key, where it lies and why."""

    key: str
    place: str
    reason: str


@dataclass
class Listing:
    """What a folder holds.

    Attributes:
        files, tars: paths relative to the folder, sorted.
        other: files that are no images, counted by suffix.
    """

    folder: Path
    files: list[str] = field(default_factory=list)
    tars: list[str] = field(default_factory=list)
    other: Counter[str] = field(default_factory=Counter)


def list_folder(folder: Path) -> Listing:
    """Walk a folder (links to folders are not followed).

    Raises:
        ClipshiftError: there is neither an image nor a tar, or a folder cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise ClipshiftError(f"{error.filename} cannot be read: {error.strerror}") from error

    listing = Listing(folder)
    for place, _, names in os.walk(folder, onerror=refuse):
        for name in names:
            suffix = Path(name).suffix.lower().removeprefix(".")
            path = os.path.relpath(os.path.join(place, name), folder)  # noqa: PTH118
            if suffix == "tar":
                listing.tars.append(path)
            elif suffix in SUFFIXES:
                listing.files.append(path)
            else:
                listing.other[printable(suffix) or "no suffix"] += 1
    if not listing.files and not listing.tars:
        raise ClipshiftError(f"{folder} holds no image ({', '.join(sorted(SUFFIXES))}) and no tar")
    listing.files.sort()
    listing.tars.sort()
    return listing


def printable(text: str) -> str:
    """Text that every file can hold: bytes of a name that are not UTF-8 become escapes."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def tar_places(tar: Path) -> Iterator[Place | Rejected]:
    """The first image of every sample of a tar, from the members' headers alone.

    Raises:
        ClipshiftError: the tar is truncated or damaged.
    """
    found: dict[str, bool] = {}  # key -> whether it has an image
    try:
        with tarfile.open(tar, mode="r:", errors="surrogateescape") as archive:
            for member in archive:
                archive.members = []  # type: ignore[attr-defined]  # it keeps every header otherwise
                if not member.isfile():
                    continue
                folder, _, name = member.name.rpartition("/")
                stem, _, parts = name.partition(".")
                key = printable(f"{folder}/{stem}" if folder else stem)
                found.setdefault(key, False)
                if parts.rpartition(".")[2].lower() not in SUFFIXES:
                    continue
                if found[key]:
                    place = f"{printable(str(tar))}#{printable(member.name)}"
                    yield Rejected(key, place, "second image of a sample")
                    continue
                found[key] = True
                yield Place(key, tar, printable(member.name), member.offset_data, member.size)
            end = archive.offset
        if not is_terminated(tar, end):
            raise tarfile.ReadError("no end-of-archive mark")
    except (tarfile.TarError, EOFError) as error:
        raise ClipshiftError(
            f"{tar} is truncated or damaged ({error}); fetch it again or take it out of the folder"
        ) from error
    for key, has_image in found.items():
        if not has_image:
            yield Rejected(key, printable(str(tar)), "no image in the sample")


def shared_tar_keys(listing: Listing) -> bool:
    """Whether two tars of the folder hold the same key."""
    if len(listing.tars) < 2:
        return False
    seen: set[int] = set()
    for tar in listing.tars:
        keys = {hash(p.key) for p in tar_places(listing.folder / tar) if isinstance(p, Place)}
        if seen & keys:
            return True
        seen |= keys
    return False


def places(listing: Listing) -> Iterator[tuple[str, Iterator[Place | Rejected]]]:
    """The folder's units of work: one for all files, one for each tar, named and in order."""
    if listing.files:
        yield "files", _file_places(listing)
    prefix = shared_tar_keys(listing)
    for name in listing.tars:
        stem = printable(name.removesuffix(".tar"))
        yield printable(name), _renamed(tar_places(listing.folder / name), stem, prefix)


def _file_places(listing: Listing) -> Iterator[Place | Rejected]:
    for name in listing.files:
        path = listing.folder / name
        if printable(name) == name:
            yield Place(name, path)
        else:
            yield Rejected(printable(name), printable(str(path)), "name is not UTF-8")


def _renamed(
    found: Iterator[Place | Rejected], stem: str, prefix: bool
) -> Iterator[Place | Rejected]:
    for place in found:
        key = f"{stem}/{place.key}" if prefix else place.key
        if isinstance(place, Rejected):
            yield Rejected(key, place.place, place.reason)
        else:
            yield Place(key, place.file, place.member, place.offset, place.size)


def decode(data: bytes) -> Image.Image | str:
    """The RGB image of these bytes, or why there is none.

    Pillow raises nearly every kind of exception on damaged files, hence the broad catch.
    """
    if not data:
        return "empty file"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                return image.convert("RGB")
        except (Image.DecompressionBombWarning, Image.DecompressionBombError):
            return f"more than {Image.MAX_IMAGE_PIXELS} pixels"
        except Exception:
            return "undecodable image"
