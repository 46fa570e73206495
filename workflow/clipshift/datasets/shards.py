"""Webdataset shards with reproducible bytes, their tables and manifests.

A data set (pool or labelled set) is a folder with `{shard}.tar`, `{shard}.parquet` beside it and
one `manifest.json`; row r of the parquet is sample r of the tar.
"""

import io
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import atomic, sha256_bytes, sha256_file, write_parquet

IMAGE_SUFFIXES = ("jpg", "jpeg", "png", "webp")

# One row per sample; `key` is the identity inside the data set, never the row number.
SAMPLE_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("url_hash", pa.string()),  # 128 bits of SHA-256 of the source locator, hex
        ("sha256", pa.string()),  # of the image's bytes in the tar
        ("caption", pa.string()),
        ("source", pa.string()),
        ("family", pa.string()),
        ("concept", pa.string()),
        ("category", pa.string()),
        ("class_name", pa.string()),  # null: none of the study's classes
        ("held_out", pa.bool_()),
        ("domain", pa.string()),
        ("licence", pa.string()),
        ("author", pa.string()),
        ("locator", pa.string()),
    ]
)


@dataclass(frozen=True)
class Sample:
    """One sample of a tar: its key and its parts by suffix."""

    key: str
    parts: dict[str, bytes]

    @property
    def image(self) -> bytes:
        """Bytes of the image (KeyError where there is none)."""
        return next(self.parts[s] for s in IMAGE_SUFFIXES if s in self.parts)


def url_hash(locator: str) -> str:
    """The 128-bit identity of a source locator, as DataComp's uid: 32 hex digits."""
    return sha256_bytes(locator.encode())[:32]


def write_tar(path: Path, samples: Iterable[Sample]) -> int:
    """Write samples in their order; no time, owner or mode of this machine enters the bytes.

    Returns:
        The number of samples.

    Raises:
        ClipshiftError: a key occurs twice, or holds a character that webdataset cannot keep.
    """
    seen: set[str] = set()
    with (
        atomic(path) as stream,
        tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for sample in samples:
            if sample.key in seen:
                raise ClipshiftError(f"{path.name}: the key {sample.key!r} occurs twice")
            if not sample.key or "." in sample.key or "/" in sample.key:
                raise ClipshiftError(
                    f"{path.name}: the key {sample.key!r} is empty or holds a dot or a slash; "
                    "webdataset would cut it there"
                )
            seen.add(sample.key)
            for suffix, data in sample.parts.items():
                info = tarfile.TarInfo(f"{sample.key}.{suffix}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return len(seen)


def read_tar(path: Path) -> Iterator[Sample]:
    """Samples of a tar, in order, one in memory at a time.

    Raises:
        ClipshiftError: the tar is truncated or damaged (named with the last whole sample).
    """
    key: str | None = None
    parts: dict[str, bytes] = {}
    try:
        with tarfile.open(path, mode="r:") as tar:
            for member in tar:
                if not member.isfile():
                    continue
                stream = tar.extractfile(member)
                data = stream.read() if stream else b""
                if len(data) != member.size:
                    raise tarfile.ReadError("unexpected end of data")
                stem, _, suffix = Path(member.name).name.partition(".")
                if key is not None and stem != key:
                    yield Sample(key, parts)
                    parts = {}
                key = stem
                if suffix in parts:
                    raise tarfile.ReadError(f"{member.name} occurs twice")
                parts[suffix] = data
            if not is_terminated(path, tar.offset):
                raise tarfile.ReadError("no end-of-archive mark")
    except (tarfile.TarError, EOFError) as error:
        after = f"after the sample {key!r}" if key else "at its beginning"
        raise ClipshiftError(
            f"{path} is truncated or damaged {after} ({error}); delete it and run again, "
            "or fetch it again if it is yours"
        ) from error
    if key is not None:
        yield Sample(key, parts)


def is_terminated(path: Path, end: int) -> bool:
    """Whether nothing but zeros, two blocks at least, follows the last member's end."""
    with path.open("rb") as stream:
        size = stream.seek(0, io.SEEK_END)
        stream.seek(end)
        blank = all(not any(chunk) for chunk in iter(lambda: stream.read(1 << 20), b""))
    return blank and size - end >= 1024


def write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write the rows of a shard's samples with the schema of the contract."""
    write_parquet(path, pa.Table.from_pylist(rows, schema=SAMPLE_SCHEMA))


def shard_entry(tar: Path, samples: int) -> dict[str, Any]:
    """A shard's line in the manifest."""
    return {
        "name": tar.name,
        "samples": samples,
        "bytes": tar.stat().st_size,
        "sha256": sha256_file(tar),
    }
