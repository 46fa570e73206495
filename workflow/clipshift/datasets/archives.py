"""Tars as bytes: plain ones as they are, compressed ones decompressed, damage named."""

import gzip
import lzma
import shutil
import tarfile
import tempfile
import zlib
from pathlib import Path
from typing import BinaryIO, cast

from clipshift.core.errors import ClipshiftError
from clipshift.core.sniff import explain, unpacker

# What a truncated or damaged archive raises.
DAMAGE = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile)


def open_tar(path: Path) -> BinaryIO:
    """The bytes of a tar, seekable; those of a compressed one in a temporary file.

    Raises:
        ClipshiftError: missing, or the compression is damaged.
    """
    try:
        stream = path.open("rb")
        unpack = unpacker(stream.read(8))
        stream.seek(0)
        if unpack:
            with stream, unpack(stream) as packed:
                plain = tempfile.TemporaryFile()  # noqa: SIM115
                shutil.copyfileobj(packed, plain, 1 << 20)
            plain.seek(0)
            return cast(BinaryIO, plain)
    except DAMAGE as error:
        raise damaged(path, error) from error
    except OSError as error:
        raise ClipshiftError(f"{path} cannot be read: {error.strerror or error}") from error
    return stream


def damaged(path: Path, error: BaseException, last: str | None = None) -> ClipshiftError:
    """The error of a tar that cannot be read to its end, with the last whole sample."""
    what = explain(path)
    if what and not what.startswith("is compressed"):
        return ClipshiftError(f"{path} is no tar; it {what}")
    after = f"after the sample {last!r}" if last else "at its beginning"
    return ClipshiftError(
        f"{path} is truncated or damaged {after} ({error}); delete it and run again, "
        "or fetch it again if it is yours"
    )
