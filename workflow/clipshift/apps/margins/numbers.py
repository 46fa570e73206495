"""Stored margins and thresholds against plain float64, for `clipshift verify`.

Of every row: the pair that it names has the stored similarity. Of some: no other pair has a larger
one. float16 vectors give equality, float32 ones (`engine.exact.rounding`) equality within rounding;
then the first of two equals is not decided either.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_parquet
from clipshift.similarity.embeddings import Embeddings, in_key_order
from clipshift.similarity.engine.exact import rounding
from clipshift.similarity.engine.scan import Maxima
from clipshift.similarity.margins import SCHEMA, Tests

ROWS = 8192  # in float64 at a time
THRESHOLDS = pa.schema(
    [("test_key", pa.string()), ("similarity", pa.float64()), ("nearest_key", pa.string())]
)
REMEDY = "Delete it and run `clipshift margins` again"


def read_whole(path: Path, schema: pa.Schema) -> pa.Table:
    """A table of this schema without nulls. Raises `ClipshiftError` where it is another one."""
    table = read_parquet(path)  # damaged values are an error there
    if not table.schema.equals(schema):
        fault(
            path, f"has the columns {table.schema.names}, or other types than it was written with"
        )
    if empty := [name for name in table.column_names if table[name].null_count]:
        fault(path, f"lacks values in {empty}")
    return table


def fault(path: Path, what: str) -> NoReturn:
    raise ClipshiftError(f"{path} {what}. {REMEDY}")


def slip_of(*vectors: np.ndarray) -> float:
    """By how much two computations of one similarity may differ."""
    half = all(v.dtype == np.float16 for v in vectors)
    return 2 * rounding(vectors[0].shape[1], half)


def spans(n: int, size: int = ROWS) -> Iterator[slice]:
    return (slice(start, min(start + size, n)) for start in range(0, n, size))


def pairs(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(n,) float64 products of row i of one and row i of the other."""
    product: np.ndarray = np.einsum("nd,nd->n", left.astype(np.float64), right.astype(np.float64))
    return product


@dataclass(frozen=True)
class Check:
    """Compares columns of one table; a difference is an error that names the row."""

    path: Path
    keys: pa.Array | pa.ChunkedArray
    slip: float

    def equal(self, column: str, stored: Any, wanted: Any, rows: np.ndarray) -> None:
        self._refuse(column, np.asarray(stored), np.asarray(wanted), stored != wanted, rows)

    def close(
        self, column: str, stored: np.ndarray, value: np.ndarray, rows: np.ndarray, of: str = ""
    ) -> None:
        """`stored` is `value` (float64, of the pair that `of` names), rounded to its own type."""
        low, high = ((value + d).astype(stored.dtype) for d in (-self.slip, self.slip))
        self._refuse(column, stored, value.astype(stored.dtype),
                     ~((stored >= low) & (stored <= high)), rows, of)  # fmt: skip

    def at_least(
        self, column: str, stored: np.ndarray, value: np.ndarray, rows: np.ndarray
    ) -> None:
        """No maximum is below the value of a pair."""
        below = ~(stored >= (value - 2 * self.slip).astype(stored.dtype))
        self._refuse(column, stored, value.astype(stored.dtype), below, rows)

    def _refuse(
        self, column: str, stored: np.ndarray, wanted: np.ndarray, differs: Any, rows: np.ndarray,
        of: str = "",
    ) -> None:  # fmt: skip
        if np.any(differs):
            at = int(np.flatnonzero(differs)[0])
            key = self.keys[int(rows[at])].as_py()
            raise ClipshiftError(
                f"{self.path} disagrees with float64 in {int(np.sum(differs))} of {len(rows)} rows "
                f"that were compared, first in row {rows[at]} (key {key!r}): {column} is "
                f"{stored[at]}, not {wanted[at]}{f' as of its {of}' if of else ''}. {REMEDY}"
            )

    def index(self, column: pa.ChunkedArray, name: str, known: pa.Array) -> np.ndarray:
        """(n,) places of keys among `known`."""
        found = pc.index_in(column.combine_chunks(), value_set=known)
        if found.null_count:
            row = found.is_null().index(True).as_py()
            fault(self.path, f"names in row {row} the {name} {column[row].as_py()!r}, which the "
                  "inputs do not have")  # fmt: skip
        at: np.ndarray = found.to_numpy().astype(np.int64)
        return at


def check_thresholds(path: Path, tests: Embeddings, reference: Embeddings) -> pa.Table:
    """All thresholds of a test set; returns the table.

    Raises:
        ClipshiftError: a key, a similarity or a nearest key is wrong.
    """
    tests, reference = in_key_order(tests), in_key_order(reference)
    table = read_whole(path, THRESHOLDS)
    if table["test_key"].to_pylist() != tests.keys:
        fault(path, "is of other test images (test_key)")
    check = Check(path, table["test_key"], slip_of(tests.vectors, reference.vectors))
    keys = pa.array(reference.keys, pa.string())
    named = check.index(table["nearest_key"], "nearest_key", keys)
    stored = table["similarity"].to_numpy()
    for part in spans(len(tests.keys), 1024):
        rows = np.arange(part.start, part.stop)
        some = tests.vectors[part].astype(np.float64)
        value, first = np.full(len(some), -np.inf), np.zeros(len(some), dtype=np.int64)
        for block in spans(len(reference.keys)):
            s = some @ reference.vectors[block].astype(np.float64).T
            index = s.argmax(1)
            top = s[np.arange(len(some)), index]
            better = top > value
            value, first = (
                np.where(better, top, value),
                np.where(better, index + block.start, first),
            )
        own = pairs(tests.vectors[part], reference.vectors[named[part]])
        check.close("similarity", stored[part], own, rows, of="nearest_key")
        check.close("similarity", stored[part], value, rows)
        if not check.slip:
            names = np.array(reference.keys, dtype=object)
            check.equal("nearest_key", names[named[part]], names[first], rows)
    return table


@dataclass(frozen=True)
class ShardNumbers:
    """What the table of a shard says, for its certificate."""

    rows: int
    above: int
    margins: np.ndarray  # (N,) float64, absolute


def check_table(
    path: Path, vectors: np.ndarray, keys: pa.ChunkedArray, side: Tests, rows: np.ndarray,
    truth: Maxima,
) -> ShardNumbers:  # fmt: skip
    """All rows of a table: their keys, and the pairs that they name; maxima of some rows.

    Args:
        rows: those of `truth`, which was computed plainly.

    Raises:
        ClipshiftError: something is wrong; names the row.
    """
    table = read_whole(path, SCHEMA)
    if len(table) != len(vectors):
        fault(path, f"has {len(table)} rows, not {len(vectors)}")
    columns, limits = side.columns.vectors, side.columns.thresholds
    assert limits is not None
    check = Check(path, keys, slip_of(vectors, columns))
    if not table["key"].equals(keys):
        here = pc.equal(table["key"].combine_chunks(), keys.combine_chunks())
        row = here.index(False).as_py()
        fault(path, f"has in row {row} the key {table['key'][row].as_py()!r}, not "
              f"{keys[row].as_py()!r}")  # fmt: skip
    value, margin = table["max_similarity"].to_numpy(), table["margin"].to_numpy()
    named = check.index(table["nearest_test_key"], "nearest_test_key", side.keys)
    other = check.index(table["margin_test_key"], "margin_test_key", side.keys)
    for part in spans(len(vectors)):
        here = np.arange(part.start, part.stop)
        a, b = (pairs(vectors[part], columns[i[part]]) for i in (named, other))
        check.close("max_similarity", value[part], a, here, of="nearest_test_key")
        check.close("margin", margin[part], b - limits[other[part]], here, of="margin_test_key")
        check.at_least("max_similarity", value[part], b, here)
        check.at_least("margin", margin[part], a - limits[named[part]], here)
    check.close("max_similarity", value[rows], truth.value, rows)
    check.close("margin", margin[rows], truth.margin, rows)
    if not check.slip:
        names = np.array(side.keys.to_pylist(), dtype=object)
        check.equal("nearest_test_key", names[named[rows]], names[truth.index], rows)
        check.equal("margin_test_key", names[other[rows]], names[truth.margin_index], rows)
    return ShardNumbers(len(table), int((margin > 0).sum()), np.abs(margin))
