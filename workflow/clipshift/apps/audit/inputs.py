"""One side of the comparison: an embedding folder, checked once and then read piece by piece."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from clipshift.apps.audit.hashes import Hashes, identity
from clipshift.core import columns
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_parquet
from clipshift.core.parquet import schema_of
from clipshift.similarity.embeddings import list_shards, read_keys, read_shard, shard_paths

PIECE = 32_768  # rows, at most, of one piece


@dataclass(frozen=True)
class Shard:
    """Rows [start, stop) of the side."""

    name: str
    start: int
    stop: int


@dataclass(frozen=True)
class Side:
    """A checked embedding folder; row numbers run through its shards in natural order.

    Attributes:
        rounded: whether any shard holds float32, which is rounded to float16 before comparing.
    """

    name: str
    folder: Path
    shards: list[Shard]
    dimension: int
    rounded: bool

    @property
    def rows(self) -> int:
        return self.shards[-1].stop

    def vectors(self, shard: Shard) -> np.ndarray:
        """(n, D) float16 or float32, memory-mapped."""
        loaded: np.ndarray = np.load(shard_paths(self.folder, shard.name)[0], mmap_mode="r")
        return loaded

    def keys(self, shard: Shard) -> list[str]:
        found: list[str] = read_keys(shard_paths(self.folder, shard.name)[1]).to_pylist()
        return found

    def hashes(self, shard: Shard) -> pa.ChunkedArray | None:
        """(n,) SHA-256 of the images' bytes, as far as the metadata say them."""
        table = shard_paths(self.folder, shard.name)[1]
        if "sha256" not in schema_of(table).names:
            return None
        found = read_parquet(table, ["sha256"])["sha256"]
        return columns.text(found, "sha256", table) if columns.is_text(found.type) else None

    def twins(self) -> dict[str, list[int]]:
        """SHA-256 -> rows of the images that have it."""
        found: dict[str, list[int]] = {}
        for shard in self.shards:
            hashes = self.hashes(shard)
            for row, text in enumerate(hashes.to_pylist() if hashes else (), shard.start):
                if text and len(text) == 64:
                    found.setdefault(text, []).append(row)
        return found

    def all_keys(self) -> list[str]:
        return [key for shard in self.shards for key in self.keys(shard)]

    def matrix(self) -> np.ndarray:
        """(N, D) float16, in memory."""
        return np.concatenate([half(self.vectors(shard)) for shard in self.shards])

    def pieces(
        self, start: int = 0, twins: Mapping[str, list[int]] = MappingProxyType({})
    ) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """First row, vectors (n <= PIECE, D) and twins of the pieces from row `start` on.

        Args:
            twins: see `twins`, of the other side.

        Twins are (K, 2): row in the piece, and row of the other side, of images of equal bytes.
        """
        wanted = pa.array(sorted(twins), pa.string())
        for shard in self.shards:
            if shard.stop <= start:
                continue
            vectors = self.vectors(shard)
            hashes = self.hashes(shard) if twins else None
            for first in range(shard.start, shard.stop, PIECE):
                if first >= start:
                    at = first - shard.start
                    pairs: list[tuple[int, int]] = []
                    if hashes is not None:
                        some = hashes.slice(at, PIECE)
                        same = pa.compute.is_in(some, value_set=wanted)
                        rows = np.flatnonzero(same.to_numpy()).tolist()
                        pairs = [(r, t) for r in rows for t in twins[some[r].as_py()]]
                    yield first, vectors[at : at + PIECE], np.array(pairs, int).reshape(-1, 2)

    def keys_of(self, rows: np.ndarray) -> dict[int, str]:
        """Keys of these row numbers; one shard's keys in memory at a time."""
        wanted = np.unique(rows)
        found: dict[int, str] = {}
        for shard in self.shards:
            low, high = np.searchsorted(wanted, [shard.start, shard.stop])
            if low < high:
                keys = self.keys(shard)
                found |= {int(row): keys[row - shard.start] for row in wanted[low:high]}
        return found


def half(vectors: np.ndarray) -> np.ndarray:
    """As float16: what decides a similarity (docs/decisions.md, 1)."""
    return np.asarray(vectors, dtype=np.float16)


def open_side(name: str, folder: Path) -> Side:
    """Check every shard of a folder.

    Raises:
        ClipshiftError: what `embeddings.read_shard` refuses; a key that is no text or occurs in two
            shards; shards of different dimensions; no row at all.
    """
    shards: list[Shard] = []
    digests: list[np.ndarray] = []
    dimensions: dict[int, str] = {}
    rounded, row = False, 0
    for shard in list_shards(folder):
        part = read_shard(folder, shard, mmap=True)
        digests.append(_digests(part.keys))
        shards.append(Shard(shard, row, row + len(part.keys)))
        row += len(part.keys)
        dimensions[part.vectors.shape[1]] = shard
        rounded = rounded or part.vectors.dtype != np.float16
    if len(dimensions) > 1:
        raise ClipshiftError(
            f"{folder} (of --{name}) mixes vectors of the dimensions {sorted(dimensions)}; "
            "one encoder must have made them all"
        )
    if not row:
        raise ClipshiftError(f"{folder} (of --{name}) holds no vector")
    side = Side(name, folder, shards, next(iter(dimensions)), rounded)
    _refuse_double(side, np.concatenate(digests))
    return side


def content(side_folder: Path, hashes: Hashes) -> dict[str, Any]:
    """Hashes of a folder's files, by their relative paths, and the identity of all of them."""
    files = {}
    for shard in list_shards(side_folder):
        for path in shard_paths(side_folder, shard):
            if path.exists():
                files[path.relative_to(side_folder).as_posix()] = hashes.of(path)
    return {"files": files, "identity": identity(files)}


def _digests(keys: list[str]) -> np.ndarray:
    """(n,) 128-bit digests of the keys: a set of all keys would not fit for a large side."""
    joined = b"".join(hashlib.blake2b(k.encode(), digest_size=16).digest() for k in keys)
    return np.frombuffer(joined, dtype=[("a", "<u8"), ("b", "<u8")])


def _refuse_double(side: Side, digests: np.ndarray) -> None:
    order = np.argsort(digests["a"], kind="stable")
    a, b = digests["a"][order], digests["b"][order]
    double = np.flatnonzero((a[1:] == a[:-1]) & (b[1:] == b[:-1]))
    if double.size:
        row = int(order[double[0] + 1])
        raise ClipshiftError(
            f"{side.folder} (of --{side.name}): the key {side.keys_of(np.array([row]))[row]!r} "
            f"occurs twice, and so do {double.size - 1} more; keys must be unique"
        )
