"""What a file really is, by its kind and first bytes: for errors that name the remedy."""

import bz2
import gzip
import lzma
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from clipshift.core.errors import ClipshiftError

_LFS = b"version https://git-lfs"
_MARKS = (
    (_LFS, "is a git-lfs pointer, not the file itself: run `git lfs pull` in its repository"),
    (b"\x1f\x8b", "is compressed with gzip: `gunzip` it, or give it its right suffix (.gz)"),
    (b"\x28\xb5\x2f\xfd", "is compressed with zstd: decompress it with `zstd -d`"),
    (b"PK\x03\x04", "is a zip archive: `unzip` it"),
    (b"BZh", "is compressed with bzip2: decompress it with `bunzip2`"),
    (b"\xfd7zXZ\x00", "is compressed with xz: decompress it with `unxz`"),
    (b"\x89HDF\r\n\x1a\n", "is an HDF5 file: write its images out as files or tars"),
    (b"7z\xbc\xaf", "is a 7z archive: unpack it"),
    (b"PAR1", "is a parquet file"),
    (b"\x93NUMPY", "is an npy file"),
)
# First bytes of a compressed file, and what decompresses it as a stream.
_PACKED: dict[bytes, Callable[[BinaryIO], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ": lzma.open,
}
_PAGE = (b"<!doctype html", b"<html", b"<?xml")


# Kinds of files that are never opened: reading them may wait for ever, never end, or do something.
_SPECIAL = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def special(path: Path) -> str | None:
    """Why a path is no file to read, without opening it; None: a regular file.

    The answer continues a sentence that begins with the path.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return "is a broken link" if path.is_symlink() else "is not there"
    except (OSError, ValueError) as error:  # a loop of links; a NUL in the name
        return f"cannot be read: {getattr(error, 'strerror', None) or error}"
    what = _SPECIAL.get(stat.S_IFMT(mode))
    return f"is {what}, not a file" if what else None


_FOLDER = f"is {_SPECIAL[stat.S_IFDIR]}, not a file"


def regular_file(path: Path) -> Path:
    """The path of a file that may be opened and read to its end; links are followed.

    Raises:
        ClipshiftError: missing, a folder, FIFO, socket or device, or a link that ends nowhere.
    """
    if why := special(path):
        raise ClipshiftError(f"{path} {why}; name a file")
    return path


def file_or_folder(path: Path) -> Path:
    """The path of a folder, or of a file as `regular_file` has it; raises as it does."""
    why = special(path)
    if why and why != _FOLDER:
        raise ClipshiftError(f"{path} {why}")
    return path


def unpacker(head: bytes) -> Callable[[BinaryIO], Any] | None:
    """What decompresses a file of these first bytes; None: it is not compressed, or not read."""
    return next((unpack for mark, unpack in _PACKED.items() if head.startswith(mark)), None)


def explain(path: Path) -> str | None:
    """What is wrong with a file that could not be read as what it should be; None: nothing known.

    The answer continues a sentence that begins with the file's name.
    """
    if why := special(path):
        return why
    try:
        if path.stat().st_size == 0:
            return "is empty: get it again"
        with path.open("rb") as stream:
            head = stream.read(64)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    for mark, what in _MARKS:
        if head.startswith(mark):
            return what
    if head.lstrip().lower().startswith(_PAGE):
        return "is a web page or XML, as a failed download leaves it: get the file again"
    return None
