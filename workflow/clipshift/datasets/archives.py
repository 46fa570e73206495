"""Tars as bytes: plain ones as they are, compressed ones decompressed, damage named."""

import errno
import gzip
import lzma
import tarfile
import tempfile
import zlib
from pathlib import Path
from typing import BinaryIO, cast

from clipshift.core.errors import ClipshiftError
from clipshift.core.sniff import explain, regular_file, unpacker

# What a truncated or damaged archive raises.
DAMAGE = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, MemoryError)
# A compressed tar may become so many times as large, and so many bytes beyond (tars of images
# hardly grow, those of short texts some twenty times).
MAX_RATIO, SPARE = 100, 64 << 20


def open_tar(path: Path) -> BinaryIO:
    """The bytes of a tar, seekable; those of a compressed one in a temporary file.

    Raises:
        ClipshiftError: missing, or the compression is damaged.
    """
    regular_file(path)
    try:
        stream = path.open("rb")
        unpack = unpacker(stream.read(8))
        stream.seek(0)
        if unpack:
            with stream, unpack(stream) as packed:
                return _unpacked(packed, path)
    except DAMAGE as error:
        raise damaged(path, error) from error
    except OSError as error:
        raise ClipshiftError(f"{path} cannot be read: {error.strerror or error}") from error
    return stream


def _unpacked(packed: BinaryIO, path: Path) -> BinaryIO:
    """What a compressed stream holds, in a temporary file.

    Raises:
        ClipshiftError: too much, or more than fits on the disk.
    """
    left = path.stat().st_size * MAX_RATIO + SPARE
    plain = cast(BinaryIO, tempfile.TemporaryFile())  # noqa: SIM115
    while chunk := packed.read(1 << 20):
        left -= len(chunk)
        if left < 0:
            raise ClipshiftError(
                f"{path} becomes more than {MAX_RATIO} times as large when it is decompressed; "
                "decompress it yourself if you trust it"
            )
        try:
            plain.write(chunk)
            plain.flush()
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            raise ClipshiftError(
                f"{path} is compressed, and what it holds does not fit in {tempfile.gettempdir()}: "
                f"{error.strerror}. Set TMPDIR to a larger folder, or decompress it yourself"
            ) from error
    plain.seek(0)
    return plain


def damaged(path: Path, error: BaseException, last: str | None = None) -> ClipshiftError:
    """The error of a tar that cannot be read to its end, with the last whole sample."""
    if isinstance(error, MemoryError):
        error = EOFError("it needs more memory than there is")
    what = explain(path)
    if what and not what.startswith("is compressed"):
        return ClipshiftError(f"{path} is no tar; it {what}")
    after = f"after the sample {last!r}" if last else "at its beginning"
    return ClipshiftError(
        f"{path} is truncated or damaged {after} ({error}); delete it and run again, "
        "or fetch it again if it is yours"
    )
