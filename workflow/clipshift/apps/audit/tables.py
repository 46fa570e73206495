"""The audit's tables and lists: nearest items, density, what to remove from the training set."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from clipshift.apps.audit.inputs import Side
from clipshift.apps.audit.nearest import Tests, Trains, load_trains, shown, trains
from clipshift.core.files import atomic, write_parquet
from clipshift.stats.intervals import clopper_pearson

# Similarities at which the density is counted.
GRID = np.arange(100) / 100
BIN = 0.02
QUANTILES = {"p05": 0.05, "p25": 0.25, "median": 0.5, "p75": 0.75, "p95": 0.95, "max": 1.0}
CHUNK = 50_000  # test items per row group


def nearest_table(
    found: Tests, train: Side, keys: list[str], reference: tuple[np.ndarray, list[str]] | None
) -> Iterator[pa.Table]:
    """Rows of nearest.parquet: per test item, in its order, the nearest training items by rank.

    Args:
        reference: (M,) similarity to the reference set's nearest item, and that item's key.
    """
    for start in range(0, len(keys), CHUNK):
        part = slice(start, min(start + CHUNK, len(keys)))
        item, rank = np.nonzero(found.row[part] >= 0)
        rows, item = found.row[part][item, rank], item + start
        names = train.keys_of(rows)
        columns: dict[str, Any] = {
            "test_key": [keys[i] for i in item],
            "rank": pa.array(rank + 1, pa.int32()),
            "train_key": [names[int(row)] for row in rows],
            "similarity": shown(found.similarity[item, rank]),
        }
        if reference is not None:
            columns["reference_key"] = [reference[1][i] for i in item]
            columns["reference_similarity"] = shown(reference[0][item])
            columns["closer_than_reference"] = found.similarity[item, rank] > reference[0][item]
        yield pa.table(columns)


def write_tables(path: Path, parts: Iterator[pa.Table], empty: pa.Schema | None = None) -> int:
    """Write tables of one schema as one parquet file; returns the number of rows."""
    rows, writer = 0, None
    with atomic(path) as stream:
        for part in parts:
            writer = writer or pq.ParquetWriter(stream, part.schema, compression="zstd")
            writer.write_table(part)
            rows += len(part)
        if writer is None and empty is not None:
            writer = pq.ParquetWriter(stream, empty, compression="zstd")
        if writer is not None:
            writer.close()
    return rows


def column_of(threshold: float) -> str:
    """
    >>> column_of(0.9)
    'above_0.9'
    """
    return f"above_{threshold:g}"


def removal_schema(thresholds: Sequence[float], reference: bool) -> pa.Schema:
    fields = [("key", pa.string()), ("similarity", pa.float64()), ("test_key", pa.string())]
    fields += [(column_of(t), pa.bool_()) for t in thresholds]
    if reference:
        fields += [
            ("margin", pa.float64()),
            ("margin_test_key", pa.string()),
            ("closer_than_reference", pa.bool_()),
        ]
    return pa.schema(fields)


def removal_table(
    folder: Path, train: Side, keys: list[str], thresholds: Sequence[float], reference: bool
) -> Iterator[pa.Table]:
    """Rows of remove.parquet, in the training set's order: every training item more similar than
    the lowest threshold to any test item, or closer to one than the reference set is."""
    schema = removal_schema(thresholds, reference)
    for path in trains(folder):
        part = load_trains(path)
        chosen = np.flatnonzero(_removed(part, thresholds[0], reference))
        if not chosen.size:
            continue
        names = train.keys_of(chosen + part.start)
        similarity = part.similarity[chosen]
        columns: dict[str, Any] = {
            "key": [names[int(row)] for row in chosen + part.start],
            "similarity": shown(similarity),
            "test_key": [keys[i] for i in part.test[chosen]],
        }
        columns |= {column_of(t): similarity > t for t in thresholds}
        if reference:
            columns["margin"] = part.margin[chosen]
            columns["margin_test_key"] = [keys[i] for i in part.margin_test[chosen]]
            columns["closer_than_reference"] = part.margin[chosen] > 0
        yield pa.table(columns, schema=schema)


def _removed(part: Trains, lowest: float, reference: bool) -> np.ndarray:
    above: np.ndarray = part.similarity > lowest
    return above | (part.margin > 0) if reference else above


def write_list(path: Path, table: Path, column: str) -> tuple[int, int]:
    """Write the keys of a column's rows of remove.parquet, one on a line.

    Returns:
        How many keys are to go, and how many of them a line cannot hold (they contain a line
        break); those are only in the parquet file.
    """
    total = left_out = 0
    with atomic(path) as stream, pq.ParquetFile(table) as source:
        for batch in source.iter_batches(columns=["key", column]):
            for key, chosen in zip(*batch.to_pydict().values(), strict=True):
                total += chosen
                if chosen and key.splitlines() != [key]:
                    left_out += 1
                elif chosen:
                    stream.write(f"{key}\n".encode())
    return total, left_out


def density_table(count: np.ndarray) -> pa.Table:
    """Per similarity of the grid how many training items lie above it, over the test items.

    Args:
        count: (M, G) int64.
    """
    columns: dict[str, Any] = {"similarity": GRID, "mean": count.mean(0)}
    for name, q in QUANTILES.items():
        columns[name] = np.quantile(count, q, axis=0, method="inverted_cdf").astype(np.int64)
    columns["share_with_any"] = (count > 0).mean(0)
    return pa.table(columns)


def share(hits: np.ndarray) -> dict[str, Any]:
    """A share of test items with its 95 % Clopper-Pearson interval."""
    n, k = len(hits), int(hits.sum())
    low, high = clopper_pearson(k, n)
    return {"n": n, "count": k, "share": k / n, "low": low, "high": high}


def histogram(similarity: np.ndarray) -> dict[str, Any]:
    """Counts in bins of 0.02; the last bin also takes what rounding lifts above 1."""
    edges = np.arange(round(-1 / BIN), round(1 / BIN) + 1) * BIN
    counts, _ = np.histogram(np.clip(similarity, -1, 1), bins=edges)
    return {"edges": [round(float(e), 2) for e in edges], "counts": counts.tolist()}


def write_density(path: Path, count: np.ndarray) -> dict[str, list[Any]]:
    table = density_table(count)
    write_parquet(path, table)
    found: dict[str, list[Any]] = table.to_pydict()
    return found
