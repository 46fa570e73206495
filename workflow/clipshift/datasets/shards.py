"""Webdataset shards with reproducible bytes, their tables and manifests.

A data set (pool or labelled set) is a folder with `{shard}.tar`, `{shard}.parquet` beside it and
one `manifest.json`; row r of the parquet is sample r of the tar.
"""

import io
import tarfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import atomic, read_json, sha256_bytes, sha256_file, write_parquet
from clipshift.datasets.tars import Sample

# One row per sample; `key` is the identity inside the data set, never the row number. A pool that
# has ids of its own (DataComp's) has them in a further column `uid`.
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
    with tar_writer(path) as add:
        for sample in samples:
            if sample.key in seen:
                raise ClipshiftError(f"{path.name}: the key {sample.key!r} occurs twice")
            if not sample.key or "." in sample.key or "/" in sample.key:
                raise ClipshiftError(
                    f"{path.name}: the key {sample.key!r} is empty or holds a dot or a slash; "
                    "webdataset would cut it there"
                )
            seen.add(sample.key)
            add(sample)
    return len(seen)


@contextmanager
def tar_writer(path: Path) -> Iterator[Callable[[Sample], None]]:
    """A function that adds a sample to a tar, as `write_tar` does; there when the block ends."""
    with (
        atomic(path) as stream,
        tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):

        def add(sample: Sample) -> None:
            for suffix, data in sample.parts.items():
                info = tarfile.TarInfo(f"{sample.key}.{suffix}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
            tar.members.clear()  # it would keep a header of each

        yield add


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


def rows_of_tars(table: Path) -> dict[str, int]:
    """Name -> samples of the tars behind a table, in the order of its rows.

    Several of a folder pool's, or of resharded ones; else the shard's own.
    """
    shard = read_json(table.with_suffix(".json"))["shard"]
    return dict(shard.get("tars") or {table.stem: shard["samples"]})
