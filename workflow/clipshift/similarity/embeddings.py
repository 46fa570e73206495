"""Embedding folders in clip-retrieval's layout: reading with checks, and writing.

`img_emb/img_emb_{shard}.npy` (N, D) float16 with L2-normalised rows and
`metadata/metadata_{shard}.parquet` with `image_path` (the sample's key); row r belongs to row r.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from clipshift.core import columns
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_parquet, write_npy, write_parquet
from clipshift.datasets.keys import first_fault
from clipshift.similarity.vector_files import load_npy, no_metadata

# float16 rounding moves a unit vector's norm by less than this.
NORM_TOLERANCE = 2e-3
NORM_ROWS = 65_536
# What makes a vector useless.
AGAIN = (
    "Embed this shard again; rows of other norms are divided by them by --normalise (of "
    "clipshift audit and margins)"
)
FAULTS = ("NaN or infinite vector", "vector of norm zero", "vector not L2-normalised")


@dataclass(frozen=True)
class Embeddings:
    """Vectors (N, D) float16 with L2-normalised rows, and their keys."""

    vectors: np.ndarray
    keys: list[str]


def shard_paths(folder: Path, shard: str) -> tuple[Path, Path]:
    """The vectors' and the metadata's path of one shard."""
    return (
        folder / "img_emb" / f"img_emb_{shard}.npy",
        folder / "metadata" / f"metadata_{shard}.parquet",
    )


def list_shards(folder: Path) -> list[str]:
    """Names of the shards of a folder in natural order (clip-retrieval does not always pad).

    Raises:
        ClipshiftError: there is none, or one whose vectors are missing.
    """
    stems = {f.stem.removeprefix("img_emb_") for f in (folder / "img_emb").glob("img_emb_*.npy")}
    if not stems:
        raise ClipshiftError(f"no img_emb/img_emb_*.npy in {folder}")
    files = (folder / "metadata").glob("metadata_*.parquet")
    tables = {f.stem.removeprefix("metadata_") for f in files}
    # Where tables are missing as well, who reads them says so.
    if stems <= tables and (bare := sorted(tables - stems, key=natural)):
        vectors, table = shard_paths(folder, bare[0])
        raise ClipshiftError(
            f"{table} has no vectors: {vectors} is missing; get it again, or move the table away "
            "if the shard is to be left out"
        )
    return sorted(stems, key=natural)


def natural(name: str) -> list[str | int]:
    """What names are sorted by so that 2 comes before 10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


def read_keys(table: Path) -> pa.ChunkedArray:
    """The keys in the metadata of a shard, as text.

    Raises:
        ClipshiftError: the table is missing or unreadable, or a key is missing or no text.
    """
    if not table.exists():
        raise no_metadata(table)
    return columns.keys(read_parquet(table, ["image_path"])["image_path"], "image_path", table)


def write_shard(folder: Path, shard: str, vectors: np.ndarray, metadata: pa.Table) -> None:
    """Write one shard; `vectors` (N, D) are checked and stored as float16."""
    image, table = shard_paths(folder, shard)
    half = vectors.astype(np.float16)
    check(half, metadata["image_path"].to_pylist(), image)
    write_npy(image, half)
    write_parquet(table, metadata)


def read_shard(folder: Path, shard: str, mmap: bool = False) -> Embeddings:
    """Read and check one shard.

    Raises:
        ClipshiftError: unreadable, row counts differ, NaN, zero norm, not normalised, or a key
            occurs twice.
    """
    image, table = shard_paths(folder, shard)
    vectors = _load(image, mmap)
    keys = read_keys(table).to_pylist()
    check(vectors, keys, image)
    return Embeddings(vectors, keys)


def open_shard(folder: Path, shard: str) -> Embeddings:
    """One shard with memory-mapped vectors whose values were checked before (see `read_shard`).

    Raises:
        ClipshiftError: unreadable, or row counts differ.
    """
    image, table = shard_paths(folder, shard)
    vectors = _load(image, mmap=True)
    keys = read_keys(table).to_pylist()
    if len(vectors) != len(keys):
        raise ClipshiftError(f"{image}: {len(vectors)} vectors, but {len(keys)} rows of metadata")
    return Embeddings(vectors, keys)


def open_rows(folder: Path, shard: str) -> tuple[np.ndarray, pa.ChunkedArray]:
    """One shard of any size: memory-mapped vectors (N, D), and keys (N,) that never become objects.

    Raises:
        ClipshiftError: unreadable, another layout than rows of native float16 or float32, row
            counts differ, or a key occurs twice. Norms are for the reader of the rows to check.
    """
    image, table = shard_paths(folder, shard)
    vectors = _load(image, mmap=True)
    keys = read_keys(table)
    check_layout(vectors, len(keys), image)
    if len(keys.unique()) < len(keys):
        _unique(keys.to_pylist(), table)
    return vectors, keys


def read_all(folder: Path, shards: list[str] | None = None) -> Embeddings:
    """All shards of a (small) folder, rows in shard order.

    Raises:
        ClipshiftError: as `read_shard`; or shards of different dimensions, or a key in two shards.
    """
    parts = [read_shard(folder, shard) for shard in shards or list_shards(folder)]
    dimensions = {part.vectors.shape[1] for part in parts}
    if len(dimensions) > 1:
        raise ClipshiftError(f"{folder} mixes vectors of the dimensions {sorted(dimensions)}")
    keys = [key for part in parts for key in part.keys]
    if len(set(keys)) < len(keys):
        refuse_repeats(folder, shards or list_shards(folder))
    return Embeddings(np.concatenate([part.vectors for part in parts]), keys)


def in_key_order(embeddings: Embeddings) -> Embeddings:
    """Rows sorted by key, so that the first of equals is the lowest key."""
    order = sorted(range(len(embeddings.keys)), key=embeddings.keys.__getitem__)
    return Embeddings(embeddings.vectors[order], [embeddings.keys[i] for i in order])


def _load(image: Path, mmap: bool) -> np.ndarray:
    vectors = load_npy(image)
    return vectors if mmap else np.array(vectors)


def check_layout(vectors: np.ndarray, keys: int, where: Path) -> None:
    """Raise `ClipshiftError` unless `vectors` are native float16 or float32 rows, one a key."""
    remedy = "Write it again with np.save(path, np.ascontiguousarray(x, dtype=np.float16))"
    if vectors.ndim != 2 or vectors.dtype not in (np.float16, np.float32):
        raise ClipshiftError(
            f"{where}: expected (N, D) float16 or float32, found {vectors.shape} {vectors.dtype}. "
            f"{remedy}"
        )
    if not vectors.flags.c_contiguous:
        raise ClipshiftError(f"{where}: the array is in Fortran order. {remedy}")
    if len(vectors) != keys:
        raise ClipshiftError(f"{where}: {len(vectors)} vectors, but {keys} rows of metadata")


def check(vectors: np.ndarray, keys: list[str], where: Path) -> None:
    """Raise `ClipshiftError` on anything that would become a wrong similarity."""
    check_layout(vectors, len(keys), where)
    norms = norms_of(vectors)
    fault = faults(norms)
    for number, what in enumerate(FAULTS):
        rows = np.flatnonzero(fault == number)
        if len(rows):
            raise ClipshiftError(
                f"{where}: {len(rows)} rows hold a {what}, the first is row {rows[0]} "
                f"(key {keys[rows[0]]!r}, norm {norms[rows[0]]:.4f}). {AGAIN}"
            )
    _unique(keys, where)


def faults(norms: np.ndarray) -> np.ndarray:
    """(N,) what is wrong with vectors of these norms, an index of FAULTS; -1: nothing."""
    checks = [~np.isfinite(norms), norms == 0, np.abs(norms - 1) > NORM_TOLERANCE]
    return np.select(checks, range(len(FAULTS)), -1)


def norms_of(vectors: np.ndarray) -> np.ndarray:
    """(N,) float32, some rows at a time: a mapped shard may be larger than memory."""
    parts = (vectors[start : start + NORM_ROWS] for start in range(0, len(vectors), NORM_ROWS))
    norms = [np.linalg.norm(np.asarray(part, dtype=np.float32), axis=1) for part in parts]
    return np.concatenate(norms) if norms else np.zeros(0, np.float32)


def refuse_repeats(folder: Path, shards: list[str]) -> None:
    """Raise `ClipshiftError` where a key is null or occurs twice, in one shard or in two."""
    tables = [shard_paths(folder, shard)[1] for shard in shards]
    if fault := first_fault(tables, "image_path"):
        key, places = fault
        files = " and ".join(dict.fromkeys(str(table) for table, _ in places))
        what = "is null" if key is None else f"{key!r} occurs twice"
        raise ClipshiftError(
            f"{files}: the key (image_path) {what} (rows {places[0][1]} and {places[-1][1]}); "
            "each vector needs one of its own"
        )


def _unique(keys: list[str], where: Path) -> None:
    seen: set[str] = set()
    for key in keys:
        if key in seen:
            raise ClipshiftError(f"{where}: the key {key!r} occurs twice")
        seen.add(key)
