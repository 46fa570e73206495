"""What a file really is, by its first bytes: for errors that name the remedy."""

import bz2
import gzip
import lzma
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

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


def unpacker(head: bytes) -> Callable[[BinaryIO], Any] | None:
    """What decompresses a file of these first bytes; None: it is not compressed, or not read."""
    return next((unpack for mark, unpack in _PACKED.items() if head.startswith(mark)), None)


def explain(path: Path) -> str | None:
    """What is wrong with a file that could not be read as what it should be; None: nothing known.

    The answer continues a sentence that begins with the file's name.
    """
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


# What is at a path, where it is not a file, and would be read without end, or never.
_OTHER = (
    (stat.S_ISDIR, "is a folder, not a file"),
    (stat.S_ISFIFO, "is a pipe, not a file: write what it carries to a file first"),
    (stat.S_ISCHR, "is a device, not a file"),
    (stat.S_ISBLK, "is a device, not a file"),
    (stat.S_ISSOCK, "is a socket, not a file"),
)


def not_a_file(path: Path) -> str | None:
    """What a path is instead of a file; None: a file. It continues as `explain` does.

    Raises:
        OSError: nothing is there, or it may not be seen.
    """
    mode = path.stat().st_mode
    return next((what for is_kind, what in _OTHER if is_kind(mode)), None)
