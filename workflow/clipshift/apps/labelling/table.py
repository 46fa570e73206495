"""The table of labels: one row per image and annotator, and one label per image made of it."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from clipshift.core import columns
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_parquet

NATURAL, RENDITION, AMBIGUOUS = 0, 1, 2
LABELS = ("natural", "rendition", "ambiguous")  # a label's number is its place here
ADJUDICATED = "adjudicated"  # the annotator of labels that settle a disagreement
CONSENSUS = "consensus"  # the annotator of what `consensus` makes
RESERVED = (ADJUDICATED, CONSENSUS)
SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("label", pa.int8()),
        ("concept", pa.string()),
        ("source", pa.string()),
        ("annotator", pa.string()),
    ]
)


def label_table(rows: Iterable[dict[str, Any]]) -> pa.Table:
    """Rows in the schema of the contract, by key and then by annotator (none first).

    Python orders texts by code point, as the bytes of UTF-8 do: no locale enters.
    """
    order = sorted(rows, key=lambda r: (r["key"], r["annotator"] is not None, r["annotator"] or ""))
    return pa.Table.from_pylist(order, schema=SCHEMA)


def table_bytes(table: pa.Table) -> bytes:
    """The bytes of a table's file: the same labels give the same bytes."""
    out = pa.BufferOutputStream()
    pq.write_table(table, out, compression="zstd")
    data: bytes = out.getvalue().to_pybytes()
    return data


def read_all(paths: Sequence[Path]) -> pa.Table:
    """Several tables of labels as one, say those of the sources and those of a person.

    Raises:
        ClipshiftError: as `read_labels`, also for a key and annotator that are in two tables.
    """
    whole = pa.concat_tables([read_labels(path) for path in paths])
    _check_rows(whole, " and ".join(map(str, paths)))
    return whole


def read_labels(path: Path) -> pa.Table:
    """Read a table of labels, checked; `concept`, `source` and `annotator` may be missing.

    Raises:
        ClipshiftError: no file, not a table of labels, a label that is none, a row without key, or
            two rows of the same key and annotator.
    """
    if not path.is_file():
        raise ClipshiftError(f"{path} is no file; `clipshift label --images POOL --out` makes one")
    table = read_parquet(path)
    if missing := [c for c in ("key", "label") if c not in table.column_names]:
        raise ClipshiftError(
            f"{path} lacks the columns {missing}; it has {table.column_names}, and labels have "
            f"{SCHEMA.names}"
        )
    found = []
    for field in SCHEMA:
        column = table[field.name] if field.name in table.column_names else None
        if column is None:
            found.append(pa.nulls(len(table), field.type))
        elif field.name == "label":
            found.append(_labels(column, path))
        else:
            found.append(columns.text(column, field.name, path))
    checked = pa.Table.from_arrays(found, schema=SCHEMA)
    _check_rows(checked, str(path))
    return checked


def _labels(column: pa.ChunkedArray, path: Path) -> pa.ChunkedArray:
    if pa.types.is_boolean(column.type) or pa.types.is_nested(column.type):
        raise ClipshiftError(f"{path}: the column label is not int8 but {column.type}")
    try:
        return column.cast(pa.int8())
    except pa.ArrowException as error:
        raise ClipshiftError(f"{path}: the column label is not int8: {error}") from error


def _check_rows(table: pa.Table, path: str) -> None:
    if nulls := table["key"].null_count:
        raise ClipshiftError(f"{path}: {nulls} rows have no key")
    seen = set()
    for row, (key, label, annotator) in enumerate(
        zip(*(table[c].to_pylist() for c in ("key", "label", "annotator")), strict=True)
    ):
        if label not in (NATURAL, RENDITION, AMBIGUOUS):
            raise ClipshiftError(
                f"{path}: row {row} ({key!r}) has the label {label}; expected 0 (natural), "
                "1 (rendition) or 2 (ambiguous)"
            )
        if (key, annotator) in seen:
            raise ClipshiftError(
                f"{path}: {key!r} has two labels of the annotator {annotator!r}; keep one of them"
            )
        seen.add((key, annotator))


@dataclass(frozen=True)
class Consensus:
    """One label per key.

    Attributes:
        table: in the schema of labels, by key; the annotator is "consensus".
        counts: how many keys were decided by which of "one annotator", "all agree", "majority",
            "adjudicated", "tie".
        ties: keys without a majority and without adjudication, in order.
    """

    table: pa.Table
    counts: Counter[str]
    ties: list[str]


def consensus(labels: pa.Table, ties: str = "ambiguous") -> Consensus:
    """One label per key: the adjudicated one where there is one, else that of most annotators.

    A tie is no opinion of anybody. With `ties="ambiguous"` such a key gets the label 2, since
    annotators who cannot agree are what the reject class is for; with `ties="drop"` it gets none.
    Either way it is counted and named.

    >>> rows = [("a", 0, "x"), ("a", 0, "y"), ("a", 1, "z"), ("b", 0, "x"), ("b", 1, "y")]
    >>> names = ("key", "label", "annotator")
    >>> blank = {"concept": None, "source": None}
    >>> made = consensus(label_table([dict(zip(names, row)) | blank for row in rows]))
    >>> made.table["label"].to_pylist(), dict(made.counts), made.ties
    ([0, 2], {'majority': 1, 'tie': 1}, ['b'])
    """
    if ties not in ("ambiguous", "drop"):
        raise ValueError(f"ties: {ties!r}")
    given: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in labels.filter(
        pc.not_equal(pc.fill_null(labels["annotator"], ""), CONSENSUS)
    ).to_pylist():
        given[row["key"]].append(row)
    rows, counts, tied = [], Counter[str](), []
    for key in sorted(given):
        label, how = decide([(row["annotator"], row["label"]) for row in given[key]])
        counts[how] += 1
        if label is None:
            tied.append(key)
            if ties == "drop":
                continue
            label = AMBIGUOUS
        about = {
            c: next((r[c] for r in given[key] if r[c] is not None), None)
            for c in ("concept", "source")
        }
        rows.append({"key": key, "label": label, "annotator": CONSENSUS} | about)
    return Consensus(label_table(rows), counts, tied)


def decide(given: list[tuple[str | None, int]]) -> tuple[int | None, str]:
    """The label of one key, None for a tie, and what decided it.

    Args:
        given: annotators and their labels.
    """
    for annotator, label in given:
        if annotator == ADJUDICATED:
            return label, "adjudicated"
    if len(given) == 1:
        return given[0][1], "one annotator"
    votes = Counter(label for _, label in given).most_common()
    if len(votes) == 1:
        return votes[0][0], "all agree"
    if votes[0][1] == votes[1][1]:
        return None, "tie"
    return votes[0][0], "majority"
