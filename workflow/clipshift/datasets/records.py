"""What every format of a data set is read as: records, and what is no record with its reason."""

import errno
import os
import stat
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from clipshift.datasets.archives import open_tar

MAX_BYTES = 256 << 20  # of one image as it is stored, and of a sample with its texts


def printable(text: str) -> str:
    """Text that every file can hold: bytes of a name that are not UTF-8 become escapes."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


@dataclass(frozen=True, slots=True)
class Place:
    """Where the bytes of an image lie: a whole file, a part of a tar, or a cell of a table.

    Attributes:
        member: the name inside `file`, "" for a whole file.
        data: the bytes themselves, where the format has no place to read them from again.
    """

    file: Path
    member: str = ""
    offset: int = 0
    size: int = -1
    data: bytes | None = None

    def read(self) -> bytes:
        """The bytes.

        Raises:
            OSError: unreadable, no regular file, or larger than `MAX_BYTES`.
            ClipshiftError: the tar is unreadable.
        """
        if self.data is not None:
            return self.data
        if not self.member:
            found = self.file.stat()
            if not stat.S_ISREG(found.st_mode):
                raise OSError(errno.EINVAL, "no regular file", str(self.file))
            if found.st_size > MAX_BYTES:
                raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(self.file))
            return self.file.read_bytes()
        stream = _opened(self.file, self.file.stat().st_mtime_ns)
        return os.pread(stream.fileno(), self.size, self.offset)

    def __str__(self) -> str:
        where = f"{self.file}#{self.member}" if self.member else str(self.file)
        return printable(where)


@lru_cache(maxsize=2)
def _opened(tar: Path, changed: int) -> BinaryIO:
    """A tar that stays open (decompressed, where it is compressed); the last two are kept.

    Args:
        changed: its time of change, so that another file of the name is opened anew.
    """
    return open_tar(tar)


@dataclass(frozen=True, slots=True)
class Record:
    """One sample: its key, where its image lies, and all that the data say of it.

    Attributes:
        key: identity inside the data set.
        label: as the data have it: a class folder, a class name or a number, as text.
        url, uid, sha256, md5: what else identifies it; `sha256` and `md5` are of the bytes that
            were downloaded, which a resizing download does not keep. None: the data do not say.
    """

    key: str
    place: Place
    caption: str | None = None
    label: str | None = None
    url: str | None = None
    uid: str | None = None
    sha256: str | None = None
    md5: str | None = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """What was left out: its key, where it lies and why."""

    key: str
    place: str
    reason: str
