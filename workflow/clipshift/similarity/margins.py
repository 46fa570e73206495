"""Similarity of a pool to test sets: thresholds, margins, certificates.

`thresholds`: per test image, its similarity to the reference set. `shard`: for one shard and some
test sets in one pass, a row per point (the contract of the margins) and the certificate of how the
pairs were decided. `clipshift margins` (`apps.margins`) does both for whole folders.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from clipshift.core.errors import ClipshiftError
from clipshift.core.file_identity import Hashing, Unchanged, file_identity
from clipshift.core.files import atomic_path, read_parquet
from clipshift.core.files import write_parquet as write_table
from clipshift.core.output_folder import write_record
from clipshift.core.step import step
from clipshift.similarity.embeddings import (
    AGAIN,
    Embeddings,
    in_key_order,
    open_rows,
    read_all,
    shard_paths,
)
from clipshift.similarity.engine.exact import rounding
from clipshift.similarity.engine.plan import runs
from clipshift.similarity.engine.queries import ColumnSet
from clipshift.similarity.engine.running_max import Counts
from clipshift.similarity.engine.scan import (
    SAMPLE,
    BadVector,
    Maxima,
    Scanner,
    Screen,
    best_over,
    scan,
)

SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("max_similarity", pa.float64()),
        ("nearest_test_key", pa.string()),
        ("margin", pa.float64()),
        ("margin_test_key", pa.string()),
    ]
)
# Reference vectors that are made ready for a scan at a time.
PART = 16_384
# Keys of points that rounding leaves undecided which a certificate lists.
LISTED = 1000


@dataclass(frozen=True)
class Tests:
    """A test set: its keys in ascending order, vectors and thresholds in the same order."""

    keys: pa.Array
    columns: ColumnSet

    @classmethod
    def of(cls, tests: Embeddings, thresholds: pa.Table | None) -> "Tests":
        """Raises `ClipshiftError` where the thresholds are not those of this test set."""
        tests = in_key_order(tests)
        if thresholds is None:
            return cls(pa.array(tests.keys), ColumnSet(tests.vectors))
        if thresholds["test_key"].to_pylist() != tests.keys:
            raise ClipshiftError(
                "the thresholds were made for other test images; delete and run again"
            )
        limits = thresholds["similarity"].to_numpy()
        return cls(pa.array(tests.keys), ColumnSet(tests.vectors, limits))


def reference_table(reference: Embeddings, tests: Embeddings, device: str = "auto") -> pa.Table:
    """s_i: `test_key, similarity (float64, exact), nearest_key`, one row per test image."""
    return reference_tables(reference, {"": tests}, device)[""]


def reference_tables(
    reference: Embeddings, tests: Mapping[str, Embeddings], device: str = "auto"
) -> dict[str, pa.Table]:
    """The same for several test sets in one pass over the reference set."""
    reference, sorted_tests = (
        in_key_order(reference),
        {n: in_key_order(t) for n, t in tests.items()},
    )
    starts = range(0, len(reference.vectors), PART)
    parts = [reference.vectors[start : start + PART] for start in starts]
    rows = np.concatenate([t.vectors for t in sorted_tests.values()])
    value, index = best_over(rows, parts, device)
    nearest = pa.array(reference.keys).take(pa.array(index))
    tables, start = {}, 0
    for name, some in sorted_tests.items():
        part = slice(start, start + len(some.keys))
        tables[name] = pa.table(
            {"test_key": some.keys, "similarity": value[part], "nearest_key": nearest[part]}
        )
        start = part.stop
    return tables


def shard_table(
    points: Embeddings, tests: Embeddings, thresholds: pa.Table, device: str = "auto"
) -> pa.Table:
    """Margins of points in memory to one test set, one row per point, in the order of keys."""
    points, side = in_key_order(points), Tests.of(tests, thresholds)
    (maxima,), _ = scan(points.vectors, [side.columns], device)
    return rows_table(pa.array(points.keys), maxima, side.keys)


def rows_table(keys: pa.Array, found: Maxima, tests: pa.Array) -> pa.Table:
    """Rows of the contract, values exact; keys of the points and of the tests' columns."""
    columns = [
        keys,
        found.value,
        tests.take(pa.array(found.index)),
        found.margin,
        tests.take(pa.array(found.margin_index)),
    ]
    return pa.table(columns, schema=SCHEMA)


def prepare(
    folder: Path, shards: Sequence[str], tests: Mapping[str, Tests], device: str = "auto",
    screen: Screen = "auto",
) -> Scanner:  # fmt: skip
    """The engine, made ready for test sets and the shards of a folder.

    Raises:
        ClipshiftError: a shard cannot be read, or dimensions differ.
    """
    sizes = {}  # no shard stays mapped: each would hold a file open
    for shard in shards:
        rows = open_rows(folder, shard)[0]
        _same_dimension(shard_paths(folder, shard)[0], rows, tests)
        sizes[shard] = len(rows)
    # A few shards stand for all: the sample decides the speed only.
    some = [shard for shard, size in sizes.items() if size][:: max(1, len(sizes) // 4)][:4]
    sample = [runs(open_rows(folder, shard)[0], SAMPLE // len(some)) for shard in some]
    sides = [side.columns for side in tests.values()]
    nothing = np.empty((0, sides[0].vectors.shape[1]), np.float16)
    return Scanner(sides, np.concatenate(sample or [nothing]), sum(sizes.values()), device, screen)


def _same_dimension(where: Path, rows: np.ndarray, tests: Mapping[str, Tests]) -> None:
    for name, side in tests.items():
        if side.columns.vectors.shape[1] != rows.shape[1]:
            raise ClipshiftError(
                f"{where}: vectors of dimension {rows.shape[1]}, those of the test set {name} have "
                f"{side.columns.vectors.shape[1]}. Embed both with the same encoder"
            )


def write_shard(
    folder: Path, shard: str, tests: Mapping[str, Tests], scanner: Scanner,
    out: Mapping[str, Path], certificate: Path, progress: Any = None,
    unchanged: Unchanged | None = None, more: Mapping[str, Any] = MappingProxyType({}),
) -> dict[str, Any]:  # fmt: skip
    """Margins of one shard to all test sets in one pass, in the order of its rows.

    Args:
        scanner: made ready for these test sets, see `prepare`.
        out: the table of each test set.
        certificate: written last, so that a shard which has one is whole; holds the hashes of the
            bytes that were read, and of the tables.
        progress: its `update` is called with numbers of rows.
        unchanged: the shard's files, where they must be those of an earlier moment.
        more: entries of the certificate.

    Memory does not depend on the shard's rows but for their keys.

    Raises:
        ClipshiftError: the shard cannot be read (see `open_rows`), a row is no unit vector,
            dimensions differ, or a file changed meanwhile: then no table is kept.
    """
    where, metadata = shard_paths(folder, shard)
    unchanged = unchanged or Unchanged([where, metadata])
    rows, keys = open_rows(folder, shard)
    names = list(tests)
    _same_dimension(where, rows, tests)
    half = {a.dtype == np.float16 for a in (rows, *(t.columns.vectors for t in tests.values()))}
    # A margin is the difference of two similarities, each of them rounded.
    bound = 2 * rounding(rows.shape[1], half == {True})
    step_counts = _Account(names, bound)
    with ExitStack() as stack:
        hashing = stack.enter_context(Hashing(where))
        writers = [
            stack.enter_context(
                pq.ParquetWriter(
                    stack.enter_context(atomic_path(out[name])), SCHEMA, compression="zstd"
                )
            )
            for name in names
        ]
        try:
            for piece in scanner.scan(rows):
                piece_keys = keys.slice(piece.start, piece.stop - piece.start).combine_chunks()
                for writer, name, maxima in zip(writers, names, piece.maxima, strict=True):
                    writer.write_table(rows_table(piece_keys, maxima, tests[name].keys))
                    step_counts.add(name, piece_keys, maxima)
                step_counts.counts.add(piece.counts)
                unchanged.check()
                # The bytes that were just scanned are still in memory: storage is read once.
                hashing.to(piece.stop * rows.strides[0])
                if progress is not None:
                    progress.update(len(piece_keys))
        except BadVector as error:
            raise ClipshiftError(
                f"{where}: {error} (key {keys[error.row].as_py()!r}). {AGAIN}"
            ) from error
        inputs = {where.name: hashing.identity(), metadata.name: file_identity(metadata)}
        unchanged.check()
    record = step_counts.as_json(scanner, shard, len(rows), tests) | dict(more)
    record["inputs"] = inputs
    record["outputs"] = {name: file_identity(path) for name, path in out.items()}
    return write_record(certificate, record)


class _Account:
    """What a certificate says of the margins."""

    def __init__(self, names: Sequence[str], bound: float) -> None:
        self.bound = bound
        self.counts = Counts()
        self.smallest = dict.fromkeys(names, np.inf)
        self.above = dict.fromkeys(names, 0)
        self.undecided: dict[str, list[str]] = {name: [] for name in names}

    def add(self, name: str, keys: pa.Array, maxima: Maxima) -> None:
        # Float32 vectors: a margin within the rounding has no certain sign.
        size = np.abs(maxima.margin)
        self.smallest[name] = min(self.smallest[name], float(size.min()))
        self.above[name] += int((maxima.margin > 0).sum())
        if self.bound:
            self.undecided[name] += keys.filter(pa.array(size <= self.bound)).to_pylist()

    def as_json(
        self, scanner: Scanner, shard: str, rows: int, tests: Mapping[str, Tests]
    ) -> dict[str, Any]:
        counts = self.counts
        return {
            "shard": shard,
            "rows": rows,
            "pairs": {
                "all": counts.pairs,
                "decided_by_screen": counts.pairs - counts.computed,
                "computed_in_float64": counts.computed,
            },
            "screen": {
                "kind": scanner.kind,
                "axes": scanner.axes[0],
                "dimension": scanner.axes[1],
                "bound": counts.bound,
            },
            "float64_rounding": self.bound,
            "tests": {
                name: {
                    "images": len(side.keys),
                    "above_threshold": self.above[name],
                    "smallest_margin": self.smallest[name] if rows else None,
                    "undecided": len(self.undecided[name]),
                    "undecided_keys": self.undecided[name][:LISTED],
                }
                for name, side in tests.items()
            },
            "device": scanner.where.type,
            "version": version("clipshift"),
        }


@step(version=3)
def thresholds(reference: Path, tests: Path, out: Path) -> None:
    """`reference_table` of two embedding folders."""
    write_table(out, reference_table(read_all(reference), read_all(tests)))


@dataclass(frozen=True)
class Side:
    """Files of a test set: embeddings (a folder), thresholds, and margins to write."""

    embeddings: Path
    thresholds: Path
    margins: Path


@step(version=4)
def shard(pool: Path, shard: str, tests: dict[str, Side], reference: str) -> None:
    """Margins of one shard to some test sets in one pass.

    Args:
        pool: an embedding folder.
        reference: the data set that the thresholds are of.
    """
    columns = ["test_key", "similarity"]
    sides = {
        name: Tests.of(read_all(side.embeddings), read_parquet(side.thresholds, columns))
        for name, side in tests.items()
    }
    out = {name: side.margins for name, side in tests.items()}
    scanner = prepare(pool, [shard], sides)
    # Each set has the certificate of its pass, which names the sets that were with it.
    first, *others = (path.with_suffix(".json") for path in out.values())
    record = write_shard(pool, shard, sides, scanner, out, first)
    for path in others:
        write_record(path, {k: v for k, v in record.items() if k != "digest"})
