"""What a file was: its identity by content, and whether it changed while it was read."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from clipshift.core.errors import ClipshiftError

CHUNK = 1 << 20


class Hashing:
    """The SHA-256 of a file, taken in step with who reads it, so that storage is read once."""

    def __init__(self, path: Path) -> None:
        """Raises `ClipshiftError` where the file is missing or cannot be read."""
        try:
            self._stream = path.open("rb")
        except OSError as error:
            raise ClipshiftError(
                f"{path} cannot be read: {error.strerror}; get it again"
            ) from error
        self._hash = hashlib.sha256()
        self._bytes = 0

    def __enter__(self) -> "Hashing":
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def to(self, offset: int) -> None:
        """Take in the bytes before `offset`."""
        while self._bytes < offset:
            data = self._stream.read(min(CHUNK, offset - self._bytes))
            if not data:
                return
            self._hash.update(data)
            self._bytes += len(data)

    def identity(self) -> dict[str, Any]:
        """Size and hash of the whole file."""
        while data := self._stream.read(CHUNK):
            self._hash.update(data)
            self._bytes += len(data)
        return {"bytes": self._bytes, "sha256": self._hash.hexdigest()}


def file_identity(path: Path) -> dict[str, Any]:
    """Size and SHA-256 of a file."""
    with Hashing(path) as hashing:
        return hashing.identity()


def identities(folder: Path, paths: Iterable[Path]) -> dict[str, Any]:
    """Identities by path relative to `folder`."""
    return {path.relative_to(folder).as_posix(): file_identity(path) for path in paths}


def is_file_of(path: Path, identity: Any) -> bool:
    """Whether a regular file with this size and hash is there."""
    try:
        return (
            path.is_file()
            and path.stat().st_size == identity["bytes"]
            and file_identity(path) == identity
        )
    except (OSError, ClipshiftError, KeyError, TypeError):
        return False


def differing(folder: Path, files: Mapping[str, Any]) -> Iterator[Path]:
    """Paths of `files` (identities by relative path) that are missing or hold other bytes."""
    return (folder / name for name, one in files.items() if not is_file_of(folder / name, one))


class Unchanged:
    """Files that must stay as they are while they are read.

    Inode, size and the times of change are compared: whoever replaces, writes or touches a file
    changes one of them. What was read meanwhile may be of both contents.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._stamps = {path: _stamp(path) for path in paths}

    def check(self) -> None:
        """Raises `ClipshiftError`, which names the first file that is another one now."""
        for path, stamp in self._stamps.items():
            if _stamp(path) != stamp:
                raise ClipshiftError(
                    f"{path} changed while it was read; nothing that depends on it was kept. Run "
                    "again when nothing writes there any more"
                )


def _stamp(path: Path) -> tuple[int, ...] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
